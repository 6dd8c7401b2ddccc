"""How far to go: from the steps that a direction offers to one that is accepted."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar, Protocol

import torch

from hessscope.refinement.merits import Merit
from hessscope.refinement.points import Point
from hessscope.refinement.steps import Step, Steps

_SUFFICIENT = 1e-4


@dataclass(frozen=True)
class Accepted:
    """A step that made the merit smaller.

    Attributes:
        point: where it led.
        step: Δθ, shape (n,).
        damping: of the direction's formula; NaN where it has none.
        fraction: part of the direction's step that was taken.
        memory: what the globalisation starts from next time.
        gradients: gradients computed on the way, that of the accepted point included.
    """

    point: Point
    step: torch.Tensor
    damping: float
    fraction: float
    memory: float
    gradients: int


class Globalisation(Protocol):
    """Accepts a step that makes the merit smaller, or none."""

    @property
    def needs_damping(self) -> bool:
        """Works only with directions whose steps get shorter with more damping."""
        ...

    def search(self, point: Point, steps: Steps, merit: Merit, memory: float) -> Accepted | None:
        """Find a step.

        Args:
            point: where the search stands.
            steps: what the direction offers there.
            merit: what is to get smaller; trial points where it is NaN or infinite are rejected.
            memory: from the last accepted step; NaN at the first.
        """
        ...


@dataclass(frozen=True)
class Backtracking:
    """Halve the direction's step until the merit falls by a part of its slope (Armijo 1966).

    The first length tried is twice the last one, and at most 1.
    """

    halvings: int = 50
    needs_damping: ClassVar[bool] = False

    def search(self, point: Point, steps: Steps, merit: Merit, memory: float) -> Accepted | None:
        """Find the first of 1, ½, ¼, … that is good enough."""
        step = steps.step(0.0)
        slope = merit.slope(point, step)
        if not (slope < 0 and math.isfinite(step.length)):
            return None
        fraction = 1.0 if math.isnan(memory) else min(1.0, 2.0 * memory)
        tried = 0
        for _ in range(self.halvings):
            trial = point.moved(fraction * step.vector)
            gain = merit.improvement(point, trial)
            tried += trial.gradients
            if gain >= -_SUFFICIENT * fraction * slope and gain > 0 and trial.finite:
                damping = 0.0 if steps.damped else math.nan
                return _accept(trial, fraction * step.vector, damping, fraction, fraction, tried)
            fraction /= 2.0
        return None


@dataclass(frozen=True)
class TrustRegion:
    """Damp the step to a radius, which follows the agreement of model and merit.

    Of Levenberg's type: the damping is the one whose step has the length of the radius. Constants
    as in Nocedal & Wright 2006, algorithm 4.1.
    """

    attempts: int = 60
    needs_damping: ClassVar[bool] = True

    def search(self, point: Point, steps: Steps, merit: Merit, memory: float) -> Accepted | None:
        """Shrink the radius until a step is accepted."""
        radius = 1.0 + point.parameter_norm if math.isnan(memory) else memory
        smallest = torch.finfo(point.parameters.dtype).eps * (1.0 + point.parameter_norm) / 16
        tried = 0
        for _ in range(self.attempts):
            damping = steps.damping_for(radius)
            step = steps.step(damping)
            predicted, length = merit.predicted(point, step), step.length
            if not (predicted > 0 and math.isfinite(predicted) and length > 0):
                return None
            trial = point.moved(step.vector)
            gain = merit.improvement(point, trial)
            tried += trial.gradients
            agreement = gain / predicted if trial.finite else -math.inf
            if not agreement >= 0.25:
                radius = 0.25 * length
            elif agreement > 0.75 and damping > 0:
                radius = 2.0 * radius
            if agreement > _SUFFICIENT and gain > 0:
                return _accept(trial, step.vector, damping, 1.0, radius, tried)
            if radius < smallest:
                return None
        return None


@dataclass(frozen=True)
class DampingSearch:
    """Try each damping of a list and keep the step that improves most (Dauphin et al. 2014).

    If none improves, the damping goes on upwards in powers of ten; if that does not help either,
    the undamped step is halved until it does.

    Attributes:
        dampings: tried at each step; the paper's list, and 0 for the last steps' convergence.
    """

    dampings: tuple[float, ...] = (1e0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 0.0)
    beyond: int = 12
    needs_damping: ClassVar[bool] = False

    def search(self, point: Point, steps: Steps, merit: Merit, memory: float) -> Accepted | None:
        """Find the best of the list, or the first beyond it that improves."""
        best: tuple[float, Point, Step, float] | None = None
        tried = 0
        largest = max(self.dampings, default=0.0) or 1.0
        more = [largest * 10.0**power for power in range(1, self.beyond + 1)]
        for damping in (*self.dampings, *more):
            if best is not None and damping > largest:
                break
            step = steps.step(damping)
            trial = point.moved(step.vector)
            gain = merit.improvement(point, trial)
            tried += trial.gradients
            if gain > 0 and trial.finite and (best is None or gain > best[0]):
                best = (gain, trial, step, damping)
        if best is None:
            found = Backtracking().search(point, steps, merit, math.nan)
            return None if found is None else replace(found, gradients=found.gradients + tried)
        _, trial, step, damping = best
        return _accept(trial, step.vector, damping, 1.0, damping, tried)


@dataclass(frozen=True)
class FixedStep:
    """Take a fixed part of the direction's step, whatever the merit says.

    Attributes:
        fraction: of the step.
    """

    fraction: float = 1.0
    needs_damping: ClassVar[bool] = False

    def search(self, point: Point, steps: Steps, merit: Merit, memory: float) -> Accepted | None:
        """The step, unless it leads where the loss is not finite."""
        step = self.fraction * steps.step(0.0).vector
        trial = point.moved(step)
        if not trial.finite:
            return None
        damping = 0.0 if steps.damped else math.nan
        return _accept(trial, step, damping, self.fraction, self.fraction, trial.gradients)


def _accept(
    trial: Point, step: torch.Tensor, damping: float, fraction: float, memory: float, tried: int
) -> Accepted:
    missing = 1 - trial.gradients
    return Accepted(trial, step, damping, fraction, memory, tried + missing)


GLOBALISATIONS: dict[str, Globalisation] = {
    "backtracking": Backtracking(),
    "trust_region": TrustRegion(),
    "damping_search": DampingSearch(),
    "fixed": FixedStep(),
}
