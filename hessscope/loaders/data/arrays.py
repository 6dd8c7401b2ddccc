"""Which arrays of a pair or a mapping are the inputs, the targets and the splits."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch

from hessscope.errors import DataError
from hessscope.loaders.data.raw_data import RawData, joined
from hessscope.loaders.integrity import check_room

_TOKENS, _LABELS = "input_ids", "labels"

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
    if isinstance(found, (torch.Tensor, np.ndarray)):
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
    notes: tuple[str, ...] = ()
    if isinstance(found, Mapping):
        found, notes = _language_model(found, name) if _TOKENS in found else _roles(found, name)
    if not isinstance(found, (tuple, list)) or len(found) != 2:
        size = f" of {len(found)}" if isinstance(found, (tuple, list)) else ""
        raise DataError(
            f"{name} is a {type(found).__name__}{size}; inputs and targets are needed, as a pair "
            "or as a dict with these names."
        )
    inputs, targets = map(_loaded, found)
    return RawData.of(inputs, targets, name, split, notes)


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
    if isinstance(value, h5py.Group):
        return {str(key): _loaded(part) for key, part in value.items()}
    if not isinstance(value, h5py.Dataset):
        return value
    if value.shape is None:
        return np.empty(0)
    check_room(Path(value.file.filename), value.size * value.dtype.itemsize, DataError)
    return np.atleast_1d(value[()])
