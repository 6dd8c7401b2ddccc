"""Table of a search while it runs, on standard error."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table

from hessscope.progress import ignore, silent
from hessscope.refinement import SearchState
from hessscope_cli import terminal

_ROWS = 12
_COLUMNS = ("iteration", "loss", "‖∇L‖", "step ‖Δθ‖", "damping", "index")
_WIDTHS = (9, 15, 11, 11, 11, 7)


@contextmanager
def search_display(quiet: bool) -> Iterator[dict[str, Any]]:
    """Give the options that show a search: bars for the stages and a table of the last steps.

    Where it is no terminal each step is a plain line.

    Of many steps the plain lines show the first ten, every tenth up to a hundred, and so on.
    """
    if quiet:
        yield {"progress": silent, "on_note": ignore}
    elif not terminal.STDERR.is_terminal:
        yield {"progress": silent, "on_note": terminal.note, "observer": _Lines()}
    else:
        bars = terminal.make_bars()
        rows = _Rows(bars)
        with Live(rows, console=terminal.STDERR, transient=True, refresh_per_second=8):
            yield {
                "progress": terminal.reporter(bars),
                "on_note": terminal.note,
                "observer": rows,
            }


class _Rows:
    """The last steps as a table that renews itself, with the bars below it."""

    def __init__(self, bars: RenderableType) -> None:
        self._bars = bars
        self._state: SearchState | None = None

    def __call__(self, state: SearchState) -> None:
        """Show this state from now on."""
        self._state = state

    def __rich__(self) -> RenderableType:
        """Make the table anew."""
        if self._state is None:
            return self._bars
        table = Table(box=None, header_style="dim", pad_edge=False)
        for name, width in zip(_COLUMNS, _WIDTHS, strict=True):
            table.add_column(name, justify="right", min_width=width)
        count = len(self._state.trace)
        for i in range(max(0, count - _ROWS), count):
            table.add_row(*_cells(self._state, i))
        return Group(table, self._bars)


class _Lines:
    """One line for a step."""

    def __init__(self) -> None:
        self._begun = False

    def __call__(self, state: SearchState) -> None:
        """Print the step, and before the first one the header and the start."""
        i = state.iterations
        if not self._begun:
            self._print(_COLUMNS)
            self._print(_cells(state, i - 1))
            self._begun = True
        if i < 10 or i % 10 ** int(math.log10(i)) == 0:
            self._print(_cells(state, i))

    @staticmethod
    def _print(cells: tuple[str, ...]) -> None:
        line = "".join(f"{cell:>{width + 2}}" for cell, width in zip(cells, _WIDTHS, strict=True))
        terminal.STDERR.print(line.rstrip(), soft_wrap=True, markup=False)


def _cells(state: SearchState, i: int) -> tuple[str, ...]:
    """One point of the trace; the index is that of the Hessian from which the step was made."""
    row = state.trace[i]
    return (
        f"{i:,}",
        f"{row.loss:.9g}",
        f"{row.gradient_norm:.3e}",
        "" if math.isnan(row.step_length) else f"{row.step_length:.3e}",
        "" if math.isnan(row.damping) else f"{row.damping:.2e}",
        "" if row.index < 0 else f"{row.index:,}",
    )
