"""Load data sets by name, from files, from a factory or from objects in memory."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader

from hessscope.errors import DataError, OptionError, UnknownNameError
from hessscope.loaders.data import array_files, batch_lists, item_datasets, named_sets
from hessscope.loaders.data.normalization import (
    NormalizeOption,
    SizeOption,
    parse_normalize,
    parse_size,
)
from hessscope.loaders.data.preprocessing import FLOATS_KEPT, prepare
from hessscope.loaders.data.raw_data import RawData
from hessscope.loaders.data.subsets import choose, is_stratified
from hessscope.loaders.user_code import call_object, load_object
from hessscope.objective.data import (
    Dataset,
    as_labels,
    check_finite,
    check_lengths,
    check_split,
    fingerprint,
)
from hessscope.objective.nesting import map_leaves
from hessscope.progress import Progress, silent


def load_data(
    name_or_path: object,
    split: str = "train",
    root: str | os.PathLike[str] | None = None,
    subset: int | None = None,
    seed: int = 0,
    resize: SizeOption = None,
    grayscale: bool = False,
    normalize: NormalizeOption = None,
    targets: str | None = None,
    progress: Progress = silent,
    others: bool = False,
) -> Dataset:
    """Load and preprocess a data set.

    When nothing else is asked for, integer images are divided by 255 and nothing more is done:
    floats stay as they are, and integers that are no images (one or two dimensions, such as
    token ids) stay integers. The result says in ``preprocessing`` what was done.

    Args:
        name_or_path: ``mnist``, ``fashion-mnist``, ``cifar10`` or ``digits``; a ``.npz``,
            ``.pt``, ``.safetensors`` or ``.h5`` file with arrays ``inputs`` and ``targets``;
            ``file.py:factory`` or ``package.module:factory``, a function that returns a
            ``Dataset``, a map-style torch data set, or inputs and targets as a pair or dict;
            or any of these objects itself.
        split: ``train``, ``test`` or ``all`` (train, then test). A source that is not divided
            is used whole, and ``test`` of it is refused.
        root: folder that holds the published files of a named set; by default the environment
            variable ``HESSSCOPE_DATA``, and where the set is not there either, a download.
        subset: keep so many examples, stratified by class, in their order.
        seed: which subset.
        resize: rows and columns for images, ``10`` or ``(10, 12)``, anti-aliased.
        grayscale: three channels to one.
        normalize: ``"0.1307/0.3081"`` (mean/std, or comma-separated ones for each channel; after
            the division by 255), ``"center"`` (minus the per-pixel mean over the whole set, test
            images included), ``"standardize"`` (mean and deviation from the whole set),
            ``"none"`` (integers as floats, not even divided by 255).
        targets: ``"inputs"`` makes the preprocessed inputs the targets, for autoencoders.
        progress: told about downloads (in bytes) and about items fetched from a torch data set.
        others: take the examples that ``subset`` leaves out, to test with.

    Raises:
        UnknownNameError: no such data set, split or normalization, with a suggestion.
        OptionError: an option cannot be parsed or does not fit the data.
        DataError: a file is missing or damaged, the split is not there, there are no examples,
            or fewer than ``subset``; DownloadError for a failed download.
        NonFiniteError: NaN or infinity in the data.
        NonDeterministicError: a torch data set gave two different values for one item.
    """
    split = check_split(split)
    normalization = parse_normalize(normalize)
    size = parse_size(resize)
    if targets not in (None, "inputs"):
        raise UnknownNameError("kind of targets", str(targets), ("inputs",))
    raw = _open(name_or_path, split, root, progress)
    name = raw.name
    default = normalization.kind == "default" and not (size or grayscale or targets)
    if isinstance(raw.dataset, Dataset) and default and subset is None:
        return raw.dataset
    if raw.targets is None and targets != "inputs":
        raise DataError(
            f"{name} has inputs but no targets; add them, or ask for targets 'inputs' "
            "(autoencoders: --targets inputs)."
        )
    labels, column_notes = as_labels(raw.targets)
    total = check_lengths(raw.inputs, labels, name)
    steps = raw.preprocessing
    inputs, classes = raw.inputs, labels
    if subset is not None:
        chosen = choose(labels, total, subset, seed)
        if others:
            left = torch.ones(total, dtype=torch.bool).index_fill(0, chosen, False)
            chosen = left.nonzero()[:, 0]
            if not len(chosen):
                raise DataError(f"{name}: the subset leaves out none of the {total:,} examples.")
        if len(chosen) < total:
            inputs = map_leaves(lambda x: x[chosen], inputs)
            labels = None if labels is None else map_leaves(lambda y: y[chosen], labels)
            how = "stratified by class" if is_stratified(classes) else "uniform"
            what = f"all but a subset of {subset:,}" if others else f"subset of {subset:,}"
            steps += (f"{what} of {total:,} ({how}, seed {seed})",)
    every_split = raw.every_split or (lambda: [raw.inputs])
    check_finite(inputs, "inputs", name)
    prepared, done, extra = prepare(inputs, normalization, size, grayscale, raw.levels, every_split)
    if raw.preprocessing and done[:1] == (FLOATS_KEPT,):
        done = done[1:]  # they have been prepared before, which is stated already
    steps += done
    if targets == "inputs":
        steps += ("targets are the inputs",)
        content = [("inputs", inputs)]
        labels = prepared
    else:
        content = [("inputs", inputs), ("targets", labels)]
    check_finite(labels, "targets", name)
    # Taken of what was stored, not of the floats: the same on machines that round differently.
    print_ = fingerprint(content, (*steps, *extra))
    return Dataset(prepared, labels, name, raw.split, steps, print_, raw.notes + column_notes)


def _open(
    source: object, split: str, root: str | os.PathLike[str] | None, progress: Progress
) -> RawData:
    if isinstance(source, os.PathLike):
        source = os.fspath(source)
    if not isinstance(source, str):
        return _from_object(source, "in memory", split, progress)
    known = named_sets.canonical(source)
    if known is not None:
        return named_sets.load_named(known, split, root, progress)
    path = Path(source).expanduser()
    try:
        there = path.is_file()
    except OSError as error:
        raise DataError(f"data '{source}' cannot be read: {error.strerror or error}.") from error
    is_file = there or path.suffix.lower() in array_files.SUFFIXES
    if root is not None and (is_file or ":" in source):
        raise OptionError(
            f"a data folder (--data-dir) goes with a named set ({', '.join(named_sets.NAMES)}), "
            f"not with '{source}'; write the whole path."
        )
    if is_file:
        return array_files.read(path, split)
    if ":" in source:
        return _from_factory(source, split, progress)
    if path.is_dir():
        raise DataError(
            f"{path} is a folder. For a published set in it, name the set and the folder: "
            f"data 'mnist' with root '{path}' (--data mnist --data-dir {path})."
        )
    if source.endswith(".py"):
        raise OptionError(f"data '{source}': say which function in it, {source}:factory.")
    if os.sep in source or path.suffix:
        raise DataError(f"data '{source}': there is no such file.")
    raise UnknownNameError(
        "data set",
        source,
        named_sets.NAMES,
        f"Or a file ({', '.join(array_files.SUFFIXES)}), or file.py:factory.",
    )


def _from_factory(spec: str, split: str, progress: Progress) -> RawData:
    found = load_object(spec, "data")
    takes_split = False
    if callable(found) and not isinstance(found, torch.utils.data.Dataset):
        takes_split = item_datasets.accepts_split(found)
        options = {"split": split} if takes_split else {}
        found = call_object(partial(found, **options), spec, "data", DataError)
    name = Path(spec.rpartition(":")[0]).name + ":" + spec.rpartition(":")[2]
    return _from_object(found, name, split, progress, divided=takes_split)


def _from_object(
    found: object, name: str, split: str, progress: Progress, divided: bool = False
) -> RawData:
    """Examples of an object; ``divided`` where its maker was already told the split."""
    if isinstance(found, Dataset):
        if split == "test" and not divided and found.split != "test":
            raise DataError(f"{name}: it is the split '{found.split}', there is no 'test' in it.")
        targets = found.targets
        return RawData(
            found.inputs, targets, found.name, found.split, found.notes,
            preprocessing=found.preprocessing,
            dataset=found,
        )  # fmt: skip
    arrays = (tuple, list, Mapping, torch.Tensor, np.ndarray)
    if isinstance(found, DataLoader) or batch_lists.is_batch_list(found):
        found = batch_lists.read_batches(found, name, progress)
    elif not isinstance(found, arrays) and item_datasets.is_item_dataset(found):
        found = item_datasets.fetch(found, name, progress)
    elif not isinstance(found, arrays):
        raise DataError(
            f"{name} is {type(found).__name__}; expected inputs and targets as a pair or a dict, "
            "batches of these as a list or DataLoader, a map-style torch data set, or a hessscope "
            "Dataset."
        )
    return array_files.select(found, name, split, divided)
