"""Arrays in memory and in files: which are the inputs, the targets and the splits."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
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
from hessscope.loaders.data import named_inputs
from hessscope.loaders.integrity import check_room
from hessscope.objective.batches import leaves
from hessscope.objective.data import Dataset, check_lengths
from hessscope.objective.nesting import LEAVES, Nested, as_tensors, concatenate


@dataclass
class RawData:
    """Examples of one split as they are stored.

    Raises:
        DataError: no numbers, no examples, or different numbers of inputs and targets.

    Attributes:
        inputs: (nested) tensors with N examples along the first dimension.
        targets: likewise, or None where the source has none.
        name: what output calls the set ("mnist", "file.npz").
        split: "train", "test", or "all" where the source is not divided.
        notes: what a user should know ("10,000 of the 50,000 training images are there …").
        levels: what pixels of integer images are divided by.
        every_split: gives the inputs of all splits; statistics such as the per-pixel mean are
            taken over these, so that they are the same for each split and subset.
        dataset: the prepared data set that these examples come from, where there is one.
    """

    inputs: Nested
    targets: Nested | None
    name: str
    split: str
    notes: tuple[str, ...] = ()
    levels: int = 255
    every_split: Callable[[], list[Nested]] | None = None
    dataset: Dataset | None = None

    def __post_init__(self) -> None:
        """Take arrays, lists of numbers, tuples and dicts of them, and check them."""
        self.inputs = as_tensors(self.inputs, "inputs")
        if self.targets is not None:
            self.targets = as_tensors(self.targets, "targets")
        check_lengths(self.inputs, self.targets, self.name)


def joined(
    parts: list[RawData], name: str, split: str, rest: Callable[[], list[Nested]]
) -> RawData:
    """Put the parts of a split together: itself, or for "all" train and test, so far as found.

    Args:
        parts: at least one.
        name: of the set.
        split: what was asked for.
        rest: gives the inputs that are not among the parts.
    """
    notes = [note for part in parts for note in part.notes]
    if split == "all" and len(parts) == 1:
        notes.append(f"no {'test' if parts[0].split == 'train' else 'train'} examples are there")
    both = f"{name}: train and test"
    inputs = concatenate([part.inputs for part in parts], both)
    labelled = all(part.targets is not None for part in parts)
    targets = concatenate([part.targets for part in parts], both) if labelled else None

    def every_split() -> list[Nested]:
        # Train first whatever was asked for, so that the sums come out the same.
        return [*rest(), inputs] if split == "test" else [inputs, *rest()]

    unique = tuple(dict.fromkeys(notes))
    return RawData(inputs, targets, name, split, unique, parts[0].levels, every_split)


# The first of each is what the documentation names; the others are common elsewhere.
_ALIASES = {
    "inputs": ("inputs", "input", "x", "images", "image", "data", "features"),
    "targets": ("targets", "target", "y", "labels", "label"),
}
_REMEDY = "Name them 'inputs' and 'targets' (with '_train' and '_test' where there are splits)."


def select(found: Any, name: str, split: str, divided: bool = False) -> RawData:
    """Pick the arrays that are meant out of a pair or a mapping of arrays.

    A mapping has ``inputs`` and ``targets`` (or x/y, images/labels, data/target …, when there
    is one of each), either for each split (``x_train``, ``train_images``, or one mapping or
    pair under ``train``) or undivided; then the split is "all" (unless ``divided``: the maker
    was told which split to give).

    Raises:
        DataError: it is not clear which arrays are meant, or the split is not there.
    """
    if isinstance(found, (*LEAVES, np.ndarray)):
        found = (found, None)
    there: dict[str, Any] = {}
    if isinstance(found, Mapping) and not divided:
        groups = {part: _group(found, part) for part in ("train", "test")}
        there = {part: group for part, group in groups.items() if group is not None}
    if not there:
        if split == "test" and not divided:
            raise DataError(
                f"{name} is not divided into train and test, so there is no test split; use it "
                "whole (`split=all`), or name arrays inputs_train, inputs_test and so on."
            )
        return _raw(found, name, split if divided else "all")
    wanted = ("train", "test") if split == "all" else (split,)
    if not any(part in there for part in wanted):
        raise DataError(
            f"{name} has no {split} split; it has: {_listing(found)}. Use "
            f"`split={next(iter(there))}`, or add arrays inputs_{split} and targets_{split}."
        )
    parts = {part: _raw(group, f"{name} ({part})", part) for part, group in there.items()}
    rest = [parts[part].inputs for part in parts if part not in wanted]
    return joined([parts[part] for part in wanted if part in parts], name, split, lambda: rest)


def _raw(found: Any, name: str, split: str) -> RawData:
    """Take a pair (inputs, targets), or the two of a mapping; there may be no targets."""
    notes: Sequence[str] = ()
    if named_inputs.is_named(found) or named_inputs.are_named(found):
        parts = [found] if isinstance(found, Mapping) else found
        found, notes = named_inputs.pair(parts, name)
    elif isinstance(found, Mapping):
        found, notes = _roles(found, name)
    if not isinstance(found, (tuple, list)) or len(found) != 2:
        size = f" of {len(found)}" if isinstance(found, (tuple, list)) else ""
        raise DataError(
            f"{name} is a {type(found).__name__}{size}; inputs and targets are needed, as a pair "
            "or as a dict with these names."
        )
    inputs, targets = map(_loaded, found)
    return RawData(inputs, targets, name, split, tuple(notes))


def _group(found: Mapping[Any, Any], part: str) -> Any:
    """What belongs to a split: a mapping or pair under its name, or the arrays named after it."""
    arrays = {}
    for key in found:
        lowered = key.lower() if isinstance(key, str) else ""
        if lowered in (part, f"{part}ing") and isinstance(found[key], (Mapping, tuple, list)):
            return found[key]
        if lowered.startswith(part) or lowered.endswith(part):
            bare = lowered.removeprefix(part).removesuffix(part).strip("_-./")
            if any(bare in aliases for aliases in _ALIASES.values()):
                arrays[bare] = found[key]
    return arrays or None


def _roles(found: Mapping[Any, Any], name: str) -> tuple[tuple[Any, Any], tuple[str, ...]]:
    """Return (inputs, targets or None) and a note where they bear other names than those."""
    chosen: dict[str, str | None] = {}
    for role, aliases in _ALIASES.items():
        keys = [key for key in found if isinstance(key, str) and key.lower() in aliases]
        exact = [key for key in keys if key.lower() == role]
        keys = exact if len(exact) == 1 else keys
        if len(keys) > 1:
            raise DataError(f"{name}: which are the {role}, {' or '.join(keys)}? {_REMEDY}")
        chosen[role] = keys[0] if keys else None
    if chosen["inputs"] is None:
        raise DataError(f"{name} has no array 'inputs'; it has: {_listing(found)}. {_REMEDY}")
    renamed = [f"{role} are '{key}'" for role, key in chosen.items() if key and key != role]
    targets = None if chosen["targets"] is None else found[chosen["targets"]]
    return (found[chosen["inputs"]], targets), (", ".join(renamed),) if renamed else ()


def _listing(found: Mapping[Any, Any]) -> str:
    entries = []
    for key in list(found)[:12]:
        shape = getattr(found[key], "shape", None)
        entries.append(f"{key} {tuple(shape)}" if shape is not None else str(key))
    more = f" and {len(found) - 12} more" if len(found) > 12 else ""
    return (", ".join(entries) or "nothing") + more


def _loaded(value: Any) -> Any:
    """HDF5 groups and data sets as dicts and arrays; anything else as it is."""
    if isinstance(value, h5py.Group):
        return {str(key): _loaded(part) for key, part in value.items()}
    if not isinstance(value, h5py.Dataset):
        return value
    if value.shape is None:
        return np.empty(0)
    check_room(Path(value.file.filename), value.size * value.dtype.itemsize, DataError)
    return np.atleast_1d(value[()])


def read_file(path: Path, split: str) -> RawData:
    """Read inputs and targets of a file.

    Raises:
        DataError: the file is missing, damaged, of unknown kind, holds pickled objects, or it
            is not clear which arrays are meant; or there is no such split.
    """
    if not path.exists() or path.is_dir():
        raise DataError(f"there is no data file {path}.")
    integrity.check_file(path, DataError)
    opener = _OPENERS.get(path.suffix.lower())
    if opener is None:
        raise DataError(f"{path}: data files are {', '.join(SUFFIXES)}; or use a file.py:factory.")
    with ExitStack() as stack:
        try:
            raw = select(opener(path, stack), path.name, split)
            integrity.check_expanded(path, leaves((raw.inputs, raw.targets)), DataError)
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


def _open_npz(path: Path, stack: ExitStack) -> Any:
    integrity.check_zip(path, DataError)
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            if entry.filename.endswith(".npy"):
                _check_header(path, archive, entry)
    return stack.enter_context(np.load(path, allow_pickle=False))


def _check_header(path: Path, archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> None:
    """Compare the header of an array with the size of its entry, before memory is taken."""
    with archive.open(entry) as stream:
        form = np.lib.format
        first = form.read_magic(stream) == (1, 0)
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


def _open_h5(path: Path, stack: ExitStack) -> Any:
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
    return file


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
