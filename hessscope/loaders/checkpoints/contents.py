"""Contents of a checkpoint file, and the networks made from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hessscope.errors import ArchitectureError, OptionError
from hessscope.loaders.checkpoints.checkpoint import (
    ASSUMED,
    GIVEN,
    IN_FILE,
    INFERRED,
    NOT_THERE,
    Checkpoint,
)
from hessscope.loaders.checkpoints.model_sources import ModelSource
from hessscope.loaders.checkpoints.perceptrons import (
    ACTIVATION_CANDIDATES,
    MultiLayerPerceptron,
    describe_perceptron,
    infer_perceptron,
    parse_perceptron,
    settle_activation,
)
from hessscope.loaders.checkpoints.state_dicts import fill, place, strip_wrappers

PICKLED_MODULE = "pickled module"

# Names of tensors that are stored and not trained.
_RUNNING = ("running_mean", "running_var", "num_batches_tracked", "inv_freq")


@dataclass(frozen=True)
class Contents:
    """What a checkpoint file holds.

    Attributes:
        path: of the file.
        sha256: of the file.
        key: where in the file the network is.
        kind: of the format.
        state: the named tensors.
        module: the network itself, where the file carries it.
        architecture: what is known about it.
        metadata: plain values beside the weights.
        notes: what was done that should be stated.
        ordered: the tensors are in the order in which they were written.
        buffers: names of tensors that are not trained, by the file.
        parts: keys under which parts of one network, or several, stood beside each other.
    """

    path: Path
    sha256: str
    key: str | None
    kind: str
    state: dict[str, torch.Tensor]
    module: nn.Module | None
    architecture: str | None
    metadata: Mapping[str, object]
    notes: tuple[str, ...]
    ordered: bool
    buffers: frozenset[str]
    parts: tuple[str, ...]

    def is_made_by(self, source: ModelSource | None) -> bool:
        """Whether nothing was given, or the code of a whole pickled module."""
        if source is None or self.kind != PICKLED_MODULE:
            return source is None
        kind = type(self.module)
        return source.target is kind or source.names().get(kind.__name__) is kind

    def as_it_is(self, source: ModelSource | None) -> Checkpoint:
        """The module in the file, compared with what its given class makes without arguments.

        Unpickling fills any class of the right name; the wrong one would fail much later, if at
        all.
        """
        assert self.module is not None
        try:
            fresh = source.make() if source is not None else None
        except ArchitectureError:
            fresh = None
        if fresh is not None and source is not None:
            try:
                fill(fresh, self.state, source.label)
            except ArchitectureError as error:
                raise ArchitectureError(f"the pickled module is of other code: {error}") from error
        return self._with(self.module, self.architecture or "", IN_FILE, used=self.state)

    def put_into(self, source: ModelSource, origin: str, activation: str | None) -> Checkpoint:
        """The network that a factory makes, with the weights in the file."""
        if activation is not None:
            raise OptionError(
                "`activation` can be given only for inferred networks and mlp:…; that of "
                f"{source.label} is in its code"
            )
        model = source.make()
        notes, used = fill(model, self.state, source.label)
        return self._with(model, source.label, origin, notes, used)

    def as_perceptron(self, spec: str | None, activation: str | None) -> Checkpoint:
        """The plain perceptron that the shapes stand for, which has to be that of ``spec``."""
        if self.parts:
            raise ArchitectureError(
                f"it holds weights under {', '.join(self.parts[:6])}. Choose one with "
                f"`key={self.parts[0]}`, or give the network that they make up together: "
                "`model=file.py:factory`"
            )
        state, notes = strip_wrappers(self.state)
        wanted = spec or self.architecture
        parsed = parse_perceptron(wanted) if wanted and wanted.startswith("mlp:") else None
        try:
            layers = infer_perceptron(state, ordered=self.ordered)
        except ArchitectureError as error:
            unfit = f"the weights do not fit {wanted}: " if parsed is not None else ""
            raise ArchitectureError(f"{unfit}{error}") from error
        sizes = (layers[0].inputs, *(layer.outputs for layer in layers))
        if parsed is not None and parsed.sizes != sizes:
            raise ArchitectureError(
                f"the weights do not fit {wanted}: the file's layers are "
                f"{'-'.join(map(str, sizes))}"
            )
        said = settle_activation(parsed.activation if parsed else None, activation)
        model = MultiLayerPerceptron(layers, said or "relu")
        named = {}
        for layer in layers:
            named[f"{layer.name}.weight"] = state[layer.weight_key]
            if layer.bias_key is not None:
                named[f"{layer.name}.bias"] = state[layer.bias_key]
        if set(named) != set(state):
            renamed = ", ".join(f"{layer.weight_key} → {layer.name}.weight" for layer in layers[:3])
            notes.append(f"entries renamed: {renamed}")
        _, used = fill(model, named, "the network inferred from it")
        origin = GIVEN if spec else IN_FILE if parsed else INFERRED
        doubtful: dict[str, Any] = {}
        if origin != IN_FILE and len(layers) > 1:  # else there is nothing to compare
            doubtful["activation_source"] = GIVEN if said else ASSUMED
            doubtful["activation_candidates"] = () if said else ACTIVATION_CANDIDATES
        return self._with(model, describe_perceptron(model), origin, notes, used, **doubtful)

    def as_tensors(self) -> Checkpoint:
        """The tensors, in a module that cannot be called."""
        holder = nn.Module()
        shared: dict[tuple[object, ...], nn.Parameter] = {}
        for name, tensor in self.state.items():
            if name in self.buffers or _is_buffer(name.rpartition(".")[2], tensor):
                place(holder, name, tensor)
            else:
                memory = (tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.numel() or name)
                parameter = nn.Parameter(tensor, requires_grad=False)
                place(holder, name, shared.setdefault(memory, parameter))
        return self._with(holder, "unknown", NOT_THERE)

    def _with(
        self, model: nn.Module, architecture: str, origin: str, notes: list[str] | None = None,
        used: Mapping[str, torch.Tensor] | None = None, **activation: Any,
    ) -> Checkpoint:  # fmt: skip
        """The result; ``used`` are tensors of the file by their names in the model."""
        stored = {id(tensor): name for name, tensor in reversed(self.state.items())}
        entries = {name: stored[id(t)] for name, t in (used or {}).items() if id(t) in stored}
        return Checkpoint(
            self.path, model.eval(), self.kind, architecture, origin, sha256=self.sha256,
            metadata=self.metadata, notes=(*self.notes, *(notes or ())), entries=entries,
            key=self.key, **activation,
        )  # fmt: skip


def _is_buffer(name: str, tensor: torch.Tensor) -> bool:
    """Whether a tensor is not trained, as far as it shows: statistics, integers, causal masks."""
    if name in _RUNNING or not tensor.is_floating_point():
        return True
    if tensor.ndim < 2 or tensor.shape[-1] != tensor.shape[-2] or tensor.shape[-1] < 2:
        return False
    filled = tensor != 0
    ones = torch.ones_like(filled)
    triangular = torch.equal(filled, ones.tril()) or torch.equal(filled, ones.triu(1))
    return triangular and bool((tensor[filled] == tensor[filled][0]).all())
