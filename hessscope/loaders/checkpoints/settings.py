"""What a checkpoint of hessscope's own says about itself: network, data and loss.

A file written by ``hessscope train`` is an ordinary ``torch.save`` dictionary that
``torch.load(weights_only=True)`` opens. Its entry ``hessscope`` is a dictionary of plain values,
from which the file can be used without being told what it was trained on.
"""

from __future__ import annotations

import dataclasses
import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

KEY = "hessscope"
_PERCEPTRON = re.compile(r"mlp:\d+(-\d+)+(:\w+)?")


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
        normalize: as in ``--normalize``.
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


def names_code(spec: object) -> bool:
    """Whether a specification names code to be run: ``file.py:function``, ``package:name``.

    All that has a colon does, but for a network in full (``mlp:784-25-10:relu``), of which no
    part can be the name of a file.
    """
    return isinstance(spec, str) and ":" in spec and not _PERCEPTRON.fullmatch(spec)


def spelled_out(spec: object) -> str | None:
    """A name, path or ``file.py:function`` so that it holds in any folder; None for objects."""
    if not isinstance(spec, (str, Path)):
        return None
    source, colon, name = str(spec).rpartition(":")
    if source.endswith(".py"):
        return f"{Path(source).expanduser().resolve()}{colon}{name}"
    path = Path(spec).expanduser()
    return str(path.resolve()) if path.suffix and path.is_file() else str(spec)


def checkpoint_bytes(
    weights: Mapping[str, torch.Tensor], setting: Mapping[str, Any], **beside: Any
) -> bytes:
    """Content of a checkpoint file.

    Args:
        weights: the state dict.
        setting: plain values, of which ``StoredSetting.as_dict`` are some.
        beside: further entries of the file, such as ``epoch``.
    """
    content = io.BytesIO()
    torch.save({"state_dict": dict(weights), KEY: dict(setting), **beside}, content)
    return content.getvalue()
