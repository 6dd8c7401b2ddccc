"""Layout ``methods``: mean ± standard deviation over the trials of each method."""

from __future__ import annotations

import pandas as pd

from hessscope.reports.layouts.table import ReportTable, setting_notes
from hessscope.reports.tables.points import QUANTITIES, mean_text, methods_table
from hessscope.reports.tables.records import RecordSource, as_points


def methods(source: RecordSource, by: str | None = None) -> ReportTable:
    """The table of ``methods_table`` as it is read."""
    table = as_points(source)
    numbers = methods_table(table, by)
    key = numbers.columns[0]
    shown = pd.DataFrame({key: numbers[key], "trials": numbers["trials"].map(str)})
    if table["status"].notna().any():
        shown = shown.join(numbers[["converged", "certified"]].map(str))
    rows = numbers.to_dict(orient="records")
    for name, quantity in QUANTITIES.items():
        keys = ("mean", "std", "lower", "upper") if quantity.counted else ("mean", "std")
        shown[quantity.title] = [
            mean_text(*(quantity.scale * row[f"{name}_{key}"] for key in keys)) for row in rows
        ]
    shown["classification"] = numbers["classification"]
    title = "What trials of each method end at (mean ± standard deviation)"
    return ReportTable(title, numbers, shown, tuple(setting_notes(table, key)))
