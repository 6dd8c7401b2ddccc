"""Files of arrays (.npz, .pt, .safetensors, .h5), and which arrays in them are meant."""

from __future__ import annotations

import math
import re
import warnings
import zipfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch

from hessscope.errors import CheckpointError, DataError, HessscopeError
from hessscope.loaders import integrity, pickles
from hessscope.loaders.data import hdf5_files
from hessscope.loaders.data.raw_data import RawData
from hessscope.objective.data import check_lengths
from hessscope.objective.nesting import as_tensors, concatenate, named_leaves

SUFFIXES = (".npz", ".pt", ".pth", ".safetensors", ".h5", ".hdf5")

_TOKENS, _LABELS = "input_ids", "labels"

# The first of each is what the documentation names; the others are common elsewhere.
_ALIASES = {
    "inputs": ("inputs", "input", "x", "images", "image", "data", "features"),
    "targets": ("targets", "target", "y", "labels", "label"),
}
_REMEDY = "Name them 'inputs' and 'targets' (with '_train' and '_test' where there are splits)."


def read(path: Path, split: str) -> RawData:
    """Read inputs and targets of a file; nothing in the file can run code.

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
    opener = {
        ".npz": _open_npz,
        ".safetensors": _open_safetensors,
        ".h5": _open_h5,
        ".hdf5": _open_h5,
        ".pt": _open_torch,
        ".pth": _open_torch,
    }.get(path.suffix.lower())
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
            raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> DataError:
    # The first sentence: torch adds a page on what may have happened.
    reason = " ".join(str(error).split()).partition(". ")[0][:160]
    return DataError(f"{path} is not a {path.suffix} file, or is damaged or cut short ({reason}).")


def select(found: Any, name: str, split: str, divided: bool = False) -> RawData:
    """Pick the arrays that are meant out of a pair or a mapping of arrays.

    A mapping has ``inputs`` and ``targets`` (or x/y, images/labels, data/target …, when there
    is one of each), either for each split (``x_train``, ``train_images``, or one mapping or
    pair under ``train``) or undivided; then the split is "all" (unless ``divided``: the maker
    was told which split to give).

    Raises:
        DataError: it is not clear which arrays are meant, or the split is not there.
    """
    if isinstance(found, (torch.Tensor, np.ndarray)):
        found = (found, None)
    if not isinstance(found, Mapping):
        return from_pair(found, name, split if divided else _undivided(split, name))
    if divided:
        chosen, notes = _roles(found, name)
        return from_pair(chosen, name, split, notes)
    groups = {part: _group(found, part) for part in ("train", "test")}
    there = {part: group for part, group in groups.items() if group is not None}
    if not there:
        chosen, notes = _roles(found, name)
        return from_pair(chosen, name, _undivided(split, name), notes)
    wanted = ("train", "test") if split == "all" else (split,)
    if not any(part in there for part in wanted):
        raise DataError(
            f"{name} has no {split} split; it has: {_listing(found)}. Use split "
            f"'{next(iter(there))}', or add arrays inputs_{split} and targets_{split}."
        )
    parts, all_notes = [], []
    for part in wanted:
        if part in there:
            chosen, notes = _roles(there[part], f"{name} ({part})")
            parts.append(from_pair(chosen, f"{name} ({part})", part, notes))
            all_notes += list(notes)
        else:
            all_notes.append(f"no {part} examples are there")
    try:
        inputs = concatenate([part.inputs for part in parts])
        targets = None
        if all(part.targets is not None for part in parts):
            targets = concatenate([part.targets for part in parts])
    except (RuntimeError, KeyError, IndexError, TypeError) as error:
        raise DataError(f"{name}: train and test do not fit together ({error}).") from error

    # Read now, while the file is open; only statistics of the whole set ever ask for it.
    rest = [] if split == "all" else [
        as_tensors(_loaded(_roles(there[part], name)[0][0]), "inputs")
        for part in there if part not in wanted
    ]  # fmt: skip
    ordered = [inputs, *rest] if split != "test" else [*rest, inputs]
    notes = tuple(dict.fromkeys(all_notes))
    return RawData(inputs, targets, name, split, notes, every_split=lambda: ordered)


def from_pair(found: Any, name: str, split: str, notes: tuple[str, ...] = ()) -> RawData:
    """Make data of a pair (inputs, targets); targets may be None.

    Raises:
        DataError: no pair, no numbers, no examples, or different numbers of them.
    """
    if isinstance(found, Mapping):
        found, notes = _roles(found, name)
    if not isinstance(found, (tuple, list)) or len(found) != 2:
        size = f" of {len(found)}" if isinstance(found, (tuple, list)) else ""
        raise DataError(
            f"{name} is a {type(found).__name__}{size}; inputs and targets are needed, as a pair "
            "or as a dict with these names."
        )
    inputs = as_tensors(_loaded(found[0]), "inputs")
    targets = None if found[1] is None else as_tensors(_loaded(found[1]), "targets")
    check_lengths(inputs, targets, name)
    return RawData(inputs, targets, name, split, notes)


def _undivided(split: str, name: str) -> str:
    if split == "test":
        raise DataError(
            f"{name} is not divided into train and test, so there is no test split; use it whole "
            "(split 'all'), or name arrays inputs_train, inputs_test and so on."
        )
    return "all"


def _group(found: Mapping[Any, Any], part: str) -> Any:
    """What belongs to a split: a mapping or pair under its name, or the arrays named after it."""
    names = [key for key in found if isinstance(key, str)]
    for key in names:
        if key.lower() in (part, {"train": "training", "test": "testing"}[part]):
            value = found[key]
            if isinstance(value, (Mapping, tuple, list)):
                return value
    arrays = {}
    for key in names:
        lowered = key.lower()
        for join in ("_", "-", ".", "/", ""):
            bare = None
            if lowered.endswith(join + part):
                bare = lowered[: -len(join + part)]
            elif lowered.startswith(part + join):
                bare = lowered[len(part + join) :]
            if bare and any(bare in aliases for aliases in _ALIASES.values()):
                arrays[bare] = found[key]
                break
    return arrays or None


def _roles(found: Any, name: str) -> tuple[tuple[Any, Any], tuple[str, ...]]:
    """Return (inputs, targets or None) and a note where they bear other names than those."""
    if not isinstance(found, Mapping):
        return found, ()
    if _TOKENS in found:
        return _language_model(found, name)
    chosen: dict[str, str | None] = {}
    for role, aliases in _ALIASES.items():
        keys = [key for key in found if isinstance(key, str) and key.lower() in aliases]
        exact = [key for key in keys if key.lower() == role]
        if len(exact) == 1:
            keys = exact
        if len(keys) > 1:
            raise DataError(f"{name}: which are the {role}, {' or '.join(keys)}? {_REMEDY}")
        chosen[role] = keys[0] if keys else None
    if chosen["inputs"] is None:
        raise DataError(f"{name} has no array 'inputs'; it has: {_listing(found)}. {_REMEDY}")
    renamed = [f"{role} are '{key}'" for role, key in chosen.items() if key and key != role]
    notes = (", ".join(renamed),) if renamed else ()
    targets = None if chosen["targets"] is None else found[chosen["targets"]]
    return (found[chosen["inputs"]], targets), notes


def _language_model(found: Mapping[Any, Any], name: str) -> tuple[tuple[Any, Any], tuple[str, ...]]:
    """Named inputs and ``labels``, as Hugging Face's tokenizers and models have them."""
    inputs = {str(key): value for key, value in found.items() if key != _LABELS}
    labels = found.get(_LABELS)
    if labels is not None and tuple(labels.shape) == tuple(found[_TOKENS].shape):
        raise DataError(
            f"{name}: labels for each token may stand for the token itself or for the one after it "
            "(causal language models shift them inside their own loss). Give inputs and targets, "
            "with targets that belong to the outputs of the same places: {'inputs': {'input_ids': "
            "…}, 'targets': …}."
        )
    return (inputs, labels), (f"inputs are {', '.join(inputs)}",)


def _listing(found: Mapping[Any, Any]) -> str:
    entries = []
    for key in list(found)[:12]:
        shape = getattr(found[key], "shape", None)
        entries.append(f"{key} {tuple(shape)}" if shape is not None else str(key))
    more = f" and {len(found) - 12} more" if len(found) > 12 else ""
    return (", ".join(entries) or "nothing") + more


def _loaded(value: Any) -> Any:
    """HDF5 groups and data sets as dicts and arrays; anything else as it is."""
    if isinstance(value, h5py.Dataset):
        return hdf5_files.read_array(value)
    if isinstance(value, h5py.Group):
        return {str(key): _loaded(part) for key, part in value.items()}
    return value


def _open_npz(path: Path, stack: ExitStack) -> Mapping[str, Any]:
    if not _is_zip(path):
        raise DataError(f"{path} is not a .npz file (an archive made by numpy.savez).")
    integrity.check_zip(path, DataError)
    found: dict[str, Any] = {}
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            if entry.filename.endswith(".npy"):
                found[entry.filename.removesuffix(".npy")] = _read_npy(path, archive, entry)
    return found


def _read_npy(path: Path, archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> np.ndarray:
    """One array of an archive, whose header has to fit the size of its entry."""
    with archive.open(entry) as stream:
        version = np.lib.format.read_magic(stream)
        read = {(1, 0): np.lib.format.read_array_header_1_0}.get(
            version, np.lib.format.read_array_header_2_0
        )
        shape, fortran, dtype = read(stream)
        if dtype.hasobject:
            raise DataError(
                f"{path} holds an array of Python objects, which could run code when read; "
                "save it as arrays of numbers."
            )
        size, there = dtype.itemsize * math.prod(shape), entry.file_size - stream.tell()
        if min(shape, default=0) < 0 or size != there:
            raise DataError(
                f"{path} is damaged: its array '{entry.filename}' of shape {shape} needs {size:,} "
                f"bytes, and {there:,} are there."
            )
        content, filled = bytearray(size), 0
        for block in integrity.blocks(stream):
            content[filled : filled + len(block)] = block
            filled += len(block)
    flat = np.frombuffer(content, dtype=dtype)
    return flat.reshape(shape, order="F" if fortran else "C")


def _is_zip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"PK"


def _open_h5(path: Path, stack: ExitStack) -> Mapping[str, Any]:
    file: Mapping[str, Any] = stack.enter_context(h5py.File(path, "r"))
    hdf5_files.check_self_contained(file, path)
    return file


def _open_safetensors(path: Path, stack: ExitStack) -> Mapping[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise _damaged(path, error) from error


def _open_torch(path: Path, stack: ExitStack) -> Any:
    if _is_zip(path):
        integrity.check_zip(path, DataError)
    try:
        with path.open("rb") as stream:
            pickles.check_keys(path, pickles.scan(stream))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # advice on pickle protocols, of no use here
            return torch.load(path, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except CheckpointError as error:
        raise DataError(str(error)) from error
    except Exception as error:  # a damaged or crafted pickle may raise anything
        found = re.search(r"GLOBAL (\S+)", str(error))
        if found is None and "Unsupported" not in str(error):
            raise DataError(f"{path} is not a file of torch.save, or is damaged.") from error
        what = f"pickled Python objects{f' ({found[1]})' if found else ''}"
        raise DataError(
            f"{path} holds {what}, which could run code when read; it is not opened. Save tensors "
            "instead, torch.save({'inputs': x, 'targets': y}, …), arrays with numpy.savez, or give "
            "the data as a file.py:factory that opens it."
        ) from error
