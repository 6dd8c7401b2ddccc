"""A spectrum seen through stochastic Lanczos quadrature (SLQ)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from hessscope.linalg.quadrature import Quadrature
from hessscope.records import Record
from hessscope.spectra.estimates import Estimate, student_interval
from hessscope.spectra.exact import checked_tolerance
from hessscope.spectra.inertia import CountInterval, Inertia
from hessscope.spectra.noise import NoiseFloor


@dataclass(frozen=True)
class SpectralDensity:
    """Ritz values and weights of several random probes.

    Each probe's nodes and weights are the Gauss quadrature of its own spectral measure, whose
    mean over probes is the spectral density of the operator (Ubaru, Chen & Saad 2017).

    Attributes:
        size: number n of eigenvalues of the operator.
        nodes: shape (probes, steps), ascending; NaN behind the end of a run that ended early.
        weights: same shape; each row sums to 1 (0 where the node is NaN).
        residuals: same shape; within this distance of a node lies an eigenvalue.
        complete: shape (probes,): the Krylov space was invariant; that probe's measure is exact.
        noise_floor: δ and its parts.
        dtype: data type of the computation.
        hvps: Hessian-vector products used.
        confidence: level of the sampling intervals.
        options: the backend's configuration.
    """

    size: int
    nodes: np.ndarray
    weights: np.ndarray
    residuals: np.ndarray
    complete: np.ndarray
    noise_floor: NoiseFloor
    dtype: str
    hvps: int = 0
    confidence: float = 0.95
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def probes(self) -> int:
        """Number of random start vectors."""
        return len(self.nodes)

    @property
    def steps(self) -> int:
        """Lanczos steps of the longest run."""
        return self.nodes.shape[1]

    def quadratures(self) -> list[Quadrature]:
        """One rule for each probe."""
        rules = []
        for j in range(self.probes):
            there = ~np.isnan(self.nodes[j])
            rules.append(
                Quadrature(
                    self.nodes[j, there],
                    self.weights[j, there],
                    self.residuals[j, there],
                    bool(self.complete[j]),
                )
            )
        return rules

    @property
    def lambda_min(self) -> float:
        """Smallest Ritz value: an upper bound of λ_min, to within δ."""
        return float(np.nanmin(self.nodes))

    @property
    def lambda_max(self) -> float:
        """Largest Ritz value: a lower bound of λ_max, to within δ."""
        return float(np.nanmax(self.nodes))

    @property
    def lambda_min_residual(self) -> float:
        """An eigenvalue lies within this distance of ``lambda_min``, rounding included."""
        return float(self.residuals.flat[np.nanargmin(self.nodes)]) + self.noise_floor.total

    @property
    def lambda_max_residual(self) -> float:
        """An eigenvalue lies within this distance of ``lambda_max``, rounding included."""
        return float(self.residuals.flat[np.nanargmax(self.nodes)]) + self.noise_floor.total

    def trace_estimate(self) -> Estimate:
        """Trace with Student's interval over the probes (unbounded for a single probe)."""
        rules = self.quadratures()
        for rule in rules:
            if rule.complete and len(rule.nodes) == self.size:  # every eigenvalue is there
                trace = float(rule.nodes.sum())
                return Estimate(trace, trace, trace, 1.0)
        samples = np.array([self.size * rule.moment(1) for rule in rules])
        return student_interval(samples, samples, self.confidence)

    @property
    def trace(self) -> float:
        """Estimated sum of the eigenvalues; its interval: ``trace_estimate()``."""
        return self.trace_estimate().value

    def inertia(self, tolerance: float | None = None) -> Inertia:
        """Estimate the counts below −τ, within ±τ and above τ, with their intervals.

        Each probe's cumulative measure is bracketed rigorously (``Quadrature``), a Student
        interval over the probes is put around the brackets' ends, and the counts of Ritz values
        beyond ±τ ± δ are rigorous lower bounds (Cauchy interlacing). One probe has no sampling
        interval, so its counts run from that bound to all that is left.

        Args:
            tolerance: τ; default 2δ.
        """
        delta = self.noise_floor.total
        tau = checked_tolerance(tolerance, delta)
        rules = self.quadratures()
        at_least_negative = max(int(np.sum(r.nodes < -tau - delta)) for r in rules)
        at_least_positive = max(int(np.sum(r.nodes > tau + delta)) for r in rules)

        # Each end of the zero band, as far as rounding may have moved eigenvalues across it. Mass
        # strictly below x is mass at or below the number before x.
        low = [r.cumulative_bracket(np.nextafter(-tau - delta, -np.inf))[0] for r in rules]
        low_up = [r.cumulative_bracket(np.nextafter(-tau + delta, -np.inf))[1] for r in rules]
        high = [r.cumulative_bracket(tau - delta)[0] for r in rules]
        high_up = [r.cumulative_bracket(tau + delta)[1] for r in rules]
        below = [float(np.sum(r.weights[r.nodes < -tau])) for r in rules]
        above = [float(np.sum(r.weights[r.nodes > tau])) for r in rules]
        inside = [1.0 - b - a for b, a in zip(below, above, strict=True)]

        negative = self._interval(below, low, low_up)
        positive = self._interval(above, [1 - x for x in high_up], [1 - x for x in high])
        zero = self._interval(
            inside,
            [max(b - a, 0.0) for a, b in zip(low_up, high, strict=True)],
            [b - a for a, b in zip(low, high_up, strict=True)],
        )
        n = self.size
        index = _between(round(negative.value), at_least_negative, n - at_least_positive)
        ups = _between(round(positive.value), at_least_positive, n - index)
        return Inertia(
            self._count(index, negative, at_least_negative, n - at_least_positive),
            self._count(n - index - ups, zero, 0, n - at_least_negative - at_least_positive),
            self._count(ups, positive, at_least_positive, n - at_least_negative),
            tau,
            delta,
        )

    def _interval(self, middle: list[float], lower: list[float], upper: list[float]) -> Estimate:
        n = self.size
        centre = n * float(np.mean(middle))
        down = student_interval(n * np.array(lower), n * np.array(middle), self.confidence)
        up = student_interval(n * np.array(upper), n * np.array(middle), self.confidence)
        return Estimate(centre, min(down.lower, centre), max(up.upper, centre), self.confidence)

    def _count(self, estimate: int, interval: Estimate, least: int, most: int) -> CountInterval:
        lower = least if math.isinf(interval.lower) else math.floor(interval.lower)
        upper = most if math.isinf(interval.upper) else math.ceil(interval.upper)
        return CountInterval(
            min(_between(lower, least, most), estimate),
            estimate,
            max(_between(upper, least, most), estimate),
            self.confidence,
        )

    def density(self, grid: np.ndarray, sigma: float) -> np.ndarray:
        """Smoothed spectral density on a grid: Gaussians of width sigma, integral 1.

        Args:
            grid: eigenvalue axis, shape (m,).
            sigma: standard deviation of the Gaussian, in the units of the eigenvalues.
        """
        nodes, weights = self.nodes.ravel(), self.weights.ravel()
        there = ~np.isnan(nodes)
        kernel = np.exp(-0.5 * ((grid[:, None] - nodes[None, there]) / sigma) ** 2)
        return kernel @ weights[there] / (self.probes * sigma * math.sqrt(2 * math.pi))

    def to_record(self, attributes: Mapping[str, Any] | None = None) -> Record:
        """Everything needed to make the density again, and ``attributes`` beside it."""
        return Record(
            "spectral density",
            {
                "nodes": self.nodes,
                "weights": self.weights,
                "residuals": self.residuals,
                "complete": self.complete,
            },
            {
                **(attributes or {}),
                "size": self.size,
                "dtype": self.dtype,
                "hvps": self.hvps,
                "confidence": self.confidence,
                "options": dict(self.options),
                "noise_floor_parts": asdict(self.noise_floor),
            },
        )

    @classmethod
    def from_record(cls, record: Record) -> SpectralDensity:
        """Make the density that a record holds."""
        return cls(
            size=int(record.attributes["size"]),
            nodes=record.arrays["nodes"],
            weights=record.arrays["weights"],
            residuals=record.arrays["residuals"],
            complete=record.arrays["complete"],
            noise_floor=NoiseFloor(**record.attributes["noise_floor_parts"]),
            dtype=record.attributes["dtype"],
            hvps=int(record.attributes["hvps"]),
            confidence=float(record.attributes["confidence"]),
            options=record.attributes.get("options", {}),
        )


def _between(value: int, least: int, most: int) -> int:
    return max(least, min(value, most))
