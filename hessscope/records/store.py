"""Stores: folders with the states and results of work that can be resumed."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from hessscope.errors import HessscopeWarning, OptionError, RecordError
from hessscope.progress import Note
from hessscope.records import seals
from hessscope.records.outputs import write_atomically
from hessscope.records.record import Record, load_record, write_record

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

State = Mapping[str, np.ndarray]
Content = Record | State | bytes

#: Saving takes at most this part of the time where no interval is given.
_SHARE = 0.05


class Store:
    """A folder of one job, in which named contents are replaced in a single move each.

    Whoever makes it names the folder by ``job_key``, so that only the same job finds it. Records
    and states carry a checksum: a damaged one is set aside with a warning, and its work begins
    anew. Where a state cannot be saved (a full disk), one warning says so and the work continues.

    Args:
        folder: made when the first content is written; None saves nothing.
        every: seconds between two states; default as often as that takes a twentieth of the time.
    """

    def __init__(self, folder: Path | None = None, every: float | None = None) -> None:
        self.folder, self.every = folder, every
        self.stopping = False
        """Ctrl-C was pressed: save and stop after this step."""
        self._last, self._took = time.monotonic(), 0.0
        self._in_steps, self._failed = False, False
        self._noted: dict[str, Callable[[], Content]] = {}
        self._kept: dict[str, Callable[[], Content]] = {}

    def put(self, name: str, content: Content) -> Path:
        """Write a record as ``NAME.h5``, arrays as ``NAME.npz``, bytes as ``NAME``; give the path.

        Raises:
            RecordError: the disk is full or the folder cannot be written; what was there stays.
        """
        assert self.folder is not None
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RecordError(
                f"cannot make the folder {self.folder}: {error.strerror or error}; give another "
                "`out`"
            ) from error
        if isinstance(content, Record):
            path = self.folder / f"{name}.h5"
            write_record(content, path, overwrite=True)
        elif isinstance(content, bytes):
            path = self.folder / name
            write_atomically(path, content, overwrite=True)
        else:
            path, arrays = self.folder / f"{name}.npz", content
            write_atomically(path, lambda stream: _write_arrays(stream, arrays), overwrite=True)
        return path

    def record(self, name: str, arrays: Collection[str] | None = None) -> Record | None:
        """A record; None where there is none that can be read.

        Args:
            name: as it was put.
            arrays: read only these; default all.
        """
        return self._read(f"{name}.h5", lambda path: load_record(path, arrays))

    def load(self, name: str) -> State | None:
        """Arrays; None where there are none that can be read."""
        return self._read(f"{name}.npz", _read_arrays)

    def offer(self, name: str, state: Callable[[], Content], *, last: bool = False) -> None:
        """Save a state if it is time to, or after Ctrl-C; ``state`` is called only then.

        Args:
            name: of the stage, fit for a file name.
            state: gives the content from which the stage resumes.
            last: the stage is finished: Ctrl-C need not wait for another step.

        Raises:
            KeyboardInterrupt: Ctrl-C was pressed since the last step; the state is saved.
        """
        self._in_steps = not last
        if self.stopping or self.due:
            self._kept[name] = state
            self.flush()
        if self.stopping:
            raise KeyboardInterrupt

    @contextlib.contextmanager
    def large_file(self, name: str, elsewhere: Path) -> Iterator[BinaryIO]:
        """A file for what is too large for the memory, to read and write while the block runs.

        It is in the folder, where states of the same name rest on it: after an exception it stays
        if there is such a state. Without a folder no other process sees it, and whatever ends this
        one removes it.

        Args:
            name: of the states that rest on it.
            elsewhere: the folder to take where nothing is saved.

        Raises:
            RecordError: the folder cannot be written.
        """
        try:
            if self.folder is None:
                path = None
                stream: Any = tempfile.TemporaryFile(dir=elsewhere, buffering=0)  # noqa: SIM115
            else:
                self.folder.mkdir(parents=True, exist_ok=True)
                path = self.folder / f"{name}.rows"
                stream = path.open("r+b" if path.exists() else "w+b", buffering=0)
        except OSError as error:
            raise RecordError(
                f"cannot write in {self.folder or elsewhere}: {error.strerror or error}"
            ) from error
        finished = False
        try:
            with stream:
                yield stream
            finished = True
        finally:
            if path is not None and (finished or not path.with_suffix(".npz").exists()):
                path.unlink(missing_ok=True)

    def note(self, name: str, content: Callable[[], Content]) -> None:
        """Save what a resumed run must repeat, before the first state and not without one."""
        self._noted[name] = content

    def keep(self, name: str, content: Callable[[], Content]) -> None:
        """Save an outcome together with the next state, or at once if it is time to."""
        if self.folder is not None:
            self._kept[name] = content
        if self.due:
            self.flush()

    @property
    def due(self) -> bool:
        """Whether it is time to save a state."""
        interval = self._took / _SHARE if self.every is None else self.every
        return self.folder is not None and time.monotonic() - self._last >= interval

    def flush(self) -> None:
        """Save what is kept; a failure is a warning, given once."""
        began = time.monotonic()
        if not self._kept or self.folder is None:
            return
        kept, self._noted, self._kept = {**self._noted, **self._kept}, {}, {}
        for name, content in kept.items():
            try:
                self.put(name, content())
            except (OSError, RecordError) as error:
                if not self._failed:
                    warnings.warn(
                        f"the state of the work is not saved in {self.folder} ({error}): it "
                        "continues, and tries again later",
                        HessscopeWarning,
                        stacklevel=3,
                    )
                self._failed = True
        self._last = time.monotonic()
        self._took = self._last - began

    @contextlib.contextmanager
    def interrupts(self, on_note: Note, *, waits: bool = False) -> Iterator[None]:
        """Let Ctrl-C wait for the end of a step; a second one stops at once.

        Args:
            on_note: called with the note that it waits.
            waits: from the first step on, also where nothing is saved; default from the first
                ``offer`` on.
        """
        nothing = self.folder is None and not waits
        if nothing or threading.current_thread() is not threading.main_thread():
            yield
            return

        def handler(number: int, frame: Any) -> None:
            if self.stopping or not self._in_steps:
                raise KeyboardInterrupt
            self.stopping = True
            on_note("stopping after this step; press Ctrl-C again to abandon it")

        self._in_steps = waits
        before = signal.signal(signal.SIGINT, handler)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from the same job.

        Raises:
            RecordError: one is at work on it.
        """
        if self.folder is None:
            yield
            return
        with contextlib.suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True)
        try:
            with lock(self.folder / ".lock"):
                yield
        finally:
            with contextlib.suppress(OSError):
                self.folder.rmdir()  # where nothing was saved

    @property
    def holds_anything(self) -> bool:
        """Whether something was saved."""
        return self.folder is not None and any(self.folder.glob("[!.]*"))

    def set_aside(self, reason: object, name: str = "") -> None:
        """Move one damaged content, or all there is, out of the way, with a warning."""
        assert self.folder is not None
        path = self.folder / name
        aside = path.with_name(f"{path.name}.damaged")
        with contextlib.suppress(OSError):
            if aside.is_dir():
                shutil.rmtree(aside)
            path.replace(aside)
        warnings.warn(
            f"the saved state {path} cannot be used ({reason}): it is set aside as {aside.name}, "
            "and its work begins anew",
            HessscopeWarning,
            stacklevel=2,
        )

    def clear(self) -> None:
        """Remove the folder: the work is done and its result is written."""
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _read(self, name: str, read: Callable[[Path], Any]) -> Any:
        path = None if self.folder is None else self.folder / name
        if path is None or not path.is_file():
            return None
        try:
            return read(path)
        except Exception as error:  # whatever a damaged file makes of itself
            self.set_aside(error, name)
            return None


def scratch_folder() -> Path:
    """Where large files go that are not to stay: TMPDIR, else /var/tmp.

    /tmp is memory on many systems.
    """
    for folder in (os.environ.get("TMPDIR"), "/var/tmp"):
        if folder and os.access(folder, os.W_OK | os.X_OK):
            return Path(folder)
    return Path(tempfile.gettempdir())


@contextlib.contextmanager
def lock(path: Path) -> Iterator[None]:
    """Hold a lock file while the block runs; it is free again when the process ends, or dies.

    Where the file system has no locks, nothing is locked.

    Raises:
        RecordError: another process holds it.
    """
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            stream = stack.enter_context(path.open("a"))
            try:
                if fcntl is not None:
                    fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise RecordError(
                    f"another process is at work on this ({path.parent}): wait until it has ended, "
                    "or stop it"
                ) from error
            stack.callback(path.unlink, missing_ok=True)
        yield


def check_same(what: object, stored: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Make sure that work is resumed with the options that it began with.

    Raises:
        OptionError: it is not; with what differs.
    """
    if different := differences(stored, wanted):
        name, theirs, mine = different[0]
        more = f" (and {len(different) - 1} more differences)" if different[1:] else ""
        raise OptionError(
            f"{what} was made with {name} {theirs}, and now it is {mine}{more}: give the options "
            "that it began with, `overwrite=True`, or another `out`"
        )


def differences(stored: Any, wanted: Any, name: str = "") -> list[tuple[str, str, str]]:
    """Where two nested mappings differ: dotted name, stored and wanted value, in a few words."""
    if isinstance(stored, Mapping) and isinstance(wanted, Mapping):
        return [
            found
            for key in sorted({*stored, *wanted})
            for found in differences(
                stored.get(key), wanted.get(key), f"{name}.{key}" if name else key
            )
        ]
    return [] if stored == wanted else [(name, _short(stored), _short(wanted))]


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


def _write_arrays(stream: BinaryIO, arrays: State) -> None:
    """As a sealed .npz file; streamed, since a matrix would not fit a second time."""
    stream.write(bytes(seals.SIZE))
    np.savez(stream, **arrays)  # type: ignore[arg-type]
    seals.seal(stream)


def _read_arrays(path: Path) -> State:
    with path.open("rb") as stream:
        if not seals.is_whole(stream):
            raise RecordError("its content does not match its checksum")
        stream.seek(seals.SIZE)
        with np.load(stream, allow_pickle=False) as arrays:
            return {key: arrays[key] for key in arrays.files}
