"""Layout ``records``: a row for each record."""

from __future__ import annotations

import pandas as pd

from hessscope.reports.layouts.table import ReportTable, measures, setting_notes, skipped_notes
from hessscope.reports.tables.points import verdicts
from hessscope.reports.tables.records import RecordSource, as_points
from hessscope.reports.texts import text


def records(source: RecordSource) -> ReportTable:
    """Many records, one row each, with the interval of every count and its tolerance."""
    points = as_points(source)
    shown = pd.DataFrame({"record": points["name"].map(text)})
    if points["label"].notna().any():
        shown["label"] = points["label"].map(text)
    for column in ("status", "method", "origin", "certificate"):
        if points[column].nunique(dropna=False) > 1:
            shown[column] = points[column].map(text)
    shown = shown.assign(**measures(points))
    if points["classification"].nunique(dropna=False) > 1:
        shown["classification"] = verdicts(points).map(text)
    title = f"{len(points)} record{'s' if len(points) > 1 else ''}"
    notes = (*setting_notes(points), *skipped_notes(points))
    return ReportTable(title, points, shown, notes)
