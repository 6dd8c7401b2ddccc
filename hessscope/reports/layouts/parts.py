"""Layouts ``parts`` and ``distances``: diagonal blocks, and how far apart their spectra are."""

from __future__ import annotations

from typing import Any

import pandas as pd

from hessscope.reports.layouts.table import ReportTable, counts, tolerance_notes
from hessscope.reports.tables.parts import distance_table, parts_table
from hessscope.reports.tables.records import RecordSource, as_record
from hessscope.reports.texts import plain

_MEASURE = (
    "distances: √JSD of the spectral densities, base 2, smoothed by 1/100 of a pair's range; 0 "
    "where they agree, 1 where they do not overlap"
)


def parts(source: RecordSource) -> ReportTable:
    """Counts and extremes of each part's diagonal block, of one record."""
    table = parts_table(as_record(source))
    shown = pd.DataFrame({str(table.attrs["by"]): table.index})
    shown["n"] = table["parameters"].map(lambda x: plain(x, ",")).to_list()
    for name in ("index", "degeneracy"):
        shown[name] = counts(table, name)
    for title, name in (("λ min", "lambda_min"), ("λ max", "lambda_max"), ("trace", "trace")):
        shown[title] = table[name].map(plain).to_list()
    share, distance = table.attrs["off_block"], table.attrs["distance"]
    notes = tolerance_notes(table)
    if share is not None:
        notes.append(f"share of the squared Frobenius norm outside of the blocks: {_text(share)}")
    if distance is not None:
        notes += [f"mean distance of the spectra: {_text(distance)}", _MEASURE]
    return ReportTable("Spectra of diagonal blocks", table.reset_index(), shown, tuple(notes))


def distances(source: RecordSource) -> ReportTable:
    """Distances of the parts' spectra, of one record."""
    table = distance_table(as_record(source))
    shown = table.map(lambda x: plain(x, ".2f")).rename_axis(None).reset_index(names="part")
    lower, upper = (table.attrs[name] for name in ("lower", "upper"))
    notes = [f"mean over all pairs: {_text(table.attrs['mean'])}", _MEASURE]
    if not lower.equals(upper):
        widest = float((upper - lower).to_numpy().max())
        notes.insert(1, f"intervals of single distances are up to {plain(widest)} wide")
    return ReportTable("Distances of spectra", table.reset_index(), shown, tuple(notes))


def _text(estimate: dict[str, Any]) -> str:
    value = plain(estimate["value"])
    if estimate["confidence"] == 1.0:
        return value
    return f"{value} [{plain(estimate['lower'])}, {plain(estimate['upper'])}], 95 %"
