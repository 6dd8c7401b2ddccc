"""Ctrl-C as a request to stop at the next good place."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from hessscope.pipeline.notices import Tell


@contextmanager
def stop_requests(tell: Tell) -> Iterator[Callable[[], bool]]:
    """Give a function that says whether Ctrl-C was pressed; the second one interrupts as ever.

    Only in the main thread, where signals arrive, and only where Ctrl-C means what it does by
    default; elsewhere the function always says no.
    """
    asked = False
    usual: Any = signal.getsignal(signal.SIGINT)

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            usual(number, frame)
        asked = True
        tell("stopping after this step; Ctrl-C again gives the step up")

    ours = threading.current_thread() is threading.main_thread()
    ours = ours and usual is signal.default_int_handler
    if ours:
        signal.signal(signal.SIGINT, note)
    try:
        yield lambda: asked
    finally:
        if ours:
            signal.signal(signal.SIGINT, usual)
