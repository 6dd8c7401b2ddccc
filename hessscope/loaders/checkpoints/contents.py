"""Contents of a checkpoint file: networks made from them, and files with other weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hessscope.errors import ArchitectureError, CheckpointError, OptionError
from hessscope.loaders import integrity
from hessscope.loaders.checkpoints import perceptrons, state_dicts
from hessscope.loaders.checkpoints.checkpoint import (
    ASSUMED,
    GIVEN,
    IN_FILE,
    INFERRED,
    NOT_THERE,
    Checkpoint,
    StoredSetting,
)
from hessscope.loaders.checkpoints.finding import Found, find_weights
from hessscope.loaders.checkpoints.formats import Stored, recognise
from hessscope.loaders.checkpoints.model_sources import ModelSource
from hessscope.loaders.checkpoints.optimizer_states import optimizers_in
from hessscope.loaders.checkpoints.raw_files import RawFile, reading
from hessscope.parameters import ParameterLayout
from hessscope.records import write_atomically
from hessscope.torch_internals import saved, without_wrapper

PICKLED_MODULE = "pickled module"

_NARROW = {"bfloat16", "float16"}
# Names of tensors that are stored and not trained.
_RUNNING = ("running_mean", "running_var", "num_batches_tracked", "inv_freq")


@dataclass(frozen=True)
class Contents:
    """What a checkpoint file holds.

    Attributes:
        raw: the file.
        key: where in the file the network is.
        stored: what its format found in it; the architecture and kind are those of the network.
        found: the network, with its tensors on their own, and what stood beside it.
    """

    raw: RawFile
    key: str | None
    stored: Stored
    found: Found

    @classmethod
    def of(cls, raw: RawFile, key: str | None, stored: Stored) -> Contents:
        """Find the network; raises ``CheckpointError`` where there is none that can be used."""
        found = find_weights(stored.content, key)
        module, tensors, notes = found.module, found.state, found.notes
        if module is None and (own := StoredSetting.within(stored.content)) is not None:
            stored = replace(stored, architecture=own.architecture)
        if module is not None and stored.globals:
            module = without_wrapper(module)
            name = type(module).__name__
            pickled = (n for n in stored.globals if n.rpartition(".")[2] == name)
            architecture = next(pickled, f"{type(module).__module__}.{name}")
            stored = replace(stored, kind=PICKLED_MODULE, architecture=architecture)
        if module is not None:
            tensors = module.state_dict()
        state = {
            name: value.detach() if value.requires_grad else value
            for name, value in tensors.items()
            if isinstance(value, torch.Tensor)
        }
        integrity.check_expanded(raw.path, state.values(), CheckpointError)
        state_dicts.check_kinds(state)
        if not raw.checked:
            unseen = "the file carries no checksums: damage to its numbers cannot be seen"
            notes = (*notes, unseen)
        optimizers = optimizers_in(stored.content) if module is None else {}
        metadata = {**found.metadata, **optimizers, **stored.metadata}
        return cls(raw, key, stored, Found(state, module, metadata, notes, found.parts))

    def is_made_by(self, source: ModelSource | None) -> bool:
        """Whether nothing was given, or the code of a whole pickled module."""
        if source is None or self.stored.kind != PICKLED_MODULE:
            return source is None
        kind = type(self.found.module)
        return source.target is kind or source.names().get(kind.__name__) is kind

    def as_it_is(self, module: nn.Module, source: ModelSource | None) -> Checkpoint:
        """The module in the file, compared with what its given class makes without arguments.

        Unpickling fills any class of the right name; the wrong one would fail much later, if at
        all.
        """
        try:
            fresh = source.make() if source is not None else None
        except ArchitectureError:
            fresh = None
        if fresh is not None and source is not None:
            try:
                state_dicts.fill(fresh, self.found.state, source.label)
            except ArchitectureError as error:
                raise ArchitectureError(f"the pickled module is of other code: {error}") from error
        return self._with(module, self.stored.architecture or "", IN_FILE, self.found.state)

    def as_configured(self, activation: str | None, trust: bool) -> Checkpoint:
        """The network that the configuration beside the weights names, with these weights.

        It gets the data type of the file; where that has several, the wider one in which all
        agree.
        """
        named = self.stored.architecture or ""
        _refuse_activation(activation, named)
        assert self.stored.network is not None
        model = self.stored.network(dict(self.found.state), trust)
        held = model.state_dict(keep_vars=True)
        used = {
            name: there
            for name, there in self.found.state.items()
            if name in held and torch.equal(held[name].detach().to(there.dtype), there)
        }
        kinds = {v.dtype for v in self.found.state.values() if v.is_floating_point()}
        if len(kinds) == 1:
            cast = [(v, v.data.to(*kinds)) for v in held.values() if v.is_floating_point()]
            if all(torch.equal(narrow.to(own.dtype), own.data) for own, narrow in cast):
                for own, narrow in cast:
                    own.data = narrow
        return self._with(model, named, IN_FILE, used)

    def put_into(self, source: ModelSource, origin: str, activation: str | None) -> Checkpoint:
        """The network that a factory makes, with the weights in the file."""
        _refuse_activation(activation, source.label)
        model = source.make()
        notes, used = state_dicts.fill(model, self.found.state, source.label)
        return self._with(model, source.label, origin, used, notes)

    def as_perceptron(self, spec: str | None, activation: str | None) -> Checkpoint:
        """The plain perceptron that the shapes stand for, which has to be that of ``spec``."""
        parts = self.found.parts
        if parts:
            raise ArchitectureError(
                f"it holds weights under {', '.join(parts[:6])}. Choose one with "
                f"`key={parts[0]}`, or give the network that they make up together: "
                "`model=file.py:factory`"
            )
        state, notes = state_dicts.strip_wrappers(self.found.state)
        wanted = spec or self.stored.architecture
        parsed = (
            perceptrons.parse_perceptron(wanted) if wanted and wanted.startswith("mlp:") else None
        )
        try:
            layers = perceptrons.infer_perceptron(state, ordered=self.stored.ordered)
        except ArchitectureError as error:
            unfit = f"the weights do not fit {wanted}: " if parsed is not None else ""
            raise ArchitectureError(f"{unfit}{error}") from error
        stated = parsed.activation if parsed else None
        if len({type(perceptrons.make_activation(n)) for n in (stated, activation) if n}) > 1:
            raise OptionError(f"the activation is given twice: '{stated}' and '{activation}'")
        said = activation or stated
        model = perceptrons.MultiLayerPerceptron(layers, said or "relu")
        if parsed is not None and parsed.sizes != model.sizes:
            raise ArchitectureError(
                f"the weights do not fit {wanted}: the file's layers are "
                f"{'-'.join(map(str, model.sizes))}"
            )
        keys = {f"{layer.name}.weight": layer.weight_key for layer in layers}
        keys |= {f"{layer.name}.bias": layer.bias_key for layer in layers
                 if layer.bias_key is not None}  # fmt: skip
        if keys.keys() != state.keys():
            renamed = ", ".join(f"{layer.weight_key} → {layer.name}.weight" for layer in layers[:3])
            notes.append(f"entries renamed: {renamed}")
        named = {name: state[key] for name, key in keys.items()}
        _, used = state_dicts.fill(model, named, "the network inferred from it")
        origin = GIVEN if spec else IN_FILE if parsed else INFERRED
        if origin == IN_FILE or len(layers) == 1:  # there is nothing to compare
            return self._with(model, model.spec, origin, used, notes)
        return self._with(
            model, model.spec, origin, used, notes,
            activation_source=GIVEN if said else ASSUMED,
            activation_candidates=() if said else perceptrons.ACTIVATION_CANDIDATES,
        )  # fmt: skip

    def as_tensors(self) -> Checkpoint:
        """The tensors, in a module that cannot be called."""
        holder = nn.Module()
        shared: dict[tuple[object, ...], nn.Parameter] = {}
        for name, tensor in self.found.state.items():
            if name in self.stored.buffers or _is_buffer(name.rpartition(".")[2], tensor):
                state_dicts.place(holder, name, tensor)
            else:
                memory = (tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.numel() or name)
                parameter = nn.Parameter(tensor, requires_grad=False)
                state_dicts.place(holder, name, shared.setdefault(memory, parameter))
        return self._with(holder, "unknown", NOT_THERE, {})

    def _with(
        self, model: nn.Module, architecture: str, origin: str, used: state_dicts.State,
        notes: Sequence[str] = (), **activation: Any,
    ) -> Checkpoint:  # fmt: skip
        """The result; ``used`` are tensors of the file by their names in the model."""
        found = self.found
        stored = {id(tensor): name for name, tensor in reversed(found.state.items())}
        entries = {name: stored[id(t)] for name, t in used.items() if id(t) in stored}
        narrow = {str(p.dtype).removeprefix("torch.") for p in model.parameters()} & _NARROW
        if narrow:
            cast = f"weights in {' and '.join(sorted(narrow))} are cast up for the computation"
            notes = (*notes, cast)
        return Checkpoint(
            self.raw.path, model.eval(), self.stored.kind, architecture, origin, self.raw.sha256,
            metadata=found.metadata, notes=(*found.notes, *notes), entries=entries,
            key=self.key, **activation,
        )  # fmt: skip


def _refuse_activation(activation: str | None, label: str) -> None:
    if activation is not None:
        raise OptionError(
            "`activation` can be given only for inferred networks and mlp:…; that of "
            f"{label} is in its code"
        )


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
    model = checkpoint.model
    with reading(checkpoint.path):
        file = RawFile.read(checkpoint.path)
    if file.sha256 != checkpoint.sha256:
        raise CheckpointError(
            f"{checkpoint.path} has changed since it was read, so that no checkpoint like it can "
            "be written: put the old file back"
        )
    cast: dict[int, torch.Tensor] = {}  # by parameter: tied weights stay one tensor
    for name, part in ParameterLayout.of(model).unflatten(theta.detach().cpu()).items():
        own = model.get_parameter(name)
        dtype = own.dtype if keep_dtype else torch.promote_types(own.dtype, part.dtype)
        cast[id(own)] = part.to(dtype).clone()
    named = model.state_dict(keep_vars=True).items()
    new = {name: cast[id(value)] for name, value in named if id(value) in cast}
    notes: tuple[str, ...] = ()
    entries = [(checkpoint.entries.get(name), value) for name, value in new.items()]
    weights = {name: value for name, value in entries if name is not None}
    try:
        if any(name is None or not torch.equal(weights[name], value) for name, value in entries):
            raise CheckpointError("its weights are not tensors in the file")
        content = recognise(file).write(file, weights, model, checkpoint.key)
    except CheckpointError as error:
        state = {**model.state_dict(), **new}
        plain = {checkpoint.entries.get(k, k): v.detach().clone() for k, v in state.items()
                 if isinstance(v, torch.Tensor)}  # fmt: skip
        content = saved(plain)
        notes = (
            f"the checkpoint is written as a plain state dict, and not as {checkpoint.format} "
            f"({error}): load it into the module with load_state_dict",
        )
    if announce is not None:
        announce(content)
    write_atomically(path, content, overwrite)
    return notes
