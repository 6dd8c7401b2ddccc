"""DataLoaders and lists of batches, read once in their order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch.utils.data import BatchSampler, DataLoader, IterableDataset, SequentialSampler

from hessscope.errors import DataError, NonDeterministicError
from hessscope.objective.nesting import Nested, as_tensors, concatenate, named_leaves
from hessscope.progress import Progress, silent


def is_batch_list(value: object) -> bool:
    """Whether it is a list of batches: of pairs of arrays, or of dicts with the same names.

    A list of two arrays is the pair (inputs, targets).
    """
    if not isinstance(value, list) or not value:
        return False
    if all(isinstance(part, Mapping) for part in value):
        return len({tuple(sorted(map(str, part))) for part in value}) == 1
    return all(_is_pair(part) for part in value)


def read_batches(source: Any, name: str, progress: Progress = silent) -> Nested:
    """Join all batches of a DataLoader or of a list along the examples.

    Args:
        source: a DataLoader that draws nothing at random and leaves nothing out, or a list.
        name: for messages.
        progress: told the batches read.

    Raises:
        DataError: the loader has no fixed order or leaves examples out, or batches do not fit
            together.
        NonDeterministicError: the first batch read twice is not the same.
    """
    if isinstance(source, DataLoader):
        _check_order(source, name)
    elif len(source) == 2 and not isinstance(source[0], Mapping):
        raise DataError(
            f"{name}: a list of two pairs may be two batches or (inputs, targets), each with two "
            "parts. Join the batches, as in (torch.cat([x1, x2]), torch.cat([y1, y2])), or give "
            "a tuple of inputs and targets"
        )
    progress("data", 0, len(source))
    parts: list[Nested] = []
    for number, batch in enumerate(source, 1):
        parts.append(_tensors(batch, name))
        progress("data", number, len(source))
    if not parts:
        raise DataError(f"{name}: there are no examples in it.")
    if isinstance(source, DataLoader):
        _check_fixed(parts[0], _tensors(next(iter(source)), name), name)
    try:
        return concatenate(parts)
    except (RuntimeError, KeyError, IndexError, TypeError) as error:
        raise DataError(
            f"{name}: batches do not fit together ({error}). Pad all examples to one shape, not "
            "those of each batch to their own"
        ) from error


def _check_order(loader: DataLoader[Any], name: str) -> None:
    """Refuse what is drawn at random, and what is left out."""
    if isinstance(loader.dataset, IterableDataset) or not hasattr(loader.dataset, "__len__"):
        raise DataError(
            f"{name}: the data set of this DataLoader has no length; a map-style one is needed."
        )
    ordered = isinstance(loader.sampler, SequentialSampler)
    if type(loader.batch_sampler) is not BatchSampler or not ordered:
        sampler = loader.batch_sampler if ordered else loader.sampler
        raise DataError(
            f"{name} is a DataLoader whose batches are not fixed ({type(sampler).__name__}): make "
            "it with a batch_size, with shuffle=False and without a sampler of its own, or give "
            "loader.dataset."
        )
    left_out = len(loader.dataset) % (loader.batch_size or 1) if loader.drop_last else 0
    if left_out:
        raise DataError(
            f"{name} is a DataLoader with drop_last=True, which leaves out {left_out:,} of "
            f"{len(loader.dataset):,} examples: make it with drop_last=False."
        )


def _check_fixed(first: Nested, again: Nested, name: str) -> None:
    pairs = zip(named_leaves(first), named_leaves(again), strict=True)
    if not all(torch.equal(a.nan_to_num(), b.nan_to_num()) for (_, a), (_, b) in pairs):
        raise NonDeterministicError(
            f"{name}: the first batch gave different values when it was read twice (random "
            "augmentation?). The Hessian needs a fixed loss: use the transforms of the evaluation."
        )


def _tensors(batch: Any, name: str) -> Nested:
    pair = isinstance(batch, (tuple, list)) and len(batch) == 2
    if not pair and not isinstance(batch, Mapping):
        size = f" of {len(batch)}" if isinstance(batch, (tuple, list)) else ""
        raise DataError(
            f"{name}: a batch is a {type(batch).__name__}{size}; it must be a pair (inputs, "
            "targets) or a dict."
        )
    return as_tensors(tuple(batch) if pair else batch, "batch")


def _is_pair(value: object) -> bool:
    return isinstance(value, (tuple, list)) and len(value) == 2 and all(map(_has_examples, value))


def _has_examples(part: object) -> bool:
    if isinstance(part, Mapping):
        return all(map(_has_examples, part.values()))
    if isinstance(part, (tuple, list)):
        return all(map(_has_examples, part))
    return isinstance(part, (torch.Tensor, np.ndarray)) and part.ndim > 0
