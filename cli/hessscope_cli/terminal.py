"""What the terminal shows: results on standard output, all else on standard error."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.segment import Segment
from rich.text import Text

from hessscope.errors import HessscopeWarning
from hessscope.progress import Progress as Report
from hessscope.progress import ignore, silent
from hessscope_cli.wording import in_flags

# Control characters but the line feed, and those that reverse the order of a line: in names and
# metadata of files they would be commands to the terminal.
_CONTROLS = dict.fromkeys(
    [*range(10), *range(11, 32), *range(127, 160), *range(0x202A, 0x202F), *range(0x2066, 0x206A)],
    "\N{REPLACEMENT CHARACTER}",
)


def printable(text: str) -> str:
    """Text without control characters."""
    return text.translate(_CONTROLS)


class _Console(Console):
    """A console that sends no control characters but its own."""

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            own = bool(segment.control)
            yield segment if own else Segment(printable(segment.text), segment.style)


STDERR = _Console(stderr=True, highlight=False)

# Lines of a file or a pipe have no end at which to wrap.
_UNWRAPPED = 1000


def show(*parts: RenderableType) -> None:
    """Print a result on standard output.

    It is wrapped to the width of a terminal, or to COLUMNS; in files and pipes nothing is
    wrapped, so that paths stay whole, and no line ends in blanks.
    """
    console = _Console(highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = _UNWRAPPED
    with console.capture() as captured:
        console.print(*parts, sep="\n")
    sys.stdout.write("".join(f"{line.rstrip()}\n" for line in captured.get().splitlines()))
    sys.stdout.flush()


def first_sign(quiet: bool) -> None:
    """Say on a terminal that work begins, before torch is loaded; the next line replaces it."""
    if not quiet and STDERR.is_terminal:
        STDERR.print("loading …", style="dim", end="\r")


@contextmanager
def watched(quiet: bool) -> Iterator[dict[str, Any]]:
    """Give the options by which work is followed: stages as bars, notes as lines."""
    with progress_bars(quiet) as progress:
        yield {"progress": progress, "on_note": ignore if quiet else note}


@contextmanager
def progress_bars(quiet: bool) -> Iterator[Report]:
    """Show every stage as a bar with the time left; nothing where nobody would see it."""
    if quiet or not STDERR.is_terminal:
        yield silent
        return
    bars = make_bars()
    with bars:
        yield reporter(bars)


def make_bars() -> Progress:
    """Bars for the stages of work, not shown yet."""
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=28),
        _CountColumn(),
        TimeElapsedColumn(),
        _LeftColumn(),
        console=STDERR,
        transient=True,
    )


def reporter(bars: Progress) -> Report:
    """A bar for each stage that is reported; one without a known end lasts until the next."""
    tasks: dict[str, TaskID] = {}
    endless: list[str] = []

    def report(stage: str, done: int, total: int) -> None:
        if stage not in endless:
            while endless:
                bars.update(tasks[endless.pop()], visible=False)
            if not total:
                endless.append(stage)
        if stage not in tasks:
            tasks[stage] = bars.add_task(stage, total=total or None)
        bars.update(tasks[stage], completed=done, total=total or None, visible=True)

    return report


class _CountColumn(ProgressColumn):
    """``1,280/12,730``; nothing for stages of one step, which have no middle."""

    def render(self, task: Task) -> Text:
        if task.total is None:
            return Text(f"{int(task.completed):,}" if task.completed else "")
        if task.total == 1:
            return Text("")
        return Text(f"{int(task.completed):,}/{int(task.total):,}")


class _LeftColumn(TimeRemainingColumn):
    """Time left, in words; nothing where it cannot be known."""

    def render(self, task: Task) -> Text:
        if task.total in (None, 1) or task.finished:
            return Text("")
        return Text.assemble(super().render(task), " left", style="cyan")


def show_warnings() -> None:
    """Print hessscope's warnings as one line each on standard error; others are not for users."""
    warnings.simplefilter("ignore")
    warnings.simplefilter("always", HessscopeWarning)
    warnings.showwarning = _show_warning


def _show_warning(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    _line(("warning: ", "yellow"), str(message))


def show_error(message: str) -> None:
    """Print an error as one line on standard error."""
    _line(("error: ", "bold red"), message)


def note(message: str) -> None:
    """Print a remark on standard error."""
    _line(("note: ", "dim"), message, style="dim")


def saved(what: str, path: object) -> None:
    """Say on standard error where something was written."""
    _line((f"{what}: ", "green"), str(path))


def _line(label: tuple[str, str], message: str, style: str = "") -> None:
    """One line in the words of the command line; the terminal wraps it where it must."""
    message = in_flags(message)
    STDERR.print(Text.assemble(label, (" ".join(message.split()), style)), soft_wrap=True)
