"""Map-style torch data sets, fetched item by item into tensors."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch.utils.data import Dataset, IterableDataset, default_collate

from hessscope.errors import DataError, NonDeterministicError
from hessscope.objective.nesting import Nested, concatenate, named_leaves
from hessscope.progress import Progress, silent

_CHUNK = 1024
_SAMPLE = 32


def accepts_split(factory: object) -> bool:
    """Whether a function can be called with ``split=``."""
    try:
        parameters = inspect.signature(factory).parameters.values()  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return False
    return any(
        p.kind is p.VAR_KEYWORD or (p.name == "split" and p.kind is not p.POSITIONAL_ONLY)
        for p in parameters
    )


def is_item_dataset(value: object) -> bool:
    """Whether ``value`` gives examples one by one: a torch data set, or ``len()`` and ``[i]``."""
    if isinstance(value, Dataset):
        return True
    indexed = hasattr(value, "__len__") and hasattr(value, "__getitem__")
    return indexed and not isinstance(value, (str, bytes, type))


def fetch(dataset: Any, name: str, progress: Progress = silent) -> Nested:
    """Fetch every item once, and some of them twice.

    Args:
        dataset: has ``len()`` and ``[i]``; items are (input, target), or dicts.
        name: for messages.
        progress: told the items fetched.

    Returns:
        What an item is, with tensors of all N items in the places of single values.

    Raises:
        DataError: it has no length or no items; or items differ in shape, or are no numbers.
        NonDeterministicError: an item fetched twice is not the same, as with random
            augmentation: there would be no fixed loss to take the Hessian of.
    """
    if isinstance(dataset, IterableDataset) or not hasattr(dataset, "__len__"):
        raise DataError(
            f"{name} is a data set without a length; a map-style one is needed, with len() and "
            "[i] (or return the examples as tensors)."
        )
    count = len(dataset)
    if count == 0:
        raise DataError(f"{name}: there are no examples in it.")
    progress("data", 0, count)
    chunks = []
    for start in range(0, count, _CHUNK):
        stop = min(start + _CHUNK, count)
        chunks.append(_collate([_item(dataset, i, name) for i in range(start, stop)], name, start))
        progress("data", stop, count)
    try:
        whole = concatenate(chunks)
    except (RuntimeError, KeyError, IndexError) as error:
        raise DataError(f"{name}: items differ in shape ({_line(error)}).") from error
    step = max(1, count // _SAMPLE)
    for i in range(0, count, step):
        again = _collate([_item(dataset, i, name)], name, i)
        for (leaf, second), (_, first) in zip(
            named_leaves(again), named_leaves(whole), strict=True
        ):
            if not torch.equal(second[0], first[i]) and not _both_nan(second[0], first[i]):
                raise NonDeterministicError(
                    f"{name}: item {i}{leaf} gave two different values when fetched twice "
                    "(random augmentation?). The Hessian needs a fixed loss: use the transforms "
                    "of the evaluation, without random ones."
                )
    return whole


def _item(dataset: Any, index: int, name: str) -> object:
    try:
        item = dataset[index]
    except Exception as error:
        raise DataError(
            f"{name}: item {index} cannot be fetched ({type(error).__name__}: {_line(error)})."
        ) from error
    pair = isinstance(item, (tuple, list)) and len(item) == 2
    if not pair and not isinstance(item, Mapping):
        size = f" of {len(item)}" if isinstance(item, (tuple, list)) else ""
        raise DataError(
            f"{name}: item {index} is a {type(item).__name__}{size}; "
            "each item must be a pair (input, target)."
        )
    return item


def _collate(items: list[object], name: str, start: int) -> Nested:
    try:
        collated = _tuples(default_collate(items))
    except (TypeError, RuntimeError, KeyError) as error:
        kind = "PIL" in str(error) and " Add a transform that gives tensors, such as ToTensor()."
        raise DataError(
            f"{name}: items {start} to {start + len(items) - 1} cannot be put into one tensor "
            f"({_line(error)}).{kind or ''}"
        ) from error
    for leaf, part in named_leaves(collated):
        if not isinstance(part, torch.Tensor):
            raise DataError(
                f"{name}: item {start}{leaf} is no number or tensor, but {type(part).__name__}."
            )
    return collated


def _tuples(value: Any) -> Nested:
    """The lists and named tuples of ``default_collate`` as tuples, so that nesting has one form."""
    if isinstance(value, Mapping):
        return {str(key): _tuples(part) for key, part in value.items()}
    if isinstance(value, (tuple, list)) and not all(isinstance(part, str) for part in value):
        return tuple(_tuples(part) for part in value)
    return value


def _both_nan(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Whether two tensors differ only in that NaN is not equal to itself (reported elsewhere)."""
    return (
        a.shape == b.shape
        and a.is_floating_point()
        and torch.equal(torch.nan_to_num(a), torch.nan_to_num(b))
        and torch.equal(a.isnan(), b.isnan())
    )


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]
