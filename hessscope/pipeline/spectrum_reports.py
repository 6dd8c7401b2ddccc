"""Everything that ``hessscope spectrum`` reports, as JSON and as a record."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import numpy as np

from hessscope import records
from hessscope.backends.backend import zero_rule_of
from hessscope.degeneracy import DegeneracyAttribution
from hessscope.options.fields import plain
from hessscope.options.spectrum import SpectrumOptions
from hessscope.pipeline.outputs import Report
from hessscope.pipeline.part_spectra import LayerSpectrum, PartSpectra
from hessscope.pipeline.problems import OpenedProblem
from hessscope.registry import OPERATORS
from hessscope.spectra import (
    BulkSplit,
    CountInterval,
    Criticality,
    Eigenpairs,
    Inertia,
    PublishedCounts,
    Result,
    WidestGap,
    ZeroRule,
    widest_gap,
)

# By their names in JSON, and by those of the inertia.
_COUNTS = {"index": "negative", "degeneracy": "zero", "positive": "positive"}


@dataclass(frozen=True, repr=False)
class SpectrumReport(Report):
    """Everything that ``hessscope spectrum`` reports.

    Attributes:
        options: as they were given.
        opened: checkpoint, data and objective.
        result: the spectrum, as far as the backend knows it.
        inertia: counts with their intervals; None where the backend counts nothing.
        criticality: the evidence for or against ∇L = 0.
        gTHg: gᵀHg, the curvature along the gradient times ‖g‖²; None for other matrices.
        classification: what kind of point it is.
        loss: L(θ).
        accuracy: share of right predictions; None where it means nothing.
        choice: why this backend was taken, in words.
        plan: how products were computed (``Plan.as_dict``).
        parameter_names: of the parameters that the matrix belongs to, in the order of θ.
        threads: number of threads, which decides the order of sums.
        seconds: wall time of the whole.
        sweep: counts at other tolerances, ascending.
        causes: why eigenvalues are zero, where that was asked for; so are the next three.
        parts: the diagonal blocks of a partition of the parameters.
        eigenpairs: some eigenvectors.
        bulk: outliers and bulk.
        saved: where the state was left on the way; cleared when the record is written.
    """

    options: SpectrumOptions
    opened: OpenedProblem
    result: Result
    inertia: Inertia | None
    criticality: Criticality
    gTHg: float | None  # noqa: N815 - as the formula is written
    classification: str
    loss: float
    accuracy: float | None
    choice: str
    plan: Mapping[str, Any]
    parameter_names: tuple[str, ...]
    threads: int
    seconds: float
    sweep: tuple[Inertia, ...] = ()
    causes: DegeneracyAttribution | None = None
    parts: PartSpectra = field(default_factory=PartSpectra)
    eigenpairs: Eigenpairs | None = None
    bulk: BulkSplit | None = None
    saved: records.Store = field(default_factory=records.Store, compare=False)

    @property
    def backend(self) -> str:
        """Name of the backend that computed the result."""
        return self.result.backend

    @property
    def operator(self) -> str:
        """Name of the matrix."""
        return str(OPERATORS.find(self.options.operator).name)

    @property
    def zero_rule(self) -> ZeroRule:
        """By which the counts were made."""
        return zero_rule_of(self.options)

    @property
    def index(self) -> CountInterval | None:
        """The number of negative eigenvalues; None where the backend counts nothing."""
        return None if self.inertia is None else self.inertia.negative

    @property
    def degeneracy(self) -> CountInterval | None:
        """The number of eigenvalues within ±τ; None where the backend counts nothing."""
        return None if self.inertia is None else self.inertia.zero

    @property
    def noise_floor(self) -> float | None:
        """δ of each eigenvalue; None where the backend does not measure it."""
        floor = getattr(self.result, "noise_floor", None)
        return None if floor is None else float(floor.total)

    @property
    def lambda_max(self) -> float:
        """The largest eigenvalue."""
        return self.result.lambda_max

    @property
    def lambda_min(self) -> float:
        """The smallest eigenvalue; NaN where the backend does not compute it."""
        return self.result.lambda_min

    @property
    def eigenvalues(self) -> np.ndarray | None:
        """All eigenvalues, ascending, shape (n,); None where only a density is known."""
        return self.result.eigenvalues

    @property
    def layers(self) -> tuple[LayerSpectrum, ...]:
        """The diagonal blocks of the parts."""
        return self.parts.layers

    @functools.cached_property
    def gap(self) -> WidestGap | None:
        """The widest gap of a spectrum whose eigenvalues are all known."""
        return widest_gap(self.result)

    @functools.cached_property
    def published(self) -> PublishedCounts | None:
        """What the published code of a paper counts, where the zero rule is that paper's."""
        return None if self.inertia is None else self.zero_rule.published(self.result)

    def as_dict(self) -> dict[str, Any]:
        """The JSON object of ``hessscope spectrum --json``."""
        result, inertia, critical = self.result, self.inertia, self.criticality
        pairs, counted = self.eigenpairs, inertia is not None
        share, apart = self.parts.off_block, self.parts.distances
        return {
            "parameters": result.size,
            "loss": self.loss,
            "accuracy": self.accuracy,
            "gradient_norm": critical.gradient_norm,
            "gradient_floor": critical.gradient_floor,
            "gTg": critical.gradient_norm**2,
            "gTHg": self.gTHg,
            "backend": self.backend,
            "dtype": result.dtype,
            "tolerance": None if inertia is None else inertia.tolerance,
            "noise_floor": self.noise_floor,
            **(dict.fromkeys(_COUNTS) if inertia is None else inertia.as_dict()),
            "zero_rule": self.zero_rule.name if counted else None,
            "tolerance_source": self.zero_rule.source if counted else None,
            "zero_rows": result.zero_rows,
            "sankar2017": None if self.published is None else self.published.as_dict(),
            "alpha": None if inertia is None else inertia.index_fraction,
            **result.extremes(),
            "hvps": result.hvps,
            "seconds": self.seconds,
            "classification": self.classification,
            "operator": self.operator,
            "params": list(self.options.params or ()) or None,
            "by": plain(self.options.by) or ("module" if self.options.by_layer else None),
            "layers": [layer.as_dict() for layer in self.layers] or None,
            "off_block": None if share is None else share.as_dict(),
            "distances": None
            if apart is None
            else apart.as_dict()
            | {name: matrix.tolist() for name, matrix in apart.arrays().items()},
            "bulk": None if self.bulk is None else self.bulk.as_dict(),
            **({} if pairs is None else pairs.as_dict()),
            **self.opened.as_dict(),
            "tolerance_sweep": _columns(self.sweep),
            "degeneracy_causes": None if self.causes is None else self.causes.as_dict(),
            "widest_gap": None if self.gap is None else self.gap.as_dict(),
            "ended": result.options.get("ended"),
            "rigorous": result.rigorous,
            "products": result.options.get("products", {"way": "exact"}),
            "backend_choice": self.choice,
            "plan": dict(self.plan),
            **self.remarks(),
        }

    def summary(self) -> dict[str, str]:
        """What was looked at, the counts with their intervals, and what point it is."""
        checkpoint, data, result = self.opened.checkpoint, self.opened.data, self.result
        right = "" if self.accuracy is None else f", accuracy {self.accuracy:.2%}"
        span = ", ".join(f"{value:.6g}" for value in result.span)
        return {
            "checkpoint": f"{checkpoint.path}, {checkpoint.architecture}",
            "data": f"{data.name} {data.split}, {len(data):,} examples",
            "loss": f"{self.loss:.6g} ({self.opened.risk.loss_in_words()}){right}",
            "gradient norm": f"{self.criticality.gradient_norm:.4g}",
            "eigenvalues": f"{result.size:,}, {self.backend}, {result.dtype}: {span}",
            **({} if self.inertia is None else self.inertia.summary()),
            "point": self.classification,
            **self.written(),
        }

    def draw(self, room: ModuleType) -> Any:
        """The spectrum with its counts; None where the backend counts nothing."""
        if self.inertia is None:
            return None
        split = self.bulk if self.options.semicircle else None
        return room.figures.draw(
            "spectrum",
            self.result,
            tolerance=self.inertia.tolerance,
            operator=self.operator,
            bulk=split and split.semicircle,
        )

    def arrays(self) -> dict[str, np.ndarray]:
        """Arrays of the record: those of the result, its layers and eigenvectors."""
        arrays = dict(self.result.to_record().arrays)
        for layer in self.layers:
            arrays |= layer.arrays()
        if (apart := self.parts.distances) is not None:
            arrays |= {f"distances/{name}": matrix for name, matrix in apart.arrays().items()}
        return arrays if self.eigenpairs is None else arrays | dict(self.eigenpairs.arrays())

    def to_record(self) -> records.Record:
        """The result with its setting, the options as given and the provenance."""
        layers = {layer.name: layer.attributes() for layer in self.layers}
        apart = self.parts.distances
        own = self.result.to_record(
            {
                **self.opened.attributes(),
                **self.as_dict(),
                "layers": layers or None,  # attributes have no lists of objects
                "distances": None if apart is None else apart.as_dict(),
                "parameter_names": list(self.parameter_names),
                "torch_threads": self.threads,
            }
        )
        return dataclasses.replace(own, arrays=self.arrays())


def _columns(sweep: tuple[Inertia, ...]) -> dict[str, list[Any]] | None:
    """The sweep by columns, which fit into a record's attributes as they do into JSON."""
    if not sweep:
        return None
    columns: dict[str, list[Any]] = {"tolerance": [inertia.tolerance for inertia in sweep]}
    for name, part in _COUNTS.items():
        column = [getattr(inertia, part) for inertia in sweep]
        columns[f"{name}_lower"] = [count.lower for count in column]
        columns[name] = [count.estimate for count in column]
        columns[f"{name}_upper"] = [count.upper for count in column]
    return columns
