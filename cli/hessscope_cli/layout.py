"""The tables that results are shown in, and the rows that several commands show."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

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


def add_data(facts: Table, known: Mapping[str, Any], *remarks: str) -> None:
    """The data, by the facts that reports have of it."""
    value = f"{known['data']} {known['split']}, {known['examples']:,} examples"
    add_fact(facts, "data", value, *remarks, *known["preprocessing"])


def add_loss(facts: Table, known: Mapping[str, Any]) -> None:
    """The loss with its value, and the accuracy, where these are known; else its name."""
    name, loss, accuracy = loss_in_words(known), known.get("loss"), known.get("accuracy")
    add_fact(facts, "loss", *((name,) if loss is None else (f"{loss:.6g}", name)))
    if accuracy is not None:
        add_fact(facts, "accuracy", f"{accuracy:.2%}")


def loss_in_words(known: Mapping[str, Any]) -> str:
    """The loss function with its penalty."""
    penalty = f" + {known['l2']:g}/2·‖θ‖²" if known["l2"] else ""
    return f"{known['loss_function']}{penalty}"
