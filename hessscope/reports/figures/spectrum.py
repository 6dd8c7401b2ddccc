"""Figures of a spectrum: its density, and how its counts depend on the tolerance.

The density has linear eigenvalues, a logarithmic y axis and a line at 0, as figure 1(b) of Dauphin
et al. (2014). In trained networks nearly all eigenvalues are then in the one bin at zero, where
neither their sign nor their size can be seen. The second panel opens that bin: the number of
negative, zero and positive eigenvalues for every tolerance τ, each with its interval. A plateau
is a gap in the spectrum; without one, no count means anything without its τ.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import scipy.stats
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from hessscope.errors import OptionError
from hessscope.records import Record
from hessscope.registry import OPERATORS
from hessscope.reports.figures import style
from hessscope.reports.figures.bulk import draw_bulk
from hessscope.reports.figures.sweep import draw_sweep
from hessscope.reports.tables.records import RecordLike
from hessscope.reports.tables.spectra import as_result, result_and_tolerance
from hessscope.reports.texts import number_text
from hessscope.spectra import Inertia, Result, SemicircleFit, SpectralDensity

_BINS = 100
_RUG_PLACES = 600
_COLORS = {"negative": style.NEGATIVE, "positive": style.POSITIVE, "zero": style.ZERO}


def plot_spectrum(
    spectrum: RecordLike,
    *,
    tolerance: float | None = None,
    ax: Axes | Figure | None = None,
    title: str | None = None,
    sigma: float | None = None,
    operator: str | None = None,
    bulk: SemicircleFit | None = None,
) -> Axes:
    """Draw the eigenvalue density; alone into axes, or with a tolerance sweep below it.

    An exact spectrum is a histogram in which a bin is centred at 0, so that rounding cannot deal
    the zeros out to both sides. A ``SpectralDensity`` is smoothed by Gaussians, with Student's
    interval over the probes, point by point; short lines at the bottom are the Ritz values that are
    converged to σ/10.

    Args:
        spectrum: the result, a report or a record of it.
        tolerance: τ of the counts; default the record's, or else 2δ.
        ax: draw the density into these axes and nothing else, or all into this empty figure.
            Without them a new figure of one column's width is made, as by pyplot, which
            ``.figure`` of the result gives.
        title: above the density; default none.
        sigma: width of the Gaussians (of a ``SpectralDensity`` only); default 1/100 of the range
            from the smallest to the largest Ritz value and 0, but no less than the distance of
            nodes needs, so that a smooth density shows no ripples.
        operator: name of the matrix, for the axis; default the record's, or else "hessian".
        bulk: the semicircle's best fit to the bulk, for a third panel with both.

    Returns:
        The axes of the density, to be changed at will.

    Raises:
        OptionError: ``spectrum`` holds no spectrum, or an option has no usable value.
    """
    source = as_result(spectrum)
    result, tau = result_and_tolerance(source, tolerance)
    if sigma is not None and not isinstance(result, SpectralDensity):
        raise OptionError("sigma smooths a SpectralDensity; a histogram of eigenvalues has none")
    inertia = result.inertia(tau)
    low, high = axis_range(result, inertia.tolerance)
    heights = [1.0, 0.9] if bulk is None else [1.0, 0.9, 0.8]
    with style.canvas(ax, 0.63 * sum(heights), heights) as (density, *below):
        remark = draw_panel(density, result, inertia.tolerance, low, high, sigma)
        density.set_xlabel(f"{_matrix_name(source, operator)} eigenvalue λ")
        density.set_ylabel("Density p(λ)")
        style.write_facts(density, _facts(result, inertia, remark), title)
        if below:
            draw_sweep(below[0], result, inertia.tolerance)
        if below and bulk is not None:
            draw_bulk(below[1], result, bulk)
    return density


def draw_panel(
    ax: Axes, result: Result, tau: float, low: float, high: float, sigma: float | None = None
) -> list[str]:
    """Draw the bare density over a range, with the line at 0; give how it was drawn, in words."""
    ax.set_yscale("log", nonpositive="clip")
    if isinstance(result, SpectralDensity):
        remark = _draw_smoothed(ax, result, tau, low, high, sigma)
    else:
        remark = _draw_histogram(ax, result, tau, low, high)
    ax.axvline(0.0, color=style.INK, linewidth=0.6, gid="zero")
    if tau > 0.005 * (high - low):
        ax.axvspan(-tau, tau, color="0.9", linewidth=0, zorder=0, gid="±τ")
    ax.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
    return remark


def bin_width(size: int, low: float, high: float) -> float:
    """Width of the bins for n eigenvalues: some 2√n over the range, at least 20, at most 100."""
    return (high - low) / min(_BINS, max(20, math.ceil(2 * math.sqrt(size))))


def binned(result: Result, width: float) -> tuple[np.ndarray, np.ndarray]:
    """Bins centred at whole multiples of ``width``: these multiples, and the share in each.

    By number and not by edges: no eigenvalue can fall out at the ends by rounding.
    """
    values, masses = result.atoms()
    numbers = np.floor(values / width + 0.5).astype(np.int64)
    centres, where = np.unique(numbers, return_inverse=True)
    return centres, np.bincount(where, weights=masses)


def _draw_histogram(ax: Axes, result: Result, tau: float, low: float, high: float) -> list[str]:
    width = bin_width(result.size, low, high)
    centres, shares = binned(result, width)
    heights = shares / width
    zero = np.abs(centres * width) <= max(tau, 0.25 * width)
    signs = np.where(zero, "zero", np.where(centres < 0, "negative", "positive"))
    for name, color in _COLORS.items():
        chosen = signs == name
        x = centres[chosen] * width
        style.draw_bars(ax, x, heights[chosen], width, color, label=f"_{name}")
    single = 1.0 / (result.size * width)
    _set_limits(ax, low - 2 * width, high + 2 * width, single, float(heights.max()))
    return [f"bin width {number_text(width)}"]


def _draw_smoothed(
    ax: Axes, result: SpectralDensity, tau: float, low: float, high: float, sigma: float | None
) -> list[str]:
    if sigma is None:
        # In the middle of a smooth density nodes are π/2 · range / steps apart, and Gaussians half
        # as wide as that add up to it within some 2 %; narrower ones would show the nodes.
        resolution = 0.8 / result.steps if result.steps else 0.0
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
        curves = [probe.density(grid, sigma) for probe in result.by_probe()]
        factor = float(scipy.stats.t.ppf(0.5 + result.confidence / 2, probes - 1))
        half = factor * np.std(curves, axis=0, ddof=1) / math.sqrt(probes)
        low_end, high_end = np.maximum([mean - half, mean + half], 1e-3 * single)
        band: dict[str, Any] = {"color": style.POSITIVE, "alpha": 0.3, "linewidth": 0}
        ax.fill_between(grid, low_end, high_end, gid="interval", **band)
        remark.append(f"intervals {level:.3g} %, {probes} probes")
    elif probes:
        remark.append("1 probe: no sampling interval")
    ax.plot(grid, mean, color=style.POSITIVE, gid="density")
    values, residuals = result.ritz_pairs
    _draw_rug(ax, values[residuals <= sigma / 10], tau, low, high)
    _set_limits(ax, left, right, single, float(mean.max()))
    return remark


def _draw_rug(ax: Axes, values: np.ndarray, tau: float, low: float, high: float) -> None:
    """Mark where the eigenvalues are; those that would print on the same place are drawn once."""
    signs = np.where(np.abs(values) <= tau, "zero", np.where(values < 0, "negative", "positive"))
    for name, color in reversed(_COLORS.items()):
        chosen = values[signs == name]
        places = np.round(chosen * (_RUG_PLACES / (high - low)))
        _, first = np.unique(places, return_index=True)
        style.draw_ticks(ax, chosen[first], 0.025, color, f"_rug {name}")


def _set_limits(ax: Axes, left: float, right: float, single: float, top: float) -> None:
    """Show whole decades, from below the height that a single eigenvalue has."""
    ax.set_xlim(left, right)
    lowest, highest = math.floor(math.log10(single / 2)), math.ceil(math.log10(1.25 * top))
    ax.set_ylim(10.0**lowest, 10.0**highest)
    style.log_axis(ax.yaxis, 8)


def axis_range(result: Result, tau: float) -> tuple[float, float]:
    """Range of the eigenvalues and 0; where that is nothing but zeros, twice the zero band."""
    low, high = min(result.lambda_min, 0.0), max(result.lambda_max, 0.0)
    if high - low < 4 * tau:
        return -2 * tau, 2 * tau
    return (low, high) if high > low else (-1.0, 1.0)


def _matrix_name(source: Result | Record, operator: str | None) -> str:
    saved = source.attributes.get("operator") if isinstance(source, Record) else None
    name = operator or str(saved or "hessian")
    return str(OPERATORS[name].title) if name in OPERATORS else "Matrix"


def _facts(result: Result, inertia: Inertia, remarks: list[str]) -> list[str]:
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
