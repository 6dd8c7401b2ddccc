"""What a source hands over before anything is done to it, whatever kind of source it was."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hessscope.objective.nesting import Nested


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
