"""Random start vectors from explicit, spawned streams."""

from __future__ import annotations

import numpy as np
import torch


def rademacher(
    n: int, probes: int, seed: int, *, dtype: torch.dtype, device: torch.device, first: int = 0
) -> torch.Tensor:
    """Vectors of independent signs, scaled to norm 1, as columns: shape (n, probes).

    Every probe has a stream of its own, spawned from the seed by its number, so that probe 3 is
    the same vector whether it is drawn with others or alone. E[v vᵀ] = I/n, so n·vᵀf(A)v estimates
    the trace of f(A) without bias (Hutchinson 1990).

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
        columns[:, j] = stream.integers(0, 2, size=n) * 2.0 - 1.0
    return torch.from_numpy(columns / np.sqrt(n)).to(dtype=dtype, device=device)


def gaussian(
    n: int, probes: int, seed: int, *, dtype: torch.dtype, device: torch.device
) -> torch.Tensor:
    """Vectors of independent standard normal numbers as columns: shape (n, probes).

    For a fixed matrix B, ‖B‖₂ ≤ 10 √(2/π) max_j ‖B ω_j‖ over r such vectors with probability at
    least 1 − 10⁻ʳ (Halko, Martinsson & Tropp 2011, lemma 4.1); and a row of B that is not zero has
    a product other than zero with every one of them, with probability 1.

    Args:
        n: length of a vector.
        probes: how many.
        seed: root of the streams.
        dtype: of the result.
        device: of the result.
    """
    columns = np.empty((n, probes), dtype=np.float64)
    for j in range(probes):
        stream = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(j,)))
        columns[:, j] = stream.standard_normal(n)
    return torch.from_numpy(columns).to(dtype=dtype, device=device)
