"""Spectra of several checkpoints against the epoch: a table, and a figure of four panels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import seaborn
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from hessscope.errors import OptionError
from hessscope.records import Record
from hessscope.reports.figures import COLUMN_WIDTH, NEGATIVE, ZERO, fix_ticks, styled

KIND = "spectrum series"
_COUNTS = ("index", "degeneracy", "positive")
_MARKERS = "osD^vPX*"
_COLOURS = seaborn.color_palette("colorblind")


def series_table(series: Record) -> pd.DataFrame:
    """The numbers of a series, a row for each checkpoint.

    Args:
        series: the record of a series (``hessscope spectrum run/*.pt``).

    Returns:
        Columns ``run`` and ``checkpoint``, and every quantity of the record: ``epoch``, ``loss``,
        ``accuracy``, ``gradient_norm``, ``gTg``, ``gTHg``, ``lambda_min``, ``lambda_max``,
        ``index``, ``index_lower``, … NaN where a checkpoint has none.

    Raises:
        OptionError: the record is of another kind.
    """
    if series.kind != KIND:
        raise OptionError(f"a record of kind '{series.kind}' is no series; expected '{KIND}'")
    columns = {
        name: column for name, column in series.arrays.items() if not name.startswith("results/")
    }
    order = ["epoch", *(name for name in columns if name != "epoch")]
    table = pd.DataFrame(
        {
            "run": list(series.attributes["runs"]),
            "checkpoint": list(series.attributes["checkpoints"]),
            **{name: columns[name] for name in order},
        }
    )
    return table.sort_values(["run", "epoch"], kind="stable", ignore_index=True)


def plot_series(series: Record, *, figure: Figure | None = None) -> Figure:
    """Draw loss, counts, extreme eigenvalues and gradient against the epoch.

    From top to bottom: the loss; index and degeneracy with their intervals (figure 3 of Sankar &
    Balasubramanian 2017); λ_max, the sharpness, and the most negative eigenvalue by its absolute
    value (figures 3(c), 3(f) and 4(b) of Dauphin et al. 2014); gᵀg and gᵀHg, which is negative
    where its marker is hollow. With checkpoints from several folders every folder has its colour.

    Args:
        series: the record of a series.
        figure: draw into this one; default a new one, of a column's width.

    Raises:
        OptionError: the record is of another kind.
    """
    table = series_table(series)
    runs = list(dict.fromkeys(table["run"]))
    with styled():
        figure = Figure() if figure is None else figure
        legend_height = 0.14 * len(runs) if len(runs) > 1 else 0.0
        figure.set_size_inches(COLUMN_WIDTH, 1.75 * COLUMN_WIDTH + legend_height)
        figure.set_layout_engine("constrained", h_pad=0.02, w_pad=0.02, hspace=0.03)
        panels = figure.subplots(4, 1, sharex=True)
        for ax in panels:
            fix_ticks(ax)
        for number, run in enumerate(runs):
            rows = table[table["run"] == run]
            colour = _COLOURS[number % len(_COLOURS)] if len(runs) > 1 else None
            _draw_run(list(panels), rows, colour, _MARKERS[number % len(_MARKERS)])
        _finish(list(panels), table)
        if len(runs) > 1:
            _name_runs(figure, runs)
    return figure


def _draw_run(
    panels: list[Axes], rows: pd.DataFrame, colour: tuple[float, ...] | None, marker: str
) -> None:
    loss, counts, extremes, gradient = panels
    epoch = rows["epoch"].to_numpy()
    first, second = colour or _COLOURS[0], colour or NEGATIVE
    style: dict[str, Any] = {"marker": marker, "markersize": 3.0}
    loss.plot(epoch, rows["loss"], "-", color=colour or "black", **style)
    for name, tint, line in (
        ("index", second, "-"),
        ("degeneracy", colour or ZERO, "--"),
    ):
        low, high = rows[f"{name}_lower"], rows[f"{name}_upper"]
        counts.fill_between(epoch, low, high, color=tint, alpha=0.25, linewidth=0)
        counts.plot(epoch, rows[name], line, color=tint, **style)
    extremes.plot(epoch, _positive(rows["lambda_max"]), "-", color=first, **style)
    extremes.plot(epoch, _positive(-rows["lambda_min"]), "--", color=second, **style)
    gradient.plot(epoch, _positive(rows["gTg"]), "-", color=colour or "black", **style)
    along = rows["gTHg"].to_numpy()
    gradient.plot(epoch, _positive(np.abs(along)), "--", color=first, **style)
    below = along < 0
    gradient.plot(
        epoch[below], -along[below], linestyle="none", markerfacecolor="white",
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
    counts.set_ylim(bottom=0)
    gradient.set_xlabel("epoch")
    gradient.xaxis.set_major_locator(MaxNLocator(integer=True))


def _name_lines(ax: Axes, names: list[str]) -> None:
    """Name the two lines of a panel after the first run's; several runs share the line styles."""
    lines = [line for line in ax.get_lines() if line.get_linestyle() in ("-", "--")][:2]
    ax.legend(lines, names, frameon=False, loc="best", handlelength=2.2, borderaxespad=0.2)


def _name_runs(figure: Figure, runs: list[str]) -> None:
    """One entry for each folder, below the panels."""
    lines = figure.axes[0].get_lines()[: len(runs)]
    figure.legend(lines, runs, loc="outside lower left", frameon=False, ncols=1)
