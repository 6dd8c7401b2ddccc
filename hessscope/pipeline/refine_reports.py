"""Everything that ``hessscope refine`` says, as JSON and as a record's attributes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hessscope import records
from hessscope.objective import Evaluation
from hessscope.pipeline.notices import finite
from hessscope.pipeline.problems import OpenedProblem, Problem
from hessscope.pipeline.result_numbers import counts
from hessscope.refinement import CriticalPoint
from hessscope.refinement.saddles import SaddleConstants


@dataclass(frozen=True, repr=False)
class RefinementReport(records.Summarised):
    """Everything that ``hessscope refine`` says.

    Attributes:
        opened: checkpoint, data and objective.
        point: where the search ended, with its certificate.
        before: loss and accuracy of the checkpoint.
        after: loss and accuracy at the end.
        gradient_norm_rounded: ‖∇L‖ with the weights rounded to the data types of the file; None
            where they are not narrower.
        threads: number of threads, which decides the order of sums.
        seconds: wall time of the whole.
        best_loss: the lowest loss that is known; NaN where none is.
        notes: what was found, assumed or done, to be shown.
        warnings: texts of the warnings given.
        checkpoint: where the refined checkpoint was written; None if it was not.
        checkpoint_sha256: of that file.
        record: where the record was written; None if it was not.
    """

    opened: OpenedProblem
    point: CriticalPoint
    before: Evaluation
    after: Evaluation
    gradient_norm_rounded: float | None
    threads: int
    seconds: float
    best_loss: float = math.nan
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    checkpoint: Path | None = field(default=None, compare=False)
    checkpoint_sha256: str | None = field(default=None, compare=False)
    record: Path | None = field(default=None, compare=False)

    @property
    def status(self) -> str:
        """Why the search ended: see ``CriticalPoint.status``."""
        return self.point.status

    @property
    def saddle_constants(self) -> SaddleConstants | None:
        """Of the stable and good saddles of the 2017 paper; None where nothing was counted."""
        return self.point.saddle_constants(self.best_loss)

    def as_dict(self) -> dict[str, Any]:
        """The JSON object of ``hessscope refine --json``."""
        point, options, inertia = self.point, self.point.options, self.point.inertia
        spectrum, last = point.spectrum, point.trace[-1]
        constants = self.saddle_constants
        return {
            "status": point.status,
            "diagnosis": point.diagnosis,
            "method": point.method,
            "globalisation": options["globalisation"],
            "merit": options["merit"],
            "iterations": point.iterations,
            "parameters": len(point.parameters),
            "examples": len(self.opened.data),
            "loss": finite(point.loss),
            "loss_start": finite(point.trace[0].loss),
            "accuracy": self.after.accuracy,
            "accuracy_start": self.before.accuracy,
            "gradient_norm": finite(point.gradient_norm),
            "gradient_norm_start": finite(point.gradient_norm_start),
            "gradient_norm_rounded": _finite(self.gradient_norm_rounded),
            "parameter_norm": finite(last.parameter_norm),
            "certificate": {
                **_finite(point.certificate.as_dict()),
                "certified": point.certificate.certified,
            },
            "classification": point.classification,
            "tolerance": None if inertia is None else inertia.tolerance,
            "tolerance_source": point.tolerance_source,
            "noise_floor": None if inertia is None else inertia.noise_floor,
            **counts(inertia),
            "alpha": None if inertia is None else inertia.index_fraction,
            **({} if spectrum is None else spectrum.extremes()),
            "backend": None if spectrum is None else str(spectrum.options["backend"]),
            "stable_saddle": None if constants is None else _finite(constants.as_dict()),
            "hvps": point.hvps,
            "hessians": last.hessians,
            "gradients": last.gradients,
            "seconds": self.seconds,
            **setting(self.opened),
            "notes": list(self.notes),
            "warnings": list(self.warnings),
            "checkpoint": None if self.checkpoint is None else str(self.checkpoint),
            "checkpoint_sha256": self.checkpoint_sha256,
            "record": None if self.record is None else str(self.record),
        }

    def summary(self) -> dict[str, str]:
        """What was refined, and where it ended."""
        checkpoint, first = self.opened.checkpoint, self.point.trace[0]
        written = {"refined": self.checkpoint, "record": self.record}
        return {
            "checkpoint": f"{checkpoint.path}, {checkpoint.architecture}",
            "started from": f"loss {first.loss:.6g}, gradient norm {first.gradient_norm:.4g}",
            **self.point.summary(),
            **{name: str(path) for name, path in written.items() if path is not None},
        }

    def to_record(self) -> records.Record:
        """The critical point with its setting, the options as given and the provenance."""
        said = search_attributes(self.opened, self.opened.problem, self.threads)
        return self.point.to_record({**said, **self.as_dict()})


def setting(opened: OpenedProblem) -> dict[str, Any]:
    """What is refined: checkpoint, data and loss."""
    checkpoint, data, risk = opened.checkpoint, opened.data, opened.risk
    return {
        "source_checkpoint": str(checkpoint.path),
        "source_sha256": checkpoint.sha256,
        "source_format": checkpoint.format,
        "architecture": checkpoint.architecture,
        "architecture_source": checkpoint.architecture_source,
        "activation_source": checkpoint.activation_source,
        "data": data.name,
        "split": data.split,
        "preprocessing": list(data.preprocessing),
        "data_fingerprint": data.fingerprint,
        "loss_function": risk.loss.name,
        "l2": risk.l2,
        "dtype": str(risk.dtype).removeprefix("torch."),
        "device": str(risk.device),
    }


def search_attributes(opened: OpenedProblem, problem: Problem, threads: int) -> dict[str, Any]:
    """What a saved search and its record say alike: setting, options and provenance."""
    return {
        **setting(opened),
        **opened.code,
        **problem.attributes(),
        "parameter_names": list(opened.risk.layout.names),
        "torch_threads": threads,
    }


def _finite(value: Any) -> Any:
    """The value with None for NaN and infinity, also inside a mapping."""
    if isinstance(value, Mapping):
        return {name: _finite(part) for name, part in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
