"""Any differentiable function of a vector as an objective."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch

from hessscope.errors import NonFiniteError, ObjectiveError, OptionError
from hessscope.objective import checks
from hessscope.objective.kernels import SecondOrderKernels
from hessscope.objective.protocol import Term
from hessscope.objective.risk import resolve_device, resolve_dtype


class FunctionObjective:
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

    l2 = 0.0
    network = None

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

    @property
    def parameters(self) -> torch.Tensor:
        """The first θ: a copy of shape (n,)."""
        return self._point.clone()

    def terms(self, batch_size: int | None = None) -> Sequence[Term]:
        """The function itself, as the only term."""
        return [self._term]

    def kernels(self) -> AbstractContextManager[None]:
        """Torch settings under which the function is differentiated."""
        return SecondOrderKernels().chosen()

    def value(self, at: torch.Tensor | np.ndarray | None = None) -> float:
        """f(θ)."""
        with torch.no_grad(), self.kernels():
            return float(self.function(self._at(at)))

    def gradient(
        self, at: torch.Tensor | np.ndarray | None = None, batch_size: int | None = None
    ) -> torch.Tensor:
        """∇f(θ), shape (n,)."""
        return self.value_and_gradient(at)[1]

    def value_and_gradient(
        self, at: torch.Tensor | np.ndarray | None = None, batch_size: int | None = None
    ) -> tuple[float, torch.Tensor]:
        """f(θ) and ∇f(θ), by one call of the function."""
        theta = self._at(at).requires_grad_(True)
        with self.kernels(), torch.enable_grad():
            value = self._term(theta)
            (gradient,) = torch.autograd.grad(value, theta)
        return float(value.detach()), gradient

    def check(self, at: torch.Tensor | None = None) -> None:
        """Refuse a function that is not finite or not deterministic at θ.

        Raises:
            NonFiniteError: value or gradient is NaN or infinite.
            NonDeterministicError: two evaluations differ.
        """
        value, gradient = self.value_and_gradient(at)
        if not math.isfinite(value) or not bool(torch.isfinite(gradient).all()):
            raise NonFiniteError(
                f"the function is {value} here, and its gradient has norm "
                f"{float(torch.linalg.vector_norm(gradient))}: start where both are finite"
            )
        checks.deterministic(
            (value, gradient),
            self.value_and_gradient(at),
            remedy="remove what is random in the function, or draw it once and keep it",
        )

    def on_few(self, dtype: torch.dtype, at: torch.Tensor) -> FunctionObjective:
        """The same function, standing at θ; it has no examples, and its own data type."""
        other = copy.copy(self)
        other._point = self._at(at)
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

    def _term(self, theta: torch.Tensor) -> torch.Tensor:
        value = self.function(theta).reshape(())
        # What does not depend on θ has no graph; the derivative is zero all the same.
        return value if value.requires_grad else value + 0.0 * theta.sum()

    def _at(self, at: torch.Tensor | np.ndarray | None) -> torch.Tensor:
        if at is None:
            return self.parameters
        theta = torch.as_tensor(at, dtype=self.dtype, device=self.device).detach()
        if theta.shape != self._point.shape:
            raise checks.wrong_length(tuple(theta.shape), len(self._point))
        return theta.clone()
