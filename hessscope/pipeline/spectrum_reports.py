"""Everything that ``hessscope spectrum`` says, as JSON and as a record's attributes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hessscope import records
from hessscope.degeneracy import DegeneracyAttribution
from hessscope.pipeline.problems import OpenedProblem
from hessscope.pipeline.result_numbers import counts
from hessscope.pipeline.spectrum_requests import SpectrumRequest
from hessscope.pipeline.views import Details
from hessscope.spectra import (
    Criticality,
    Inertia,
    PublishedCounts,
    Result,
    WidestGap,
    ZeroRule,
)


@dataclass(frozen=True, repr=False)
class SpectrumReport(records.Summarised):
    """Everything that ``hessscope spectrum`` says.

    Attributes:
        opened: checkpoint, data and objective.
        result: what the backend computed.
        inertia: counts with their intervals; None where it counts nothing.
        zero_rule: by which the counts were made.
        sweep: the same at other tolerances, ascending.
        gap: the widest gap of an exact spectrum.
        published: what the published code of Sankar & Balasubramanian (2017) counts, if asked for.
        criticality: the evidence for or against ∇L = 0.
        gTHg: gᵀHg, the curvature along the gradient times ‖g‖²; None for other matrices.
        classification: what kind of point it is.
        loss: L(θ).
        accuracy: share of right predictions; None where it means nothing.
        choice: why this backend was taken, in words.
        plan: how products were computed (``Plan.as_dict``).
        threads: number of threads, which decides the order of sums.
        seconds: wall time of the whole.
        details: which matrix it was, and what was found beside its spectrum.
        notes: what was found, assumed or done, to be shown.
        warnings: texts of the warnings given.
        causes: why eigenvalues are zero; None unless asked for.
        record: where the record was written; None if it was not.
        saved: where the state was left on the way; cleared when the record is written.
    """

    opened: OpenedProblem
    result: Result
    inertia: Inertia | None
    zero_rule: ZeroRule
    criticality: Criticality
    gTHg: float | None  # noqa: N815 - as the formula is written
    classification: str
    loss: float
    accuracy: float | None
    choice: str
    plan: Mapping[str, Any]
    threads: int
    seconds: float
    details: Details
    sweep: tuple[Inertia, ...] = ()
    gap: WidestGap | None = None
    published: PublishedCounts | None = None
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    causes: DegeneracyAttribution | None = None
    record: Path | None = field(default=None, compare=False)
    saved: records.Store = field(default_factory=records.Store, compare=False, repr=False)

    @property
    def backend(self) -> str:
        """Name of the backend that computed the result."""
        return self.result.backend

    def as_dict(self) -> dict[str, Any]:
        """The JSON object of ``hessscope spectrum --json``."""
        result, inertia = self.result, self.inertia
        return {
            "parameters": result.size,
            "examples": len(self.opened.data),
            "loss": self.loss,
            "accuracy": self.accuracy,
            "gradient_norm": self.criticality.gradient_norm,
            "gradient_floor": self.criticality.gradient_floor,
            "gTg": self.criticality.gradient_norm**2,
            "gTHg": self.gTHg,
            "backend": self.backend,
            "dtype": result.dtype,
            "tolerance": None if inertia is None else inertia.tolerance,
            "noise_floor": None if inertia is None else inertia.noise_floor,
            **counts(inertia),
            **_zeros(self),
            "alpha": None if inertia is None else inertia.index_fraction,
            **result.extremes(),
            "hvps": result.hvps,
            "seconds": self.seconds,
            "classification": self.classification,
            **self.details.as_dict(),
            **self.opened.as_dict(),
            "tolerance_sweep": _sweep_columns(self.sweep),
            "degeneracy_causes": None if self.causes is None else self.causes.as_dict(),
            "widest_gap": None if self.gap is None else self.gap.as_dict(),
            "ended": result.options.get("ended"),
            "rigorous": result.rigorous,
            "backend_choice": self.choice,
            "plan": dict(self.plan),
            "notes": list(self.notes),
            "warnings": list(self.warnings),
            "record": None if self.record is None else str(self.record),
        }

    def summary(self) -> dict[str, str]:
        """What was looked at, the counts with their intervals, and what point it is."""
        checkpoint, data, result = self.opened.checkpoint, self.opened.data, self.result
        right = "" if self.accuracy is None else f", accuracy {self.accuracy:.2%}"
        span = ", ".join(f"{value:.6g}" for value in result.span)
        facts = {
            "checkpoint": f"{checkpoint.path}, {checkpoint.architecture}",
            "data": f"{data.name} {data.split}, {len(data):,} examples",
            "loss": f"{self.loss:.6g} ({self.opened.risk.loss.name}){right}",
            "gradient norm": f"{self.criticality.gradient_norm:.4g}",
            "eigenvalues": f"{result.size:,}, {self.backend}, {result.dtype}: {span}",
            **({} if self.inertia is None else self.inertia.summary()),
            "point": self.classification,
        }
        return facts if self.record is None else {**facts, "record": str(self.record)}

    def to_record(self) -> records.Record:
        """The result with its setting, the options as given and the provenance."""
        attributes = {
            **self.opened.attributes(),
            **self.as_dict(),
            **self.details.attributes(),
            "torch_threads": self.threads,
        }
        own = self.result.to_record(attributes)
        return dataclasses.replace(own, arrays={**own.arrays, **self.details.arrays()})


def _zeros(report: SpectrumReport) -> dict[str, Any]:
    """By which rule zeros were counted, and what earlier ones give."""
    result = report.result
    return {
        "zero_rule": None if report.inertia is None else report.zero_rule.name,
        "tolerance_source": None if report.inertia is None else report.zero_rule.source,
        "zero_rows": result.zero_rows,
        "sankar2017": None if report.published is None else report.published.as_dict(),
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


def known_attributes(request: SpectrumRequest, opened: OpenedProblem) -> dict[str, Any]:
    """What the record will say that is known before the work."""
    return {
        **opened.attributes(),
        "record": str(request.out),
        "configuration": {
            **dataclasses.asdict(request.exact),
            **dataclasses.asdict(request.sampled),
        },
    }
