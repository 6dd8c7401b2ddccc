"""How many eigenvalues a subspace has, from the mass that Gaussian vectors have in it.

Let E project on N of n eigenvectors and v ~ N(0, I). Then vᵀEv and vᵀ(I − E)v are independent, χ²
with N and n − N degrees of freedom, whatever the eigenvectors are. Over p such vectors the share
R = Σ vᵀEv / Σ vᵀv therefore follows Beta(pN/2, p(n − N)/2) exactly. Its only unknown is N, and
inverting its quantiles gives an interval with the stated confidence for any p, also for one.
"""

from __future__ import annotations

from bisect import bisect_left

from scipy.special import betainc


def count_interval(
    lower: float, upper: float, size: int, probes: int, error: float
) -> tuple[int, int]:
    """The counts N that a share between ``lower`` and ``upper`` leaves possible.

    Where R is known (``lower`` = ``upper``) the interval contains the truth with probability of at
    least 1 − ``error``; bounds of R only widen it. Cost: 4 log₂ n values of the distribution.

    Args:
        lower: least share R that the evidence allows.
        upper: most.
        size: n, of the space in which the vectors are Gaussian.
        probes: p.
        error: probability with which the interval may miss N, half of it on each side.

    Returns:
        The smallest and the largest N.
    """

    def at_most(share: float, count: int) -> float:
        """P(R ≤ share); falls with the count."""
        if count == 0 or share >= 1.0:
            return 1.0
        if count == size or share <= 0.0:
            return 0.0
        return float(betainc(probes * count / 2, probes * (size - count) / 2, share))

    everything = range(size + 1)
    # The first count that has become too improbable to leave so small, or so large, a share.
    too_many = bisect_left(everything, True, key=lambda count: at_most(upper, count) < error / 2)
    # 1 for count = 0 where there is no mass at all, which leaves that count possible.
    enough = bisect_left(
        everything,
        True,
        key=lambda count: lower <= 0.0 or (count > 0 and 1.0 - at_most(lower, count) >= error / 2),
    )
    least = min(enough, size)
    return least, max(too_many - 1, least)
