"""A spectrum of which every eigenvalue was computed."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from numbers import Real
from typing import Any, ClassVar

import numpy as np

from hessscope.errors import OptionError, PrecisionWarning
from hessscope.records import Record
from hessscope.spectra.estimates import Estimate
from hessscope.spectra.inertia import CountInterval, Inertia
from hessscope.spectra.result import NoiseFloor, Result


def check_tolerance(tolerance: float) -> None:
    """Refuse what is no tolerance.

    Raises:
        OptionError: it is negative or not a number.
    """
    if not isinstance(tolerance, Real) or not 0 <= tolerance < float("inf"):
        raise OptionError(f"tolerance {tolerance} is not usable: give a number ≥ 0, such as 1e-6")


def checked_tolerance(tolerance: float | None, noise_floor: float) -> float:
    """Default tolerance 2δ; a smaller one is allowed, with a warning.

    Raises:
        OptionError: the tolerance is negative or not a number.
    """
    if tolerance is None:
        return 2.0 * noise_floor
    check_tolerance(tolerance)
    if tolerance < 2.0 * noise_floor:
        warnings.warn(
            f"the tolerance {tolerance:.3g} is below twice the noise floor "
            f"(δ = {noise_floor:.3g}): rounding decides which eigenvalues count as zero; the "
            "intervals show by how much",
            PrecisionWarning,
            stacklevel=3,
        )
    return float(tolerance)


@dataclass(frozen=True, repr=False)
class Spectrum(Result):
    """All eigenvalues of a symmetric operator.

    Attributes:
        eigenvalues: ascending, shape (n,), float64 whatever the solver's type.
        noise_floor: δ and its parts.
        dtype: data type of the computation.
        eigenvectors: shape (n, n), column j belongs to eigenvalue j; None unless asked for.
        hvps: Hessian-vector products used.
        options: the backend's configuration.
        zero_rows: rows of the matrix that were exactly zero, each an eigenvalue 0.0; None where
            that is not known.
        rounded: the spectrum of the same matrix with its entries rounded to float32, solved in
            float64; None unless asked for.
    """

    kind: ClassVar[str] = "spectrum"

    eigenvalues: np.ndarray
    noise_floor: NoiseFloor
    dtype: str
    eigenvectors: np.ndarray | None = None
    hvps: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)
    zero_rows: int | None = None
    rounded: Spectrum | None = None

    @property
    def size(self) -> int:  # type: ignore[override]
        """Number n of eigenvalues."""
        return len(self.eigenvalues)

    @property
    def lambda_min(self) -> float:
        """Smallest eigenvalue, to within δ."""
        return float(self.eigenvalues[0])

    @property
    def lambda_max(self) -> float:
        """Largest eigenvalue, to within δ."""
        return float(self.eigenvalues[-1])

    def trace_estimate(self) -> Estimate:
        """The trace to within nδ."""
        value, slack = float(self.eigenvalues.sum()), self.size * self.noise_floor.total
        return Estimate(value, value - slack, value + slack, 1.0)

    def inertia(self, tolerance: float | None = None) -> Inertia:
        """Count the eigenvalues below −τ, within ±τ and above τ.

        Computed eigenvalues may be off by δ, so the counts are intervals: the index lies
        between the number of λ < −τ − δ and that of λ < −τ + δ.

        Args:
            tolerance: τ; default 2δ.
        """
        if not self.counts:
            raise self._without_counts()
        delta = self.noise_floor.total
        tau = checked_tolerance(tolerance, delta)
        cuts = np.array([-tau - delta, -tau, -tau + delta])
        low, index, high = np.searchsorted(self.eigenvalues, cuts, side="left").tolist()
        negative = CountInterval(low, index, high, 1.0)
        above = self.size - np.searchsorted(self.eigenvalues, -cuts, side="right")
        low, ups, high = above.tolist()
        positive = CountInterval(low, ups, high, 1.0)
        # Below δ the two outer intervals overlap across zero; no count can be negative.
        zero = CountInterval(
            max(self.size - negative.upper - positive.upper, 0),
            self.size - negative.estimate - positive.estimate,
            self.size - negative.lower - positive.lower,
            1.0,
        )
        return Inertia(negative, zero, positive, tau, delta)

    def atoms(self) -> tuple[np.ndarray, np.ndarray]:
        """The eigenvalues, each with the share 1/n: shapes (n,)."""
        return self.eigenvalues, np.full(self.size, 1.0 / self.size)

    def rows(self) -> list[tuple[str, ...]]:
        """The same for the terminal: name, value, and remarks."""
        return [
            ("λ min", f"{self.lambda_min:.6g}"),
            ("λ max", f"{self.lambda_max:.6g}"),
            ("trace", f"{self.trace:.6g}", "± nδ"),
        ]

    @classmethod
    def from_record(cls, record: Record) -> Spectrum:
        """Make the spectrum that a record holds."""
        if "eigenvector_values" in record.arrays:  # the vectors are those of ``Eigenpairs``
            arrays = {name: a for name, a in record.arrays.items() if name != "eigenvectors"}
            record = replace(record, arrays=arrays)
        return super().from_record(record)
