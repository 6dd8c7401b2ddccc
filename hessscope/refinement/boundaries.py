"""How near a network is to where it is not twice differentiable."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode

from hessscope.objective import EmpiricalRisk

CANDIDATES = 32
MOST_CANDIDATES = 512

# Functions whose first or second derivative jumps, and where.
_KINKS: dict[Any, tuple[float, ...]] = {
    F.relu: (0.0,),
    torch.relu: (0.0,),
    torch.relu_: (0.0,),
    torch.Tensor.relu: (0.0,),
    torch.Tensor.relu_: (0.0,),
    F.leaky_relu: (0.0,),
    F.prelu: (0.0,),
    F.rrelu: (0.0,),
    F.elu: (0.0,),
    F.selu: (0.0,),
    F.celu: (0.0,),
    F.relu6: (0.0, 6.0),
    F.hardtanh: (-1.0, 1.0),
    F.hardswish: (-3.0, 3.0),
    F.hardsigmoid: (-3.0, 3.0),
    F.softshrink: (-0.5, 0.5),
    F.hardshrink: (-0.5, 0.5),
    torch.abs: (0.0,),
    torch.Tensor.abs: (0.0,),
}


@dataclass(frozen=True)
class Boundary:
    """The nearest change of an activation's branch.

    Attributes:
        distance: in θ, to first order: |z − kink| / ‖∂z/∂θ‖ of one pre-activation; infinite where
            no function with a kink is called.
        unresolved: pre-activations that sit on a kink and do not move with θ to first order, such
            as those of units whose inputs are all zero.
    """

    distance: float
    unresolved: int = 0


class _Watch(TorchFunctionMode):
    """Notes what functions with kinks are called with, in the order of the calls."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[torch.Tensor, tuple[float, ...]]] = []

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if func in _KINKS and args and isinstance(args[0], torch.Tensor):
            # In-place functions overwrite what they are given.
            self.calls.append((args[0].clone(), _KINKS[func]))
        return func(*args, **(kwargs or {}))


Candidate = tuple[float, int, int, int, float]  # −|z − kink|, example, call, position, kink


def nearest_boundary(risk: EmpiricalRisk, theta: torch.Tensor) -> Boundary:
    """Find the nearest boundary of an activation, linearised in θ.

    The pre-activations nearest to their kinks are differentiated one by one. They are enough if
    all others, at the slope of the steepest seen (times two), are further away; if not, more are
    taken, up to 512.

    Cost: one pass through the data, and a gradient of one example for each candidate.
    """
    count = CANDIDATES
    while True:
        nearest, complete = _nearest(risk, theta, count)
        if not nearest:
            return Boundary(math.inf)
        distances, slopes, unresolved = [math.inf], [0.0], 0
        for size, example, call, position, kink in nearest:
            slope = _slope(risk, theta, example, call, position, kink)
            if slope > 0.0:
                distances.append(-size / slope)
            else:
                unresolved += int(size == 0.0)
            slopes.append(slope)
        beyond = math.inf if complete else -min(nearest)[0] / (2 * max(slopes) or 1.0)
        if min(distances) <= beyond or count >= MOST_CANDIDATES:
            return Boundary(min(distances), unresolved)
        count *= 4


def _nearest(risk: EmpiricalRisk, theta: torch.Tensor, count: int) -> tuple[list[Candidate], bool]:
    """The pre-activations nearest to a kink over all data, and whether these are all there are."""
    best: list[Candidate] = []
    total = 0
    with torch.no_grad(), risk.kernels():
        for start in range(0, len(risk), risk.batch_size):
            stop = min(start + risk.batch_size, len(risk))
            with _Watch() as watch:
                risk.term(start, stop)(theta)
            for call, (z, kinks) in enumerate(watch.calls):
                if not z.ndim or len(z) != stop - start:
                    continue
                flat = z.reshape(len(z), -1)
                for kink in kinks:
                    away = (flat - kink).abs().flatten()
                    total += len(away)
                    sizes, where = away.topk(min(count, len(away)), largest=False)
                    for size, at in zip(sizes.tolist(), where.tolist(), strict=True):
                        example, position = divmod(at, flat.shape[1])
                        best.append((-size, start + example, call, position, kink))
            best = heapq.nlargest(count, best)
    return best, len(best) == total


def _slope(
    risk: EmpiricalRisk, theta: torch.Tensor, example: int, call: int, position: int, kink: float
) -> float:
    """‖∂z/∂θ‖ of one pre-activation of one example."""
    point = theta.detach().clone().requires_grad_(True)
    with torch.enable_grad(), risk.kernels(), _Watch() as watch:
        risk.term(example, example + 1)(point)
        z = watch.calls[call][0].reshape(-1)[position]
    if not z.requires_grad:
        return 0.0
    (gradient,) = torch.autograd.grad(z, point)
    return float(torch.linalg.vector_norm(gradient))
