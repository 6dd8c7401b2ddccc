"""The share of a matrix outside its diagonal blocks, ‖A − blockdiag(A)‖²_F / ‖A‖²_F.

Where all eigenvalues of A and of the blocks are known it follows from their squares, which sum up
to the squared norms. Else from products: for a vector z of random signs on the entries of block b
and zeros elsewhere, the squared length of Az outside of b has the expectation Σ A²ᵢⱼ over j in b
and i outside, and within b that of ‖A_bb‖²_F (Hutchinson 1989, for AᵀA).

The interval is Student's, with m − 1 degrees of freedom for m probes a block, for the logarithm of
the ratio of the two sums; its variance is the jackknife's, in which each probe of each block is
left out. It is no rigorous one: over 12 partitions of three small transformers it held the true
share in 91 to 99 % of 400 draws with 4, 10 and 30 probes, least where one eigenvalue dominates.
One probe alone says nothing, and has the interval from 0 to 1.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.special
import scipy.stats

from hessscope.spectra.estimates import Estimate
from hessscope.spectra.result import Result

CONFIDENCE = 0.95


@dataclass(frozen=True)
class OffBlockShare:
    """The share of ‖A‖²_F outside of diagonal blocks.

    Attributes:
        share: with its interval.
        probes: random vectors for each block; 0 where it follows from eigenvalues.
        hvps: products used.
    """

    share: Estimate
    probes: int
    hvps: int

    @classmethod
    def from_masses(cls, inside: np.ndarray, outside: np.ndarray) -> OffBlockShare:
        """Estimate the share from what products with random signs have.

        Args:
            inside: squared lengths within the block, shape (blocks, probes).
            outside: squared lengths outside.
        """
        blocks, probes = inside.shape
        means = inside.mean(1).sum(), outside.mean(1).sum()
        total = float(sum(means))
        share = float(means[1]) / total if total else 0.0
        lower, upper = 0.0, 1.0
        # Signs may cancel, though with m probes by a chance of 2⁻ᵐ for a row at most.
        if not 0.0 < share < 1.0 and probes >= math.log2(1 / (1 - CONFIDENCE)) and total:
            lower = upper = share
        elif 0.0 < share < 1.0 and probes > 1:
            # Of the two sums with each probe of each block left out.
            left = [
                total + (x.mean(1, keepdims=True) - x) / (probes - 1)
                for total, x in zip(means, (inside, outside), strict=True)
            ]
            ratios = np.log(left[1] / left[0])
            variance = float((ratios.var(1) * (probes - 1)).sum())
            quantile = float(scipy.stats.t.ppf(0.5 + CONFIDENCE / 2, probes - 1))
            half, middle = quantile * math.sqrt(variance), scipy.special.logit(share)
            lower, upper = (float(scipy.special.expit(middle + x)) for x in (-half, half))
        return cls(Estimate(share, lower, upper, CONFIDENCE), probes, blocks * probes)

    @classmethod
    def from_spectra(cls, whole: Result, blocks: Iterable[Result]) -> OffBlockShare:
        """Take the share from exact spectra; certain to what their noise floors leave open."""
        total, error = _squared(whole)
        parts = [_squared(block) for block in blocks]
        inside, wrong = (sum(column) for column in zip(*parts, strict=True))
        if total <= error:
            return cls(Estimate(0.0, 0.0, 1.0, 1.0), 0, 0)
        lower = 1 - (inside + wrong) / (total - error)
        upper = 1 - (inside - wrong) / (total + error)
        share = Estimate(1 - inside / total, max(lower, 0.0), min(upper, 1.0), 1.0)
        return cls(share, 0, 0)

    def as_dict(self) -> dict[str, Any]:
        """The JSON object."""
        return {**self.share.as_dict("share"), "probes": self.probes, "hvps": self.hvps}


def _squared(result: Result) -> tuple[float, float]:
    """‖A‖²_F by its eigenvalues, and how far off it may be."""
    assert result.eigenvalues is not None
    values, delta = np.abs(result.eigenvalues), result.noise_floor.total
    return float(values @ values), float(2 * delta * values.sum() + len(values) * delta**2)
