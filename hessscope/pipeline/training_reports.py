"""Results of ``hessscope train``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hessscope.options.fields import plain
from hessscope.records import Summarised
from hessscope.training import STATUSES, History

FAILED = "failed"
_FINISHED = ("max_epochs", "settled", "no_decrease")
_MEASURED = ("loss", "accuracy", "test_loss", "test_accuracy", "gradient_norm", "gTg", "gTHg")


@dataclass(frozen=True)
class TrialReport:
    """One trained network.

    Attributes:
        trial: its number, from 1.
        status: one of ``STATUSES``, or "failed".
        history: every epoch; empty where it failed before the first.
        measured: loss, accuracy and so on at the end, with ‖g‖, gᵀg and gᵀHg over all examples.
        checkpoint: the last one.
        record: the log.
        error: why it failed.
    """

    trial: int
    status: str
    history: History
    measured: Mapping[str, float]
    checkpoint: Path | None = None
    record: Path | None = None
    error: str | None = None

    @property
    def finished(self) -> bool:
        """It ended as it was asked to."""
        return self.status in _FINISHED

    @property
    def reason(self) -> str:
        """The status in words."""
        return self.error or STATUSES.get(self.status, self.status)

    def as_dict(self) -> dict[str, Any]:
        """The object of one trial in the JSON of ``hessscope train``."""
        last = self.history.epochs[-1] if self.history.epochs else None
        return {
            "trial": self.trial,
            "status": self.status,
            "reason": self.reason,
            "epochs": last.epoch if last else 0,
            "steps": last.step if last else 0,
            **{name: plain(self.measured.get(name, math.nan)) for name in _MEASURED},
            "seconds": last.seconds if last else 0.0,
            "checkpoint": None if self.checkpoint is None else str(self.checkpoint),
            "record": None if self.record is None else str(self.record),
        }


@dataclass(frozen=True, repr=False)
class TrainingReport(Summarised):
    """The result of ``hessscope train``.

    Attributes:
        folder: where the runs are.
        trials: one entry for each network.
        facts: network, data, loss and options, as plain values.
        notes: what was found, assumed or done.
        warnings: texts of the warnings given.
    """

    folder: Path
    trials: tuple[TrialReport, ...]
    facts: Mapping[str, Any]
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def __fspath__(self) -> str:
        """The folder, so that this stands for it wherever runs are read from one."""
        return str(self.folder)

    @property
    def files(self) -> dict[str, Path]:
        """What was written, as the command line names it."""
        return {"checkpoints": self.folder}

    @property
    def interrupted(self) -> bool:
        """Ctrl-C ended it."""
        return any(trial.status == "interrupted" for trial in self.trials)

    def summary(self) -> dict[str, str]:
        """Where the runs are, how each ended, and its loss."""
        return {
            "folder": str(self.folder),
            "trials": f"{sum(t.finished for t in self.trials)} of {len(self.trials)} finished",
            **{
                f"trial {trial.trial}": f"{trial.status}, loss {trial.measured['loss']:.6g}"
                if "loss" in trial.measured
                else trial.reason
                for trial in self.trials[:8]
            },
        }

    def statistics(self) -> dict[str, dict[str, float]]:
        """Mean and standard deviation over the trials that finished; none for fewer than two."""
        done = [trial.measured for trial in self.trials if trial.finished]
        found = {}
        for name in _MEASURED[:5]:
            values = np.array([m[name] for m in done if math.isfinite(m.get(name, math.nan))])
            if len(values) > 1:
                mean, deviation = float(values.mean()), float(values.std(ddof=1))
                found[name] = {"mean": mean, "std": deviation, "trials": len(values)}
        return found

    def as_dict(self) -> dict[str, Any]:
        """The JSON object of ``hessscope train``."""
        return {
            "folder": str(self.folder),
            **self.facts,
            "trials": [trial.as_dict() for trial in self.trials],
            "summary": self.statistics(),
            "notes": list(self.notes),
            "warnings": list(self.warnings),
        }
