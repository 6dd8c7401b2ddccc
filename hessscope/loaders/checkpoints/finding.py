"""Search of the weights in the object that a file holds: one network, and all of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from hessscope.errors import CheckpointError
from hessscope.loaders.checkpoints.checkpoint import KEY
from hessscope.loaders.checkpoints.optimizer_states import optimizers_in
from hessscope.loaders.pickles import MOST_NAMES
from hessscope.loaders.plain_types import PlainObject

#: Keys under which programs store the weights of a whole network, the likeliest first.
_NAMES = (
    "state_dict", "model_state_dict", "model_state", "model", "net", "network", "net_state_dict",
    "weights", "params", "parameters", "module",
)  # fmt: skip
#: Words in the keys of what is not the model, or is an average of it.
_FOREIGN = ("optim", "sched", "scaler", "rng", "callback", "loops", "amp_")
_AVERAGED = ("ema", "averaged", "swa", "teacher", "shadow")
#: Networks that stand beside each other, and of which one is looked at.
_SEVERAL = ("generator", "discriminator", "critic", "actor", "student", "policy")
_DEPTH = 8
_TENSORS = (torch.Tensor, np.ndarray)


@dataclass(frozen=True)
class Found:
    """The weights found in a file: a state dict or a whole module, and what stood beside it.

    ``parts`` are the keys under which parts of one network, or several networks, stood beside
    each other; their names in ``state`` begin with them.
    """

    state: dict[str, torch.Tensor]
    module: nn.Module | None = None
    metadata: Mapping[str, object] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()


def find_weights(content: object, key: str | None = None) -> Found:
    """Find the model's weights in the object that a file holds.

    At each level the usual names (``state_dict``, ``model``, …) are preferred, and the plain
    model to an average of it. Dictionaries of layers are joined to one state dict; so are parts
    and networks that stand beside each other, of which ``parts`` tells.

    Args:
        content: what was in the file.
        key: where the network is, as keys joined by dots: ``generator``, ``models.0``. At last a
            prefix of the names will do.

    Raises:
        CheckpointError: there is nothing that can be used, or no such key; the message lists what
            is there.
    """
    whole, path = content, tuple[str, ...]()
    if key is not None:
        content, path = _under(content, key)
    if not isinstance(content, (Mapping, nn.Module)):
        raise CheckpointError(f"no named weights in it: it holds {_say(content)}{_lists(content)}")
    chosen = _choose(content, path, _DEPTH)
    if isinstance(chosen.node, nn.Module):
        where = (f"the module stood under '{'.'.join(chosen.path)}'",) if chosen.path else ()
        return Found({}, chosen.node, _scalars(whole, chosen.path), (*where, *chosen.notes))
    joined = _joined(chosen.node)
    state = {name: _as_tensor(value) for name, value in joined.items()}
    if not any(value.ndim for value in state.values()):
        if isinstance(content, Mapping) and {"state", "param_groups"} <= set(content):
            said = optimizers_in(content).get("optimizer", "damaged")
            raise CheckpointError(f"it holds the state of an optimiser ({said}) and no weights")
        raise CheckpointError(f"no named weights in it: it holds {_say(content)}{_lists(content)}")
    notes = list(chosen.notes)
    if chosen.path and not (isinstance(whole, Mapping) and KEY in whole):
        notes.insert(0, f"weights stood under '{'.'.join(chosen.path)}'")
    if any(isinstance(value, np.ndarray) for value in joined.values()):
        notes.append("NumPy arrays were taken as tensors")
    return Found(state, None, _scalars(whole, chosen.path), tuple(notes), chosen.parts)


@dataclass(frozen=True)
class _Choice:
    """A module or a mapping of weights, its keys, and what was decided on the way."""

    node: Any
    path: tuple[str, ...]
    notes: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()


def _choose(node: Any, path: tuple[str, ...], depth: int) -> _Choice:
    if isinstance(node, nn.Module):
        return _Choice(node, path)
    seen: dict[int, bool] = {}
    parts = {
        key: value
        for key, value in node.items()
        if isinstance(key, str) and not _is_foreign(key) and _holds_weights(value, depth, seen)
    }
    modules = {key: value for key, value in parts.items() if isinstance(value, nn.Module)}
    parts = modules or parts
    own = not modules and any(_is_weight(value) for value in node.values())
    usual = [k for name in _NAMES for k in parts if k.lower() == name]
    plain = [k for k in parts if not any(word in k.lower() for word in _AVERAGED)]
    single = usual[0] if usual else None
    if single is None and not own and len(plain) <= 1:
        single = next(iter(plain or parts), None)
    elif single is not None and not modules:
        beside = [k for k in plain if k != single and _is_other(parts[k], parts[single])]
        if beside:
            plain = [single, *beside]
            single = None
    if single is not None:
        found = _choose(parts[single], (*path, single), depth - 1)
        left = ["'" + ".".join((*path, k)) + "'" for k in parts if k != single]
        left += ["'" + ".".join(path) + "'"] if own and path else []
        return _Choice(found.node, found.path, (*found.notes, *_left_alone(left)), found.parts)
    if modules:
        raise CheckpointError(
            f"it holds several modules ({', '.join(modules)}): choose one with `key`"
        )
    note = _left_alone([f"'{k}'" for k in parts if k not in plain])
    kept = {k: v for k, v in node.items() if k in plain or not isinstance(v, Mapping)}
    layers: dict[int, bool] = {}
    whole = (*_NAMES, *_SEVERAL)
    joined = all(k.lower() not in whole and _is_layer(parts[k], layers) for k in plain)
    return _Choice(kept, path, note, () if joined else tuple(plain))


def _left_alone(keys: list[str]) -> tuple[str, ...]:
    listed = ", ".join(keys[:6])
    return (f"other weights in the file were left alone: {listed}",) if keys else ()


def _is_foreign(key: str) -> bool:
    return any(word in key.lower() for word in _FOREIGN)


def _holds_weights(value: Any, depth: int, seen: dict[int, bool]) -> bool:
    """Whether there is a module, or a tensor of more than one number, in nested mappings."""
    if isinstance(value, nn.Module):
        return True
    if not isinstance(value, Mapping) or "param_groups" in value or not depth:
        return False
    if id(value) not in seen:
        seen[id(value)] = False
        seen[id(value)] = any(
            isinstance(key, str) and (_is_weight(part) or _holds_weights(part, depth - 1, seen))
            for key, part in value.items()
        )
    return seen[id(value)]


def _is_other(value: Any, model: Any) -> bool:
    """Whether a mapping holds weights of layers, and is no copy of the model (such as the best)."""
    one, two = ({n: tuple(v.shape) for n, v in _joined(part).items()} for part in (value, model))
    matrices = [name for name, shape in one.items() if len(shape) > 1]
    return one != two and any(name.endswith(("weight", "kernel")) for name in matrices)


def _is_layer(value: Any, seen: dict[int, bool]) -> bool:
    """Whether a mapping is of one layer: short names of tensors, or of layers in it."""
    if not isinstance(value, Mapping):
        return True
    if id(value) not in seen:
        seen[id(value)] = False
        seen[id(value)] = all(
            isinstance(key, str) and "." not in key and _is_layer(part, seen)
            for key, part in value.items()
        )
    return seen[id(value)]


def _joined(node: Mapping[Any, Any]) -> dict[str, Any]:
    """The tensors and arrays below ``node``, by their keys joined by dots."""
    found: dict[str, Any] = {}
    for name, value in _leaves(node, "", _DEPTH):
        if name in found:
            raise CheckpointError(f"it holds two tensors called {name}")
        if len(found) >= MOST_NAMES:
            raise CheckpointError(f"it holds more than {MOST_NAMES:,} tensors")
        found[name] = value
    return found


def _leaves(node: Mapping[Any, Any], prefix: str, depth: int) -> Iterator[tuple[str, Any]]:
    if not depth:
        raise CheckpointError(f"its dictionaries are nested more than {_DEPTH} deep")
    seen: dict[int, bool] = {}
    for key, value in node.items():
        if not isinstance(key, str):
            continue
        name = prefix + key
        if isinstance(value, _TENSORS):
            yield name, value
        elif isinstance(value, (tuple, list)) and any(map(_is_weight, value)):
            packed = any(isinstance(v, torch.Tensor) and v.is_quantized for v in value)
            kind = "packed, quantised weights" if packed else f"a {type(value).__name__} of tensors"
            raise CheckpointError(
                f"{name} is {kind}, which cannot be used: save ordinary floating-point tensors"
            )
        elif _holds_weights(value, depth, seen):
            yield from _leaves(value, f"{name}.", depth - 1)


def _under(content: object, key: str) -> tuple[Any, tuple[str, ...]]:
    """What stands under a dotted key, and the keys that lead there."""
    node: Any = content
    path: list[str] = []
    rest = key
    while rest:
        items = dict(enumerate(node)) if isinstance(node, (list, tuple)) else node
        if not isinstance(items, Mapping):
            break
        fitting = [k for k in items if rest == str(k) or rest.startswith(f"{k}.")]
        if not fitting:
            short = {k[len(rest) + 1 :]: v for k, v in items.items()
                     if isinstance(k, str) and k.startswith(f"{rest}.")}  # fmt: skip
            if not short:
                break
            return short, (*path, rest)
        step = max(fitting, key=lambda k: len(str(k)))
        node, rest = items[step], rest[len(str(step)) + 1 :]
        path.append(str(step))
    if rest:
        raise CheckpointError(f"no '{key}' in it: it holds {_say(node)}")
    return node, tuple(path)


def _lists(content: object, path: tuple[str, ...] = ()) -> str:
    """Say where a list of state dicts stands, of which one could be meant."""
    if isinstance(content, (list, tuple)):
        held = [i for i, part in enumerate(content) if _holds_weights(part, _DEPTH, {})]
        if held:
            where = ".".join((*path, str(held[0])))
            return f"; {len(held)} of these are networks: choose one with `key={where}`"
    elif isinstance(content, Mapping) and len(path) < 3:
        for key, value in content.items():
            if isinstance(key, str) and (said := _lists(value, (*path, key))):
                return f"; '{'.'.join((*path, key))}' is {_say(value)}{said}" if not path else said
    return ""


def _is_weight(value: object) -> bool:
    """Whether it is a tensor of more than one number."""
    if isinstance(value, np.ndarray):
        return value.ndim > 0 and value.dtype.kind in "biufc"
    return isinstance(value, torch.Tensor) and value.ndim > 0


def _is_state(value: object) -> bool:
    return isinstance(value, Mapping) and "param_groups" not in value and any(
        isinstance(k, str) and _is_weight(v) for k, v in value.items()
    )  # fmt: skip


def _as_tensor(value: Any) -> torch.Tensor:
    if isinstance(value, torch.Tensor):
        return value
    try:
        return torch.from_numpy(np.ascontiguousarray(value))
    except TypeError:
        return torch.zeros(())  # text and times are no weights


def _say(content: object) -> str:
    if isinstance(content, torch.Tensor):
        return f"one tensor of shape {tuple(content.shape)}"
    if isinstance(content, (list, tuple)):
        kinds = sorted({type(item).__name__ for item in content})
        return f"a {type(content).__name__} of {len(content)} ({', '.join(kinds) or 'nothing'})"
    if isinstance(content, Mapping):
        keys = ", ".join(repr(key) for key in list(content)[:8])
        more = ", …" if len(content) > 8 else ""
        return f"a dictionary with {f'the keys {keys}{more}' if content else 'nothing in it'}"
    return f"an object of type {type(content).__name__}"


def _scalars(content: object, path: tuple[str, ...]) -> dict[str, object]:
    """Collect plain values beside the weights: epoch, accuracy, hyper-parameters, versions."""
    found: dict[str, object] = {}
    level: Any = content
    for key in (*path, None):
        if not isinstance(level, Mapping):
            break
        for name, value in level.items():
            own = key is None and _is_state(level) and isinstance(value, _TENSORS)  # counters
            if isinstance(name, str) and name != key and not own and len(found) < 200:
                _collect(found, name, value, 2)
        level = level.get(key) if key is not None else level
    return found


def _collect(found: dict[str, object], name: str, value: Any, depth: int) -> None:
    plain = value is None or isinstance(value, (bool, int, float, str))
    if not plain and _is_foreign(name):
        return
    if isinstance(value, PlainObject):
        value = {str(k): v for k, v in value.attributes.items()}
        value = value.get("_content", value)
    if isinstance(value, np.generic) or (isinstance(value, _TENSORS) and value.ndim == 0):
        value = value.item()
    if value is None or isinstance(value, (bool, int, float)):
        found[name] = value
    elif isinstance(value, str):
        found[name] = value if len(value) <= 200 else value[:199] + "…"
    elif isinstance(value, Mapping) and depth and not _is_state(value):
        for key, item in list(value.items())[:50]:
            if isinstance(key, str):
                _collect(found, f"{name}.{key}", item, depth - 1)
    elif type(value).__module__ == "datetime":
        found[name] = str(value)
