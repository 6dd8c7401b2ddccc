"""Spectra of several checkpoints by epoch: a table, and a figure of four panels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import seaborn
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from hessscope.errors import OptionError
from hessscope.reports.figures.style import (
    COLUMN_WIDTH,
    NEGATIVE,
    ZERO,
    fix_ticks,
    name_text,
    styled,
)
from hessscope.reports.tables.records import RecordLike, as_record

KIND = "spectrum series"
_COUNTS = ("index", "degeneracy", "positive")
_MARKERS = "osD^vPX*"
_COLOURS = seaborn.color_palette("colorblind")
_MOST_NAMES = 16
_LETTER = 0.06  # inches along a name on the axis


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
    if record.kind != KIND:
        raise OptionError(f"a record of kind '{record.kind}' is no series; expected '{KIND}'")
    columns = {
        name: column for name, column in record.arrays.items() if not name.startswith("results/")
    }
    order = ["epoch", *(name for name in columns if name != "epoch")]
    table = pd.DataFrame(
        {
            "run": list(record.attributes["runs"]),
            "checkpoint": list(record.attributes["checkpoints"]),
            **{name: columns[name] for name in order},
        }
    )
    if series_axis(table) == "checkpoint":
        return table
    return table.sort_values(["run", "epoch"], kind="stable", ignore_index=True)


def series_axis(table: pd.DataFrame) -> str:
    """What a series goes by: "epoch", or "checkpoint" where not all of them state their epoch."""
    return "epoch" if table["epoch"].notna().all() else "checkpoint"


def plot_series(series: RecordLike, *, figure: Figure | None = None) -> Figure:
    """Draw loss, counts, extreme eigenvalues and gradient against the epoch.

    Where not every checkpoint states its epoch they stand side by side, in the order given.

    From top to bottom: the loss; index and degeneracy with their intervals (figure 3 of Sankar &
    Balasubramanian 2017); λ_max, the sharpness, and the most negative eigenvalue by its absolute
    value (figures 3(c), 3(f) and 4(b) of Dauphin et al. 2014); gᵀg and gᵀHg, which is negative
    where its marker is hollow. With checkpoints from several folders every folder has its colour.

    Args:
        series: its report, or its record.
        figure: draw into this one; default a new one, of a column's width.

    Raises:
        OptionError: the record is of another kind.
    """
    table = series_table(series)
    axis = series_axis(table)
    table["x"] = table["epoch"] if axis == "epoch" else np.arange(1.0, len(table) + 1)
    runs = list(dict.fromkeys(table["run"]))
    with styled():
        figure = Figure() if figure is None else figure
        extra = 0.14 * len(runs) if len(runs) > 1 else 0.0
        extra += _LETTER * max(map(len, _tick_names(table, axis)), default=0)
        figure.set_size_inches(COLUMN_WIDTH, 1.75 * COLUMN_WIDTH + extra)
        figure.set_layout_engine("constrained", h_pad=0.02, w_pad=0.02, hspace=0.03)
        panels = figure.subplots(4, 1, sharex=True)
        for ax in panels:
            fix_ticks(ax)
        for number, run in enumerate(runs):
            rows = table[table["run"] == run]
            colour = _COLOURS[number % len(_COLOURS)] if len(runs) > 1 else None
            _draw_run(list(panels), rows, colour, _MARKERS[number % len(_MARKERS)])
        _finish(list(panels), table)
        _name_axis(panels[-1], table, axis)
        if len(runs) > 1:
            _name_runs(figure, runs)
    return figure


def _draw_run(
    panels: list[Axes], rows: pd.DataFrame, colour: tuple[float, ...] | None, marker: str
) -> None:
    loss, counts, extremes, gradient = panels
    x = rows["x"].to_numpy()
    first, second = colour or _COLOURS[0], colour or NEGATIVE
    style: dict[str, Any] = {"marker": marker, "markersize": 3.0}
    loss.plot(x, rows["loss"], "-", color=colour or "black", **style)
    for name, tint, line in (
        ("index", second, "-"),
        ("degeneracy", colour or ZERO, "--"),
    ):
        low, high = rows[f"{name}_lower"], rows[f"{name}_upper"]
        counts.fill_between(x, low, high, color=tint, alpha=0.25, linewidth=0)
        counts.plot(x, rows[name], line, color=tint, **style)
    extremes.plot(x, _positive(rows["lambda_max"]), "-", color=first, **style)
    extremes.plot(x, _positive(-rows["lambda_min"]), "--", color=second, **style)
    gradient.plot(x, _positive(rows["gTg"]), "-", color=colour or "black", **style)
    along = rows["gTHg"].to_numpy()
    gradient.plot(x, _positive(np.abs(along)), "--", color=first, **style)
    below = along < 0
    gradient.plot(
        x[below], -along[below], linestyle="none", markerfacecolor="white",
        markeredgecolor=first, zorder=3, **style,
    )  # fmt: skip


def _positive(values: pd.Series | np.ndarray) -> np.ndarray:
    """Values as a logarithmic axis takes them: those of the other sign are left out."""
    column = np.asarray(values, dtype=float)
    return np.where(column > 0, column, np.nan)


def _finish(panels: list[Axes], table: pd.DataFrame) -> None:
    loss, counts, extremes, gradient = panels
    for ax, label, entries in (
        (loss, "loss $L$", ()),
        (
            counts,
            "number of eigenvalues",
            (("index, $\\lambda < -\\tau$", "-"), ("degeneracy, $|\\lambda| \\leq \\tau$", "--")),
        ),
        (
            extremes,
            "extreme eigenvalue",
            (("$\\lambda_{\\max}$", "-"), ("$|\\lambda_{\\min}|$, $\\lambda_{\\min} < 0$", "--")),
        ),
        (gradient, "gradient", (("$g^\\top g$", "-"), ("$|g^\\top H g|$, hollow: negative", "--"))),
    ):
        ax.set_ylabel(label)
        if entries:
            _name_lines(ax, [name for name, _ in entries])
    for ax in (extremes, gradient):
        ax.set_yscale("log")
    values = table["loss"]
    if (values > 0).all() and values.max() > 10 * values.min():
        loss.set_yscale("log")
    highest = np.nanmax(table[["index_upper", "degeneracy_upper"]].to_numpy(float), initial=0.0)
    top = float(highest) or 1.0
    counts.set_ylim(-0.06 * top, 1.1 * top)  # markers at the ends are seen whole
    counts.yaxis.set_major_locator(MaxNLocator("auto", integer=True, steps=[1, 2, 5, 10]))


def _name_axis(ax: Axes, table: pd.DataFrame, axis: str) -> None:
    """Epochs as numbers; checkpoints by their files' names, as long as these have room."""
    ax.set_xlabel(axis)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    names = _tick_names(table, axis)
    if names:
        ax.set_xticks(table["x"], names, rotation=90)
    elif axis == "checkpoint":
        ax.set_xlabel("checkpoint, in the order given")


def _tick_names(table: pd.DataFrame, axis: str) -> list[str]:
    """What stands at the places of the axis; nothing where numbers do."""
    if axis == "epoch" or len(table) > _MOST_NAMES:
        return []
    return [name_text(Path(path).name) for path in table["checkpoint"]]


def _name_lines(ax: Axes, names: list[str]) -> None:
    """Name the two lines of a panel after the first run's; several runs share the line styles."""
    lines = [line for line in ax.get_lines() if line.get_linestyle() in ("-", "--")][:2]
    ax.legend(lines, names, frameon=False, loc="best", handlelength=2.2, borderaxespad=0.2)


def _name_runs(figure: Figure, runs: list[str]) -> None:
    """One entry for each folder, below the panels."""
    lines = figure.axes[0].get_lines()[: len(runs)]
    figure.legend(lines, runs, loc="outside lower left", frameon=False, ncols=1)
