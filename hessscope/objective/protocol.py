"""What an objective is: a sum of differentiable terms over one flat parameter vector."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

import torch

Term = Callable[[torch.Tensor], torch.Tensor]


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
