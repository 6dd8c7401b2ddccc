"""Globalisation: line search, trust region and dampings, which choose how far a step goes."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import ClassVar

import torch

from hessscope.options.refine import SearchOptions
from hessscope.refinement.directions import Curvature, Merit
from hessscope.refinement.points import Point
from hessscope.refinement.states import Step, Steps

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


class Globalisation(ABC):
    """Accepts a step that makes the merit smaller, or none.

    Attributes:
        needs_damping: it works only with directions whose steps get shorter with more damping.
        uses_merit: a step is judged by the merit, and not by its own error.
    """

    needs_damping: ClassVar[bool] = False
    uses_merit: ClassVar[bool] = True

    @classmethod
    def of(cls, options: SearchOptions) -> Globalisation:
        """Make it for the options of a search."""
        return cls()

    @property
    def fallback(self) -> Globalisation | None:
        """What takes its place, once, where it gets no further."""
        return None

    @abstractmethod
    def search(
        self, point: Point, curvature: Curvature, merit: Merit, memory: float
    ) -> Accepted | None:
        """Find a step.

        Args:
            point: where the search stands.
            curvature: what the direction knows of the Hessian there.
            merit: what is to get smaller; trial points where it is NaN or infinite are rejected.
            memory: from the last accepted step; NaN at the first.
        """


@dataclass(frozen=True)
class Backtracking(Globalisation):
    """Halve the direction's step until the merit falls by a part of its slope (Armijo 1966).

    The first length tried is twice the last one, and at most 1.
    """

    halvings: int = 50

    def search(
        self, point: Point, curvature: Curvature, merit: Merit, memory: float
    ) -> Accepted | None:
        """Find the first of 1, ½, ¼, … that is good enough."""
        steps = curvature.steps(point.gradient)
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
class TrustRegion(Globalisation):
    """Damp the step to a radius, which follows the agreement of model and merit.

    Of Levenberg's type: the damping is the one whose step has the length of the radius. Constants
    as in Nocedal & Wright 2006, algorithm 4.1.
    """

    attempts: int = 60
    needs_damping: ClassVar[bool] = True

    def search(
        self, point: Point, curvature: Curvature, merit: Merit, memory: float
    ) -> Accepted | None:
        """Shrink the radius until a step is accepted."""
        steps = curvature.steps(point.gradient)
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
class NaturalDamping(Globalisation):
    """Damp as much as the error of the model asks for, in units of the step itself.

    The gradient at the end of a step differs from the model's, and what the same damped inverse
    makes of that difference is how far the step itself is off. The step is taken if that is at
    most half its length, or if ‖g‖ falls by half; the next damping follows from it. What is far
    off in a stiff direction, but costs only a small correction there, does not hold up a long way
    along a flat one, as it does where ‖g‖ has to fall with every step. This is the natural level
    function of Deuflhard 2011, section 3.3, which no linear change of the parameters alters. ‖g‖
    need not fall monotonically.
    """

    attempts: int = 60
    needs_damping: ClassVar[bool] = True
    uses_merit: ClassVar[bool] = False

    @property
    def fallback(self) -> TrustRegion:
        """It wanders where ½‖g‖² has a minimum with g ≠ 0; the trust region ends there."""
        return TrustRegion()

    def search(
        self, point: Point, curvature: Curvature, merit: Merit, memory: float
    ) -> Accepted | None:
        """Raise the damping until the step can be trusted."""
        steps = curvature.steps(point.gradient)
        damping = 1e-2 * curvature.norm if math.isnan(memory) else memory
        smallest = torch.finfo(point.parameters.dtype).eps * (1.0 + point.parameter_norm) / 16
        tried = 0
        for _ in range(self.attempts):
            step = steps.step(damping)
            length = step.length
            if not (math.isfinite(length) and length > smallest):
                return None
            trial = point.moved(step.vector)
            error, halved = math.inf, False
            if trial.finite:
                off = trial.gradient - point.gradient - step.image
                error = curvature.steps(off).step(damping).length / length
                halved = trial.gradient_norm <= 0.5 * point.gradient_norm
            tried += trial.gradients
            if error <= 0.5 or halved:
                # At a double root the error of the full step is ¼: there damping has to fall too.
                factor = 0.25 if error < 0.3 else 1.0 if error < 0.4 else 2.0
                following = factor * damping
                return _accept(trial, step.vector, damping, 1.0, following, tried)
            damping = 4.0 * max(damping, 1e-16 * curvature.norm)
        return None


@dataclass(frozen=True)
class DampingSearch(Globalisation):
    """Try each damping of a list and keep the step that improves most (Dauphin et al. 2014).

    Where the smallest positive one is the best, smaller dampings are tried in powers of ten, as
    long as that improves more; where none improves, upwards; and if that does not help either, the
    undamped step is halved until it does.

    Attributes:
        dampings: tried at each step; the paper's list, and 0 for the last steps' convergence.
        beyond: powers of ten that are tried beyond the list.
    """

    dampings: tuple[float, ...] = SearchOptions.dampings
    beyond: int = 12

    @classmethod
    def of(cls, options: SearchOptions) -> DampingSearch:
        """With the dampings of the search."""
        return cls(options.dampings)

    def search(
        self, point: Point, curvature: Curvature, merit: Merit, memory: float
    ) -> Accepted | None:
        """Find the best of the list, or the first beyond it that improves."""
        steps = curvature.steps(point.gradient)
        trials: list[_Trial] = []

        def improves(damping: float) -> bool:
            """More than all before."""
            most = max((trial.gain for trial in trials), default=0.0)
            trials.append(_Trial.make(point, steps, merit, damping))
            return trials[-1].gain > most

        # Without a family of steps every damping gives the same one.
        for damping in self.dampings if steps.damped else (0.0,):
            improves(damping)
        positive = [damping for damping in self.dampings if damping > 0] or [1.0]
        powers = [10.0**power for power in range(1, self.beyond + 1)] if steps.damped else []
        most = max(trials, key=lambda trial: trial.gain)
        if most.gain == 0.0:
            any(improves(max(positive) * power) for power in powers)
        elif most.damping == min(positive):
            all(improves(min(positive) / power) for power in powers)
        # Where the merit does without gradients, only that of the best is computed.
        ranked = sorted(trials, key=lambda trial: trial.gain, reverse=True)
        best = next((trial for trial in ranked if trial.gain > 0.0 and trial.point.finite), None)
        tried = sum(trial.point.gradients for trial in trials)
        if best is None:
            found = Backtracking().search(point, curvature, merit, math.nan)
            return None if found is None else replace(found, gradients=found.gradients + tried)
        damping = best.damping if steps.damped else math.nan
        return _accept(best.point, best.step.vector, damping, 1.0, best.damping, tried)


@dataclass(frozen=True)
class _Trial:
    """A step that was tried.

    Attributes:
        gain: improvement of the merit; 0 where there is none, or none that is finite.
    """

    point: Point
    step: Step
    damping: float
    gain: float

    @classmethod
    def make(cls, point: Point, steps: Steps, merit: Merit, damping: float) -> _Trial:
        """Take the step for a damping and look at the merit there."""
        step = steps.step(damping)
        trial = point.moved(step.vector)
        gain = merit.improvement(point, trial)
        return cls(trial, step, damping, gain if 0.0 < gain < math.inf else 0.0)


@dataclass(frozen=True)
class FixedStep(Globalisation):
    """Take a fixed part of the direction's step, whatever the merit.

    Attributes:
        fraction: of the step.
    """

    fraction: float = 1.0

    @classmethod
    def of(cls, options: SearchOptions) -> FixedStep:
        """With the fraction of the search."""
        return cls(options.fraction)

    def search(
        self, point: Point, curvature: Curvature, merit: Merit, memory: float
    ) -> Accepted | None:
        """The step, unless it leads where the loss is not finite."""
        steps = curvature.steps(point.gradient)
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
