"""Settings that checkpoints of ``hessscope train`` state: network, data and loss.

A file written by ``hessscope train`` is an ordinary ``torch.save`` dictionary that
``torch.load(weights_only=True)`` opens. Its entry ``hessscope`` is a dictionary of plain values,
so that the file can be used without any option.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

KEY = "hessscope"


@dataclass(frozen=True)
class StoredSetting:
    """Network, data and loss of a training run; None is what cannot be written down.

    Attributes:
        architecture: ``mlp:784-25-10:relu``, or ``file.py:factory``.
        data: name, path or ``file.py:factory``.
        split: "train", "test" or "all".
        root: folder with local copies of the named data sets.
        subset: number of examples.
        subset_seed: which subset.
        resize: new image size.
        grayscale: colours were averaged.
        normalize: as the option `normalize`.
        targets: "inputs" for autoencoders.
        data_fingerprint: of the data that these options gave.
        loss: a name, or ``file.py:function``.
        l2: coefficient of the penalty.
    """

    architecture: str | None = None
    data: str | None = None
    split: str | None = None
    root: str | None = None
    subset: int | None = None
    subset_seed: int | None = None
    resize: str | None = None
    grayscale: bool | None = None
    normalize: str | None = None
    targets: str | None = None
    data_fingerprint: str | None = None
    loss: str | None = None
    l2: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain values, those that are None left out."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return {name: value for name, value in values.items() if value is not None}

    @classmethod
    def from_dict(cls, content: Mapping[Any, Any]) -> StoredSetting:
        """Take the entries that are of the right kind; a file may hold anything."""
        return cls(
            **{
                name: content[name]
                for name, kinds in _KINDS.items()
                if isinstance(content.get(name), kinds)
                and isinstance(content[name], bool) == (kinds is bool)
            }
        )


_KINDS: dict[str, Any] = {
    **{f.name: str for f in dataclasses.fields(StoredSetting)},
    "subset": int,
    "subset_seed": int,
    "grayscale": bool,
    "l2": (int, float),
}
