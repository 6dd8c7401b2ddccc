"""The sets known by name: where their files are looked for, and how they are divided."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol, TypeAlias

import numpy as np
import platformdirs
import torch

from hessscope.errors import DataError
from hessscope.loaders.data.cifar_set import CIFAR10
from hessscope.loaders.data.downloads import RemoteFile, fetch
from hessscope.loaders.data.mnist_sets import FASHION, MNIST
from hessscope.loaders.data.raw_data import RawData
from hessscope.loaders.data.subsets import choose
from hessscope.objective.nesting import Nested
from hessscope.progress import Progress, silent

NAMES = ("mnist", "fashion-mnist", "cifar10", "digits")
#: The environment variable that names the folder of published files.
VARIABLE = "HESSSCOPE_DATA"

_ALIASES = {"fashionmnist": "fashion-mnist", "cifar-10": "cifar10", "fmnist": "fashion-mnist"}
_DIGITS_TRAIN = 1437


#: Images and labels, uint8, and what to note about them.
Content: TypeAlias = "tuple[np.ndarray, np.ndarray, tuple[str, ...]]"


class PublishedSet(Protocol):
    """A set with official splits, in files that can be found or downloaded."""

    @property
    def name(self) -> str:
        """The name that a user types."""
        ...

    def read(self, root: Path, split: str) -> Content | None:
        """Images, labels and notes of "train" or "test", or None where it is not below root."""
        ...

    def looked_for(self, root: Path, split: str) -> str:
        """What ``read`` looked for and where, in words."""
        ...

    def files(self, split: str) -> tuple[RemoteFile, ...]:
        """The remote files that hold the split."""
        ...


_PUBLISHED: dict[str, PublishedSet] = {"mnist": MNIST, "fashion-mnist": FASHION, "cifar10": CIFAR10}


def canonical(name: str) -> str | None:
    """Return the name of a known set as it is listed in ``NAMES``, or None."""
    lowered = name.strip().lower().replace("_", "-")
    lowered = _ALIASES.get(lowered, lowered)
    return lowered if lowered in NAMES else None


def cache_folder() -> Path:
    """Where downloads are kept: the user's cache folder for this operating system."""
    return Path(platformdirs.user_cache_dir("hessscope", appauthor=False))


def load_named(
    name: str,
    split: str,
    root: str | os.PathLike[str] | None = None,
    progress: Progress = silent,
    cache: Path | None = None,
) -> RawData:
    """Find, or download, and read a set of ``NAMES``.

    Args:
        name: one of ``NAMES``.
        split: "train", "test" or "all".
        root: folder with the published files; else the one that ``HESSSCOPE_DATA`` names; where
            neither has the set, it is downloaded into the cache.
        progress: told about downloads, in bytes.
        cache: cache folder instead of the user's.

    Raises:
        DataError: the split is not there, or a file is damaged; DownloadError.
    """
    if name == "digits":
        return _digits(split)
    return load_published(_PUBLISHED[name], split, root, progress, cache)


def load_published(
    source: PublishedSet,
    split: str,
    root: str | os.PathLike[str] | None = None,
    progress: Progress = silent,
    cache: Path | None = None,
) -> RawData:
    """Find, or download, and read a set with official splits; see :func:`load_named`."""
    splits = ("train", "test") if split == "all" else (split,)
    local = _local_folder(root)
    parts = _read(source, local, splits) if local else {}
    if local and not parts:
        # A set that is there in part is not filled up from elsewhere behind the user's back.
        others = [part for part in ("train", "test") if part not in splits]
        if root is not None or _read(source, local, others):
            raise _not_there(source, split, local)
    where = local if local and parts else (cache or cache_folder()) / source.name
    downloads = not parts
    if downloads:
        _download(source, split, where, progress)
        parts = _read(source, where, splits)
        if not parts:
            raise _not_there(source, split, where)
    images = [torch.from_numpy(content[0]) for content in parts.values()]
    labels = [torch.from_numpy(content[1]) for content in parts.values()]
    notes = tuple(note for content in parts.values() for note in content[2])
    if len(parts) < len(splits):
        missing = next(part for part in splits if part not in parts)
        notes += (f"no {'training' if missing == 'train' else missing} images are there",)
    inputs = images[0] if len(images) == 1 else torch.cat(images)

    def every_split() -> list[Nested]:
        if split == "all":
            return [inputs]
        other = "test" if split == "train" else "train"
        if downloads:
            _download(source, other, where, progress)
        content = source.read(where, other)
        rest = [] if content is None else [torch.from_numpy(content[0])]
        # Train first whatever was asked for, so that the sums come out the same.
        return [inputs, *rest] if split == "train" else [*rest, inputs]

    return RawData(
        inputs,
        labels[0] if len(labels) == 1 else torch.cat(labels),
        source.name,
        split,
        notes,
        every_split=every_split,
    )


def _local_folder(root: str | os.PathLike[str] | None) -> Path | None:
    """Return the folder that the user names, by argument or by environment variable."""
    if root is not None:
        folder = Path(root).expanduser()
        if not folder.is_dir():
            raise DataError(f"the data folder {folder} does not exist, or is no folder.")
        return folder
    variable = os.environ.get(VARIABLE)
    if not variable:
        return None
    folder = Path(variable).expanduser()
    if not folder.is_dir():
        raise DataError(
            f"{VARIABLE} is '{variable}', which is no folder; correct it, or unset it to download."
        )
    return folder


def _read(source: PublishedSet, folder: Path, splits: Iterable[str]) -> dict[str, Content]:
    found = {part: source.read(folder, part) for part in splits}
    return {part: content for part, content in found.items() if content is not None}


def _not_there(source: PublishedSet, split: str, folder: Path) -> DataError:
    what = "set" if split == "all" else f"{split} split"
    return DataError(
        f"{source.name}: the {what} is not in {folder}. Looked for "
        f"{source.looked_for(folder, split)}. Name the folder that has it (--data-dir, or "
        f"{VARIABLE}), or leave both unset to download it."
    )


def _download(source: PublishedSet, split: str, folder: Path, progress: Progress) -> None:
    for file in source.files(split):
        fetch(file, folder, progress)


def _digits(split: str) -> RawData:
    # Imported here: scikit-learn takes a second, and only this set needs it.
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = torch.from_numpy(bunch.images.astype(np.uint8))
    labels = torch.from_numpy(bunch.target.astype(np.int64))
    notes: tuple[str, ...] = ()
    inputs, targets = images, labels
    if split != "all":
        train = choose(labels, len(labels), _DIGITS_TRAIN, seed=0)
        kept = torch.zeros(len(labels), dtype=torch.bool)
        kept[train] = True
        kept = kept if split == "train" else ~kept
        inputs, targets = images[kept], labels[kept]
        notes = (
            f"the digits have no official split: '{split}' is a fixed {len(inputs):,} of the "
            f"{len(images):,}, stratified by class",
        )
    return RawData(inputs, targets, "digits", split, notes, levels=16, every_split=lambda: [images])
