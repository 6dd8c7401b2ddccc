"""Spectra of the parts of the parameters, as small multiples.

Each panel has its own axis of eigenvalues, from the smallest to the largest of the part, since the
scales of parts differ by decades; the axis of shares is common. Colours are those of all spectra:
negative, zero and positive eigenvalues, so that the index is seen.
"""

from __future__ import annotations

import math

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, ScalarFormatter

from hessscope.errors import OptionError
from hessscope.reports.figures import style
from hessscope.reports.figures.spectrum import axis_range
from hessscope.reports.tables.parts import part_results
from hessscope.reports.tables.records import RecordLike
from hessscope.reports.texts import count_text
from hessscope.spectra import Result

_BINS = 40
_MOST = 60
_COLORS = {-1: style.NEGATIVE, 1: style.POSITIVE, 0: style.ZERO}


def plot_parts(source: RecordLike, *, ax: Figure | None = None) -> Figure:
    """Draw the spectra of the diagonal blocks of a partition, a panel for each.

    A bar is the share of a part's eigenvalues in one of some 40 bins, on a logarithmic axis that
    all panels have; of a sampled spectrum it is the estimated share. Bins end at 0, where a grey
    bar, over the innermost halves of two others, is the share within ±τ.

    Args:
        source: the report or record of a spectrum with ``by``.
        ax: draw into this empty figure; default a new one, of one column's width for up to four
            parts, else of two.

    Raises:
        OptionError: there are no parts in it, or more than 60.
    """
    results = part_results(source)
    if len(results) > _MOST:
        raise OptionError(
            f"{len(results)} parts are too many for one figure (at most {_MOST}): divide the "
            "parameters into fewer, such as by `by=block` or `by=role`"
        )
    columns = min(2 if len(results) <= 4 else 4, len(results))
    rows = math.ceil(len(results) / columns)
    figure = plt.figure() if ax is None else ax
    with style.styled():
        width = style.COLUMN_WIDTH * (1 if columns <= 2 else 2)
        figure.set_size_inches(width, 0.3 + 1.05 * rows)
        figure.set_layout_engine("constrained", h_pad=0.02, w_pad=0.02)
        grid = figure.subplots(rows, columns, sharey=True, squeeze=False)
        lowest = min(_draw(a, *item) for a, item in zip(grid.flat, results.items(), strict=False))
        for axes in grid.flat[len(results) :]:
            axes.set_visible(False)
        for axes in grid[:, 0]:
            axes.set_ylabel("Share")
        grid[0, 0].set_ylim(10.0 ** math.floor(math.log10(lowest)), 1.5)
        style.log_axis(grid[0, 0].yaxis, 4)
        figure.supxlabel("Eigenvalue λ of the diagonal block", fontsize=style.FONT_SIZE + 0.5)
    return figure


def _draw(ax: Axes, name: str, found: tuple[Result, float]) -> float:
    """Draw a panel; give the share of a single eigenvalue."""
    result, tau = found
    inertia = result.inertia(tau)
    low, high = axis_range(result, inertia.tolerance)
    width = (high - low) / _BINS
    values, masses = result.atoms()
    signs = np.where(np.abs(values) <= inertia.tolerance, 0, np.sign(values))
    ax.set_yscale("log", nonpositive="clip")
    for sign, color in _COLORS.items():
        chosen = signs == sign
        places = (np.floor(values[chosen] / width) + 0.5) * width if sign else 0 * values[chosen]
        places, where = np.unique(places, return_inverse=True)
        heights = np.bincount(where, weights=masses[chosen], minlength=len(places))
        style.draw_bars(ax, places, heights, width if sign else max(width, 2 * tau), color)
    ax.axvline(0.0, color=style.INK, linewidth=0.6, zorder=0)
    ax.set_xlim(low - 1.5 * width, high + 1.5 * width)
    ax.xaxis.set_major_locator(MaxNLocator(3, steps=[1, 2, 5, 10]))
    exponents = ScalarFormatter(useMathText=True)
    exponents.set_powerlimits((-2, 3))
    ax.xaxis.set_major_formatter(exponents)
    ax.xaxis.get_offset_text().set_fontsize(style.FONT_SIZE - 1)
    style.fix_ticks(ax)
    index = inertia.negative
    ax.set_title(
        f"{style.name_text(name, 25)}\nn = {result.size:,}, index "
        f"{count_text(index.estimate, index.lower, index.upper)}",
        loc="left", fontsize=style.FONT_SIZE, pad=3,
    )  # fmt: skip
    return 0.5 / result.size
