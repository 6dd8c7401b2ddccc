"""Trained networks, where they came from, and the settings that they state.

A file written by ``hessscope train`` is an ordinary ``torch.save`` dictionary that
``torch.load(weights_only=True)`` opens. Its entry ``hessscope`` is a dictionary of plain values,
so that the file can be used without any option.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from hessscope.errors import ArchitectureError
from hessscope.loaders.checkpoints.model_sources import ModelLike, resolve_model
from hessscope.loaders.checkpoints.perceptrons import MultiLayerPerceptron
from hessscope.loaders.checkpoints.state_dicts import check_finite, digest_of_state, fill

IN_FILE = "in the file"
GIVEN = "given"
INFERRED = "inferred from the shapes"
ASSUMED = "assumed"
COMPARED = "compared"
NOT_THERE = "not in the file"
#: What stands for the path of a model that is in no file.
IN_MEMORY = "in memory"


class Layer(NamedTuple):
    """One parameter tensor: its name in the model, its shape and its data type."""

    name: str
    shape: tuple[int, ...]
    dtype: str

    @property
    def parameters(self) -> int:
        """Number of entries."""
        return int(torch.Size(self.shape).numel())


@dataclass(frozen=True)
class Checkpoint:
    """A trained network and where it came from.

    ``model`` is in evaluation mode, with its weights as they are stored. ``format`` is the
    kind of file, ``architecture`` and ``architecture_source`` what network it is and how
    that is known. ``activation_source`` is set for networks inferred from the shapes only, and
    ``activation_candidates`` where the activation was assumed. ``metadata`` are plain values
    found beside the weights, ``notes`` what was done that should be stated. ``entries`` are the
    names that the model's tensors have in the file, where it is a state dict, ``key`` tells where
    in the file that is, if it was given.
    """

    path: Path
    model: nn.Module
    format: str
    architecture: str
    architecture_source: str
    sha256: str
    activation_source: str | None = None
    metadata: Mapping[str, object] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    activation_candidates: tuple[str, ...] = ()
    entries: Mapping[str, str] = field(default_factory=dict)
    key: str | None = None

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The parameter tensors, in the model's order."""
        return _described(dict(self.model.named_parameters()))

    @property
    def buffers(self) -> tuple[Layer, ...]:
        """Tensors that are stored but not trained (running means and the like)."""
        return _described(dict(self.model.named_buffers()))

    @property
    def parameters(self) -> int:
        """Number of parameters, shared ones counted once."""
        return sum(value.numel() for value in self.model.parameters())

    def with_activation(self, name: str, source: str = GIVEN) -> Checkpoint:
        """Give the same weights with another activation (inferred networks only).

        Raises ``UnknownNameError`` for an unknown name and ``ArchitectureError`` for a network
        whose activation is not in doubt.
        """
        if self.activation_source is None or not isinstance(self.model, MultiLayerPerceptron):
            raise ArchitectureError(
                f"the activation of {self.path} is fixed by its architecture "
                f"({self.architecture}, {self.architecture_source})"
            )
        model = self.model.with_activation(name).eval()
        return replace(self, model=model, architecture=model.spec, activation_source=source)


def _described(tensors: Mapping[str, torch.Tensor]) -> tuple[Layer, ...]:
    return tuple(
        Layer(name, tuple(value.shape), str(value.dtype).removeprefix("torch."))
        for name, value in tensors.items()
    )


def in_memory(model: nn.Module) -> Checkpoint:
    """A checkpoint of a model that is in no file, as it stands, known by a digest of its state.

    Raises:
        NonFiniteError: NaN or infinity among the weights.
    """
    check_finite(model)
    return Checkpoint(
        Path(IN_MEMORY), model, IN_MEMORY, type(model).__name__, GIVEN, digest_of_state(model)
    )


def with_weights(model: ModelLike, state: Mapping[str, torch.Tensor]) -> nn.Module:
    """A copy of a model with the weights of a state_dict.

    Raises:
        ArchitectureError: they do not fit.
    """
    source = resolve_model(model)
    made = source.make()
    fill(made, dict(state), source.label)
    return made


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
        return {name: value for name, value in vars(self).items() if value is not None}

    @classmethod
    def within(cls, content: object) -> StoredSetting | None:
        """What a file states under ``KEY``, as far as it is of the right kind; a file may hold
        anything. None where it states nothing.
        """
        own = content.get(KEY) if isinstance(content, Mapping) else None
        if not isinstance(own, Mapping):
            return None
        kinds = {f.name: _KINDS.get(f.name, (str,)) for f in dataclasses.fields(cls)}
        return cls(**{name: own[name] for name, of in kinds.items() if type(own.get(name)) in of})


_KINDS: Mapping[str, tuple[type, ...]] = {
    "subset": (int,),
    "subset_seed": (int,),
    "grayscale": (bool,),
    "l2": (int, float),
}
