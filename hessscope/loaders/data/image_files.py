"""The binary files in which image sets are published: IDX (MNIST) and the CIFAR-10 layout."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import numpy as np

from hessscope.errors import DataError
from hessscope.loaders.integrity import blocks, check_regular, check_room

_IDX_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_CIFAR_SHAPE = (3, 32, 32)
_CIFAR_RECORD = 1 + 3 * 32 * 32
_GZIP_MAGIC = b"\x1f\x8b"


def read_bytes(path: Path) -> bytes:
    """Read a file, unpacking it when its content (not its name) says gzip.

    Raises:
        DataError: the file cannot be read, is empty, its gzip stream is damaged or cut short, or
            there is not enough memory for it.
    """
    try:
        check_regular(path, DataError)
        check_room(path, path.stat().st_size, DataError)
        with path.open("rb") as file:
            start = file.read(2)
        if not start:
            raise DataError(f"{path} is empty; delete it and get the file again.")
        if start != _GZIP_MAGIC:
            return path.read_bytes()
        content = bytearray()
        with gzip.open(path) as stream:
            # The size that a gzip file states is not to be relied on.
            for block in blocks(stream):
                content += block
                check_room(path, len(content), DataError)
        return bytes(content)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(
            f"{path} is damaged or cut short (gzip: {error}); delete it and get the file again."
        ) from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error


def read_idx(path: Path) -> np.ndarray:
    """Read an IDX file, gzipped or not, as an array of the shape and type that it states.

    The format: two zero bytes, a type byte, the number of dimensions, each dimension as a
    big-endian 32-bit integer, then the values, big-endian, in C order.

    Raises:
        DataError: not an IDX file, or its length is not what its header says.
    """
    return parse_idx(read_bytes(path), str(path))


def parse_idx(content: bytes, name: str) -> np.ndarray:
    """Parse the bytes of an IDX file; ``name`` is for messages. See :func:`read_idx`."""
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in _IDX_TYPES:
        raise DataError(
            f"{name} is not an IDX file: it starts with bytes {content[:4].hex(' ') or '(none)'}."
        )
    dtype, ndim = np.dtype(_IDX_TYPES[content[2]]), content[3]
    start = 4 + 4 * ndim
    if len(content) < start:
        raise DataError(f"{name} is cut short: it ends within its header.")
    shape = tuple(int.from_bytes(content[4 + 4 * i : 8 + 4 * i], "big") for i in range(ndim))
    # Python integers, before anything is allocated: a damaged header may state any size.
    expected = dtype.itemsize
    for length in shape:
        expected *= length
    found = len(content) - start
    if found != expected:
        problem = "is cut short" if found < expected else "is longer than its header says"
        raise DataError(
            f"{name} {problem}: shape {shape} needs {expected:,} bytes of values, "
            f"the file has {found:,}."
        )
    values = np.frombuffer(content, dtype=dtype, offset=start).reshape(shape)
    return values.astype(dtype.newbyteorder("="))


def read_cifar10(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read one CIFAR-10 binary batch, gzipped or not; see :func:`parse_cifar10`."""
    return parse_cifar10(read_bytes(path), str(path))


def parse_cifar10(content: bytes, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Parse CIFAR-10 records: a label byte, then 3,072 pixels (channel, row, column).

    Returns:
        Images, uint8 of shape (N, 3, 32, 32), and labels, uint8 of shape (N,).

    Raises:
        DataError: the length is no multiple of 3,073 bytes, or a label is above 9.
    """
    count, rest = divmod(len(content), _CIFAR_RECORD)
    if rest or not count:
        raise DataError(
            f"{name} is no CIFAR-10 binary batch, or is cut short: {len(content):,} bytes are "
            f"{count:,} records of {_CIFAR_RECORD:,} bytes and {rest:,} more."
        )
    records = np.frombuffer(content, dtype=np.uint8).reshape(count, _CIFAR_RECORD)
    labels = records[:, 0].copy()
    if labels.max() > 9:
        raise DataError(
            f"{name} is no CIFAR-10 binary batch: record {int(labels.argmax()):,} has label "
            f"{labels.max()}, the largest there is 9 (CIFAR-100 has another layout)."
        )
    images = np.ascontiguousarray(records[:, 1:]).reshape(count, *_CIFAR_SHAPE)
    return images, labels
