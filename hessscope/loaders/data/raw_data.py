"""Examples of one split as they are stored, before their preparation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hessscope.objective.data import Dataset, check_lengths
from hessscope.objective.nesting import Nested, as_tensors, concatenate


@dataclass(frozen=True)
class RawData:
    """Examples of one split as they are stored.

    Attributes:
        inputs: (nested) tensors with N examples along the first dimension.
        targets: likewise, or None where the source has none.
        name: what output calls the set ("mnist", "file.npz").
        split: "train", "test", or "all" where the source is not divided.
        notes: what a user should know ("10,000 of the 50,000 training images are there …").
        levels: what pixels of integer images are divided by.
        every_split: gives the inputs of all splits; statistics such as the per-pixel mean are
            taken over these, so that they are the same for each split and subset.
        dataset: the prepared data set that these examples come from, where there is one.
    """

    inputs: Nested
    targets: Nested | None
    name: str
    split: str
    notes: tuple[str, ...] = ()
    levels: int = 255
    every_split: Callable[[], list[Nested]] | None = None
    dataset: Dataset | None = None

    @classmethod
    def of(
        cls,
        inputs: object,
        targets: object,
        name: str,
        split: str,
        notes: tuple[str, ...] = (),
        levels: int = 255,
    ) -> RawData:
        """Take arrays, lists of numbers, tuples and dicts of them, and check them.

        Raises:
            DataError: no numbers, no examples, or different numbers of inputs and targets.
        """
        x = as_tensors(inputs, "inputs")
        y = None if targets is None else as_tensors(targets, "targets")
        check_lengths(x, y, name)
        return cls(x, y, name, split, notes, levels)


def joined(
    parts: list[RawData], name: str, split: str, rest: Callable[[], list[Nested]]
) -> RawData:
    """Put the parts of a split together: itself, or for "all" train and test, so far as found.

    Args:
        parts: at least one.
        name: of the set.
        split: what was asked for.
        rest: gives the inputs that are not among the parts.
    """
    notes = [note for part in parts for note in part.notes]
    if split == "all" and len(parts) == 1:
        notes.append(f"no {'test' if parts[0].split == 'train' else 'train'} examples are there")
    both = f"{name}: train and test"
    inputs = concatenate([part.inputs for part in parts], both)
    labelled = all(part.targets is not None for part in parts)
    targets = concatenate([part.targets for part in parts], both) if labelled else None

    def every_split() -> list[Nested]:
        # Train first whatever was asked for, so that the sums come out the same.
        return [*rest(), inputs] if split == "test" else [inputs, *rest()]

    unique = tuple(dict.fromkeys(notes))
    return RawData(inputs, targets, name, split, unique, parts[0].levels, every_split)
