"""The ε–α plot: which part of the directions goes down, against how high the loss is.

Figures 1(a) and 1(c) of Dauphin et al. (2014), after Bray & Dean (2007), with what they lack: only
points that are certified, each with the interval of its count, the rank correlation with its
interval, and the number of searches that are not shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullFormatter, PercentFormatter

from hessscope.errors import OptionError, UnknownNameError
from hessscope.reports.figures import (
    COLUMN_WIDTH,
    FONT_SIZE,
    INK,
    fix_ticks,
    name_text,
    shown_figure,
    styled,
    write_facts,
)
from hessscope.reports.record_tables import RecordSource, as_points
from hessscope.reports.trends import drawable_points, epsilon_alpha_correlation, isotonic_curve

COLORS = ("origin", "gradient_norm")

_AXES = {"loss": "Loss ε", "error": "Error ε (share of wrong predictions)"}
_PALETTE = seaborn.color_palette("colorblind")
# Order of the palette by what is told apart most easily; shapes say the same without colour.
_GROUPS = ((0, "o"), (1, "s"), (2, "^"), (4, "D"), (5, "v"), (9, "P"))
_AREA = 14.0
_LARGEST_AREA = 90.0
_WIDE_RANGE = 100.0


def plot_epsilon_alpha(
    points: pd.DataFrame | RecordSource,
    *,
    against: str = "loss",
    color: str = "origin",
    uncertified: bool = False,
    closed_form: pd.DataFrame | Sequence[tuple[float, float]] | None = None,
    isotonic: bool = True,
    correlation: str = "spearman",
    ax: Axes | None = None,
    title: str | None = None,
) -> Axes:
    """Draw the index fraction α of critical points against their loss or error.

    One marker for each critical point, with the interval of its α as error bar; where several
    searches ended at the same place the area of the marker shows how many. Correlation and
    isotonic curve are those of the certified points alone, each row counted once, so that
    ``distinct_points`` of a table decides whether a point that was found twice counts twice.

    Args:
        points: a table of ``load_records``, or what that takes, such as the folder of a study.
        against: "loss" or "error" (1 − accuracy).
        color: "origin" (of the search's start) or "gradient_norm".
        uncertified: show the other ends of searches too, as crosses.
        closed_form: known critical points to draw behind: pairs (ε, α), or a table with columns
            ``loss`` (or ``error``) and ``alpha``.
        isotonic: draw the increasing function that is nearest to the points (least squares).
        correlation: "spearman" or "kendall".
        ax: draw into these axes; default a new figure of one column's width, as by pyplot.
        title: above; default none.

    Returns:
        The axes, to be changed at will.

    Raises:
        OptionError: there is nothing to draw, or an option has no usable value.
    """
    options: dict[str, Any] = {
        "against": against,
        "color": color,
        "uncertified": uncertified,
        "closed_form": closed_form,
        "isotonic": isotonic,
        "correlation": correlation,
        "title": title,
    }
    if ax is not None:
        return _draw(ax, as_points(points), **options)
    figure = shown_figure()
    try:
        epsilon_alpha_figure(points, figure=figure, **options)
    except Exception:
        plt.close(figure)  # else an empty figure would be shown
        raise
    return figure.axes[0]


def epsilon_alpha_figure(
    points: pd.DataFrame | RecordSource, *, figure: Figure | None = None, **options: Any
) -> Figure:
    """Draw the ε–α plot as a figure of a column's width, without pyplot.

    Args:
        points: a table of ``load_records``, or what that takes.
        figure: draw into this one; default a new one.
        options: as for ``plot_epsilon_alpha``.
    """
    with styled():
        if figure is None:
            figure = Figure()
        figure.set_size_inches(COLUMN_WIDTH, 0.95 * COLUMN_WIDTH)
        figure.set_layout_engine("constrained", h_pad=0.02, w_pad=0.02)
        ax = figure.subplots()
    defaults: dict[str, Any] = {
        "against": "loss",
        "color": "origin",
        "uncertified": False,
        "closed_form": None,
        "isotonic": True,
        "correlation": "spearman",
        "title": None,
    }
    _draw(ax, as_points(points), **{**defaults, **options})
    return figure


def _draw(
    ax: Axes,
    points: pd.DataFrame,
    *,
    against: str,
    color: str,
    uncertified: bool,
    closed_form: pd.DataFrame | Sequence[tuple[float, float]] | None,
    isotonic: bool,
    correlation: str,
    title: str | None,
) -> Axes:
    if color not in COLORS:
        raise UnknownNameError("colour", color, COLORS)
    drawable = drawable_points(points, against)
    sure = drawable["certified"].astype(bool)
    certified, others = drawable[sure], drawable[~sure]
    if certified.empty and not (uncertified and len(others)):
        raise OptionError(_nothing_to_draw(points, others, against))
    handles: list[Any] = []
    with styled():
        fix_ticks(ax)
        if closed_form is not None:
            handles.append(_draw_closed_form(ax, closed_form, against))
        if isotonic and len(certified) > 1:
            places, curve = isotonic_curve(points, against)
            (line,) = ax.plot(places, curve, color=INK, linewidth=0.8, gid="isotonic", zorder=1)
            line.set_label("isotonic curve")
            handles.append(line)
        if uncertified:
            handles += _draw_uncertified(ax, others, against)
        if color == "origin":
            handles += _draw_by_origin(ax, certified, against)
        else:
            _draw_by_gradient(ax, certified, against)
        _set_axes(ax, drawable if uncertified else certified, against)
        legend = ax.legend(
            handles=handles,
            loc="lower left",
            bbox_to_anchor=(0.0, 1.0),
            ncols=2,
            frameon=False,
            borderaxespad=0.2,
            handlelength=1.4,
            columnspacing=1.0,
            handletextpad=0.4,
        )
        rows = -(-len(legend.get_texts()) // 2)
        facts = _facts(points, certified)
        found = epsilon_alpha_correlation(points, against, correlation)
        value, _, basis = str(found).partition(" (")
        facts += [value, basis.removesuffix(")")]
        above = write_facts(ax, facts, offset=4.0 + 11.0 * rows)
        if title is not None:
            ax.set_title(title, loc="left", pad=above)
    return ax


def _draw_by_origin(ax: Axes, certified: pd.DataFrame, against: str) -> list[Any]:
    origins = certified["origin"].fillna("")
    names = list(origins.value_counts().index)
    handles = []
    for name, (shade, shape) in zip(names, _cycled(len(names)), strict=True):
        chosen = certified[origins == name]
        color = _PALETTE[shade]
        _draw_markers(ax, chosen, against, shape, {"color": color})
        handles.append(
            _handle(shape, color, f"{name_text(name) or 'critical point'} ({len(chosen)})")
        )
    return handles


def _draw_by_gradient(ax: Axes, certified: pd.DataFrame, against: str) -> None:
    norms = certified["gradient_norm"].to_numpy(float)
    # A gradient that came out as 0 has no place on a logarithmic scale: half the smallest other.
    positive = norms[norms > 0]
    least = float(positive.min()) if len(positive) else 1.0
    shown = np.where(norms > 0, norms, least / 2)
    scale = LogNorm(float(np.nanmin(shown)), max(float(np.nanmax(shown)), 1.01 * float(least / 2)))
    dots = _draw_markers(
        ax, certified.assign(shown=shown), against, "o", {"cmap": "viridis", "norm": scale}
    )
    bar = ax.figure.colorbar(dots, ax=ax, pad=0.02, aspect=30)
    bar.set_label("Gradient norm ‖∇L‖")
    bar.ax.tick_params(labelsize=FONT_SIZE, length=2)


def _draw_markers(
    ax: Axes, points: pd.DataFrame, against: str, shape: str, style: dict[str, Any]
) -> Any:
    """One marker where several points would print on each other; its area says how many."""
    places = pd.DataFrame(
        {
            "x": points[against].astype(float).round(9),
            "y": points["alpha"].astype(float).round(9),
            "lower": points["alpha_lower"].astype(float),
            "upper": points["alpha_upper"].astype(float),
        }
    )
    places["shade"] = points["shown"].astype(float) if "shown" in points else 0.0
    places["found"] = _searches(points)
    merged = places.groupby(["x", "y"], sort=False).agg(
        {"lower": "min", "upper": "max", "shade": "max", "found": "sum"}
    )
    x = merged.index.get_level_values("x").to_numpy()
    y = merged.index.get_level_values("y").to_numpy()
    down = np.nan_to_num(y - merged["lower"].to_numpy()).clip(0)
    up = np.nan_to_num(merged["upper"].to_numpy() - y).clip(0)
    ax.errorbar(
        x, y, [down, up], fmt="none", ecolor="0.55", elinewidth=0.6, zorder=2, gid="intervals"
    )
    if "cmap" in style:
        style = {**style, "c": merged["shade"].to_numpy()}
    area = np.minimum(_AREA * merged["found"].to_numpy(float), _LARGEST_AREA)
    return ax.scatter(
        x,
        y,
        area,
        marker=shape,
        alpha=0.75,
        edgecolors="white",
        linewidths=0.4,
        zorder=3,
        gid="points",
        **style,
    )


def _draw_uncertified(ax: Axes, others: pd.DataFrame, against: str) -> list[Any]:
    status = others["status"].fillna("converged")
    handles = []
    for shape, name, chosen in (
        ("+", "not certified", others[status == "converged"]),
        ("x", "not converged", others[status != "converged"]),
    ):
        if chosen.empty:
            continue
        ax.plot(
            chosen[against].to_numpy(float),
            chosen["alpha"].to_numpy(float),
            shape,
            color="0.5",
            markersize=3.5,
            markeredgewidth=0.7,
            zorder=1.5,
            gid=name,
        )
        handles.append(_handle(shape, "0.5", f"{name} ({len(chosen)})"))
    return handles


def _draw_closed_form(ax: Axes, known: Any, against: str) -> Any:
    if isinstance(known, pd.DataFrame):
        missing = [name for name in (against, "alpha") if name not in known]
        if missing:
            raise OptionError(
                f"the closed-form points have no column {', '.join(missing)}: give a table with "
                f"columns {against} and alpha"
            )
        pairs = known[[against, "alpha"]].to_numpy(float)
    else:
        pairs = np.asarray(known, dtype=float).reshape(-1, 2)
    ax.scatter(
        pairs[:, 0],
        pairs[:, 1],
        30,
        facecolors="none",
        edgecolors=INK,
        linewidths=0.6,
        zorder=1.2,
        gid="closed form",
    )
    return _handle("o", INK, f"closed form ({len(pairs)})", hollow=True, size=5.5)


def _set_axes(ax: Axes, shown: pd.DataFrame, against: str) -> None:
    values = shown[against].to_numpy(float)
    low, high = float(values.min()), float(values.max())
    if against == "loss" and low > 0 and high > _WIDE_RANGE * low:
        ax.set_xscale("log")
        ax.xaxis.set_minor_formatter(NullFormatter())
    if against == "error":
        ax.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))
    top = float(max(shown["alpha"].max(), shown["alpha_upper"].max(), 0.0))
    ax.margins(x=0.06)
    bottom, above = ax.get_ylim()
    room = 0.06 * (top or 0.1)
    ax.set_ylim(min(bottom, -room), max(above, top + room) if top else 0.1)
    ax.set_xlabel(_AXES[against])
    ax.set_ylabel("Index fraction α = index / n")


def _facts(points: pd.DataFrame, certified: pd.DataFrame) -> list[str]:
    """How many searches there were, and what became of those that are not markers."""
    failed = points["status"].fillna("converged") != "converged"
    sure = points["certified"].astype(bool)
    searches, searched = _searches(points), points["status"].notna().any()
    ended = int(_searches(certified).sum())
    rest = (
        (int(searches[failed].sum()), "not converged"),
        (int(searches[~sure & ~failed].sum()), "not certified"),
        (int(searches[sure].sum()) - ended, "certified, without a value"),
    )
    facts = [
        f"{ended} certified of {searches.sum()} {'searches' if searched else 'points'}",
        *(f"{count} {what}" for count, what in rest if count),
    ]
    if "found" in points:
        facts.insert(1, f"{len(certified)} distinct")
    return facts


def _searches(points: pd.DataFrame) -> pd.Series:
    """How many searches each row stands for: more than one in a table of ``distinct_points``."""
    if "found" in points:
        return points["found"].astype(int)
    return pd.Series(1, index=points.index)


def _nothing_to_draw(points: pd.DataFrame, others: pd.DataFrame, against: str) -> str:
    if points.empty:
        return "there are no points to draw"
    if len(others):
        return (
            f"none of the {len(points)} points is certified; uncertified=True (--uncertified) "
            "shows them all the same"
        )
    return f"none of the {len(points)} points has both an index and a value for '{against}'"


def _cycled(count: int) -> list[tuple[int, str]]:
    return [_GROUPS[i % len(_GROUPS)] for i in range(count)]


def _handle(shape: str, color: Any, label: str, hollow: bool = False, size: float = 4.0) -> Line2D:
    return Line2D(
        [],
        [],
        linestyle="none",
        marker=shape,
        markersize=size,
        color=color,
        markerfacecolor="none" if hollow else color,
        markeredgewidth=0.6,
        label=label,
    )
