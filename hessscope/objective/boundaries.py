"""The distance to the nearest kink of an objective."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from hessscope.objective.kink_watch import KinkWatch, Leaving, custom_functions
from hessscope.objective.terms import BatchTerm, Objective, Term

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
    """One element of a crossing, and where it is found.

    Attributes:
        size: |z|.
        name: of the operator.
        term: of the objective.
        start: number of the term's first example.
        call: number of the crossing in the term.
        position: of the element in the crossing.
        row: elements of each example; 0 where examples have no rows of their own.
    """

    size: float
    name: str
    term: Term
    start: int
    call: int
    position: int
    row: int


def watched(objective: Objective, term: Term, theta: torch.Tensor) -> KinkWatch:
    """What operators with kinks are given in a term, as functions of θ, a leaf with a gradient."""
    with torch.enable_grad(), objective.kernels():
        with KinkWatch(theta) as watch, Leaving(watch):
            value = term(theta)
        watch.undetermined |= custom_functions(value)
    watch.value = value
    return watch


def _slope(objective: Objective, theta: torch.Tensor, one: _Candidate) -> torch.Tensor:
    """∂z/∂θ, from the example alone where it has a row of its own."""
    risk = objective.network
    if risk and one.row:
        example, position = divmod(one.position, one.row)
        start = one.start + example
        crossings = watched(objective, risk.term(start, start + 1), theta).crossings
        if one.call < len(crossings) and crossings[one.call].values.numel() == one.row:
            size = abs(float(crossings[one.call].values.reshape(-1)[position]))
            if abs(size - one.size) <= 1e-3 * one.size + 1e-9:
                return crossings[one.call].slope(position, theta)
    return watched(objective, one.term, theta).crossings[one.call].slope(one.position, theta)


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
    point = theta.detach().clone().requires_grad_(True)
    count = CANDIDATES
    while True:
        nearest, complete, undetermined = _nearest(objective, point, count)
        if not nearest:
            return Boundary(math.inf, undetermined=undetermined)
        slopes = [_slope(objective, point, candidate) for candidate in nearest]
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
    objective: Objective, point: torch.Tensor, count: int
) -> tuple[list[_Candidate], bool, str]:
    """The elements nearest to a kink over all terms, and whether these are all there are."""
    best: list[_Candidate] = []
    undetermined: set[str] = set()
    total = start = 0
    for term in objective.terms():
        watch = watched(objective, term, point)
        undetermined |= watch.undetermined
        examples = term.count if isinstance(term, BatchTerm) else 1
        elsewhere: list[KinkWatch] | None = None
        for call, crossing in enumerate(watch.crossings):
            away = crossing.values.abs().flatten()
            on_it = away == 0.0
            if bool(on_it.any()):
                if elsewhere is None:
                    elsewhere = [watched(objective, term, near) for near in _around(point)]
                for other in elsewhere:
                    on_it &= _zeros(other, call, len(away))
                away[on_it] = math.inf
            moving = len(away) - int(on_it.sum())
            total += moving
            rows = examples > 1 and crossing.values.shape[:1] == (examples,)
            row = len(away) // examples if rows else 0
            sizes, where = away.topk(min(count, moving), largest=False)
            best += [
                _Candidate(size, crossing.name, term, start, call, at, row)
                for size, at in zip(sizes.tolist(), where.tolist(), strict=True)
            ]
        best = sorted(best, key=lambda candidate: candidate.size)[:count]
        start += examples
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
