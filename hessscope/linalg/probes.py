"""Random start vectors from explicit, spawned streams."""

from __future__ import annotations

import numpy as np
import torch


def gaussian(
    n: int, probes: int, seed: int, *, dtype: torch.dtype, device: torch.device, first: int = 0
) -> torch.Tensor:
    """Vectors of independent standard normal numbers, as columns: shape (n, probes).

    Every probe has a stream of its own, spawned from the seed by its number, so that probe 3 is
    the same vector whether it is drawn with others or alone. Their distribution does not change
    under rotations, so that vᵀEv for the projector E on m of n eigenvectors has a known one: χ²
    with m degrees of freedom, whatever the eigenvectors are.

    Args:
        n: length of a vector.
        probes: how many.
        seed: root of the streams.
        dtype: of the result.
        device: of the result.
        first: number of the first probe.
    """
    columns = np.empty((n, probes), dtype=np.float64)
    for j in range(probes):
        stream = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(first + j,)))
        columns[:, j] = stream.standard_normal(n)
    return torch.from_numpy(columns).to(dtype=dtype, device=device)
