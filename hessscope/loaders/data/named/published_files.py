"""Published files, packed with gzip or not."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

from hessscope.errors import DataError
from hessscope.loaders.integrity import blocks, check_regular, check_room


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
        if start != b"\x1f\x8b":
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
