"""Counts at many tolerances."""

from __future__ import annotations

import math
import warnings

from hessscope.errors import PrecisionWarning
from hessscope.spectra.inertia import Inertia
from hessscope.spectra.result import Result

PER_DECADE = 4


def tolerance_sweep(
    result: Result, inertia: Inertia, per_decade: int = PER_DECADE
) -> tuple[Inertia, ...]:
    """Counts at logarithmically spaced tolerances, from 2δ to the largest |λ|.

    They show whether there is a gap in the spectrum: where every tolerance gives another
    degeneracy, no single number is a property of the point.

    Args:
        result: a spectrum or a density.
        inertia: its counts at the tolerance asked for, which take part in the sweep.
        per_decade: tolerances in each decade, 10 to the power of k/per_decade.

    Returns:
        Ascending in the tolerance; only ``inertia`` where there is no range to sweep.
    """
    top = result.norm
    tau, floor = inertia.tolerance, 2.0 * inertia.noise_floor
    start = min(x for x in (tau, floor, top) if x > 0.0) if top > 0.0 else 0.0
    if not 0.0 < start < top:
        return (inertia,)
    first = math.floor(per_decade * math.log10(start)) + 1
    last = math.ceil(per_decade * math.log10(top)) - 1
    grid = [10.0 ** (k / per_decade) for k in range(first, last + 1)]
    # One that is a hair beside the tolerance itself would be the same row twice.
    others = [x for x in (floor, *grid) if x > 0.0 and not math.isclose(x, tau, rel_tol=0.05)]
    with warnings.catch_warnings():
        # Tolerances below the noise floor have been spoken of already.
        warnings.simplefilter("ignore", PrecisionWarning)
        rows = [inertia, *(result.inertia(x) for x in others)]
    return tuple(sorted(rows, key=lambda row: row.tolerance))
