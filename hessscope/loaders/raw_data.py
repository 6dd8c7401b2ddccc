"""What a source hands over before anything is done to it, whatever kind of source it was."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from hessscope.errors import DataError, OptionError, UnknownNameError
from hessscope.loaders.nesting import Nested, describe, examples, named_leaves

SPLITS = ("train", "test", "all")


@dataclass(frozen=True)
class RawData:
    """Examples of one split as they are stored.

    Attributes:
        inputs: (nested) tensors with N examples along the first dimension.
        targets: likewise, or None where the source has none.
        name: what to call the set in output ("mnist", "file.npz").
        split: "train", "test", or "all" where the source is not divided.
        notes: what a user should know ("10,000 of the 50,000 training images are there …").
        levels: what pixels of integer images are divided by.
        every_split: gives the inputs of all splits; statistics such as the per-pixel mean are
            taken over these, so that they are the same for each split and subset.
        preprocessing: what was done to the inputs before.
        dataset: the hessscope ``Dataset`` that this is, where it is one.
    """

    inputs: Nested
    targets: Nested | None
    name: str
    split: str
    notes: tuple[str, ...] = ()
    levels: int = 255
    every_split: Callable[[], list[Nested]] | None = None
    preprocessing: tuple[str, ...] = ()
    dataset: object = None


def check_split(split: str) -> str:
    """Return the split in lower case, or raise UnknownNameError."""
    if not isinstance(split, str):
        raise OptionError(f"split must be one of {', '.join(SPLITS)}, not {split!r}.")
    if split.lower() not in SPLITS:
        raise UnknownNameError("split", split, SPLITS)
    return split.lower()


def check_lengths(inputs: Nested, targets: Nested | None, name: str) -> int:
    """Return the number of examples N.

    Raises:
        DataError: there are none, or inputs and targets have different numbers of them.
    """
    count = examples(inputs, "inputs")
    if targets is not None:
        labelled = examples(targets, "targets")
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
    return count


def as_labels(targets: Nested | None) -> tuple[Nested | None, tuple[str, ...]]:
    """Give labels the integer type that losses expect (int64); anything else stays.

    A column of labels, shape (N, 1) with more than two values, is what Keras stores; it becomes
    a vector. With two values it may as well be meant for binary cross-entropy, and is kept.
    """
    if not isinstance(targets, torch.Tensor) or targets.is_floating_point():
        return targets, ()
    labels = targets.to(torch.int64)
    is_column = labels.ndim == 2 and labels.shape[1] == 1
    if is_column and labels.numel() and int(labels.max()) - int(labels.min()) > 1:
        return labels[:, 0].contiguous(), ("targets: one column of labels, taken as a vector",)
    return labels, ()
