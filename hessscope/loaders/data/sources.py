"""Sources of data: a named set, a file, a factory, or objects in memory."""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader

from hessscope.errors import DataError, OptionError, UnknownNameError
from hessscope.loaders.data import batches
from hessscope.loaders.data.arrays import select
from hessscope.loaders.data.files import SUFFIXES, read_file
from hessscope.loaders.data.named import NamedSet, load_named
from hessscope.loaders.data.raw_data import RawData
from hessscope.loaders.user_code import call_object, load_object
from hessscope.objective.data import Dataset
from hessscope.progress import Progress
from hessscope.registry import DATASETS


def open_source(source: object, split: str, root: Path | str | None, progress: Progress) -> RawData:
    """Read the examples of one split from whatever a user gives as data.

    Raises:
        OptionError: it is no source of data.
        DataError: it cannot be read, or has no such split.
    """
    if isinstance(source, os.PathLike):
        source = os.fspath(source)
    if isinstance(source, str) and source in DATASETS.points:
        source = DATASETS[source]
    if isinstance(source, type) and issubclass(source, NamedSet):
        source = source()
    if isinstance(source, NamedSet):
        return load_named(source, split, root, progress)
    if not isinstance(source, str):
        return _from_object(source, "in memory", split, progress)
    path = Path(source).expanduser()
    try:
        there = path.is_file()
    except OSError as error:
        raise DataError(f"data '{source}' cannot be read: {error.strerror or error}.") from error
    is_file = there or path.suffix.lower() in SUFFIXES
    if root is not None and (is_file or ":" in source):
        raise OptionError(
            f"`root` is the folder of a named set ({', '.join(DATASETS)}), not of '{source}'; "
            "give the whole path."
        )
    if is_file:
        return read_file(path, split)
    if ":" in source:
        return _from_factory(source, split, progress)
    if path.is_dir():
        raise DataError(
            f"{path} is a folder. For a published set in it, name the set and the folder: "
            f"`data=mnist` with `root={path}`."
        )
    if source.endswith(".py"):
        raise OptionError(f"data '{source}': name the function in it, {source}:factory.")
    if os.sep in source or path.suffix:
        raise DataError(f"data '{source}': there is no such file.")
    raise UnknownNameError(
        "data set", source, DATASETS, f"Or a file ({', '.join(SUFFIXES)}), or file.py:factory."
    )


def _from_factory(spec: str, split: str, progress: Progress) -> RawData:
    found = load_object(spec, "data")
    takes_split = False
    if callable(found) and not isinstance(found, torch.utils.data.Dataset):
        takes_split = _takes_split(found)
        options = {"split": split} if takes_split else {}
        found = call_object(partial(found, **options), spec, "data", DataError)
    file, _, function = spec.rpartition(":")
    name = f"{Path(file).name}:{function}"
    return _from_object(found, name, split, progress, divided=takes_split)


def _takes_split(factory: object) -> bool:
    try:
        parameters = inspect.signature(factory).parameters.values()  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return False
    return any(
        p.kind is p.VAR_KEYWORD or (p.name == "split" and p.kind is not p.POSITIONAL_ONLY)
        for p in parameters
    )


def _from_object(
    found: object, name: str, split: str, progress: Progress, divided: bool = False
) -> RawData:
    """Examples of an object; ``divided`` where its maker was already told the split."""
    if isinstance(found, Dataset):
        if split == "test" and not divided and found.split != "test":
            raise DataError(f"{name}: it is the split '{found.split}', there is no 'test' in it.")
        return RawData(
            found.inputs, found.targets, found.name, found.split, found.notes, dataset=found
        )
    if batches.is_item_dataset(found):
        found = DataLoader(found, batches.ITEMS)  # type: ignore[arg-type]
    if isinstance(found, DataLoader) or batches.is_batch_list(found):
        found = batches.read_batches(found, name, progress)
    if not isinstance(found, (tuple, list, Mapping, torch.Tensor, np.ndarray)):
        raise DataError(
            f"{name} is {type(found).__name__}; expected inputs and targets as a pair or a dict, "
            "batches of these as a list or DataLoader, a map-style torch data set, or a hessscope "
            "Dataset."
        )
    return select(found, name, split, divided)
