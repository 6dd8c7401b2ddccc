"""What every backend returns: eigenvalues, as far as they are known, and what follows from them."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from hessscope.errors import OptionError, PrecisionWarning
from hessscope.records import Record, Summarised
from hessscope.records.record import from_parts, to_parts
from hessscope.registry import BACKENDS
from hessscope.spectra.estimates import Estimate
from hessscope.spectra.inertia import Inertia


@dataclass(frozen=True)
class NoiseFloor:
    """How far a computed eigenvalue may be from the true one; each part was measured.

    Attributes:
        solver: rounding of the eigenvalue solver, a multiple of eps·‖H‖_F.
        operator: what rounding does to the matrix or to its products, in the 2-norm: a multiple of
            the largest difference between the solved operator and products in randomised
            arithmetic.
    """

    solver: float
    operator: float

    @property
    def total(self) -> float:
        """δ: by Weyl's inequality the errors of matrix and solver add up."""
        return self.solver + self.operator


R = TypeVar("R", bound="Result")

_KINDS: dict[str, type[Result]] = {}


class Result(Summarised):
    """A spectrum, as far as a backend knows it; subclasses are frozen dataclasses.

    A backend with a result of its own kind defines ``kind``, the fields below (``size``, ``dtype``,
    ``hvps``, ``options``) and ``trace_estimate``; ``extremes`` where it knows more of them.
    Records, tables and JSON follow.

    Attributes:
        kind: of its record.
        size: number n of eigenvalues of the operator.
        dtype: data type of the computation.
        hvps: Hessian-vector products used.
        options: the backend's configuration, with its name as ``backend``.
        noise_floor: δ and its parts.
        eigenvalues: all of them, ascending, shape (n,); None where not all are known.
        eigenvectors: shape (n, n), column j belongs to eigenvalue j; None where they are not known.
        zero_rows: rows of the matrix that were exactly zero; None where that is not known.
        rounded: the spectrum of the matrix with its entries rounded to float32; None unless asked
            for.
        rigorous: bounds hold without sampling; None where nothing is bounded by sampling.
    """

    kind: ClassVar[str]
    size: int
    dtype: str
    hvps: int
    options: Mapping[str, Any]
    noise_floor: NoiseFloor
    eigenvalues: np.ndarray | None
    eigenvectors: np.ndarray | None = None
    zero_rows: int | None = None
    rounded: Result | None = None
    rigorous: bool | None = None

    @property
    def counts(self) -> bool:
        """Whether eigenvalues can be counted: in bfloat16 too many are near zero by rounding."""
        return self.dtype != "bfloat16"

    def __init_subclass__(cls) -> None:
        """Records of its kind are read as this class."""
        if "kind" in vars(cls):
            _KINDS[cls.kind] = cls

    @property
    def backend(self) -> str:
        """Name of the backend that computed it."""
        return str(self.options["backend"])

    @property
    def lambda_min(self) -> float:
        """Smallest eigenvalue, within ``lambda_min_residual``; NaN where it is not known."""
        return math.nan

    @property
    def lambda_max(self) -> float:
        """Largest eigenvalue, within ``lambda_max_residual``; NaN where it is not known."""
        return math.nan

    @property
    def lambda_min_residual(self) -> float:
        """An eigenvalue lies within this distance of ``lambda_min``, rounding included."""
        return self.noise_floor.total

    @property
    def lambda_max_residual(self) -> float:
        """An eigenvalue lies within this distance of ``lambda_max``, rounding included."""
        return self.noise_floor.total

    @property
    def span(self) -> tuple[float, ...]:
        """The extreme eigenvalues, as far as they are known."""
        return (self.lambda_min, self.lambda_max)

    @property
    def norm(self) -> float:
        """‖A‖₂: the largest |λ|."""
        return max(abs(value) for value in self.span)

    def trace_estimate(self) -> Estimate:
        """The sum of the eigenvalues, with its interval."""
        raise NotImplementedError

    @property
    def trace(self) -> float:
        """Sum of the eigenvalues; its interval: ``trace_estimate()``."""
        return self.trace_estimate().value

    def inertia(self, tolerance: float | None = None) -> Inertia:
        """Count the eigenvalues below −τ, within ±τ and above τ, with their intervals.

        Args:
            tolerance: τ; default 2δ.
        """
        raise self._without_counts()

    def components(self, vector: ArrayLike) -> np.ndarray:
        """Components Vᵀx of a vector along the eigenvectors, shape (n,), in their order.

        Args:
            vector: x, shape (n,); a tensor has to be on the CPU.

        Cost: n² multiplications.

        Raises:
            OptionError: the spectrum was computed without eigenvectors.
        """
        if self.eigenvectors is None:
            raise OptionError(
                "the spectrum has no eigenvectors: compute it with ExactBackend(eigenvectors=True)"
            )
        return self.eigenvectors.T @ np.asarray(vector, dtype=np.float64)

    def atoms(self) -> tuple[np.ndarray, np.ndarray]:
        """Where the spectral measure has its mass, and how much: shapes (k,), sum 1."""
        raise self._without_counts()

    def _without_counts(self) -> OptionError:
        if self.dtype == "bfloat16":
            return OptionError(
                f"arithmetic in bfloat16 leaves an uncertainty of {self.noise_floor.total:.2g} in "
                "each eigenvalue, and so no counts: take `dtype=float32`"
            )
        return OptionError(
            f"the {self.backend} backend gives neither counts nor a density: take "
            "`backend=exact` or `backend=lanczos`"
        )

    @property
    def resolution(self) -> float:
        """How much mass the measure may have elsewhere than ``atoms`` has it, in single atoms."""
        return 0.0

    def extremes(self) -> dict[str, Any]:
        """Extreme eigenvalues and trace, with what is known of their errors, as JSON has them."""
        return {"lambda_min": self.lambda_min, "lambda_max": self.lambda_max, "trace": self.trace}

    def rows(self) -> list[tuple[str, ...]]:
        """The same for the terminal: name, value, and remarks."""
        trace = self.trace_estimate()
        interval = f"{trace.lower:.4g} to {trace.upper:.4g} at {trace.confidence:.0%}"
        return [("trace", f"{trace.value:.4g}", interval)]

    @property
    def effort(self) -> str:
        """How the eigenvalues were sampled, in words; empty where they were not."""
        return ""

    def summary(self) -> dict[str, str]:
        """Size, extremes, trace and noise floor, and how they were computed."""
        how = ", ".join(filter(None, (f"{self.size:,}", self.dtype, self.effort)))
        return {
            "eigenvalues": how,
            "λ min, λ max": f"{self.lambda_min:.6g}, {self.lambda_max:.6g}",
            "trace": str(self.trace_estimate()),
            "noise floor": f"{self.noise_floor.total:.2g}",
            "products": f"{self.hvps:,}",
        }

    def remarks(self) -> list[str]:
        """What else has to be said of it: how the work ended, and what does not hold."""
        return []

    def to_record(self, attributes: Mapping[str, Any] | None = None) -> Record:
        """Everything needed to make the result again, and ``attributes`` beside it."""
        arrays, own = to_parts(self)
        own["configuration"] = own.pop("options")
        return Record(self.kind, arrays, {**(attributes or {}), **own})

    @classmethod
    def from_record(cls: type[R], record: Record) -> R:
        """Make the result that a record holds."""
        facts = {**record.attributes, "options": record.attributes.get("configuration", {})}
        return from_parts(cls, record.arrays, facts)


def result_of(record: Record) -> Result:
    """Make the result that a record holds, whatever backend computed it.

    Raises:
        OptionError: a record of this kind holds no result of a backend.
    """
    name = record.attributes.get("configuration", {}).get("backend")
    if record.kind not in _KINDS and isinstance(name, str) and name in BACKENDS:
        BACKENDS[name]  # its module defines the kind
    if record.kind not in _KINDS:
        raise OptionError(
            f"a record of kind '{record.kind}' holds no spectrum; expected one of "
            f"{', '.join(map(repr, _KINDS))}, or a 'critical point' with its eigenvalues"
        )
    return _KINDS[record.kind].from_record(record)


_PER_DECADE = 4


def tolerance_sweep(result: Result, inertia: Inertia) -> tuple[Inertia, ...]:
    """Counts at four tolerances in each decade, from 2δ to the largest |λ|.

    They show whether there is a gap in the spectrum: where every tolerance gives another
    degeneracy, no single number is a property of the point.

    Args:
        result: a spectrum or a density.
        inertia: its counts at the tolerance asked for, which take part in the sweep.

    Returns:
        Ascending in the tolerance; only ``inertia`` where there is no range to sweep.
    """
    top = result.norm
    tau, floor = inertia.tolerance, 2.0 * inertia.noise_floor
    start = min(x for x in (tau, floor, top) if x > 0.0) if top > 0.0 else 0.0
    if not 0.0 < start < top:
        return (inertia,)
    first = math.floor(_PER_DECADE * math.log10(start)) + 1
    last = math.ceil(_PER_DECADE * math.log10(top)) - 1
    grid = [10.0 ** (k / _PER_DECADE) for k in range(first, last + 1)]
    # One that is a hair beside the tolerance itself would be the same row twice.
    others = [x for x in (floor, *grid) if x > 0.0 and not math.isclose(x, tau, rel_tol=0.05)]
    with warnings.catch_warnings():
        # Tolerances below the noise floor have been spoken of already.
        warnings.simplefilter("ignore", PrecisionWarning)
        rows = [inertia, *(result.inertia(x) for x in others)]
    return tuple(sorted(rows, key=lambda row: row.tolerance))
