"""Eigenvalue distributions at critical points of low, middle and high loss, one below the other.

Figures 1(b) and 1(d) of Dauphin et al. (2014): linear eigenvalues, a logarithmic y axis, a line at
0. All panels share the eigenvalue axis and the bins, so that the shift is seen; it is also stated,
with the mode and with what is at zero.
"""

from __future__ import annotations

import warnings
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hessscope.errors import OptionError, PrecisionWarning
from hessscope.records import Record
from hessscope.reports.figures.spectrum import axis_range, bin_width, binned, draw_panel
from hessscope.reports.figures.style import INK, canvas, name_text, write_facts
from hessscope.reports.tables.points import by_search, certified_points, spread_points
from hessscope.reports.tables.records import RecordSource, as_points, records_of
from hessscope.reports.tables.spectra import result_and_tolerance
from hessscope.reports.texts import number_text
from hessscope.spectra import Inertia, Result, bulk_of, compare_with_semicircle

_GRID = 2001
_MODE_AT_ZERO = 0.005


class _Panel(NamedTuple):
    """A point's row of ``load_records``, its spectrum and its counts."""

    row: pd.Series
    result: Result
    inertia: Inertia


def plot_eigenvalue_distributions(
    points: RecordSource,
    *,
    count: int = 3,
    semicircle: bool = False,
    ax: Figure | None = None,
) -> tuple[Axes, ...]:
    """Draw the eigenvalue density at several critical points, one panel each.

    Args:
        points: a table of ``load_records``, of which the certified points of low, middle and high
            loss are chosen, equally far apart by rank, or where none is certified all that are of
            no search; or records, which are all drawn.
        count: how many to choose from a table.
        semicircle: draw over each the semicircle (Wigner 1958) that is nearest to the eigenvalues
            outside ±τ, and state how far it is from them (Kolmogorov–Smirnov distance).
        ax: draw into this empty figure; default a new one of a column's width.

    Returns:
        The axes, from the lowest loss down; ``.figure`` of one is the figure.

    Raises:
        OptionError: no point has a spectrum.
    """
    panels = _panels(points, count)
    ranges = [axis_range(panel.result, panel.inertia.tolerance) for panel in panels]
    low, high = min(r[0] for r in ranges), max(r[1] for r in ranges)
    limits: list[tuple[float, float]] = []
    shared = {"sharex": True, "sharey": True}
    with canvas(ax, 0.2 + 0.5 * len(panels), [1.0] * len(panels), gap=0.03, **shared) as rows:
        for row, panel in zip(rows, panels, strict=True):
            remark = draw_panel(row, panel.result, panel.inertia.tolerance, low, high)
            limits.append(row.get_ylim())
            shape = eigenvalue_shape(panel.result, panel.inertia, low, high)
            if semicircle:
                remark.append("dashed: nearest semicircle to |λ| > τ")
                shape["distance"] = _draw_semicircle(row, panel)
            row.set_ylabel("Density p(λ)")
            # How it is drawn is the same for all, and said once.
            write_facts(row, _facts(panel, shape, remark if row is rows[0] else []))
        rows[0].set_ylim(min(bottom for bottom, _ in limits), max(top for _, top in limits))
        rows[-1].set_xlabel("Hessian eigenvalue λ")
    return tuple(rows)


def eigenvalue_shape(
    result: Result, inertia: Inertia, low: float | None = None, high: float | None = None
) -> dict[str, float]:
    """Shift, mode, and what is at zero of an eigenvalue distribution.

    Args:
        result: the spectrum.
        inertia: its counts, for the share within ±τ.
        low: lower end of the range that is divided into bins, as ``plot_spectrum`` does, one of
            them centred at 0; default the smallest eigenvalue, or 0.
        high: upper end; default the largest, or 0.

    Returns:
        ``mean`` (the shift: a semicircle law has it at 0), ``mode`` (centre of the
        fullest bin), ``at_mode`` (share in it), ``zero`` (share within ±τ), ``bin`` (its width).
    """
    if low is None or high is None:
        low, high = axis_range(result, inertia.tolerance)
    values, weights = result.atoms()
    width = bin_width(result.size, low, high)
    centres, shares = binned(result, width)
    fullest = int(np.argmax(shares))
    return {
        "mean": float(weights @ values),
        "mode": float(centres[fullest] * width),
        "at_mode": float(shares[fullest]),
        "zero": inertia.zero.estimate / inertia.size,
        "bin": width,
    }


def _draw_semicircle(ax: Axes, panel: _Panel) -> float:
    """Draw the law over the bulk, with the bulk's share of the mass; give its distance."""
    tau = panel.inertia.tolerance
    fit = compare_with_semicircle(panel.result, tau)
    if fit is None:
        return np.nan
    _, masses = bulk_of(panel.result, tau)
    x = np.linspace(fit.law.centre - fit.law.radius, fit.law.centre + fit.law.radius, _GRID)
    limits = ax.get_xlim(), ax.get_ylim()
    density = float(masses.sum()) * fit.law.density(x)
    dashes = (0, (3.5, 1.5))
    ax.plot(x, density, color=INK, linewidth=0.9, linestyle=dashes, gid="semicircle")
    ax.set(xlim=limits[0], ylim=limits[1])
    return fit.distance


def _panels(source: RecordSource, count: int) -> list[_Panel]:
    if isinstance(source, pd.DataFrame) and len(source) > 1:
        certified, spectra = certified_points(source), by_search(source)[1]
        if certified.empty and spectra.empty:
            raise OptionError(
                f"none of the {len(source)} points is certified; give the records to draw"
            )
        source = spectra if certified.empty else spread_points(certified, count)
    records = records_of(source)
    if not records:
        raise OptionError("there is no record to draw a spectrum of")
    return sorted(map(_panel, records), key=lambda panel: float(panel.row["loss"]))


def _panel(record: Record) -> _Panel:
    result, tolerance = result_and_tolerance(record, None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PrecisionWarning)  # said when the record was made
        return _Panel(as_points(record).iloc[0], result, result.inertia(tolerance))


def _facts(panel: _Panel, shape: dict[str, float], remark: list[str]) -> list[str]:
    row, _, inertia = panel
    name = str(row["name"] if row["path"] else row["origin"] or row["kind"])
    error = "" if np.isnan(row["error"]) else f", error {row['error']:.2%}"
    at_zero = abs(shape["mode"]) < _MODE_AT_ZERO * shape["bin"]
    mean = shape["mean"] if abs(shape["mean"]) > inertia.noise_floor else 0.0
    distance = shape.get("distance", np.nan)
    apart = [] if np.isnan(distance) else [f"semicircle off by {distance:.2g}"]
    mode = "0" if at_zero else number_text(shape["mode"])
    return [
        f"{name_text(name)}: ε = {number_text(row['loss'])}{error}",
        f"index {inertia.negative} (α = {inertia.index_fraction:.3g})",
        f"mean λ = {number_text(mean)}",
        f"mode at {mode}: {shape['at_mode']:.0%} in its bin",
        f"{shape['zero']:.0%} within ±τ = {number_text(inertia.tolerance)}",
        *apart,
        *remark,
    ]
