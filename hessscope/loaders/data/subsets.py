"""Seeded subsets that keep the proportions of the classes."""

from __future__ import annotations

import numpy as np
import torch

from hessscope.errors import DataError
from hessscope.objective.nesting import Nested


def choose(targets: Nested | None, available: int, count: int, seed: int) -> torch.Tensor:
    """Return ``count`` of ``available`` indices, ascending; see :func:`is_stratified`.

    With class labels, every class gets its share (rounded by largest remainders, so that the
    shares add up to ``count``); otherwise the choice is uniform. The same seed gives the same.

    Raises:
        DataError: there are fewer than ``count``.
    """
    if count > available:
        raise DataError(
            f"a subset of {count:,} was asked for, but there are only {available:,} examples."
        )
    rng = np.random.default_rng(seed)
    if not is_stratified(targets):
        return torch.from_numpy(np.sort(rng.permutation(available)[:count]))
    assert isinstance(targets, torch.Tensor)
    labels = targets.numpy()
    classes, sizes = np.unique(labels, return_counts=True)
    shares = sizes * (count / available)
    quota = np.floor(shares + 1e-9).astype(np.int64)
    order = np.argsort(-(shares - quota), kind="stable")
    quota[order[: count - int(quota.sum())]] += 1
    chosen = [
        rng.permutation(np.flatnonzero(labels == label))[:share]
        for label, share in zip(classes, quota, strict=True)
    ]
    return torch.from_numpy(np.sort(np.concatenate(chosen)))


def is_stratified(targets: Nested | None) -> bool:
    """Whether the targets are class labels: integers, one per example."""
    return (
        isinstance(targets, torch.Tensor) and targets.ndim == 1 and not targets.is_floating_point()
    )
