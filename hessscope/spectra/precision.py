"""Does the network decide a count, or the data type and the tolerance?"""

from __future__ import annotations

import warnings

from hessscope.errors import PrecisionWarning
from hessscope.spectra.inertia import Inertia
from hessscope.spectra.result import Result

# A count is in doubt where something other than the network moves it by this part of itself; for
# counts near 0 by this part of a hundredth of n.
_CONSIDERABLE = 0.1
_SMALL_COUNT = 0.01


def warn_of_precision(spectrum: Result, inertia: Inertia) -> None:
    """Warn where rounding, the data type or the tolerance decides the index or the degeneracy.

    - Rounding: the interval of a count is wider than a tenth of it.
    - The data type: in float32 at τ ≤ 2δ, more than 1 % of the eigenvalues that are not exactly
      zero rows cannot be told from zero.
    - The tolerance: ten times it, or a tenth of it but not below 2δ, moves a count by a tenth.

    Below τ = 2δ, of which ``inertia`` warns, only the data type is spoken of. Sampled counts have
    intervals that say it themselves: of them nothing is said.

    Args:
        spectrum: the result.
        inertia: its counts.
    """
    if spectrum.eigenvalues is None:
        return
    tau, floor = inertia.tolerance, 2.0 * inertia.noise_floor
    found = []
    if spectrum.dtype == "float32" and tau <= floor:
        hidden = spectrum.inertia(floor).zero.estimate - (spectrum.zero_rows or 0)
        if hidden > _SMALL_COUNT * spectrum.size:
            found.append(
                f"float32 decides the counts: {hidden:,} of {spectrum.size:,} eigenvalues lie "
                f"within 2δ = {floor:.2g} of zero without being exactly zero rows; only float64 "
                "can tell which of them are zero"
            )
    if tau >= floor:
        considerable = {
            name: _CONSIDERABLE * max(inertia.counts[name].estimate, _SMALL_COUNT * inertia.size)
            for name in ("index", "degeneracy")
        }
        for name, limit in considerable.items():
            count = inertia.counts[name]
            if count.upper - count.lower > limit:
                found.append(
                    f"rounding decides the {name}: at τ = {tau:.2g} it lies between "
                    f"{count.lower:,} and {count.upper:,}"
                )
        moved = []
        for other in (max(tau / 10.0, floor), 10.0 * tau) if tau > 0.0 else ():
            counts = spectrum.inertia(other).counts
            moved += [
                f"the {name} is {inertia.counts[name].estimate:,} at τ = {tau:.2g} and "
                f"{counts[name].estimate:,} at {other:.2g}"
                for name, limit in considerable.items()
                if abs(counts[name] - inertia.counts[name]) > limit
            ]
        if moved:
            found.append(f"the tolerance decides: {', '.join(moved)}")
    for text in found:
        warnings.warn(text, PrecisionWarning, stacklevel=3)
