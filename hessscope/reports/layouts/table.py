"""Tables as they are read: numbers, texts, and notes on what the numbers rest on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from hessscope.reports.tables.points import verdict_text
from hessscope.reports.texts import confidence_text, count_text, plain, range_text

_SETTINGS = {
    "architecture": "network",
    "optimizer": "optimizer",
    "initialization": "initialization",
    "epoch": "epoch",
    "method": "search by",
    "data": "data",
    "split": "split",
    "examples": "examples",
    "loss_function": "loss",
    "l2": "l2",
    "parameters": "n =",
    "dtype": "in",
    "backend": "backend",
}
_NUMBERS = {"α": "alpha", "τ": "tolerance", "λ min": "lambda_min", "λ max": "lambda_max"}
_MOST_VALUES = 4
"""Settings with more values are told by their range, or by the first."""


@dataclass(frozen=True)
class ReportTable:
    """A table twice: as numbers, and as it is read.

    Attributes:
        title: what it shows.
        numbers: every number with its interval, one column each; what CSV has.
        shown: texts; columns may have two levels.
        notes: what the numbers rest on: tolerance, rule, data type, data.
    """

    title: str
    numbers: pd.DataFrame
    shown: pd.DataFrame
    notes: tuple[str, ...] = ()


def measures(table: pd.DataFrame) -> dict[str, Any]:
    """Texts of loss, error, gradient, counts and extremes of points, a column each."""
    error = 1.0 - table["accuracy"]
    shown: dict[str, Any] = {"loss": table["loss"].map(plain)}
    if error.notna().any():
        shown["error"] = error.map(lambda x: plain(x, ".2%"))
    shown["‖∇L‖"] = table["gradient_norm"].map(plain)
    shown |= {name: counts(table, name) for name in ("index", "degeneracy")}
    return shown | {title: table[name].map(plain) for title, name in _NUMBERS.items()}


def counts(table: pd.DataFrame, name: str) -> list[str]:
    """Texts of a count, with its interval where it is not sure."""
    columns = (table[name], table[f"{name}_lower"], table[f"{name}_upper"])
    return [count_text(*values) for values in zip(*columns, strict=True)]


def skipped_notes(points: pd.DataFrame) -> list[str]:
    """Files that are in no row, and why."""
    return [f"left out: {path} ({why})" for path, why in points.attrs.get("skipped", [])]


def tolerance_notes(table: pd.DataFrame) -> list[str]:
    """What counts as zero, and what stands in brackets."""
    notes = []
    if table[["index", "tolerance"]].notna().any(axis=None):
        zero = f"zero: |λ| ≤ τ, {_range(table['tolerance'], 'τ')}"
        notes.append(f"{zero}; noise floor {_range(table['noise_floor'], 'δ')}")
    ends = ((table[f"{name}_lower"], table[f"{name}_upper"]) for name in ("index", "degeneracy"))
    if any((lower < upper).fillna(False).any() for lower, upper in ends):
        levels = sorted(set(table["confidence"].dropna()))
        kind = ", ".join(map(confidence_text, levels))
        notes.append(f"in brackets where counts are not sure: their interval ({kind})")
    return notes


def problem_notes(table: pd.DataFrame, by: str | None = None) -> list[str]:
    """What the records have in common, and what makes their points differ in kind.

    Args:
        table: of the records.
        by: the setting that has a row for each value, and needs no note.
    """
    notes, several = [], len(table) > 1
    left_out = {by, *(() if several else ("method",)), *(() if table["l2"].any() else ("l2",))}
    settings = [
        f"{what} {_values(table[column].dropna())}"
        for column, what in _SETTINGS.items()
        if column not in left_out and table[column].notna().any()
    ]
    if settings:
        notes.append("; ".join(settings))
    same = table["checkpoint_sha256"].dropna().duplicated().sum()
    if same:
        told = "1 record is" if same == 1 else f"{same} records are"
        notes.append(f"{told} of a checkpoint that another record is of too")
    if several and table["gradient_norm"].notna().any():
        notes.append(f"gradient norm: {_range(table['gradient_norm'], '‖∇L‖')}")
    if several and table["classification"].notna().any():
        notes.append(f"classification: {verdict_text(table)}")
    return notes


def setting_notes(table: pd.DataFrame, by: str | None = None) -> list[str]:
    """What the numbers of a table rest on: tolerance and problem."""
    return [*tolerance_notes(table), *problem_notes(table, by)]


def certificate_text(row: pd.Series) -> str:
    """``certificate kantorovich: a true critical point is near, …``."""
    sure = (
        "a true critical point is near, conditional on the estimated Lipschitz constant"
        if row["certified"]
        else "no statement on a true critical point"
    )
    return f"certificate {row['certificate']}: {sure}"


def _values(column: pd.Series) -> str:
    """The different values: all, or their range, or how many more there are."""
    values = list(dict.fromkeys(column))
    if len(values) <= _MOST_VALUES:
        return ", ".join(map(_setting, values))
    if all(isinstance(value, (int, float, np.number)) for value in values):
        return f"{_setting(min(values))} to {_setting(max(values))}"
    shown = ", ".join(map(_setting, values[: _MOST_VALUES - 1]))
    return f"{shown} and {len(values) - _MOST_VALUES + 1} others"


def _setting(value: Any) -> str:
    return f"{value:,}" if isinstance(value, (int, float, np.number)) else str(value)


def _range(values: pd.Series, symbol: str) -> str:
    known = range_text(values, " to ")
    if not known:
        return f"{symbol} not recorded"
    return f"{symbol} {'from' if ' to ' in known else '='} {known}"
