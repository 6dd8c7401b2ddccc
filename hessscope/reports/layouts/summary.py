"""Layout ``summary``: one record in full."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from hessscope.errors import OptionError, RecordError
from hessscope.records import Record
from hessscope.reports.layouts.table import ReportTable, certificate_text, setting_notes
from hessscope.reports.tables.records import COUNTS, RecordSource, as_points, as_record
from hessscope.reports.tables.spectra import result_and_tolerance, spectrum_summary
from hessscope.reports.texts import SURE, confidence_text, number_text, plain

_TITLES = {
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
_OF_POINT = ("loss", "accuracy", "gradient_norm", "gradient_norm_start", "certificate_radius")


def summary(source: RecordSource) -> ReportTable:
    """Every number of one record with its interval, and what it rests on."""
    record = as_record(source)
    points = as_points(record)
    row = points.iloc[0]
    found = _spectrum_rows(record)
    if found is None:
        names = [name for name in _TITLES if name not in _OF_POINT]
        ends = ("", "_lower", "_upper")
        cells = [[row.get(f"{name}{end}") for end in ends] for name in names]
        found = pd.DataFrame(cells, names, ["estimate", "lower", "upper"])
        found["confidence"] = np.where(found["lower"].notna(), row["confidence"], np.nan)
    of_point = pd.DataFrame({"estimate": {name: row[name] for name in _OF_POINT}})
    numbers = pd.concat([of_point, found]).dropna(subset="estimate")
    numbers = numbers.reindex(columns=["estimate", "lower", "upper", "confidence"])
    numbers = numbers.rename_axis("quantity").reset_index()
    rows = list(numbers.itertuples(index=False, name=None))
    shown = pd.DataFrame(
        {
            "quantity": [_TITLES[name] for name, *_ in rows],
            "value": [_value(name, value) for name, value, *_ in rows],
            "interval": [_interval(*values) for values in rows],
        }
    )
    title = f"{row['name']}: {row['classification'] or record.kind}"
    return ReportTable(title, numbers, shown, (*_verdict_notes(row), *setting_notes(points)))


def _spectrum_rows(record: Record) -> pd.DataFrame | None:
    """Extremes, trace and counts with their intervals, where the record holds the spectrum."""
    try:
        result, tolerance = result_and_tolerance(record, None)
        if tolerance is None and result.eigenvalues is None:
            return None
        return spectrum_summary(result, tolerance=tolerance)
    except (OptionError, RecordError):
        return None


def _verdict_notes(row: pd.Series) -> list[str]:
    notes = []
    if row["status"]:
        how = f"search by {row['method']}" if row["method"] else "search"
        steps = "" if pd.isna(row["iterations"]) else f" after {row['iterations']} steps"
        notes.append(f"{how}: {row['status']}{steps}")
    if row["certificate"]:
        reason = f" ({row['certificate_reason']})" if row["certificate_reason"] else ""
        notes.append(f"{certificate_text(row)}{reason}")
    return notes


def _value(name: str, value: Any) -> str:
    if name == "accuracy":
        return plain(value, ".2%")
    return plain(value, ",.0f") if name in COUNTS else number_text(value, 6, zeros=True)


def _interval(name: str, value: Any, lower: Any, upper: Any, confidence: Any) -> str:
    """``± 8×10⁻¹⁵ (rounding alone)``, ``2,640 to 2,670 (95 %)``; empty where nothing is known."""
    if pd.isna(lower) or pd.isna(upper):
        return ""
    if lower == upper and confidence == 1:
        return SURE
    level = "" if pd.isna(confidence) else f" ({confidence_text(confidence)})"
    half = max(upper - value, value - lower)
    if np.isinf(half):
        return f"not known{level}"
    if name not in COUNTS and half < 1e-5 * abs(value):
        return f"± {number_text(half, 2)}{level}"
    return f"{_value(name, lower)} to {_value(name, upper)}{level}"
