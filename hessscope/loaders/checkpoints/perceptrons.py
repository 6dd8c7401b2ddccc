"""Multi-layer perceptrons: their specifications, and their inference from shapes."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise, permutations
from typing import NamedTuple

import torch
from torch import nn

from hessscope.errors import ArchitectureError, OptionError, UnknownNameError
from hessscope.loaders.checkpoints.state_dicts import place

_KINDS = (
    *(nn.ReLU, nn.Tanh, nn.Sigmoid, nn.GELU, nn.SiLU, nn.ELU, nn.LeakyReLU, nn.Softplus),
    *(nn.SELU, nn.ReLU6, nn.Hardtanh, nn.Softsign, nn.Mish, nn.Identity),
)
#: Activation functions by name; dashes and underscores in a name do not count.
ACTIVATIONS: Mapping[str, Callable[[], nn.Module]] = {
    **{kind.__name__.lower(): kind for kind in _KINDS},
    **{"swish": nn.SiLU, "linear": nn.Identity, "none": nn.Identity},
}

_MOST_LAYERS = 1_000
_WEIGHT = re.compile(r"(weights?|kernel|w)(?=\W|_|\d|$)", re.IGNORECASE)
#: Those that are compared on the data where nobody said which one it was.
ACTIVATION_CANDIDATES = ("relu", "tanh", "sigmoid", "gelu", "silu", "elu", "leaky_relu", "softplus")


def make_activation(name: str) -> nn.Module:
    """Make the activation called ``name``; raises ``UnknownNameError`` with a suggestion."""
    key = re.sub("[-_]", "", name.lower())
    if key not in ACTIVATIONS:
        raise UnknownNameError("activation", name, ACTIVATIONS)
    return ACTIVATIONS[key]()


@dataclass(frozen=True)
class LinearLayer:
    """One fully connected layer: its name in the model, its sizes, and its keys in the file."""

    name: str
    inputs: int
    outputs: int
    weight_key: str
    bias_key: str | None


class MultiLayerPerceptron(nn.Module):
    """Flatten, then linear layers with one activation between them (none after the last).

    The linear layers bear the given dotted names, so that the parameters are called as in the
    file that they come from (``linear_activation_stack.0.weight``). Inputs of any shape
    ``(examples, ...)`` are flattened; outputs are ``(examples, sizes[-1])``.
    """

    def __init__(self, layers: Sequence[LinearLayer], activation: str = "relu") -> None:
        """Make the layers; their weights are torch's random ones until others are loaded.

        Raises ``UnknownNameError`` for an activation that is not known.
        """
        super().__init__()
        self.sizes = (layers[0].inputs, *(layer.outputs for layer in layers))
        self._linear_names = tuple(layer.name for layer in layers)
        self._activation_name = activation
        for layer in layers:
            linear = nn.Linear(layer.inputs, layer.outputs, bias=layer.bias_key is not None)
            place(self, layer.name, linear)
        for position in range(len(layers) - 1):
            self.add_module(f"_activation_{position}", make_activation(activation))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Map inputs ``(examples, ...)`` to outputs ``(examples, classes)``."""
        hidden = torch.flatten(inputs, 1)
        last = len(self._linear_names) - 1
        for position, name in enumerate(self._linear_names):
            hidden = self.get_submodule(name)(hidden)
            if position < last:
                hidden = self.get_submodule(f"_activation_{position}")(hidden)
        return hidden

    @property
    def spec(self) -> str:
        """Its specification, such as ``mlp:784-25-10:relu``."""
        sizes = "-".join(map(str, self.sizes))
        return f"mlp:{sizes}" + (f":{self._activation_name}" if len(self.sizes) > 2 else "")

    def with_activation(self, name: str) -> MultiLayerPerceptron:
        """A copy with another activation; raises ``UnknownNameError``."""
        other = copy.deepcopy(self)
        for position in range(len(self._linear_names) - 1):
            other.add_module(f"_activation_{position}", make_activation(name))
        other._activation_name = name
        return other


class PerceptronSpec(NamedTuple):
    """A parsed ``mlp:784-25-10:relu``; ``activation`` is ``None`` where it was left out."""

    sizes: tuple[int, ...]
    activation: str | None


def parse_perceptron(spec: str) -> PerceptronSpec:
    """Parse ``mlp:784-25-10`` or ``mlp:784-25-10:relu``; raises ``OptionError`` otherwise."""
    match = re.fullmatch(r"mlp:(\d+(?:-\d+)+)(?::([\w-]+))?", spec.strip())
    if match is None or 0 in (sizes := tuple(int(n) for n in match[1].split("-"))):
        raise OptionError(
            f"'{spec}' is not a network; write its layer sizes and activation as mlp:784-25-10:relu"
        )
    if match[2]:
        make_activation(match[2])  # refuses unknown names here already
    return PerceptronSpec(sizes, match[2])


def make_perceptron(spec: str) -> MultiLayerPerceptron:
    """Make the network of ``mlp:784-25-10:relu`` with random weights (activation: ReLU)."""
    sizes, activation = parse_perceptron(spec)
    layers = [
        LinearLayer(str(i), a, b, f"{i}.weight", f"{i}.bias")
        for i, (a, b) in enumerate(pairwise(sizes))
    ]
    return MultiLayerPerceptron(layers, activation or "relu")


def infer_perceptron(
    state: Mapping[str, torch.Tensor], *, ordered: bool = True
) -> tuple[LinearLayer, ...]:
    """Find the layers of a plain multi-layer perceptron in a state dict, first to last.

    Weights are ``(outputs, inputs)`` matrices whose sizes chain; each bias belongs to the matrix
    of the same name or, failing that, follows it. The order is the file's own; where that does
    not chain (or ``ordered`` is false: the format sorts its keys) the numbers in the names, and
    at last the only order that chains. Raises ``ArchitectureError``, with the layers seen and
    the remedy, where the entries are not those of such a network.
    """
    matrices = [name for name, value in state.items() if value.ndim == 2]
    if len(matrices) > _MOST_LAYERS:
        raise ArchitectureError(
            f"no perceptron is inferred from {len(matrices):,} matrices (the limit is "
            f"{_MOST_LAYERS:,}): "
            "give the architecture with `model=file.py:factory`"
        )
    biases = _assign_biases(state, matrices)
    used = {*matrices, *biases.values()}
    foreign = sorted((n for n in state if n not in used), key=lambda n: state[n].ndim == 1)
    if foreign or not matrices:
        raise _not_inferred(state, foreign)
    order = next((o for o in _orders(state, matrices, ordered) if _chains(state, o)), None)
    if order is None:
        raise _not_inferred(state, [])
    return tuple(
        LinearLayer(name, state[key].shape[1], state[key].shape[0], key, biases[key])
        for name, key in zip(_layer_names(order), order, strict=True)
    )


def _assign_biases(state: Mapping[str, torch.Tensor], matrices: list[str]) -> dict[str, str | None]:
    """By matrix its bias: of the twin name, else of the same module, else what follows it."""
    keys = list(state)
    vectors = dict.fromkeys(name for name in keys if state[name].ndim == 1)
    biases: dict[str, str | None] = {}
    for key in matrices:
        stem, dot, leaf = key.rpartition(".")
        named = f"{stem}{dot}{_WEIGHT.sub(_as_bias, leaf)}"
        if named in vectors:
            options = [named]
        else:
            following = keys[keys.index(key) + 1 :][: 0 if stem else 1]
            taken = biases.values()
            same = [v for v in vectors if v.rpartition(".")[0] == stem and v not in taken]
            options = [v for v in (*following, *same) if v in vectors]
        fits = (v for v in options if state[v].shape[0] == state[key].shape[0])
        biases[key] = next(fits, None)
    return biases


def _as_bias(match: re.Match[str]) -> str:
    word = match[0]
    long = "biases" if word.lower() == "weights" else "bias"
    twin = "b" if len(word) == 1 else long
    return twin.upper() if word.isupper() else twin


def _orders(
    state: Mapping[str, torch.Tensor], matrices: list[str], ordered: bool
) -> list[list[str]]:
    natural = sorted(matrices, key=_natural)
    orders = [matrices, natural] if ordered else [natural]
    numbered = all(re.search(r"\d", name) for name in matrices)
    if not numbered and len(matrices) <= 8:
        chains = (order for order in permutations(matrices) if _chains(state, order))
        found = [list(order) for order in islice(chains, 2)]
        if len(found) == 1:
            orders.append(found[0])
        elif not ordered and len(found) > 1:
            return []  # the names do not tell, and the shapes allow several orders
    return orders


def _natural(name: str) -> list[tuple[int, int | str]]:
    parts = re.split(r"(\d+)", name)
    return [(0, int(part)) if part.isdigit() else (1, part) for part in parts]


def _chains(state: Mapping[str, torch.Tensor], order: Sequence[str]) -> bool:
    return all(state[a].shape[0] == state[b].shape[1] for a, b in pairwise(order))


def _layer_names(keys: Sequence[str]) -> list[str]:
    """Module names whose ``.weight`` is the file's key; plain numbers where that cannot be."""
    names = [key.removesuffix(".weight") for key in keys]
    usable = not any(name.startswith("_") or "" in name.split(".") for name in names)
    root = nn.Module()
    try:
        for name in names:
            place(root, name, nn.Identity())
    except ArchitectureError:
        usable = False
    return names if usable else [str(position) for position in range(len(keys))]


def _not_inferred(state: Mapping[str, torch.Tensor], foreign: Sequence[str]) -> ArchitectureError:
    listed = [f"{name} {tuple(value.shape)}" for name, value in state.items()]
    shown = ", ".join(listed[:12]) + (f", … ({len(listed)} in all)" if len(listed) > 12 else "")
    why = (
        f"{foreign[0]} belongs to no fully connected layer"
        if foreign
        else "the sizes of its matrices do not chain in one way"
    )
    return ArchitectureError(
        "the architecture cannot be inferred from the shapes, since this is not a plain "
        f"multi-layer perceptron ({why}). Give it: `model=file.py:factory`, or "
        f"`model=mlp:784-25-10:relu`. In the file: {shown}"
    )
