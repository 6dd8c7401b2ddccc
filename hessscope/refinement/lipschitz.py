"""Lipschitz constant of the Hessian near a point, estimated."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch

from hessscope.linalg.lanczos import gaussian
from hessscope.operators import HessianOperator, Plan

ITERATIONS = 12
RANDOM_STARTS = 3
_SETTLED = 1e-3


def lipschitz_estimate(
    hessian: HessianOperator,
    directions: Iterable[torch.Tensor] = (),
    *,
    distance: float | None = None,
    random: int = RANDOM_STARTS,
    seed: int = 0,
) -> float:
    """The largest change of H with θ that was found: max ‖D_v H v‖ over unit vectors v.

    The third derivative is symmetric, so the smallest local Lipschitz constant of H,
    max ‖D_v H‖₂ over unit v, is attained as |∇³L(v, v, v)| (Banach 1938). It is looked for by
    shifted higher-order power iterations, v ← D_v H v + ‖D_v H v‖ v, normalised (Kolda & Mayo
    2011), with central differences over a distance. Every value found is a lower bound up to
    rounding, so the result is an estimate from below: take a safety factor. What changes within
    much less than the distance is not seen.

    Cost: 2 products for each of at most 12 iterations, from each direction and random vector.

    Args:
        hessian: H at θ.
        directions: to begin from beside the random ones; those that are zero are left out.
        distance: of the differences, at least 16 roundings of θ; default eps^⅓(1 + ‖θ‖), where
            the errors of rounding and of the difference are alike.
        random: number of random vectors.
        seed: of the random ones.

    Returns:
        K; infinite where H is not finite at such a distance.
    """
    theta = hessian.at
    eps = torch.finfo(theta.dtype).eps
    scale = 1.0 + float(torch.linalg.vector_norm(theta))
    t = eps ** (1 / 3) * scale if distance is None else max(distance, 16 * eps * scale)
    drawn = gaussian(len(theta), random, seed, dtype=theta.dtype, device=theta.device)
    # Each operator is used for one product, so nothing is prepared for more.
    once = Plan("graph", 1, hessian.plan.batch_size, held=False)
    largest = 0.0
    for start in (*directions, *drawn.T):
        length = float(torch.linalg.vector_norm(start))
        if not 0.0 < length < math.inf:
            continue
        v = start / length
        before = 0.0
        for _ in range(ITERATIONS):
            ahead, behind = (hessian.moved(theta + s * v, once) for s in (t, -t))
            change = (ahead.matvec(v) - behind.matvec(v)) / (2 * t)
            hessian.hvps += ahead.hvps + behind.hvps
            size = float(torch.linalg.vector_norm(change))
            if not math.isfinite(size):
                return math.inf
            largest = max(largest, size)
            if abs(size - before) <= _SETTLED * size or size < 1e-100:
                break
            before = size
            # v and −v serve alike: the shift must not cancel what it is added to.
            v = change / size + math.copysign(1.0, float(v @ change)) * v
            v = v / torch.linalg.vector_norm(v)
    return largest
