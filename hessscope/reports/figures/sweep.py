"""Index and degeneracy against the tolerance, with the noise floor and the widest gap."""

from __future__ import annotations

import warnings

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator

from hessscope.errors import PrecisionWarning
from hessscope.reports.figures import style
from hessscope.reports.tables.records import RecordLike
from hessscope.reports.tables.spectra import result_and_tolerance
from hessscope.spectra import Result, widest_gap

_SWEEP_POINTS = 300
# A count of a density takes milliseconds for each probe, one of a spectrum next to nothing.
_DENSITY_POINTS = 60


def plot_tolerance_sweep(
    spectrum: RecordLike,
    *,
    tolerance: float | None = None,
    ax: Axes | Figure | None = None,
) -> Axes:
    """Draw the index, the degeneracy and the positive count against the tolerance τ.

    Lines are estimates, bands their intervals. A vertical line marks the τ in use; below 2δ
    (shaded) rounding decides what counts as zero. Where an exact spectrum has a gap, a bracket at
    the bottom spans the widest one.

    Args:
        spectrum: the result, a report or a record of it.
        tolerance: τ to mark; default the record's, or else 2δ.
        ax: draw into these axes, or into an empty figure; default a new one.
    """
    result, tau = result_and_tolerance(spectrum, tolerance)
    with style.canvas(ax, 0.65) as (axes,):
        draw_sweep(axes, result, result.inertia(tau).tolerance)
    return axes


def draw_sweep(ax: Axes, result: Result, tau: float) -> None:
    """The counts against the tolerance, with the τ in use and what rounding decides."""
    delta = result.noise_floor.total
    taus = _sweep_tolerances(result, tau)
    with warnings.catch_warnings():
        # Tolerances below 2δ are part of what the sweep is to show.
        warnings.simplefilter("ignore", PrecisionWarning)
        sweep = [result.inertia(float(x)) for x in taus]
    for name, color, dashes, counts in (
        ("index", style.NEGATIVE, "-", [inertia.negative for inertia in sweep]),
        ("degeneracy", style.ZERO, (0, (3.5, 1.2)), [inertia.zero for inertia in sweep]),
        ("positive", style.POSITIVE, (0, (5, 1, 1, 1)), [inertia.positive for inertia in sweep]),
    ):
        lower, upper = [c.lower for c in counts], [c.upper for c in counts]
        ax.fill_between(taus, lower, upper, color=color, alpha=0.2, linewidth=0)
        ax.plot(taus, [c.estimate for c in counts], color=color, linestyle=dashes, label=name)
    ax.set_xscale("log")
    ax.set_xlim(taus[0], taus[-1])
    if result.size < 10:
        ax.set_ylim(0, 1.1 * result.size)
        ax.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    else:
        # Linear below 1, where the only count is 0, which must be seen.
        ax.set_yscale("symlog", linthresh=1.0, linscale=0.4)
        ax.set_ylim(0, 2.0 * result.size)
    marks = []
    if tau > 0:
        ax.axvline(tau, color=style.INK, linewidth=0.7, gid="tolerance")
        marks.append("line: the τ used")
    if delta > 0:
        ax.axvspan(taus[0], 2 * delta, color=style.DOUBT, linewidth=0, zorder=0, gid="rounding")
        marks.append("shaded: τ < 2δ")
    _draw_gap(ax, result)
    style.log_axis(ax.xaxis, 7)
    ax.xaxis.set_minor_locator(LogLocator(numticks=40))
    ax.set_xlabel("Tolerance τ" + (f" ({'; '.join(marks)})" if marks else ""))
    ax.set_ylabel("Eigenvalue count")
    style.legend_above(ax, ncols=3, handlelength=2.2, columnspacing=1.2, handletextpad=0.5)


def _draw_gap(ax: Axes, result: Result) -> None:
    widest = widest_gap(result)
    if widest is None or not widest.gap.found:
        return
    gap = widest.gap
    height = 0.07  # of the axes, between an index of 0 and one of 1
    style.draw_ticks(ax, np.array([gap.lower, gap.upper]), height, style.INK, "_gap", line="-")
    # Above it, where no line crosses the words; beside it, on the wider side, where it is narrow.
    left, right = np.log10(ax.get_xlim())
    before, behind = np.log10(gap.lower) - left, right - np.log10(gap.upper)
    place, offset, align = (gap.lower * gap.upper) ** 0.5, (0, 5), "center"
    if gap.decades < 0.4 * (right - left) and before < behind:
        place, offset, align = gap.upper, (4, 0), "left"
    elif gap.decades < 0.4 * (right - left):
        place, offset, align = gap.lower, (-4, 0), "right"
    words, axes = f"gap of {gap.decades:.1f} decades", ax.get_xaxis_transform()
    label = ax.annotate(words, (place, height), offset, axes, "offset points")
    label.set(horizontalalignment=align, verticalalignment="center")


def _sweep_tolerances(result: Result, tau: float) -> np.ndarray:
    """From a tenth of the noise floor to beyond the largest eigenvalue."""
    delta = result.noise_floor.total
    largest = max(result.norm, 2 * tau, 2 * delta)
    if largest == 0:
        largest = 1.0
    smallest = delta / 10 if delta > 0 else largest * float(np.finfo(np.float64).eps)
    if tau > 0:
        smallest = min(smallest, tau / 2)
    points = _DENSITY_POINTS if result.eigenvalues is None else _SWEEP_POINTS
    return np.geomspace(smallest, 1.5 * largest, points)
