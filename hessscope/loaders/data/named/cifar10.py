"""CIFAR-10 in its binary layout: six batches of 10,000 images, loose or in the archive."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from hessscope.errors import DataError
from hessscope.loaders.data.named.base import Content, NamedSet
from hessscope.loaders.data.named.downloads import RemoteFile, read_bytes

_BATCHES = {
    "train": tuple(f"data_batch_{i}.bin" for i in range(1, 6)),
    "test": ("test_batch.bin",),
}
_ARCHIVE = "cifar-10-binary.tar.gz"
_RECORD = 1 + 3 * 32 * 32


@dataclass(frozen=True)
class CifarSet(NamedSet):
    """CIFAR-10 as its authors publish it for C programs (the Python version is pickles).

    Attributes:
        mirrors: base addresses of the archive.
        checksum: SHA-256 of the archive.
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
    checksum: str = "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"
    full: ClassVar[Mapping[str, int]] = {"train": 50_000, "test": 10_000}

    def read(self, root: Path, split: str) -> Content | None:
        """Images (N, 3, 32, 32) and labels (N,), bytes.

        Raises:
            DataError: a file is damaged or no CIFAR-10 batch.
        """
        batches: dict[str, bytes] = {}
        for folder in self.folders:
            found = {name: self.find(root / folder, name) for name in _BATCHES[split]}
            batches = batches or {name: read_bytes(path) for name, path in found.items() if path}
        archives = [root / folder / _ARCHIVE for folder in self.folders]
        archive = next((path for path in archives if path.is_file()), None)
        if archive and not batches:
            batches = _read_archive(archive, _BATCHES[split])
        if not batches:
            return None
        parsed = [parse_cifar10(content, name) for name, content in batches.items()]
        images, labels = (np.concatenate(parts) for parts in zip(*parsed, strict=True))
        some = len(batches) < len(_BATCHES[split])
        names = ", ".join(name.removesuffix(".bin") for name in batches)
        return images, labels, self.partial(len(images), split, f" ({names} only)" * some)

    def remote(self, split: str) -> tuple[RemoteFile, ...]:
        """The archive, which holds both splits."""
        urls = tuple(mirror + _ARCHIVE for mirror in self.mirrors)
        return (RemoteFile(_ARCHIVE, self.checksum, urls),)

    def looked_for(self, root: Path, split: str) -> str:
        """What ``read`` looked for, in words."""
        names = [name for part in _BATCHES if split in (part, "all") for name in _BATCHES[part]]
        return f"{', '.join(names)} or {_ARCHIVE} (not the pickles of the Python version)"


def _read_archive(path: Path, names: tuple[str, ...]) -> dict[str, bytes]:
    """The batches in the archive, in order; nothing is unpacked to disk."""
    contents = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(read_bytes(path))) as archive:
            for member in archive:
                if member.isfile() and (stream := archive.extractfile(member)):
                    contents[Path(member.name).name] = stream.read()
    except tarfile.TarError as error:
        raise DataError(
            f"{path} cannot be read ({error}); if it is damaged, delete it and get it again."
        ) from error
    return {name: contents[name] for name in names if name in contents}


def parse_cifar10(content: bytes, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Parse CIFAR-10 records: a label byte, then 3,072 pixels (channel, row, column).

    Returns:
        Images, uint8 of shape (N, 3, 32, 32), and labels, uint8 of shape (N,).

    Raises:
        DataError: the length is no multiple of 3,073 bytes, or a label is above 9.
    """
    count, rest = divmod(len(content), _RECORD)
    if rest or not count:
        raise DataError(
            f"{name} is no CIFAR-10 binary batch, or is cut short: {len(content):,} bytes are "
            f"{count:,} records of {_RECORD:,} bytes and {rest:,} more."
        )
    records = np.frombuffer(content, dtype=np.uint8).reshape(count, _RECORD)
    labels = records[:, 0].copy()
    if labels.max() > 9:
        raise DataError(
            f"{name} is no CIFAR-10 binary batch: record {int(labels.argmax()):,} has label "
            f"{labels.max()}, the largest there is 9 (CIFAR-100 has another layout)."
        )
    return np.ascontiguousarray(records[:, 1:]).reshape(count, 3, 32, 32), labels


CIFAR10 = CifarSet()
