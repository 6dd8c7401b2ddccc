"""Slices of nested tensors that share their leading dimension."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import torch

from hessscope.errors import ObjectiveError
from hessscope.objective.nesting import LEAVES, map_leaves
from hessscope.objective.rows import AT_ONCE, Rows
from hessscope.torch_internals import tree_leaves

Map = Callable[[torch.Tensor], torch.Tensor]


def leaves(tree: Any) -> list[Any]:
    """All tensors of a nested structure, and all ``Rows``."""
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, LEAVES)]


def length(tree: Any) -> int:
    """The common leading dimension."""
    return int(leaves(tree)[0].shape[0])


def pick(tree: Any, which: torch.Tensor | slice) -> Any:
    """Examples with the numbers ``which`` of every tensor: copies, or for a slice views."""
    return map_leaves(lambda tensor: tensor[which], tree)


def convert(tree: Any, dtype: torch.dtype, device: torch.device) -> Any:
    """Cast and move every tensor; see :func:`cast`."""
    return map_leaves(partial(cast, dtype=dtype, device=device), tree)


def cast(tensor: Any, dtype: torch.dtype, device: torch.device) -> Any:
    """Real numbers in ``dtype``, complex ones in its pair, integers as they are, on the device."""
    if isinstance(tensor, Rows):
        return tensor.map(partial(cast, dtype=dtype, device=device))
    own = dtype if tensor.is_floating_point() else tensor.dtype
    return tensor.to(device=device, dtype=dtype.to_complex() if tensor.is_complex() else own)


LAYOUTS: tuple[tuple[str, Map], ...] = (
    ("", lambda x: x),
    ("flattened", lambda x: x.flatten(1)),
    ("channel dimension removed", lambda x: x.squeeze(1)),
    ("channel dimension added", lambda x: x.unsqueeze(1)),
)


def fit_layout(
    forward: Callable[[Any], Any], loss: Callable[[Any], Any], inputs: Any
) -> tuple[Any, str]:
    """Give the inputs the layout that the model accepts: as they are, flattened, or by channel.

    A layout that model and loss both take is preferred to one that only the model takes: a linear
    layer accepts an image with as many columns as it has inputs, but its outputs fit no labels.

    Args:
        forward: the model, of the inputs of one example.
        loss: the loss of the first example, of its outputs.
        inputs: all inputs.

    Returns:
        The inputs and what was done to them, in a word or two ("" for nothing).

    Raises:
        ObjectiveError: the model accepts none of the layouts; carries torch's own message.
    """
    layouts = LAYOUTS if isinstance(inputs, LEAVES) else LAYOUTS[:1]

    def laid_out(reshape: Map) -> Any:
        return inputs.map(reshape) if isinstance(inputs, Rows) else reshape(inputs)

    problem: Exception | None = None
    fallback: tuple[Any, str] | None = None
    for description, reshape in layouts:
        try:
            candidate = reshape(pick(inputs, slice(1)))
        except (RuntimeError, IndexError):
            continue
        if description and candidate.shape == inputs[:1].shape:
            continue
        try:
            outputs = forward(candidate)
        except Exception as error:  # what a user's model raises is the model's own affair
            # The first message speaks of the user's own layout, so that is the one to show.
            problem = problem or error
            continue
        fallback = fallback or (laid_out(reshape), description)
        try:
            loss(outputs)
        except Exception:  # the caller tries the loss again, and says what is wrong with it
            continue
        return laid_out(reshape), description
    if fallback is None:
        raise _misfit(forward, inputs, problem)
    return fallback


def check_largest(forward: Callable[[Any], Any], inputs: Any) -> None:
    """Evaluate the model where the integers of the inputs are largest, such as numbers of tokens.

    Raises:
        ObjectiveError: an embedding has no row of this number.
    """
    whole = [leaf for leaf in leaves(inputs) if not leaf.is_floating_point() and leaf.numel()]
    rows = sorted(
        {int(torch.cat([*map(_largest, leaf.split(AT_ONCE))]).argmax()) for leaf in whole}
    )
    try:
        if rows:
            forward(pick(inputs, torch.tensor(rows)))
    except IndexError as error:
        raise _misfit(forward, inputs, error) from error


def _largest(part: torch.Tensor) -> torch.Tensor:
    return part.reshape(len(part), -1).amax(1)


def _misfit(
    forward: Callable[[Any], Any], inputs: Any, problem: Exception | None
) -> ObjectiveError:
    shapes = ", ".join(str(tuple(leaf.shape[1:])) for leaf in leaves(inputs))
    said = " ".join(f"{type(problem).__name__}: {problem}".split())[:300]
    if isinstance(problem, IndexError) and "out of range" in said:
        whole = [leaf for leaf in leaves(inputs) if not leaf.is_floating_point()]
        largest = max((int(p.max()) for leaf in whole for p in leaf.split(AT_ONCE)), default=0)
        return ObjectiveError(
            f"the inputs have numbers up to {largest:,}, or are longer, than an embedding of the "
            f"model has rows ({said}): check vocabulary, tokenizer and the length of the examples"
        )
    if length(inputs) > 1:
        with suppress(Exception):
            forward(pick(inputs, slice(2)))
            return ObjectiveError(
                f"the model takes two examples at once but not a single one ({said}): it computes "
                "with statistics of its batch, such as batch normalisation without running "
                "statistics, so that the mean loss over a data set is not defined without its "
                "batches. Give the layers running statistics (track_running_stats=True)"
            )
    if "dtype" in said:
        return ObjectiveError(
            f"the model cannot be evaluated in the data type asked for ({said}). It has tensors of "
            "another type that do not follow .to(dtype): casts or constants in its code, or "
            "functions kept in it that refer to the original model. `dtype=float32` may do"
        )
    return ObjectiveError(
        f"the model does not take inputs of shape {shapes} for each example ({said}). "
        "Check that the data is the one that the model was trained on; `resize` and `grayscale` "
        "change images, file.py:factory gives any other layout"
    )
