"""States of long work on disk, so that a run that was killed resumes from there."""

from __future__ import annotations

import contextlib
import shutil
import signal
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from hessscope.errors import HessscopeWarning, RecordError
from hessscope.records import seals
from hessscope.records.record import Record, load_record, write_record

State = Mapping[str, np.ndarray]


class Savepoint(Protocol):
    """Where work leaves its state from time to time."""

    def offer(self, name: str, state: Callable[[], State], *, last: bool = False) -> None:
        """Store the state of a stage if the last one is old enough; ``state`` is asked only then.

        Args:
            name: of the stage, fit for a file name.
            state: gives arrays from which the stage can go on.
            last: the stage is finished: no Ctrl-C need wait for another step.
        """
        ...

    def keep(self, name: str, state: Callable[[], State]) -> None:
        """Store the outcome of a finished stage together with the next state that is stored.

        Args:
            name: of the stage, whose state it replaces.
            state: gives the outcome as arrays; what it holds stays in memory until then.
        """
        ...

    def load(self, name: str) -> State | None:
        """The last state or the outcome of a stage; None where there is none."""
        ...


class Unsaved:
    """For work that leaves nothing behind."""

    def offer(self, name: str, state: Callable[[], State], *, last: bool = False) -> None:
        """Store nothing."""

    def keep(self, name: str, state: Callable[[], State]) -> None:
        """Store nothing."""

    def load(self, name: str) -> None:
        """There is nothing."""


class SavepointFolder:
    """States as files in a folder, each replaced by a later one in a single move.

    The folder belongs to one job: whoever makes it names it by what decides the result, so that
    only the same job finds it. Each file carries a checksum. A damaged one is set aside with a
    warning, and its stage begins anew. A full disk is a warning, too: the work continues, and the
    next state is tried.

    Args:
        folder: comes into being with the first state.
        every: seconds between two states.
    """

    def __init__(self, folder: Path, every: float) -> None:
        self.folder, self.every = folder, every
        self._last = time.monotonic()
        self._in_steps, self._interrupted, self._failed = False, False, False
        self._noted: dict[str, Callable[[], Record]] = {}
        self._kept: dict[str, Callable[[], State | Record]] = {}

    def offer(self, name: str, state: Callable[[], State], *, last: bool = False) -> None:
        """Store the state if the last one is ``every`` seconds old, or after Ctrl-C.

        Raises:
            KeyboardInterrupt: Ctrl-C was pressed since the last step; the state is stored.
        """
        self._in_steps = not last
        if self._interrupted or self._due:
            self._kept[name] = state
            self.flush()
        if self._interrupted:
            raise KeyboardInterrupt

    def note(self, name: str, record: Callable[[], Record]) -> None:
        """Store decisions that a resumed run must repeat before the first state; see ``recall``."""
        self._noted[name] = record

    def keep(self, name: str, state: Callable[[], State | Record]) -> None:
        """Store an outcome together with the next state, at once if the last one is old enough.

        Records come back by ``recall``, arrays by ``load``.
        """
        self._kept[name] = state
        if self._due:
            self.flush()

    @property
    def _due(self) -> bool:
        return time.monotonic() - self._last >= self.every

    def flush(self) -> None:
        """Store now what is kept, if anything is."""
        if self._kept:
            waiting = {**self._noted, **self._kept}
            self._noted, self._kept = {}, {}
            for name, state in waiting.items():
                self._try(name, state)
            self._last = time.monotonic()

    @contextlib.contextmanager
    def interrupts(self, told: Callable[[str], object]) -> Iterator[None]:
        """Let Ctrl-C wait for the end of a step, so that its state is stored; a second one stops
        at once.

        Args:
            told: of the wait.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def handler(number: int, frame: Any) -> None:
            if self._interrupted or not self._in_steps:
                raise KeyboardInterrupt
            self._interrupted = True
            told("stopping after this step, to save its state; Ctrl-C again stops at once")

        before = signal.signal(signal.SIGINT, handler)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def load(self, name: str) -> State | None:
        """The last state or the outcome of a stage; None where there is none that can be read."""
        return self._read(f"{name}.npz", _arrays_in)

    def recall(self, name: str) -> Record | None:
        """A record that was kept; None where there is none that can be read."""
        return self._read(f"{name}.h5", load_record)

    def clear(self) -> None:
        """Remove the folder: the work is done and its result is written."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _read(self, name: str, read: Callable[[Path], Any]) -> Any:
        path = self.folder / name
        if not path.is_file():
            return None
        try:
            return read(path)
        except FileNotFoundError:  # the same job, run twice at once, has come to its end
            return None
        except Exception as error:  # whatever a damaged file makes of itself
            set_aside(path, error)
            return None

    def _try(self, name: str, state: Callable[[], State | Record]) -> None:
        """Write a file; what cannot be written is said once, and costs nothing else."""
        try:
            content = state()
            self.folder.mkdir(exist_ok=True)
            if isinstance(content, Record):
                write_record(content, self.folder / f"{name}.h5", overwrite=True)
            else:
                _write_arrays(content, self.folder / f"{name}.npz")
        except (OSError, RecordError) as error:
            if not self._failed:
                reason = getattr(error, "strerror", None) or error
                warnings.warn(
                    f"the state of the run is not saved in {self.folder} ({reason}): it continues, "
                    "and tries again later",
                    HessscopeWarning,
                    stacklevel=3,
                )
            self._failed = True


def set_aside(path: Path, reason: object) -> None:
    """Move a damaged state, a file or a whole folder, out of the way, with a warning."""
    aside = path.with_name(f"{path.name}.damaged")
    with contextlib.suppress(OSError):
        if aside.is_dir():
            shutil.rmtree(aside)
        path.replace(aside)
    warnings.warn(
        f"the saved state {path} cannot be used ({reason}): it is set aside as {aside.name}, and "
        "its work begins anew",
        HessscopeWarning,
        stacklevel=2,
    )


def _write_arrays(arrays: State, path: Path) -> None:
    """As a sealed .npz file; streamed, since a matrix would not fit a second time."""
    temporary: Path | None = None
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=path.suffix, delete=False) as file:
            temporary = Path(file.name)
            file.write(bytes(seals.SIZE))
            np.savez(file, **arrays)  # type: ignore[arg-type]
            seals.seal(file)  # type: ignore[arg-type]
        temporary.replace(path)
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)


def _arrays_in(path: Path) -> State:
    with path.open("rb") as stream:
        if not seals.is_whole(stream):
            raise RecordError("its content does not match its checksum")
        stream.seek(seals.SIZE)
        with np.load(stream, allow_pickle=False) as arrays:
            return {key: arrays[key] for key in arrays.files}
