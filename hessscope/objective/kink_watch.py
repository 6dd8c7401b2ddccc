"""Follows what depends on θ through torch's dispatcher, and notes the kinks on the way."""

from __future__ import annotations

from typing import Any

import torch

from hessscope.objective.kernels import graph_nodes
from hessscope.objective.kinks import KINKED, OF_RESULT, SMOOTH, Crossing, Given, names
from hessscope.torch_internals import DispatchMode, FunctionMode, memory_of, schema, tree_leaves

# What they give does not depend on the values that they are given, where these are finite.
_CONSTANT = names(
    "zeros_like ones_like empty_like full_like rand_like randn_like new_zeros new_ones "
    "new_full new_empty new_empty_strided isnan isinf isfinite isposinf isneginf sym_size "
    "sym_numel sym_stride _has_compatible_shallow_copy_type is_same_size"
)

# A value becomes a number of Python, or decides how many rows there are.
_READ = names(
    "_local_scalar_dense is_nonzero equal allclose nonzero nonzero_static argwhere "
    "masked_select masked_scatter unique_dim _unique _unique2 unique_consecutive bincount "
    "histc"
)

# Functions of torch by which values leave it without a call of the dispatcher.
_LEAVING = frozenset(("numpy", "tolist", "__array__", "__dlpack__", "data_ptr"))

READ = "a value that is read (item, if, boolean indexing)"
DETACHED = "a value outside the graph (detach, no_grad, numpy)"


class KinkWatch(DispatchMode):
    """Notes where operators with kinks stand, in the order of the calls.

    What depends on θ is followed by its memory, so that a value which left the graph of derivatives
    is still known. Only what depends on θ counts: masks and maxima of the data have no kinks in θ.
    A mode ``Leaving(watch)`` is entered beside it.

    Attributes:
        crossings: of the operators with kinks.
        undetermined: what cannot be looked at: operators of neither list, values that are read.
        value: what was computed within, with its graph.

    Args:
        theta: a leaf that requires its gradient.
    """

    def __init__(self, theta: torch.Tensor) -> None:
        super().__init__()
        self.crossings: list[Crossing] = []
        self.undetermined: set[str] = set()
        self.value: torch.Tensor = theta
        # By memory: whether it changes with θ, or only jumps, as a mask does. The tensors are kept,
        # since memory that is free is used again.
        self._varies: dict[int, bool] = {}
        self._kept: list[torch.Tensor] = []
        self._mark(theta, True)

    def call(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Carry out an operator, and note its kinks where it depends on θ."""
        moved = [t for t in tree_leaves((args, kwargs)) if self.follows(t)]
        if not moved:
            return func(*args, **kwargs)
        known = schema(func)
        space, _, name = known.name.partition("::")
        if known.is_mutable and not name.startswith("__"):
            name = name.removesuffix("_")
        given = {a.name: a.default_value for a in known.arguments if a.has_default_value()}
        given |= dict(zip((a.name for a in known.arguments), args, strict=False)) | kwargs
        varies = any(map(self._is_varying, moved))
        if name not in _CONSTANT and name not in OF_RESULT:
            self._look(name if space == "aten" else known.name, given, moved, varies)
        result = func(*args, **kwargs)
        if name in OF_RESULT:
            self._look(name, {**given, "result": result}, moved, varies)
        if name not in _CONSTANT:
            for leaf in tree_leaves(result):
                if isinstance(leaf, torch.Tensor):
                    smooth = leaf.is_floating_point() or leaf.is_complex()
                    self._mark(leaf, varies and smooth)
        return result

    def follows(self, value: Any) -> bool:
        """Whether it is a tensor that depends on θ."""
        return isinstance(value, torch.Tensor) and memory_of(value) in self._varies

    def _is_varying(self, tensor: torch.Tensor) -> bool:
        return self._varies[memory_of(tensor)] and tensor.dtype.is_floating_point

    def _mark(self, tensor: torch.Tensor, varies: bool) -> None:
        memory = memory_of(tensor)
        self._varies[memory] = varies or self._varies.get(memory, False)
        self._kept.append(tensor)

    def _look(self, name: str, given: Given, moved: list[torch.Tensor], varies: bool) -> None:
        """Note the kinks of an operator before it is computed, or that they are not known."""
        masks = tree_leaves(given.get("indices"))
        if name in _READ or any(self.follows(m) and m.dtype == torch.bool for m in masks):
            self.undetermined.add(READ)
            return
        if any(self._is_varying(t) and not t.requires_grad for t in moved):
            self.undetermined.add(DETACHED)
        if not varies:  # of masks and numbers of places nothing but a mask is made
            return
        if name in KINKED:
            try:
                found = KINKED[name](given)
            except (KeyError, TypeError, ValueError, RuntimeError):
                found = None
            if found is None:
                self.undetermined.add(name)
                return
            for values, parts in found:
                self.crossings.append(Crossing(name, values.detach(), tuple(parts)))
        elif name not in SMOOTH:
            self.undetermined.add(name)


class Leaving(FunctionMode):
    """Notes for a watch by which functions values leave torch, which the dispatcher is not told."""

    def __init__(self, watch: KinkWatch) -> None:
        super().__init__()
        self._watch = watch

    def call(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call it, and note it if it takes a followed value out of torch."""
        name = getattr(func, "__name__", "")
        owner = getattr(getattr(func, "__self__", None), "__name__", "")
        if (name in _LEAVING or owner == "data") and any(map(self._watch.follows, args)):
            self._watch.undetermined.add(DETACHED)
        return func(*args, **kwargs)


def custom_functions(value: torch.Tensor) -> set[str]:
    """Functions with a backward pass of their own in the graph of a value."""
    found: set[str] = set()
    for node in graph_nodes(value):
        if isinstance(node, torch.autograd.function.BackwardCFunction):
            found.add(f"the autograd function {type(node).__name__.removesuffix('Backward')}")
        elif type(node).__name__ == "CppFunction":
            found.add(f"a compiled function ({node.name()})")
    return found
