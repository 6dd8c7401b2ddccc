"""Files of arrays: .npz, .pt, .safetensors and .h5; nothing in them can run code."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from safetensors.torch import load_file

from hessscope.errors import (
    CheckpointError,
    DataError,
    HessscopeError,
    UntrustedCheckpointError,
)
from hessscope.loaders import integrity, pickles
from hessscope.loaders.data.arrays import select
from hessscope.loaders.data.raw_data import RawData
from hessscope.objective.nesting import named_leaves


def read_file(path: Path, split: str) -> RawData:
    """Read inputs and targets of a file.

    Raises:
        DataError: the file is missing, damaged, of unknown kind, holds pickled objects, or it
            is not clear which arrays are meant; or there is no such split.
    """
    if not path.exists() or path.is_dir():
        raise DataError(f"there is no data file {path}.")
    integrity.check_regular(path, DataError)
    integrity.check_room(path, path.stat().st_size, DataError)
    if path.stat().st_size == 0:
        raise DataError(f"the data file {path} is empty.")
    opener = _OPENERS.get(path.suffix.lower())
    if opener is None:
        raise DataError(f"{path}: data files are {', '.join(SUFFIXES)}; or use a file.py:factory.")
    with ExitStack() as stack:
        try:
            raw = select(opener(path, stack), path.name, split)
            parts = [part for part in (raw.inputs, raw.targets) if part is not None]
            leaves = [leaf for part in parts for _, leaf in named_leaves(part)]
            integrity.check_expanded(path, leaves, DataError)
            return raw
        except HessscopeError:
            raise
        except MemoryError as error:
            raise DataError(f"{path} needs more memory to be read than there is.") from error
        except Exception as error:  # a damaged or crafted file may raise anything
            reason = " ".join(str(error).split())[:160]
            raise DataError(
                f"{path} is not a {path.suffix} file, or is damaged or cut short ({reason})."
            ) from error


def _open_npz(path: Path, stack: ExitStack) -> Mapping[str, Any]:
    integrity.check_zip(path, DataError)
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            if entry.filename.endswith(".npy"):
                _check_header(path, archive, entry)
    found: Mapping[str, Any] = stack.enter_context(np.load(path, allow_pickle=False))
    return found


def _check_header(path: Path, archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> None:
    """Compare the header of an array with the size of its entry, before memory is taken."""
    with archive.open(entry) as stream:
        first = np.lib.format.read_magic(stream) == (1, 0)
        form = np.lib.format
        read = form.read_array_header_1_0 if first else form.read_array_header_2_0
        shape, _, dtype = read(stream)
        size, there = dtype.itemsize * math.prod(shape), entry.file_size - stream.tell()
    if dtype.hasobject:
        raise DataError(
            f"{path} holds an array of Python objects, which could run code when read; "
            "save it as arrays of numbers."
        )
    if min(shape, default=0) < 0 or size != there:
        raise DataError(
            f"{path} is damaged: its array '{entry.filename}' of shape {shape} needs {size:,} "
            f"bytes, and {there:,} are there."
        )


def _open_h5(path: Path, stack: ExitStack) -> Mapping[str, Any]:
    """Open it and refuse links, raw storage and virtual data sets, which lead to other files."""
    file = stack.enter_context(h5py.File(path, "r"))

    def elsewhere(name: str, link: Any) -> str | None:
        value = file.get(name) if isinstance(link, h5py.HardLink) else None
        stored = isinstance(value, h5py.Dataset) and (value.external or value.is_virtual)
        return name if stored or isinstance(link, h5py.ExternalLink) else None

    _check_length(path, file.userblock_size)
    if name := file.visititems_links(elsewhere):
        raise DataError(
            f"{path}: /{name} stands for numbers in another file; copy the numbers into one file."
        )
    mapping: Mapping[str, Any] = file
    return mapping


def _check_length(path: Path, start: int) -> None:
    """Compare the length in the superblock of an HDF5 file with that of the file."""
    with path.open("rb") as stream:
        stream.seek(start)
        head = stream.read(48)
    version, size = head[8], path.stat().st_size
    if head[13 if version < 2 else 9] != 8:
        return  # addresses of other widths: of very old or very small machines
    at = {0: 40, 1: 44}.get(version, 28)
    end = int.from_bytes(head[at : at + 8], "little")
    if end not in (size, size - start):
        raise DataError(
            f"{path} is damaged or cut short: it has {size:,} bytes, and states {end:,}."
        )


def _open_safetensors(path: Path, stack: ExitStack) -> Mapping[str, Any]:
    return load_file(path)


def _open_torch(path: Path, stack: ExitStack) -> Any:
    if zipfile.is_zipfile(path):
        integrity.check_zip(path, DataError)
    try:
        with path.open("rb") as stream:
            return pickles.load_safely(stream)
    except UntrustedCheckpointError as error:
        raise DataError(
            f"{path} holds pickled Python objects, which could run code when read; it is not "
            "opened. Save tensors instead, torch.save({'inputs': x, 'targets': y}, …), arrays with "
            "numpy.savez, or give the data as a file.py:factory that opens it."
        ) from error
    except CheckpointError as error:
        raise DataError(f"{path}: {error}") from error


_OPENERS = {
    ".npz": _open_npz,
    ".pt": _open_torch,
    ".pth": _open_torch,
    ".safetensors": _open_safetensors,
    ".h5": _open_h5,
    ".hdf5": _open_h5,
}
SUFFIXES = tuple(_OPENERS)
