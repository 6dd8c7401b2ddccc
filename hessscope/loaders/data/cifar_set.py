"""CIFAR-10 in its binary layout: six batches of 10,000 images, loose or in the archive."""

from __future__ import annotations

import gzip
import tarfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hessscope.errors import DataError
from hessscope.loaders.data.downloads import RemoteFile
from hessscope.loaders.data.image_files import parse_cifar10, read_cifar10
from hessscope.loaders.integrity import blocks, check_room

_BATCHES = {
    "train": tuple(f"data_batch_{i}.bin" for i in range(1, 6)),
    "test": ("test_batch.bin",),
}
_WORD = {"train": "training", "test": "test"}
_FULL = {"train": 50_000, "test": 10_000}
_ARCHIVE = "cifar-10-binary.tar.gz"


@dataclass(frozen=True)
class CifarSet:
    """CIFAR-10 as its authors publish it for C programs (the Python version is pickles).

    Attributes:
        name: "cifar10".
        folders: where below a data folder the batches or the archive may be.
        mirrors: base addresses of the archive.
        checksum: MD5 of the archive.
    """

    name: str = "cifar10"
    folders: tuple[str, ...] = (
        "cifar10",
        "cifar-10",
        "cifar-10-batches-bin",
        "cifar10/cifar-10-batches-bin",
        ".",
    )
    mirrors: tuple[str, ...] = ("https://www.cs.toronto.edu/~kriz/",)
    checksum: str = "md5:c32a1d4ab5d03f1284b67883e8d87530"

    def read(self, root: Path, split: str) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]] | None:
        """Return images (N, 3, 32, 32) and labels (N,), uint8, and notes; None if not below root.

        Raises:
            DataError: a file is damaged or no CIFAR-10 batch.
        """
        for folder in self.folders:
            batches = []
            for name in _BATCHES[split]:
                found = [p for p in (root / folder / name, root / folder / f"{name}.gz")
                         if p.is_file()]  # fmt: skip
                if found:
                    batches.append((name, read_cifar10(found[0])))
            if batches:
                return _join(batches, split)
        for folder in self.folders:
            archive = root / folder / _ARCHIVE
            if archive.is_file():
                batches = _read_archive(archive, split)
                return _join(batches, split) if batches else None
        return None

    def looked_for(self, root: Path, split: str) -> str:
        """Say in words what ``read`` looked for, and where."""
        splits = ("train", "test") if split == "all" else (split,)
        names = ", ".join(
            "data_batch_1.bin … data_batch_5.bin" if part == "train" else "test_batch.bin"
            for part in splits
        )
        places = ", ".join(str(root / folder) for folder in self.folders)
        text = f"{names} (each also with .gz), or {_ARCHIVE}, in {places}"
        pickles = [
            root / folder / name
            for folder in self.folders
            for name in ("cifar-10-batches-py", "cifar-10-python.tar.gz")
            if (root / folder / name).exists()
        ]
        if pickles:
            text += (
                f"; {pickles[0]} is the Python version, whose pickles are not read: "
                "get the binary version"
            )
        return text

    def files(self, split: str) -> tuple[RemoteFile, ...]:
        """Return the archive, which holds both splits."""
        urls = tuple(mirror + _ARCHIVE for mirror in self.mirrors)
        return (RemoteFile(_ARCHIVE, self.checksum, urls),)


def _read_archive(path: Path, split: str) -> list[tuple[str, tuple[np.ndarray, np.ndarray]]]:
    contents = {}
    try:
        # Members are read one after the other; nothing is unpacked to disk.
        with gzip.open(path) as file, tarfile.open(fileobj=file, mode="r|") as archive:
            for member in archive:
                name = Path(member.name).name
                if member.isfile() and name in _BATCHES[split]:
                    check_room(path, member.size, DataError)
                    stream = archive.extractfile(member)
                    contents[name] = stream.read() if stream else b""
            for _ in blocks(file):  # the checksum is that of the whole stream
                pass
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        raise DataError(
            f"{path} cannot be read ({error}); if it is damaged, delete it and get it again."
        ) from error
    return [
        (name, parse_cifar10(contents[name], f"{path}: {name}"))
        for name in _BATCHES[split]
        if name in contents
    ]


def _join(
    batches: list[tuple[str, tuple[np.ndarray, np.ndarray]]], split: str
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    images = [part[0] for _, part in batches]
    labels = [part[1] for _, part in batches]
    all_images = images[0] if len(images) == 1 else np.concatenate(images)
    notes: tuple[str, ...] = ()
    if len(all_images) < _FULL[split]:
        names = ", ".join(name.removesuffix(".bin") for name, _ in batches)
        only = f" ({names} only)" if len(batches) < len(_BATCHES[split]) else ""
        notes = (
            f"{len(all_images):,} of the {_FULL[split]:,} {_WORD[split]} images are there{only}",
        )
    return all_images, np.concatenate(labels), notes


CIFAR10 = CifarSet()
