"""Objectives: sums of differentiable terms over one flat vector, and functions as objectives."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

import torch

from hessscope.errors import ObjectiveError, OptionError
from hessscope.objective.kernels import SecondOrderKernels
from hessscope.objective.risk import EmpiricalRisk, resolve_device, resolve_dtype
from hessscope.objective.terms import SumOfTerms, Term, attached


class Objective(Protocol):
    """A function L: Rⁿ → R that can be differentiated twice, as a sum of terms.

    Everything above this room sees an objective only through this protocol.
    """

    @property
    def parameters(self) -> torch.Tensor:
        """Where the model stands, shape (n,); its dtype and device are the objective's."""
        ...

    @property
    def l2(self) -> float:
        """Coefficient of the penalty l2/2·‖θ‖², which the terms leave out."""
        ...

    @property
    def network(self) -> EmpiricalRisk | None:
        """The same as a mean loss of a network over data; None where it is another function."""
        ...

    def terms(self, batch_size: int | None = None) -> Sequence[Term]:
        """Functions of θ whose sum is L without its penalty, ``batch_size`` examples each."""
        ...

    def kernels(self) -> AbstractContextManager[None]:
        """Torch settings under which the terms are to be differentiated."""
        ...

    def value(self, at: torch.Tensor) -> float:
        """L(θ)."""
        ...

    def gradient(self, at: torch.Tensor, batch_size: int | None = None) -> torch.Tensor:
        """∇L(θ), shape (n,)."""
        ...

    def value_and_gradient(
        self, at: torch.Tensor, batch_size: int | None = None
    ) -> tuple[float, torch.Tensor]:
        """L(θ) and ∇L(θ) by the same pass."""
        ...

    def check(self, at: torch.Tensor) -> None:
        """Refuse an objective that is not finite or not deterministic at θ."""
        ...

    def on_few(self, dtype: torch.dtype, at: torch.Tensor) -> Objective:
        """The mean over a few examples, standing at θ; itself where there are no examples.

        Args:
            dtype: of the computation, where the objective can change it.
            at: θ, shape (n,).
        """
        ...

    def restricted(
        self, patterns: str | Iterable[str], at: torch.Tensor | None = None
    ) -> Objective:
        """The same as a function of the parameters whose names match; the others stay at θ.

        Raises:
            OptionError: a pattern matches none, or the parameters have no names.
        """
        ...


class FunctionObjective(SumOfTerms):
    """f: Rⁿ → R, given as a function of one torch vector that torch can differentiate twice.

    >>> saddle = FunctionObjective(lambda x: 5 * x[0] ** 2 - x[1] ** 2, [1.0, 0.1])
    >>> saddle.value(saddle.parameters)
    4.99

    Args:
        function: θ of shape (n,) to a scalar tensor; deterministic.
        start: a first θ, any sequence of n numbers; gives n.
        dtype: float64 (default) or float32.
        device: "auto", "cpu" or "cuda".

    Raises:
        ObjectiveError: the function does not give one number, or not as a torch tensor.
    """

    network = None
    random_remedy = "remove what is random in the function, or draw it once and keep it"

    def __init__(
        self,
        function: Callable[[torch.Tensor], torch.Tensor],
        start: Any,
        *,
        dtype: torch.dtype | str = torch.float64,
        device: torch.device | str = "cpu",
    ) -> None:
        self.function = function
        self.dtype, self.device = resolve_dtype(dtype), resolve_device(device)
        point = torch.as_tensor(start, dtype=self.dtype, device=self.device).detach()
        if point.ndim != 1 or not len(point):
            raise ObjectiveError(
                f"start has shape {tuple(point.shape)}; give a vector of at least one number"
            )
        self._point = point.clone()
        value = function(self.parameters)
        if not isinstance(value, torch.Tensor) or value.numel() != 1:
            raise ObjectiveError(
                "the function must return one number as a torch tensor; it returned "
                f"{tuple(value.shape) if isinstance(value, torch.Tensor) else type(value).__name__}"
            )

    def terms(self, batch_size: int | None = None) -> Sequence[Term]:
        """The function itself, as the only term."""
        return [lambda theta: attached(self.function(theta).reshape(()), theta)]

    def kernels(self) -> AbstractContextManager[None]:
        """Torch settings under which the function is differentiated."""
        return SecondOrderKernels().chosen()

    def not_finite(self, theta: torch.Tensor, value: float, gradient: torch.Tensor) -> str:
        """Say that value or gradient are not finite."""
        norm = float(torch.linalg.vector_norm(gradient))
        return (
            f"the function is {value} here, and its gradient has norm {norm}: start where both are "
            "finite"
        )

    def on_few(self, dtype: torch.dtype, at: torch.Tensor) -> FunctionObjective:
        """The same function, standing at θ; it has no examples, and its own data type."""
        other = copy.copy(self)
        other._point = self.point(at)
        return other

    def restricted(
        self, patterns: str | Iterable[str], at: torch.Tensor | None = None
    ) -> FunctionObjective:
        """Refuse to choose parameters by name.

        Raises:
            OptionError: always; the parameters of a function have no names.
        """
        raise OptionError(
            "the parameters of a function have no names to choose by: give an EmpiricalRisk"
        )
