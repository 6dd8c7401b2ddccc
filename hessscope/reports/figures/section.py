"""Figures of sections of the loss: along a line, or contours over a plane."""

from __future__ import annotations

import matplotlib.patheffects as effects
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator

from hessscope.errors import OptionError
from hessscope.objective import LossSection
from hessscope.reports.figures.labels import name_points
from hessscope.reports.figures.style import (
    COLUMN_WIDTH,
    FONT_SIZE,
    INK,
    NEGATIVE,
    POSITIVE,
    fix_ticks,
    name_text,
    number_text,
    shown_figure,
    styled,
    write_facts,
)
from hessscope.reports.tables.records import RecordLike, as_record

_LEVELS = 24
_DECADES = 30.0
_OUTLINE = effects.withStroke(linewidth=1.6, foreground="black", alpha=0.6)

_Named = tuple[str, tuple[float, float]]


def plot_section(
    section: LossSection | RecordLike, *, ax: Axes | None = None, title: str | None = None
) -> Axes:
    """Draw the loss along a line, or its contours over a plane.

    A line along an eigenvector has the quadratic model L + gᵀv·t + λt²/2 beside it (dashed). Levels
    of contours are logarithmic where the loss is positive and spans more than a factor of 30.

    Args:
        section: the section, or a record of it.
        ax: draw into these axes; default a new figure of one column's width, as by pyplot.
        title: above; default none.

    Returns:
        The axes, to be changed at will.

    Raises:
        OptionError: the record holds no section, or no value of it is finite.
    """
    if ax is not None:
        return _draw(ax, _section_of(section), title)
    figure = shown_figure()
    try:
        section_figure(section, title=title, figure=figure)
    except Exception:
        plt.close(figure)  # else an empty figure would be shown
        raise
    return figure.axes[0]


def section_figure(
    section: LossSection | RecordLike, *, title: str | None = None, figure: Figure | None = None
) -> Figure:
    """Draw a section as a figure of a column's width, without pyplot.

    Args:
        section: the section, or a record of it.
        title: above; default none.
        figure: draw into this one; default a new one.
    """
    found = _section_of(section)
    with styled():
        if figure is None:
            figure = Figure()
        figure.set_size_inches(COLUMN_WIDTH, (0.7 if found.dimension == 1 else 0.9) * COLUMN_WIDTH)
        figure.set_layout_engine("constrained", h_pad=0.02, w_pad=0.02)
        ax = figure.subplots()
    _draw(ax, found, title)
    return figure


def _section_of(source: LossSection | RecordLike) -> LossSection:
    return source if isinstance(source, LossSection) else LossSection.from_record(as_record(source))


def _draw(ax: Axes, section: LossSection, title: str | None) -> Axes:
    if not np.isfinite(section.values).any():
        raise OptionError("no value of the loss on this section is finite")
    with styled():
        fix_ticks(ax)
        draw = _draw_line if section.dimension == 1 else _draw_plane
        remark, named = draw(ax, section)
        missing = int((~np.isfinite(section.values)).sum())
        if missing:
            remark.append(f"{missing} values are not finite")
        above = write_facts(
            ax,
            [f"n = {len(section.origin):,}", f"{section.evaluations:,} evaluations", *remark],
        )
        if title is not None:
            ax.set_title(title, loc="left", pad=above)
        if section.dimension == 1:
            name_points(ax, named, [line for line in ax.lines if line.get_gid()])
        else:
            name_points(ax, named, color="white", path_effects=[_OUTLINE])
    return ax


def _draw_line(ax: Axes, section: LossSection) -> tuple[list[str], list[_Named]]:
    (axis,) = section.coordinates
    shown = np.where(np.isfinite(section.values), section.values, np.nan)
    ax.plot(axis, shown, color=POSITIVE, gid="loss")
    ax.set_xlim(axis[0], axis[-1])
    limits = ax.get_ylim()
    remark = []
    named: list[_Named] = []
    if section.slopes and section.curvatures:
        (slope,), (curvature,) = section.slopes, section.curvatures
        at_origin = float(np.interp(0.0, axis, shown))
        model = at_origin + slope * axis + 0.5 * curvature * axis**2
        ax.plot(axis, model, color=INK, linestyle=(0, (3.5, 1.5)), linewidth=0.8, gid="model")
        ax.set_ylim(limits)
        remark += [f"λ = {number_text(curvature)}", "dashed: quadratic model"]
    for name, (place,) in section.marks:
        if axis[0] <= place <= axis[-1]:
            height = float(np.interp(place, axis, shown))
            if not np.isfinite(height):
                continue
            ax.plot(place, height, "o", color=NEGATIVE, markersize=3.5, zorder=4, clip_on=False)
            named.append((name, (place, height)))
    ax.margins(y=0.12)
    ax.set_xlabel(_capital(section.names[0]))
    ax.set_ylabel("Loss L(θ)")
    return remark, named


def _draw_plane(ax: Axes, section: LossSection) -> tuple[list[str], list[_Named]]:
    x, y = section.coordinates
    values = np.ma.masked_invalid(section.values.T)
    low, high = float(values.min()), float(values.max())
    logarithmic = low > 0 and high > _DECADES * low
    if high == low:
        raise OptionError(f"the loss is {low:g} all over this section: it has no contours")
    if logarithmic:
        levels = np.geomspace(low, high, _LEVELS)
        filled = ax.contourf(x, y, values, levels, cmap="cividis", norm=LogNorm(low, high))
    else:
        levels = np.linspace(low, high, _LEVELS)
        filled = ax.contourf(x, y, values, levels, cmap="cividis")
    filled.set(edgecolor="face", linewidth=0.3)  # else viewers show seams between the levels
    ax.contour(x, y, values, levels[::3], colors="white", linewidths=0.35, alpha=0.7)
    bar = ax.figure.colorbar(filled, ax=ax, pad=0.02, aspect=28)
    bar.set_label("Loss L(θ)")
    if logarithmic:
        bar.ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        bar.ax.yaxis.set_major_formatter(lambda x, _: number_text(x))
    else:
        bar.ax.yaxis.set_major_locator(MaxNLocator(6))
    bar.ax.minorticks_off()
    bar.ax.tick_params(labelsize=FONT_SIZE, length=2)
    named: list[_Named] = []
    for name, (a, b) in section.marks:
        ax.plot(
            a, b, "o", color="white", markeredgecolor="black", markersize=4, zorder=4,
            clip_on=False,
        )  # fmt: skip
        named.append((name, (a, b)))
    ax.set_xlabel(_capital(section.names[0]))
    ax.set_ylabel(_capital(section.names[1]))
    remark = [f"λ along the axes: {', '.join(map(number_text, section.curvatures))}"]
    return remark * bool(section.curvatures), named


def _capital(text: str) -> str:
    return name_text(text[:1].upper() + text[1:], most=60)
