"""The tables that results are shown in."""

from __future__ import annotations

from rich import box
from rich.table import Table
from rich.text import Text


def facts_table() -> Table:
    """Names and values without lines, filled by ``add_fact``."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True, min_width=13)
    # Folded where it must be, never cut: paths are there to be copied.
    table.add_column(overflow="fold")
    return table


def plain_table() -> Table:
    """A table with one line under its head."""
    return Table(box=box.SIMPLE_HEAD, header_style="dim", border_style="dim", pad_edge=False)


def add_fact(facts: Table, name: str, value: str, *remarks: str) -> None:
    """A name, its value, and remarks that are read second. Nothing in them is markup."""
    text = Text(value)
    if remarks:
        text.append(f"  ({'; '.join(remarks)})", style="dim")
    facts.add_row(Text(name), text)
