"""How near a network is to where it is not twice differentiable."""

from __future__ import annotations

import heapq
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from hessscope.objective import EmpiricalRisk

CANDIDATES = 32
MOST_CANDIDATES = 512

#: z, whose branches change at the kinks; its first axis is that of the examples.
Kinked = tuple[torch.Tensor, tuple[float, ...]]
_Arguments = Mapping[str, Any]
#: Names of a function's arguments in order, and what is kinked for them.
_Rule = tuple[tuple[str, ...], Callable[[_Arguments], Kinked]]


def _at(*kinks: float) -> _Rule:
    return ("input",), lambda given: (given["input"], kinks)


def _ends(**defaults: float | None) -> _Rule:
    def kinks(given: _Arguments) -> Kinked:
        ends = (given.get(name, end) for name, end in defaults.items())
        return given["input"], tuple(float(end) for end in ends if end is not None)

    return ("input", *defaults), kinks


def _symmetric(given: _Arguments) -> Kinked:
    end = float(given.get("lambd", 0.5))
    return given["input"], (-end, end)


def _difference(given: _Arguments) -> Kinked:
    return given["input"] - given["other"], (0.0,)


# Functions whose first or second derivative jumps, by name: as functions and methods, in place or
# not, they are the same.
_KINKS: dict[str, _Rule] = {
    **dict.fromkeys(("relu", "leaky_relu", "prelu", "rrelu", "elu", "selu", "celu"), _at(0.0)),
    **dict.fromkeys(("abs", "absolute"), _at(0.0)),
    "relu6": _at(0.0, 6.0),
    **dict.fromkeys(("hardswish", "hardsigmoid"), _at(-3.0, 3.0)),
    "hardtanh": _ends(min_val=-1.0, max_val=1.0),
    **dict.fromkeys(("softshrink", "hardshrink"), (("input", "lambd"), _symmetric)),
    "threshold": _ends(threshold=None),
    **dict.fromkeys(("clamp", "clip"), _ends(min=None, max=None)),
    "clamp_min": _ends(min=None),
    "clamp_max": _ends(max=None),
    **dict.fromkeys(("maximum", "minimum", "fmax", "fmin"), (("input", "other"), _difference)),
}

# Names of functions with kinks between several of their inputs, which are not looked for.
_CHOOSING = re.compile(
    r"(adaptive_|fractional_)?max_pool\dd(_with_indices)?|where|amax|amin|max|min|sort|topk|median"
)


@dataclass(frozen=True)
class Boundary:
    """The nearest change of an activation's branch.

    Attributes:
        distance: in θ, to first order: |z − kink| / ‖∂z/∂θ‖ of one pre-activation; infinite where
            no function with a kink is called, 0 where one sits on its kink and leaves it to higher
            order.
        undetermined: names of functions with kinks whose distance is not found; empty where there
            are none.
    """

    distance: float
    undetermined: str = ""

    @property
    def determined(self) -> bool:
        """No function has kinks that were not looked for."""
        return not self.undetermined


class _Watch(TorchFunctionMode):
    """Notes what functions with kinks are called with, in the order of the calls."""

    def __init__(self, examples: int) -> None:
        super().__init__()
        self._examples = examples
        self.calls: list[Kinked] = []
        self.undetermined: set[str] = set()

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        name = getattr(func, "__name__", "").strip("_")
        if name in _KINKS:
            names, kinked = _KINKS[name]
            given = {**dict(zip(names, args, strict=False)), **(kwargs or {})}
            if isinstance(given.get("input"), torch.Tensor):
                self._note(name, kinked, given)
        elif _CHOOSING.fullmatch(name):
            self.undetermined.add(name)
        return func(*args, **(kwargs or {}))

    def _note(self, name: str, kinked: Callable[[_Arguments], Kinked], given: _Arguments) -> None:
        try:
            z, kinks = kinked(given)
        except (TypeError, ValueError, RuntimeError):  # such as a kink for each unit
            z, kinks = given["input"].new_empty(0), ()
        if z.ndim and len(z) == self._examples:
            # In-place functions overwrite what they are given.
            self.calls.append((z.clone(), kinks))
        else:  # not one row for each example
            self.calls.append((z.new_empty(0), ()))
            self.undetermined.add(name)


Candidate = tuple[float, int, int, int, float]  # −|z − kink|, example, call, position, kink


def nearest_boundary(risk: EmpiricalRisk, theta: torch.Tensor) -> Boundary:
    """Find the nearest boundary of an activation, linearised in θ.

    The pre-activations nearest to their kinks are differentiated one by one. They are enough if
    all others, at the slope of the steepest seen (times two), are further away; if not, more are
    taken, up to 512. One that sits on its kink and has no slope counts where it moves at all, and
    is left out where it is the same for all parameters, as in a unit whose inputs are all zero.

    Cost: one pass through the data, and a gradient of one example for each candidate.
    """
    count = CANDIDATES
    while True:
        nearest, complete, undetermined = _nearest(risk, theta, count)
        if not nearest:
            return Boundary(math.inf, undetermined)
        distances, slopes = [math.inf], [0.0]
        for candidate in nearest:
            size, slope = -candidate[0], _slope(risk, theta, candidate)
            if slope > 0.0:
                distances.append(size / slope)
            elif size == 0.0 and _moves(risk, theta, candidate):
                distances.append(0.0)
            slopes.append(slope)
        beyond = math.inf if complete else -min(nearest)[0] / (2 * max(slopes) or 1.0)
        if min(distances) <= beyond or count >= MOST_CANDIDATES:
            return Boundary(min(distances), undetermined)
        count *= 4


def _nearest(
    risk: EmpiricalRisk, theta: torch.Tensor, count: int
) -> tuple[list[Candidate], bool, str]:
    """The pre-activations nearest to a kink over all data, and whether these are all there are."""
    best: list[Candidate] = []
    undetermined: set[str] = set()
    total = 0
    with torch.no_grad(), risk.kernels():
        for start in range(0, len(risk), risk.batch_size):
            stop = min(start + risk.batch_size, len(risk))
            with _Watch(stop - start) as watch:
                risk.term(start, stop)(theta)
            undetermined |= watch.undetermined
            for call, (z, kinks) in enumerate(watch.calls):
                for kink in kinks:
                    flat = z.reshape(len(z), -1)
                    away = (flat - kink).abs().flatten()
                    total += len(away)
                    sizes, where = away.topk(min(count, len(away)), largest=False)
                    for size, at in zip(sizes.tolist(), where.tolist(), strict=True):
                        example, position = divmod(at, flat.shape[1])
                        best.append((-size, start + example, call, position, kink))
            best = heapq.nlargest(count, best)
    return best, len(best) == total, ", ".join(sorted(undetermined))


def _pre_activation(risk: EmpiricalRisk, theta: torch.Tensor, candidate: Candidate) -> torch.Tensor:
    """z of one example at any θ."""
    _, example, call, position, _ = candidate
    with risk.kernels(), _Watch(1) as watch:
        risk.term(example, example + 1)(theta)
    return watch.calls[call][0].reshape(-1)[position]


def _slope(risk: EmpiricalRisk, theta: torch.Tensor, candidate: Candidate) -> float:
    """‖∂z/∂θ‖ of one pre-activation of one example."""
    point = theta.detach().clone().requires_grad_(True)
    with torch.enable_grad():
        z = _pre_activation(risk, point, candidate)
    if not z.requires_grad:
        return 0.0
    (gradient,) = torch.autograd.grad(z, point)
    return float(torch.linalg.vector_norm(gradient))


def _moves(risk: EmpiricalRisk, theta: torch.Tensor, candidate: Candidate) -> bool:
    """Whether a pre-activation on its kink is off it at some other parameters."""
    noise = torch.randn(len(theta), generator=torch.Generator().manual_seed(0), dtype=theta.dtype)
    with torch.no_grad():
        for sign in (1.0, -1.0):
            other = theta + sign * 0.1 * (1.0 + theta.abs()) * noise.to(theta.device)
            if float(_pre_activation(risk, other, candidate)) != candidate[4]:
                return True
    return False
