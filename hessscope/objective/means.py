"""Tests that a loss is a mean over examples which do not influence each other."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

from hessscope.errors import NonDeterministicError, ObjectiveError
from hessscope.objective import batches
from hessscope.objective.losses import Loss

_SPREAD = 5

Predict = Callable[[Any], Any]


def spread(targets: Any, count: int) -> list[int]:
    """A few examples from all over the set: evenly spaced, and those with extreme targets.

    Args:
        targets: of all examples; the rows with the smallest and the largest number are taken.
        count: number of all examples.
    """
    rows = {round(i * (count - 1) / (_SPREAD - 1)) for i in range(_SPREAD)}
    if isinstance(targets, torch.Tensor) and targets.numel():
        values = targets.reshape(count, -1)
        rows |= {int(values.amin(1).argmin()), int(values.amax(1).argmax())}
    return sorted(rows)


def check_mean(loss: Loss, predict: Predict, inputs: Any, targets: Any) -> None:
    """Compare some examples at once with the same ones alone, in reverse, and in two batches.

    The examples are spread over the set, the first and the last among them.

    Args:
        loss: ℓ.
        predict: the model's outputs for some inputs.
        inputs: of all examples.
        targets: of all examples.

    Cost: at most 11 passes forward, over at most 7 examples each.

    Raises:
        NonDeterministicError: the outputs for an example depend on the others in its batch, or
            change from one evaluation to the next.
        ObjectiveError: the loss rejects outputs or targets, or is no mean over the examples.
    """
    rows = spread(targets, batches.length(inputs))
    outputs = _predict(predict, inputs, rows)
    whole = _loss(loss, outputs, targets, rows)
    if not isinstance(whole, torch.Tensor) or whole.shape not in ((), (len(rows),)):
        raise ObjectiveError(
            f"the loss '{loss.name}' must return the mean over the batch (a scalar tensor) or one "
            f"value for each example (shape ({len(rows)},)); it returned {in_words(whole)}"
        )
    at_once = float(whole.double().mean())
    middle = (len(rows) + 2) // 3
    splits = {
        "one at a time": [[row] for row in rows],
        "in reverse order": [rows[::-1]],
        "in two batches": [rows[:middle], rows[middle:]],
    }
    for how, split in splits.items() if len(rows) > 1 else ():
        parts = [_predict(predict, inputs, part) for part in split]
        _compare_outputs(outputs, parts, split, rows, how, lambda: _predict(predict, inputs, rows))
        values = [
            float(_loss(loss, part, targets, which).double().mean())
            for part, which in zip(parts, split, strict=True)
        ]
        mean = sum(v * len(which) for v, which in zip(values, split, strict=True)) / len(rows)
        size = sum(abs(v) * len(which) for v, which in zip(values, split, strict=True)) / len(rows)
        slack = 1e-6 if whole.dtype == torch.float64 else 1e-4
        # Not "larger than", which NaN is not, as in the mean of no labels.
        if math.isfinite(at_once) and not abs(mean - at_once) <= slack * (size + 1e-6):
            raise ObjectiveError(
                f"the loss '{loss.name}' is not a mean over examples: for the examples i = {rows} "
                f"loss(outputs[i], targets[i]) is {at_once:.6g} at once, and "
                f"{mean:.6g} in the mean {how}. Return the mean over the batch, or one value for "
                "each example"
            )


def _predict(predict: Predict, inputs: Any, rows: list[int]) -> Any:
    try:
        return predict(batches.pick(inputs, torch.tensor(rows)))
    except Exception as error:  # what a user's model raises is the model's own affair
        said = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise ObjectiveError(
            f"the model takes a single example, but not {len(rows)} at once ({said}): it has to "
            "take batches of any size"
        ) from error


def _loss(loss: Loss, outputs: Any, targets: Any, rows: list[int]) -> Any:
    wanted = batches.pick(targets, torch.tensor(rows))
    try:
        return loss(outputs, wanted)
    except ObjectiveError:
        raise
    except Exception as error:
        said = " ".join(str(error).split())[:300]
        hint = ""
        if "dtype" in said or "scalar type" in said:
            hint = ". Tensors that the loss keeps must follow the outputs: weight.to(outputs)"
        raise ObjectiveError(
            f"the loss '{loss.name}' does not take the model's outputs {in_words(outputs)} with "
            f"targets {in_words(wanted)} ({type(error).__name__}: {said}){hint}"
        ) from error


def _compare_outputs(
    outputs: Any,
    parts: list[Any],
    split: list[list[int]],
    rows: list[int],
    how: str,
    again: Callable[[], Any],
) -> None:
    """Refuse outputs that are not the same, row by row, in another batch."""
    where = [rows.index(row) for part in split for row in part]
    for number, many in enumerate(batches.leaves(outputs)):
        if many.ndim == 0 or len(many) != len(rows):
            continue  # not one row an example: left to the comparison of losses
        others = torch.cat([batches.leaves(part)[number] for part in parts])
        expected = many[where]
        if others.shape == expected.shape and not _differ(expected, others):
            continue
        if _differ(batches.leaves(again())[number], many):
            raise NonDeterministicError(
                "two evaluations of the model on the same examples differ: it draws random "
                "numbers in evaluation mode (dropout applied by function, noise, random "
                "augmentation); make it deterministic"
            )
        raise NonDeterministicError(
            "the output for one example depends on the others in its batch: for the examples "
            f"{rows} it is not the same at once and {how}. The mean loss over a data set is then "
            "not defined without its batches. Causes are batch normalisation without running "
            "statistics, a recurrent layer that takes examples for time steps (set batch_first), "
            "and a module that was traced with a batch of one"
        )


def _differ(one: torch.Tensor, other: torch.Tensor) -> bool:
    """By more than rounding, whose size kernels choose by the size of the batch."""
    slack = 1e5 * torch.finfo(one.dtype).eps if one.is_floating_point() else 0.0
    scale = float(one.abs().max()) + 1e-12
    near = float((one - other).abs().max()) <= slack * scale
    return not near and math.isfinite(scale)


def in_words(value: Any) -> str:
    """What a loss was given or gave, for messages."""
    if isinstance(value, torch.Tensor):
        return f"of shape {tuple(value.shape)}"
    return f"({type(value).__name__})"
