"""Long vectors as rows of float32, in memory or in a file; every sum over them is in float64."""

from __future__ import annotations

import contextlib
import os
import zlib
from collections.abc import Iterator, Mapping
from typing import BinaryIO

import numpy as np
import torch

from hessscope.errors import MemoryLimitError, RecordError

State = Mapping[str, np.ndarray]

# Columns that are summed at once: what a processor keeps near, and the same wherever rows are.
_TILE = 1 << 14
# Bytes that are read at once from a file.
_BUFFER = 1 << 26


class StoredRows:
    """Rows of float32 that are worked on in blocks of columns, so that none of them is copied.

    A file is read and written by plain calls: no page of it is mapped into the process, and its
    memory is a buffer of 64 MB. Both ways give the same bits.

    Args:
        count: rows to make room for.
        n: length of a row.
        file: open for reading and writing, unbuffered; None for the memory.

    Raises:
        MemoryLimitError: the disk has no room for them; nothing was computed.
    """

    def __init__(self, count: int, n: int, file: BinaryIO | None = None) -> None:
        self.n, self._file = n, file
        # Taken now, and not when half of the work is done.
        if file is None:
            self._rows = torch.empty(count, n, dtype=torch.float32).zero_()
        else:
            _allocate(file, 4 * count * n)
        self._checks = np.zeros(count, dtype=np.uint32)

    def write(self, number: int, row: torch.Tensor) -> None:
        """Store a row, shape (n,), rounded to float32."""
        if self._file is None:
            self._rows[number] = row
            return
        content = _bytes(row.detach().to("cpu", torch.float32).contiguous().numpy())
        self._checks[number] = zlib.crc32(content)
        self._file.seek(4 * number * self.n)
        while content:
            content = content[self._file.write(content) :]

    def read(self, number: int) -> torch.Tensor:
        """A row, shape (n,), in memory of its own."""
        if self._file is None:
            return self._rows[number].clone()
        row = np.empty(self.n, dtype=np.float32)
        self._fill(row, number, 0)
        return torch.from_numpy(row)

    def blocks(self, count: int) -> Iterator[tuple[slice, torch.Tensor]]:
        """The first rows by columns: where, and what is there in float64, shape (count, width)."""
        wide = _TILE * max(1, _BUFFER // (4 * _TILE * max(count, 1)))
        buffer = np.empty((count, min(wide, self.n)), dtype=np.float32)
        for start in range(0, self.n, wide):
            stop = min(start + wide, self.n)
            if self._file is None:
                part = self._rows[:count, start:stop]
            else:
                for number in range(count):
                    self._fill(buffer[number, : stop - start], number, start)
                part = torch.from_numpy(buffer[:, : stop - start])
            for left in range(0, stop - start, _TILE):
                tile = part[:, left : left + _TILE].double()
                yield slice(start + left, start + left + tile.shape[1]), tile

    def remove_from(self, vector: torch.Tensor, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Make a vector orthogonal to the first rows, in place, by Gram–Schmidt done twice.

        Cost: three passes over the rows.

        Returns:
            The coefficients of either time, shape (count,).
        """
        first, second = torch.zeros(2, count, dtype=torch.float64)
        for columns, tile in self.blocks(count):
            first += tile @ vector[columns].double()
        for columns, tile in self.blocks(count):
            vector[columns] -= first @ tile
            second += tile @ vector[columns].double()
        for columns, tile in self.blocks(count):
            vector[columns] -= second @ tile
        return first.numpy(), second.numpy()

    def gram(self, count: int) -> np.ndarray:
        """Products of the first rows with each other, shape (count, count): one pass over them."""
        result = torch.zeros(count, count, dtype=torch.float64)
        for _, tile in self.blocks(count):
            result += tile @ tile.T
        return result.numpy()

    def combine(self, coefficients: np.ndarray, first: int) -> torch.Tensor:
        """Combinations of the rows from ``first`` on, shape (m, n), for coefficients (k, m)."""
        weights = torch.from_numpy(np.ascontiguousarray(coefficients.T, dtype=np.float64))
        result = torch.empty(len(weights), self.n, dtype=torch.float32)
        for columns, tile in self.blocks(first + weights.shape[1]):
            result[:, columns] = (weights @ tile[first:]).float()
        return result

    def state(self, count: int) -> State:
        """What gives back the first rows: themselves, or their checksums where a file has them."""
        if self._file is None:
            return {"rows": self._rows[:count].numpy()}
        os.fsync(self._file.fileno())
        return {"checks": self._checks[:count].copy()}

    def restore(self, state: State) -> None:
        """Take back the rows of a state.

        Raises:
            RecordError: the file does not hold them.
        """
        if self._file is None:
            self._rows[: len(state["rows"])] = torch.from_numpy(state["rows"])
            return
        for number, check in enumerate(state["checks"]):
            if zlib.crc32(_bytes(self.read(number).numpy())) != check:
                raise RecordError(f"row {number} of the basis does not match its checksum")
            self._checks[number] = check

    def _fill(self, part: np.ndarray, number: int, start: int) -> None:
        assert self._file is not None
        self._file.seek(4 * (number * self.n + start))
        left = _bytes(part)
        while left:
            read = self._file.readinto(left)  # type: ignore[attr-defined]
            if not read:
                raise RecordError("the file of the basis is shorter than it was made")
            left = left[read:]


def _bytes(row: np.ndarray) -> memoryview:
    return row.data.cast("B")


def _allocate(file: BinaryIO, size: int) -> None:
    """Take the space on the disk, as far as the file does not have it yet."""
    try:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
        else:
            file.truncate(size)
    except OSError as error:
        with contextlib.suppress(OSError):
            file.truncate(0)
        where = f" of {file.name}" if isinstance(file.name, str) else ""
        raise MemoryLimitError(
            f"the Lanczos basis needs {size / 1e9:.3g} GB on the disk{where} "
            f"({error.strerror or error}): free space, give fewer `steps` or another `out`, or "
            "take `reorthogonalize=none`"
        ) from error
