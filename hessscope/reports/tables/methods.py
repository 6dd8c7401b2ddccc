"""Trials of each method: means and deviations of what they end at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from hessscope.options.fields import one_of
from hessscope.options.report import GROUPINGS
from hessscope.reports.tables.records import RecordSource, as_points
from hessscope.reports.texts import MISSING, plus_minus


@dataclass(frozen=True)
class Quantity:
    """What is averaged over trials.

    Attributes:
        column: of ``load_records``.
        title: of the column that shows it.
        scale: from the number in the record to the one that is shown.
    """

    column: str
    title: str
    scale: float = 1.0

    @property
    def counted(self) -> bool:
        """Whether it is a count, which has an interval."""
        return self.column in ("index", "degeneracy", "positive")

    def mean(self, trials: pd.DataFrame, column: str | None = None) -> dict[str, float]:
        """Mean, standard deviation (with n − 1), and the mean ends of the intervals of counts.

        Args:
            trials: rows of ``load_records``.
            column: another one that has the same quantity, without intervals.
        """
        values = trials[column or self.column].astype(float)
        found = {"mean": values.mean(), "std": values.std(ddof=1)}
        if self.counted and column is None:
            for end in ("lower", "upper"):
                found[end] = trials[f"{self.column}_{end}"].astype(float).mean()
        return {name: float(value) for name, value in found.items()}


QUANTITIES = {
    "positive": Quantity("positive", "positive"),
    "negative": Quantity("index", "negative (index)"),
    "zero": Quantity("degeneracy", "zero (degeneracy)"),
    "accuracy": Quantity("accuracy", "accuracy %", 100.0),
    "gradient_norm": Quantity("gradient_norm", "‖∇L‖"),
    "loss": Quantity("loss", "loss"),
}


def methods_table(points: RecordSource, by: str | None = None) -> pd.DataFrame:
    """Counts, accuracy and gradient norm over the trials of each method.

    Args:
        points: a table of ``load_records``, or what that takes.
        by: the column that tells the methods apart, one of ``GROUPINGS``; default the first of
            label, optimizer and method that the records have.

    Returns:
        One row a method: ``trials``, and for positive, negative (index), zero (degeneracy),
        accuracy, gradient_norm and loss the columns ``…_mean`` and ``…_std`` (with n − 1; NaN for
        one trial). ``…_lower`` and ``…_upper`` of counts are the means of the ends of the trials'
        intervals: the mean count lies between them. ``tolerance_lower``/``upper`` and
        ``parameters_lower``/``upper`` are over the trials; ``classification`` counts the verdicts;
        ``converged`` and ``certified`` count trials, where they are searches.

    Raises:
        UnknownNameError: ``by`` is no grouping.
    """
    table = as_points(points)
    by = grouping(table, by)
    groups = table[by].map(lambda value: MISSING if pd.isna(value) else str(value))
    rows = [
        {by: name, **_statistics(table[groups == name])}
        for name in dict.fromkeys(groups)  # in the order in which they came
    ]
    return pd.DataFrame(rows)


def grouping(table: pd.DataFrame, by: str | None) -> str:
    """The column that tells methods apart."""
    if by is None:
        named = (name for name in ("label", "optimizer", "method") if table[name].notna().any())
        return next(named, "label")
    name: str = one_of(GROUPINGS, "grouping")(by)
    return name


def verdicts(points: pd.DataFrame) -> pd.Series:
    """Classifications without what is in brackets, which differs between trials."""
    return points["classification"].str.replace(r" \(.*\)$", "", regex=True)


def verdict_text(trials: pd.DataFrame) -> str:
    """``3 × saddle, 1 × not a critical point``."""
    counts = verdicts(trials.dropna(subset="classification")).value_counts()
    return ", ".join(f"{count} × {name}" for name, count in counts.items()) or MISSING


def mean_text(
    mean: float, std: float, lower: float = np.nan, upper: float = np.nan, **_: object
) -> str:
    """Mean and deviation, and the interval of a mean count where it is one."""
    if np.isnan([mean, lower, upper]).any() or lower == upper:
        return plus_minus(mean, std)
    return f"{plus_minus(mean, std)} [{lower:,.0f}, {upper:,.0f}]"


def _statistics(trials: pd.DataFrame) -> dict[str, Any]:
    row: dict[str, Any] = {
        "trials": len(trials),
        "converged": int((trials["status"] == "converged").sum()),
        "certified": int(trials["certified"].astype(bool).sum()),
    }
    for name, quantity in QUANTITIES.items():
        row |= {f"{name}_{key}": value for key, value in quantity.mean(trials).items()}
    for column in ("tolerance", "parameters"):
        row[f"{column}_lower"] = trials[column].min()
        row[f"{column}_upper"] = trials[column].max()
    return {**row, "classification": verdict_text(trials)}
