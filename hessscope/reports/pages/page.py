"""Content of an HTML page, and the page itself: one file that needs nothing else."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from itertools import groupby
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup

import hessscope
from hessscope.reports.figures.style import draw, encoded
from hessscope.reports.layouts.table import ReportTable
from hessscope.reports.tables.records import RecordSource
from hessscope.reports.writers import cells, levels, numeric

_MILLIMETRES = 25.4


@dataclass(frozen=True)
class Fact:
    """A number that is read first.

    Attributes:
        name: what it is.
        value: as it is read.
        remark: its interval, tolerance or unit.
    """

    name: str
    value: str
    remark: str = ""


@dataclass(frozen=True)
class PageFigure:
    """A figure as it stands in a page.

    Attributes:
        content: SVG, in base64.
        caption: below it, and read out in its place.
        width: millimetres.
    """

    content: str
    caption: str
    width: float

    @classmethod
    def of(cls, name: str, source: RecordSource, caption: str, **options: Any) -> PageFigure:
        """Draw one of ``FIGURES`` into a page, at its own size."""
        figure = draw(name, source, **options)
        content = base64.b64encode(encoded(figure, "svg")).decode("ascii")
        return cls(content, caption, round(figure.get_size_inches()[0] * _MILLIMETRES, 1))


@dataclass(frozen=True)
class Part:
    """A section of a page: text, then figures, then tables, then details.

    Attributes:
        title: above it.
        texts: paragraphs.
        figures: side by side.
        tables: one below the other.
        details: title, and names with their values, which are folded away.
    """

    title: str
    texts: tuple[str, ...] = ()
    figures: tuple[PageFigure, ...] = ()
    tables: tuple[ReportTable, ...] = ()
    details: tuple[tuple[str, dict[str, str]], ...] = ()


def pairs(title: str, values: dict[str, str]) -> ReportTable:
    """A table of names and values."""
    table = pd.DataFrame(list(values.items()), columns=["name", "value"])
    return ReportTable(title, table, table)


def render_page(
    kicker: str, title: str, lead: Sequence[str], facts: Sequence[Fact], parts: Sequence[Part]
) -> str:
    """Give the HTML of a page: style and figures within, nothing to load, no scripts.

    All texts are escaped, whatever names and records say.

    Args:
        kicker: what kind of page it is.
        title: of what.
        lead: the result, in sentences.
        facts: the numbers that are read first.
        parts: everything else.
    """
    loader = jinja2.PackageLoader("hessscope.reports.pages")
    environment = jinja2.Environment(
        loader=loader,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {"grid": _grid, "heads": _heads}
    style, _, _ = loader.get_source(environment, "report.css")
    return environment.get_template("report.html").render(
        page={"kicker": kicker, "title": title, "lead": lead, "facts": facts, "parts": parts},
        style=Markup(style),
        version=hessscope.__version__,
        made=datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
    )


def _grid(table: ReportTable) -> list[list[tuple[str, bool]]]:
    """Cells row by row, and whether they are numbers."""
    numbers = numeric(table)
    return [list(zip(row, numbers, strict=True)) for row in cells(table)]


def _heads(table: ReportTable) -> list[list[tuple[str, int, bool]]]:
    """Headers level by level, how many columns each spans, and whether those are numbers."""
    names, numbers = levels(table), numeric(table)
    found = []
    for level in range(len(names[0])):
        last = level == len(names[0]) - 1  # which has a head for each column
        alike = [(k if last else 0, name[level]) for k, name in enumerate(names)]
        groups = [list(group) for _, group in groupby(range(len(names)), alike.__getitem__)]
        found.append([(names[g[0]][level], len(g), numbers[g[0]]) for g in groups])
    return found
