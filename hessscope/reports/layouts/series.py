"""Layout ``series``: spectra of several checkpoints."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from hessscope.reports.layouts.table import ReportTable, measures
from hessscope.reports.tables.points import series_axis, series_table
from hessscope.reports.tables.records import RecordSource, as_record


def series(source: RecordSource) -> ReportTable:
    """Checkpoints of a series by epoch, or in their order where not all state one."""
    record = as_record(source)
    numbers = series_table(record)
    axis = series_axis(numbers)
    first = numbers[axis].map((lambda x: f"{x:g}") if axis == "epoch" else lambda x: Path(x).name)
    shown = pd.DataFrame({axis: first, **measures(numbers)})
    if numbers["run"].nunique() > 1:
        shown.insert(0, "run", numbers["run"].map(str))
    notes = (
        "zero: |λ| ≤ τ; in brackets where counts are not sure: their interval",
        *map(str, record.attributes.get("notes", ())),
        *(f"failed: {name}" for name in record.attributes.get("failed", ())),
    )
    return ReportTable(f"Spectra by {axis}", numbers, shown, notes)
