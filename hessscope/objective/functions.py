"""Functions of a vector as objectives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from hessscope.errors import ObjectiveError
from hessscope.objective.risk import resolve_device, resolve_dtype
from hessscope.objective.terms import Objective, Term, attached


class FunctionObjective(Objective):
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

    def not_finite(self, theta: torch.Tensor, value: float, gradient: torch.Tensor) -> str:
        """Say that value or gradient are not finite."""
        norm = float(torch.linalg.vector_norm(gradient))
        return (
            f"the function is {value} here, and its gradient has norm {norm}: start where both are "
            "finite"
        )
