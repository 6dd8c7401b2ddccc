"""The part of an empirical risk that one batch makes, with the model's outputs in between."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from hessscope.errors import ObjectiveError
from hessscope.objective.losses import Loss


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
        return _attached(self.of_outputs(self.predict(theta)), theta)

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
        return _attached(outputs, theta)

    def of_outputs(self, outputs: Any) -> torch.Tensor:
        """The term as a function of the outputs."""
        return self.loss(outputs, self.targets).mean() * (self.count / self.total)


def _attached(value: torch.Tensor, theta: torch.Tensor) -> torch.Tensor:
    """What does not depend on θ has the derivative zero, and not none."""
    if theta.requires_grad and torch.is_grad_enabled() and not value.requires_grad:
        return value + 0.0 * theta.sum()
    return value
