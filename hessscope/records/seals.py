"""A checksum of a whole file in its first 512 bytes: damage is seen before anything is parsed.

HDF5 leaves these bytes to the user, and zip archives may begin anywhere, so sealed files stay
readable by other programs.
"""

from __future__ import annotations

import hashlib
from typing import BinaryIO

SIZE = 512
"""Bytes before the content."""

_MARK = b"hessscope sha256 "


def seal(stream: BinaryIO) -> None:
    """Write the SHA-256 of what follows the first 512 bytes into them."""
    line = _MARK + _digest(stream) + b"\n"
    stream.seek(0)
    stream.write(line.ljust(SIZE, b"\0"))


def is_sealed(stream: BinaryIO) -> bool:
    """Whether the file carries a checksum."""
    stream.seek(0)
    return stream.read(len(_MARK)) == _MARK


def is_whole(stream: BinaryIO) -> bool:
    """Whether the content is what it was when it was sealed."""
    if not is_sealed(stream):
        return False
    stored = stream.read(SIZE - len(_MARK))
    return stored == (_digest(stream) + b"\n").ljust(len(stored), b"\0")


def _digest(stream: BinaryIO) -> bytes:
    digest = hashlib.sha256()
    stream.seek(SIZE)
    while chunk := stream.read(1 << 22):
        digest.update(chunk)
    return digest.hexdigest().encode()
