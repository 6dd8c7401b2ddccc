"""A spectrum taken apart: outliers, the gradient's place among them, and the bulk."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from hessscope.spectra.outliers import GradientAlignment, Outliers
from hessscope.spectra.semicircle import SemicircleFit


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
