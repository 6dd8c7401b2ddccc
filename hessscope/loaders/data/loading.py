"""Load data: a source gives raw examples, and these are chosen, prepared and fingerprinted."""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from hessscope.errors import DataError, OptionError, UnknownNameError
from hessscope.loaders.data import batches, tokens
from hessscope.loaders.data.arrays import SUFFIXES, RawData, read_file, select
from hessscope.loaders.data.named import NamedSet, load_named
from hessscope.loaders.data.preparation import FLOATS_KEPT, choose, is_stratified, prepare
from hessscope.loaders.data.tables import is_table, open_table
from hessscope.loaders.user_code import call_object, load_object
from hessscope.objective.batches import leaves
from hessscope.objective.data import (
    TARGETS_ARE_INPUTS,
    Dataset,
    as_labels,
    check_finite,
    fingerprint,
)
from hessscope.objective.nesting import LEAVES, Nested, examples, map_leaves
from hessscope.objective.rows import Rows
from hessscope.options.data import DataOptions
from hessscope.options.fields import takes
from hessscope.registry import DATASETS


def open_source(options: DataOptions) -> RawData:
    """Read the examples of one split from whatever a user gives as data.

    Raises:
        OptionError: it is no source of data.
        DataError: it cannot be read, or has no such split.
    """
    source, split, root = options.data, options.split or "train", options.root
    if isinstance(source, os.PathLike):
        source = os.fspath(source)
    if isinstance(source, str) and source in DATASETS.points:
        source = DATASETS[source]
    if isinstance(source, type) and issubclass(source, NamedSet):
        source = source()
    path = Path(source).expanduser() if isinstance(source, str) else Path()
    try:
        there = path.is_file()
    except OSError as error:
        raise DataError(f"data '{source}' cannot be read: {error.strerror or error}.") from error
    suffix = path.suffix.lower()
    if suffix not in tokens.SUFFIXES:
        _refuse(options, "context" if options.tokenizer is None else "", "token_type")
    if isinstance(source, NamedSet):
        _refuse(options, "tokenizer")
        return load_named(source, split, root, options.progress)
    if not isinstance(source, str):
        return _from_object(source, "in memory", options)
    table = suffix not in tokens.SUFFIXES and is_table(path)
    is_file = there or table or suffix in (*SUFFIXES, *tokens.SUFFIXES)
    if root is not None and (is_file or ":" in source):
        raise OptionError(
            f"`root` is the folder of a named set ({', '.join(DATASETS)}), not of '{source}'; "
            "give the whole path."
        )
    if table:
        return _from_object(open_table(path), path.name, options)
    if suffix in tokens.SUFFIXES:
        return tokens.read_tokens(path, options)
    if is_file:
        _refuse(options, "tokenizer")
        return read_file(path, split)
    if ":" in source:
        return _from_factory(source, options)
    if path.is_dir():
        raise DataError(
            f"{path} is a folder. For a published set in it, name the set and the folder: "
            f"`data=mnist` with `root={path}`."
        )
    if source.endswith(".py"):
        raise OptionError(f"data '{source}': name the function in it, {source}:factory.")
    if os.sep in source or path.suffix:
        raise DataError(f"data '{source}': there is no such file.")
    known = ", ".join((*SUFFIXES, *tokens.SUFFIXES))
    raise UnknownNameError(
        "data set", source, DATASETS, f"Or a file ({known}), or file.py:factory."
    )


def _refuse(options: DataOptions, *names: str) -> None:
    """Refuse options of text and tokens where there is neither."""
    for name in filter(None, names):
        if getattr(options, name) is not None:
            raise OptionError(
                f"`{name}` is for text and tokens (.txt, .bin, .npy, tables of text), and the data "
                "is something else: leave it out."
            )


def _from_factory(spec: str, options: DataOptions) -> RawData:
    found = load_object(spec, "data")
    told: dict[str, str] = {}
    if callable(found) and not isinstance(found, torch.utils.data.Dataset):
        with suppress(TypeError, ValueError):  # it takes no split, or does not tell
            inspect.signature(found).bind(split=options.split or "train")
            told = {"split": options.split or "train"}
        found = call_object(partial(found, **told), spec, "data", DataError)
    file, _, function = spec.rpartition(":")
    return _from_object(found, f"{Path(file).name}:{function}", options, bool(told))


def _from_object(found: object, name: str, options: DataOptions, divided: bool = False) -> RawData:
    """Examples of an object; ``divided`` where its maker was already told the split."""
    split = options.split or "train"
    if isinstance(found, Dataset):
        _refuse(options, "tokenizer")
        if split == "test" and not divided and found.split != "test":
            raise DataError(f"{name}: it is the split '{found.split}', there is no 'test' in it.")
        return RawData(
            found.inputs, found.targets, found.name, found.split, found.notes, dataset=found
        )
    notes: list[str] = []

    def read(part: object) -> object:
        """Examples that have to be fetched, as arrays; anything else as it is."""
        if batches.is_item_dataset(part):
            if options.tokenizer is not None:
                part = tokens.Tokenized(part, options, name)
                notes.append(part.note)
            part = DataLoader(part, batches.ITEMS, collate_fn=batches.collate)  # type: ignore[arg-type]
        else:
            _refuse(options, "tokenizer")
        if isinstance(part, DataLoader):
            return batches.fetched(part, name, options.stream, options.progress)
        if batches.is_batch_list(part):
            return batches.read_batches(part, name, options.progress)
        return batches.stored(part, name)

    if (
        isinstance(found, Mapping)
        and not divided
        and all(map(batches.is_item_dataset, found.values()))
    ):
        wanted = ("train", "test") if split == "all" else (split,)
        there = [part for part in wanted if part in found]
        if not there:
            raise DataError(f"{name} has no {split} split; it has: {', '.join(map(str, found))}.")
        found = {part: read(found[part]) for part in there}
    else:
        found = read(found)
    if not isinstance(found, (tuple, list, Mapping, np.ndarray, *LEAVES)):
        raise DataError(
            f"{name} is {type(found).__name__}; expected inputs and targets as a pair or a dict, "
            "batches of these as a list or DataLoader, a map-style torch data set, or a hessscope "
            "Dataset."
        )
    raw = select(found, name, split, divided)
    raw.notes = (*raw.notes, *dict.fromkeys(notes))
    return raw


@takes(DataOptions, data="name_or_path")
def load_data(options: DataOptions) -> Dataset:
    """Load and prepare a data set.

    When nothing else is asked for, integer images are divided by 255 and nothing more is done:
    floats stay as they are, and integers that are no images (one or two dimensions, such as
    token ids) stay integers. ``preprocessing`` of the result states what was done.

    A file has arrays ``inputs`` and ``targets``, tokens or text. A factory returns a ``Dataset``, a
    map-style torch data set, batches, or inputs and targets as a pair or dict; it is called with
    ``split=`` where it takes that. "all" is train, then test; a source that is not divided is used
    whole, and ``test`` of it is refused. Where ``root`` and ``HESSSCOPE_DATA`` do not have a named
    set, it is downloaded. Dicts of named inputs, as Hugging Face makes them, are padded to one
    length.

    Token files, memory maps and torch data sets that would take more than a quarter of the free
    memory, and all of them with ``stream``, are read anew in each pass over the data: one for small
    targets, one for the fingerprint of each input, then one for each product.

    ``normalize`` takes mean/std after the division by 255; "center" subtracts the per-pixel mean
    over the whole set, test images included; "standardize" takes mean and deviation from the whole
    set; "none" keeps integers as floats, not even divided by 255.

    Raises:
        OptionError: an option cannot be read or does not fit the data.
        DataError: a file is missing or damaged, the split is not there, there are no examples,
            or fewer than ``subset``; DownloadError for a failed download.
        NonFiniteError: NaN or infinity in the data.
        NonDeterministicError: a data set gave two different values for one item.
    """
    return read_data(options)


def read_data(options: DataOptions, *, others: bool = False) -> Dataset:
    """Load what the options say; see :func:`load_data`.

    Args:
        options: of the data; split None is "train".
        others: take the examples that ``subset`` leaves out, to test with.
    """
    raw = open_source(options)
    asked = (options.normalize, options.resize, options.grayscale, options.targets, options.subset)
    if raw.dataset is not None and not any(asked):
        return raw.dataset
    before = raw.dataset.preprocessing if raw.dataset else ()
    if raw.targets is None and options.targets is None:
        raise DataError(
            f"{raw.name} has inputs but no targets; add them, or give `targets=inputs` "
            "(autoencoders)."
        )
    if options.stream and not _unread(raw.inputs):
        raise OptionError(
            f"`stream` is for files of tokens, memory maps and torch data sets; {raw.name} is in "
            "memory: leave it out."
        )
    small = map_leaves(lambda leaf: _read(leaf) if _is_small(leaf) else leaf, raw.targets)
    labels, column_notes = as_labels(small)
    inputs, labels, steps = _subset(raw.inputs, labels, options, raw.name, others)
    check_finite(inputs, "inputs", raw.name)
    every_split = raw.every_split or (lambda: [raw.inputs])
    prepared, done, extra = prepare(inputs, options, raw.levels, every_split)
    if before and done[:1] == (FLOATS_KEPT,):
        done = done[1:]  # they have been prepared before, which is stated already
    content = [("inputs", inputs)]
    if options.targets == "inputs":
        done += (TARGETS_ARE_INPUTS,)
        labels = prepared
    else:
        content.append(("targets", labels))
    check_finite(labels, "targets", raw.name)
    steps = (*before, *steps, *done)
    # Taken of what was stored, not of the floats: the same on machines that round differently.
    print_ = fingerprint(content, (*steps, *extra))
    notes = (*raw.notes, *column_notes)
    if unread := _unread((prepared, labels)):
        size = sum(leaf.numel() * leaf.element_size() for leaf in unread)
        notes += (f"streamed: {size / 1e6:,.1f} MB are read anew in each pass over the data",)
    return Dataset(prepared, labels, raw.name, raw.split, steps, print_, notes)


def _unread(value: Nested) -> list[Rows]:
    return [leaf for leaf in leaves(value) if isinstance(leaf, Rows)]


def _is_small(leaf: Any) -> bool:
    """Whether targets are kept in memory in any case: class numbers, but not the tokens."""
    return leaf.numel() <= 32 * len(leaf)


def _read(leaf: Any) -> torch.Tensor:
    found: torch.Tensor = leaf.read() if isinstance(leaf, Rows) else leaf
    return found


def _subset(
    inputs: Nested, labels: Nested | None, options: DataOptions, name: str, others: bool
) -> tuple[Nested, Nested | None, tuple[str, ...]]:
    """Inputs and labels of the examples that are chosen, and the choice in words."""
    total = examples(inputs, "inputs")

    def kept(value: Nested) -> Nested:
        stay = options.stream or not batches.fits(value)
        return value if stay else map_leaves(_read, value)

    if options.subset is None:
        return *kept((inputs, labels)), ()
    chosen = choose(labels, total, options.subset, options.seed, others=others)
    if not len(chosen):
        raise DataError(f"{name}: the subset leaves out none of the {total:,} examples.")
    if len(chosen) == total:
        return *kept((inputs, labels)), ()
    how = "stratified by class" if is_stratified(labels) else "uniform"
    what = f"{'all but a ' if others else ''}subset of {options.subset:,}"
    some = map_leaves(
        lambda leaf: leaf.at(chosen) if isinstance(leaf, Rows) else leaf[chosen], (inputs, labels)
    )
    return *kept(some), (f"{what} of {total:,} ({how}, seed {options.seed})",)
