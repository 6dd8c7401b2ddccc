"""One page that joins provenance, tables and figures of a record, or of a study."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from hessscope.errors import HessscopeWarning, OptionError
from hessscope.records import Record
from hessscope.reports.figures.distributions import distributions_figure
from hessscope.reports.figures.epsilon_alpha import epsilon_alpha_figure
from hessscope.reports.figures.section import section_figure
from hessscope.reports.figures.series import KIND as SERIES
from hessscope.reports.figures.series import plot_series, series_axis, series_table
from hessscope.reports.figures.spectrum import spectrum_figure
from hessscope.reports.figures.trace import trace_figure
from hessscope.reports.layouts.layouts import (
    causes_report,
    only_record,
    outcomes_report,
    points_report,
    series_report,
    summary_report,
    sweep_report,
)
from hessscope.reports.layouts.methods import grouping, saddle_report
from hessscope.reports.pages.page import Details, Fact, Page, PageFigure, Part, render_page
from hessscope.reports.tables.points import by_search, certified_points, distinct_points
from hessscope.reports.tables.records import RecordSource, as_points, record_row, records_of
from hessscope.reports.tables.trends import epsilon_alpha_correlation
from hessscope.reports.texts import SURE, confidence_text, count_text, plain
from hessscope.reports.writers import ReportTable

_SHARED = (
    *("checkpoint", "checkpoint_sha256", "architecture", "data", "split", "examples"),
    *("data_fingerprint", "loss_function", "l2", "parameters", "method", "optimizer"),
    *("initialization", "seed", "dtype", "device", "backend", "tolerance", "noise_floor"),
)
_MOST_SPECTRA = 6


def html_report(source: pd.DataFrame | RecordSource, title: str | None = None) -> str:
    """Make a self-contained HTML page of a record or of several: no scripts, nothing to load.

    Args:
        source: a table of ``load_records``, or what that takes: files, folders, records.
        title: of the page; default the name of the record, or how many there are.

    Raises:
        RecordError: no record can be read.
    """
    points = as_points(source)
    if len(points) != 1:
        return render_page(study_page(points, title))
    return render_page(record_page(only_record(source, points), title))


def record_page(record: Record, title: str | None = None) -> Page:
    """The page of one record."""
    row = record_row(record)
    summary = summary_report(record)
    tables = (summary,) if len(summary.numbers) else ()
    if record.kind == SERIES:
        tables = (series_report(record),)
    parts = [
        Part("Numbers", tables=tables, figures=tuple(_figures_of(record))),
        *_sweep_part(record),
        *_causes_part(record),
        _provenance(record),
    ]
    return Page(
        f"hessscope: {record.kind}",
        title or str(row["name"]),
        tuple(_verdict(row)),
        (*_facts(row), *_section_facts(record)),
        tuple(parts),
    )


def study_page(points: pd.DataFrame, title: str | None = None) -> Page:
    """The page of several records: a survey, or trials of several methods."""
    searches, others = by_search(points)
    certified = certified_points(points)
    # A point that many searches found is one point, in the plot as in the correlation. To tell
    # takes the eigenvalues of every record.
    chosen = searches if len(searches) else points
    distinct = distinct_points(chosen) if len(searches) or len(certified) else points
    parts: list[Part] = []
    if len(searches):
        parts.append(Part("How the searches ended", tables=(outcomes_report(points),)))
    if len(certified):
        parts += [_epsilon_alpha(distinct), _distributions(points)]
    elif len(others):
        parts += _spectra(others)
    by = grouping(points, None)
    if points[by].nunique(dropna=False) > 1 or len(others):
        parts.append(Part("By method", tables=(saddle_report(points, by),)))
    parts.append(Part("All records", tables=(points_report(points),)))
    parts.append(_shared_provenance(points))
    kind, unit = (
        ("records", "records") if len(others) else ("survey of critical points", "searches")
    )
    return Page(
        f"hessscope: {kind}",
        title or f"{len(points)} {unit}",
        tuple(_study_lead(points, distinct, searches)),
        tuple(_study_facts(points, distinct, searches)),
        tuple(parts),
    )


def _verdict(row: Mapping[str, Any]) -> Iterator[str]:
    if row["classification"]:
        yield f"{row['classification'][:1].upper()}{row['classification'][1:]}."
    setting = [row["architecture"], row["data"] and f"{row['data']} {row['split'] or ''}".strip()]
    known = [part for part in setting if part]
    if known:
        yield ", ".join(known)
    if row["status"]:
        yield f"The search by {row['method'] or 'an unnamed method'} ended {row['status']}."
    if row["certificate"]:
        yield (
            f"Certificate {row['certificate']}: a true critical point is near, conditional on the "
            "estimated Lipschitz constant."
            if row["certified"]
            else f"Certificate {row['certificate']}: no statement on a true critical point."
        )
    if row["certificate_reason"]:
        yield f"{row['certificate_reason'][:1].upper()}{row['certificate_reason'][1:]}."


def _facts(row: Mapping[str, Any]) -> Iterator[Fact]:
    if row["parameters"] is not None:
        examples = "" if row["examples"] is None else f"{row['examples']:,} examples"
        yield Fact("parameters n", f"{row['parameters']:,}", examples)
    if not np.isnan(row["loss"]):
        error = "" if np.isnan(row["error"]) else f"error {row['error']:.2%}"
        yield Fact("loss ε", plain(row["loss"]), error)
    if not np.isnan(row["gradient_norm"]):
        start = row["gradient_norm_start"]
        remark = "" if np.isnan(start) else f"at the start {plain(start)}"
        if not np.isnan(row["gradient_floor"]):
            remark = f"rounding floor {plain(row['gradient_floor'])}"
        yield Fact("gradient norm ‖∇L‖", plain(row["gradient_norm"]), remark)
    for name, title in (("index", "index"), ("degeneracy", "degeneracy")):
        if row[name] is not None:
            lower, upper = row[f"{name}_lower"], row[f"{name}_upper"]
            yield Fact(title, f"{row[name]:,}", _interval(lower, upper, row["confidence"]))
    if not np.isnan(row["alpha"]):
        yield Fact("α = index / n", plain(row["alpha"]))
    if not np.isnan(row["tolerance"]):
        yield Fact("tolerance τ", plain(row["tolerance"]), f"δ = {plain(row['noise_floor'])}")
    if not np.isnan(row["lambda_max"]):
        low = plain(row["lambda_min"])
        yield Fact("λ max", plain(row["lambda_max"]), f"λ min {low}")


def _section_facts(record: Record) -> Iterator[Fact]:
    if record.kind == "section":
        values = record.arrays["values"]
        finite = values[np.isfinite(values)]
        if finite.size:
            low, high = float(finite.min()), float(finite.max())
            yield Fact("loss on the section", f"{plain(low)} – {plain(high)}")
        evaluations = record.attributes.get("evaluations")
        yield Fact("evaluations", plain(evaluations, ","), "of the loss over the data")


def _interval(lower: Any, upper: Any, confidence: float) -> str:
    if lower is None or upper is None:
        return "no interval"
    if lower == upper and confidence == 1:
        return SURE
    level = "" if np.isnan(confidence) else f", {confidence_text(confidence)}"
    return f"{count_text(lower, None, None)} to {count_text(upper, None, None)}{level}"


def _figures_of(record: Record) -> Iterator[PageFigure]:
    if record.kind == "section":
        yield PageFigure.of(section_figure(record), "The loss on the section.")
        return
    if record.kind == SERIES:
        axis = series_axis(series_table(record))
        caption = f"Loss, counts, extreme eigenvalues and gradient by {axis}."
        yield PageFigure.of(plot_series(record), caption)
        return
    try:
        figure = spectrum_figure(record)
    except (OptionError, KeyError):
        pass  # a kind, or a record, without a spectrum
    else:
        yield PageFigure.of(
            figure,
            "Density of the eigenvalues, with a line at 0, and the counts for every tolerance τ: "
            "where they change with τ they belong to it.",
        )
    if "trace/loss" in record.arrays:
        yield PageFigure.of(trace_figure(record), "The search, step by step.")


def _sweep_part(record: Record) -> Iterator[Part]:
    if isinstance(record.attributes.get("tolerance_sweep"), Mapping):
        text = "The counts at other tolerances. A plateau is a gap in the spectrum."
        yield Part("Tolerance sweep", (text,), tables=(sweep_report(record),))


def _causes_part(record: Record) -> Iterator[Part]:
    if record.attributes.get("degeneracy_causes"):
        yield Part("Causes of zeros", tables=(causes_report(record),))


def _provenance(record: Record) -> Part:
    main: list[tuple[str, str]] = []
    rest: list[tuple[str, str]] = []
    for name, value in _flat(record.attributes):
        first = name.split(".")[0]
        pair = (name, value)
        (main if first in (*_SHARED, "provenance", "preprocessing", "hvps") else rest).append(pair)
    path = () if record.path is None else (("record", str(record.path)),)
    texts = [str(text) for name in ("notes", "warnings") for text in _texts(record, name)]
    return Part(
        "Provenance",
        tuple(texts),
        tables=(_pairs("Where this comes from", [*path, *main]),),
        details=(Details("Everything else in the record", tuple(rest)),),
    )


def _texts(record: Record, name: str) -> tuple[str, ...]:
    value = record.attributes.get(name, ())
    return (value,) if isinstance(value, str) else tuple(map(str, value))


def _flat(attributes: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Every attribute with its value as a text; groups with dots."""
    for name, value in attributes.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        elif isinstance(value, (list, tuple)):
            yield f"{prefix}{name}", ", ".join(map(str, value))
        else:
            yield f"{prefix}{name}", str(value)


def _pairs(title: str, pairs: list[tuple[str, str]]) -> ReportTable:
    table = pd.DataFrame(pairs, columns=["name", "value"])
    return ReportTable(title, table, table)


def _epsilon_alpha(distinct: pd.DataFrame) -> Part:
    figures = []
    for against in ("loss", "error"):
        if certified_points(distinct)[against].notna().any():
            figure = epsilon_alpha_figure(distinct, against=against, uncertified=True)
            caption = (
                f"Index fraction α against the {against} ε, one marker for each distinct certified "
                "critical point with the interval of its count; its area says how many searches "
                "ended there. Crosses: other ends of searches."
            )
            figures.append(PageFigure.of(figure, caption))
    return Part("ε–α plot", figures=tuple(figures))


def _distributions(points: pd.DataFrame) -> Part:
    title = "Eigenvalue distributions"
    try:
        figure = distributions_figure(points)
    except (OptionError, KeyError) as error:
        return Part(title, (f"Not drawn: {error}.",))
    caption = "At certified points of low, middle and high loss; the line is at 0."
    return Part(title, figures=(PageFigure.of(figure, caption),))


def _spectra(points: pd.DataFrame) -> Iterator[Part]:
    """The figures of a few records; of many only as many as can be compared."""
    figures: list[PageFigure] = []
    for name, path in zip(points["name"], points["path"], strict=True):
        if len(figures) == _MOST_SPECTRA or path is None:
            break
        for figure in _figures_of(records_of(path)[0]):
            figures.append(PageFigure(figure.content, f"{name}. {figure.caption}", figure.width))
    if figures:
        text = () if len(figures) == len(points) else (f"The first {len(figures)} are drawn.",)
        yield Part("Spectra", text, tuple(figures))


def _study_lead(
    points: pd.DataFrame, distinct: pd.DataFrame, searches: pd.DataFrame
) -> Iterator[str]:
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


def _study_facts(
    points: pd.DataFrame, distinct: pd.DataFrame, searches: pd.DataFrame
) -> Iterator[Fact]:
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
        values = chosen[name].dropna()
        if len(values):
            low, high = float(values.min()), float(values.max())
            shown = plain(low) if low == high else f"{plain(low)} – {plain(high)}"
            yield Fact(title, shown, of)


def _shared_provenance(points: pd.DataFrame) -> Part:
    pairs = []
    for name in _SHARED:
        values = list(dict.fromkeys(points[name].dropna()))
        if len(values) == 1:
            pairs.append((name, str(values[0])))
        elif values:
            pairs.append((name, f"{len(values)} different values"))
    first = points["path"].dropna()
    details: tuple[Details, ...] = ()
    if len(first):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", HessscopeWarning)
            record = records_of(first.iloc[0])[0]
        facts = tuple(_flat(record.attributes))
        details = (Details(f"Everything in the first record, {first.iloc[0]}", facts),)
    return Part("Provenance", tables=(_pairs("Of all records", pairs),), details=details)
