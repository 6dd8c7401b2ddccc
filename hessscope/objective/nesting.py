"""Inputs and targets of any shape: a tensor, or tuples and dicts of tensors, examples first."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

import numpy as np
import torch

from hessscope.errors import DataError
from hessscope.objective.rows import Rows
from hessscope.torch_internals import tree_map

#: A tensor, or a tuple or dict (of tuples, of dicts …) of tensors with the same leading length;
#: ``Rows`` may stand for a tensor.
Nested: TypeAlias = Any
LEAVES = (torch.Tensor, Rows)

# Integer types that torch can store but hardly compute with.
_WIDER = {np.dtype("uint16"): np.int32, np.dtype("uint32"): np.int64, np.dtype("uint64"): np.int64}


def as_tensors(value: object, what: str) -> Nested:
    """Turn arrays, lists of numbers, tuples and dicts of them into (nested) CPU tensors.

    ``what`` names the value in messages ("inputs", "targets"). Memory is shared with the
    caller's array where that is possible; nothing here ever writes to it.

    Raises:
        DataError: something is neither a number nor an array of numbers, or has no dimension.
    """
    if isinstance(value, Rows):
        return value
    if isinstance(value, Mapping):
        return {str(key): as_tensors(part, f"{what}['{key}']") for key, part in value.items()}
    if isinstance(value, tuple) or (
        isinstance(value, list) and any(_is_array(part) for part in value)
    ):
        return tuple(as_tensors(part, f"{what}[{i}]") for i, part in enumerate(value))
    tensor = value.detach().cpu() if isinstance(value, torch.Tensor) else _from_numpy(value, what)
    if tensor.is_complex():
        raise DataError(f"{what}: complex numbers cannot be used; real ones are needed.")
    if tensor.layout != torch.strided or tensor.is_quantized:
        raise DataError(f"{what}: a dense tensor is needed, not {tensor.layout}.")
    if tensor.ndim == 0:
        raise DataError(f"{what}: a single number; an array with one entry an example is needed.")
    return tensor


def _is_array(value: object) -> bool:
    return isinstance(value, (torch.Tensor, Mapping)) or (
        hasattr(value, "__array__") and getattr(value, "ndim", 0) > 0
    )


def _from_numpy(value: object, what: str) -> torch.Tensor:
    try:
        array = np.asarray(value)
    except ValueError as error:  # rows of different lengths
        raise DataError(f"{what}: not a rectangular array of numbers ({error}).") from None
    if array.dtype.kind not in "biufc":
        raise DataError(f"{what}: has dtype {array.dtype}, numbers are needed.")
    unsigned = array.dtype.kind == "u" and array.dtype.itemsize == 8
    if unsigned and array.size and array.max() > np.iinfo(np.int64).max:
        raise DataError(f"{what}: has integers beyond the 64-bit signed range.")
    if array.dtype.kind == "f" and array.dtype.itemsize > 8:  # longdouble: torch has none
        array = array.astype(np.float64)
    dtype = array.dtype.newbyteorder("=")
    native = array.astype(_WIDER.get(dtype, dtype), copy=False)
    # torch wants memory that it may write to and strides that are not negative.
    if not native.flags.writeable or any(stride < 0 for stride in native.strides):
        native = native.copy(order="C")
    return torch.from_numpy(native)


def named_leaves(value: Nested, name: str = "") -> Iterator[tuple[str, torch.Tensor]]:
    """Yield ``(name, tensor)`` of every tensor, in order: ``('inputs[0]', …)``."""
    if isinstance(value, dict):
        for key, part in value.items():
            yield from named_leaves(part, f"{name}['{key}']")
    elif isinstance(value, tuple):
        for i, part in enumerate(value):
            yield from named_leaves(part, f"{name}[{i}]")
    else:
        yield name, value


def map_leaves(function: Callable[[Any], Any], value: Nested) -> Nested:
    """Apply ``function`` to every tensor and keep the nesting, and what is no tensor."""
    return tree_map(lambda x: function(x) if isinstance(x, LEAVES) else x, value)


def concatenate(parts: list[Nested], what: str) -> Nested:
    """Join values of the same nesting along the examples; ``what`` names them in messages.

    Raises:
        DataError: their shapes or their nesting differ.
    """
    if len(parts) == 1:
        return parts[0]
    if any(isinstance(leaf, Rows) for _, leaf in named_leaves(tuple(parts))):
        raise DataError(
            f"{what} cannot be streamed as one: take one `split`, or join them before, as in "
            "torch.utils.data.ConcatDataset([one, other])"
        )
    try:
        return tree_map(lambda *leaves: torch.cat(leaves), *parts)
    except (RuntimeError, TypeError, ValueError) as error:
        raise DataError(
            f"{what} do not fit together ({error}): all examples need one shape; pad all to the "
            "same, not those of each batch to their own"
        ) from error


def examples(value: Nested, name: str) -> int:
    """Return the common leading length.

    Raises:
        DataError: the tensors disagree, or there is no tensor at all.
    """
    lengths = {leaf: tensor.shape[0] for leaf, tensor in named_leaves(value, name)}
    if not lengths:
        raise DataError(f"{name}: there is no array in it.")
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{leaf} {length:,}" for leaf, length in lengths.items())
        raise DataError(f"{name}: parts have different numbers of examples: {listed}.")
    return next(iter(lengths.values()))


def describe(value: Nested) -> str:
    """Shapes and types in a few words: ``(60000, 28, 28) uint8``."""
    return "; ".join(
        f"{name + ' ' if name else ''}{tuple(tensor.shape)} {str(tensor.dtype).split('.')[-1]}"
        for name, tensor in named_leaves(value)
    )
