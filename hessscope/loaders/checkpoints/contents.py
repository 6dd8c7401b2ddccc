"""Contents of a checkpoint file: networks made from them, and files with other weights."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hessscope.errors import ArchitectureError, CheckpointError, OptionError
from hessscope.loaders.checkpoints.checkpoint import (
    ASSUMED,
    GIVEN,
    IN_FILE,
    INFERRED,
    NOT_THERE,
    Checkpoint,
)
from hessscope.loaders.checkpoints.formats import recognise
from hessscope.loaders.checkpoints.model_sources import ModelSource
from hessscope.loaders.checkpoints.perceptrons import (
    ACTIVATION_CANDIDATES,
    MultiLayerPerceptron,
    describe_perceptron,
    infer_perceptron,
    parse_perceptron,
    settle_activation,
)
from hessscope.loaders.checkpoints.raw_files import RawFile, reading
from hessscope.loaders.checkpoints.state_dicts import fill, place, strip_wrappers
from hessscope.parameters import ParameterLayout
from hessscope.records import write_atomically

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


def named_tensors(model: nn.Module, theta: torch.Tensor) -> dict[str, torch.Tensor]:
    """Cut θ, shape (n,), into the tensors of ``model.state_dict()`` that it makes.

    Shared parameters come under each of their names.
    """
    layout = ParameterLayout.of(model)
    trainable = [p for p in model.parameters() if p.requires_grad]
    parts = layout.unflatten(theta.detach().cpu()).values()
    values = {id(p): part for p, part in zip(trainable, parts, strict=True)}
    named = model.state_dict(keep_vars=True).items()
    return {name: values[id(tensor)] for name, tensor in named if id(tensor) in values}


def rounded(model: nn.Module, theta: torch.Tensor) -> torch.Tensor:
    """θ with each number rounded to the data type that it has in the model, shape (n,)."""
    layout = ParameterLayout.of(model)
    parts = layout.unflatten(theta.detach().cpu())
    return layout.flatten(
        {k: part.to(model.get_parameter(k).dtype).to(theta.dtype) for k, part in parts.items()}
    )


def write_checkpoint(
    checkpoint: Checkpoint,
    theta: torch.Tensor,
    path: Path,
    *,
    keep_dtype: bool = False,
    overwrite: bool = False,
    announce: Callable[[bytes], object] | None = None,
) -> tuple[str, ...]:
    """Write a checkpoint like the one that was read, with the parameters θ.

    The file is loaded again, its weights are exchanged, and it is saved by its format's own
    writer: names, nesting, and all that stood beside the weights are kept, and nothing in an
    untrusted file is run. Where that cannot be done (whole modules, archives that were not
    trusted, objects that are no plain data) a plain state dict is written.

    Args:
        checkpoint: as it was read; its file must still be there.
        theta: θ, shape (n,).
        path: where to.
        keep_dtype: write the data types of the file, rounded; by default θ's own where that is
            wider.
        overwrite: replace a file that is there.
        announce: called with the content before it is written.

    Returns:
        Notes on what was written, where that is not the same format.

    Raises:
        CheckpointError: the file has changed since it was read.
        OutputExistsError, RecordError: it cannot be written.
    """
    with reading(checkpoint.path):
        file = RawFile.read(checkpoint.path)
    if file.sha256 != checkpoint.sha256:
        raise CheckpointError(
            f"{checkpoint.path} has changed since it was read, so that no checkpoint like it can "
            "be written: put the old file back"
        )
    state = checkpoint.model.state_dict()
    new: dict[str, torch.Tensor] = {}
    cast: dict[int, torch.Tensor] = {}  # tied weights stay one tensor
    for name, value in named_tensors(checkpoint.model, theta).items():
        stored = state[name].dtype
        dtype = stored if keep_dtype else torch.promote_types(stored, value.dtype)
        new[name] = cast.setdefault(id(value), value.to(dtype).clone())
    notes: tuple[str, ...] = ()
    try:
        content = _alike(checkpoint, file, new)
    except CheckpointError as error:
        content = _plain(checkpoint, new)
        notes = (
            f"the checkpoint is written as a plain state dict, and not as {checkpoint.format} "
            f"({error}): load it into the module with load_state_dict",
        )
    if announce is not None:
        announce(content)
    write_atomically(path, content, overwrite)
    return notes


def _alike(checkpoint: Checkpoint, file: RawFile, new: Mapping[str, torch.Tensor]) -> bytes:
    """The file with other weights; raises ``CheckpointError`` where that cannot be made."""
    entries = [(checkpoint.entries.get(name), value) for name, value in new.items()]
    stored = {name: value for name, value in entries if name is not None}
    if any(name is None or not torch.equal(stored[name], value) for name, value in entries):
        raise CheckpointError("its weights are not tensors in the file")
    return recognise(file).write(file, stored, checkpoint.model, checkpoint.key)


def _plain(checkpoint: Checkpoint, new: Mapping[str, torch.Tensor]) -> bytes:
    """The state dict of the model, under the names of the file where there are such."""
    state = {**checkpoint.model.state_dict(), **new}
    named = {checkpoint.entries.get(k, k): v.detach().clone() for k, v in state.items()
             if isinstance(v, torch.Tensor)}  # fmt: skip
    buffer = io.BytesIO()
    torch.save(named, buffer)
    return buffer.getvalue()
