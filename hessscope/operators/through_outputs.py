"""Gauss–Newton and Fisher matrices: J the derivative of the model's outputs, and a matrix on them.

All are (1/N) Σᵢ JᵢᵀCᵢJᵢ over the examples, positive semidefinite where every Cᵢ is. The Hessian is
this with Cᵢ = ∂²ℓᵢ/∂f², and (1/N) Σᵢ Σ_c (∂ℓᵢ/∂f_c)·∇²f_c besides, from where its negative
eigenvalues come if ℓ is convex in f.
"""

from __future__ import annotations

import warnings
from abc import abstractmethod

import torch

from hessscope.errors import AssumptionWarning, ObjectiveError
from hessscope.objective import (
    BatchTerm,
    EmpiricalRisk,
    Term,
    expected_curvature,
    require_likelihood,
)
from hessscope.operators.dense_layers import LayerDerivatives, differentiate_outputs
from hessscope.operators.derivatives import ObjectiveOperator
from hessscope.operators.symmetric import (
    BlockProduct,
    gradient_in_outputs,
    outer_products,
    second_derivative,
    through_outputs,
)


class OutputOperator(ObjectiveOperator):
    """(1/N) Σᵢ JᵢᵀCᵢJᵢ with a matrix C of the subclass's choice.

    Products cost about what Hessian-vector products do: a pass backward through the graph of the
    outputs and one through the graph of its transpose. They are counted by ``hvps`` all the same.
    """

    whole = False

    def begin(self) -> None:
        """Make sure that there are outputs, and that the loss suits the matrix."""
        network = self.objective.network
        if network is None:
            raise ObjectiveError(
                f"the {self.name} matrix goes through the outputs of a model, and "
                f"{type(self.objective).__name__} is not known to have any: give an EmpiricalRisk"
            )
        term = network.term(0, min(2, len(network)))
        with torch.no_grad(), network.kernels():
            outputs = term.outputs(self.at)
        self._outputs = outputs[0].numel()
        self.check_loss(term, outputs)

    def check_loss(self, term: BatchTerm, outputs: torch.Tensor) -> None:
        """Refuse a loss for which the matrix means nothing; warn where it says nothing.

        Args:
            term: of the first examples.
            outputs: the model's, for them.
        """

    @staticmethod
    @abstractmethod
    def curvature(term: BatchTerm, outputs: torch.Tensor) -> BlockProduct:
        """C of a batch, with its share of the mean."""

    def weighed(self, term: BatchTerm, outputs: torch.Tensor, there: torch.Tensor) -> torch.Tensor:
        """A field in the outputs whose derivative is C at the outputs at θ.

        Args:
            term: a batch.
            outputs: f at θ.
            there: f where the field is asked for.
        """
        return self.curvature(term, outputs)(there[None])[0]

    def antiderivative(self, at: torch.Tensor) -> torch.Tensor:
        """Jᵀ, J at θ, of the field in the outputs (``weighed``), and the penalty's gradient."""
        result = self.penalty * at
        for term in self.objective.terms():
            assert isinstance(term, BatchTerm)
            theta = self.at.clone().requires_grad_(True)
            with torch.enable_grad():
                outputs = term.outputs(theta)
            with torch.no_grad():
                there = term.outputs(at)
            field = self.weighed(term, outputs.detach(), there)
            result = result + torch.autograd.grad(outputs, theta, field)[0]
        return result

    def prepare(self, term: Term, theta: torch.Tensor) -> BlockProduct:
        """Products with a batch's part of the matrix at θ."""
        assert isinstance(term, BatchTerm)
        return through_outputs(term, theta, self.curvature)

    def differentiate(self, risk: EmpiricalRisk, start: int, stop: int) -> LayerDerivatives:
        """The matrix with respect to the layers' outputs."""
        layers = self.assembly.layers
        return differentiate_outputs(risk, self.at, layers, start, stop, self.curvature)


class GaussNewtonOperator(OutputOperator):
    """G = (1/N) Σᵢ Jᵢᵀ (∂²ℓᵢ/∂f²) Jᵢ + l2·I, f the model's outputs (Schraudolph 2002).

    The Hessian without the second derivatives of the outputs. Positive semidefinite where the loss
    is convex in the outputs, such as cross_entropy and bce of logits, and mse. A penalty l2/2·‖θ‖²
    is quadratic in θ, and its own Gauss–Newton matrix is its Hessian l2·I, which is included.

    Args:
        objective: an ``EmpiricalRisk`` with any loss that can be differentiated twice.
        at: θ, shape (n,); default where the model stands.
        plan: how products are computed; default by a short timing at the first product.
        memory: bytes that the process may hold; default four fifths of what is free.
        check: whether objective and derivatives are checked before the first product (``check``).

    Raises:
        ObjectiveError: there are no outputs to go through.
    """

    name = "gauss_newton"
    title = "Gauss–Newton"
    description = "Gauss-Newton: mean of Jᵀ ∂²ℓ/∂f² J over the examples, f the outputs"

    curvature = staticmethod(second_derivative)

    def weighed(self, term: BatchTerm, outputs: torch.Tensor, there: torch.Tensor) -> torch.Tensor:
        """The loss's gradient in the outputs."""
        return gradient_in_outputs(term, there)

    def check_loss(self, term: BatchTerm, outputs: torch.Tensor) -> None:
        """Warn of a loss that is linear in the outputs."""
        stream = torch.Generator().manual_seed(0)
        # Not at the outputs themselves: where they are saturated any loss looks linear.
        anywhere, vector = torch.randn(2, *outputs.shape, generator=stream, dtype=outputs.dtype).to(
            outputs.device
        )
        if not bool(self.curvature(term, anywhere)(vector[None]).any()):
            usual = (
                ". The usual one is `loss=cross_entropy`, which has the same value on "
                "log-probabilities"
            )
            warnings.warn(
                f"the loss '{term.loss.name}' is linear in the model's outputs, so its "
                f"Gauss-Newton matrix is zero{usual if term.loss.plain_name == 'nll' else ''}",
                AssumptionWarning,
                stacklevel=4,
            )


class FisherOperator(OutputOperator):
    """F = (1/N) Σᵢ E[gᵢgᵢᵀ] over labels that the model itself gives, computed exactly.

    gᵢ is the gradient of the log-likelihood of which the loss is the negative mean; F has the
    loss's own scale (see ``hessscope.objective.losses``), so it compares with the Hessian. It
    equals the Gauss–Newton matrix for cross_entropy and bce of logits and for mse. A penalty is no
    part of the likelihood and is left out.

    Args:
        objective: an ``EmpiricalRisk`` with cross_entropy, nll, nll_probabilities, bce or mse.
        at: θ, shape (n,); default where the model stands.
        plan: how products are computed; default by a short timing at the first product.
        memory: bytes that the process may hold; default four fifths of what is free.
        check: whether objective and derivatives are checked before the first product (``check``).

    Raises:
        ObjectiveError: the loss is not known to be a log-likelihood.
    """

    name = "fisher"
    title = "Fisher"
    description = "Fisher: mean of ggᵀ over the examples and over the model's own labels"

    penalised = False  # a penalty is no part of the likelihood
    curvature = staticmethod(expected_curvature)

    def check_loss(self, term: BatchTerm, outputs: torch.Tensor) -> None:
        """Refuse a loss that is no log-likelihood."""
        require_likelihood(term.loss)


class EmpiricalFisherOperator(OutputOperator):
    """(1/N) Σᵢ gᵢgᵢᵀ, gᵢ = ∇ℓᵢ the gradient of one example's loss on its own label.

    The second moment of the gradients, of rank N at most. It is *not* an estimate of the Fisher
    matrix (Kunstner, Balles & Hennig 2019): the labels are those of the data. Any loss will do; a
    penalty belongs to no example and is left out.

    Args:
        objective: an ``EmpiricalRisk``.
        at: θ, shape (n,); default where the model stands.
        plan: how products are computed; default by a short timing at the first product.
        memory: bytes that the process may hold; default four fifths of what is free.
        check: whether objective and derivatives are checked before the first product (``check``).
    """

    name = "empirical_fisher"
    title = "Empirical Fisher"
    description = "empirical Fisher: mean of ggᵀ over the examples"

    penalised = False  # a penalty belongs to no example
    curvature = staticmethod(outer_products)
