"""Lanczos until the intervals of the counts are as narrow as was asked for."""

from __future__ import annotations

import re
import sys
import time
from dataclasses import dataclass, field, replace
from itertools import count as numbers_from
from numbers import Real
from typing import Any

import numpy as np

from hessscope.backends.lanczos import LanczosBackend, density_of, part_of
from hessscope.backends.noise import operator_noise
from hessscope.backends.sampling import draw
from hessscope.errors import MemoryLimitError, OptionError
from hessscope.linalg.ritz import RitzPairs
from hessscope.operators import CurvatureOperator, as_operator
from hessscope.progress import Progress, silent
from hessscope.records import Store
from hessscope.spectra import CountInterval, Inertia, NoiseFloorRule, SpectralDensity, ZeroRule


@dataclass(frozen=True)
class Target:
    """How narrow counts are to become, and what that may cost.

    Attributes:
        width: an interval is narrow where it is at most this part of its estimate wide, or 1.
        products: most Hessian-vector products to spend, besides those for the noise floor.
        seconds: no new round begins after this time; None for no limit.
    """

    width: float
    products: int = 10_000
    seconds: float | None = None

    def __post_init__(self) -> None:
        """Refuse options that mean nothing."""
        if not isinstance(self.width, Real) or not 0 < self.width < np.inf:
            raise OptionError(f"target width {self.width}: give a part of the count, such as 0.1")
        if self.products < 1 or (self.seconds is not None and not self.seconds > 0):
            raise OptionError("the budget allows no work: give a number of products or of minutes")

    @classmethod
    def parse(cls, width: float, budget: str | int | None) -> Target:
        """Take a budget as ``5000`` (products) or as ``90s``, ``30min``, ``2h``.

        Raises:
            OptionError: it is neither.
        """
        if budget is None:
            return cls(width)
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(s|min|h)?\s*", str(budget))
        if match is None:
            raise OptionError(
                f"budget {budget}: give a number of products such as 5000, or a time such as 30min"
            )
        amount, unit = float(match[1]), match[2]
        if unit is None:
            return cls(width, int(amount))
        return cls(width, sys.maxsize, amount * {"s": 1, "min": 60, "h": 3600}[unit])


@dataclass(frozen=True)
class NarrowingBackend:
    """Lanczos in rounds, each with fresh probes, until index and degeneracy are narrow enough.

    After a round what has converged is locked. Then steps are doubled where the brackets of the
    measures make the interval wide. Where the sampling does, probes are doubled, unless locking
    alone halves what is left to sample. Since the work ends when the intervals look good, look r
    may err with probability (1 − confidence)/(r(r + 1)) only, so that all looks together keep the
    confidence; the narrowest of them is the result.

    Cost: the budget at most, and 20 products for the noise floor.

    Attributes:
        target: how narrow, and what it may cost.
        rule: what counts as zero; default |λ| ≤ 2δ.
        start: steps, probes, seed, confidence and memory of the first round.
    """

    target: Target
    rule: ZeroRule = field(default_factory=NoiseFloorRule)
    start: LanczosBackend = field(default_factory=LanczosBackend)

    def __post_init__(self) -> None:
        """Refuse options that do not go together."""
        if self.start.reorthogonalize == "none":
            raise OptionError(
                "a target width needs converged pairs, and so a basis: leave out "
                "--reorthogonalize none"
            )
        least = self.start.first_steps + self.start.steps
        if self.target.products < least:
            raise OptionError(
                f"a budget of {self.target.products} products does not reach for a first run and "
                f"one probe: give at least {least}, or fewer steps"
            )

    @property
    def first_round(self) -> LanczosBackend:
        """``start`` with bases, whatever is planned without a target."""
        return replace(self.start, reorthogonalize="full", together=self.start.together or None)

    def solve(
        self, operator: Any, progress: Progress = silent, saved: Store | None = None
    ) -> SpectralDensity:
        """Estimate the density; ``options["ended"]`` of the result says why the work ended.

        Args:
            operator: as for ``ExactBackend``.
            progress: told of the products spent.
            saved: where the state is left from time to time, and gone on from.

        Raises:
            MemoryLimitError: not even the first round fits; nothing was computed.
            NonFiniteError: a product is NaN or infinite.
        """
        op = as_operator(operator)
        began = time.monotonic()
        noise, products = operator_noise(op)
        backend, budget = self.first_round, self.target.products
        bases = backend.plan_bases(op.shape[0], op.dtype, op.device)
        first = backend.first_run(op, bases, part_of(progress, 0, budget), saved)
        known, spent, drawn, best, looks = first.found, first.products, 1, None, 0
        for look in numbers_from(1):
            backend = replace(
                backend, probes=min(backend.probes, (budget - spent) // backend.steps)
            )
            try:
                bases = backend.plan_bases(op.shape[0], op.dtype, op.device)
            except MemoryLimitError:
                if best is None:
                    raise
                ended = "the memory left is too small for another round"
                break
            numbers = range(drawn, drawn + backend.probes)
            part = part_of(progress, spent, budget)
            sample = draw(op, known, numbers, backend.steps, backend.seed, bases, part, saved)
            drawn, spent = numbers.stop, spent + sample.products
            result = replace(
                density_of(op, backend, bases, first, known, sample, noise),
                error_share=1.0 / (look * (look + 1)),
            )
            looks, inertia = look, self.rule.inertia(result)
            if (
                best is None
                or not result.rest
                or _widest(inertia) <= _widest(self.rule.inertia(best))
            ):
                best = result
            known = known.with_more(sample.found)
            backend = self._next(op, backend, result, sample.found)
            if self._narrow(self.rule.inertia(best)):
                ended = f"the intervals are at most {self.target.width:.3g} of their counts wide"
            elif not result.rest:
                ended = "every eigenvalue is known, to within the noise floor"
            elif budget - spent < backend.steps:
                ended = f"the budget of {budget:,} products is spent"
            elif self.target.seconds is not None and time.monotonic() - began > self.target.seconds:
                ended = f"the budget of {self.target.seconds:,.0f} seconds is spent"
            else:
                continue
            break
        assert best is not None
        options = {
            **best.options,
            "ended": ended,
            "looks": looks,
            "target_width": self.target.width,
        }
        return replace(best, hvps=spent + products, options=options)

    def _next(
        self,
        op: CurvatureOperator,
        backend: LanczosBackend,
        result: SpectralDensity,
        found: RitzPairs,
    ) -> LanczosBackend:
        """Longer runs, or more of them: by what makes the interval of the index wide."""
        inertia = self.rule.inertia(result)
        budget = result.error_budget(inertia.tolerance)
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
            count.upper - count.lower <= max(self.target.width * count.estimate, 1)
            for count in (inertia.negative, inertia.zero)
        )


def _widest(inertia: Inertia) -> float:
    """Width of the wider of the two intervals, as part of its count."""

    def width(count: CountInterval) -> float:
        return (count.upper - count.lower) / max(count.estimate, 1)

    return max(width(inertia.negative), width(inertia.zero))
