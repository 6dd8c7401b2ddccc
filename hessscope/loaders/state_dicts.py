"""Finding the weights inside what a checkpoint holds, and putting them into a model."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.parameter import is_lazy

from hessscope.errors import ArchitectureError, CheckpointError, NonFiniteError
from hessscope.loaders.plain_types import PlainArray, PlainObject
from hessscope.loaders.stored_settings import KEY

#: Keys under which programs store weights, the likeliest first.
_NAMES = (
    "state_dict", "model_state_dict", "model_state", "model", "net", "network", "net_state_dict",
    "weights", "params", "parameters", "module", "classifier", "encoder", "student", "generator",
)  # fmt: skip
#: Words in a key that say that what follows is not the model, or an average of it.
_FOREIGN = ("optim", "sched", "scaler", "rng", "callback", "loops", "amp_")
_AVERAGED = ("ema", "averaged", "swa", "teacher", "shadow")
_WRAPPERS = ("module", "model", "_orig_mod", "_forward_module")
#: Wrappers that stand in the middle of a name too, put there by torch itself.
_INNER = re.compile(r"(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")


@dataclass(frozen=True)
class Found:
    """The weights found in a file: a state dict or a whole module, and what stood beside it."""

    state: dict[str, torch.Tensor]
    module: nn.Module | None = None
    metadata: Mapping[str, object] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def find_weights(content: object) -> Found:
    """Find the model's weights in the object that a file holds.

    Looks three levels deep, prefers the usual names (``state_dict``, ``model``, …) and the plain
    model to an average of it. Raises :class:`CheckpointError`, saying what was found, where
    nothing can be used.
    """
    if isinstance(content, nn.Module):
        return Found({}, content)
    if not isinstance(content, Mapping):
        raise CheckpointError(f"no named weights in it: it holds {_say(content)}")
    modules = [(p, v) for p, v in _inside(content) if isinstance(v, nn.Module)]
    if modules:
        path, module = min(modules, key=lambda item: _rank(item[0]))
        where = f"the module stood under '{'.'.join(path)}'"
        return Found({}, module, scalars(content, path), (where,))
    candidates = [(p, v) for p, v in _inside(content) if _is_state(v)]
    if not candidates:
        if {"state", "param_groups"} <= set(content):
            raise CheckpointError("it holds the state of an optimiser and no model weights")
        raise CheckpointError(f"no named weights in it: it holds {_say(content)}")
    if () in dict(candidates) and not any(_rank(p) < 50 for p, _ in candidates if p):
        candidates = [((), content)]
    path, chosen = min(candidates, key=lambda item: _rank(item[0]))
    notes: list[str] = []
    if path and KEY not in content:
        notes.append(f"weights stood under '{'.'.join(path)}'")
    others = ["'" + ".".join(p) + "'" for p, _ in candidates if p != path and p]
    if others:
        notes.append(f"other weights in the file were left alone: {', '.join(others[:6])}")
    state, converted = _tensors(chosen)
    if converted:
        notes.append("NumPy arrays were taken as tensors")
    return Found(state, None, scalars(content, path), tuple(notes))


def _inside(
    value: Any, path: tuple[str, ...] = (), depth: int = 3
) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield path, value
    if depth and isinstance(value, Mapping):
        for key, item in value.items():
            own = isinstance(key, str) and not any(word in key.lower() for word in _FOREIGN)
            if own and isinstance(item, (Mapping, nn.Module)):
                yield from _inside(item, (*path, key), depth - 1)


def _rank(path: tuple[str, ...]) -> int:
    """Order of preference: known names first, averages and unknown names last."""
    if not path:
        return 40
    rank = 10 * (len(path) - 1)
    if any(word in key.lower() for key in path for word in _AVERAGED):
        rank += 45
    last = path[-1].lower()
    return rank + (_NAMES.index(last) if last in _NAMES else 30)


def _is_tensor(value: object) -> bool:
    return isinstance(value, (torch.Tensor, PlainArray, np.ndarray))


def _is_state(value: object) -> bool:
    """Whether ``value`` maps names to tensors, at least one with more than one number in it."""
    if not isinstance(value, Mapping) or "param_groups" in value:
        return False
    arrays = [v for k, v in value.items() if isinstance(k, str) and _is_tensor(v)]
    return any(_as_tensor(v).ndim > 0 for v in arrays)


def _as_tensor(value: Any) -> torch.Tensor:
    if isinstance(value, PlainArray):
        value = value.array
    if isinstance(value, np.ndarray):
        try:
            return torch.from_numpy(np.ascontiguousarray(value))
        except TypeError:
            return torch.zeros(())  # text and times are no weights
    return value.detach() if isinstance(value, torch.Tensor) else torch.as_tensor(value)


def _tensors(mapping: Mapping[Any, Any]) -> tuple[dict[str, torch.Tensor], bool]:
    entries = {k: v for k, v in mapping.items() if isinstance(k, str) and _is_tensor(v)}
    converted = any(not isinstance(v, torch.Tensor) for v in entries.values())
    return {k: _as_tensor(v) for k, v in entries.items()}, converted


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


def scalars(content: Mapping[Any, Any], path: tuple[str, ...] = ()) -> dict[str, object]:
    """Collect plain values beside the weights: epoch, accuracy, hyper-parameters, versions."""
    found: dict[str, object] = {}
    level: Any = content
    for key in (*path, None):
        if not isinstance(level, Mapping):
            break
        for name, value in level.items():
            own = key is None and _is_state(level) and _is_tensor(value)  # counters of the model
            if isinstance(name, str) and name != key and not own and len(found) < 200:
                _collect(found, name, value, 2)
        level = level[key] if key is not None else level
    return found


def _collect(found: dict[str, object], name: str, value: Any, depth: int) -> None:
    plain = value is None or isinstance(value, (bool, int, float, str))
    if not plain and any(word in name.lower() for word in _FOREIGN):
        return
    if isinstance(value, PlainArray):
        value = value.array
    if isinstance(value, PlainObject):
        value = {str(k): v for k, v in value.attributes.items()}
        value = value.get("_content", value)
    if isinstance(value, np.generic) or (
        isinstance(value, (torch.Tensor, np.ndarray)) and value.ndim == 0
    ):
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


def check_kinds(state: Mapping[str, torch.Tensor]) -> None:
    """Refuse weights of a kind that no Hessian is computed for; raises ``CheckpointError``."""
    for what, odd in (
        ("sparse", [k for k, v in state.items() if v.layout != torch.strided]),
        ("quantised", [k for k, v in state.items() if v.is_quantized]),
        ("complex", [k for k, v in state.items() if v.is_complex()]),
        ("empty (meta)", [k for k, v in state.items() if v.is_meta]),
    ):
        if odd:
            raise CheckpointError(
                f"{what} tensors cannot be used: {shorten(odd)}; save them as ordinary "
                "floating-point tensors"
            )
    if not any(v.is_floating_point() for v in state.values()):
        kinds = ", ".join(sorted({str(v.dtype) for v in state.values()}))
        raise CheckpointError(f"no floating-point weights in it: all its tensors are {kinds}")


def check_finite(model: nn.Module) -> None:
    """Refuse NaN and infinity in parameters (in buffers NaN only: masks may hold infinities)."""
    bad = [
        f"{name} ({'NaN' if value.isnan().any() else 'infinite'})"
        for name, value in model.named_parameters()
        if not value.isfinite().all()
    ] + [f"{name} (NaN)" for name, value in model.named_buffers() if value.isnan().any()]
    if bad:
        raise NonFiniteError(
            f"the weights are not finite: {shorten(bad)}; the network has diverged in training "
            "or the file is damaged"
        )


def shorten(items: list[str], limit: int = 6) -> str:
    """Join ``items`` for a message, the first ``limit`` of them and how many more there are."""
    more = f" and {len(items) - limit} more" if len(items) > limit else ""
    return ", ".join(items[:limit]) + more


def strip_wrappers(state: dict[str, torch.Tensor]) -> tuple[dict[str, torch.Tensor], list[str]]:
    """Remove ``module.``, ``model.``, ``_orig_mod.`` where all keys bear them; say so in notes."""
    notes: list[str] = []
    if "n_averaged" in state and len(state) > 1:
        state = {k: v for k, v in state.items() if k != "n_averaged"}
        notes.append("'n_averaged' of an averaged model ignored")
    removed = ""
    while (prefix := _shared(state)) in _WRAPPERS:
        state = {k[len(prefix) + 1 :]: v for k, v in state.items()}
        removed += prefix + "."
    if any(_INNER.search(k) for k in state):
        state = {_INNER.sub("", k): v for k, v in state.items()}
        removed = f"{removed}, _orig_mod." if removed else "_orig_mod."
    if removed:
        notes.append(f"prefix '{removed}' removed from the names")
    return state, notes


def _shared(state: Mapping[str, object]) -> str | None:
    firsts = {key.split(".", 1)[0] if "." in key else None for key in state}
    return firsts.pop() if len(firsts) == 1 else None


def _renamings(state: dict[str, torch.Tensor]) -> Iterator[tuple[dict[str, torch.Tensor], str]]:
    """Ways to read the names: as they are, without what they share, one branch of them alone."""
    seen: list[dict[str, torch.Tensor]] = [state]
    yield state, ""
    removed, current = "", state
    while (prefix := _shared(current)) is not None:
        removed += prefix + "."
        current = {k[len(prefix) + 1 :]: v for k, v in current.items()}
        seen.append(current)
        yield current, f"prefix '{removed}' removed from the names"
    for names in seen:
        if any(_INNER.search(k) for k in names):
            yield {_INNER.sub("", k): v for k, v in names.items()}, "'_orig_mod.' removed"
    branches = list(dict.fromkeys(k.split(".", 1)[0] for k in current if "." in k))
    for branch in sorted(branches, key=lambda b: (b not in _WRAPPERS, b)):
        inner = {k.split(".", 1)[1]: v for k, v in current.items() if k.startswith(branch + ".")}
        rest = len(current) - len(inner)
        yield inner, f"only '{removed}{branch}.' fits the model; {rest} other entries ignored"


def fill(
    model: nn.Module, state: dict[str, torch.Tensor], whose: str
) -> tuple[list[str], dict[str, torch.Tensor]]:
    """Put ``state`` into ``model``, in place, in the data types of the file.

    Names are taken as they are, or without prefixes where that makes them fit. Gives notes, and
    the tensors of ``state`` under their names in the model. Raises
    :class:`ArchitectureError` listing missing, unexpected and mismatched entries otherwise;
    ``whose`` is how the model is called there.
    """
    if any(p.is_meta for p in model.parameters()):
        model.to_empty(device="cpu")
    expected = {k: v for k, v in model.state_dict(keep_vars=True).items() if _is_tensor(v)}
    hidden = {k: v for k, v in model.named_buffers() if k not in expected}
    required = {k for k in expected if not k.endswith("num_batches_tracked")}
    best: tuple[int, dict[str, torch.Tensor], str] | None = None
    for renamed, note in _renamings(state):
        fitting = len(required & set(renamed))
        if best is None or fitting > best[0]:
            best = (fitting, renamed, note)
        if required <= set(renamed) <= {*expected, *hidden}:
            best = (fitting, renamed, note)
            break
    assert best is not None
    # Where none fits, the message names what is there by the names that fit most.
    renamed, note = dict(best[1]), best[2]
    notes, used = [note] if note else [], dict(renamed)
    conflicts = _conflicts({**expected, **hidden}, renamed)
    if conflicts:
        raise _mismatch(expected, required, renamed, conflicts, whose)
    _check_ties(expected, renamed)
    _adopt_dtypes(expected, renamed)
    for key in set(hidden) & set(renamed):
        hidden[key].data = renamed.pop(key).detach().clone()
    try:
        result = model.load_state_dict(renamed, strict=False)
    except Exception as error:
        raise ArchitectureError(f"the weights do not fit {whose}: {error}") from error
    missing = [k for k in result.missing_keys if not k.endswith("num_batches_tracked")]
    if missing or result.unexpected_keys:
        raise _mismatch(expected, required, renamed, [], whose)
    if any(key not in required and key not in renamed for key in expected):
        notes.append("num_batches_tracked, which is not in the file, left at 0")
    return notes, used


def _conflicts(
    expected: Mapping[str, torch.Tensor], state: Mapping[str, torch.Tensor]
) -> list[str]:
    return [
        f"{key} is {tuple(state[key].shape)} in the file and {tuple(value.shape)} in the model"
        for key, value in expected.items()
        if key in state and not is_lazy(value) and state[key].shape != value.shape
    ]


def _mismatch(
    expected: Mapping[str, torch.Tensor],
    required: set[str],
    state: Mapping[str, torch.Tensor],
    conflicts: list[str],
    whose: str,
) -> ArchitectureError:
    missing = [k for k in expected if k in required and k not in state]
    unexpected = [k for k in state if k not in expected]
    parts = [
        f"{what}: {shorten(items)}"
        for what, items in (
            ("missing in the file", missing),
            ("unexpected in the file", unexpected),
            ("shape conflicts", conflicts),
        )
        if items
    ]
    return ArchitectureError(f"the weights do not fit {whose}. {'; '.join(parts)}")


def _check_ties(expected: Mapping[str, torch.Tensor], state: Mapping[str, torch.Tensor]) -> None:
    """Refuse different values for weights that the model shares between two names."""
    first: dict[int, str] = {}
    for key, value in expected.items():
        twin = first.setdefault(id(value), key)
        one, two = state.get(twin), state.get(key)
        if twin != key and one is not None and two is not None and not torch.equal(one, two):
            raise ArchitectureError(
                f"the model shares {twin} and {key}, but the file holds different values"
            )


def _adopt_dtypes(expected: Mapping[str, torch.Tensor], state: Mapping[str, torch.Tensor]) -> None:
    for key, value in expected.items():
        stored = state.get(key)
        if stored is None or is_lazy(value) or stored.dtype == value.dtype:
            continue
        if value.requires_grad and not (stored.is_floating_point() or stored.is_complex()):
            kind = str(stored.dtype).removeprefix("torch.")
            raise ArchitectureError(
                f"{key} is {kind} in the file; weights must be floating-point numbers. Quantised "
                "weights have to be converted back first; a file of data is given with --data"
            )
        value.data = value.data.to(stored.dtype)


def copy_of(model: nn.Module) -> nn.Module:
    """Copy a user's model, so that theirs stays as it is; raises ``ArchitectureError``."""
    try:
        return copy.deepcopy(model)
    except Exception as error:
        raise ArchitectureError(
            f"the given model cannot be copied ({type(error).__name__}: {error}); give a "
            "factory that makes it instead"
        ) from error
