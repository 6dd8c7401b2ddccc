"""Objectives as sums of terms, the term of a batch, and its expected curvature."""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from hessscope.errors import NonDeterministicError, NonFiniteError, ObjectiveError, OptionError
from hessscope.objective.kernels import SecondOrderKernels
from hessscope.objective.losses import LOSSES, Loss

if TYPE_CHECKING:
    from hessscope.objective.risk import EmpiricalRisk

Term = Callable[[torch.Tensor], torch.Tensor]
Point = torch.Tensor | np.ndarray


class Objective(ABC):
    """A function L: Rⁿ → R that can be differentiated twice: a sum of terms and a penalty.

    Everything above this room sees an objective only through this class.

    Attributes:
        l2: coefficient of the penalty l2/2·‖θ‖², which the terms leave out.
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
    def not_finite(self, theta: torch.Tensor, value: float, gradient: torch.Tensor) -> str:
        """Say where L or its gradient is not finite, and what to do."""

    def kernels(self) -> AbstractContextManager[None]:
        """Torch settings under which the terms are differentiated."""
        return SecondOrderKernels().chosen()

    @property
    def arithmetic(self) -> torch.dtype:
        """Type of the operations with the fewest digits."""
        return self.dtype

    def on_few(self, dtype: torch.dtype, at: torch.Tensor) -> Objective:
        """The mean over a few examples, standing at θ; L itself where there are no examples.

        Args:
            dtype: of the computation, where the objective can change it.
            at: θ, shape (n,).
        """
        other = copy.copy(self)
        other._point = self.point(at)
        return other

    def restricted(
        self, which: str | Iterable[str] | torch.Tensor, at: Point | None = None
    ) -> Objective:
        """The same as a function of some entries of θ, by name or number; the others stay.

        Raises:
            OptionError: they are none, or the parameters have no names.
        """
        raise OptionError(
            "the parameters of a function have no names to choose by: give an EmpiricalRisk"
        )

    @property
    def network(self) -> EmpiricalRisk | None:
        """The same as a mean loss of a network over data; None where it is another function."""
        return None

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

    def check(self, at: Point | None = None) -> torch.Tensor:
        """Refuse what has no Hessian to speak of, before any long work starts.

        Args:
            at: θ; default where the objective stands.

        Returns:
            ∇L(θ), shape (n,).

        Cost: 2 gradients.

        Raises:
            NonFiniteError: value or gradient is NaN or infinite.
            NonDeterministicError: two evaluations differ.
        """
        theta = self.point(at)
        value, gradient = self.value_and_gradient(theta)
        if not math.isfinite(value) or not bool(torch.isfinite(gradient).all()):
            raise NonFiniteError(self.not_finite(theta, value, gradient))
        value_again, gradient_again = self.value_and_gradient(theta)
        # GPU kernels may add in another order each time: that much is rounding, more is not.
        slack = 1e4 * torch.finfo(gradient.dtype).eps
        drift = float(torch.linalg.vector_norm(gradient - gradient_again))
        size = float(torch.linalg.vector_norm(gradient))
        if abs(value - value_again) > slack * abs(value) or drift > slack * max(size, abs(value)):
            raise NonDeterministicError(
                f"two evaluations at the same weights differ (loss {value:.9g} and "
                f"{value_again:.9g}, gradients by {drift:.3g}): {self.random_remedy}"
            )
        return gradient

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
        read_targets: gives the targets of the batch.
        count: examples in the batch.
        total: number N of all examples.
        units: of all examples, of which the loss is the mean.
    """

    predict: Callable[[torch.Tensor], Any]
    loss: Loss
    read_targets: Callable[[], Any]
    count: int
    total: int
    units: float

    @property
    def targets(self) -> Any:
        """Of the batch."""
        return self.read_targets()

    def __call__(self, theta: torch.Tensor) -> torch.Tensor:
        """(1/N) Σᵢ ℓ(f(xᵢ; θ), yᵢ) over the batch."""
        return attached(self.of_outputs(self.predict(theta)), theta)

    def outputs(self, theta: torch.Tensor) -> torch.Tensor:
        """f(x; θ), shape (count, …).

        Raises:
            ObjectiveError: the model gives something else than one tensor with a row an example.
        """
        if self.loss.of_model:
            raise ObjectiveError(
                "Gauss-Newton and Fisher matrices go through the model's outputs, which the loss "
                f"'{self.loss.name}' of model and batch does not show: take the Hessian, or a loss "
                "of outputs and targets"
            )
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
        value, units = self.loss.with_units(outputs, self.targets)
        return value.mean() * ((self.count if units is None else units) / self.units)


def attached(value: torch.Tensor, theta: torch.Tensor) -> torch.Tensor:
    """What does not depend on θ has the derivative zero, and not none."""
    if theta.requires_grad and torch.is_grad_enabled() and not value.requires_grad:
        return value + 0.0 * theta.sum()
    return value


def require_likelihood(loss: Loss) -> None:
    """Refuse a loss that is no log-likelihood of the targets, as far as is known.

    Raises:
        ObjectiveError: says which losses are.
    """
    if loss.information is None:
        known = ", ".join(name for name, one in LOSSES.items() if one.information)
        raise ObjectiveError(
            f"the Fisher matrix needs a loss that is a log-likelihood ({known}), and "
            f"'{loss.name}' is not known to be one: take `operator=gauss_newton` (any loss) or "
            "`operator=empirical_fisher` (gradients of the examples)"
        )


def expected_curvature(
    term: BatchTerm, outputs: torch.Tensor
) -> Callable[[torch.Tensor], torch.Tensor]:
    """Products with the Fisher information of a batch in the model's outputs.

    Args:
        term: its loss is a log-likelihood.
        outputs: f, shape (count, …).

    Returns:
        A function of vectors, (k, *outputs.shape) to the same.
    """
    information = term.loss.information
    assert information is not None
    axis, observations = -1, outputs.numel() // term.count
    if term.loss.targets == "classes":
        # Counted from the end, since the vectors have a dimension more in front.
        axis = 1 - outputs.ndim if term.loss.class_axis == 1 else -1
        observations //= outputs.shape[axis]
    scale: Any = 1.0 / (term.units * observations)
    if term.loss.units == "labels":
        weights = term.loss.label_weights(term.targets).to(outputs.dtype)
        scale = weights.unsqueeze(axis) / term.units
    return lambda vectors: scale * information(outputs, axis, vectors)
