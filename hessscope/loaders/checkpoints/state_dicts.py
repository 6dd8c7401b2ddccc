"""State dicts: what weights are refused, and how they are put into a model."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from hessscope.errors import ArchitectureError, CheckpointError, NonFiniteError

State = dict[str, torch.Tensor]

_FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
#: Wrappers of whole models, which put their name before all others.
_WRAPPERS = ("module", "model", "_orig_mod", "_forward_module")
#: Wrappers that stand in the middle of a name too, put there by torch itself.
_INNER = re.compile(r"(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")


def check_kinds(state: Mapping[str, torch.Tensor]) -> None:
    """Refuse weights of a kind that no Hessian is computed for; raises ``CheckpointError``."""
    odd: dict[str, list[str]] = {}
    for name, value in state.items():
        for what, found in (
            ("sparse", value.layout != torch.strided),
            ("quantised", value.is_quantized),
            ("complex", value.is_complex()),
            ("empty (meta)", value.is_meta),
            ("8-bit floating-point", value.is_floating_point() and value.dtype not in _FLOATS),
        ):
            if found:
                odd.setdefault(what, []).append(name)
    for what, names in odd.items():
        raise CheckpointError(
            f"{what} tensors cannot be used: {shorten(names)}; save them as ordinary "
            "floating-point tensors"
        )
    if not any(value.is_floating_point() for value in state.values()):
        kinds = ", ".join(sorted({str(value.dtype) for value in state.values()}))
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


def digest_of_state(model: nn.Module) -> str:
    """SHA-256 of names, shapes, types and numbers of a model's state."""
    digest = hashlib.sha256()
    for name, value in model.state_dict().items():
        described = f"{name} {tuple(value.shape)} {value.dtype}\n"
        content = value.detach().cpu().contiguous().view(-1).view(torch.uint8)
        digest.update(described.encode() + content.numpy().tobytes())
    return digest.hexdigest()


def shorten(items: list[str], limit: int = 6) -> str:
    """Join ``items`` for a message, the first ``limit`` of them and how many more there are."""
    more = f" and {len(items) - limit} more" if len(items) > limit else ""
    return ", ".join(items[:limit]) + more


def place(root: nn.Module, name: str, value: object, *, persistent: bool = True) -> None:
    """Put a module, parameter or buffer at its dotted name, in modules made for it.

    Raises:
        ArchitectureError: it cannot be the name of one.
    """
    *owners, leaf = name.split(".")
    try:
        for owner in owners:
            inner = getattr(root, owner, None)
            if not isinstance(inner, nn.Module):
                root.add_module(owner, inner := nn.Module())
            root = inner
        if isinstance(value, nn.Module):
            root.add_module(leaf, value)
        elif isinstance(value, nn.Parameter):
            root.register_parameter(leaf, value)
        elif isinstance(value, torch.Tensor):
            root.register_buffer(leaf, value, persistent=persistent)
    except (KeyError, AttributeError, TypeError) as error:
        raise ArchitectureError(
            f"it holds a tensor called {name}, which cannot be the name of one ({error}); give "
            "the architecture with `model=file.py:factory`"
        ) from error


def strip_wrappers(state: State) -> tuple[State, list[str]]:
    """Remove ``module.``, ``model.``, ``_orig_mod.`` where all keys bear them, with notes."""
    notes: list[str] = []
    if "n_averaged" in state and len(state) > 1:
        state = {k: v for k, v in state.items() if k != "n_averaged"}
        notes.append("'n_averaged' of an averaged model ignored")
    removed = ""
    while (prefix := _shared(state)) is not None and prefix[:-1] in _WRAPPERS:
        state = {k.removeprefix(prefix): v for k, v in state.items()}
        removed += prefix
    if any(map(_INNER.search, state)):
        state = {_INNER.sub("", k): v for k, v in state.items()}
        removed = f"{removed}, _orig_mod." if removed else "_orig_mod."
    if removed:
        notes.append(f"prefix '{removed}' removed from the names")
    return state, notes


def _shared(state: State) -> str | None:
    """What stands before the first dot of all names, and the dot."""
    firsts = {"".join(key.partition(".")[:2]) for key in state}
    first = firsts.pop() if len(firsts) == 1 else ""
    return first if first.endswith(".") else None


def _readings(state: State) -> Iterator[tuple[State, str, str]]:
    """Ways to read the names, with a note: as they are, without what they share, of one branch.

    The third is the branch: the first part of the names of which only those below it are taken.
    """
    yield state, "", ""
    removed, seen = "", [state]
    while (prefix := _shared(seen[-1])) is not None:
        removed += prefix
        seen.append({k.removeprefix(prefix): v for k, v in seen[-1].items()})
        yield seen[-1], f"prefix '{removed}' removed from the names", ""
    for names in seen:
        if any(map(_INNER.search, names)):
            yield {_INNER.sub("", k): v for k, v in names.items()}, "'_orig_mod.' removed", ""
    branches: dict[str, State] = {}
    for name, value in seen[-1].items():
        branch, dot, rest = name.partition(".")
        if dot:
            branches.setdefault(branch, {})[rest] = value
    for branch in sorted(branches, key=lambda b: (b not in _WRAPPERS, b)):
        left = len(seen[-1]) - len(branches[branch])
        note = f"only '{removed}{branch}.' fits the model; {left} other entries ignored"
        yield branches[branch], note, f"{removed}{branch}"


def fill(model: nn.Module, state: State, whose: str) -> tuple[list[str], State]:
    """Put ``state`` into ``model``, in place, in the data types of the file.

    Names are taken as they are, or without prefixes where that makes them fit; a tensor that the
    model shares between two names may be there under one of them.

    Args:
        model: is filled.
        state: the weights.
        whose: how messages call the model.

    Returns:
        Notes, and the tensors of ``state`` under their names in the model.

    Raises:
        ArchitectureError: the weights do not fit; the message lists missing, unexpected and
            mismatched entries. Or two parts of the file fit.
    """
    if any(p.is_meta for p in model.parameters()):
        model.to_empty(device="cpu")
    held = model.state_dict(keep_vars=True).items()
    expected = {k: v for k, v in held if isinstance(v, torch.Tensor)}
    hidden = {k: v for k, v in model.named_buffers() if k not in expected}
    counters = {k for k in expected if k.endswith("num_batches_tracked")}
    renamed, note = _best_reading(state, expected, hidden, expected.keys() - counters, whose)
    notes, used = [note] if note else [], dict(renamed)
    conflicts = [
        f"{key} is {tuple(renamed[key].shape)} in the file and {tuple(value.shape)} in the model"
        for key, value in {**expected, **hidden}.items()
        if _conflict(value, renamed.get(key))
    ]
    if conflicts:
        missing = [key for key in expected if key not in renamed]
        unexpected = [key for key in renamed if key not in expected and key not in hidden]
    else:
        _check_ties(expected, renamed)
        _adopt_dtypes(expected, renamed)
        for key in hidden.keys() & renamed.keys():
            hidden[key].data = renamed.pop(key).detach().clone()
        try:
            left = model.load_state_dict(renamed, strict=False)
        except Exception as error:
            raise ArchitectureError(f"the weights do not fit {whose}: {error}") from error
        missing, unexpected = left.missing_keys, left.unexpected_keys
    wrong = {
        "missing in the file": [key for key in missing if key not in counters],
        "unexpected in the file": unexpected,
        "shape conflicts": conflicts,
    }
    if any(wrong.values()):
        listed = "; ".join(f"{what}: {shorten(names)}" for what, names in wrong.items() if names)
        raise ArchitectureError(f"the weights do not fit {whose}. {listed}")
    if counters - renamed.keys():
        notes.append("num_batches_tracked, which is not in the file, left at 0")
    return notes, used


def _best_reading(
    state: State, expected: State, hidden: State, required: set[str], whose: str
) -> tuple[State, str]:
    """The weights by the names that fit, with a note; where none fit, by those that fit most."""
    known = {**expected, **hidden}
    most, best = -1, (state, "")
    fitting: dict[str, tuple[State, str]] = {}
    for names, note, branch in _readings(state):
        tied = _with_ties(expected, names)
        fits = required <= tied.keys() <= known.keys()
        if fits and not any(_conflict(known[key], value) for key, value in tied.items()):
            if not branch or branch.rpartition(".")[2] in _WRAPPERS:
                return tied, note
            fitting[branch] = (tied, note)
        elif len(required & tied.keys()) > most:
            most, best = len(required & tied.keys()), (tied, note)
    if len(fitting) > 1:
        raise ArchitectureError(
            f"the file holds several networks that fit {whose}: {shorten(list(fitting))}. Choose "
            f"one with `key={next(iter(fitting))}`"
        )
    return next(iter(fitting.values()), best)


def _with_ties(expected: State, state: State) -> State:
    """The same with names added under which the model shares a tensor that is there."""
    there = {id(expected[name]): state[name] for name in state if name in expected}
    missing = {k: there[id(v)] for k, v in expected.items() if k not in state and id(v) in there}
    return {**state, **missing}


def _conflict(own: torch.Tensor, stored: torch.Tensor | None) -> bool:
    return stored is not None and not is_lazy(own) and stored.shape != own.shape


def _check_ties(expected: State, state: State) -> None:
    """Refuse different values for weights that the model shares between two names."""
    first: dict[int, str] = {}
    for key, value in expected.items():
        twin = first.setdefault(id(value), key)
        one, two = state.get(twin), state.get(key)
        if twin != key and one is not None and two is not None and not torch.equal(one, two):
            raise ArchitectureError(
                f"the model shares {twin} and {key}, but the file holds different values"
            )


def _adopt_dtypes(expected: State, state: State) -> None:
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
