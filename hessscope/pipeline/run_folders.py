"""The folder of a training run: what is in it, and how it is written."""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from hessscope import records
from hessscope.errors import OptionError, OutputExistsError, RecordError
from hessscope.records import Record
from hessscope.training import History, TrainingState
from hessscope.training.files import checkpoint_path, checkpoints_in, read_state, state_bytes
from hessscope.training.loop import INTERRUPTED

RECORD, TABLE = "training.h5", "training.csv"
_TRIAL = re.compile(r"trial_(\d+)")


def trial_folder(folder: Path, trial: int, trials: int) -> Path:
    """Where a trial's files go: in the folder itself where there is one trial only."""
    return folder / f"trial_{trial + 1}" if trials > 1 else folder


def check_folder(
    folder: Path, *, overwrite: bool, resume: bool, inputs: Iterable[tuple[Any, str]] = ()
) -> None:
    """Refuse a folder that cannot be written, or that holds a run that is to be kept.

    Args:
        folder: where the run is to be written.
        overwrite: a run in it may be replaced.
        resume: a run in it goes on.
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
        raise RecordError(f"cannot write in {above}: permission denied; give another --out")
    files = _files_of_run(folder)
    if files and not (overwrite or resume):
        count = sum(path.suffix == ".pt" for path in files)
        raise OutputExistsError(
            f"{folder} holds a finished training run ({count} checkpoints): give --resume to train "
            "on, --overwrite to replace it, or another --out"
        )
    if overwrite:
        records.check_distinct(files, inputs)


def is_unfinished(folder: Path, trials: int) -> bool:
    """Whether the folder holds a run of so many trials that was interrupted or killed."""
    found = [trial_folder(folder, number, trials) / RECORD for number in range(trials)]
    if not any(path.is_file() for path in found):
        return False
    return any(_status(path) in (None, INTERRUPTED) for path in found)


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
    for path in folder.glob("trial_*"):
        if _TRIAL.fullmatch(path.name) and path.is_dir() and not any(path.iterdir()):
            path.rmdir()


def _files_of_run(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    trials = [p for p in folder.iterdir() if _TRIAL.fullmatch(p.name) and p.is_dir()]
    found: list[Path] = []
    for place in (folder, *trials):
        found += checkpoints_in(place)
        found += [place / name for name in (RECORD, TABLE) if (place / name).is_file()]
    return found


class RunWriter:
    """Writes checkpoints and log of one trial as it goes on.

    Args:
        folder: where to; made if need be.
        setting: what every checkpoint states about the run.
        every: epochs from one checkpoint to the next; the first and the last are written always.
        attributes: what the record says beside the history.
        make_room: called before the first file is written.
    """

    def __init__(
        self,
        folder: Path,
        setting: Mapping[str, Any],
        every: int,
        attributes: Mapping[str, Any],
        make_room: Callable[[], None],
    ) -> None:
        self.folder, self._setting, self._every = folder, setting, every
        self._attributes, self._make_room = attributes, make_room
        self._last: TrainingState | None = None

    @property
    def record(self) -> Path:
        """The log of the run."""
        return self.folder / RECORD

    def due(self, state: TrainingState) -> bool:
        """Whether a checkpoint is to be written at the end of this epoch."""
        return state.epoch % self._every == 0

    def save(self, state: TrainingState) -> Path:
        """Write a checkpoint, and before it the log, which is never behind the checkpoints."""
        self._write_log(state.history, {})
        path = checkpoint_path(self.folder, state.epoch)
        records.write_atomically(path, state_bytes(state, self._setting), overwrite=True)
        self._last = state
        return path

    def finish(self, state: TrainingState, outcome: Mapping[str, Any]) -> Path:
        """Write the last epoch, where it is not there yet, and the log with the outcome."""
        path = checkpoint_path(self.folder, state.epoch)
        if self._last is not state and not path.is_file():
            self.save(state)
        self._write_log(state.history, outcome)
        return path

    def _write_log(self, history: History, outcome: Mapping[str, Any]) -> None:
        self._make_room()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            reason = f"{error.strerror or error}; give another --out"
            raise RecordError(f"cannot make the folder {self.folder}: {reason}") from error
        attributes = {**self._attributes, **outcome, "provenance": records.provenance()}
        record = Record("training", history.arrays(), attributes)
        records.write_record(record, self.record, overwrite=True)
        columns = history.columns()
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerow(columns)
        table.writerows(zip(*(column.tolist() for column in columns.values()), strict=True))
        records.write_atomically(self.folder / TABLE, text.getvalue().encode(), overwrite=True)


def last_state(folder: Path, setting: Mapping[str, Any]) -> TrainingState | None:
    """Where the run in a folder stands; None where there is no checkpoint.

    Args:
        folder: of one trial.
        setting: what the run's checkpoints have to state, that it may go on; the number of epochs
            and the stop tolerance may differ.

    Raises:
        OptionError: the run was made with other options.
        RecordError, CheckpointError: its files cannot be read.
    """
    paths = checkpoints_in(folder)
    if not paths:
        return None
    history = History.from_arrays(records.load_record(folder / RECORD).arrays)
    state, stored = read_state(paths[-1], history)
    mine, theirs = _comparable(setting), _comparable(stored)
    for name in sorted({*mine, *theirs}):
        if mine.get(name) != theirs.get(name):
            raise OptionError(
                f"{paths[-1]} was made with {name} {theirs.get(name)}, and now it is "
                f"{mine.get(name)}: give the options that the run began with, --overwrite, or "
                "another --out"
            )
    if state.history.last.epoch != state.epoch:
        raise RecordError(f"{folder / RECORD} does not reach epoch {state.epoch} of {paths[-1]}")
    return state


def _comparable(setting: Mapping[str, Any]) -> dict[str, Any]:
    flat = {**setting, **setting.get("training", {})}
    free = ("training", "version", "root", "epochs", "stop_tolerance")
    return {name: value for name, value in flat.items() if name not in free}
