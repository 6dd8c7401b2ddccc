"""Examples that are read when they are asked for, in the place of a tensor."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch

from hessscope.errors import DataError, NonFiniteError

#: Numbers of examples, or a slice of them.
Which = slice | torch.Tensor
#: Examples that are read at once where all are read.
AT_ONCE = 256


class Rows:
    """N examples in a fixed order, each of the same shape, that stay where they are stored.

    Slices and picked examples are tensors, read anew each time. What a tensor of the same numbers
    gives, these give bit by bit.

    Args:
        read: gives the examples with some numbers, first dimension first.
        count: N.
        name: for messages.

    Raises:
        DataError: an example has another shape or type than the first one.
        NonFiniteError: NaN or infinity among the examples, when they are read.

    Example:
        >>> squares = Rows(lambda which: torch.arange(10)[which] ** 2, 10, "squares")
        >>> squares.map(lambda x: x / 2)[3:5]
        tensor([4.5000, 8.0000])
    """

    def __init__(self, read: Callable[[Which], torch.Tensor], count: int, name: str) -> None:
        self._read, self._name = read, name
        self._first = read(slice(0, 1))
        self.shape = torch.Size((count, *self._first.shape[1:]))
        self.dtype, self.ndim = self._first.dtype, self._first.ndim

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, which: Which) -> torch.Tensor:
        if isinstance(which, slice):
            which = slice(*which.indices(len(self)))
            if which == slice(0, 1, 1):
                return self._first
        part = self._read(which)
        if part.shape[1:] != self.shape[1:] or part.dtype != self.dtype:
            raise DataError(
                f"{self._name}: the first example is {self.dtype} of shape {tuple(self.shape[1:])},"
                f" and another one {part.dtype} of shape {tuple(part.shape[1:])}: all need one "
                "shape; pad them, or give data that fits into memory without `stream`"
            )
        summed = part.sum(dtype=torch.float64) if part.is_floating_point() else part.new_zeros(())
        if not bool(torch.isfinite(summed)) and not bool(torch.isfinite(part).all()):
            numbers = torch.arange(len(self))[which]
            raise NonFiniteError(
                f"{self._name}: values that are not finite (NaN or infinite) among the examples "
                f"{int(numbers.min())} to {int(numbers.max())}; remove or replace them."
            )
        return part

    def is_floating_point(self) -> bool:
        """As of a tensor."""
        return self.dtype.is_floating_point

    def is_complex(self) -> bool:
        """As of a tensor."""
        return self.dtype.is_complex

    def numel(self) -> int:
        """As of a tensor."""
        return self.shape.numel()

    def element_size(self) -> int:
        """As of a tensor."""
        return self.dtype.itemsize

    def split(self, size: int = AT_ONCE) -> Iterator[torch.Tensor]:
        """All examples, so many at a time."""
        for start in range(0, len(self), size):
            yield self[start : start + size]

    def map(self, function: Callable[[torch.Tensor], torch.Tensor]) -> Rows:
        """The same examples with a function applied that takes each by itself."""
        return Rows(lambda which: function(self[which]), len(self), self._name)

    def at(self, numbers: torch.Tensor) -> Rows:
        """Some of the examples, still unread."""
        return Rows(lambda which: self[numbers[which]], len(numbers), self._name)

    def read(self) -> torch.Tensor:
        """All of them, as a tensor."""
        whole = torch.empty(self.shape, dtype=self.dtype)
        for start in range(0, len(self), AT_ONCE):
            whole[start : start + AT_ONCE] = self[start : start + AT_ONCE]
        return whole
