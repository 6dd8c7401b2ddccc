"""A spectrum seen through stochastic Lanczos quadrature (SLQ)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import scipy.special

from hessscope.linalg.lanczos import LanczosRun
from hessscope.linalg.quadrature import Quadrature, mass_bracket, most_mass
from hessscope.records import Record
from hessscope.spectra.eigenpairs import LockedPairs
from hessscope.spectra.estimates import Estimate, count_interval, trace_deviation
from hessscope.spectra.exact import checked_tolerance
from hessscope.spectra.inertia import CountInterval, Inertia
from hessscope.spectra.result import NoiseFloor, Result


@dataclass(frozen=True, repr=False)
class SpectralDensity(Result):
    """Ritz values and weights of several random probes, and pairs that are known one by one.

    The probes are Gaussian vectors in the complement of the locked pairs. Each one's nodes and
    weights are the Gauss quadrature of its own spectral measure there, whose mean over probes is
    the spectral density of the operator on that complement (Ubaru, Chen & Saad 2017).

    Attributes:
        size: number n of eigenvalues of the operator.
        alphas: diagonal of each probe's tridiagonal matrix, shape (probes, steps); NaN behind the
            end of a run that ended early.
        betas: shape (probes, steps): off-diagonal, and last the norm of the residual; NaN likewise.
        squared_norms: ‖v‖² of each probe, shape (probes,).
        noise_floor: δ and its parts.
        dtype: data type of the computation.
        locked: converged pairs, which count one each.
        first_run: Ritz values of the run from which the pairs were taken, ascending; empty where
            there was none.
        rigorous: the bases were kept orthonormal. Without that, brackets are widened by what the
            loss of orthogonality does to nodes, and Ritz values do not count as lower bounds.
        hvps: Hessian-vector products used.
        confidence: level of the sampling intervals.
        error_share: part of 1 − confidence that an interval may use; below 1 where the work went on
            until the intervals were narrow, so that all looks together keep the confidence.
        options: the backend's configuration.
    """

    kind: ClassVar[str] = "spectral density"

    size: int
    alphas: np.ndarray
    betas: np.ndarray
    squared_norms: np.ndarray
    noise_floor: NoiseFloor
    dtype: str
    locked: LockedPairs = field(default_factory=lambda: LockedPairs(np.zeros(0), np.zeros(0)))
    first_run: np.ndarray = field(default_factory=lambda: np.zeros(0))
    rigorous: bool = True
    hvps: int = 0
    confidence: float = 0.95
    error_share: float = 1.0
    options: Mapping[str, Any] = field(default_factory=dict)
    eigenvalues: None = field(default=None, init=False)

    @property
    def probes(self) -> int:
        """Number of random start vectors that are sampled."""
        return len(self.alphas)

    @property
    def steps(self) -> int:
        """Lanczos steps of the longest run."""
        return self.alphas.shape[1]

    @property
    def rest(self) -> int:
        """Number n − m of eigenvalues that are not locked."""
        return self.size - len(self.locked)

    def runs(self) -> list[LanczosRun]:
        """The probes' tridiagonal matrices, without padding."""
        lengths = np.sum(~np.isnan(self.alphas), axis=1)
        return [
            LanczosRun(alphas[:k], betas[:k])
            for alphas, betas, k in zip(self.alphas, self.betas, lengths, strict=True)
        ]

    def by_probe(self) -> list[SpectralDensity]:
        """What each probe alone tells, beside the locked pairs."""
        parts = ("alphas", "betas", "squared_norms")
        every = range(self.probes)
        return [replace(self, **{part: getattr(self, part)[[j]] for part in parts}) for j in every]

    @cached_property
    def quadratures(self) -> tuple[Quadrature, ...]:
        """One Gauss rule for each probe."""
        return tuple(run.quadrature() for run in self.runs())

    @property
    def nodes(self) -> np.ndarray:
        """Ritz values, shape (probes, steps), ascending; NaN behind the end of a run."""
        return self._padded([rule.nodes for rule in self.quadratures], math.nan)

    @property
    def weights(self) -> np.ndarray:
        """Weights of the nodes, shape (probes, steps); each row sums to 1."""
        return self._padded([rule.weights for rule in self.quadratures], 0.0)

    @property
    def residuals(self) -> np.ndarray:
        """Within this distance of a node lies an eigenvalue; shape (probes, steps)."""
        return self._padded([rule.residuals for rule in self.quadratures], math.nan)

    def _padded(self, rows: list[np.ndarray], filling: float) -> np.ndarray:
        result = np.full(self.alphas.shape, filling)
        for row, values in zip(result, rows, strict=True):
            row[: len(values)] = values
        return result

    @cached_property
    def ritz_pairs(self) -> tuple[np.ndarray, np.ndarray]:
        """All Ritz values, locked ones included, ascending, and the residual of each."""
        values = np.concatenate([self.locked.values, *(r.nodes for r in self.quadratures)])
        residuals = np.concatenate(
            [self.locked.residuals, *(r.residuals for r in self.quadratures)]
        )
        order = np.argsort(values, kind="stable")
        return values[order], residuals[order]

    @cached_property
    def margin(self) -> float:
        """How far the eigenvalues that the runs see may be from the operator's: δ, with a basis.

        Without orthogonality nodes are those of a larger matrix, whose eigenvalues lie in clusters
        around the operator's (Greenbaum 1989); √eps·‖H‖ is what these are wide in practice.
        """
        if self.rigorous:
            return self.noise_floor.total
        norm = max(abs(self.lambda_min), abs(self.lambda_max))
        return self.noise_floor.total + math.sqrt(np.finfo(self.dtype).eps) * norm

    @property
    def lambda_min(self) -> float:
        """Smallest Ritz value: an upper bound of λ_min, to within the margin."""
        return float(self.ritz_pairs[0][0])

    @property
    def lambda_max(self) -> float:
        """Largest Ritz value: a lower bound of λ_max, to within the margin."""
        return float(self.ritz_pairs[0][-1])

    @property
    def lambda_min_residual(self) -> float:
        """An eigenvalue lies within this distance of ``lambda_min``, rounding included."""
        return self._residual(0)

    @property
    def lambda_max_residual(self) -> float:
        """An eigenvalue lies within this distance of ``lambda_max``, rounding included."""
        return self._residual(-1)

    def _residual(self, which: int) -> float:
        # A probe's residual is that on the complement; the coupling to the locked pairs comes on
        # top of it.
        coupling = math.hypot(*self.locked.residuals)
        return float(self.ritz_pairs[1][which]) + coupling + self.margin

    def bounds(self) -> tuple[Estimate, Estimate]:
        """λ_min and λ_max, each with its interval.

        From within the Ritz value bounds them, to the margin; from without the mass that the probes
        did not see does, with the confidence (``_edge``).
        """
        error = (1.0 - self.confidence) * self.error_share
        coupling = math.hypot(*self.locked.residuals)
        found = []
        for sign, inside in ((-1, self.lambda_min), (1, self.lambda_max)):
            outside = float(np.max(sign * self.locked.values, initial=-math.inf)) + self.margin
            if self.rest:
                outside = max(outside, self._edge(sign, error))
            ends = (inside - sign * self.margin, sign * (outside + coupling))
            low, high = sorted(ends)
            found.append(Estimate(inside, low, high, self.confidence if self.rest else 1.0))
        return found[0], found[1]

    def trace_estimate(self) -> Estimate:
        """Trace: what is locked, and a sampled rest (``trace_deviation``), each to within δ.

        Where every eigenvalue is known, it is certain to within nδ. The interval is never narrower
        than that.
        """
        known, slack = float(self.locked.values.sum()), self.size * self.margin
        if not self.rest:
            return Estimate(known, known - slack, known + slack, 1.0)
        error, total = (1.0 - self.confidence) * self.error_share, float(self.squared_norms.sum())
        # α₁ = vᵀAv/vᵀv and β₁² = vᵀ(A − α₁)²v/vᵀv of each probe.
        first, second = self.alphas[:, 0], self.betas[:, 0]
        mean = float(self.squared_norms @ first) / total
        spread = self._edge(1, error / 12) + self._edge(-1, error / 12) or 1.0
        parts = (second / spread) ** 2 + ((first - mean) / spread) ** 2
        squares = float(self.squared_norms @ parts)
        half = trace_deviation(self.probes, self.rest, total, squares, spread, error * 5 / 6)
        value = known + self.rest * mean
        return Estimate(value, value - half - slack, value + half + slack, self.confidence)

    def _edge(self, sign: int, error: float) -> float:
        """No eigenvalue of the rest is larger (sign 1), or smaller than minus this (−1).

        The share of p probes that an eigenvector has follows Beta(p/2, p(m − 1)/2). Where the
        recurrences leave less room for mass than its quantile, there is no eigenvalue, except with
        probability ``error``.
        """
        p, m, total = self.probes, self.rest, float(self.squared_norms.sum())
        least = float(scipy.special.betaincinv(p / 2, p * (m - 1) / 2, error)) if m > 1 else 1.0
        runs = self.runs()

        def possible(x: float) -> bool:
            return least < sum(
                norm / total * most_mass(run.alphas, run.betas, sign * x)
                for run, norm in zip(runs, self.squared_norms, strict=True)
            )

        inside = float(max(np.max(sign * rule.nodes) for rule in self.quadratures))
        step = float(np.nanmax(self.betas)) or 1.0
        while possible(inside + step):
            step *= 2.0
        low, high = inside, inside + step
        for _ in range(30):
            middle = (low + high) / 2
            low, high = (middle, high) if possible(middle) else (low, middle)
        return high + self.margin

    def inertia(self, tolerance: float | None = None) -> Inertia:
        """Estimate the counts below −τ, within ±τ and above τ, with their intervals.

        Locked pairs count one each. For the rest, each probe's measure is bracketed rigorously
        (``mass_bracket``), and the distribution of the pooled mass, which is known exactly, is
        inverted (``count_interval``). Ritz values beyond ±τ of one orthonormal basis are rigorous
        lower bounds (Cauchy interlacing).

        Args:
            tolerance: τ; default 2δ.
        """
        if not self.counts:
            raise self._without_counts()
        delta = self.noise_floor.total
        tau = checked_tolerance(tolerance, delta)
        # At or below τ is below the next number.
        low, high = self._cut(-tau), self._cut(float(np.nextafter(tau, np.inf)))
        n, m = self.size, len(self.locked)
        down = self._interval(low.locked, low.mass)
        above = (1.0 - high.mass[1], 1.0 - high.mass[0])
        up = self._interval((m - high.locked[1], m - high.locked[0]), above)
        flat = self._interval(
            (max(high.locked[0] - low.locked[1], 0), high.locked[1] - low.locked[0]),
            (max(high.mass[0] - low.mass[1], 0.0), high.mass[1] - low.mass[0]),
        )
        at_least_down, at_least_up = low.ritz_below, high.ritz_above
        index = _between(round(low.estimate), at_least_down, n - at_least_up)
        ups = _between(round(n - high.estimate), at_least_up, n - index)
        return Inertia(
            self._count(index, down, at_least_down, n - at_least_up),
            self._count(n - index - ups, flat, 0, n - at_least_down - at_least_up),
            self._count(ups, up, at_least_up, n - at_least_down),
            tau,
            delta,
        )

    def rigorous_bounds(self, tolerance: float | None = None) -> tuple[int, int]:
        """Lower bounds of the counts below −τ and above τ that no sampling enters.

        Ritz values of one orthonormal basis (Cauchy interlacing); the largest number over the runs
        is taken, never the sum. Zero without reorthogonalisation, apart from locked pairs.
        """
        tau = checked_tolerance(tolerance, self.noise_floor.total)
        return self._cut(-tau).ritz_below, self._cut(float(np.nextafter(tau, np.inf))).ritz_above

    def error_budget(self, tolerance: float) -> tuple[int, int]:
        """What makes the interval of the index as wide as it is, in eigenvalues.

        Args:
            tolerance: τ.

        Returns:
            What the number of probes makes, the measures being known, and what is added since the
            measures are known by so many steps only.
        """
        if not self.rest:
            return 0, 0
        cut = self._cut(-tolerance)
        middle = (cut.estimate - self.locked.below(-tolerance)) / self.rest
        low, high = self._interval(cut.locked, (middle, middle))
        lowest, highest = self._interval(cut.locked, cut.mass)
        return high - low, max(highest - lowest - (high - low), 0)

    def _cut(self, x: float) -> _Cut:
        """Everything that is known of the numbers of eigenvalues on both sides of x."""
        margin = self.margin + self.locked.shift(x, self.margin)
        first, last = x - margin, x + margin
        locked = (self.locked.below(first), self.locked.below(last))
        total = float(self.squared_norms.sum())
        lower = upper = middle = 0.0
        for rule, run, norm in zip(self.quadratures, self.runs(), self.squared_norms, strict=True):
            lower += norm * mass_bracket(rule, run.alphas, run.betas, first).lower / total
            upper += norm * mass_bracket(rule, run.alphas, run.betas, last).upper / total
            middle += norm * float(np.sum(rule.weights[rule.nodes < x])) / total
        # Sums of weights are good to some rounding errors for each step.
        rounding = 8 * self.steps * float(np.finfo(self.dtype).eps)
        if self.rigorous:  # the first vector is as far from the probe as the basis from orthonormal
            rounding += float(self.options.get("orthogonality", 0.0))
        ritz_below, ritz_above = locked[0], len(self.locked) - locked[1]
        if self.rigorous and self.quadratures:
            ritz_below += max(int(np.sum(rule.nodes < first)) for rule in self.quadratures)
            ritz_above += max(int(np.sum(rule.nodes > last)) for rule in self.quadratures)
            delta = self.noise_floor.total
            ritz_below = max(ritz_below, int(np.sum(self.first_run < x - delta)))
            ritz_above = max(ritz_above, int(np.sum(self.first_run > x + delta)))
        return _Cut(
            locked,
            (max(lower - rounding, 0.0), min(upper + rounding, 1.0)),
            self.locked.below(x) + self.rest * middle,
            ritz_below,
            ritz_above,
        )

    def _interval(self, locked: tuple[int, int], mass: tuple[float, float]) -> tuple[int, int]:
        """Counts that the locked pairs and a share of the probes' mass leave possible."""
        error = (1.0 - self.confidence) * self.error_share
        least, most = count_interval(*mass, self.rest, self.probes, error) if self.rest else (0, 0)
        return locked[0] + least, locked[1] + most

    def _count(
        self, estimate: int, interval: tuple[int, int], least: int, most: int
    ) -> CountInterval:
        low, high = (_between(end, least, most) for end in interval)
        confidence = self.confidence if self.rest else 1.0
        return CountInterval(min(low, estimate), estimate, max(high, estimate), confidence)

    def atoms(self) -> tuple[np.ndarray, np.ndarray]:
        """Where the estimated spectral measure has its mass, and how much: shapes (k,), sum 1."""
        places, masses = [self.locked.values], [np.full(len(self.locked), 1.0 / self.size)]
        shares = self.squared_norms / self.squared_norms.sum() * self.rest / self.size
        for rule, share in zip(self.quadratures, shares, strict=True):
            places.append(rule.nodes)
            masses.append(rule.weights * share)
        return np.concatenate(places), np.concatenate(masses)

    def density(self, grid: np.ndarray, sigma: float) -> np.ndarray:
        """Smoothed spectral density on a grid: Gaussians of width sigma, integral 1.

        Args:
            grid: eigenvalue axis, shape (m,).
            sigma: standard deviation of the Gaussian, in the units of the eigenvalues.
        """
        places, masses = self.atoms()
        kernel = np.exp(-0.5 * ((grid[:, None] - places[None, :]) / sigma) ** 2)
        return kernel @ masses / (sigma * math.sqrt(2 * math.pi))

    @property
    def effort(self) -> str:
        """Probes and steps."""
        sampled = f"by {self.probes:,} probes of {self.steps:,} steps"
        return sampled if self.rest else "one by one"

    @property
    def resolution(self) -> float:
        """A probe's distribution is known up to the weight of one of its nodes."""
        return float(self.probes)

    def extremes(self) -> dict[str, Any]:
        """Extreme Ritz values and trace, with their residuals and interval, as JSON has them."""
        return {
            "lambda_min": self.lambda_min,
            "lambda_min_residual": self.lambda_min_residual,
            "lambda_max": self.lambda_max,
            "lambda_max_residual": self.lambda_max_residual,
            **self.trace_estimate().as_dict("trace"),
        }

    def rows(self) -> list[tuple[str, ...]]:
        """The same for the terminal: name, value, and remarks."""
        within = "this; an eigenvalue lies within"
        low, high = self.lambda_min_residual, self.lambda_max_residual
        return [
            ("λ min", f"{self.lambda_min:.6g}", f"at most {within} {low:.2g}"),
            ("λ max", f"{self.lambda_max:.6g}", f"at least {within} {high:.2g}"),
            *super().rows(),
        ]

    def remarks(self) -> list[str]:
        """Why a search for narrow intervals ended, and whether bounds hold without sampling."""
        found = []
        if ended := self.options.get("ended"):
            found.append(f"ended after {self.options['looks']} rounds: {ended}")
        if not self.rigorous:
            found.append(
                "Without reorthogonalisation no bound is rigorous: the intervals are widened by "
                "what the loss of orthogonality may do, and Ritz values are not counted."
            )
        return found

    def to_record(self, attributes: Mapping[str, Any] | None = None) -> Record:
        """Everything needed to make the density again, its nodes, and ``attributes`` beside it."""
        record = super().to_record(attributes)
        nodes = {"nodes": self.nodes, "weights": self.weights, "residuals": self.residuals}
        return replace(record, arrays={**nodes, **record.arrays})


@dataclass(frozen=True)
class _Cut:
    """What is known of the spectrum on both sides of a point; pairs are (least, most).

    Attributes:
        locked: locked pairs below it.
        mass: share of the probes' mass below it.
        estimate: number of eigenvalues below it.
        ritz_below: rigorous lower bound of that number.
        ritz_above: rigorous lower bound of the number above it.
    """

    locked: tuple[int, int]
    mass: tuple[float, float]
    estimate: float
    ritz_below: int
    ritz_above: int


def _between(value: int, least: int, most: int) -> int:
    return max(least, min(value, most))
