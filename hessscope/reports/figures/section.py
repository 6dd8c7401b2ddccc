"""Figures of sections of the loss: along a line, or contours over a plane."""

from __future__ import annotations

from typing import Any

import matplotlib.patheffects as effects
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator

from hessscope.errors import OptionError
from hessscope.objective import LossSection
from hessscope.reports.figures import style
from hessscope.reports.figures.labels import name_points
from hessscope.reports.tables.records import RecordLike, as_record
from hessscope.reports.texts import number_text

_LEVELS = 24
_DECADES = 30.0
_OUTLINE = effects.withStroke(linewidth=1.6, foreground="black", alpha=0.6)

_ON_LINE: dict[str, Any] = {"color": style.NEGATIVE, "markersize": 3.5}
_ON_PLANE: dict[str, Any] = {"color": "white", "markeredgecolor": "black", "markersize": 4}

_Named = tuple[str, tuple[float, float]]


def plot_section(
    section: LossSection | RecordLike,
    *,
    ax: Axes | Figure | None = None,
    title: str | None = None,
) -> Axes:
    """Draw the loss along a line, or its contours over a plane.

    A line along an eigenvector has the quadratic model L + gᵀv·t + λt²/2 beside it (dashed). Levels
    of contours are logarithmic where the loss is positive and spans more than a factor of 30.

    Args:
        section: the section, or a report or record of it.
        ax: draw into these axes, or into an empty figure; default a new figure of one column's
            width, as by pyplot.
        title: above; default none.

    Returns:
        The axes, to be changed at will.

    Raises:
        OptionError: the record holds no section, or no value of it is finite.
    """
    found = section
    if not isinstance(found, LossSection):
        found = LossSection.from_record(as_record(found))
    missing = int((~np.isfinite(found.values)).sum())
    if missing == found.values.size:
        raise OptionError("no value of the loss on this section is finite")
    flat = found.dimension == 1
    with style.canvas(ax, 0.7 if flat else 0.9) as (axes,):
        remark, named = (_draw_line if flat else _draw_plane)(axes, found)
        axes.set_xlabel(_capital(found.names[0]))
        axes.set_ylabel("Loss L(θ)" if flat else _capital(found.names[1]))
        for _, at in named:
            axes.plot(*at, "o", zorder=4, clip_on=False, **(_ON_LINE if flat else _ON_PLANE))
        if missing:
            remark.append(f"{missing} values are not finite")
        facts = [f"n = {len(found.origin):,}", f"{found.evaluations:,} evaluations", *remark]
        style.write_facts(axes, facts, title)
        if flat:
            name_points(axes, named, [line for line in axes.lines if line.get_gid()])
        else:
            name_points(axes, named, color="white", path_effects=[_OUTLINE])
    return axes


def _draw_line(ax: Axes, section: LossSection) -> tuple[list[str], list[_Named]]:
    (axis,) = section.coordinates
    shown = np.where(np.isfinite(section.values), section.values, np.nan)
    ax.plot(axis, shown, color=style.POSITIVE, gid="loss")
    ax.set_xlim(axis[0], axis[-1])
    limits = ax.get_ylim()
    remark = []
    named: list[_Named] = []
    if section.slopes and section.curvatures:
        (slope,), (curvature,) = section.slopes, section.curvatures
        at_origin = float(np.interp(0.0, axis, shown))
        model = at_origin + slope * axis + 0.5 * curvature * axis**2
        ax.plot(axis, model, color=style.INK, linestyle=(0, (3.5, 1.5)), linewidth=0.8, gid="model")
        ax.set_ylim(limits)
        remark += [f"λ = {number_text(curvature)}", "dashed: quadratic model"]
    for name, (place,) in section.marks:
        if axis[0] <= place <= axis[-1]:
            height = float(np.interp(place, axis, shown))
            if np.isfinite(height):
                named.append((name, (place, height)))
    ax.margins(y=0.12)
    return remark, named


def _draw_plane(ax: Axes, section: LossSection) -> tuple[list[str], list[_Named]]:
    x, y = section.coordinates
    values = np.ma.masked_invalid(section.values.T)
    low, high = float(values.min()), float(values.max())
    logarithmic = low > 0 and high > _DECADES * low
    if high == low:
        raise OptionError(f"the loss is {low:g} all over this section: it has no contours")
    levels = (np.geomspace if logarithmic else np.linspace)(low, high, _LEVELS)
    norm = LogNorm(low, high) if logarithmic else None
    filled = ax.contourf(x, y, values, levels, cmap="cividis", norm=norm)
    filled.set(edgecolor="face", linewidth=0.3)  # else viewers show seams between the levels
    ax.contour(x, y, values, levels[::3], colors="white", linewidths=0.35, alpha=0.7)
    bar = style.color_bar(ax, filled, "Loss L(θ)", aspect=28)
    if logarithmic:
        bar.ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        bar.ax.yaxis.set_major_formatter(lambda x, _: number_text(x))
    else:
        bar.ax.yaxis.set_major_locator(MaxNLocator(6))
    bar.ax.minorticks_off()
    remark = [f"λ along the axes: {', '.join(map(number_text, section.curvatures))}"]
    named = [(name, (a, b)) for name, (a, b) in section.marks]
    return remark * bool(section.curvatures), named


def _capital(text: str) -> str:
    return style.name_text(text[:1].upper() + text[1:], most=60)
