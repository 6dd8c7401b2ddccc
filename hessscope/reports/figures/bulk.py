"""The bulk of a spectrum under the best semicircle."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hessscope.errors import OptionError
from hessscope.records import Record
from hessscope.reports.figures.style import INK, NEGATIVE, POSITIVE, canvas, draw_bars, write_facts
from hessscope.reports.tables.records import RecordLike
from hessscope.reports.tables.spectra import as_result, result_and_tolerance
from hessscope.reports.texts import number_text
from hessscope.spectra import (
    Result,
    Semicircle,
    SemicircleFit,
    bulk_of,
    compare_with_semicircle,
)

_BINS = 60
# So many radii to each side of the centre are shown; what lies beyond is stated.
_RADII = 2.5


def plot_bulk(
    source: RecordLike,
    *,
    tolerance: float | None = None,
    edge: float | None = None,
    ax: Axes | Figure | None = None,
) -> Axes:
    """Draw the bulk's density and the semicircle that comes closest to it, with their distance.

    Args:
        source: the result, a report or a record of it.
        tolerance: τ, what is zero and no part of the bulk; default the record's, or else 2δ.
        edge: where outliers begin; default the record's, or else no outliers.
        ax: draw into these axes; default a new figure.

    Raises:
        OptionError: too little is left for a bulk.
    """
    source = as_result(source)
    result, tolerance = result_and_tolerance(source, tolerance)
    if edge is None and isinstance(source, Record):
        edge = source.attributes.get("bulk", {}).get("semicircle", {}).get("edge")
    tau = result.inertia(tolerance).tolerance
    fit = compare_with_semicircle(result, tau, math.inf if edge is None else edge)
    if fit is None:
        raise OptionError("fewer than ten different eigenvalues are left: there is no bulk to draw")
    with canvas(ax, 0.7) as (axes,):
        draw_bulk(axes, result, fit)
    return axes


def draw_bulk(ax: Axes, result: Result, fit: SemicircleFit) -> None:
    """Histogram of the bulk in units of the law's radius, the law over it, and the facts."""
    points, masses = bulk_of(result, fit.tolerance, fit.edge)
    masses = masses / masses.sum()
    law, standard = fit.law, Semicircle(0.0, 1.0)
    places = (points - law.centre) / law.radius
    zero = -law.centre / law.radius
    low = max(-_RADII, min(float(places[0]), -1.0))
    high = min(_RADII, max(float(places[-1]), 1.0))
    width = (high - low) / _BINS
    # A bin ends at λ = 0, so that no bar has eigenvalues of both signs.
    start = zero - math.ceil((zero - low) / width) * width if low < zero < high else low
    edges = start + width * np.arange(_BINS + 2)
    for sign, color in ((-1, NEGATIVE), (1, POSITIVE)):
        chosen = np.sign(points) == sign
        heights, _ = np.histogram(places[chosen], edges, weights=masses[chosen] / width)
        there = heights > 0
        draw_bars(ax, edges[:-1][there], heights[there], width, color, align="edge", alpha=0.6)
    grid = np.linspace(-1.0, 1.0, 501)
    ax.plot(grid, standard.density(grid), color=INK, linestyle=(0, (4, 1.5)), gid="semicircle")
    ax.axvline(zero, color=INK, linewidth=0.6, gid="zero")
    ax.set(xlim=(low, high), xlabel="Bulk eigenvalue, (λ − centre) / radius")
    ax.set_ylabel("Density × radius")
    beyond = float(masses[(places < low) | (places > high)].sum())
    write_facts(ax, _facts(fit, beyond))


def _facts(fit: SemicircleFit, beyond: float) -> tuple[str, ...]:
    """What is drawn and how far apart the two are, in lines that a column holds."""
    distance = f"{fit.distance:.2g}"
    if fit.resolution:
        distance += f" ± {fit.resolution:.1g}"
    outside = f"; {beyond:.1%} outside" if beyond > 0 else ""
    centre, radius = number_text(fit.law.centre), number_text(fit.law.radius)
    chance = number_text(float(f"{fit.chance:.1g}"))
    return (
        f"bulk of {fit.size:,} eigenvalues{outside}",
        f"dashed: semicircle, centre {centre}, radius {radius}",
        f"distance {distance} (random matrices: {chance})",
    )
