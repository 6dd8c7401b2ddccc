"""Lanczos until the intervals of the counts are as narrow as was asked for."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from hessscope.backends.lanczos import LanczosBackend, density_of, part_of
from hessscope.backends.noise import operator_noise
from hessscope.backends.sampling import Sample, draw
from hessscope.errors import MemoryLimitError, OptionError
from hessscope.linalg.ritz import RitzPairs
from hessscope.operators import CurvatureOperator, as_operator
from hessscope.progress import Progress, silent
from hessscope.spectra import CountInterval, Inertia, SpectralDensity


@dataclass(frozen=True)
class NarrowingBackend:
    """Lanczos in rounds, each with fresh probes, until index and degeneracy are narrow enough.

    After a round what has converged is locked. Then steps are doubled where the brackets of the
    measures make the interval wide. Where the sampling does, probes are doubled, unless locking
    alone halves what is left to sample. Since the work ends when the intervals look good, look r
    may err with probability (1 − confidence)/(r(r + 1)) only, so that all looks together keep the
    confidence; the narrowest of them is the result.

    Cost: the budget at most.

    Attributes:
        width: an interval is narrow where it is at most this part of its estimate wide, or 1.
        tolerance: τ at which the counts are to be narrow; default 2δ.
        products: most Hessian-vector products to spend, besides 16 for the noise floor.
        seconds: no new round begins after this time; None for no limit.
        start: steps, probes, seed, confidence and memory of the first round.
    """

    width: float
    tolerance: float | None = None
    products: int = 10_000
    seconds: float | None = None
    start: LanczosBackend = field(default_factory=LanczosBackend)

    def __post_init__(self) -> None:
        """Refuse options that mean nothing."""
        if not 0 < self.width < np.inf:
            raise OptionError(f"target width {self.width}: give a part of the count, such as 0.1")
        if self.start.reorthogonalize == "none":
            raise OptionError(
                "a target width needs converged pairs, and so a basis: leave out "
                "--reorthogonalize none"
            )
        least = self.start.first_steps + self.start.steps
        if self.products < least:
            raise OptionError(
                f"a budget of {self.products} products does not reach for a first run and one "
                f"probe: give at least {least}, or fewer steps"
            )
        if self.seconds is not None and not self.seconds > 0:
            raise OptionError(f"a budget of {self.seconds} seconds allows no work")

    def solve(self, operator: Any, progress: Progress = silent) -> SpectralDensity:
        """Estimate the density; ``options["ended"]`` of the result says why the work ended.

        Args:
            operator: as for ``ExactBackend``.
            progress: told of the products spent.

        Raises:
            MemoryLimitError: not even the first round fits; nothing was computed.
            NonFiniteError: a product is NaN or infinite.
        """
        op = as_operator(operator)
        began, before = time.monotonic(), op.hvps
        noise, products = operator_noise(op)
        work = _Work(op, op.hvps, self.products, progress)
        backend = replace(self.start, reorthogonalize="full")
        bases = backend.plan_bases(op.shape[0], op.dtype, op.device)
        first = backend.first_run(op, bases, work.part())
        known, drawn, best = first.found, 1, None
        for look in range(1, self.products):
            backend = replace(backend, probes=min(backend.probes, work.left // backend.steps))
            sample = self._draw(op, known, drawn, backend, work)
            drawn += backend.probes
            bases = backend.plan_bases(op.shape[0], op.dtype, op.device)
            result = replace(
                density_of(op, backend, bases, first, known, sample, noise),
                error_share=1.0 / (look * (look + 1)),
            )
            inertia = result.inertia(self.tolerance)
            if best is None or _widest(inertia) <= _widest(best.inertia(self.tolerance)):
                best = result
            known = known.with_more(sample.found)
            backend = self._next(op, backend, result, sample.found)
            if self._narrow(best.inertia(self.tolerance)):
                ended = f"the intervals are at most {self.width:.3g} of their counts wide"
            elif work.left < backend.steps:
                ended = f"the budget of {self.products:,} products is spent"
            elif self.seconds is not None and time.monotonic() - began > self.seconds:
                ended = f"the budget of {self.seconds:,.0f} seconds is spent"
            else:
                continue
            break
        assert best is not None
        options = {**best.options, "ended": ended, "looks": look, "target_width": self.width}
        return replace(best, hvps=op.hvps - before + products, options=options)

    def _draw(
        self,
        op: CurvatureOperator,
        known: RitzPairs,
        drawn: int,
        backend: LanczosBackend,
        work: _Work,
    ) -> Sample:
        bases = backend.plan_bases(op.shape[0], op.dtype, op.device)
        numbers = range(drawn, drawn + backend.probes)
        return draw(op, known, numbers, backend.steps, backend.seed, bases, work.part())

    def _next(
        self,
        op: CurvatureOperator,
        backend: LanczosBackend,
        result: SpectralDensity,
        found: RitzPairs,
    ) -> LanczosBackend:
        """Longer runs, or more of them: by what makes the interval of the index wide."""
        budget = result.error_budget(self.tolerance)
        inertia = result.inertia(self.tolerance)
        if budget.brackets > budget.sampling:
            longer = replace(backend, steps=2 * backend.steps)
            try:
                longer.plan_bases(op.shape[0], op.dtype, op.device)
                return longer
            except MemoryLimitError:
                pass
        left = inertia.negative.estimate - result.locked.below(-inertia.tolerance)
        if 0 < left <= 2 * int(np.sum(found.values < -inertia.tolerance)):
            return backend
        return replace(backend, probes=2 * backend.probes)

    def _narrow(self, inertia: Inertia) -> bool:
        return all(
            count.upper - count.lower <= max(self.width * count.estimate, 1)
            for count in (inertia.negative, inertia.zero)
        )


@dataclass(frozen=True)
class _Work:
    """Products spent of a budget."""

    op: CurvatureOperator
    before: int
    products: int
    progress: Progress

    @property
    def left(self) -> int:
        return self.products - (self.op.hvps - self.before)

    def part(self) -> Progress:
        """A report of steps as part of the whole budget."""
        return part_of(self.progress, self.products - self.left, self.products)


def _widest(inertia: Inertia) -> float:
    """Width of the wider of the two intervals, as part of its count."""

    def width(count: CountInterval) -> float:
        return (count.upper - count.lower) / max(count.estimate, 1)

    return max(width(inertia.negative), width(inertia.zero))
