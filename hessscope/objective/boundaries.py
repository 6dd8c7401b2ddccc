"""The distance to the nearest kink of an objective."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from hessscope.objective.kink_watch import KinkWatch, custom_functions
from hessscope.objective.terms import Objective, Term

CANDIDATES = 32
MOST_CANDIDATES = 512


@dataclass(frozen=True)
class Boundary:
    """The nearest point at which an operator changes its branch.

    Attributes:
        distance: in θ, to first order: |z| / ‖∂z/∂θ‖ of one crossing, or less where 512 of them
            leave that open; infinite where no operator with a kink is called, 0 where one sits on
            its kink and leaves it to higher order.
        name: of the operator; empty where the distance is infinite.
        undetermined: what was met whose kinks cannot be looked for, in words; empty if nothing.
        directions: ∂z/∂θ of the crossings that are at most as far as ``within``, unit vectors in
            the rows of shape (k, n); none of those without a slope.
    """

    distance: float
    name: str = ""
    undetermined: str = ""
    directions: torch.Tensor | None = None

    @property
    def determined(self) -> bool:
        """Every kink was looked for."""
        return not self.undetermined


@dataclass(frozen=True)
class _Candidate:
    """One element of a crossing, and where it is found."""

    size: float
    name: str
    start: int
    stop: int
    call: int
    position: int
    row: int


class _Pieces:
    """The objective's terms, each for some examples where it has examples."""

    def __init__(self, objective: Objective) -> None:
        self._risk = objective.network
        self._objective = objective
        self._terms: Sequence[Term] = [] if self._risk else objective.terms()
        size = self._risk.batch_size if self._risk else 1
        count = len(self._risk) if self._risk else len(self._terms)
        self.ranges = [(i, min(i + size, count)) for i in range(0, count, size)]

    def watched(self, theta: torch.Tensor, start: int, stop: int) -> KinkWatch:
        """What operators with kinks are given in a piece, as functions of θ.

        Args:
            theta: a leaf that requires its gradient.
            start: number of the first example, or of the term.
            stop: number after the last.
        """
        term: Callable[[torch.Tensor], torch.Tensor]
        term = self._risk.term(start, stop) if self._risk else self._terms[start]
        with torch.enable_grad(), self._objective.kernels():
            with KinkWatch(theta) as watch:
                value = term(theta)
            watch.undetermined |= custom_functions(value)
        return watch

    def slope(self, theta: torch.Tensor, candidate: _Candidate) -> torch.Tensor:
        """∂z/∂θ, from the example alone where it has a row of its own."""
        one = candidate
        if self._risk and one.row and one.stop - one.start > 1:
            example, position = divmod(one.position, one.row)
            start = one.start + example
            watch = self.watched(theta, start, start + 1)
            if one.call < len(watch.crossings):
                z = watch.crossings[one.call].values.reshape(-1)
                same = len(z) == one.row and abs(abs(float(z[position])) - one.size)
                if same is not False and same <= 1e-3 * one.size + 1e-9:
                    return watch.crossings[one.call].slope(position, theta)
        watch = self.watched(theta, one.start, one.stop)
        return watch.crossings[one.call].slope(one.position, theta)


def nearest_boundary(objective: Objective, theta: torch.Tensor, within: float = 0.0) -> Boundary:
    """Find the nearest kink, linearised in θ.

    The crossings nearest to zero are differentiated one by one. They are enough if all others, at
    the slope of the steepest seen (times two), are further away; if not, more are taken, up to 512.
    What stays on its kink all around θ, as a unit does whose inputs are all zero, is left out; what
    sits on it at θ alone is at distance 0, whether it has a slope or not.

    Args:
        objective: L.
        theta: θ, shape (n,).
        within: up to which distance directions are given.

    Cost: one pass through the data, two more of the batches where something sits on its kink, and a
    gradient of one example for each candidate.
    """
    pieces = _Pieces(objective)
    point = theta.detach().clone().requires_grad_(True)
    count = CANDIDATES
    while True:
        nearest, complete, undetermined = _nearest(pieces, point, count)
        if not nearest:
            return Boundary(math.inf, undetermined=undetermined)
        slopes = [pieces.slope(point, candidate) for candidate in nearest]
        sizes = [float(torch.linalg.vector_norm(slope)) for slope in slopes]
        distances = [_distance(c.size, s) for c, s in zip(nearest, sizes, strict=True)]
        found = min(distances)
        steepest = 2 * max(sizes) or 1.0
        beyond = math.inf if complete else max(c.size for c in nearest) / steepest
        if found <= beyond or count >= MOST_CANDIDATES:
            close = [
                slope / size
                for slope, size, far in zip(slopes, sizes, distances, strict=True)
                if far <= within and 0.0 < size < math.inf
            ]
            distance = min(found, beyond)
            name = nearest[distances.index(found)].name if math.isfinite(distance) else ""
            directions = torch.stack(close) if close else point.detach().new_empty((0, len(point)))
            return Boundary(distance, name, undetermined, directions)
        count *= 4


def _distance(size: float, slope: float) -> float:
    if size == 0.0:
        return 0.0
    return size / slope if slope > 0.0 else math.inf


def _nearest(
    pieces: _Pieces, point: torch.Tensor, count: int
) -> tuple[list[_Candidate], bool, str]:
    """The elements nearest to a kink over all pieces, and whether these are all there are."""
    best: list[_Candidate] = []
    undetermined: set[str] = set()
    total = 0
    for start, stop in pieces.ranges:
        watch = pieces.watched(point, start, stop)
        undetermined |= watch.undetermined
        elsewhere: list[KinkWatch] | None = None
        for call, crossing in enumerate(watch.crossings):
            away = crossing.values.abs().flatten()
            on_it = away == 0.0
            if bool(on_it.any()):
                if elsewhere is None:
                    elsewhere = [pieces.watched(near, start, stop) for near in _around(point)]
                for other in elsewhere:
                    on_it &= _zeros(other, call, len(away))
                away[on_it] = math.inf
            moving = len(away) - int(on_it.sum())
            total += moving
            examples = stop - start
            rows = crossing.values.ndim > 0 and len(crossing.values) == examples
            row = len(away) // examples if rows else 0
            sizes, where = away.topk(min(count, moving), largest=False)
            best += [
                _Candidate(size, crossing.name, start, stop, call, at, row)
                for size, at in zip(sizes.tolist(), where.tolist(), strict=True)
            ]
        best = sorted(best, key=lambda candidate: candidate.size)[:count]
    return best, len(best) == total, ", ".join(sorted(undetermined))


def _zeros(watch: KinkWatch, call: int, count: int) -> torch.Tensor:
    """Which elements of a call sit on their kink elsewhere; none where the calls are others."""
    if call < len(watch.crossings) and watch.crossings[call].values.numel() == count:
        return watch.crossings[call].values.flatten() == 0.0
    return torch.zeros(count, dtype=torch.bool)


def _around(theta: torch.Tensor) -> list[torch.Tensor]:
    """Two other parameter vectors, near θ on either side of it."""
    noise = torch.randn(len(theta), generator=torch.Generator().manual_seed(0), dtype=theta.dtype)
    here = theta.detach()
    step = torch.finfo(theta.dtype).eps ** (1 / 3) * (1.0 + here.abs()) * noise.to(here.device)
    return [(here + sign * step).requires_grad_(True) for sign in (1.0, -1.0)]
