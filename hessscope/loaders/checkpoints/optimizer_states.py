"""States of optimisers beside the weights: which optimiser it was, and how far it had come."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch

# What the state of one parameter holds, by optimiser; the first that is all there is named.
_SIGNS: tuple[tuple[str, set[str]], ...] = (
    ("L-BFGS", {"old_dirs", "d"}),
    ("AMSGrad (Adam)", {"exp_avg", "exp_avg_sq", "max_exp_avg_sq"}),
    ("NAdam", {"exp_avg", "exp_avg_sq", "mu_product"}),
    ("Adam, or of its kind", {"exp_avg", "exp_avg_sq"}),
    ("Adamax", {"exp_avg", "exp_inf"}),
    ("Adafactor", {"exp_avg_sq_row", "exp_avg_sq_col"}),
    ("Adafactor", {"row_var", "col_var"}),
    ("Lion, or of its kind", {"exp_avg"}),
    ("Adadelta", {"square_avg", "acc_delta"}),
    ("RMSprop", {"square_avg"}),
    ("ASGD", {"eta", "ax"}),
    ("Rprop", {"prev", "step_size"}),
    ("Adagrad", {"sum"}),
    ("SGD with momentum", {"momentum_buffer"}),
)
_SETTINGS = (
    "lr", "momentum", "nesterov", "betas", "beta1", "beta2", "alpha", "rho", "eps", "weight_decay",
    "initial_lr",
)  # fmt: skip
_DEPTH = 4


def optimizers_in(content: object) -> dict[str, str]:
    """Describe the states of optimisers in what a file holds, by the keys that lead to them.

    The optimiser shows in the names that it keeps for each parameter (``exp_avg`` and
    ``exp_avg_sq`` are of Adam, ``momentum_buffer`` is of SGD).

    Example:
        >>> layer = torch.nn.Linear(2, 1)
        >>> optimizer = torch.optim.SGD(layer.parameters(), lr=0.1, momentum=0.9)
        >>> optimizers_in({"model": layer.state_dict(), "optimizer": optimizer.state_dict()})
        {'optimizer': 'SGD; lr 0.1, momentum 0.9; 2 tensors'}
    """
    found = _states(content, (), _DEPTH, set())
    return {".".join(path): _described(state) for path, state in found}


def _states(
    node: object, path: tuple[str, ...], depth: int, seen: set[int]
) -> Iterator[tuple[tuple[str, ...], Mapping[Any, Any]]]:
    if isinstance(node, Mapping) and _is_optimizer(node):
        yield path or ("optimizer",), node
    elif depth and isinstance(node, (Mapping, list, tuple)) and id(node) not in seen:
        seen.add(id(node))  # crafted files may hold one object any number of times
        items = node.items() if isinstance(node, Mapping) else enumerate(node)
        for key, value in items:
            yield from _states(value, (*path, str(key)), depth - 1, seen)


def _is_optimizer(node: Mapping[Any, Any]) -> bool:
    state, groups = node.get("state"), node.get("param_groups")
    return (
        isinstance(state, Mapping)
        and isinstance(groups, list)
        and all(isinstance(group, Mapping) for group in groups)
    )


def _described(node: Mapping[Any, Any]) -> str:
    states = [state for state in node["state"].values() if isinstance(state, Mapping)]
    groups: list[Mapping[Any, Any]] = node["param_groups"]
    held = {str(name) for state in states for name, value in state.items() if value is not None}
    tensors = sum(len(params) for g in groups if isinstance(params := g.get("params"), list))
    steps = sorted({n for s in states if (n := _number(s.get("step"))) is not None})
    ends = [f"{steps[0]:g}", f"{steps[-1]:g}"] if steps else []
    shown = [
        _name(held, groups),
        f"step {' to '.join(dict.fromkeys(ends))}" if ends else "",
        *dict.fromkeys(map(_settings, groups)),
        f"{tensors} tensors",
    ]
    return "; ".join(filter(None, shown))


def _name(held: set[str], groups: list[Mapping[Any, Any]]) -> str:
    """The optimiser, by what its states hold and by its options."""
    for name, signs in _SIGNS:
        if signs <= held:
            decoupled = {group.get("decoupled_weight_decay") for group in groups}
            known = name.startswith("Adam,") and decoupled <= {True, False}
            return ("AdamW" if True in decoupled else "Adam") if known and decoupled else name
    if held - {"step"}:
        return f"unknown, keeps {', '.join(sorted(held)[:6])}"
    return "SGD" if any("dampening" in group for group in groups) else "no state yet"


def _settings(group: Mapping[Any, Any]) -> str:
    """What a group of parameters was trained with."""
    found = []
    for name in _SETTINGS:
        value = group.get(name)
        values = value if isinstance(value, (tuple, list)) else [value]
        numbers = [n for v in values if (n := _number(v)) is not None]
        if numbers and (any(numbers) or name == "lr"):
            found.append(f"{name} {'/'.join(f'{n:g}' for n in numbers)}")
    return ", ".join(found)


def _number(value: Any) -> float | None:
    if isinstance(value, torch.Tensor) and value.numel() == 1:
        value = value.item()
    return float(value) if isinstance(value, (bool, int, float)) else None
