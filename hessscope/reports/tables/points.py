"""Critical points of a study: the certified, the distinct, and a choice to show."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from hessscope.errors import OptionError
from hessscope.records import load_record

_SPECTRA = ("eigenvalues", "spectrum/eigenvalues")
_QUOTIENT = "kantorovich-quotient"


def certified_points(points: pd.DataFrame) -> pd.DataFrame:
    """Rows whose certificate says that a true critical point is near."""
    return points[points["certified"].astype(bool)]


def by_search(points: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows that are of a search, which say how it ended, and the others."""
    searched = points["status"].notna()
    return points[searched], points[~searched]


def distinct_points(points: pd.DataFrame, rtol: float = 1e-6) -> pd.DataFrame:
    """Keep one row for each set of points that are the same up to a symmetry of the network.

    Permutations of hidden units and changes of sign leave the loss and the spectrum as they are,
    so points count as the same where loss and eigenvalues agree. A continuous symmetry leaves the
    loss and the counts as they are, but not the eigenvalues: of points with the certificate
    ``kantorovich-quotient`` loss, index, degeneracy and positive have to agree. Different points
    may agree in all this by chance, hence the number is a lower bound, as long as the counts are
    right. Eigenvalues are read from the records; where there are none the counts have to agree.
    A certified and an uncertified point are never the same.

    Args:
        points: a table of ``load_records``.
        rtol: the losses may differ by rtol·(1 + |loss|), the eigenvalues by rtol·max |λ|.

    Returns:
        The first row of each set, in order of the loss, with a column ``found``: how many rows the
        set has.
    """
    if rtol < 0:
        raise OptionError(f"rtol is {rtol}: give a number of at least 0, such as 1e-6")
    ordered = points.sort_values("loss", kind="stable")
    losses = ordered["loss"].to_numpy(dtype=float)
    counts = ordered[["index", "degeneracy", "positive"]].to_numpy(dtype=float, na_value=np.nan)
    on_orbit = (ordered["certificate"] == _QUOTIENT).to_numpy()
    kinds = list(zip(ordered["certified"].astype(bool), on_orbit, strict=True))
    firsts: list[int] = []
    found: list[int] = []
    spectra: list[np.ndarray] = []
    for row, path in enumerate(ordered["path"]):
        spectrum = _eigenvalues(None if on_orbit[row] else path, counts[row])
        for k, first in enumerate(firsts):
            close = abs(losses[row] - losses[first]) <= rtol * (1.0 + abs(losses[first]))
            if close and kinds[row] == kinds[first] and _agree(spectrum, spectra[k], rtol):
                found[k] += 1
                break
        else:
            firsts.append(row)
            found.append(1)
            spectra.append(spectrum)
    return ordered.iloc[firsts].assign(found=found)


def spread_points(points: pd.DataFrame, count: int = 3) -> pd.DataFrame:
    """Choose points of low, middle, …, high loss, equally far apart by rank.

    Args:
        points: a table of ``load_records``; rows without a loss are left out.
        count: how many; fewer where there are fewer.
    """
    if count < 1:
        raise OptionError(f"count is {count}: give a number of points, at least 1")
    ordered = points[points["loss"].notna()].sort_values("loss", kind="stable")
    chosen = np.unique(np.round(np.linspace(0, len(ordered) - 1, min(count, len(ordered)))))
    return ordered.iloc[chosen.astype(int)]


def _eigenvalues(path: str | None, counts: np.ndarray) -> np.ndarray:
    """Those in the record; without one −1, 0 and 1 as often as the counts say."""
    if path is not None and Path(path).is_file():
        for values in load_record(path, arrays=_SPECTRA).arrays.values():
            return values
    return np.repeat([-1.0, 0.0, 1.0], np.nan_to_num(counts).astype(int))


def _agree(one: np.ndarray, other: np.ndarray, rtol: float) -> bool:
    if one.shape != other.shape:
        return False
    scale = max(float(np.abs(one).max(initial=0.0)), float(np.abs(other).max(initial=0.0)))
    return bool(np.abs(one - other).max(initial=0.0) <= rtol * scale)
