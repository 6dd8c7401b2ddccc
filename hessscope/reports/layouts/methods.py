"""Degenerate-saddle tables: what trials of each method end at, and the 2017 paper's beside them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from hessscope.errors import OptionError, UnknownNameError
from hessscope.reports.layouts import sankar2017
from hessscope.reports.tables.records import RecordSource, as_points
from hessscope.reports.texts import confidence_text, plain, plus_minus
from hessscope.reports.writers import MISSING, ReportTable

GROUPINGS = ("label", "optimizer", "initialization", "architecture", "method", "origin", "data")
PAPER_TABLES = tuple(sankar2017.TABLES)

OURS, RULE, PAPER = "ours", "sankar2017 rule", "paper"

# Quantity: the column that has it, and whether it is a count with an interval.
_SOURCES = {
    "positive": ("positive", True),
    "negative": ("index", True),
    "zero": ("degeneracy", True),
    "accuracy": ("accuracy", False),
    "gradient_norm": ("gradient_norm", False),
    "loss": ("loss", False),
}
_TITLES = {
    "positive": "positive",
    "negative": "negative (index)",
    "zero": "zero (degeneracy)",
    "accuracy": "accuracy %",
    "gradient_norm": "‖∇L‖",
    "loss": "loss",
}

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
_MOST_VALUES = 4
"""Settings with more values are told by their range, or by the first."""


def saddle_table(points: pd.DataFrame | RecordSource, by: str | None = None) -> pd.DataFrame:
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
    if by not in GROUPINGS:
        raise UnknownNameError("grouping", by, GROUPINGS)
    return by


def saddle_report(points: pd.DataFrame | RecordSource, by: str | None = None) -> ReportTable:
    """The degenerate-saddle table as it is read: mean ± standard deviation, intervals, notes."""
    table = as_points(points)
    numbers = saddle_table(table, by)
    key = numbers.columns[0]
    shown = pd.DataFrame({key: numbers[key], "trials": numbers["trials"].map(str)})
    searched = bool(table["status"].notna().any())
    if searched:
        shown["converged"] = numbers["converged"].map(str)
        shown["certified"] = numbers["certified"].map(str)
    for quantity in _SOURCES:
        shown[_TITLES[quantity]] = [_cell(row, quantity) for _, row in numbers.iterrows()]
    shown["classification"] = numbers["classification"]
    return ReportTable(
        "What trials of each method end at (mean ± standard deviation)",
        numbers,
        shown,
        setting_notes(table, key),
    )


def paper_table(points: pd.DataFrame | RecordSource, name: str) -> ReportTable:
    """A table of Sankar & Balasubramanian (2017) with our numbers beside the paper's.

    Rows are matched by the name of the optimiser, the initialisation or the architecture in the
    records, or by the labels that were given, as the paper names them ("Momentum", "He",
    "784-25-25-10"); small differences in spelling do not matter. Rows that only one side has are
    there too. Shown are the data sets that the records are of, and the paper's beside.

    Args:
        points: a table of ``load_records``, or what that takes.
        name: one of ``PAPER_TABLES``.

    Returns:
        The table; its ``numbers`` have one row for each data set, row, quantity and source (ours,
        the paper's counting rule on our networks where the records have it, the paper), with mean,
        std, lower, upper and trials.

    Raises:
        UnknownNameError: the paper has no such table.
    """
    if name not in sankar2017.TABLES:
        raise UnknownNameError("table of the 2017 paper", name, PAPER_TABLES)
    published = sankar2017.TABLES[name]
    table = as_points(points)
    tested = table["test_accuracy"].notna()
    table = table.assign(accuracy=table["accuracy"].where(~tested, table["test_accuracy"]))
    labelled = table["label"].notna()
    keys = table[published.by].where(~labelled, table["label"])
    if published.by != "label" and keys.isna().all():
        raise OptionError(
            f"the records do not say their {published.by}, by which {name} goes: give labels, as "
            f"in {next(iter(published.rows))[1].lower().replace(' ', '-')}=FOLDER"
        )
    rows = keys.map(lambda v: MISSING if pd.isna(v) else sankar2017.row_name(str(v), published.by))
    sets = table["data"].map(lambda v: MISSING if pd.isna(v) else sankar2017.data_set_name(v))
    ours = list(dict.fromkeys(zip(sets, rows, strict=True)))
    known = [key for key in published.rows if key[0] in set(sets)] or list(published.rows)
    order = [*known, *(key for key in ours if key not in known)]
    numbers, shown = [], []
    for key in order:
        chosen = table[(sets == key[0]) & (rows == key[1])]
        found = _comparison(chosen, published, key)
        numbers += found
        shown.append(_shown_row(found, chosen, published, key))
    columns = [c for c in shown[0] if c[1] != RULE or any(texts[c] != MISSING for texts in shown)]
    frame = pd.DataFrame(
        [[texts[c] for c in columns] for texts in shown], columns=pd.MultiIndex.from_tuples(columns)
    )
    number = f"table {name[5:]}" if name.startswith("table") else "section 5"
    used = table[[key in ours for key in zip(sets, rows, strict=True)]]
    counted = any(_SOURCES[quantity][1] for quantity in published.quantities)
    how = "; signs without a tolerance, zero means exactly 0.0" if counted else ""
    return ReportTable(
        f"{published.title}: ours beside {number} of the 2017 paper",
        pd.DataFrame(numbers),
        frame,
        (
            *(setting_notes(used) if counted else _problem_notes(used)),
            f"paper: {sankar2017.CITATION}, {number}, mean ± standard deviation over "
            f"{sankar2017.TRIALS} trials{how}",
            *_rule_note(used, published),
            *published.remarks,
            *(
                remark
                for name in dict.fromkeys(name for name, _ in order)
                for remark in published.remarks_on.get(name, ())
            ),
        ),
    )


def setting_notes(table: pd.DataFrame, by: str | None = None) -> tuple[str, ...]:
    """What the numbers of a table rest on, and what makes its trials differ in kind.

    Args:
        table: of the records.
        by: the setting that has a row for each value, and needs no note.
    """
    notes = []
    if table[["index", "tolerance"]].notna().any(axis=None):
        zero = f"zero: |λ| ≤ τ, {_range(table['tolerance'], 'τ')}"
        notes.append(f"{zero}; noise floor {_range(table['noise_floor'], 'δ')}")
    if _open_counts(table):
        levels = sorted(set(table["confidence"].dropna()))
        kind = ", ".join(map(confidence_text, levels))
        notes.append(f"in brackets where counts are not sure: their interval ({kind})")
    return (*notes, *_problem_notes(table, by))


def _problem_notes(table: pd.DataFrame, by: str | None = None) -> tuple[str, ...]:
    notes = []
    settings = [
        f"{what} {_values(table[column].dropna())}"
        for column, what in _SETTINGS.items()
        if table[column].notna().any()
        and column != by
        and not (column == "l2" and not table["l2"].any())
        and not (column == "method" and len(table) == 1)  # said with its result
    ]
    if settings:
        notes.append("; ".join(settings))
    same = table["checkpoint_sha256"].dropna().duplicated().sum()
    if same:
        told = "1 record is" if same == 1 else f"{same} records are"
        notes.append(f"{told} of a checkpoint that another record is of too")
    if len(table) > 1 and table["gradient_norm"].notna().any():
        notes.append(f"gradient norm: {_range(table['gradient_norm'], '‖∇L‖')}")
    if len(table) > 1 and table["classification"].notna().any():
        notes.append(f"classification: {_verdicts(table)}")
    return tuple(notes)


def _statistics(trials: pd.DataFrame) -> dict[str, Any]:
    row: dict[str, Any] = {"trials": len(trials)}
    status = trials["status"].dropna()
    row["converged"] = int((status == "converged").sum())
    row["certified"] = int(trials["certified"].astype(bool).sum())
    for quantity, (column, counted) in _SOURCES.items():
        row |= {f"{quantity}_{name}": v for name, v in _mean(trials, column, counted).items()}
    for column in ("tolerance", "parameters"):
        row[f"{column}_lower"] = trials[column].min()
        row[f"{column}_upper"] = trials[column].max()
    row["classification"] = _verdicts(trials)
    return row


def _mean(trials: pd.DataFrame, column: str, counted: bool) -> dict[str, float]:
    values = trials[column].astype(float)
    found = {"mean": float(values.mean()), "std": float(values.std(ddof=1))}
    if counted and f"{column}_lower" in trials:
        found["lower"] = float(trials[f"{column}_lower"].astype(float).mean())
        found["upper"] = float(trials[f"{column}_upper"].astype(float).mean())
    return found


def _comparison(
    chosen: pd.DataFrame, published: sankar2017.PublishedTable, key: tuple[str, str]
) -> list[dict[str, Any]]:
    """Every number of one row, by quantity and source."""
    rows: list[dict[str, Any]] = []
    papers = published.rows.get(key, (None,) * len(published.quantities))
    for quantity, paper in zip(published.quantities, papers, strict=True):
        column, counted = _SOURCES[quantity]
        base = {"data": key[0], published.by: key[1], "quantity": quantity}
        if len(chosen):
            scale = 100.0 if quantity == "accuracy" else 1.0
            found = {name: scale * v for name, v in _mean(chosen, column, counted).items()}
            trials = int(chosen[column].notna().sum())
            rows.append({**base, "source": OURS, **found, "trials": trials})
            rule = f"sankar2017_{quantity}"
            if counted and chosen[rule].notna().any():
                found = _mean(chosen, rule, counted=False)
                trials = int(chosen[rule].notna().sum())
                rows.append({**base, "source": RULE, **found, "trials": trials})
        if paper is not None:
            mean, std = paper
            found = {"mean": mean, "std": np.nan if std is None else std}
            rows.append({**base, "source": PAPER, **found, "trials": sankar2017.TRIALS})
    for row in rows:
        row["tolerance_lower"] = chosen["tolerance"].min() if row["source"] == OURS else np.nan
        row["tolerance_upper"] = chosen["tolerance"].max() if row["source"] == OURS else np.nan
    return rows


def _shown_row(
    found: Iterable[dict[str, Any]],
    chosen: pd.DataFrame,
    published: sankar2017.PublishedTable,
    key: tuple[str, str],
) -> dict[tuple[str, str], str]:
    by = {(row["quantity"], row["source"]): row for row in found}
    row: dict[tuple[str, str], str] = {
        ("data", ""): key[0],
        (published.by, ""): key[1],
        ("trials", ""): str(len(chosen)) if len(chosen) else MISSING,
    }
    for quantity in published.quantities:
        counted = _SOURCES[quantity][1]
        for source in (OURS, RULE, PAPER) if counted else (OURS, PAPER):
            value = by.get((quantity, source))
            row[_TITLES[quantity], source] = MISSING if value is None else _value(value, source)
    return row


def _value(row: dict[str, Any], source: str) -> str:
    if source == PAPER:  # as it is printed
        deviation = "" if np.isnan(row["std"]) else f" ± {row['std']:g}"
        return f"{row['mean']:,}{deviation}"
    return plus_minus(row["mean"], row["std"]) + _between(
        row["mean"], row.get("lower", np.nan), row.get("upper", np.nan)
    )


def _cell(row: pd.Series, quantity: str) -> str:
    scale = 100.0 if quantity == "accuracy" else 1.0
    mean, deviation = scale * row[f"{quantity}_mean"], scale * row[f"{quantity}_std"]
    lower, upper = row.get(f"{quantity}_lower", np.nan), row.get(f"{quantity}_upper", np.nan)
    return plus_minus(mean, deviation) + _between(mean, lower, upper)


def _between(mean: float, lower: float, upper: float) -> str:
    """The interval of a mean count, where it is one."""
    if np.isnan(mean) or np.isnan(lower) or np.isnan(upper) or lower == upper:
        return ""
    return f" [{lower:,.0f}, {upper:,.0f}]"


def _open_counts(table: pd.DataFrame) -> bool:
    """Whether any count has an interval that is more than a number."""
    pairs = (table[f"{name}_lower"] < table[f"{name}_upper"] for name in ("index", "degeneracy"))
    return any(bool(pair.fillna(False).any()) for pair in pairs)


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


def _verdicts(trials: pd.DataFrame) -> str:
    """``3 × saddle, 1 × not a critical point``; what is in brackets differs between trials."""
    verdicts = trials["classification"].dropna().str.replace(r" \(.*\)$", "", regex=True)
    counts = verdicts.value_counts()
    return ", ".join(f"{count} × {name}" for name, count in counts.items()) or MISSING


def _range(values: pd.Series, symbol: str) -> str:
    known = values.dropna().astype(float)
    if known.empty:
        return f"{symbol} not recorded"
    low, high = float(known.min()), float(known.max())
    if low == high:
        return f"{symbol} = {plain(low)}"
    return f"{symbol} from {plain(low)} to {plain(high)}"


def _rule_note(table: pd.DataFrame, published: sankar2017.PublishedTable) -> list[str]:
    notes = []
    if any(_SOURCES[quantity][1] for quantity in published.quantities):
        counted = (
            "our networks, counted as the paper's code does (float32, signs without a tolerance, "
            "zero only for rows that are exactly zero)"
        )
        there = table["sankar2017_zero"].notna().any()
        notes.append(f"{RULE}: {counted if there else 'not in these records'}")
    if "accuracy" in published.quantities and not table["test_accuracy"].notna().all():
        notes.append(
            "accuracy: the paper's on its test data; ours, where the checkpoint does not say that "
            "of its test data, on the data of the Hessian"
        )
    return notes
