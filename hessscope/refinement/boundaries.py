"""How near a network is to where it is not twice differentiable."""

from __future__ import annotations

import heapq
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
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


def _difference(other: str, kinks: Callable[[_Arguments], tuple[float, ...]]) -> _Rule:
    """Kinks of the difference to a second argument, which may be a number."""
    return ("input", other), lambda given: (given["input"] - given[other], kinks(given))


def _width(name: str) -> Callable[[_Arguments], tuple[float, ...]]:
    def kinks(given: _Arguments) -> tuple[float, ...]:
        width = float(given.get(name, 1.0))
        return -width, width

    return kinks


def _zero(given: _Arguments) -> tuple[float, ...]:
    return (0.0,)


# Functions that jump, or whose first or second derivative does, by name: as functions and methods,
# in place or not, they are the same. Masks jump where the comparison that they come from changes.
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
    **dict.fromkeys(("maximum", "minimum", "fmax", "fmin"), _difference("other", _zero)),
    **dict.fromkeys(("gt", "greater", "ge", "greater_equal"), _difference("other", _zero)),
    **dict.fromkeys(("lt", "less", "le", "less_equal"), _difference("other", _zero)),
    **dict.fromkeys(("sign", "sgn", "heaviside"), _at(0.0)),
    "l1_loss": _difference("target", _zero),
    "huber_loss": _difference("target", _width("delta")),
    "smooth_l1_loss": _difference("target", _width("beta")),
}

# Names of functions with kinks that are not looked for: between several of their inputs, at every
# whole number, or inside of what torch computes as one.
_NOT_LOOKED_FOR = re.compile(
    r"(adaptive_|fractional_)?max_pool\dd(_with_indices)?|a?max|a?min|aminmax|arg(max|min|sort)"
    r"|m?sort|topk|kthvalue|mode|(nan)?median|(nan)?quantile|cummax|cummin|bucketize|searchsorted"
    r"|round|floor|ceil|trunc|fix|frac|fmod|remainder|mod|floor_divide|floordiv"
    r"|rnn_relu(_cell)?|hinge_embedding_loss|margin_ranking_loss|multi(label)?_margin_loss"
    r"|triplet_margin_(with_distance_)?loss|cosine_embedding_loss|gaussian_nll_loss"
)


@dataclass(frozen=True)
class Boundary:
    """The nearest change of an activation's branch.

    Attributes:
        distance: in θ, to first order: |z − kink| / ‖∂z/∂θ‖ of one pre-activation, or less where
            512 of them leave that open; infinite where no function with a kink is called, 0 where
            one sits on its kink and leaves it to higher order.
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
    """Notes what functions with kinks are called with, in the order of the calls.

    Only what depends on the parameters counts: masks and maxima of the data have no kinks in θ.
    """

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
            if _depends(given.values()):
                self._note(name, kinked, given)
        elif _NOT_LOOKED_FOR.fullmatch(name) and _depends((*args, *(kwargs or {}).values())):
            self.undetermined.add(name)
        return func(*args, **(kwargs or {}))

    def _note(self, name: str, kinked: Callable[[_Arguments], Kinked], given: _Arguments) -> None:
        try:
            z, kinks = kinked(given)
        except (TypeError, ValueError, RuntimeError):  # such as a kink for each unit
            z, kinks = torch.empty(0), ()
        if z.ndim and len(z) == self._examples:
            # In-place functions overwrite what they are given.
            self.calls.append((z.clone(), kinks))
        else:  # not one row for each example
            self.calls.append((z.new_empty(0), ()))
            self.undetermined.add(name)


def _depends(arguments: Iterable[Any]) -> bool:
    """Whether some argument is computed from the parameters."""
    return any(x.requires_grad for x in arguments if isinstance(x, torch.Tensor))


Candidate = tuple[float, int, int, int, float]  # −|z − kink|, example, call, position, kink


def nearest_boundary(risk: EmpiricalRisk, theta: torch.Tensor) -> Boundary:
    """Find the nearest boundary of an activation, linearised in θ.

    The pre-activations nearest to their kinks are differentiated one by one. They are enough if
    all others, at the slope of the steepest seen (times two), are further away; if not, more are
    taken, up to 512. What sits on its kink for all parameters, as a unit does whose inputs are all
    zero, is left out; what sits on it at θ alone is at distance 0, whether it has a slope or not.

    Cost: one pass through the data, two more of the batches where something sits on its kink, and a
    gradient of one example for each candidate.
    """
    count = CANDIDATES
    while True:
        nearest, complete, undetermined = _nearest(risk, theta, count)
        if not nearest:
            return Boundary(math.inf, undetermined)
        sizes = [-candidate[0] for candidate in nearest]
        slopes = [_slope(risk, theta, candidate) for candidate in nearest]
        found = min(_distance(size, slope) for size, slope in zip(sizes, slopes, strict=True))
        beyond = math.inf if complete else max(sizes) / (2 * max(slopes) or 1.0)
        if found <= beyond or count >= MOST_CANDIDATES:
            return Boundary(min(found, beyond), undetermined)
        count *= 4


def _distance(size: float, slope: float) -> float:
    if size == 0.0:
        return 0.0
    return size / slope if slope > 0.0 else math.inf


def _nearest(
    risk: EmpiricalRisk, theta: torch.Tensor, count: int
) -> tuple[list[Candidate], bool, str]:
    """The pre-activations nearest to a kink over all data, and whether these are all there are."""
    best: list[Candidate] = []
    undetermined: set[str] = set()
    total = 0
    point = theta.detach().clone().requires_grad_(True)
    for start in range(0, len(risk), risk.batch_size):
        stop = min(start + risk.batch_size, len(risk))
        watch = _watched(risk, point, start, stop)
        undetermined |= watch.undetermined
        elsewhere: list[_Watch] | None = None
        for call, (z, kinks) in enumerate(watch.calls):
            for kink in kinks:
                away = (z.detach() - kink).abs().flatten()
                on_it = away == 0.0
                if bool(on_it.any()):
                    elsewhere = elsewhere or [
                        _watched(risk, other, start, stop) for other in _around(theta)
                    ]
                    for other in elsewhere:
                        on_it &= other.calls[call][0].detach().flatten() == kink
                    away[on_it] = math.inf
                moving = len(away) - int(on_it.sum())
                total += moving
                sizes, where = away.topk(min(count, moving), largest=False)
                for size, at in zip(sizes.tolist(), where.tolist(), strict=True):
                    example, position = divmod(at, z[0].numel())
                    best.append((-size, start + example, call, position, kink))
        best = heapq.nlargest(count, best)
    return best, len(best) == total, ", ".join(sorted(undetermined))


def _watched(risk: EmpiricalRisk, point: torch.Tensor, start: int, stop: int) -> _Watch:
    """What functions with kinks are given at a point, as functions of it.

    Args:
        risk: over whose examples.
        point: θ, a leaf that requires its gradient.
        start: number of the first example.
        stop: number after the last.
    """
    with torch.enable_grad(), risk.kernels(), _Watch(stop - start) as watch:
        risk.term(start, stop)(point)
    return watch


def _around(theta: torch.Tensor) -> list[torch.Tensor]:
    """Two other parameter vectors, on either side of θ."""
    noise = torch.randn(len(theta), generator=torch.Generator().manual_seed(0), dtype=theta.dtype)
    step = 0.1 * (1.0 + theta.detach().abs()) * noise.to(theta.device)
    return [
        (theta.detach() + step).requires_grad_(True),
        (theta.detach() - step).requires_grad_(True),
    ]


def _slope(risk: EmpiricalRisk, theta: torch.Tensor, candidate: Candidate) -> float:
    """‖∂z/∂θ‖ of one pre-activation of one example."""
    _, example, call, position, _ = candidate
    point = theta.detach().clone().requires_grad_(True)
    z = _watched(risk, point, example, example + 1).calls[call][0].reshape(-1)[position]
    (gradient,) = torch.autograd.grad(z, point)
    return float(torch.linalg.vector_norm(gradient))
