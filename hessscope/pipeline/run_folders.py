"""Folders of training runs: what is in them, how they are written, and what is reported."""

from __future__ import annotations

import csv
import io
import math
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hessscope import records
from hessscope.errors import OutputExistsError, RecordError
from hessscope.options.fields import plain
from hessscope.options.train import TrainOptions
from hessscope.records import Record, Store, Summarised
from hessscope.training import STATUSES, History, TrainingState
from hessscope.training.files import checkpoint_name, checkpoints_in, read_state, state_bytes
from hessscope.training.loop import INTERRUPTED

_LOG = "training"
_TRIAL = re.compile(r"trial_\d+")


def trial_folder(options: TrainOptions, number: int) -> Path:
    """Where a trial's files go: in the folder itself where there is one trial only."""
    folder = Path(options.out)
    return folder / f"trial_{number + 1}" if options.trials > 1 else folder


def resumes(options: TrainOptions) -> bool:
    """Whether the run in the folder is resumed: as asked for, or since it ended too early."""
    logs = [trial_folder(options, number) / f"{_LOG}.h5" for number in range(options.trials)]
    begun = any(log.is_file() for log in logs) and not options.overwrite
    return options.resume or (begun and any(_status(log) in (None, INTERRUPTED) for log in logs))


def check_folder(options: TrainOptions, inputs: Iterable[tuple[Any, str]]) -> None:
    """Refuse a folder that cannot be written, or that holds a run that is to be kept.

    Args:
        options: of the run.
        inputs: what is read, with what to call it, and so may not be replaced.

    Raises:
        OutputExistsError: there is a run in it.
        OptionError: an input is a part of the run that would be replaced.
        RecordError: it cannot be made or written.
    """
    folder = Path(options.out)
    if folder.exists() and not folder.is_dir():
        raise RecordError(f"cannot write in {folder}: it is a file; name a folder")
    above = next(p for p in (folder.absolute(), *folder.absolute().parents) if p.exists())
    if not os.access(above, os.W_OK | os.X_OK):
        raise RecordError(f"cannot write in {above}: permission denied; give another `out`")
    files = _files_of_run(folder)
    if files and not (options.overwrite or resumes(options)):
        count = sum(path.suffix == ".pt" for path in files)
        raise OutputExistsError(
            f"{folder} holds a finished training run ({count} checkpoints): give `resume=True` to "
            "train on, `overwrite=True` to replace it, or another `out`"
        )
    if options.overwrite:
        records.check_distinct(files, inputs)


def _status(record: Path) -> str | None:
    """Why a trial ended; None where it did not, or its record cannot be read."""
    try:
        return records.load_record(record, arrays=()).attributes.get("status")
    except RecordError:
        return None


def clear_folder(folder: Path) -> None:
    """Remove the files of a former run, and nothing else."""
    for path in _files_of_run(folder):
        path.unlink()
    for path in _trials_in(folder):
        if not any(path.iterdir()):
            path.rmdir()


def _trials_in(folder: Path) -> list[Path]:
    return [p for p in folder.glob("trial_*") if _TRIAL.fullmatch(p.name) and p.is_dir()]


def _files_of_run(folder: Path) -> list[Path]:
    found: list[Path] = []
    for place in (folder, *_trials_in(folder)):
        found += checkpoints_in(place)
        found += [p for p in (place / f"{_LOG}.h5", place / f"{_LOG}.csv") if p.is_file()]
    return found


@dataclass(frozen=True)
class TrialFolder:
    """Checkpoints and log of one trial, written as it proceeds.

    Attributes:
        folder: where to; made when the first file is written.
        setting: what every checkpoint states about the run.
        attributes: what the record states beside the history.
        make_room: called before the first file is written.
    """

    folder: Path
    setting: Mapping[str, Any]
    attributes: Mapping[str, Any]
    make_room: Callable[[], None]

    @property
    def record(self) -> Path:
        """The log."""
        return self.folder / f"{_LOG}.h5"

    def save(self, state: TrainingState) -> None:
        """Write a checkpoint, and before it the log, which is never behind the checkpoints."""
        self._write_log(state.history, {})
        Store(self.folder).put(checkpoint_name(state.epoch), state_bytes(state, self.setting))

    def finish(self, state: TrainingState, outcome: Mapping[str, Any]) -> Path:
        """Write the last epoch, where it is not there yet, and the log with the outcome."""
        path = self.folder / checkpoint_name(state.epoch)
        if not path.is_file():
            self.save(state)
        self._write_log(state.history, outcome)
        return path

    def last_state(self) -> TrainingState | None:
        """Where the run in the folder stands; None where there is no checkpoint.

        Raises:
            OptionError: the run was made with other options; the number of epochs and the stop
                tolerance may differ.
            RecordError, CheckpointError: its files cannot be read.
        """
        paths = checkpoints_in(self.folder)
        if not paths:
            return None
        history = History.from_arrays(records.load_record(self.record).arrays)
        state, stored = read_state(paths[-1], history)
        records.check_same(paths[-1], _comparable(stored), _comparable(self.setting))
        if state.history.last.epoch != state.epoch:
            raise RecordError(f"{self.record} does not reach epoch {state.epoch} of {paths[-1]}")
        return state

    def _write_log(self, history: History, outcome: Mapping[str, Any]) -> None:
        self.make_room()
        attributes = {**self.attributes, **outcome, "provenance": records.provenance()}
        Store(self.folder).put(_LOG, Record("training", history.arrays(), attributes))
        columns = history.columns()
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerow(columns)
        table.writerows(zip(*(column.tolist() for column in columns.values()), strict=True))
        Store(self.folder).put(f"{_LOG}.csv", text.getvalue().encode())


def _comparable(setting: Mapping[str, Any]) -> dict[str, Any]:
    flat = {**setting, **setting.get("training", {})}
    free = ("training", "version", "root", "epochs", "stop_tolerance")
    return {name: value for name, value in flat.items() if name not in free}


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
        return {
            "trial": self.trial,
            "status": self.status,
            "reason": self.reason,
            "epochs": self.measured.get("epoch", 0),
            "steps": self.measured.get("step", 0),
            **{name: plain(self.measured.get(name, math.nan)) for name in _MEASURED},
            "seconds": self.measured.get("seconds", 0.0),
            "checkpoint": plain(self.checkpoint),
            "record": plain(self.record),
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
