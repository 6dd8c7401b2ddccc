"""Tables of a study: critical points, trials of each method, series."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hessscope.errors import OptionError
from hessscope.options.fields import one_of
from hessscope.options.report import GROUPINGS
from hessscope.records import load_record
from hessscope.reports.tables.records import RecordLike, RecordSource, as_points, as_record
from hessscope.reports.texts import MISSING, plus_minus

_SPECTRA = ("eigenvalues", "spectrum/eigenvalues")
_QUOTIENT = "kantorovich-quotient"


def certified_points(points: pd.DataFrame) -> pd.DataFrame:
    """Rows whose certificate says that a true critical point is near."""
    return points[points["certified"].astype(bool)]


def by_search(points: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows that are of a search, which say how it ended, and the others."""
    searched = points["status"].notna()
    return points[searched], points[~searched]


def distinct_points(points: pd.DataFrame, rtol: float = 1e-6) -> pd.DataFrame:
    """Keep one row for each set of points that are the same up to a symmetry of the network.

    Permutations of hidden units and changes of sign leave the loss and the spectrum as they are,
    so points count as the same where loss and eigenvalues agree. A continuous symmetry leaves the
    loss and the counts as they are, but not the eigenvalues: of points with the certificate
    ``kantorovich-quotient`` loss, index, degeneracy and positive have to agree. Different points
    may agree in all this by chance, hence the number is a lower bound, as long as the counts are
    right. Eigenvalues are read from the records; where there are none the counts have to agree.
    A certified and an uncertified point are never the same.

    Args:
        points: a table of ``load_records``.
        rtol: the losses may differ by rtol·(1 + |loss|), the eigenvalues by rtol·max |λ|.

    Returns:
        The first row of each set, in order of the loss, with a column ``found``: how many rows the
        set has.
    """
    if rtol < 0:
        raise OptionError(f"rtol is {rtol}: give a number of at least 0, such as 1e-6")
    ordered = points.sort_values("loss", kind="stable")
    losses = ordered["loss"].to_numpy(dtype=float)
    counts = ordered[["index", "degeneracy", "positive"]].to_numpy(dtype=float, na_value=np.nan)
    on_orbit = (ordered["certificate"] == _QUOTIENT).to_numpy()
    kinds = list(zip(ordered["certified"].astype(bool), on_orbit, strict=True))
    firsts: list[int] = []
    found: list[int] = []
    spectra: list[np.ndarray] = []
    for row, path in enumerate(ordered["path"]):
        spectrum = _eigenvalues(None if on_orbit[row] else path, counts[row])
        for k, first in enumerate(firsts):
            close = abs(losses[row] - losses[first]) <= rtol * (1.0 + abs(losses[first]))
            if close and kinds[row] == kinds[first] and _agree(spectrum, spectra[k], rtol):
                found[k] += 1
                break
        else:
            firsts.append(row)
            found.append(1)
            spectra.append(spectrum)
    return ordered.iloc[firsts].assign(found=found)


def spread_points(points: pd.DataFrame, count: int = 3) -> pd.DataFrame:
    """Choose points of low, middle, …, high loss, equally far apart by rank.

    Args:
        points: a table of ``load_records``; rows without a loss are left out.
        count: how many; fewer where there are fewer.
    """
    if count < 1:
        raise OptionError(f"count is {count}: give a number of points, at least 1")
    ordered = points[points["loss"].notna()].sort_values("loss", kind="stable")
    chosen = np.unique(np.round(np.linspace(0, len(ordered) - 1, min(count, len(ordered)))))
    return ordered.iloc[chosen.astype(int)]


def _eigenvalues(path: str | None, counts: np.ndarray) -> np.ndarray:
    """Those in the record; without one −1, 0 and 1 as often as the counts say."""
    if path is not None and Path(path).is_file():
        for values in load_record(path, arrays=_SPECTRA).arrays.values():
            return values
    return np.repeat([-1.0, 0.0, 1.0], np.nan_to_num(counts).astype(int))


def _agree(one: np.ndarray, other: np.ndarray, rtol: float) -> bool:
    if one.shape != other.shape:
        return False
    scale = max(float(np.abs(one).max(initial=0.0)), float(np.abs(other).max(initial=0.0)))
    return bool(np.abs(one - other).max(initial=0.0) <= rtol * scale)


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
    trials = table.groupby(groups, sort=False)  # in the order in which they came
    return pd.DataFrame([{by: name, **_statistics(rows)} for name, rows in trials])


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


SERIES = "spectrum series"
"""Kind of its record."""


def series_table(series: RecordLike) -> pd.DataFrame:
    """The numbers of a series, a row for each checkpoint.

    Args:
        series: the report of ``spectrum_series``, or the record of a series (``hessscope spectrum
            run/*.pt``).

    Returns:
        Columns ``run`` and ``checkpoint``, and every quantity of the record: ``epoch``, ``loss``,
        ``accuracy``, ``gradient_norm``, ``gTg``, ``gTHg``, ``lambda_min``, ``lambda_max``,
        ``index``, ``index_lower``, … NaN where a checkpoint has none. By run and epoch, or in the
        order the checkpoints were given in where not all state their epoch.

    Raises:
        OptionError: the record is of another kind.
    """
    record = as_record(series)
    if record.kind != SERIES:
        raise OptionError(f"a record of kind '{record.kind}' is no series; expected '{SERIES}'")
    kept = [name for name in record.arrays if not name.startswith("results/")]
    table = pd.DataFrame({name: record.arrays[name] for name in ("epoch", *kept)})
    table.insert(0, "run", list(record.attributes["runs"]))
    table.insert(1, "checkpoint", list(record.attributes["checkpoints"]))
    if series_axis(table) == "checkpoint":
        return table
    return table.sort_values(["run", "epoch"], kind="stable", ignore_index=True)


def series_axis(table: pd.DataFrame) -> str:
    """What a series goes by: "epoch", or "checkpoint" where not all of them state their epoch."""
    return "epoch" if table["epoch"].notna().all() else "checkpoint"
