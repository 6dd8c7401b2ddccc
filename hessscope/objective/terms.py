"""Objectives as sums of terms, the term of a batch, and its expected curvature.

Such a loss is −log p(y | f) up to a constant, in the mean over the M independent observations that
the labels are (examples, and positions or outputs within them). Its Fisher information in the
outputs f is the expectation of the second derivative, and of the score's outer product, over labels
drawn from the model itself (Martens, JMLR 21:146, 2020). Here it is in closed form, with the loss's
own factor 1/M, so that it compares with the Hessian as it stands:

    cross_entropy       diag(p) − p pᵀ, p = softmax(f)
    nll                 diag(p), p = exp(f)
    nll_probabilities   diag(1/f)
    bce                 p (1 − p), p = sigmoid(f)
    mse                 2, the inverse variance of the Gaussian for which it is −log p
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from hessscope.errors import NonFiniteError, ObjectiveError
from hessscope.objective import checks
from hessscope.objective.losses import LOSSES, Loss

Term = Callable[[torch.Tensor], torch.Tensor]
Point = torch.Tensor | np.ndarray


class SumOfTerms(ABC):
    """L(θ) as the sum of differentiable terms and a penalty: its value, gradient and checks.

    Attributes:
        l2: coefficient of the penalty l2/2·‖θ‖².
        dtype: of θ.
        device: of θ.
        random_remedy: what to do where two evaluations differ.
    """

    l2 = 0.0
    dtype: torch.dtype
    device: torch.device
    random_remedy: str
    _point: torch.Tensor

    @abstractmethod
    def terms(self, batch_size: int | None = None) -> Sequence[Term]:
        """Functions of θ whose sum is L(θ) without the penalty, ``batch_size`` examples each."""

    @abstractmethod
    def kernels(self) -> AbstractContextManager[None]:
        """Torch settings under which the terms are differentiated."""

    @abstractmethod
    def not_finite(self, theta: torch.Tensor, value: float, gradient: torch.Tensor) -> str:
        """Say where L or its gradient is not finite, and what to do."""

    @property
    def parameters(self) -> torch.Tensor:
        """Where the objective stands: a copy of shape (n,)."""
        return self._point.clone()

    def value(self, at: Point | None = None) -> float:
        """L(θ), one forward pass."""
        theta = self.point(at)
        with torch.no_grad(), self.kernels():
            return self._with_penalty([term(theta) for term in self.terms()], theta)

    def gradient(self, at: Point | None = None, batch_size: int | None = None) -> torch.Tensor:
        """∇L(θ), shape (n,), one forward and one backward pass."""
        return self.value_and_gradient(at, batch_size)[1]

    def value_and_gradient(
        self, at: Point | None = None, batch_size: int | None = None
    ) -> tuple[float, torch.Tensor]:
        """L(θ) and ∇L(θ), shape (n,), by the same forward and one backward pass."""
        theta = self.point(at).requires_grad_(True)
        here = theta.detach()
        gradient, values = self.l2 * here, []
        with self.kernels(), torch.enable_grad():
            for term in self.terms(batch_size):
                value = term(theta)
                (part,) = torch.autograd.grad(value, theta)
                gradient += part
                values.append(value.detach())
        return self._with_penalty(values, here), gradient

    def check(self, at: Point | None = None) -> None:
        """Refuse what has no Hessian to speak of, before any long work starts.

        Args:
            at: θ; default where the objective stands.

        Cost: 2 gradients.

        Raises:
            NonFiniteError: value or gradient is NaN or infinite.
            NonDeterministicError: two evaluations differ.
        """
        theta = self.point(at)
        value, gradient = self.value_and_gradient(theta)
        if not math.isfinite(value) or not bool(torch.isfinite(gradient).all()):
            raise NonFiniteError(self.not_finite(theta, value, gradient))
        again = self.value_and_gradient(theta)
        checks.deterministic((value, gradient), again, self.random_remedy)

    def point(self, at: Point | None) -> torch.Tensor:
        """A copy of θ in the objective's type; default where it stands.

        Raises:
            ObjectiveError: it has another length.
        """
        if at is None:
            return self.parameters
        theta = torch.as_tensor(at, dtype=self.dtype, device=self.device).detach()
        if theta.shape != self._point.shape:
            raise ObjectiveError(
                f"a parameter vector of shape {tuple(theta.shape)} was given; expected "
                f"({len(self._point)},)"
            )
        return theta.clone()

    def _with_penalty(self, values: list[torch.Tensor], theta: torch.Tensor) -> float:
        """L(θ) of its terms' values; read at the end, so that a GPU is waited for once."""
        penalty = 0.5 * self.l2 * float(theta @ theta) if self.l2 else 0.0
        return sum(map(float, values)) + penalty


@dataclass(frozen=True)
class BatchTerm:
    """A function of θ: the batch's share of the mean over all examples, without the penalty.

    Attributes:
        predict: the model's outputs for the batch, as a function of θ.
        loss: ℓ.
        targets: of the batch.
        count: examples in the batch.
        total: number N of all examples.
    """

    predict: Callable[[torch.Tensor], Any]
    loss: Loss
    targets: Any
    count: int
    total: int

    def __call__(self, theta: torch.Tensor) -> torch.Tensor:
        """(1/N) Σᵢ ℓ(f(xᵢ; θ), yᵢ) over the batch."""
        return attached(self.of_outputs(self.predict(theta)), theta)

    def outputs(self, theta: torch.Tensor) -> torch.Tensor:
        """f(x; θ), shape (count, …).

        Raises:
            ObjectiveError: the model gives something else than one tensor with a row an example.
        """
        outputs = self.predict(theta)
        if not isinstance(outputs, torch.Tensor) or not outputs.is_floating_point():
            raise ObjectiveError(
                "Gauss-Newton and Fisher matrices go through the model's outputs, which must be "
                f"one floating-point tensor; this model gives a {type(outputs).__name__}. Take the "
                "Hessian, or wrap the model so that it returns the tensor that the loss needs"
            )
        if outputs.ndim == 0 or len(outputs) != self.count:
            raise ObjectiveError(
                f"for {self.count} examples the model's outputs have shape {tuple(outputs.shape)}; "
                "Gauss-Newton and Fisher matrices need one row for each example"
            )
        return attached(outputs, theta)

    def of_outputs(self, outputs: Any) -> torch.Tensor:
        """The term as a function of the outputs."""
        return self.loss(outputs, self.targets).mean() * (self.count / self.total)


def attached(value: torch.Tensor, theta: torch.Tensor) -> torch.Tensor:
    """What does not depend on θ has the derivative zero, and not none."""
    if theta.requires_grad and torch.is_grad_enabled() and not value.requires_grad:
        return value + 0.0 * theta.sum()
    return value


# The information of one observation, as a product: outputs, axis of the classes, vectors.
Information = Callable[[torch.Tensor, int, torch.Tensor], torch.Tensor]


def _softmax(logits: torch.Tensor, axis: int, vectors: torch.Tensor) -> torch.Tensor:
    weighted = torch.softmax(logits, axis) * vectors
    return weighted - torch.softmax(logits, axis) * weighted.sum(axis, keepdim=True)


def _log_probabilities(outputs: torch.Tensor, _: int, vectors: torch.Tensor) -> torch.Tensor:
    return outputs.exp() * vectors


def _probabilities(outputs: torch.Tensor, _: int, vectors: torch.Tensor) -> torch.Tensor:
    return vectors / outputs


def _bits(logits: torch.Tensor, _: int, vectors: torch.Tensor) -> torch.Tensor:
    return torch.sigmoid(logits) * torch.sigmoid(-logits) * vectors


def _gaussian(_: torch.Tensor, __: int, vectors: torch.Tensor) -> torch.Tensor:
    return 2 * vectors


_LABELS: dict[str, Information] = {
    "cross_entropy": _softmax,
    "nll": _log_probabilities,
    "nll_probabilities": _probabilities,
}
_VALUES: dict[str, Information] = {"bce": _bits, "mse": _gaussian}


def require_likelihood(loss: Loss) -> None:
    """Refuse a loss that is no log-likelihood of the targets, as far as is known.

    Raises:
        ObjectiveError: says which losses are.
    """
    known = (*_LABELS, *_VALUES)
    # A function of the user's own may bear one of the names.
    if loss.plain_name not in known or LOSSES[loss.plain_name].function is not loss.function:
        raise ObjectiveError(
            f"the Fisher matrix needs a loss that is a log-likelihood ({', '.join(known)}), and "
            f"'{loss.name}' is not known to be one: take `operator=gauss_newton` (any loss) or "
            "`operator=empirical_fisher` (gradients of the examples)"
        )


def expected_curvature(
    term: BatchTerm, outputs: torch.Tensor
) -> Callable[[torch.Tensor], torch.Tensor]:
    """Products with the Fisher information of a batch in the model's outputs.

    Args:
        term: with one of the losses above.
        outputs: f, shape (count, …).

    Returns:
        A function of vectors, (k, *outputs.shape) to the same.
    """
    name, axis, observations = term.loss.plain_name, -1, outputs.numel() // term.count
    if name in _LABELS:
        # Counted from the end, since the vectors have a dimension more in front.
        axis = 1 - outputs.ndim if term.loss.class_axis == 1 else -1
        observations //= outputs.shape[axis]
    information = (_LABELS | _VALUES)[name]
    scale = 1.0 / (term.total * observations)
    return lambda vectors: scale * information(outputs, axis, vectors)
