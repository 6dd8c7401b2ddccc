"""Figures of a spectrum: its density, and how its counts depend on the tolerance.

The density has linear eigenvalues, a logarithmic y axis and a line at 0, as figure 1(b) of Dauphin
et al. (2014). In trained networks nearly all eigenvalues are then in the one bin at zero, where
neither their sign nor their size can be seen. The second panel opens that bin: the number of
negative, zero and positive eigenvalues for every tolerance τ, each with its interval. A plateau
is a gap in the spectrum; without one, no count means anything without its τ.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import scipy.stats
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from hessscope.errors import OptionError, PrecisionWarning
from hessscope.records import Record
from hessscope.reports.figures import (
    COLUMN_WIDTH,
    DOUBT,
    INK,
    NEGATIVE,
    POSITIVE,
    ZERO,
    fix_ticks,
    number_text,
    shown_figure,
    styled,
    write_facts,
)
from hessscope.reports.tables import result_of
from hessscope.spectra import CountInterval, Inertia, SpectralDensity, Spectrum

_BINS = 100
_SWEEP_POINTS = 300
_RUG_PLACES = 600


def plot_spectrum(
    spectrum: Spectrum | SpectralDensity | Record,
    *,
    tolerance: float | None = None,
    ax: Axes | None = None,
    title: str | None = None,
    sigma: float | None = None,
) -> Axes:
    """Draw the eigenvalue density; alone into ``ax``, or with a tolerance sweep below it.

    An exact spectrum is a histogram in which a bin is centred at 0, so that rounding cannot deal
    the zeros out to both sides. A ``SpectralDensity`` is smoothed by Gaussians, with Student's
    interval over the probes, point by point; short lines at the bottom are the Ritz values that are
    converged to σ/10.

    Args:
        spectrum: the result, or a record of it.
        tolerance: τ of the counts; default the record's, or else 2δ.
        ax: draw the density into these axes and nothing else. Without them a new figure of one
            column's width is made, as by pyplot, which ``.figure`` of the result gives.
        title: above the density; default none.
        sigma: width of the Gaussians (of a ``SpectralDensity`` only); default 1/100 of the range
            from the smallest to the largest Ritz value and 0, but no less than the distance of
            nodes needs, so that a smooth density shows no ripples.

    Returns:
        The axes of the density, to be changed at will.

    Raises:
        OptionError: ``spectrum`` holds no spectrum, or an option has no usable value.
    """
    if ax is not None:
        return _draw_density(ax, spectrum, tolerance, title, sigma)
    figure = shown_figure()
    try:
        spectrum_figure(spectrum, tolerance=tolerance, title=title, sigma=sigma, figure=figure)
    except Exception:
        plt.close(figure)  # else an empty figure would be shown
        raise
    return figure.axes[0]


def spectrum_figure(
    spectrum: Spectrum | SpectralDensity | Record,
    *,
    tolerance: float | None = None,
    title: str | None = None,
    sigma: float | None = None,
    figure: Figure | None = None,
) -> Figure:
    """Draw density and tolerance sweep as one figure of a column's width.

    Unlike ``plot_spectrum`` it leaves pyplot alone: it needs no display and may run in a thread.

    Args:
        spectrum: the result, or a record of it.
        tolerance: τ of the counts; default the record's, or else 2δ.
        title: above the density; default none.
        sigma: width of the Gaussians (of a ``SpectralDensity`` only).
        figure: draw into this one; default a new one.
    """
    with styled():
        if figure is None:
            figure = Figure()
        figure.set_size_inches(COLUMN_WIDTH, 1.2 * COLUMN_WIDTH)
        figure.set_layout_engine("constrained", h_pad=0.02, w_pad=0.02, hspace=0.02)
        upper, lower = figure.subplots(2, 1, height_ratios=[1.0, 0.9])
        for ax in (upper, lower):
            fix_ticks(ax)
    _draw_density(upper, spectrum, tolerance, title, sigma)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PrecisionWarning)  # said for the density already
        plot_tolerance_sweep(spectrum, tolerance=tolerance, ax=lower)
    return figure


def plot_tolerance_sweep(
    spectrum: Spectrum | SpectralDensity | Record,
    *,
    tolerance: float | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the index, the degeneracy and the positive count against the tolerance τ.

    Lines are estimates, bands their intervals. A vertical line marks the τ in use; below 2δ
    (shaded) rounding decides what counts as zero.

    Args:
        spectrum: the result, or a record of it.
        tolerance: τ to mark; default the record's, or else 2δ.
        ax: draw into these axes; default a new figure.
    """
    result, tau = _result_and_tolerance(spectrum, tolerance)
    tau = result.inertia(tau).tolerance
    delta = result.noise_floor.total
    taus = _sweep_tolerances(result, tau)
    with warnings.catch_warnings():
        # Tolerances below 2δ are part of what the sweep is to show.
        warnings.simplefilter("ignore", PrecisionWarning)
        sweep = [result.inertia(float(x)) for x in taus]
    series = (
        ("index", NEGATIVE, "-", [inertia.negative for inertia in sweep]),
        ("degeneracy", ZERO, (0, (3.5, 1.2)), [inertia.zero for inertia in sweep]),
        ("positive", POSITIVE, (0, (5, 1, 1, 1)), [inertia.positive for inertia in sweep]),
    )
    if ax is None:
        figure = shown_figure()
        figure.set_size_inches(COLUMN_WIDTH, 0.65 * COLUMN_WIDTH)
        figure.set_layout_engine("constrained", h_pad=0.02, w_pad=0.02)
        with styled():
            ax = figure.subplots()
            fix_ticks(ax)
    with styled():
        for name, color, dashes, counts in series:
            _draw_counts(ax, taus, counts, name, color, dashes)
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
            ax.axvline(tau, color=INK, linewidth=0.7, gid="tolerance")
            marks.append("line: the τ used")
        if delta > 0:
            ax.axvspan(taus[0], 2 * delta, color=DOUBT, linewidth=0, zorder=0, gid="rounding")
            marks.append("shaded: τ < 2δ")
        ax.xaxis.set_major_locator(LogLocator(numticks=7))
        ax.xaxis.set_minor_locator(LogLocator(numticks=40))
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.set_xlabel("Tolerance τ" + (f" ({'; '.join(marks)})" if marks else ""))
        ax.set_ylabel("Eigenvalue count")
        ax.legend(
            loc="lower left",
            bbox_to_anchor=(0.0, 1.0),
            ncols=3,
            frameon=False,
            borderaxespad=0.2,
            handlelength=2.2,
            columnspacing=1.2,
            handletextpad=0.5,
        )
    return ax


def _draw_density(
    ax: Axes,
    source: Spectrum | SpectralDensity | Record,
    tolerance: float | None,
    title: str | None,
    sigma: float | None,
) -> Axes:
    result, tau = _result_and_tolerance(source, tolerance)
    inertia = result.inertia(tau)
    if isinstance(result, Spectrum) and sigma is not None:
        raise OptionError("sigma smooths a SpectralDensity; a histogram of eigenvalues has none")
    low, high = axis_range(result, inertia.tolerance)
    with styled():
        remark = draw_panel(ax, result, inertia.tolerance, low, high, sigma)
        ax.set_xlabel("Hessian eigenvalue λ")
        ax.set_ylabel("Density p(λ)")
        above = write_facts(ax, _facts(result, inertia, remark))
        if title is not None:
            ax.set_title(title, loc="left", pad=above)
    return ax


def draw_panel(
    ax: Axes,
    result: Spectrum | SpectralDensity,
    tau: float,
    low: float,
    high: float,
    sigma: float | None = None,
) -> list[str]:
    """Draw the bare density over a range, with the line at 0; give how it was drawn, in words."""
    ax.set_yscale("log", nonpositive="clip")
    if isinstance(result, Spectrum):
        remark = _draw_histogram(ax, result, tau, low, high)
    else:
        remark = _draw_smoothed(ax, result, tau, low, high, sigma)
    ax.axvline(0.0, color=INK, linewidth=0.6, gid="zero")
    if tau > 0.005 * (high - low):
        ax.axvspan(-tau, tau, color="0.9", linewidth=0, zorder=0, gid="±τ")
    ax.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
    return remark


def bin_width(size: int, low: float, high: float) -> float:
    """Width of the bins for n eigenvalues: some 2√n over the range, at least 20, at most 100."""
    return (high - low) / min(_BINS, max(20, math.ceil(2 * math.sqrt(size))))


def _draw_histogram(ax: Axes, result: Spectrum, tau: float, low: float, high: float) -> list[str]:
    values = result.eigenvalues
    width = bin_width(result.size, low, high)
    # By number and not by edges: no eigenvalue can fall out at the ends by rounding.
    numbers = np.floor(values / width + 0.5).astype(np.int64)
    centres, counts = np.unique(numbers, return_counts=True)
    heights = counts / (len(values) * width)
    zero = np.abs(centres * width) <= max(tau, 0.25 * width)
    for chosen, color, name in (
        (~zero & (centres < 0), NEGATIVE, "negative"),
        (~zero & (centres > 0), POSITIVE, "positive"),
        (zero, ZERO, "zero"),
    ):
        ax.bar(
            centres[chosen] * width,
            heights[chosen],
            width,
            color=color,
            edgecolor=color,
            linewidth=0.3,
            label=f"_{name}",
        )
    single = 1.0 / (len(values) * width)
    _set_limits(ax, low - 2 * width, high + 2 * width, single, float(heights.max()))
    return [f"bin width {number_text(width)}"]


def _draw_smoothed(
    ax: Axes, result: SpectralDensity, tau: float, low: float, high: float, sigma: float | None
) -> list[str]:
    if sigma is None:
        # In the middle of a smooth density nodes are π/2 · range / steps apart, and Gaussians half
        # as wide as that add up to it within some 2 %; narrower ones would show the nodes.
        resolution = 0.0 if result.complete.all() else 0.8 / result.steps
        sigma = (high - low) * max(0.01, resolution)
    # Narrower peaks would fall between the points of the grid, and be thinner than a line anyway.
    finest = (high - low) / 1000
    if not finest <= sigma < math.inf:
        raise OptionError(f"sigma {sigma} cannot be drawn: give at least {finest:.3g}")
    left, right = low - 4 * sigma, high + 4 * sigma
    # Eight points to a σ follow a Gaussian.
    grid = np.linspace(left, right, max(400, int(8 * (right - left) / sigma)) | 1)
    mean = result.density(grid, sigma)
    single = 1.0 / (result.size * sigma * math.sqrt(2 * math.pi))
    remark = [f"Gaussians of σ = {number_text(sigma)}"]
    probes, level = result.probes, 100 * result.confidence
    if probes > 1:
        each = [
            replace(result, nodes=nodes[None], weights=weights[None]).density(grid, sigma)
            for nodes, weights in zip(result.nodes, result.weights, strict=True)
        ]
        factor = float(scipy.stats.t.ppf(0.5 + result.confidence / 2, probes - 1))
        half = factor * np.std(each, axis=0, ddof=1) / math.sqrt(probes)
        ax.fill_between(
            grid,
            np.maximum(mean - half, 1e-3 * single),
            np.maximum(mean + half, 1e-3 * single),
            color=POSITIVE,
            alpha=0.3,
            linewidth=0,
            gid="interval",
        )
        remark.append(f"intervals {level:.3g} %, {probes} probes")
    else:
        remark.append("1 probe: no sampling interval")
    ax.plot(grid, mean, color=POSITIVE, gid="density")
    converged = result.nodes[result.residuals <= sigma / 10]
    _draw_rug(ax, converged, tau, low, high)
    _set_limits(ax, left, right, single, float(mean.max()))
    return remark


def _draw_rug(ax: Axes, values: np.ndarray, tau: float, low: float, high: float) -> None:
    """Mark where the eigenvalues are; those that would print on the same place are drawn once."""
    for name, color, chosen in (
        ("zero", ZERO, values[np.abs(values) <= tau]),
        ("positive", POSITIVE, values[values > tau]),
        ("negative", NEGATIVE, values[values < -tau]),
    ):
        places = np.round(chosen * (_RUG_PLACES / (high - low)))
        _, first = np.unique(places, return_index=True)
        ax.plot(
            chosen[first],
            np.full(len(first), 0.025),
            "|",
            transform=ax.get_xaxis_transform(),
            color=color,
            markersize=4,
            markeredgewidth=0.7,
            label=f"_rug {name}",
        )


def _set_limits(ax: Axes, left: float, right: float, single: float, top: float) -> None:
    """Show whole decades, from below the height that a single eigenvalue has."""
    ax.set_xlim(left, right)
    lowest, highest = math.floor(math.log10(single / 2)), math.ceil(math.log10(1.25 * top))
    ax.set_ylim(10.0**lowest, 10.0**highest)
    ax.yaxis.set_major_locator(LogLocator(numticks=8))
    ax.yaxis.set_minor_formatter(NullFormatter())


def _draw_counts(
    ax: Axes,
    taus: np.ndarray,
    counts: list[CountInterval],
    name: str,
    color: tuple[float, float, float],
    dashes: str | tuple[float, tuple[float, ...]],
) -> None:
    lower, upper = [c.lower for c in counts], [c.upper for c in counts]
    ax.fill_between(taus, lower, upper, color=color, alpha=0.2, linewidth=0)
    ax.plot(taus, [c.estimate for c in counts], color=color, linestyle=dashes, label=name)


def _sweep_tolerances(result: Spectrum | SpectralDensity, tau: float) -> np.ndarray:
    """From a tenth of the noise floor to beyond the largest eigenvalue."""
    delta = result.noise_floor.total
    largest = max(abs(result.lambda_min), abs(result.lambda_max), 2 * tau, 2 * delta)
    if largest == 0:
        largest = 1.0
    smallest = delta / 10 if delta > 0 else largest * float(np.finfo(np.float64).eps)
    if tau > 0:
        smallest = min(smallest, tau / 2)
    return np.geomspace(smallest, 1.5 * largest, _SWEEP_POINTS)


def axis_range(result: Spectrum | SpectralDensity, tau: float) -> tuple[float, float]:
    """Range of the eigenvalues and 0; where that is nothing but zeros, twice the zero band."""
    low, high = min(result.lambda_min, 0.0), max(result.lambda_max, 0.0)
    if high - low < 4 * tau:
        return -2 * tau, 2 * tau
    return (low, high) if high > low else (-1.0, 1.0)


def _result_and_tolerance(
    source: Spectrum | SpectralDensity | Record, tolerance: float | None
) -> tuple[Spectrum | SpectralDensity, float | None]:
    if tolerance is None and isinstance(source, Record):
        saved = source.attributes.get("tolerance")
        tolerance = float(saved) if isinstance(saved, (int, float)) else None
    return result_of(source), tolerance


def _facts(result: Spectrum | SpectralDensity, inertia: Inertia, remarks: list[str]) -> list[str]:
    """What the numbers stand on."""
    tau, delta = inertia.tolerance, inertia.noise_floor
    if delta > 0 and math.isclose(tau, 2 * delta):
        zero_band = f"τ = 2δ = {number_text(tau)}"
    else:
        zero_band = f"τ = {number_text(tau)}, δ = {number_text(delta)}"
    return [
        f"n = {result.size:,}, {result.dtype}",
        zero_band,
        f"index {inertia.negative} (α = {inertia.index_fraction:.3g})",
        f"degeneracy {inertia.zero}",
        *remarks,
    ]
