"""Progress and notes: how long work reports, without knowing who listens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeAlias

#: Called with each note as soon as it is known.
Note: TypeAlias = "Callable[[str], object]"


class Progress(Protocol):
    """Called as work proceeds: ``progress("assembly", 128, 12730)`` (stage, done, total).

    The first call of a stage has ``done = 0``; ``total`` of 0 means unknown. The unit is the
    stage's own (columns, steps, bytes).
    """

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Note that ``done`` of ``total`` units of ``stage`` are finished."""
        ...


def silent(stage: str, done: int, total: int) -> None:
    """Report to nobody."""


def ignore(told: object) -> None:
    """Tell nobody."""
