"""Trained networks from files: what is in the file, and the model ready to be evaluated."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from hessscope.errors import (
    ArchitectureError,
    AssumptionWarning,
    CheckpointError,
    NonFiniteError,
    OptionError,
    UntrustedCheckpointError,
)
from hessscope.loaders.checkpoints.formats import PICKLED_MODULE, PROGRAMS, Contents, read_contents
from hessscope.loaders.checkpoints.model_sources import ModelLike, ModelSource, resolve_model
from hessscope.loaders.checkpoints.perceptrons import (
    ACTIVATION_CANDIDATES,
    LinearLayer,
    MultiLayerPerceptron,
    describe_perceptron,
    infer_perceptron,
    linear_layers,
    make_activation,
    parse_perceptron,
    settle_activation,
)
from hessscope.loaders.checkpoints.settings import names_code
from hessscope.loaders.checkpoints.shards import content_sha256, weights_in
from hessscope.loaders.checkpoints.state_dicts import (
    check_finite,
    check_kinds,
    fill,
    strip_wrappers,
)

IN_FILE = "in the file"
GIVEN = "given"
INFERRED = "inferred from the shapes"
ASSUMED = "assumed"
COMPARED = "compared"
NOT_THERE = "not in the file"


IN_MEMORY = "in memory"
"""What stands for the path of a model that is in no file."""


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

    ``model`` is in evaluation mode, with its weights as they are stored. ``format`` says what
    kind of file it was, ``architecture`` and ``architecture_source`` what network it is and how
    that is known. ``activation_source`` is set for networks inferred from the shapes only, and
    ``activation_candidates`` where the activation was assumed. ``metadata`` are plain values
    found beside the weights, ``notes`` what was done that should be stated. ``entries`` are the
    names that the model's tensors have in the file, where it is a state dict, ``key`` says where
    in the file that is, if it was given.
    """

    path: Path
    model: nn.Module
    format: str
    architecture: str
    architecture_source: str
    activation_source: str | None
    sha256: str
    metadata: Mapping[str, object] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    activation_candidates: tuple[str, ...] = ()
    entries: Mapping[str, str] = field(default_factory=dict)
    key: str | None = None

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The parameter tensors, in the model's order."""
        return tuple(
            Layer(name, tuple(value.shape), str(value.dtype).removeprefix("torch."))
            for name, value in self.model.named_parameters()
        )

    @property
    def buffers(self) -> tuple[Layer, ...]:
        """Tensors that are stored but not trained (running means and the like)."""
        return tuple(
            Layer(name, tuple(value.shape), str(value.dtype).removeprefix("torch."))
            for name, value in self.model.named_buffers()
        )

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
        make_activation(name)
        layers = [
            LinearLayer(
                layer_name, layer.in_features, layer.out_features, "weight",
                None if layer.bias is None else "bias",
            )
            for layer_name, layer in linear_layers(self.model)
        ]  # fmt: skip
        model = MultiLayerPerceptron(layers, name)
        fill(model, dict(self.model.state_dict()), self.architecture)
        return replace(
            self,
            model=model.eval(),
            architecture=describe_perceptron(model),
            activation_source=source,
        )


def load_checkpoint(
    path: str | Path,
    model: ModelLike | None = None,
    activation: str | None = None,
    trust: bool = False,
    key: str | None = None,
) -> Checkpoint:
    """Open a trained network, whatever the format of its file.

    ``model`` gives the architecture where the file does not: a ``torch.nn.Module`` (a copy of it
    is filled), a factory or class without arguments, ``"file.py:factory"``,
    ``"package.module:factory"`` or ``"mlp:784-25-10:relu"``; a plain multi-layer perceptron is
    inferred from the shapes, with ``activation`` between its layers (ReLU is assumed, with an
    ``AssumptionWarning``). Nothing in the file runs unless ``trust`` is true; a whole pickled
    module then takes its class from the installed packages or from ``model``, and a TorchScript
    or ``torch.export`` archive is run by torch. ``key`` says which network is meant where there
    are several: the keys that lead to it, joined by dots, or a prefix of its names.

    Raises :class:`CheckpointError` where the file cannot be used, its subclasses
    ``UntrustedCheckpointError`` and ``ArchitectureError``, and ``NonFiniteError`` for NaN or
    infinity in the weights.
    """
    checkpoint = read_checkpoint(path, model, activation, trust, key)
    if checkpoint.activation_source == ASSUMED:
        warnings.warn(
            f"the activation of {checkpoint.path.name} is not in the file: relu is assumed; "
            "state it with activation= (--activation)",
            AssumptionWarning,
            stacklevel=2,
        )
    return checkpoint


def read_checkpoint(
    path: str | Path,
    model: ModelLike | None = None,
    activation: str | None = None,
    trust: bool = False,
    key: str | None = None,
) -> Checkpoint:
    """Open a trained network as :func:`load_checkpoint` does, without the warning.

    For callers that look at ``activation_source`` and ``activation_candidates`` themselves.
    """
    path = _file_of(path)
    if activation is not None:
        make_activation(activation)  # refuses unknown names before the file is read
    perceptron = isinstance(model, str) and model.startswith("mlp:")
    if perceptron:
        parse_perceptron(str(model))
    source = resolve_model(model) if model is not None and not perceptron else None
    contents = read_contents(
        path, source.supply() if source else None,
        trust=trust, key=key, weights_only=model is not None,
    )  # fmt: skip
    module = contents.module
    if module is None and model is None and contents.format in PROGRAMS:
        raise UntrustedCheckpointError(
            f"{path} is a {contents.format} archive, whose program is code and is not run. Safe: "
            "give --model file.py:factory for its weights. If you trust the file: --trust"
        )
    stored = module is None and model is None and names_code(contents.architecture)
    if stored:
        source = _stored_source(path, str(contents.architecture), trust=trust)
    if module is not None and source is not None and _is_its_class(contents, source):
        _check_code(path, module, source)
        built = _from_file(contents)
    elif module is not None and source is None and not perceptron:
        built = _from_file(contents)
    elif source is not None:
        built = _from_source(path, contents, source, activation)
        built = replace(built, architecture_source=IN_FILE if stored else GIVEN)
    else:
        built = _from_shapes(path, contents, str(model) if perceptron else None, activation)
    try:
        check_finite(built.model)
    except NonFiniteError as error:
        raise NonFiniteError(f"{path}: {error}") from error
    return replace(built, path=path, sha256=content_sha256(path), key=key)


def in_memory(model: nn.Module) -> Checkpoint:
    """A checkpoint of a model that is in no file, as it stands, known by a digest of its state.

    Raises:
        NonFiniteError: NaN or infinity among the weights.
    """
    check_finite(model)
    digest = hashlib.sha256()
    for name, value in model.state_dict().items():
        described = f"{name} {tuple(value.shape)} {value.dtype}\n"
        content = value.detach().cpu().contiguous().view(-1).view(torch.uint8)
        digest.update(described.encode() + content.numpy().tobytes())
    return Checkpoint(
        Path(IN_MEMORY), model, IN_MEMORY, type(model).__name__, GIVEN, None, digest.hexdigest()
    )


def _file_of(path: str | Path) -> Path:
    """The file that is meant; of a folder that ``save_pretrained`` wrote that of its weights."""
    path = Path(path).expanduser()
    try:
        return (weights_in(path) or path) if path.is_dir() else path
    except OSError:  # whoever reads it says what is wrong with it
        return path


def read_tensors(path: str | Path, trust: bool = False, key: str | None = None) -> Checkpoint:
    """What is in a file whose architecture is not known: its tensors, and all that it says.

    The ``model`` of the result only holds the tensors; it cannot be called.

    Raises:
        CheckpointError: the file cannot be read, or holds no weights.
    """
    path = _file_of(path)
    contents = read_contents(path, None, trust=trust, key=key, weights_only=True)
    holder = nn.Module()
    shared: dict[tuple[object, ...], nn.Parameter] = {}
    for name, tensor in _state_of(path, contents).items():
        *owners, last = name.split(".")
        module = holder
        for owner in owners:
            if owner not in module._modules:
                module.add_module(owner, nn.Module())
            module = module.get_submodule(owner)
        if name in contents.buffers or _is_buffer(last, tensor):
            module.register_buffer(last, tensor)
        else:
            place = (tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.numel() or name)
            parameter = nn.Parameter(tensor, requires_grad=False)
            module.register_parameter(last, shared.setdefault(place, parameter))
    blank = _blank(contents, holder, "unknown", NOT_THERE)
    return replace(blank, path=path, sha256=content_sha256(path))


# Names of tensors that are stored and not trained.
_RUNNING = ("running_mean", "running_var", "num_batches_tracked", "inv_freq")


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


def _stored_source(path: Path, spec: str, *, trust: bool) -> ModelSource:
    """The factory that a checkpoint names as its architecture; running it needs trust."""
    if not trust:
        raise UntrustedCheckpointError(
            f"{path} says that its network is made by {spec}, which is code: give --model {spec} "
            "if you know it, or --trust"
        )
    return resolve_model(spec)


def _blank(contents: Contents, model: nn.Module, architecture: str, source: str) -> Checkpoint:
    return Checkpoint(
        path=Path(),
        model=model.eval(),
        format=contents.format,
        architecture=architecture,
        architecture_source=source,
        activation_source=None,
        sha256="",
        metadata=dict(contents.metadata),
        notes=contents.notes,
    )


def _is_its_class(contents: Contents, source: ModelSource) -> bool:
    """Whether ``model`` was given to supply the code of a whole pickled module."""
    if contents.format != PICKLED_MODULE:
        return False
    kind = type(contents.module)
    return source.target is kind or source.names().get(kind.__name__) is kind


def _check_code(path: Path, module: nn.Module, source: ModelSource) -> None:
    """Compare a pickled module with what its supplied class makes, where that takes no arguments.

    Unpickling fills any class of the right name; the wrong one would fail much later, if at all.
    """
    try:
        fresh = source.make()
    except ArchitectureError:
        return
    try:
        fill(fresh, {k: v.detach() for k, v in module.state_dict().items()}, source.label)
    except ArchitectureError as error:
        raise ArchitectureError(f"{path}: the pickled module is of other code: {error}") from error


def _from_file(contents: Contents) -> Checkpoint:
    assert contents.module is not None
    check = {**dict(contents.module.named_parameters()), **dict(contents.module.named_buffers())}
    check_kinds(check)
    return _blank(contents, contents.module, contents.architecture or "", IN_FILE)


def _state_of(path: Path, contents: Contents) -> dict[str, torch.Tensor]:
    state = contents.state
    if contents.module is not None:
        state = {k: v.detach() for k, v in contents.module.state_dict().items()}
    try:
        check_kinds(state)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    return state


def _from_source(
    path: Path, contents: Contents, source: ModelSource, activation: str | None
) -> Checkpoint:
    if activation is not None:
        raise OptionError(
            f"an activation can be given only for inferred networks and mlp:…; that of "
            f"{source.label} is in its code"
        )
    state = _state_of(path, contents)
    model = source.make()
    if contents.module is not None:  # archives hold buffers that a state dict leaves out
        named = {name for name, _ in model.named_buffers()}
        hidden = {k: v for k, v in contents.module.named_buffers() if k in named}
        state = {**hidden, **state}
    try:
        notes, used = fill(model, state, source.label)
    except ArchitectureError as error:
        raise ArchitectureError(f"{path}: {error}") from error
    blank = _blank(contents, model, source.label, GIVEN)
    return replace(blank, notes=(*contents.notes, *notes), entries=_entries(used, contents))


def _entries(used: Mapping[str, torch.Tensor], contents: Contents) -> dict[str, str]:
    """Name in the model -> name in the file, of the same tensor."""
    stored: dict[int, str] = {}
    for name, tensor in contents.state.items():
        stored.setdefault(id(tensor), name)
    return {name: stored[id(tensor)] for name, tensor in used.items() if id(tensor) in stored}


def _from_shapes(
    path: Path, contents: Contents, spec: str | None, activation: str | None
) -> Checkpoint:
    if contents.parts:
        raise ArchitectureError(
            f"{path} holds weights under {', '.join(contents.parts[:6])}. Choose one with key= "
            f"(--key {contents.parts[0]}), or give the network that they make up together: --model "
            "file.py:factory"
        )
    state, notes = strip_wrappers(_state_of(path, contents))
    wanted = spec or contents.architecture
    parsed = parse_perceptron(wanted) if wanted and wanted.startswith("mlp:") else None
    try:
        layers = infer_perceptron(state, ordered=contents.ordered)
    except ArchitectureError as error:
        unfit = f"the weights do not fit {wanted}: " if parsed is not None else ""
        raise ArchitectureError(f"{path}: {unfit}{error}") from error
    sizes = (layers[0].inputs, *(layer.outputs for layer in layers))
    if parsed is not None and parsed.sizes != sizes:
        raise ArchitectureError(
            f"{path}: the weights do not fit {wanted}: the file's layers are "
            f"{'-'.join(str(n) for n in sizes)}"
        )
    said = settle_activation(parsed.activation if parsed else None, activation)
    hidden = len(layers) > 1
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
    blank = _blank(contents, model, describe_perceptron(model), INFERRED)
    blank = replace(blank, entries=_entries(used, contents))
    doubtful = hidden and said is None
    if spec is not None:
        blank = replace(blank, architecture_source=GIVEN)
    elif parsed is not None:
        # hessscope wrote the file, with its activation: there is nothing to compare.
        return replace(blank, architecture_source=IN_FILE, notes=(*contents.notes, *notes))
    return replace(
        blank,
        notes=(*contents.notes, *notes),
        activation_source=None if not hidden else (ASSUMED if said is None else GIVEN),
        activation_candidates=ACTIVATION_CANDIDATES if doubtful else (),
    )
