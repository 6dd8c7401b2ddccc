"""The tables that results are shown in, and the rows that several commands show."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from rich import box
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from hessscope.spectra import Inertia, PublishedCounts


def facts_table() -> Table:
    """Names and values without lines, filled by ``add_fact``."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True, min_width=13)
    # Folded where it must be, never cut: paths are there to be copied.
    table.add_column(overflow="fold")
    return table


def plain_table(*titles: str, left: Iterable[str] = ()) -> Table:
    """A table with one line under its head; columns stand at the right but for those named."""
    table = Table(box=box.SIMPLE_HEAD, header_style="dim", border_style="dim", pad_edge=False)
    for title in titles:
        text = title in left
        table.add_column(
            title, justify="left" if text else "right", overflow="fold" if text else "ellipsis"
        )
    return table


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


def counts_table(inertia: Inertia, published: PublishedCounts | None = None) -> Table:
    """Index, degeneracy and positive count, with their intervals and shares of n."""
    titles = ["eigenvalues", "", "count", _interval_header(inertia), "share"]
    table = plain_table(*titles, left=titles[:2])
    table.columns[1].style = "bold"
    others = [""] * 3
    if published is not None:
        table.add_column("sankar2017", justify="right")
        others = [
            f"{published.negative:,} (λ < 0)",
            f"{published.just_zero:,} (λ = 0)",
            f"{published.positive:,} (λ > 0)",
        ]
    rows = (
        ("negative, λ < −τ", "index", inertia.negative),
        ("zero, |λ| ≤ τ", "degeneracy", inertia.zero),
        ("positive, λ > τ", "", inertia.positive),
    )
    for (name, word, count), other in zip(rows, others, strict=True):
        # An estimate that its interval does not hold up must not look like a result.
        doubtful = not inertia.usable(count)
        estimate = f"{count.estimate:,}{'?' if doubtful else ''}"
        table.add_row(
            name,
            word,
            Text(estimate, "dim" if doubtful else "bold"),
            f"{count.lower:,} – {count.upper:,}",
            Text(f"{count.estimate / inertia.size:.2%}", "dim" if doubtful else ""),
            *([] if published is None else [other]),
        )
    return table


def _interval_header(inertia: Inertia) -> str:
    confidence = inertia.negative.confidence
    return "rounding interval" if confidence == 1.0 else f"{confidence:.0%} interval"


def verdict_table(classification: str, *, critical: bool) -> Table:
    """What kind of point it is."""
    verdict = facts_table()
    style = "bold green" if critical else "bold yellow"
    verdict.add_row("point", Text(classification, style=style))
    return verdict


def shortened(text: str, most: int = 120) -> str:
    """The text, cut where it is longer than a line or two."""
    return text if len(text) <= most else f"{text[: most - 1]}…"
