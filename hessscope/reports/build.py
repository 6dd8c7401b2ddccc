"""What ``hessscope report`` does: records in, a table or a page out, and a figure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from hessscope.errors import DataError, OptionError, UnknownNameError
from hessscope.records import prepare_output, write_atomically
from hessscope.reports.figures.distributions import distributions_figure
from hessscope.reports.figures.epsilon_alpha import epsilon_alpha_figure
from hessscope.reports.figures.section import section_figure
from hessscope.reports.figures.series import KIND as SERIES
from hessscope.reports.figures.series import plot_series
from hessscope.reports.figures.spectrum import spectrum_figure
from hessscope.reports.figures.trace import trace_figure
from hessscope.reports.layouts.layouts import only_record, report_table
from hessscope.reports.pages.documents import html_report
from hessscope.reports.tables.correlation import COEFFICIENTS
from hessscope.reports.tables.points import by_search, distinct_points
from hessscope.reports.tables.records import RecordSource, as_points
from hessscope.reports.tables.trends import epsilon_alpha_correlation
from hessscope.reports.writers import TABLE_FORMATS, format_table

FORMATS = (*TABLE_FORMATS, "html")
FIGURES = ("epsilon-alpha", "eigenvalues", "spectrum", "section", "trace", "series")

_SUFFIXES = {
    ".txt": "table",
    ".csv": "csv",
    ".tex": "latex",
    ".md": "markdown",
    ".html": "html",
    ".htm": "html",
}


def report(
    source: pd.DataFrame | RecordSource,
    format: str | None = None,
    *,
    layout: str | None = None,
    by: str | None = None,
    title: str | None = None,
    out: str | Path | None = None,
    overwrite: bool = False,
) -> str:
    """Write a table of records, or a page that joins provenance, tables and figures.

    Args:
        source: files, folders, ``Record`` objects, several of these, a mapping from labels to
            these, or a table of ``load_records``.
        format: "table", "csv", "latex", "markdown" or "html"; default by the suffix of ``out``,
            else "table".
        layout: of the table, see ``report_table``.
        by: what tells methods apart in the layout "methods".
        title: of the HTML page.
        out: where to write it; by default it is only returned.
        overwrite: an existing file may be replaced.

    Returns:
        The text.

    Raises:
        RecordError: no record can be read, or the file cannot be written.
        OptionError: an option has no usable value, the suffix of ``out`` says no format, or the
            file exists.
    """
    kind = chosen_format(format, out)
    if kind == "html" and (layout is not None or by is not None):
        raise OptionError("an HTML page has all tables: layout and by are for the other formats")
    if kind != "html" and title is not None:
        raise OptionError(f"title is for HTML pages; the format is {kind}")
    path = None if out is None else prepare_output(Path(out), overwrite)
    if kind == "html":
        text = html_report(source, title)
    else:
        text = format_table(report_table(source, layout, by), kind)
    if path is not None:
        write_atomically(path, text.encode("utf-8"), overwrite)
    return text


def report_object(
    source: pd.DataFrame | RecordSource, layout: str | None = None, by: str | None = None
) -> dict[str, Any]:
    """What ``hessscope report --json`` prints: the numbers of a table, and what they rest on.

    Args:
        source: as for ``report``.
        layout: of the table.
        by: what tells methods apart in the layout "methods".

    Returns:
        ``title``; ``rows``, one object each; ``notes``; ``skipped`` files with reasons; for
        searches ``rank_correlation`` of α with the loss over certified points, of both kinds, of
        all and of distinct ones.
    """
    points = as_points(source)
    table = report_table(points, layout, by)
    answer: dict[str, Any] = {
        "title": table.title,
        "rows": [
            {str(name): _plain(value) for name, value in row.items()}
            for row in table.numbers.to_dict(orient="records")
        ],
        "notes": list(table.notes),
        "skipped": [{"path": p, "reason": why} for p, why in points.attrs.get("skipped", [])],
    }
    if points["certified"].any():
        answer["rank_correlation"] = {
            what: [
                epsilon_alpha_correlation(rows, coefficient=coefficient).as_dict()
                for coefficient in COEFFICIENTS
            ]
            for what, rows in (("all", points), ("distinct", distinct_points(points)))
        }
    return answer


def chosen_format(format: str | None, out: str | Path | None) -> str:
    """The format that was asked for, or else the one of the file's suffix; without one a table.

    Raises:
        UnknownNameError: there is no such format.
        OptionError: the suffix says none.
    """
    if format is not None:
        if format not in FORMATS:
            raise UnknownNameError("format", format, FORMATS)
        return format
    suffix = "" if out is None else Path(out).suffix
    if not suffix:
        return "table"
    if suffix.lower() not in _SUFFIXES:
        raise OptionError(
            f"the suffix '{suffix}' of {Path(str(out)).name} says no known format; give one "
            f"of {', '.join(_SUFFIXES)}, or name the format (--format): {', '.join(FORMATS)}"
        )
    return _SUFFIXES[suffix.lower()]


def report_figure(
    source: pd.DataFrame | RecordSource,
    name: str | None = None,
    *,
    distinct: bool = False,
    semicircle: bool = False,
    closed_form: str | Path | pd.DataFrame | Sequence[tuple[float, float]] | None = None,
    **options: Any,
) -> Figure:
    """Draw the figure of a record or of a study.

    Args:
        source: as for ``report``.
        name: "epsilon-alpha", "eigenvalues", "spectrum", "section", "trace" or "series"; default
            the figure
            of the record where there is one, "epsilon-alpha" for searches, else "eigenvalues".
        distinct: of points that are the same up to symmetries draw one (epsilon-alpha).
        semicircle: draw the nearest semicircle over each (eigenvalues).
        closed_form: known points, also as a CSV file with columns loss and alpha (epsilon-alpha).
        options: further ones of ``plot_epsilon_alpha``.

    Raises:
        OptionError: there is nothing to draw, or an option is not of this figure.
    """
    points = as_points(source)
    name = name or _default_figure(points)
    if name not in FIGURES:
        raise UnknownNameError("figure", name, FIGURES)
    given = {"distinct": distinct, "closed_form": closed_form, **options}
    foreign = [key for key, value in given.items() if value not in (None, False)]
    if name != "epsilon-alpha" and foreign:
        raise OptionError(f"{', '.join(foreign)}: only for the figure epsilon-alpha, not {name}")
    if name != "eigenvalues" and semicircle:
        raise OptionError(f"semicircle: only for the figure eigenvalues, not {name}")
    if name == "epsilon-alpha":
        if isinstance(closed_form, (str, Path)):
            closed_form = read_closed_form(Path(closed_form))
        chosen = distinct_points(points) if distinct else points
        return epsilon_alpha_figure(chosen, closed_form=closed_form, **options)
    if name == "eigenvalues":
        drawn: Any = points if points["certified"].any() else list(points["path"].dropna())
        return distributions_figure(drawn, semicircle=semicircle)
    if len(points) != 1:
        raise OptionError(f"the figure {name} is of one record, and there are {len(points)}")
    draw: Any = {
        "spectrum": spectrum_figure,
        "section": section_figure,
        "trace": trace_figure,
        "series": plot_series,
    }
    return draw[name](only_record(source, points))


def read_closed_form(path: Path) -> pd.DataFrame:
    """Read known critical points from a CSV file with columns loss (or error) and alpha.

    Raises:
        DataError: no such file, or it cannot be read as CSV.
    """
    try:
        return pd.read_csv(path, comment="#")
    except (OSError, ValueError) as error:  # pandas' parser errors are ValueErrors
        raise DataError(
            f"{path} cannot be read as CSV ({error}); expected columns loss and alpha"
        ) from error


def _plain(value: Any) -> Any:
    """A cell as JSON takes it: what is missing or not finite is None."""
    if value is None or pd.isna(value):
        return None
    plain = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(plain, float) and not math.isfinite(plain) else plain


def _default_figure(points: pd.DataFrame) -> str:
    if len(points) == 1:
        return {"section": "section", SERIES: "series"}.get(points["kind"].iloc[0], "spectrum")
    return "epsilon-alpha" if by_search(points)[1].empty else "eigenvalues"
