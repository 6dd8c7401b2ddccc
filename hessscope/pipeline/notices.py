"""Notes and warnings on their way to whoever listens, and values on their way to JSON."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from hessscope.errors import HessscopeWarning
from hessscope.progress import Note, ignore

#: Called with each note.
Tell = Note
untold = ignore


def tell_all(tell: Tell, notes: tuple[str, ...]) -> None:
    """Tell one note after the other."""
    for note in notes:
        tell(note)


@contextmanager
def collected() -> Iterator[list[str]]:
    """Note the texts of hessscope's warnings, and give them on as they are."""
    texts: list[str] = []
    caught: list[warnings.WarningMessage] = []
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield texts
    finally:  # an error may be explained by the warnings before it
        texts.extend(str(w.message) for w in caught if issubclass(w.category, HessscopeWarning))
        for w in caught:
            warnings.warn_explicit(w.message, w.category, w.filename, w.lineno)


# What torch's allocators, the system and C++ say where they raise a plain RuntimeError or OSError.
_OUT_OF_MEMORY = ("not enough memory", "allocate memory", "bad_alloc", "out of memory")


def out_of_memory(error: Exception) -> bool:
    """Whether the memory gave out, the main one or a device's."""
    kinds = (MemoryError, torch.OutOfMemoryError)
    said = str(error).lower()
    return isinstance(error, kinds) or any(words in said for words in _OUT_OF_MEMORY)


def jsonable(value: Any) -> Any:
    """A value as JSON and HDF5 take it: plain ones as they are, others by their text."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return finite(value)
    if isinstance(value, torch.nn.Module):
        return f"{type(value).__name__} in memory"
    if isinstance(value, tuple) and all(isinstance(item, str) for item in value):
        return list(value) or None
    return str(value)


def finite(value: float) -> float | None:
    """The value, or None for NaN and infinity, which JSON has no words for."""
    return value if math.isfinite(value) else None
