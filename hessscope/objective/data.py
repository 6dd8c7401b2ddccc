"""Data sets: finite, ordered, preprocessed examples with a fingerprint."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable
from dataclasses import dataclass

import torch

from hessscope.errors import DataError, NonFiniteError, UnknownNameError
from hessscope.objective.nesting import (
    Nested,
    as_tensors,
    describe,
    examples,
    named_leaves,
)
from hessscope.objective.rows import Rows
from hessscope.options.data import SPLITS
from hessscope.registry import READERS

#: Raise it when the same preprocessing in words starts to give other numbers.
_SCHEME = "hessscope data 1"
#: The step of autoencoders.
TARGETS_ARE_INPUTS = "targets are the inputs"


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """Examples in a fixed order, as a network gets them.

    Attributes:
        inputs: a tensor, or a tuple or dict of tensors, with N examples along the first
            dimension. Images are float32 (N, channels, rows, columns).
        targets: likewise; class labels are int64 of shape (N,).
        name: "mnist", "file.npz", …
        split: "train", "test", or "all".
        preprocessing: what was done, in order, to be shown to a user.
        fingerprint: SHA-256 over the content (bytes, shapes, types) and the preprocessing.
        notes: what a user should know about what was found.
    """

    inputs: Nested
    targets: Nested
    name: str
    split: str
    preprocessing: tuple[str, ...]
    fingerprint: str
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        """Return the number of examples N."""
        return int(next(named_leaves(self.inputs))[1].shape[0])

    def __repr__(self) -> str:
        """Return what it is in one line."""
        return (
            f"Dataset({self.name}, split {self.split}, {len(self):,} examples, inputs "
            f"{describe(self.inputs)}, targets {describe(self.targets)}, {self.fingerprint[:12]})"
        )

    @classmethod
    def from_tensors(
        cls,
        inputs: object,
        targets: object,
        name: str = "in memory",
        split: str = "all",
        preprocessing: tuple[str, ...] = (),
        notes: tuple[str, ...] = (),
    ) -> Dataset:
        """Make a data set of tensors or arrays as they are; nothing is scaled.

        Raises:
            DataError: no examples, or inputs and targets of different length.
            NonFiniteError: NaN or infinity in them.
        """
        if split not in SPLITS:
            raise UnknownNameError("split", split, SPLITS)
        x, y = as_tensors(inputs, "inputs"), as_tensors(targets, "targets")
        check_lengths(x, y, name)
        y, column_notes = as_labels(y)
        check_finite(x, "inputs", name)
        check_finite(y, "targets", name)
        print_ = fingerprint([("inputs", x), ("targets", y)], preprocessing)
        return cls(x, y, name, split, preprocessing, print_, (*notes, *column_notes))


def as_dataset(source: object) -> Dataset:
    """Return a ``Dataset`` as it is, and read anything else as ``hs.load_data`` does."""
    return source if isinstance(source, Dataset) else READERS["data"](source)


def check_lengths(inputs: Nested, targets: Nested | None, name: str) -> None:
    """Refuse data without examples, or with other numbers of inputs than of targets.

    Raises:
        DataError: there are none, or inputs and targets have different numbers of them.
    """
    count = examples(inputs, "inputs")
    labelled = count if targets is None else examples(targets, "targets")
    if labelled != count:
        raise DataError(
            f"{name}: {count:,} inputs but {labelled:,} targets "
            f"(inputs {describe(inputs)}, targets {describe(targets)})."
        )
    if count == 0:
        raise DataError(f"{name}: there are no examples in it (inputs {describe(inputs)}).")
    for leaf, tensor in named_leaves(inputs, "inputs"):
        if tensor.numel() == 0:
            raise DataError(f"{name}: {leaf} has no values (shape {tuple(tensor.shape)}).")


def as_labels(targets: Nested | None) -> tuple[Nested | None, tuple[str, ...]]:
    """Give labels the integer type that losses expect (int64); anything else stays.

    A column of labels, shape (N, 1) with more than two values, is what Keras stores; it becomes
    a vector. With two values it may as well be meant for binary cross-entropy, and is kept.
    """
    if isinstance(targets, Rows) and not targets.is_floating_point():
        return targets.map(lambda labels: labels.to(torch.int64)), ()
    if not isinstance(targets, torch.Tensor) or targets.is_floating_point():
        return targets, ()
    labels = targets.to(torch.int64)
    is_column = labels.ndim == 2 and labels.shape[1] == 1
    if is_column and labels.numel() and int(labels.max()) - int(labels.min()) > 1:
        return labels[:, 0].contiguous(), ("targets: one column of labels, taken as a vector",)
    return labels, ()


def fingerprint(parts: Iterable[tuple[str, Nested]], text: Iterable[str] = ()) -> str:
    """Return the hexadecimal SHA-256 of named (nested) tensors and of some text.

    Every tensor counts with its name, type, shape and bytes (little-endian), every text with
    its length, so that nothing can pass over from one to the next.
    """
    digest = hashlib.sha256(_SCHEME.encode())
    for line in text:
        _update(digest, line.encode())
    for name, value in parts:
        for leaf, tensor in named_leaves(value, name):
            _update(digest, f"{leaf} {tensor.dtype} {tuple(tensor.shape)}".encode())
            for block in _blocks(tensor):
                digest.update(block)
    return digest.hexdigest()


def _update(digest: hashlib._Hash, text: bytes) -> None:
    digest.update(len(text).to_bytes(8, "little"))
    digest.update(text)


def _blocks(tensor: torch.Tensor) -> Iterable[memoryview]:
    """Bytes of the tensor in row order, some MB at a time, so that a view is never copied whole."""
    rows = tensor if tensor.ndim else tensor[None]
    size = max(1, rows[:1].numel() * rows.element_size())
    step = max(1, (1 << 24) // size)
    for start in range(0, rows.shape[0], step):
        block = rows[start : start + step].contiguous()
        if block.numel() == 0:
            continue
        raw = block.view(-1).view(torch.uint8).numpy()
        if sys.byteorder == "big" and block.element_size() > 1:
            raw = raw.reshape(-1, block.element_size())[:, ::-1].copy()
        yield raw.data


def check_finite(value: Nested, what: str, name: str) -> None:
    """Raise NonFiniteError where NaN or infinity stands in a (nested) tensor."""
    for leaf, tensor in named_leaves(value, what):
        if isinstance(tensor, Rows):
            continue  # looked at whenever it is read
        # One pass over the sum decides the usual case without a mask as large as the data.
        if not tensor.is_floating_point() or bool(torch.isfinite(tensor.sum(dtype=torch.float64))):
            continue
        finite = torch.isfinite(tensor)
        bad = int(finite.numel() - finite.sum())
        if bad == 0:
            continue
        nan = int(torch.isnan(tensor).sum())
        first = tuple(int(i) for i in (~finite).nonzero()[0])
        position = f", position {first[1:]}" if len(first) > 1 else ""
        raise NonFiniteError(
            f"{name}: {leaf} has {bad:,} of {tensor.numel():,} values that are not finite "
            f"({nan:,} NaN, {bad - nan:,} infinite), the first in example {first[0]}{position}; "
            "remove or replace them."
        )
