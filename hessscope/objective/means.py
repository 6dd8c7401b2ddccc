"""Tests that a loss is a mean over units whose examples do not influence each other."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
import torch

from hessscope.errors import NonDeterministicError, ObjectiveError
from hessscope.objective import batches
from hessscope.objective.checks import DETERMINISTIC_MODEL
from hessscope.objective.losses import Loss

_SPREAD = 5
_LABELS = 12

Predict = Callable[[Any], Any]


def spread(targets: Any, count: int, labels: int = 0) -> list[int]:
    """A few examples from all over the set: evenly spaced, and those with extreme targets.

    Args:
        targets: of all examples; the rows with the smallest and the largest number are taken.
        count: number of all examples.
        labels: so many class numbers, at most, have an example each.
    """
    rows = {round(i * (count - 1) / (_SPREAD - 1)) for i in range(_SPREAD)}
    if isinstance(targets, torch.Tensor) and targets.numel():
        values = targets.reshape(count, -1)
        rows |= {int(values.amin(1).argmin()), int(values.amax(1).argmax())}
        if labels and targets.ndim == 1 and not targets.is_floating_point():
            first = np.unique(targets.cpu().numpy(), return_index=True)[1]
            rows |= set(first[:: -(-len(first) // labels)].tolist())
    return sorted(rows)


def check_mean(loss: Loss, predict: Predict, nearby: Predict, inputs: Any, targets: Any) -> bool:
    """Compare some examples at once with the same ones alone, and in other batches and order.

    The examples are spread over the set, the first and the last among them. For losses of which
    nothing is known some of every class are among them: the mean may be weighted by classes.

    Args:
        loss: ℓ.
        predict: the model's outputs for some inputs.
        nearby: the same with weights moved a little, where nothing is hidden by zeros among them.
        inputs: of all examples.
        targets: of all examples.

    Returns:
        Whether the loss gives its own number of units.

    Cost: at most 13 passes forward, over at most 7 examples each; 25 over 19 for a loss of which
    nothing is known.

    Raises:
        NonDeterministicError: the outputs for an example depend on the others in its batch, or
            change from one evaluation to the next.
        ObjectiveError: the loss rejects outputs or targets, or is no mean over the examples.
    """
    unknown = loss.targets == "any"
    rows = spread(targets, batches.length(inputs), _LABELS if unknown else 0)
    middle = (len(rows) + 2) // 3
    alone = {"one at a time": [[row] for row in rows]}
    turned = {"in two batches in reverse order": [rows[:middle:-1], rows[middle::-1]]}
    same = {row: row for row in rows}
    own = _compare(loss, predict, inputs, targets, same, alone | turned)
    # Where all is fitted each loss is zero; with the targets of other examples none is.
    others = dict(zip(rows, rows[len(rows) // 2 :] + rows[: len(rows) // 2], strict=True))
    with suppress(_RejectedError):
        _compare(loss, nearby, inputs, targets, others, turned)
    return own


class _RejectedError(ObjectiveError):
    """The loss does not take some outputs and targets."""


def _compare(
    loss: Loss,
    predict: Predict,
    inputs: Any,
    targets: Any,
    paired: dict[int, int],
    splits: dict[str, list[list[int]]],
) -> bool:
    """Compare outputs and mean loss of some examples with those of each split into batches.

    Args:
        loss: ℓ.
        predict: the model.
        inputs: of all examples.
        targets: of all examples.
        paired: the examples, and that whose target each is given.
        splits: batches of the same examples, by how they are called.
    """
    rows = list(paired)
    outputs = _predict(predict, inputs, rows)
    parts = {
        how: [(part, _predict(predict, inputs, part)) for part in split if part]
        for how, split in splits.items()
    }
    for how, split in parts.items():
        _compare_outputs(outputs, split, rows, how, lambda: _predict(predict, inputs, rows))

    def of(which: list[int], given: Any) -> tuple[torch.Tensor, Any]:
        return _loss(loss, given, batches.pick(targets, torch.tensor([paired[i] for i in which])))

    whole, total = of(rows, outputs)
    fits = isinstance(whole, torch.Tensor) and whole.shape in ((), (len(rows),))
    if total is not None and not _is_count(total):
        raise ObjectiveError(
            f"the loss '{loss.name}' returned a pair whose second entry is {in_words(total)}: a "
            "pair is the mean over the batch and the number of its units, such as of labels"
        )
    if not fits or not whole.is_floating_point():
        raise ObjectiveError(
            f"the loss '{loss.name}' must return the mean over the batch (a scalar tensor), one "
            f"value for each example (shape ({len(rows)},)), or a mean and its number of units; it "
            f"returned {in_words(whole)}"
        )
    at_once = float(whole.double().mean())
    double = whole.dtype == torch.float64
    sizes = (float(leaf.abs().max()) for leaf in batches.leaves(outputs) if leaf.numel())
    floor = 1e3 * torch.finfo(whole.dtype).eps * max(1.0, *sizes)
    for how, split in parts.items():
        shares = [of(which, given) for which, given in split]
        counts = [
            len(which) if units is None else float(units)
            for (which, _), (_, units) in zip(split, shares, strict=True)
        ]
        values = [
            n * float(value.double().mean())
            for n, (value, _) in zip(counts, shares, strict=True)
            if n
        ]
        count = sum(counts)
        if total is not None and abs(count - float(total)) > 1e-4 * abs(float(total)):
            raise ObjectiveError(
                f"the loss '{loss.name}' counts {float(total):.9g} units in the examples {rows} at "
                f"once, and {count:.9g} {how}: the numbers of units must add up"
            )
        mean = sum(values) / count if count else math.nan
        slack = floor + (1e-6 if double else 1e-4) * sum(map(abs, values)) / (count or 1)
        # Not "larger than", which NaN is not, as in the mean of no labels.
        counts_nothing = total is not None and not count  # such as labels that are left out
        if math.isfinite(at_once) and not counts_nothing and not abs(mean - at_once) <= slack:
            wanted, aside = list(paired.values()), ""
            if wanted != rows:
                aside = f" with j = {wanted}, at weights moved by 1 %,"
            raise ObjectiveError(
                f"the loss '{loss.name}' is not a mean over examples: for the examples i = {rows}"
                f"{aside} loss(outputs[i], targets[{'j' if aside else 'i'}]) is {at_once:.6g} at "
                f"once, and {mean:.6g} in the mean {how}. Return the mean over the batch, one "
                "value for each example, or (mean, units) where it is the mean over other units, "
                "such as the labels that count"
            )
    return total is not None and loss.units != "labels"


def _predict(predict: Predict, inputs: Any, rows: list[int]) -> Any:
    try:
        return predict(batches.pick(inputs, torch.tensor(rows)))
    except Exception as error:  # what a user's model raises is the model's own affair
        said = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise ObjectiveError(
            f"the model takes a single example, but not {len(rows)} at once ({said}): it has to "
            "take batches of any size"
        ) from error


def _is_count(value: Any) -> bool:
    """Whether it is a number of units; a batch may have none."""
    if isinstance(value, torch.Tensor):
        value = value.item() if value.numel() == 1 else None
    return isinstance(value, (int, float)) and 0 <= value < math.inf


def _loss(loss: Loss, outputs: Any, targets: Any) -> tuple[torch.Tensor, Any]:
    try:
        return loss.with_units(outputs, targets)
    except ObjectiveError:
        raise
    except Exception as error:
        said = " ".join(str(error).split())[:300]
        hint = ""
        if "dtype" in said or "scalar type" in said:
            hint = ". Tensors that the loss keeps must follow the outputs: weight.to(outputs)"
        raise _RejectedError(
            f"the loss '{loss.name}' does not take the model's outputs {in_words(outputs)} with "
            f"targets {in_words(targets)} ({type(error).__name__}: {said}){hint}"
        ) from error


def _compare_outputs(
    outputs: Any,
    parts: list[tuple[list[int], Any]],
    rows: list[int],
    how: str,
    again: Callable[[], Any],
) -> None:
    """Refuse outputs that are not the same, row by row, in other batches."""
    where = [rows.index(row) for which, _ in parts for row in which]
    for number, many in enumerate(batches.leaves(outputs)):
        if many.ndim == 0 or len(many) != len(rows):
            continue  # not one row an example: left to the comparison of losses
        others = [batches.leaves(given)[number] for _, given in parts]
        alike = all(other.shape[1:] == many.shape[1:] for other in others)
        if alike and not _differ(many[where], torch.cat(others)):
            continue
        if _differ(batches.leaves(again())[number], many):
            raise NonDeterministicError(
                f"two evaluations of the model on the same examples differ: {DETERMINISTIC_MODEL}"
            )
        raise NonDeterministicError(
            "the output for one example depends on the others in its batch: for the examples "
            f"{rows} it is not the same at once and {how}. The mean loss over a data set is then "
            "not defined without its batches. Causes are batch normalisation without running "
            "statistics, a recurrent layer that takes examples for time steps (set batch_first), "
            "and a module that was traced with a batch of one"
        )


def _differ(one: torch.Tensor, other: torch.Tensor) -> bool:
    """By more than rounding, which is another one in other batches and may be amplified."""
    slack = {torch.float64: 1e-7, torch.float32: 1e-2}.get(one.dtype, 0.0)
    scale = float(one.abs().max()) + 1e-12
    near = float((one - other).abs().max()) <= slack * scale
    return not near and math.isfinite(scale)


def in_words(value: Any) -> str:
    """What a loss was given or gave, for messages."""
    if isinstance(value, torch.Tensor):
        return f"of shape {tuple(value.shape)}"
    return f"({type(value).__name__})"
