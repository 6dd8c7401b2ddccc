"""What a named data set is, and how its files are found, downloaded and put together."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, TypeAlias

import numpy as np
import pooch

from hessscope.errors import DataError
from hessscope.loaders.data.arrays import RawData, joined
from hessscope.loaders.data.named.downloads import RemoteFile, fetch
from hessscope.loaders.data.preparation import choose
from hessscope.objective.batches import pick
from hessscope.objective.nesting import Nested, examples
from hessscope.progress import Progress, silent

#: The environment variable that names the folder of published files.
VARIABLE = "HESSSCOPE_DATA"

#: Inputs and targets as stored (N first), and what to note about them.
Content: TypeAlias = "tuple[np.ndarray, np.ndarray, tuple[str, ...]]"


class NamedSet:
    """A data set that users name; an object of a subclass is registered under its name.

    Attributes:
        name: underscores between words.
        splits: ("train", "test"); or ("all",) where it is not divided: then "train" is a fixed
            80 % of it, stratified by class, and "test" the rest.
        levels: what integer pixels are divided by.
        folders: where its files may be below a data folder, the likeliest first; none where it
            needs no files.
        full: number of published examples of each split.
    """

    name: str
    splits: ClassVar[tuple[str, ...]] = ("train", "test")
    levels: ClassVar[int] = 255
    folders: tuple[str, ...] = ()
    full: ClassVar[Mapping[str, int]] = {}

    def read(self, root: Path, split: str) -> Content | None:
        """Read a split from a data folder; None where it is not there.

        Raises:
            DataError: a file is damaged or another set's.
        """
        raise NotImplementedError

    def remote(self, split: str) -> tuple[RemoteFile, ...]:
        """The files that a download of the split takes."""
        return ()

    def looked_for(self, root: Path, split: str) -> str:
        """What ``read`` looked for, in words."""
        return ", ".join(file.name for file in self.remote(split)) + " (packed or unpacked)"

    def find(self, folder: Path, *names: str) -> Path | None:
        """The first of some files that is in a folder, packed or not."""
        paths = (folder / packed for name in names for packed in (name, f"{name}.gz"))
        return next((path for path in paths if path.is_file()), None)

    def partial(self, count: int, split: str, which: str = "") -> tuple[str, ...]:
        """A note where not all of the published examples are there."""
        if count >= self.full[split]:
            return ()
        word = "training" if split == "train" else split
        return (f"{count:,} of the {self.full[split]:,} {word} images are there{which}",)


def load_named(
    source: NamedSet,
    split: str,
    root: str | Path | None = None,
    progress: Progress = silent,
    cache: Path | None = None,
) -> RawData:
    """Find, or download, and read a named set.

    Args:
        source: the set.
        split: "train", "test" or "all".
        root: folder with the published files; else the one that ``HESSSCOPE_DATA`` names; where
            neither has the set, it is downloaded into the cache.
        progress: called with the bytes of downloads.
        cache: cache folder instead of the user's.

    Raises:
        DataError: the split is not there, or a file is damaged; DownloadError.
    """
    wanted = source.splits if split == "all" or source.splits == ("all",) else (split,)
    local = _folder(root) if source.folders else None
    parts = _read(source, local, wanted) if local else []
    # A set that is there in part is not completed from elsewhere behind the user's back.
    if local and not parts and (root is not None or _read(source, local, source.splits)):
        raise _not_there(source, split, local)
    where, downloads = local, None
    if where is None or not parts:
        where, downloads = (cache or Path(pooch.os_cache("hessscope"))) / source.name, progress
        parts = _read(source, where, wanted, downloads)
        if not parts:
            raise _not_there(source, split, where)
    if source.splits == ("all",):
        return _divided(parts[0], split)

    def rest() -> list[Nested]:
        others = tuple(part for part in source.splits if part not in wanted)
        return [part.inputs for part in _read(source, where, others, downloads)]

    return joined(parts, source.name, split, rest)


def _read(
    source: NamedSet, folder: Path, splits: tuple[str, ...], downloads: Progress | None = None
) -> list[RawData]:
    """Those of some splits that are in a folder; with ``downloads`` they are downloaded first."""
    found = []
    for split in splits:
        if downloads is not None:
            for file in source.remote(split):
                fetch(file, folder, downloads)
        content = source.read(folder, split)
        if content is not None:
            x, y, notes = content
            found.append(RawData(x, y, source.name, split, notes, source.levels))
    return found


def _divided(raw: RawData, split: str) -> RawData:
    """The fixed part of a set that nobody has divided."""
    inputs, targets, notes = raw.inputs, raw.targets, raw.notes
    if split != "all":
        total = examples(inputs, "inputs")
        kept = choose(targets, total, int(0.8 * total), seed=0, others=split == "test")
        inputs, targets = pick((inputs, targets), kept)
        notes += (
            f"the {raw.name} have no official split: '{split}' is a fixed {len(kept):,} of the "
            f"{total:,}, stratified by class",
        )
    return RawData(inputs, targets, raw.name, split, notes, raw.levels, lambda: [raw.inputs])


def _folder(root: str | Path | None) -> Path | None:
    """The folder that the user names, by argument or by environment variable."""
    named = root if root is not None else os.environ.get(VARIABLE)
    if not named:
        return None
    folder = Path(named).expanduser()
    if not folder.is_dir():
        what = "`root`" if root is not None else VARIABLE
        raise DataError(
            f"the data folder {folder} does not exist, or is no folder: correct {what}, or leave "
            "it unset to download"
        )
    return folder


def _not_there(source: NamedSet, split: str, folder: Path) -> DataError:
    what = "set" if split == "all" else f"{split} split"
    places = ", ".join(str(folder / place) for place in source.folders)
    return DataError(
        f"{source.name}: the {what} is not in {folder}. Looked for "
        f"{source.looked_for(folder, split)} in {places}. Name the folder that has it (`root`, or "
        f"{VARIABLE}), or leave both unset to download it."
    )
