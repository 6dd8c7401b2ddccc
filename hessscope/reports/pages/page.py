"""What an HTML page consists of, and the page itself: one file that needs nothing else."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from itertools import groupby
from typing import Any

import jinja2
from markupsafe import Markup
from matplotlib.figure import Figure

from hessscope.reports.figures.style import settings, styled
from hessscope.reports.writers import ReportTable, cells, is_number

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
    def of(cls, figure: Figure, caption: str) -> PageFigure:
        """Draw a figure into a page, at its own size."""
        buffer = io.BytesIO()
        with styled(), settings({"svg.fonttype": "path", "svg.hashsalt": "hessscope"}):
            figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": "hessscope"})
        width = round(figure.get_size_inches()[0] * _MILLIMETRES, 1)
        return cls(base64.b64encode(buffer.getvalue()).decode("ascii"), caption, width)


@dataclass(frozen=True)
class Details:
    """Names and values that are folded away until they are asked for."""

    title: str
    pairs: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Part:
    """A section of a page: text, then figures, then tables, then details."""

    title: str
    texts: tuple[str, ...] = ()
    figures: tuple[PageFigure, ...] = ()
    tables: tuple[ReportTable, ...] = ()
    details: tuple[Details, ...] = ()


@dataclass(frozen=True)
class Page:
    """A whole page.

    Attributes:
        kicker: what kind of page it is.
        title: of what.
        lead: the result, in sentences.
        facts: the numbers that are read first.
        parts: everything else.
    """

    kicker: str
    title: str
    lead: tuple[str, ...]
    facts: tuple[Fact, ...]
    parts: tuple[Part, ...]


def render_page(page: Page) -> str:
    """Give the HTML of a page: style and figures within, nothing to load, no scripts.

    All texts are escaped, whatever names and records say.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("hessscope.reports.pages"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    source, _, _ = environment.loader.get_source(environment, "report.css")  # type: ignore[union-attr]
    return environment.get_template("report.html").render(
        page={
            "kicker": page.kicker,
            "title": page.title,
            "lead": page.lead,
            "facts": page.facts,
            "parts": [
                {
                    "title": part.title,
                    "texts": part.texts,
                    "figures": part.figures,
                    "tables": [_table(table) for table in part.tables],
                    "details": part.details,
                }
                for part in page.parts
            ],
        },
        style=Markup(source),
        version=_version(),
        made=datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
    )


def _table(table: ReportTable) -> dict[str, Any]:
    rows = cells(table)
    numbers = [is_number([row[k] for row in rows]) for k in range(len(table.shown.columns))]
    levels = [name if isinstance(name, tuple) else (name,) for name in table.shown.columns]
    heads = []
    for level in range(len(levels[0])):
        texts = [str(name[level]) for name in levels]
        spans: Iterable[tuple[str, int]] = [(text, 1) for text in texts]
        if level < len(levels[0]) - 1:  # one head over several columns
            spans = [(text, len(list(group))) for text, group in groupby(texts)]
        place, row = 0, []
        for text, span in spans:
            row.append({"text": text, "span": span, "number": numbers[place]})
            place += span
        heads.append(row)
    return {
        "title": table.title,
        "notes": table.notes,
        "heads": heads,
        "rows": [
            [{"text": text, "number": numbers[k]} for k, text in enumerate(row)] for row in rows
        ],
    }


def _version() -> str:
    try:
        return version("hessscope")
    except PackageNotFoundError:
        return "(not installed)"
