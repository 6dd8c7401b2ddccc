"""Warnings that are recorded, and errors that mean that the memory gave out."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from hessscope.errors import HessscopeWarning


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
