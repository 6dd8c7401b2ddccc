"""Checks of a file before it is read: its kind, the room that it needs, the checksums in a zip."""

from __future__ import annotations

import copy
import gzip
import stat
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

import torch

from hessscope.errors import HessscopeError
from hessscope.limits import free_memory

_BLOCK = 1 << 20


def check_file(path: Path, failure: type[HessscopeError], *, whole: bool = True) -> None:
    """Refuse empty and too large files, and devices and pipes, which may deliver for ever.

    Args:
        path: of the file.
        failure: kind of the error.
        whole: whether all of it is going to be in memory at once.

    Raises:
        HessscopeError: of the kind ``failure``.
    """
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise failure(f"{path} is a device, a pipe or a socket; an ordinary file is needed")
    if found.st_size == 0:
        raise failure(f"{path} is empty (0 bytes); copy or download it again")
    if whole:
        check_room(path, found.st_size, failure)


def check_room(path: Path, needed: int, failure: type[HessscopeError]) -> None:
    """Refuse content that needs more bytes than the machine has free.

    Raises:
        HessscopeError: of the kind ``failure``.
    """
    free = free_memory()
    if needed > free:
        raise failure(
            f"{path} holds {needed / 1e9:,.1f} GB when it is read, and {free / 1e9:,.1f} GB of "
            "memory are free: the file is crafted or damaged, or needs a larger machine"
        )


def check_expanded(
    path: Path, tensors: Iterable[torch.Tensor], failure: type[HessscopeError]
) -> None:
    """Refuse tensors that repeat a few stored numbers more often than memory can hold.

    Raises:
        HessscopeError: of the kind ``failure``.
    """
    sizes = [(v.numel() * v.element_size(), v) for v in tensors if v.layout == torch.strided]
    check_room(
        path,
        sum(size for size, v in sizes if not v.is_meta and size > v.untyped_storage().nbytes()),
        failure,
    )


def check_zip(path: Path, failure: type[HessscopeError], stream: IO[bytes] | None = None) -> bool:
    """Compare every entry of a zip archive with its CRC-32.

    Args:
        path: the archive.
        failure: kind of the error.
        stream: read in place of ``path``.

    Returns:
        Whether the archive carries checksums. torch writes zeros in their place where
        ``torch.serialization.set_crc32_options(False)`` was called.

    Raises:
        HessscopeError: of the kind ``failure``, naming the entry that is damaged, that is there
            twice, or that does not fit in memory.
    """
    where = ""
    try:
        with zipfile.ZipFile(stream or path) as archive:
            entries = archive.infolist()
            names = Counter(entry.filename.lower() for entry in entries)
            for name in (name for name, count in names.items() if count > 1):
                raise failure(f"{path} is damaged or crafted: it has two entries called '{name}'")
            check_room(path, sum(entry.file_size for entry in entries), failure)
            stamped = any(entry.CRC for entry in entries)
            for entry in entries if stamped else ():
                where = f": its entry '{entry.filename}' is not what was written"
                with archive.open(entry) as content:
                    size = sum(map(len, blocks(content)))
                if size != entry.file_size:
                    raise EOFError(f"{size:,} bytes of {entry.file_size:,}")
            return stamped
    except HessscopeError:
        raise
    except Exception as error:  # a damaged directory may raise anything
        said = " ".join(str(error).split())[:160] or type(error).__name__
        raise failure(
            f"{path} is a truncated or damaged zip file{where} ({said}); copy or download it again"
        ) from error


def read_entry(archive: zipfile.ZipFile, entry: str | zipfile.ZipInfo) -> bytes:
    """Content of an entry, compared with its CRC-32 where it carries one."""
    found = archive.getinfo(entry) if isinstance(entry, str) else entry
    if not getattr(found, "CRC", 0):
        found = copy.copy(found)
        del found.CRC  # zipfile compares what it has
    with archive.open(found) as stream:
        return stream.read()


def blocks(stream: IO[bytes] | gzip.GzipFile) -> Iterator[bytes]:
    """Read a stream to its end in blocks, so that its own checksum is compared, too."""
    while block := stream.read(_BLOCK):
        yield block
