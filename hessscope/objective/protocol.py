"""What an objective is: a sum of differentiable terms over one flat parameter vector."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

import torch

from hessscope.objective.risk import EmpiricalRisk
from hessscope.objective.terms import Term


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
