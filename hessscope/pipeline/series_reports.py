"""Spectra of several checkpoints side by side, as JSON and as one record."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from hessscope import records
from hessscope.pipeline.outputs import Report, drawing
from hessscope.records import Record, Store

if TYPE_CHECKING:
    import pandas as pd

KIND = "spectrum series"

WITHOUT_EPOCHS = (
    "not every checkpoint states its epoch, in the file or by a name such as epoch_50.pt: they "
    "stand in the order given"
)
"""What is said, and stored, where a series has no axis of epochs."""

_NUMBERS = (
    "epoch", "parameters", "examples", "loss", "accuracy", "gradient_norm", "gTg", "gTHg",
    "lambda_min", "lambda_max", "trace", "alpha", "tolerance", "noise_floor", "hvps", "seconds",
)  # fmt: skip
_COUNTS = ("index", "degeneracy", "positive")


@dataclass(frozen=True)
class SeriesEntry:
    """One checkpoint of a series.

    Attributes:
        checkpoint: its path.
        run: the folder it is in; one line of a figure for each.
        epoch: of the training, as the file or its name states it; NaN where neither does.
        key: stands for the file's content and every option, so that equal keys are equal results.
        result: the JSON object of ``hessscope spectrum``; None where it failed.
        arrays: arrays of its record (eigenvalues, or nodes and weights).
        error: why it failed.
        saved: states on the way to it, removed when it is in the record; None for an earlier one.
    """

    checkpoint: str
    run: str
    epoch: float
    key: str
    result: Mapping[str, Any] | None = None
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict, repr=False, compare=False)
    error: str | None = None
    saved: Store | None = field(default=None, repr=False, compare=False)

    def as_dict(self) -> dict[str, Any]:
        """Its object in the JSON array."""
        if self.result is None:
            return {"checkpoint": self.checkpoint, "error": self.error}
        return dict(self.result)

    def number(self, name: str) -> float:
        """A number of the result; NaN where there is none."""
        value = self.epoch if name == "epoch" else (self.result or {}).get(name)
        return math.nan if value is None else float(value)


@dataclass(frozen=True, repr=False)
class SeriesReport(Report):
    """Everything that ``hessscope spectrum`` reports of several checkpoints.

    Attributes:
        entries: by run and epoch, or in the order given where not all state their epoch; those
            that failed have an error in place of a result.
        checkpoints: those asked for, in the order given.
        reused: results that were in the record before.
        interrupted: Ctrl-C ended it before all were done.
    """

    redrawn = True

    entries: tuple[SeriesEntry, ...]
    checkpoints: tuple[str, ...]
    reused: int = 0
    interrupted: bool = False

    def with_entries(self, *more: SeriesEntry) -> SeriesReport:
        """With more entries, by run and epoch, or as given where not all state their epoch."""
        entries = (*self.entries, *more)
        report = dataclasses.replace(self, entries=entries)

        def place(entry: SeriesEntry) -> tuple[Any, ...]:
            given = self.checkpoints.index(entry.checkpoint)
            unknown = math.isnan(entry.epoch)
            epoch = (entry.run, unknown, 0.0 if unknown else entry.epoch)
            return (*epoch, given) if report.by_epoch else (given,)

        return dataclasses.replace(report, entries=tuple(sorted(entries, key=place)))

    @property
    def total(self) -> int:
        """Number of checkpoints asked for."""
        return len(self.checkpoints)

    @property
    def files(self) -> dict[str, Path | None]:
        """What was written where."""
        return super().files if self.done else {}

    @property
    def done(self) -> tuple[SeriesEntry, ...]:
        """Entries with a result."""
        return tuple(entry for entry in self.entries if entry.result is not None)

    @property
    def failed(self) -> tuple[SeriesEntry, ...]:
        """Entries without."""
        return tuple(entry for entry in self.entries if entry.result is None)

    @property
    def by_epoch(self) -> bool:
        """Whether every result states its epoch; else the checkpoints have only an order."""
        return not any(math.isnan(entry.epoch) for entry in self.done)

    def summary(self) -> dict[str, str]:
        """How many results there are, and the first and the last of them."""
        facts = {"checkpoints": f"{len(self.done)} of {self.total} done"}
        for entry in self.done[:: max(1, len(self.done) - 1)]:
            counts = (
                f"{name} {count['estimate']:,}{'' if count.get('usable', True) else '?'}"
                for name in ("index", "degeneracy")
                if (count := (entry.result or {}).get(name))
            )
            facts[entry.checkpoint] = ", ".join((f"loss {entry.number('loss'):.6g}", *counts))
        return {**facts, **self.written()}

    def draw(self, room: ModuleType) -> Any:
        """The series by epoch; None where it is not complete."""
        return room.figures.draw("series", self) if self.done and not self.interrupted else None

    def to_dataframe(self) -> pd.DataFrame:
        """One row for each checkpoint, as ``hs.tables.series_table`` gives them."""
        return drawing().tables.series_table(self)

    def as_list(self) -> list[dict[str, Any]]:
        """The JSON array of ``hessscope spectrum --json``."""
        return [entry.as_dict() for entry in self.entries]

    def to_record(self) -> Record:
        """One record: a column for every quantity, and the arrays of every result."""
        done = self.done
        arrays: dict[str, np.ndarray] = {
            name: np.array([entry.number(name) for entry in done]) for name in _NUMBERS
        }
        for name in _COUNTS:
            for part, suffix in (("lower", "_lower"), ("estimate", ""), ("upper", "_upper")):
                counts = [(entry.result or {}).get(name) or {} for entry in done]
                column = [float(count.get(part, math.nan)) for count in counts]
                arrays[name + suffix] = np.array(column)
        for number, entry in enumerate(done):
            for name, array in entry.arrays.items():
                arrays[f"results/{number:04d}/{name}"] = array
        attributes = {
            "checkpoints": [entry.checkpoint for entry in done],
            "runs": [entry.run for entry in done],
            "job_keys": [entry.key for entry in done],
            "results_json": [json.dumps(entry.result, ensure_ascii=False) for entry in done],
            "failed": [entry.checkpoint for entry in self.failed],
            "errors": [entry.error or "" for entry in self.failed],
            "total": self.total,
            "notes": [] if self.by_epoch else [WITHOUT_EPOCHS],
            "provenance": records.provenance(),
        }
        return Record(KIND, arrays, attributes)


def entries_in(record: Record) -> list[SeriesEntry]:
    """The results that a record of a series holds."""
    said = record.attributes
    found = []
    for number, (checkpoint, run, key, text) in enumerate(
        zip(said["checkpoints"], said["runs"], said["job_keys"], said["results_json"], strict=True)
    ):
        prefix = f"results/{number:04d}/"
        arrays = {
            name.removeprefix(prefix): array
            for name, array in record.arrays.items()
            if name.startswith(prefix)
        }
        epoch = float(record.arrays["epoch"][number])
        found.append(SeriesEntry(checkpoint, run, epoch, key, json.loads(text), arrays))
    return found
