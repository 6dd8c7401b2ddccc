"""States of long work on disk, so that a run that was killed goes on from there."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from hessscope.errors import RecordError

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

    def load(self, name: str) -> State | None:
        """The last state of a stage; None where there is none."""
        ...


class Unsaved:
    """For work that leaves nothing behind."""

    def offer(self, name: str, state: Callable[[], State], *, last: bool = False) -> None:
        """Store nothing."""

    def load(self, name: str) -> None:
        """There is nothing."""


class SavepointFolder:
    """States as files in a folder, each replaced by a later one in a single move.

    The folder belongs to one job: whoever makes it names it by what decides the result, so that
    only the same job finds it.

    Args:
        folder: comes into being with the first state.
        every: seconds between two states.
    """

    def __init__(self, folder: Path, every: float) -> None:
        self.folder, self.every = folder, every
        self._last = time.monotonic()
        self._in_steps, self._interrupted = False, False
        self._facts: dict[str, Callable[[], Mapping[str, Any]]] = {}

    def offer(self, name: str, state: Callable[[], State], *, last: bool = False) -> None:
        """Store the state if the last one is ``every`` seconds old, or after Ctrl-C.

        Raises:
            RecordError: the disk is full or the folder cannot be written; earlier states stay.
            KeyboardInterrupt: Ctrl-C was pressed since the last step; the state is stored.
        """
        self._in_steps = not last
        if self._interrupted or time.monotonic() - self._last >= self.every:
            self._write_facts()
            self._write(f"{name}.npz", lambda path: np.savez(path, **state()))  # type: ignore[arg-type]
            self._last = time.monotonic()
        if self._interrupted:
            raise KeyboardInterrupt

    @contextlib.contextmanager
    def interrupts(self, told: Callable[[str], None]) -> Iterator[None]:
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
        """The last state of a stage; None where there is none that can be read."""
        path = self.folder / f"{name}.npz"
        try:
            with np.load(path, allow_pickle=False) as arrays:
                return {key: arrays[key] for key in arrays.files}
        except (OSError, ValueError, EOFError, zipfile.BadZipFile):
            return None

    def note(self, name: str, facts: Callable[[], Mapping[str, Any]]) -> None:
        """Store decisions that a resumed run must repeat, with the first state that is stored."""
        self._facts[name] = facts

    def noted(self, name: str) -> dict[str, Any] | None:
        """The decisions that were stored; None where there are none."""
        try:
            found = json.loads((self.folder / f"{name}.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) else None

    def _write_facts(self) -> None:
        while self._facts:
            name, facts = self._facts.popitem()
            text = json.dumps(facts(), indent=1)
            self._write(f"{name}.json", partial(Path.write_text, data=text, encoding="utf-8"))

    def _write(self, name: str, write: Callable[[Path], Any]) -> None:
        temporary: Path | None = None
        try:
            self.folder.mkdir(exist_ok=True)
            with tempfile.NamedTemporaryFile(
                dir=self.folder, suffix=Path(name).suffix, delete=False
            ) as stream:
                temporary = Path(stream.name)
            write(temporary)
            temporary.replace(self.folder / name)
        except OSError as error:
            raise RecordError(
                f"cannot save the state of the run in {self.folder} ({error.strerror or error}): "
                "free space, or leave it out with --save-every 0"
            ) from error
        finally:
            if temporary is not None:
                with contextlib.suppress(OSError):
                    temporary.unlink(missing_ok=True)

    def clear(self) -> None:
        """Remove the folder: the work is done and its result is written."""
        shutil.rmtree(self.folder, ignore_errors=True)
