"""Everything that ``hessscope spectrum`` says, as JSON and as a record's attributes."""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hessscope import backends, records
from hessscope.errors import (
    PrecisionWarning,
)
from hessscope.pipeline.notices import finite, jsonable
from hessscope.pipeline.problems import Opened, Problem
from hessscope.spectra import (
    Criticality,
    Inertia,
    SpectralDensity,
    Spectrum,
)


@dataclass(frozen=True)
class SpectrumReport:
    """Everything that ``hessscope spectrum`` says.

    Attributes:
        opened: checkpoint, data and objective.
        result: the spectrum, the density, or what PyHessian computes.
        inertia: counts with their intervals; None for the pyhessian backend.
        sweep: the same at other tolerances, ascending.
        criticality: the evidence for or against ∇L = 0.
        classification: what kind of point it is.
        loss: L(θ).
        accuracy: share of right predictions; None where it means nothing.
        choice: why this backend was taken, in words.
        plan: how products were computed (``Plan.as_dict``).
        threads: number of threads, which decides the order of sums.
        seconds: wall time of the whole.
        notes: what was found, assumed or done, to be shown.
        warnings: texts of the warnings given.
        record: where the record was written; None if it was not.
    """

    opened: Opened
    result: Spectrum | SpectralDensity | backends.PyHessianResult
    inertia: Inertia | None
    criticality: Criticality
    classification: str
    loss: float
    accuracy: float | None
    choice: str
    plan: Mapping[str, Any]
    threads: int
    seconds: float
    sweep: tuple[Inertia, ...] = ()
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    record: Path | None = field(default=None, compare=False)

    @property
    def backend(self) -> str:
        """Name of the backend that computed the result."""
        return str(self.result.options["backend"])

    def as_dict(self) -> dict[str, Any]:
        """The JSON object of ``hessscope spectrum --json``."""
        result, inertia = self.result, self.inertia
        counts: dict[str, Any] = {"index": None, "degeneracy": None, "positive": None}
        if inertia is not None:
            counts = {
                "index": inertia.negative.as_dict(),
                "degeneracy": inertia.zero.as_dict(),
                "positive": inertia.positive.as_dict(),
            }
        return {
            "parameters": result.size,
            "examples": len(self.opened.data),
            "loss": self.loss,
            "accuracy": self.accuracy,
            "gradient_norm": self.criticality.gradient_norm,
            "gradient_floor": self.criticality.gradient_floor,
            "backend": self.backend,
            "dtype": result.dtype,
            "tolerance": None if inertia is None else inertia.tolerance,
            "noise_floor": None if inertia is None else inertia.noise_floor,
            **counts,
            "alpha": None if inertia is None else inertia.index_fraction,
            **_extremes(result),
            "hvps": result.hvps,
            "seconds": self.seconds,
            "classification": self.classification,
            **setting(self.opened),
            "tolerance_sweep": _sweep_columns(self.sweep),
            "backend_choice": self.choice,
            "plan": dict(self.plan),
            "notes": list(self.notes),
            "warnings": list(self.warnings),
            "record": None if self.record is None else str(self.record),
        }


def tolerance_sweep(
    result: Spectrum | SpectralDensity, inertia: Inertia, most: int = 6
) -> tuple[Inertia, ...]:
    """Counts at the tolerance itself and at powers of ten above it, to a tenth of the largest |λ|.

    They show whether there is a gap in the spectrum: where every tolerance gives another
    degeneracy, no single number is a property of the point.

    Args:
        result: a spectrum or a density.
        inertia: its counts at the tolerance asked for.
        most: about how many tolerances.
    """
    top = max(abs(x) for x in spectral_range(result))
    start = max(inertia.tolerance, inertia.noise_floor)
    if not 0.0 < start < top:
        return (inertia,)
    # A power of ten that is a hair above the tolerance itself would be the same row twice.
    first, last = math.floor(math.log10(1.1 * start)) + 1, math.floor(math.log10(top)) - 1
    if last < first:
        return (inertia,)
    stride = max(1, math.ceil((last - first + 1) / (most - 1)))
    decades = [10.0**k for k in range(last, first - 1, -stride)][::-1]
    with warnings.catch_warnings():
        # The tolerance asked for may lie below the noise floor; that has been said already.
        warnings.simplefilter("ignore", PrecisionWarning)
        return (inertia, *(result.inertia(tau) for tau in decades))


def spectral_range(result: Any) -> tuple[float, ...]:
    """The extreme eigenvalues, as far as the result knows them."""
    if isinstance(result, backends.PyHessianResult):
        return result.eigenvalues
    return (result.lambda_min, result.lambda_max)


def _extremes(result: Any) -> dict[str, Any]:
    if isinstance(result, Spectrum):
        return {
            "lambda_min": result.lambda_min,
            "lambda_max": result.lambda_max,
            "trace": result.trace,
        }
    estimate = result.trace_estimate()
    trace = {
        "trace": estimate.value,
        "trace_interval": {
            "lower": finite(estimate.lower),
            "upper": finite(estimate.upper),
            "confidence": estimate.confidence,
        },
    }
    if isinstance(result, SpectralDensity):
        return {
            "lambda_min": result.lambda_min,
            "lambda_min_residual": result.lambda_min_residual,
            "lambda_max": result.lambda_max,
            "lambda_max_residual": result.lambda_max_residual,
            **trace,
        }
    top = max(result.eigenvalues)
    return {
        "lambda_min": None,
        "lambda_max": top if top > 0 else None,
        "eigenvalues": list(result.eigenvalues),
        **trace,
    }


def _sweep_columns(sweep: tuple[Inertia, ...]) -> dict[str, list[Any]] | None:
    """The sweep by columns, which fit into a record's attributes as they do into JSON."""
    if not sweep:
        return None
    counts = {
        "index": [inertia.negative for inertia in sweep],
        "degeneracy": [inertia.zero for inertia in sweep],
        "positive": [inertia.positive for inertia in sweep],
    }
    columns: dict[str, list[Any]] = {"tolerance": [inertia.tolerance for inertia in sweep]}
    for name, column in counts.items():
        columns[f"{name}_lower"] = [count.lower for count in column]
        columns[name] = [count.estimate for count in column]
        columns[f"{name}_upper"] = [count.upper for count in column]
    return columns


def setting(opened: Opened) -> dict[str, Any]:
    """Checkpoint, data and loss, as JSON objects and records say them."""
    checkpoint, data, risk = opened.checkpoint, opened.data, opened.risk
    return {
        "checkpoint": str(checkpoint.path),
        "checkpoint_sha256": checkpoint.sha256,
        "checkpoint_format": checkpoint.format,
        "architecture": checkpoint.architecture,
        "architecture_source": checkpoint.architecture_source,
        "activation_source": checkpoint.activation_source,
        "data": data.name,
        "split": data.split,
        "preprocessing": list(data.preprocessing),
        "data_fingerprint": data.fingerprint,
        "loss_function": risk.loss.name,
        "l2": risk.l2,
        "device": str(risk.device),
    }


def record_attributes(report: SpectrumReport, problem: Problem) -> dict[str, Any]:
    """What a record says beside its arrays: the JSON object, the options and the provenance."""
    layout = report.opened.risk.layout
    return {
        **report.as_dict(),
        **problem_attributes(problem),
        "parameter_names": list(layout.names),
        "torch_threads": report.threads,
    }


def problem_attributes(problem: Problem) -> dict[str, Any]:
    """The options as given, and the provenance."""
    options = {f.name: jsonable(getattr(problem, f.name)) for f in dataclasses.fields(problem)}
    return {
        "problem": {name: value for name, value in options.items() if value is not None},
        "provenance": records.provenance(),
    }
