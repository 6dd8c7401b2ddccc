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
        DataError: naming what leads outside; or the file is not as long as it says.
    """
    _check_length(path)
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


def _check_length(path: Path) -> None:
    """Compare the length in the superblock with that of the file."""
    size = path.stat().st_size
    with path.open("rb") as stream:
        start = 0  # the superblock is at 0, 512, 1024, 2048, …
        while start < size:
            stream.seek(start)
            head = stream.read(48)
            if head.startswith(b"\x89HDF\r\n\x1a\n"):
                break
            start = max(512, 2 * start)
        else:
            return
    at = {0: 40, 1: 44}.get(head[8], 28)
    if len(head) < 48 or head[13 if head[8] < 2 else 9] != 8:
        return  # addresses of other widths: of very old or very small machines
    end = int.from_bytes(head[at : at + 8].ljust(8, b"\0"), "little")
    if end not in (size, size - start):
        raise DataError(
            f"{path} is damaged or cut short: it is {size:,} bytes long, and says {end:,}."
        )


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
