"""The ε–α plot: which part of the directions goes down, against how high the loss is.

Figures 1(a) and 1(c) of Dauphin et al. (2014), after Bray & Dean (2007), with what they lack: only
points that are certified, each with the interval of its count, the rank correlation with its
interval, and the number of searches that are not shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.colors import LogNorm, to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.markers import MarkerStyle
from matplotlib.ticker import NullFormatter, PercentFormatter

from hessscope.errors import DataError, OptionError
from hessscope.options.fields import one_of
from hessscope.options.report import COLORS
from hessscope.reports.figures import style
from hessscope.reports.tables.correlation import (
    drawable_points,
    epsilon_alpha_correlation,
    isotonic_curve,
)
from hessscope.reports.tables.points import by_search, distinct_points
from hessscope.reports.tables.records import RecordSource, as_points

_AXES = {"loss": "Loss ε", "error": "Error ε (share of wrong predictions)"}
# Order of the palette by what is told apart most easily; shapes say the same without colour.
_GROUPS = ((0, "o"), (1, "s"), (2, "^"), (4, "D"), (5, "v"), (9, "P"))
# Part of a square that a shape of the same size covers: areas, not sizes, say how many there are.
_SHARE = {"o": np.pi / 4, "s": 1.0, "^": 0.5, "D": 1.0, "v": 0.5, "P": 5 / 9}
_AREA = 11.0
"""Of the marker of one point, in points²."""
_MOST = 6
"""How many points the area of a marker tells; a number beside it tells more."""
_WIDE_RANGE = 100.0


def plot_epsilon_alpha(
    points: RecordSource,
    *,
    against: str = "loss",
    color: str = "origin",
    uncertified: bool = False,
    distinct: bool = False,
    closed_form: str | Path | pd.DataFrame | Sequence[tuple[float, float]] | None = None,
    isotonic: bool = True,
    correlation: str = "spearman",
    ax: Axes | Figure | None = None,
    title: str | None = None,
) -> Axes:
    """Draw the index fraction α of critical points against their loss or error.

    One marker for each critical point, with the interval of its α as error bar; where several
    searches ended at the same place the area of the marker shows how many, up to six, and a number
    beside it says how many where they are more. Correlation and isotonic curve are those of the
    certified points alone, each row counted once.

    Args:
        points: a table of ``load_records``, or what that takes, such as the folder of a study.
        against: "loss" or "error" (1 − accuracy).
        color: "origin" (of the search's start) or "gradient_norm".
        uncertified: show the other ends of searches too, as crosses.
        distinct: count points once that are the same up to symmetries, see ``distinct_points``.
        closed_form: known critical points to draw as rings: pairs (ε, α), or a table or a CSV file
            with columns ``loss`` (or ``error``) and ``alpha``.
        isotonic: draw the increasing function that is nearest to the points (least squares).
        correlation: "spearman" or "kendall".
        ax: draw into these axes, or into an empty figure; default a new figure of one column's
            width, as by pyplot.
        title: above; default none.

    Returns:
        The axes, to be changed at will.

    Raises:
        OptionError: there is nothing to draw, or an option has no usable value.
        DataError: the file of known points cannot be read.
    """
    color = one_of(COLORS, "colour")(color)
    table = distinct_points(as_points(points)) if distinct else as_points(points)
    drawable = drawable_points(table, against)
    sure = drawable["certified"].astype(bool)
    certified, others = drawable[sure], drawable[~sure]
    if certified.empty and not (uncertified and len(others)):
        raise OptionError(_nothing_to_draw(table, others, against))
    known = _known_pairs(closed_form, against)
    found = epsilon_alpha_correlation(table, against, correlation)
    handles: list[Any] = []
    with style.canvas(ax, 0.95) as (axes,):
        if len(known):
            ring: dict[str, Any] = {"facecolors": "none", "edgecolors": style.INK, "zorder": 3.5}
            ring |= {"label": f"closed form ({len(known)})", "gid": "closed form"}
            # Above the discs of many searches, which would cover them.
            handles.append(axes.scatter(known[:, 0], known[:, 1], 30, linewidths=0.6, **ring))
        if isotonic and len(certified) > 1:
            curve: dict[str, Any] = {"color": style.INK, "linewidth": 0.8, "zorder": 1}
            x, y = isotonic_curve(table, against)
            handles += axes.plot(x, y, label="isotonic curve", gid="isotonic", **curve)
        if uncertified:
            handles += _draw_uncertified(axes, others, against)
        if color == "origin":
            handles += _draw_by_origin(axes, certified, against)
        else:
            _draw_by_gradient(axes, certified, against)
        _set_axes(axes, drawable if uncertified else certified, known, against)
        spaces = {"handlelength": 1.4, "columnspacing": 1.0, "handletextpad": 0.4}
        legend = style.legend_above(axes, handles=handles, ncols=2, **spaces)
        rows = -(-len(legend.get_texts()) // 2)
        value, _, basis = str(found).partition(" (")
        facts = [*_facts(table, certified), value, basis.removesuffix(")")]
        style.write_facts(axes, facts, title, offset=4.0 + 11.0 * rows)
    return axes


def _draw_by_origin(ax: Axes, certified: pd.DataFrame, against: str) -> list[Any]:
    origins = certified["origin"].fillna("")
    names = origins.value_counts().index
    groups = dict(zip(names, cycle(_GROUPS), strict=False))
    places = _places(certified, against, origins)
    dots = _draw_markers(ax, places, [groups[name][1] for name in places["group"]])
    colors = [style.PALETTE[groups[name][0]] for name in places["group"]]
    # What lies below shines through, and every outline is seen.
    dots.set(facecolor=[to_rgba(color, 0.4) for color in colors], edgecolor=colors)
    handles = []
    for name, (shade, shape) in groups.items():
        label = f"{style.name_text(name) or 'critical point'} ({(origins == name).sum()})"
        marker: dict[str, Any] = {"marker": shape, "color": style.PALETTE[shade]}
        marker |= {"linestyle": "none", "markersize": 4.0, "markeredgewidth": 0.6}
        handles.append(Line2D([], [], label=label, **marker))
    return handles


def _draw_by_gradient(ax: Axes, certified: pd.DataFrame, against: str) -> None:
    norms = certified["gradient_norm"].to_numpy(float)
    # A gradient that came out as 0 has no place on a logarithmic scale: half the smallest other.
    positive = norms[norms > 0]
    least = float(positive.min()) if len(positive) else 1.0
    shown = np.where(norms > 0, norms, least / 2)
    scale = LogNorm(float(np.nanmin(shown)), max(float(np.nanmax(shown)), 1.01 * float(least / 2)))
    places = _places(certified.assign(shown=shown), against)
    dots = _draw_markers(ax, places, ["o"] * len(places))
    dots.set(array=places["shown"].to_numpy(float), cmap="viridis", norm=scale, alpha=0.75)
    style.color_bar(ax, dots, "Gradient norm ‖∇L‖", aspect=30)


def _places(points: pd.DataFrame, against: str, groups: pd.Series | str = "") -> pd.DataFrame:
    """One row where several points of a group would print on each other, the most found first."""
    places = pd.DataFrame(
        {
            "x": points[against].astype(float).round(9),
            "y": points["alpha"].astype(float).round(9),
            "lower": points["alpha_lower"].astype(float),
            "upper": points["alpha_upper"].astype(float),
            "shown": points["shown"].astype(float) if "shown" in points else 0.0,
            "found": _searches(points),
            "group": groups,
        }
    )
    merged = places.groupby(["group", "x", "y"], sort=False, as_index=False).agg(
        {"lower": "min", "upper": "max", "shown": "max", "found": "sum"}
    )
    return merged.sort_values("found", ascending=False, kind="stable")


def _draw_markers(ax: Axes, places: pd.DataFrame, shapes: list[str]) -> PathCollection:
    """A marker at each place; its area says how many points there are, up to ``_MOST``.

    Of two shapes of one area neither covers the other, and larger areas come first: so no outline
    lies within a marker that is drawn after it.
    """
    x, y = places["x"].to_numpy(), places["y"].to_numpy()
    down = np.nan_to_num(y - places["lower"].to_numpy()).clip(0)
    up = np.nan_to_num(places["upper"].to_numpy() - y).clip(0)
    bars: dict[str, Any] = {"fmt": "none", "ecolor": "0.55", "elinewidth": 0.6}
    ax.errorbar(x, y, [down, up], zorder=2, gid="intervals", **bars)
    found = places["found"].to_numpy(float)
    area = _AREA * np.minimum(found, _MOST) / [_SHARE[shape] for shape in shapes]
    dots = ax.scatter(x, y, area, edgecolors="white", linewidths=0.5, zorder=3, gid="points")
    styles = [MarkerStyle(shape) for shape in shapes]
    dots.set_paths([look.get_path().transformed(look.get_transform()) for look in styles])
    for place in places[places["found"] > _MOST].itertuples():
        at = (place.x, place.y)
        number = ax.annotate(f"{place.found}", at, (5.5, 3.0), textcoords="offset points")
        number.set(fontsize=style.FONT_SIZE - 1, zorder=4, gid="found")
    return dots


def _draw_uncertified(ax: Axes, others: pd.DataFrame, against: str) -> list[Any]:
    status = others["status"].fillna("converged")
    look: dict[str, Any] = {"color": "0.5", "markersize": 3.5, "markeredgewidth": 0.7}
    handles = []
    for shape, name, chosen in (
        ("+", "not certified", others[status == "converged"]),
        ("x", "not converged", others[status != "converged"]),
    ):
        if len(chosen):
            x, y = (chosen[column].to_numpy(float) for column in (against, "alpha"))
            label = f"{name} ({len(chosen)})"
            handles += ax.plot(x, y, shape, zorder=1.5, label=label, gid=name, **look)
    return handles


def _known_pairs(known: Any, against: str) -> np.ndarray:
    """ε and α of the closed form, shape (points, 2)."""
    if isinstance(known, (str, Path)):
        try:
            known = pd.read_csv(known, comment="#")
        except (OSError, ValueError) as error:  # pandas' parser errors are ValueErrors
            raise DataError(
                f"{known} cannot be read as CSV ({error}); expected columns loss and alpha"
            ) from error
    if not isinstance(known, pd.DataFrame):
        return np.asarray([] if known is None else known, dtype=float).reshape(-1, 2)
    missing = [name for name in (against, "alpha") if name not in known]
    if missing:
        raise OptionError(
            f"the closed-form points have no column {', '.join(missing)}: give a table with "
            f"columns {against} and alpha"
        )
    return known[[against, "alpha"]].to_numpy(float)


def _set_axes(ax: Axes, shown: pd.DataFrame, known: np.ndarray, against: str) -> None:
    values = np.concatenate([shown[against].to_numpy(float), known[:, 0]])
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
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
    searches, searched = _searches(points), by_search(points)[1].empty
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
    return pd.Series(points.get("found", 1), index=points.index).astype(int)


def _nothing_to_draw(points: pd.DataFrame, others: pd.DataFrame, against: str) -> str:
    if points.empty:
        return "there are no points to draw"
    if len(others):
        return f"none of the {len(points)} points is certified; `uncertified=True` shows them"
    return f"none of the {len(points)} points has both an index and a value for '{against}'"
