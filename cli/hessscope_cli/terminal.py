"""What the terminal shows besides results: progress and warnings, on standard error."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from hessscope.errors import HessscopeWarning
from hessscope.progress import Progress as Report
from hessscope.progress import silent

STDERR = Console(stderr=True, highlight=False)


@contextmanager
def progress_bars(quiet: bool) -> Iterator[Report]:
    """Show every stage as a bar with the time left; nothing where nobody would see it."""
    if quiet or not STDERR.is_terminal:
        yield silent
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=28),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    tasks: dict[str, TaskID] = {}
    with Progress(*columns, console=STDERR, transient=True) as bars:

        def report(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total or None)
            bars.update(tasks[stage], completed=done, total=total or None)

        yield report


def show_warnings() -> None:
    """Print hessscope's warnings as one line each on standard error; others are not for users."""
    warnings.simplefilter("ignore")
    warnings.simplefilter("always", HessscopeWarning)
    warnings.showwarning = _show


def _show(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    STDERR.print(f"[yellow]warning:[/yellow] {_escaped(str(message))}", soft_wrap=True)


def show_error(message: str) -> None:
    """Print an error as one line on standard error."""
    one_line = " ".join(message.split())
    STDERR.print(f"[red]error:[/red] {_escaped(one_line)}", soft_wrap=True)


def note(message: str) -> None:
    """Print a remark on standard error."""
    STDERR.print(_escaped(message), style="dim", soft_wrap=True)


def _escaped(text: str) -> str:
    return text.replace("[", "\\[")
