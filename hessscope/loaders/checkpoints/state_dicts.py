"""State dicts: what weights are refused, and how they are put into a model."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from hessscope.errors import ArchitectureError, CheckpointError, NonFiniteError

_FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
#: Wrappers of whole models, which put their name before all others.
_WRAPPERS = ("module", "model", "_orig_mod", "_forward_module")
#: Wrappers that stand in the middle of a name too, put there by torch itself.
_INNER = re.compile(r"(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")


def check_kinds(state: Mapping[str, torch.Tensor]) -> None:
    """Refuse weights of a kind that no Hessian is computed for; raises ``CheckpointError``."""
    for what, odd in (
        ("sparse", [k for k, v in state.items() if v.layout != torch.strided]),
        ("quantised", [k for k, v in state.items() if v.is_quantized]),
        ("complex", [k for k, v in state.items() if v.is_complex()]),
        ("empty (meta)", [k for k, v in state.items() if v.is_meta]),
        ("8-bit floating-point", [k for k, v in state.items() if _is_narrow(v)]),
    ):
        if odd:
            raise CheckpointError(
                f"{what} tensors cannot be used: {shorten(odd)}; save them as ordinary "
                "floating-point tensors"
            )
    if not any(v.is_floating_point() for v in state.values()):
        kinds = ", ".join(sorted({str(v.dtype) for v in state.values()}))
        raise CheckpointError(f"no floating-point weights in it: all its tensors are {kinds}")


def _is_narrow(value: torch.Tensor) -> bool:
    """Whether it is of a type with which torch does not calculate, such as float8_e4m3fn."""
    return value.is_floating_point() and value.dtype not in _FLOATS


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
    """Ways to read the names: as they are, and without what they share."""
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


def _branches(
    state: dict[str, torch.Tensor],
) -> Iterator[tuple[str, dict[str, torch.Tensor], str]]:
    """What is below each first part of the names, once those that all share are removed."""
    removed, current = "", state
    while (prefix := _shared(current)) is not None:
        removed += prefix + "."
        current = {k[len(prefix) + 1 :]: v for k, v in current.items()}
    inner: dict[str, dict[str, torch.Tensor]] = {}
    for name, value in current.items():
        branch, dot, rest = name.partition(".")
        if dot:
            inner.setdefault(branch, {})[rest] = value
    for branch in sorted(inner, key=lambda b: (b not in _WRAPPERS, b)):
        left = len(current) - len(inner[branch])
        note = f"only '{removed}{branch}.' fits the model; {left} other entries ignored"
        yield removed + branch, inner[branch], note


def fill(
    model: nn.Module, state: dict[str, torch.Tensor], whose: str
) -> tuple[list[str], dict[str, torch.Tensor]]:
    """Put ``state`` into ``model``, in place, in the data types of the file.

    Names are taken as they are, or without prefixes where that makes them fit; a tensor that the
    model shares between two names may be there under one of them. Gives notes, and the tensors of
    ``state`` under their names in the model. Raises :class:`ArchitectureError` listing missing,
    unexpected and mismatched entries otherwise, or where two parts of the file fit; ``whose`` is
    how the model is called there.
    """
    if any(p.is_meta for p in model.parameters()):
        model.to_empty(device="cpu")
    held = model.state_dict(keep_vars=True).items()
    expected = {k: v for k, v in held if isinstance(v, torch.Tensor)}
    hidden = {k: v for k, v in model.named_buffers() if k not in expected}
    required = {k for k in expected if not k.endswith("num_batches_tracked")}
    renamed, note = _best_names(state, expected, hidden, required, whose)
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


def _best_names(
    state: dict[str, torch.Tensor],
    expected: Mapping[str, torch.Tensor],
    hidden: Mapping[str, torch.Tensor],
    required: set[str],
    whose: str,
) -> tuple[dict[str, torch.Tensor], str]:
    """The weights by the names that fit, with a note; where none fit, by those that fit most."""
    known = {**expected, **hidden}

    def fits(names: Mapping[str, torch.Tensor]) -> bool:
        return required <= set(names) <= set(known) and not _conflicts(known, names)

    most, best = -1, (state, "")
    for names, note in _renamings(state):
        tied = _with_ties(expected, names)
        if fits(tied):
            return tied, note
        if len(required & set(tied)) > most:
            most, best = len(required & set(tied)), (tied, note)
    fitting: dict[str, tuple[dict[str, torch.Tensor], str]] = {}
    for branch, names, note in _branches(state):
        tied = _with_ties(expected, names)
        if fits(tied):
            if branch.rpartition(".")[2] in _WRAPPERS:
                return tied, note
            fitting[branch] = (tied, note)
        elif len(required & set(tied)) > most:
            most, best = len(required & set(tied)), (tied, note)
    if len(fitting) > 1:
        raise ArchitectureError(
            f"the file holds several networks that fit {whose}: {shorten(list(fitting))}. Choose "
            f"one with `key={next(iter(fitting))}`"
        )
    return next(iter(fitting.values()), best)


def _with_ties(
    expected: Mapping[str, torch.Tensor], state: dict[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """The same with names added under which the model shares a tensor that is there."""
    if len(state.keys() & expected.keys()) in (0, len(expected)):
        return state
    there = {id(expected[name]): name for name in state if name in expected}
    missing = {k: state[there[id(v)]] for k, v in expected.items()
               if k not in state and id(v) in there}  # fmt: skip
    return {**state, **missing} if missing else state


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
                "weights have to be converted back first; a file of data is given with `data`"
            )
        if not value.requires_grad and not value.is_floating_point():
            if not torch.equal(stored.to(value.dtype).to(stored.dtype), stored):
                raise ArchitectureError(
                    f"{key} holds integers in the model, and other numbers in the file"
                )
            continue
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
