"""Page of several records: a survey, or trials of several methods."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import replace

import pandas as pd

from hessscope.errors import HessscopeWarning, OptionError, RecordError
from hessscope.registry import LAYOUTS
from hessscope.reports.pages.page import Fact, PageFigure, Part, pairs, render_page
from hessscope.reports.pages.record import PROVENANCE, figures_of, texts_of
from hessscope.reports.tables.correlation import epsilon_alpha_correlation
from hessscope.reports.tables.points import by_search, certified_points, distinct_points, grouping
from hessscope.reports.tables.records import records_of
from hessscope.reports.texts import range_text

_MOST_SPECTRA = 6


def study_page(points: pd.DataFrame, title: str | None = None) -> str:
    """The page of several records."""
    searches, others = by_search(points)
    certified = certified_points(points)
    # A point that many searches found is one point, in the plot as in the correlation. To tell
    # takes the eigenvalues of every record.
    chosen = searches if len(searches) else points
    distinct = distinct_points(chosen) if len(searches) or len(certified) else points
    parts: list[Part] = []
    if len(searches):
        parts.append(Part("How the searches ended", tables=(LAYOUTS["outcomes"](points),)))
    if len(certified):
        parts += [_epsilon_alpha(distinct), _distributions(points)]
    elif len(others):
        parts += _spectra(others)
    by = grouping(points, None)
    if points[by].nunique(dropna=False) > 1 or len(others):
        parts.append(Part("By method", tables=(LAYOUTS["methods"](points, by),)))
    parts.append(Part("All records", tables=(LAYOUTS["records"](points),)))
    parts.append(_provenance(points))
    kind, unit = ("survey of critical points", "searches")
    if len(others):
        kind = unit = "records"
    return render_page(
        f"hessscope: {kind}",
        title or f"{len(points)} {unit}",
        tuple(_lead(points, distinct, searches)),
        tuple(_facts(points, distinct, searches)),
        tuple(parts),
    )


def _epsilon_alpha(distinct: pd.DataFrame) -> Part:
    figures = []
    for against in ("loss", "error"):
        if certified_points(distinct)[against].notna().any():
            options = {"against": against, "uncertified": True}
            caption = (
                f"Index fraction α against the {against} ε, one marker for each distinct certified "
                "critical point with the interval of its count; its area says how many searches "
                "ended there. Crosses: other ends of searches."
            )
            figures.append(PageFigure.of("epsilon_alpha", distinct, caption, **options))
    return Part("ε–α plot", figures=tuple(figures))


def _distributions(points: pd.DataFrame) -> Part:
    title = "Eigenvalue distributions"
    caption = "At certified points of low, middle and high loss; the line is at 0."
    try:
        return Part(title, figures=(PageFigure.of("eigenvalues", points, caption),))
    except (OptionError, RecordError) as error:
        return Part(title, (f"Not drawn: {error}.",))


def _spectra(points: pd.DataFrame) -> Iterator[Part]:
    """The figures of a few records; of many only as many as can be compared."""
    figures: list[PageFigure] = []
    for name, path in zip(points["name"], points["path"], strict=True):
        if len(figures) == _MOST_SPECTRA or path is None:
            break
        for figure in figures_of(records_of(path)[0]):
            figures.append(replace(figure, caption=f"{name}. {figure.caption}"))
    if figures:
        text = () if len(figures) == len(points) else (f"The first {len(figures)} are drawn.",)
        yield Part("Spectra", text, tuple(figures))


def _lead(points: pd.DataFrame, distinct: pd.DataFrame, searches: pd.DataFrame) -> Iterator[str]:
    skipped = points.attrs.get("skipped", [])
    if len(searches):
        converged = int((searches["status"] == "converged").sum())
        certified = len(certified_points(searches))
        yield (
            f"{converged} of {len(searches)} searches converged; {certified} ended with a "
            "certificate that a true critical point is near."
        )
        if certified:
            found = epsilon_alpha_correlation(distinct)
            yield f"{found} between α and the loss over distinct certified points."
    if skipped:
        yield f"{len(skipped)} files are left out; All records says which, and why."


def _facts(points: pd.DataFrame, distinct: pd.DataFrame, searches: pd.DataFrame) -> Iterator[Fact]:
    certified = certified_points(points)
    if len(searches):
        failed = int((searches["status"] != "converged").sum())
        different = len(certified_points(distinct))
        yield Fact("searches", f"{len(searches):,}", f"{failed:,} not converged")
        yield Fact("certified", f"{len(certified):,}", f"{different:,} distinct up to symmetries")
    if len(searches) < len(points):
        yield Fact("records", f"{len(points):,}")
    chosen = certified if len(certified) else points
    of = "certified points" if len(certified) else "all records"
    for name, title in (("loss", "loss ε"), ("alpha", "α = index / n"), ("tolerance", "τ")):
        shown = range_text(chosen[name])
        if shown:
            yield Fact(title, shown, of)


def _provenance(points: pd.DataFrame) -> Part:
    found = {name: points[name].dropna().unique() for name in PROVENANCE}
    shared = {
        name: str(values[0]) if len(values) == 1 else f"{len(values)} different values"
        for name, values in found.items()
        if len(values)
    }
    details: tuple[tuple[str, dict[str, str]], ...] = ()
    for path in points["path"].dropna()[:1]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", HessscopeWarning)
            details = ((f"Everything in the first record, {path}", texts_of(records_of(path)[0])),)
    return Part("Provenance", tables=(pairs("Of all records", shared),), details=details)
