"""Report of a refinement: JSON, summary and record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hessscope import records
from hessscope.objective import Evaluation
from hessscope.options.fields import plain
from hessscope.pipeline.problems import OpenedProblem
from hessscope.refinement import CriticalPoint
from hessscope.refinement.saddles import SaddleConstants


@dataclass(frozen=True, repr=False)
class RefinementReport(records.Summarised):
    """What ``hs.refine_checkpoint`` and ``hessscope refine`` report.

    Attributes:
        opened: checkpoint, data and objective.
        point: where the search ended, with its certificate.
        before: loss and accuracy of the checkpoint.
        after: loss and accuracy at the end.
        gradient_norm_rounded: ‖∇L‖ with the weights rounded to the data types of the file; None
            where they are not narrower.
        threads: number of threads, which decides the order of sums.
        job_key: of the search.
        seconds: wall time of the whole.
        best_loss: the lowest loss that is known; None where none is.
        notes: what was found, assumed or done, to be shown.
        warnings: texts of the warnings given.
        checkpoint: where the refined checkpoint was written; None if it was not.
        checkpoint_sha256: of that file.
        record: where the record was written; None if it was not.
        figure: where the trace was drawn; None if it was not.
    """

    opened: OpenedProblem
    point: CriticalPoint
    before: Evaluation
    after: Evaluation
    gradient_norm_rounded: float | None
    threads: int
    job_key: str
    seconds: float
    best_loss: float | None = None
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    checkpoint: Path | None = field(default=None, compare=False)
    checkpoint_sha256: str | None = field(default=None, compare=False)
    record: Path | None = field(default=None, compare=False)
    figure: Path | None = field(default=None, compare=False)

    @property
    def status(self) -> str:
        """Why the search ended: see ``CriticalPoint.status``."""
        return self.point.status

    @property
    def saddle_constants(self) -> SaddleConstants | None:
        """Of the stable and good saddles of the 2017 paper; None where nothing was counted."""
        return self.point.saddle_constants(self.best_loss)

    @property
    def files(self) -> dict[str, Path | None]:
        """What was written where."""
        return {"checkpoint": self.checkpoint, "record": self.record, "figure": self.figure}

    def as_dict(self) -> dict[str, Any]:
        """The JSON object of ``hessscope refine --json``."""
        point, constants, spectrum = self.point, self.saddle_constants, self.point.spectrum
        return _finite(
            {
                **start_facts(self.opened.as_dict()),
                **point.as_dict(),
                **({} if spectrum is None else spectrum.extremes()),
                "accuracy": self.after.accuracy,
                "accuracy_start": self.before.accuracy,
                "gradient_norm_rounded": self.gradient_norm_rounded,
                "stable_saddle": None if constants is None else constants.as_dict(),
                "seconds": self.seconds,
                "notes": list(self.notes),
                "warnings": list(self.warnings),
                "checkpoint": None if self.checkpoint is None else str(self.checkpoint),
                "checkpoint_sha256": self.checkpoint_sha256,
                "record": None if self.record is None else str(self.record),
            }
        )

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
        facts = search_attributes(self.opened, self.threads, self.job_key)
        return self.point.to_record({**facts, **self.as_dict()})


def search_attributes(opened: OpenedProblem, threads: int, job_key: str) -> dict[str, Any]:
    """What a saved search and its record have in common: setting, options and provenance."""
    return {
        **start_facts(opened.attributes()),
        "torch_threads": threads,
        "job_key": job_key,
    }


def start_facts(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Facts of a problem, with those of its checkpoint as ``start_checkpoint…``."""
    return {f"start_{n}" if n.startswith("checkpoint") else n: v for n, v in facts.items()}


def _finite(value: Any) -> Any:
    """The value with None for NaN and infinity, also inside mappings."""
    if isinstance(value, Mapping):
        return {name: _finite(part) for name, part in value.items()}
    return plain(value) if isinstance(value, float) else value
