"""Spectra of several checkpoints by epoch, in four panels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from hessscope.reports.figures import style
from hessscope.reports.tables.points import series_axis, series_table
from hessscope.reports.tables.records import RecordLike

_MARKERS = "osD^vPX*"
_MOST_NAMES = 16
_LETTER = 0.06  # inches along a name on the axis


def plot_series(series: RecordLike, *, ax: Figure | None = None) -> tuple[Axes, ...]:
    """Draw loss, counts, extreme eigenvalues and gradient against the epoch.

    Where not every checkpoint states its epoch they stand side by side, in the order given.

    From top to bottom: the loss; index and degeneracy with their intervals (figure 3 of Sankar &
    Balasubramanian 2017); λ_max, the sharpness, and the most negative eigenvalue by its absolute
    value (figures 3(c), 3(f) and 4(b) of Dauphin et al. 2014); gᵀg and gᵀHg, which is negative
    where its marker is hollow. With checkpoints from several folders every folder has its colour.

    Args:
        series: its report, or its record.
        ax: draw into this empty figure; default a new one, of a column's width.

    Returns:
        The axes, from the loss down.

    Raises:
        OptionError: the record is of another kind.
    """
    table = series_table(series)
    axis = series_axis(table)
    table["x"] = table["epoch"] if axis == "epoch" else np.arange(1.0, len(table) + 1)
    runs = list(dict.fromkeys(table["run"]))
    extra = 0.14 * len(runs) if len(runs) > 1 else 0.0
    extra += _LETTER * max(map(len, _tick_names(table, axis)), default=0)
    height = 1.75 + extra / style.COLUMN_WIDTH
    with style.canvas(ax, height, [1.0] * 4, gap=0.03, sharex=True) as panels:
        for number, run in enumerate(runs):
            rows = table[table["run"] == run]
            colour = style.PALETTE[number % len(style.PALETTE)] if len(runs) > 1 else None
            _draw_run(panels, rows, colour, _MARKERS[number % len(_MARKERS)])
        _finish(panels, table)
        _name_axis(panels[-1], table, axis)
        if len(runs) > 1:  # one entry for each folder, below the panels
            lines, figure = panels[0].get_lines()[: len(runs)], style.figure_of(panels[0])
            figure.legend(lines, runs, loc="outside lower left", frameon=False, ncols=1)
    return tuple(panels)


def _draw_run(panels: list[Axes], rows: pd.DataFrame, colour: Any, marker: str) -> None:
    loss, counts, extremes, gradient = panels
    x = rows["x"].to_numpy()
    first, second = colour or style.PALETTE[0], colour or style.NEGATIVE
    look: dict[str, Any] = {"marker": marker, "markersize": 3.0}
    loss.plot(x, rows["loss"], "-", color=colour or "black", **look)
    for name, tint, line in (("index", second, "-"), ("degeneracy", colour or style.ZERO, "--")):
        low, high = rows[f"{name}_lower"], rows[f"{name}_upper"]
        counts.fill_between(x, low, high, color=tint, alpha=0.25, linewidth=0)
        counts.plot(x, rows[name], line, color=tint, **look)
    extremes.plot(x, _positive(rows["lambda_max"]), "-", color=first, **look)
    extremes.plot(x, _positive(-rows["lambda_min"]), "--", color=second, **look)
    gradient.plot(x, _positive(rows["gTg"]), "-", color=colour or "black", **look)
    along = rows["gTHg"].to_numpy()
    gradient.plot(x, _positive(np.abs(along)), "--", color=first, **look)
    below = along < 0
    hollow: dict[str, Any] = {"linestyle": "none", "markerfacecolor": "white", **look}
    gradient.plot(x[below], -along[below], zorder=3, markeredgecolor=first, **hollow)


def _positive(values: pd.Series | np.ndarray) -> np.ndarray:
    """Values as a logarithmic axis takes them: those of the other sign are left out."""
    column = np.asarray(values, dtype=float)
    return np.where(column > 0, column, np.nan)


def _finish(panels: list[Axes], table: pd.DataFrame) -> None:
    loss, counts, extremes, gradient = panels
    loss.set_ylabel("loss $L$")
    index, degeneracy = "index, $\\lambda < -\\tau$", "degeneracy, $|\\lambda| \\leq \\tau$"
    highest, lowest = "$\\lambda_{\\max}$", "$|\\lambda_{\\min}|$, $\\lambda_{\\min} < 0$"
    for ax, label, names in (
        (counts, "number of eigenvalues", (index, degeneracy)),
        (extremes, "extreme eigenvalue", (highest, lowest)),
        (gradient, "gradient", ("$g^\\top g$", "$|g^\\top H g|$, hollow: negative")),
    ):
        ax.set_ylabel(label)
        lines = ax.get_lines()[:2]  # the first run's; several runs share the line styles
        ax.legend(lines, names, frameon=False, loc="best", handlelength=2.2, borderaxespad=0.2)
    for ax in (extremes, gradient):
        ax.set_yscale("log")
    values = table["loss"]
    if (values > 0).all() and values.max() > 10 * values.min():
        loss.set_yscale("log")
    ends = table[["index_upper", "degeneracy_upper"]].to_numpy(float)
    top = float(np.nanmax(ends, initial=0.0)) or 1.0
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
    return [style.name_text(Path(path).name) for path in table["checkpoint"]]
