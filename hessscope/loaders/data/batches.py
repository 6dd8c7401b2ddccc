"""DataLoaders, torch data sets and lists of batches, read once in their order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    SequentialSampler,
    default_collate,
)

from hessscope.errors import DataError, HessscopeError, NonDeterministicError
from hessscope.limits import free_memory
from hessscope.loaders.data import named_inputs
from hessscope.objective.batches import leaves
from hessscope.objective.nesting import Nested, as_tensors, concatenate, map_leaves
from hessscope.objective.rows import Rows, Which
from hessscope.progress import Progress, silent

#: Items of a data set that are fetched at once.
ITEMS = 64


def is_item_dataset(value: object) -> bool:
    """Whether it gives examples one by one: a torch data set, or ``len()`` and ``[i]``."""
    if isinstance(value, (str, bytes, type, tuple, list, Mapping, torch.Tensor, np.ndarray)):
        return False
    indexed = hasattr(value, "__len__") and hasattr(value, "__getitem__")
    return isinstance(value, Dataset) or indexed


def is_batch_list(value: object) -> bool:
    """Whether it is a list of batches: of pairs of arrays, or of dicts with the same names.

    A list of examples as dicts of named inputs is one, too.

    A list of two arrays is the pair (inputs, targets).
    """
    if not isinstance(value, list) or not value:
        return False
    if named_inputs.are_named(value):
        return True
    if all(isinstance(part, Mapping) for part in value):
        return len({tuple(sorted(map(str, part))) for part in value}) == 1
    return all(_is_pair(part) and all(map(_has_examples, part)) for part in value)


def stored(value: Any, name: str, dtype: Any = None) -> Any:
    """Memory-mapped arrays, in tuples and dicts too, as ``Rows``; anything else as it is.

    Args:
        value: what a user gave.
        name: for messages.
        dtype: to read the numbers as; default their own.
    """
    if isinstance(value, Mapping):
        return {key: stored(part, name, dtype) for key, part in value.items()}
    if isinstance(value, tuple):
        return tuple(stored(part, name, dtype) for part in value)
    if not isinstance(value, np.ndarray) or not value.ndim or not len(value):
        return value
    if not isinstance(value, np.memmap):
        return value if dtype is None else value.astype(dtype)

    def read(which: Which) -> torch.Tensor:
        part = value[which if isinstance(which, slice) else which.numpy()]
        found: torch.Tensor = as_tensors(np.asarray(part, dtype), name)
        return found

    return Rows(read, len(value), name)


def fetched(loader: DataLoader[Any], name: str, stream: bool, progress: Progress) -> Nested:
    """All batches of a DataLoader as ``read_batches`` gives them; ``Rows`` for what is too large.

    Args:
        loader: draws nothing at random and leaves nothing out.
        name: for messages.
        stream: give ``Rows`` in any case.
        progress: called with the batches read.

    Raises:
        DataError, NonDeterministicError: as ``read_batches``.
    """
    _check_order(loader, name)
    count = len(loader.dataset)  # type: ignore[arg-type]
    last: list[Any] = [None, None]

    def fetch(which: Which) -> list[torch.Tensor]:
        """The leaves of some examples; the last ones are kept for the next leaf."""
        listed = range(*which.indices(count)) if isinstance(which, slice) else which.tolist()
        if last[0] != (numbers := tuple(listed)):
            last[:] = numbers, leaves(_of_items(loader, numbers, name))
        found: list[torch.Tensor] = last[1]
        return found

    if count == 0:
        return read_batches(loader, name, progress)
    first = _of_items(loader, (0,), name)
    order = iter(range(len(leaves(first))))

    def rows(_: torch.Tensor) -> Rows:
        number = next(order)
        return Rows(lambda which: fetch(which)[number], count, name)

    whole = map_leaves(rows, first)
    if not stream and fits(whole):
        return read_batches(loader, name, progress)
    for number in {0, count // 2, count - 1}:
        one, again = (leaves(_of_items(loader, (number,), name)) for _ in range(2))
        _check_same(one, again, f"{name}: example {number}")
    return whole


def fits(value: Nested) -> bool:
    """Whether all that is not in memory yet takes at most a quarter of what is free."""
    unread = [leaf for leaf in leaves(value) if isinstance(leaf, Rows)]
    return sum(leaf.numel() * leaf.element_size() for leaf in unread) <= free_memory() / 4


def _of_items(loader: DataLoader[Any], numbers: Sequence[int], name: str) -> Nested:
    """Some examples as one batch."""
    several = getattr(loader.dataset, "__getitems__", None)
    try:
        items = several(list(numbers)) if several else [loader.dataset[i] for i in numbers]
        batch = _as_batch(loader.collate_fn(items), name)
    except HessscopeError:
        raise
    except Exception as error:  # whatever the user's data set or collate function raises
        raise _unfetched(error, numbers[0], name) from error
    if not named_inputs.are_named(batch):
        return batch
    parts: list[Nested] = [named_inputs.tensors(row, name) for row in batch]
    return concatenate(parts, f"{name}: examples, which are streamed and not padded,")


def read_batches(source: Any, name: str, progress: Progress = silent) -> Nested:
    """Join all batches of a DataLoader or of a list along the examples.

    Batches of named inputs are given back as a list, to be padded to one length.

    Args:
        source: a DataLoader that draws nothing at random and leaves nothing out, or a list.
        name: for messages.
        progress: called with the batches read.

    Raises:
        DataError: the loader has no fixed order or leaves examples out, an example cannot be
            fetched, or batches do not fit together.
        NonDeterministicError: a batch read twice is not the same, as with random augmentation:
            there would be no fixed loss to take the Hessian of.
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
    batches = iter(source)
    while (batch := _next(batches, source, len(parts), name)) is not None:
        parts.append(batch)
        progress("data", len(parts), len(source))
    if not parts:
        raise DataError(f"{name}: there are no examples in it.")
    if isinstance(source, DataLoader):
        _check_fixed(source, parts, name)
    if named_inputs.are_named(parts[0]):
        return [row for part in parts for row in part]
    return concatenate(parts, f"{name}: batches")


def _next(batches: Any, source: Any, number: int, name: str) -> Nested | None:
    """The next batch as tensors, or as a list of named inputs; None after the last."""
    try:
        batch = next(batches, None)
    except Exception as error:  # whatever the user's data set or collate function raises
        raise _unfetched(error, number * (source.batch_size or 1), name) from error
    if batch is None:
        return None
    return _as_batch(batch, name)


def _unfetched(error: Exception, first: int, name: str) -> DataError:
    hint = " Add a transform that gives tensors, such as ToTensor()." * ("PIL" in str(error))
    return DataError(
        f"{name}: examples from {first} on cannot be fetched into one tensor "
        f"({type(error).__name__}: {' '.join(str(error).split())[:200]}).{hint}"
    )


def _as_batch(batch: Any, name: str) -> Nested:
    if named_inputs.is_named(batch):
        batch = [batch]
    if named_inputs.are_named(batch):
        return batch
    if not _is_pair(batch) and not isinstance(batch, Mapping):
        size = f" of {len(batch)}" if isinstance(batch, (tuple, list)) else ""
        raise DataError(
            f"{name}: a batch is a {type(batch).__name__}{size}; it must be a pair (inputs, "
            "targets) or a dict."
        )
    return as_tensors(batch if isinstance(batch, Mapping) else tuple(batch), f"{name}: batch")


def _check_fixed(loader: DataLoader[Any], parts: list[Nested], name: str) -> None:
    """Fetch the first, the middle and the last batch again, and refuse what differs."""
    examples = list(loader.batch_sampler or ())
    for k in sorted({0, len(parts) // 2, len(parts) - 1}):
        again = _as_batch(loader.collate_fn([loader.dataset[i] for i in examples[k]]), name)
        one, other = _numbers(parts[k], name), _numbers(again, name)
        _check_same(one, other, f"{name}: batch {k + 1} of {len(parts)}")


def _check_same(one: list[torch.Tensor], again: list[torch.Tensor], what: str) -> None:
    pairs = zip(one, again, strict=True)
    if not all(torch.equal(a.nan_to_num(), b.nan_to_num()) for a, b in pairs):
        raise NonDeterministicError(
            f"{what} gave different values when it was read twice (random augmentation or "
            "masking?). The Hessian needs a fixed loss: use the transforms of the evaluation, "
            "without random ones."
        )


def _numbers(batch: Nested, name: str) -> list[torch.Tensor]:
    """All tensors of a batch, named inputs among them."""
    named = named_inputs.are_named(batch)
    return leaves([named_inputs.tensors(row, name) for row in batch] if named else batch)


def collate(items: list[Any]) -> Any:
    """Put examples together: as torch does, but named inputs stay a list, for padding."""
    return items if named_inputs.are_named(items) else default_collate(items)


def _check_order(loader: DataLoader[Any], name: str) -> None:
    """Refuse what is drawn at random, and what is left out."""
    if isinstance(loader.dataset, IterableDataset) or not hasattr(loader.dataset, "__len__"):
        raise DataError(
            f"{name} is a data set without a length; a map-style one is needed, with len() and "
            "[i] (or give the examples as tensors)."
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


def _is_pair(value: object) -> bool:
    return isinstance(value, (tuple, list)) and len(value) == 2


def _has_examples(part: object) -> bool:
    if isinstance(part, Mapping):
        return all(map(_has_examples, part.values()))
    if isinstance(part, (tuple, list)):
        return all(map(_has_examples, part))
    return isinstance(part, (torch.Tensor, np.ndarray)) and part.ndim > 0
