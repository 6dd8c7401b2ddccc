"""Outliers above the bulk of a spectrum, the gradient's place among them, and the bulk."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from hessscope.errors import OptionError
from hessscope.spectra.semicircle import SemicircleFit

GAP = 1.5
"""Least ratio of neighbours that is called a gap."""

_REGRESSED = 5
_ITERATIONS = 20


@dataclass(frozen=True)
class Outliers:
    """How many of the highest eigenvalues stand apart from the rest, by two published rules.

    Attributes:
        by_gap: k with the largest ratio λ_k/λ_{k+1}, the widest gap on a logarithmic scale (Ahn &
            Horenstein 2013); 0 where no ratio reaches 1.5. It finds the one gap that is widest.
        gap_ratio: that ratio.
        second_ratio: the largest of the others.
        by_edge: the last k for which λ_k − λ_{k+1} is more than the edge of a random matrix's
            spectrum explains (Onatski 2010). It finds the end of all outliers, with gaps between
            them or not, if the bulk ends as random matrices' spectra do.
        searched: how many k were tried, from the top.
    """

    by_gap: int
    gap_ratio: float
    second_ratio: float
    by_edge: int
    searched: int

    @property
    def agreed(self) -> int | None:
        """The number, where both rules give the same; None where there is no single answer."""
        return self.by_gap if self.by_gap == self.by_edge else None

    def as_dict(self) -> dict[str, Any]:
        """The form it has in JSON and in records."""
        return {"agreed": self.agreed, **asdict(self)}


def eigenvalues_needed(searched: int) -> int:
    """How many of the highest eigenvalues ``find_outliers`` looks at."""
    return searched + _REGRESSED


def find_outliers(highest: np.ndarray, searched: int) -> Outliers:
    """Count outliers above the bulk.

    Args:
        highest: eigenvalues, descending; positive ones count.
        searched: the largest number that is tried; fewer where there are not ``searched`` + 5
            positive ones.

    Raises:
        OptionError: there are fewer than six positive eigenvalues.
    """
    values = np.asarray(highest, dtype=float)
    values = values[values > 0]
    most = min(searched, len(values) - _REGRESSED)
    if most < 1:
        raise OptionError(
            f"{len(values)} positive eigenvalues are too few to tell outliers from a bulk: "
            f"at least {_REGRESSED + 1} are needed"
        )
    ratios = values[:most] / values[1 : most + 1]
    best = int(ratios.argmax())
    others = np.delete(ratios, best)
    return Outliers(
        by_gap=best + 1 if ratios[best] >= GAP else 0,
        gap_ratio=float(ratios[best]),
        second_ratio=float(others.max()) if len(others) else 1.0,
        by_edge=_by_edge(values, most),
        searched=most,
    )


def _by_edge(values: np.ndarray, most: int) -> int:
    """Onatski's estimator: below a square-root edge the j-th eigenvalue falls like j^(2/3).

    Twice the slope of the five eigenvalues that follow on j^(2/3) is the least difference that
    counts; slope and number are found in turn.
    """
    count, seen = most, set()
    differences = values[:most] - values[1 : most + 1]
    for _ in range(_ITERATIONS):
        if count in seen:
            break
        seen.add(count)
        j = np.arange(count, count + _REGRESSED)
        slope = np.polyfit(j ** (2.0 / 3.0), values[j], 1)[0]
        beyond = np.flatnonzero(differences >= 2.0 * abs(slope))
        count = int(beyond[-1]) + 1 if len(beyond) else 0
    return count


@dataclass(frozen=True)
class GradientAlignment:
    """How much of the gradient lies in the space of the k highest eigenvalues.

    Attributes:
        numbers: values of k.
        shares: ‖P_k g‖²/‖g‖² for each (Gur-Ari, Roberts & Dyer 2018).
        size: n; a direction at random has k/n.
    """

    numbers: tuple[int, ...]
    shares: tuple[float, ...]
    size: int

    def as_dict(self) -> dict[str, Any]:
        """The form it has in JSON and in records, by columns."""
        return {
            "k": list(self.numbers),
            "share": list(self.shares),
            "random_share": [k / self.size for k in self.numbers],
        }


def gradient_alignment(
    gradient: np.ndarray, vectors: np.ndarray, numbers: Iterable[int]
) -> GradientAlignment:
    """Measure the part of a gradient in the leading eigenvectors' spaces.

    Args:
        gradient: g, shape (n,), not zero.
        vectors: orthonormal columns, those of the highest eigenvalues first, shape (n, m).
        numbers: values of k; those above m are left out.
    """
    chosen = tuple(sorted({k for k in numbers if 1 <= k <= vectors.shape[1]}))
    g = np.asarray(gradient, dtype=float)
    parts = np.cumsum((vectors.T.astype(float) @ g) ** 2) / float(g @ g)
    shares = tuple(min(float(parts[k - 1]), 1.0) for k in chosen)
    return GradientAlignment(chosen, shares, len(g))


@dataclass(frozen=True)
class BulkSplit:
    """What stands apart in a spectrum, and what is left.

    Attributes:
        highest: the highest eigenvalues, descending: as many as were searched for outliers, and
            one more.
        outliers: how many of them stand apart.
        classes: number C of classes; None for a regression.
        alignment: where the gradient lies; None where it is zero to rounding.
        semicircle: the law's best fit to the bulk; None where too little is left.
        hvps: products used for eigenvectors.
    """

    highest: np.ndarray
    outliers: Outliers
    classes: int | None
    alignment: GradientAlignment | None
    semicircle: SemicircleFit | None
    hvps: int = 0

    def as_dict(self) -> dict[str, Any]:
        """``bulk`` of the JSON object."""
        return {
            "highest": self.highest.tolist(),
            "classes": self.classes,
            "outliers": self.outliers.as_dict(),
            "alignment": None if self.alignment is None else self.alignment.as_dict(),
            "hvps": self.hvps,
            "semicircle": None if self.semicircle is None else self.semicircle.as_dict(),
        }


def searched_for(classes: int | None, positive: int) -> int:
    """How many outliers to look for: up to 3 C, at least 30, at most a third of the positive ones.

    C are expected of class means and C(C − 1) of pairs of classes (Papyan 2020); the second level
    is no part of the first gap.

    Args:
        classes: C, if there are any.
        positive: number of positive eigenvalues.
    """
    return max(1, min(max(30, 3 * (classes or 0)), positive // 3))


def bulk_edge(highest: np.ndarray, outliers: Outliers) -> float:
    """Where the bulk ends: in the middle of the gap below the last outlier by either rule.

    The larger number is taken off, so that what is left has every chance to be regular.

    Args:
        highest: eigenvalues, descending, more than there are outliers.
        outliers: their number.
    """
    count = max(outliers.by_gap, outliers.by_edge)
    return float(highest[count - 1] + highest[count]) / 2 if count else math.inf
