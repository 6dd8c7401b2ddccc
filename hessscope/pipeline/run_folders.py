"""Folders of training runs: what is in them, how they are written, and where a run resumes."""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from hessscope import records
from hessscope.errors import OutputExistsError, RecordError
from hessscope.records import Record, Store
from hessscope.training import History, TrainingState
from hessscope.training.files import checkpoint_name, checkpoints_in, read_state, state_bytes
from hessscope.training.loop import INTERRUPTED

_LOG = "training"
_TRIAL = re.compile(r"trial_\d+")


def trial_folder(folder: Path, trial: int, trials: int) -> Path:
    """Where a trial's files go: in the folder itself where there is one trial only."""
    return folder / f"trial_{trial + 1}" if trials > 1 else folder


def check_folder(
    folder: Path, *, overwrite: bool, resume: bool, inputs: Iterable[tuple[Any, str]]
) -> None:
    """Refuse a folder that cannot be written, or that holds a run that is to be kept.

    Args:
        folder: where the run is to be written.
        overwrite: a run in it may be replaced.
        resume: a run in it is resumed.
        inputs: what is read, with what to call it, and so may not be replaced.

    Raises:
        OutputExistsError: there is a run in it.
        OptionError: an input is a part of the run that would be replaced.
        RecordError: it cannot be made or written.
    """
    if folder.exists() and not folder.is_dir():
        raise RecordError(f"cannot write in {folder}: it is a file; name a folder")
    above = next(p for p in (folder.absolute(), *folder.absolute().parents) if p.exists())
    if not os.access(above, os.W_OK | os.X_OK):
        raise RecordError(f"cannot write in {above}: permission denied; give another `out`")
    files = _files_of_run(folder)
    if files and not (overwrite or resume):
        count = sum(path.suffix == ".pt" for path in files)
        raise OutputExistsError(
            f"{folder} holds a finished training run ({count} checkpoints): give `resume=True` to "
            "train on, `overwrite=True` to replace it, or another `out`"
        )
    if overwrite:
        records.check_distinct(files, inputs)


def is_unfinished(folder: Path, trials: int) -> bool:
    """Whether the folder holds a run of so many trials that was interrupted or killed."""
    found = [trial_folder(folder, trial, trials) / f"{_LOG}.h5" for trial in range(trials)]
    known = any(path.is_file() for path in found)
    return known and any(_status(path) in (None, INTERRUPTED) for path in found)


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


class TrialFolder:
    """Checkpoints and log of one trial, written as it proceeds.

    Args:
        folder: where to; made when the first file is written.
        setting: what every checkpoint states about the run.
        attributes: what the record states beside the history.
        make_room: called before the first file is written.
    """

    def __init__(
        self,
        folder: Path,
        setting: Mapping[str, Any],
        attributes: Mapping[str, Any],
        make_room: Callable[[], None],
    ) -> None:
        self._store, self._setting = Store(folder), setting
        self._attributes, self._make_room = attributes, make_room
        self.folder, self.record = folder, folder / f"{_LOG}.h5"

    def save(self, state: TrainingState) -> None:
        """Write a checkpoint, and before it the log, which is never behind the checkpoints."""
        self._write_log(state.history, {})
        self._store.put(checkpoint_name(state.epoch), state_bytes(state, self._setting))

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
        records.check_same(paths[-1], _comparable(stored), _comparable(self._setting))
        if state.history.last.epoch != state.epoch:
            raise RecordError(f"{self.record} does not reach epoch {state.epoch} of {paths[-1]}")
        return state

    def _write_log(self, history: History, outcome: Mapping[str, Any]) -> None:
        self._make_room()
        attributes = {**self._attributes, **outcome, "provenance": records.provenance()}
        self._store.put(_LOG, Record("training", history.arrays(), attributes))
        columns = history.columns()
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerow(columns)
        table.writerows(zip(*(column.tolist() for column in columns.values()), strict=True))
        self._store.put(f"{_LOG}.csv", text.getvalue().encode())


def _comparable(setting: Mapping[str, Any]) -> dict[str, Any]:
    flat = {**setting, **setting.get("training", {})}
    free = ("training", "version", "root", "epochs", "stop_tolerance")
    return {name: value for name, value in flat.items() if name not in free}
