"""Tables of records as they are read: one record in full, or many with a row each."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hessscope.errors import OptionError, UnknownNameError
from hessscope.records import Record
from hessscope.reports.figures.series import KIND as SERIES
from hessscope.reports.figures.series import series_axis, series_table
from hessscope.reports.figures.style import number_text
from hessscope.reports.layouts.methods import (
    PAPER_TABLES,
    paper_table,
    saddle_report,
    setting_notes,
)
from hessscope.reports.tables.correlation import COEFFICIENTS, rank_correlation
from hessscope.reports.tables.points import by_search, certified_points, distinct_points
from hessscope.reports.tables.records import (
    RecordSource,
    as_points,
    record_row,
    records_of,
    records_table,
)
from hessscope.reports.tables.spectra import degeneracy_table, result_of, spectrum_summary
from hessscope.reports.texts import SURE, confidence_text, count_text, plain, text
from hessscope.reports.writers import ReportTable
from hessscope.spectra import SpectralDensity

LAYOUTS = (
    *("summary", "outcomes", "records", "methods", "sweep", "causes", "series"),
    *PAPER_TABLES,
)
"""What ``report_table`` makes."""

_SEARCH = {
    "status": "status",
    "method": "method",
    "origin": "origin",
    "certificate": "certificate",
}


def report_table(
    source: pd.DataFrame | RecordSource, layout: str | None = None, by: str | None = None
) -> ReportTable:
    """Make one of the tables of a record or of many.

    Args:
        source: a table of ``load_records``, or what that takes.
        layout: "summary" (one record in full), "outcomes" (how searches ended, and the rank
            correlation of α with the loss), "records" (a row each), "methods" (mean ± standard
            deviation by method), "sweep" (one record's counts at other tolerances), "causes"
            (why its eigenvalues are zero), "series" (checkpoints by epoch, or in their order where
            not all state one), or a table of the 2017 paper ("table1", …) with the paper's numbers;
            default "summary" for one record, "outcomes" where all are of searches, else "records".
        by: for "methods", the column that tells them apart.

    Raises:
        UnknownNameError: there is no such layout.
        OptionError: the layout needs one record and there are several, it needs searches and there
            are none, or ``by`` has no use.
    """
    points = as_points(source)
    layout = layout or _default_layout(points)
    if layout not in LAYOUTS:
        raise UnknownNameError("layout", layout, LAYOUTS)
    if by is not None and layout != "methods":
        raise OptionError(f"by is for the layout methods; the layout is {layout}")
    if layout == "methods":
        return saddle_report(points, by)
    if layout in PAPER_TABLES:
        return paper_table(points, layout)
    if layout == "records":
        return points_report(points)
    if layout == "outcomes":
        return outcomes_report(points)
    if len(points) != 1:
        raise OptionError(
            f"the layout {layout} is of one record, and there are {len(points)}: take the layout "
            "records or methods"
        )
    record = only_record(source, points)
    one = {
        "summary": summary_report,
        "sweep": sweep_report,
        "causes": causes_report,
        "series": series_report,
    }
    return one[layout](record)


def outcomes_report(points: pd.DataFrame) -> ReportTable:
    """How searches ended, failed ones too, and how α goes with the loss over certified points.

    Records that are of no search have no end: they are left out, and the notes say so.

    Raises:
        OptionError: no record is of a search.
    """
    searches, others = by_search(points)
    if searches.empty:
        raise OptionError(
            f"the layout outcomes is of searches, and none of the {len(points)} records has a "
            "status: take the layout records"
        )
    status = searches["status"]
    origin = searches["origin"].fillna("no origin")
    certified = certified_points(searches)
    table = pd.crosstab(status, origin)
    table.insert(0, "searches", table.sum(axis=1))
    table.insert(1, "certified", searches["certified"].astype(bool).groupby(status).sum())
    numbers = table.rename_axis(index="ended", columns=None).reset_index()
    notes = [f"{len(certified)} certified of {len(searches)} searches"]
    if len(certified):
        distinct = distinct_points(certified)
        notes[0] += (
            f"; {len(distinct)} of them are distinct, the others agree with one of these up to "
            "symmetries of the network"
        )
        for what, rows in (("certified", certified), ("distinct certified", distinct)):
            for coefficient in COEFFICIENTS:
                found = rank_correlation(rows["loss"], rows["alpha"], coefficient)
                notes.append(f"α and loss over {what} points: {found}")
    if len(others):
        names = ", ".join(others["name"].map(text))
        notes.append(f"left out: {len(others)} of {len(points)} records, of no search ({names})")
    notes += left_out(points)
    return ReportTable(
        "How the searches ended", numbers, numbers.map(str), (*notes, *setting_notes(certified))
    )


def points_report(points: pd.DataFrame) -> ReportTable:
    """Many records, one row each, with the interval of every count and its tolerance."""
    shown = pd.DataFrame({"record": points["name"].map(text)})
    if points["label"].notna().any():
        shown["label"] = points["label"].map(text)
    for column, title in _SEARCH.items():
        if points[column].nunique(dropna=False) > 1:
            shown[title] = points[column].map(text)
    shown["loss"] = points["loss"].map(plain)
    if points["accuracy"].notna().any():
        shown["error"] = points["error"].map(lambda x: plain(x, ".2%"))
    shown["‖∇L‖"] = points["gradient_norm"].map(plain)
    for name, title in (("index", "index"), ("degeneracy", "degeneracy")):
        shown[title] = _counts(points, name)
    shown["α"] = points["alpha"].map(plain)
    shown["τ"] = points["tolerance"].map(plain)
    for name, title in (("lambda_min", "λ min"), ("lambda_max", "λ max")):
        shown[title] = points[name].map(plain)
    if points["classification"].nunique(dropna=False) > 1:
        verdicts = points["classification"].str.replace(r" \(.*\)$", "", regex=True)
        shown["classification"] = verdicts.map(text)
    notes = list(setting_notes(points))
    notes += left_out(points)
    title = f"{len(points)} record{'s' if len(points) > 1 else ''}"
    return ReportTable(title, points, shown, tuple(notes))


def left_out(points: pd.DataFrame) -> list[str]:
    """Files that are in no row, and why."""
    return [f"left out: {path} ({why})" for path, why in points.attrs.get("skipped", [])]


def summary_report(record: Record) -> ReportTable:
    """One record in full: every number with its interval, and what it rests on."""
    row = record_row(record)
    rows: list[tuple[str, Any, Any, Any, Any]] = []

    def add(name: str, value: Any, lower: Any = None, upper: Any = None, level: Any = None) -> None:
        rows.append((name, value, lower, upper, level))

    for name in ("loss", "accuracy", "gradient_norm", "gradient_norm_start", "certificate_radius"):
        if not _missing(row[name]):
            add(name, row[name])
    summary = _spectrum_rows(record)
    if summary is not None:
        for quantity, values in summary.iterrows():
            ends = values["lower"], values["upper"]
            add(str(quantity), values["estimate"], *ends, values["confidence"])
    else:
        for name in ("lambda_min", "lambda_max", "trace"):
            if not _missing(row[name]):
                add(name, row[name])
        for name in ("index", "degeneracy", "positive"):
            if not _missing(row[name]):
                ends = row[f"{name}_lower"], row[f"{name}_upper"]
                add(name, row[name], *ends, row["confidence"])
        if not _missing(row["alpha"]):
            add("alpha", row["alpha"], row["alpha_lower"], row["alpha_upper"], row["confidence"])
    numbers = pd.DataFrame(rows, columns=["quantity", "estimate", "lower", "upper", "confidence"])
    shown = pd.DataFrame(
        {
            "quantity": [_QUANTITIES.get(r[0], r[0]) for r in rows],
            "value": [_value(r[0], r[1]) for r in rows],
            "interval": [_interval(*r) for r in rows],
        }
    )
    title = f"{row['name']}: {row['classification'] or record.kind}"
    table = records_table([record])
    return ReportTable(title, numbers, shown, (*_verdict_notes(row), *setting_notes(table)))


def sweep_report(record: Record) -> ReportTable:
    """Counts at several tolerances: where there is no gap they belong to their τ alone."""
    sweep = record.attributes.get("tolerance_sweep")
    if not isinstance(sweep, Mapping) or "tolerance" not in sweep:
        raise OptionError(f"this record (kind '{record.kind}') has no tolerance sweep")
    numbers = pd.DataFrame({name: list(column) for name, column in sweep.items()})
    powers = np.log10(numbers["tolerance"].clip(lower=1e-300))
    # The tolerance in use stands first.
    read = numbers[((powers - powers.round()).abs() < 1e-6) | (numbers.index == 0)]
    shown = pd.DataFrame({"tolerance τ": read["tolerance"].map(plain)})
    for name in ("index", "degeneracy", "positive"):
        shown[name] = _counts(read, name)
    notes = setting_notes(records_table([record]))[:1]
    if len(read) < len(numbers):
        notes += (f"the record (and CSV) has {len(numbers)} tolerances; shown are the decades",)
    return ReportTable("Counts at several tolerances", numbers, shown, notes)


def causes_report(record: Record) -> ReportTable:
    """Why eigenvalues are zero: null directions by their causes."""
    table = degeneracy_table(record)
    numbers = table.reset_index()
    shown = pd.DataFrame({"cause": numbers["cause"], "what": numbers["description"]})
    shown["counted"] = numbers["new"].map(lambda x: plain(x, ","))
    shown["‖HV‖"] = numbers["residual"].map(plain)
    degeneracy, rest = (
        count_text(c["estimate"], c["lower"], c["upper"])
        for c in (table.attrs["degeneracy"], table.attrs["unexplained"])
    )
    notes = (
        f"of a degeneracy of {degeneracy} at τ = {plain(table.attrs['tolerance'])}; "
        f"unexplained {rest}",
        "counted: null directions that are independent of those of the causes above",
    )
    return ReportTable("Why eigenvalues are zero", numbers, shown, notes)


def series_report(record: Record) -> ReportTable:
    """Spectra of several checkpoints, a row each."""
    numbers = series_table(record)
    axis = series_axis(numbers)
    if axis == "epoch":
        first = numbers["epoch"].map(lambda x: plain(x, "g"))
    else:
        first = numbers["checkpoint"].map(lambda path: Path(path).name)
    shown = pd.DataFrame({axis: first})
    if numbers["run"].nunique() > 1:
        shown.insert(0, "run", numbers["run"].map(str))
    shown["loss"] = numbers["loss"].map(plain)
    if numbers["accuracy"].notna().any():
        shown["error"] = (1 - numbers["accuracy"]).map(lambda x: plain(x, ".2%"))
    shown["‖∇L‖"] = numbers["gradient_norm"].map(plain)
    for name in ("index", "degeneracy"):
        shown[name] = _counts(numbers, name)
    shown["α"] = numbers["alpha"].map(plain)
    shown["τ"] = numbers["tolerance"].map(plain)
    for name, title in (("lambda_min", "λ min"), ("lambda_max", "λ max")):
        shown[title] = numbers[name].map(plain)
    failed = [str(name) for name in record.attributes.get("failed", ())]
    notes = ["zero: |λ| ≤ τ; in brackets where counts are not sure: their interval"]
    notes += [str(note) for note in record.attributes.get("notes", ())]
    notes += [f"failed: {name}" for name in failed]
    return ReportTable(f"Spectra by {axis}", numbers, shown, tuple(notes))


_QUANTITIES = {
    "loss": "loss ε",
    "accuracy": "accuracy",
    "gradient_norm": "gradient norm ‖∇L‖",
    "gradient_norm_start": "gradient norm at the start",
    "certificate_radius": "a critical point lies within",
    "lambda_min": "λ min",
    "lambda_max": "λ max",
    "trace": "trace",
    "index": "index, λ < −τ",
    "degeneracy": "degeneracy, |λ| ≤ τ",
    "positive": "positive, λ > τ",
    "alpha": "α = index / n",
}
_WHOLE = ("index", "degeneracy", "positive")


def _spectrum_rows(record: Record) -> pd.DataFrame | None:
    """Extremes, trace and counts with their intervals, where the record holds the spectrum."""
    tolerance = record.attributes.get("tolerance")
    try:
        result = result_of(record)
    except (OptionError, KeyError):
        return None
    if tolerance is None and isinstance(result, SpectralDensity):
        return None
    return spectrum_summary(result, tolerance=None if tolerance is None else float(tolerance))


def _verdict_notes(row: dict[str, Any]) -> list[str]:
    notes = []
    if row["status"]:
        how = f"search by {row['method']}" if row["method"] else "search"
        steps = "" if row["iterations"] is None else f" after {row['iterations']} steps"
        notes.append(f"{how}: {row['status']}{steps}")
    if row["certificate"]:
        sure = (
            "a true critical point is near, conditional on the estimated Lipschitz constant"
            if row["certified"]
            else "no statement on a true critical point"
        )
        reason = f" ({row['certificate_reason']})" if row["certificate_reason"] else ""
        notes.append(f"certificate {row['certificate']}: {sure}{reason}")
    return notes


def _default_layout(points: pd.DataFrame) -> str:
    if len(points) == 1:
        return "series" if points["kind"].iloc[0] == SERIES else "summary"
    return "outcomes" if by_search(points)[1].empty else "records"


def only_record(source: Any, points: pd.DataFrame) -> Record:
    """The record that a table of one row is of, with its arrays."""
    if isinstance(source, Record):
        return source
    path = points["path"].iloc[0]
    if isinstance(source, pd.DataFrame) and path is None:
        raise OptionError("this row has no file: give the record itself")
    return records_of(path if path is not None else source)[0]


def _counts(table: pd.DataFrame, name: str) -> list[str]:
    columns = (table[name], table[f"{name}_lower"], table[f"{name}_upper"])
    return [count_text(*values) for values in zip(*columns, strict=True)]


def _missing(value: Any) -> bool:
    return value is None or bool(pd.isna(value))


def _value(name: str, value: Any) -> str:
    if name == "accuracy":
        return plain(value, ".2%")
    return plain(value, ",.0f") if name in _WHOLE else number_text(value, 6, zeros=True)


def _interval(name: str, value: Any, lower: Any, upper: Any, confidence: Any) -> str:
    """``± 8×10⁻¹⁵ (rounding alone)``, ``2,640 to 2,670 (95 %)``; empty where nothing is known."""
    if _missing(lower) or _missing(upper):
        return ""
    level = "" if _missing(confidence) else f" ({confidence_text(confidence)})"
    half = max(upper - value, value - lower)
    if lower == upper and confidence == 1:
        return SURE
    if np.isinf(half):
        return f"not known{level}"
    if name not in _WHOLE and half < 1e-5 * abs(value):
        return f"± {number_text(half, 2)}{level}"
    return f"{_value(name, lower)} to {_value(name, upper)}{level}"
