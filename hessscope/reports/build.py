"""Build what ``hessscope report`` prints and saves: a table or page of records, and a figure."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import pandas as pd
from matplotlib.figure import Figure

from hessscope.errors import OptionError
from hessscope.options.fields import plain, takes
from hessscope.options.report import COEFFICIENTS, ReportOptions
from hessscope.records import check_distinct, prepare_output, write_atomically
from hessscope.registry import FIGURES, LAYOUTS, Registry
from hessscope.reports.figures.style import check_figure_path, draw, save_figure
from hessscope.reports.layouts.table import ReportTable
from hessscope.reports.pages import html_page
from hessscope.reports.tables.correlation import epsilon_alpha_correlation
from hessscope.reports.tables.points import SERIES, by_search, distinct_points
from hessscope.reports.tables.records import RecordSource, as_points
from hessscope.reports.writers import format_table


def make_report(options: ReportOptions) -> str:
    """Write a table of records, or a page that joins provenance, tables and figures.

    Returns:
        The text.

    Raises:
        RecordError: no record can be read, or a file cannot be written.
        OptionError: an option has no usable value, or a file exists.
    """
    out, plot = (None if path is None else Path(path) for path in (options.out, options.plot))
    if out is not None:
        prepare_output(out, options.overwrite)
    if plot is not None:
        check_figure_path(plot, options.overwrite)
    points = as_points(options.records)
    paths = [*points["path"].dropna(), *(path for path, _ in points.attrs.get("skipped", ()))]
    inputs = [(path, "one of the records") for path in paths]
    check_distinct((out, plot), [*inputs, (options.closed_form, "the known points")])
    # A table of records has no arrays: those that are in no file are passed on themselves.
    source = options.records if points["path"].isna().any() else points
    drawn = plot and report_figure(source, options.figure, **options.drawing)
    kind = str(options.format)
    if kind == "html":
        text = html_page(source, options.title)
    else:
        given = {} if options.by is None else {"by": options.by}
        table = report_table(source, options.layout, **given)
        text = _json(points, table) if kind == "json" else format_table(table, kind)
    if out is not None:
        write_atomically(out, text.encode("utf-8"), options.overwrite)
    if plot and drawn:
        save_figure(drawn, plot, options.overwrite)
    return text


report = takes(ReportOptions)(make_report)


def report_table(
    source: RecordSource, layout: str | Callable[..., ReportTable] | None = None, **options: Any
) -> ReportTable:
    """Make one of the tables of a record or of many.

    Args:
        source: a table of ``load_records``, or what that takes.
        layout: one of ``LAYOUTS``, by its name, or a function as those; default "series" for the
            record of a series, "summary" for another single one, "outcomes" where all are of
            searches, else "records".
        options: further ones of the layout, such as ``by``.

    Raises:
        UnknownNameError: there is no such layout.
        OptionError: the layout is of one record and there are several, it is of searches and there
            are none, or it has no such option.
    """
    chosen = _chosen(LAYOUTS, layout or _default_layout(as_points(source)), options)
    return cast(ReportTable, chosen(source, **options))


def report_figure(
    source: RecordSource, figure: str | Callable[..., Any] | None = None, **options: Any
) -> Figure:
    """Draw the figure of a record or of a study, without pyplot.

    Args:
        source: as for ``report_table``.
        figure: one of ``FIGURES``, by its name, or a function as those; default the figure of the
            record where there is one, "epsilon_alpha" for searches, else "eigenvalues".
        options: further ones of the figure, such as ``against`` or ``semicircle``.

    Raises:
        UnknownNameError: there is no such figure.
        OptionError: there is nothing to draw, or the figure has no such option.
    """
    chosen = _chosen(FIGURES, figure or _default_figure(as_points(source)), options)
    return draw(chosen, source, **options)


def _chosen(registry: Registry, choice: Any, options: Mapping[str, Any]) -> Callable[..., Any]:
    """The function of that name, which takes the options that its parameters name."""
    function: Callable[..., Any] = registry.find(choice)
    foreign = [name for name in options if name not in inspect.signature(function).parameters]
    if foreign:
        names = ", ".join(f"`{name}`" for name in foreign)
        called = getattr(choice, "__name__", choice)
        raise OptionError(f"the {registry.kind} {called} does not take {names}")
    return function


def _default_layout(points: pd.DataFrame) -> str:
    if len(points) == 1:
        return "series" if points["kind"].iloc[0] == SERIES else "summary"
    return "outcomes" if by_search(points)[1].empty else "records"


def _default_figure(points: pd.DataFrame) -> str:
    if len(points) == 1:
        return {"section": "section", SERIES: "series"}.get(points["kind"].iloc[0], "spectrum")
    return "epsilon_alpha" if by_search(points)[1].empty else "eigenvalues"


def _json(points: pd.DataFrame, table: ReportTable) -> str:
    """The numbers of a table, and what they rest on.

    ``title``; ``rows``, one object each; ``notes``; ``skipped`` files with reasons; for searches
    ``rank_correlation`` of α with the loss over certified points, of both kinds, of all and of
    distinct ones.
    """
    numbers = table.numbers.astype(object)
    answer: dict[str, Any] = {
        "title": table.title,
        "rows": [
            {str(name): plain(value) for name, value in row.items()}
            for row in numbers.where(numbers.notna(), None).to_dict(orient="records")
        ],
        "notes": list(table.notes),
        "skipped": [{"path": p, "reason": why} for p, why in points.attrs.get("skipped", [])],
    }
    if points["certified"].any():
        answer["rank_correlation"] = {
            what: [epsilon_alpha_correlation(rows, coefficient=c).as_dict() for c in COEFFICIENTS]
            for what, rows in (("all", points), ("distinct", distinct_points(points)))
        }
    return json.dumps(answer, indent=1, allow_nan=False, ensure_ascii=False) + "\n"
