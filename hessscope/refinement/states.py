"""State of a search, a frozen value from which it resumes, and the steps that it offers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch

from hessscope.operators import Plan
from hessscope.records import Record
from hessscope.refinement.points import Trace

# Fields that are plain values.
_FACTS = ("scale", "scale_of", "status", "reached", "method", "begun", "fallback", "hvps")


@dataclass(frozen=True)
class SearchState:
    """Everything that the next step depends on.

    Attributes:
        parameters: θ, shape (n,).
        trace: all points so far.
        previous_step: Δθ of the last step, shape (n,); zero before the first.
        scale: what the globalisation remembers (radius of the trust region, or the last length
            of backtracking); NaN before the first step.
        scale_of: the kind of globalisation that remembers it; another one begins anew.
        status: None while the search runs.
        reached: what the loop knew when it stopped, in words.
        method: by which the last steps were taken; empty before the first.
        begun: step at which that method began: what it gets done is judged from there.
        fallback: step at which a search by natural damping, which got no further, went over to
            the trust region of ½‖g‖²; None if it has not.
        hvps: Hessian-vector products so far, those that led to no step included.
        plan: how Hessian-vector products are computed; with it results are the same bit for bit.
    """

    parameters: torch.Tensor
    trace: Trace
    previous_step: torch.Tensor
    scale: float = math.nan
    scale_of: str = ""
    status: str | None = None
    reached: str = ""
    method: str = ""
    begun: int = 0
    fallback: int | None = None
    hvps: int = 0
    plan: Plan | None = None

    @property
    def iterations(self) -> int:
        """Steps taken."""
        return len(self.trace) - 1

    def ended(self, status: str, reached: str) -> SearchState:
        """The state with the reason for which the search stopped."""
        return replace(self, status=status, reached=reached)

    def reopened(self, method: str, like: torch.Tensor) -> SearchState:
        """The state as a search by a method resumes from it, in the type and place of a tensor."""
        state = replace(
            self,
            parameters=self.parameters.to(like),
            previous_step=self.previous_step.to(like),
            status=None,
            reached="",
        )
        if method == self.method:
            return state
        return replace(state, method=method, begun=self.iterations, fallback=None)

    def arrays(self) -> dict[str, np.ndarray]:
        """Arrays of its record."""
        return {
            "parameters": self.parameters.cpu().numpy(),
            "previous_step": self.previous_step.cpu().numpy(),
            **self.trace.arrays(),
        }

    def attributes(self) -> dict[str, Any]:
        """Attributes of its record."""
        facts = {name: getattr(self, name) for name in _FACTS}
        return {**facts, "plan": None if self.plan is None else self.plan.as_dict()}

    def to_record(self, attributes: Mapping[str, Any] | None = None) -> Record:
        """The state as a record, and ``attributes`` beside it."""
        return Record(
            "refinement state", self.arrays(), {**(attributes or {}), "state": self.attributes()}
        )

    @classmethod
    def from_record(cls, record: Record) -> SearchState:
        """Make the state that a record holds, of a search under way or of its result."""
        known = record.attributes["state"]
        plan = known.get("plan")
        return cls(
            parameters=torch.from_numpy(np.array(record.arrays["parameters"])),
            trace=Trace.from_arrays(record.arrays),
            previous_step=torch.from_numpy(np.array(record.arrays["previous_step"])),
            plan=None if plan is None else Plan(**{"batch_size": None, **plan}),
            **{name: known[name] for name in _FACTS if name in known},
        )


@dataclass(frozen=True)
class Step:
    """A step and its image under the Hessian, from which every merit's model follows.

    Attributes:
        vector: p, shape (n,).
        image: H p, shape (n,).
    """

    vector: torch.Tensor
    image: torch.Tensor

    @property
    def length(self) -> float:
        """‖p‖."""
        return float(torch.linalg.vector_norm(self.vector))


class Steps(Protocol):
    """The steps of a direction at one point."""

    damped: bool
    """Whether there is a family of steps, shorter with more damping."""

    def step(self, damping: float) -> Step:
        """The step for a damping ≥ 0; 0 is the direction's own, undamped step."""
        ...

    def damping_for(self, radius: float) -> float:
        """The smallest damping whose step is no longer than the radius."""
        ...


#: Of eigenvalues, damping and noise floor.
Filter = Callable[[torch.Tensor, float, float], torch.Tensor]
Lift = Callable[[torch.Tensor], torch.Tensor]


class SpectralSteps:
    """p(d) = −Σ φ(λⱼ, d) cⱼ vⱼ with a filter φ of the eigenvalues; cⱼ = vⱼ·g.

    Args:
        values: λ, shape (k,).
        coefficients: c, shape (k,).
        lift: weights w to Σ wⱼ vⱼ, shape (k,) to (n,).
        image: weights w to H Σ wⱼ vⱼ.
        filter: φ(λ, d), the inverse of the damped curvature, which falls to 0 with rising d.
        floor: below which λ counts as zero.
    """

    damped = True

    def __init__(
        self,
        values: torch.Tensor,
        coefficients: torch.Tensor,
        lift: Lift,
        image: Lift,
        filter: Filter,
        floor: float,
    ) -> None:
        self._values, self._coefficients = values, coefficients
        self._lift, self._image, self._filter, self._floor = lift, image, filter, floor

    def _weights(self, damping: float) -> torch.Tensor:
        return -self._filter(self._values, damping, self._floor) * self._coefficients

    def length(self, damping: float) -> float:
        """‖p(d)‖, without making the step."""
        return float(torch.linalg.vector_norm(self._weights(damping)))

    def step(self, damping: float) -> Step:
        """p(d) and its image."""
        weights = self._weights(damping)
        return Step(self._lift(weights), self._image(weights))

    def damping_for(self, radius: float) -> float:
        """Bisect for the smallest damping whose step is no longer than the radius."""
        if self.length(0.0) <= radius:
            return 0.0
        high = float(self._values.abs().max()) + 1e-30
        while self.length(high) > radius and math.isfinite(high):
            high *= 4.0
        low = high
        while self.length(low) <= radius and low > 1e-300:
            low /= 16.0
        for _ in range(60):
            middle = math.sqrt(low) * math.sqrt(high)
            if self.length(middle) > radius:
                low = middle
            else:
                high = middle
            # A step a little too short is as good: the radius itself is a guess.
            if high <= 1.01 * low:
                break
        return high
