"""HDF5 files of data: only what is in the file itself is read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from hessscope.errors import DataError
from hessscope.loaders.integrity import check_room

_COPY = "copy the numbers into one file"


def check_self_contained(file: Any, path: Path) -> None:
    """Refuse what stands in other files: links, raw storage, sources of virtual data sets.

    Raises:
        DataError: naming what leads outside.
    """
    for name, link, owner in _links(file):
        if isinstance(link, h5py.ExternalLink):
            raise DataError(f"{path}: {name} is a link to the file {link.filename!r}; {_COPY}.")
        if isinstance(link, h5py.SoftLink):
            continue  # within the file: what it leads to is looked at under its own name
        value = owner[name.rpartition("/")[2]]
        if not isinstance(value, h5py.Dataset):
            continue
        if value.external:
            raise DataError(f"{path}: {name} is stored in the file {value.external[0][0]!r}; "
                            f"{_COPY}.")  # fmt: skip
        if value.is_virtual:
            raise DataError(f"{path}: {name} is a virtual data set, whose numbers stand elsewhere; "
                            f"{_COPY}.")  # fmt: skip


def _links(file: Any) -> Iterator[tuple[str, Any, Any]]:
    """Every link in the file with its path and its group, each group once."""
    todo, seen = [("", file)], set()
    while todo:
        prefix, group = todo.pop()
        address = h5py.h5o.get_info(group.id).addr
        if address in seen:
            continue
        seen.add(address)
        for name in group:
            link = group.get(name, getlink=True)
            yield f"{prefix}/{name}", link, group
            if isinstance(link, h5py.HardLink):
                value = group[name]
                if isinstance(value, h5py.Group):
                    todo.append((f"{prefix}/{name}", value))


def read_array(stored: Any) -> np.ndarray:
    """The numbers of a data set.

    Raises:
        DataError: they do not fit in memory.
    """
    if stored.shape is None:
        return np.empty(0)
    size = int(np.prod(stored.shape, dtype=object)) * stored.dtype.itemsize
    check_room(Path(stored.file.filename), size, DataError)
    return np.atleast_1d(stored[()])
