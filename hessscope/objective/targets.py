"""Targets that a loss cannot mean, seen over the whole data set before anything is computed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from hessscope.errors import ObjectiveError
from hessscope.objective.losses import (
    IGNORED,
    LOSSES,
    Loss,
    are_class_numbers,
    as_targets,
    class_axes,
)

# Probabilities may have been stored in half precision.
_SUM_SLACK = 2e-3

# Losses of torch that mean by their targets what ours of that name means.
_TORCHS_OWN = {
    torch.nn.CrossEntropyLoss: "cross_entropy",
    torch.nn.NLLLoss: "nll",
    torch.nn.functional.binary_cross_entropy_with_logits: "bce",
    torch.nn.BCEWithLogitsLoss: "bce",
}


def settled(loss: Loss, outputs: Any, targets: Any) -> Loss:
    """The loss with the axis of its classes and its units, if these targets mean something to it.

    Args:
        loss: ℓ.
        outputs: the model's, for at least one example.
        targets: of all examples, or of some: what the others showed stays in the loss.

    Cost: a few passes over the targets.

    Raises:
        ObjectiveError: the targets mean something else; names the loss to take.
    """
    if loss.targets == "any":
        own = loss.function
        for torchs, name in _TORCHS_OWN.items():
            if torchs in (own, type(own)):
                # It has what the module ignores, so that these labels are looked at as it does.
                twin = replace(LOSSES[name], name=loss.name, class_axis=1, units=loss.units)
                if isinstance(targets, torch.Tensor) and not targets.is_floating_point():
                    ignored = getattr(own, "ignore_index", IGNORED)
                    targets = targets.where(targets != ignored, IGNORED)
                units = settled(twin, outputs, targets).units
                return replace(loss, units=_of_torchs_own(own, units, outputs, targets))
        return loss
    for what, value in (("the model gives", outputs), ("the targets are", targets)):
        if not isinstance(value, torch.Tensor):
            raise ObjectiveError(
                f"{what} a {type(value).__name__}, and {loss.name} takes one tensor: wrap the "
                "model or the data so that there is one, or give a loss of your own "
                "(file.py:function), which gets outputs and targets as they are"
            )
    if loss.align and targets.ndim < 2:
        raise ObjectiveError(f"{loss.name} takes tokens (N, T); the targets are {_kind(targets)}")
    targets = loss.labels(targets)
    softmax = loss.plain_name == "softmax_mse"
    if outputs[:1].numel() == 1 and (loss.targets == "classes" or softmax):
        bits = _within(targets, 0, 1) and not bool(((targets > 0) & (targets < 1)).any())
        raise ObjectiveError(
            f"the model has one output for each example, and {loss.name} chooses between several "
            f"classes: with one it is constant. The right loss is {'bce' if bits else 'mse'}"
        )
    if are_class_numbers(outputs, targets):
        return _with_class_numbers(loss, outputs, targets)
    if loss.targets == "classes":
        return _with_probabilities(loss, outputs, targets)
    as_targets(outputs[:1], targets[:1])  # refuses shapes that do not fit
    if (loss.targets == "bits" or softmax) and not _within(targets, 0, 1):
        remedy = "The right loss is mse"
        if loss.targets == "bits" and not targets.is_floating_point():
            remedy = "Write classes as 0 and 1; for values that are no classes the loss is mse"
        raise ObjectiveError(f"{loss.name} takes targets from 0 to 1; {_range(targets)}. {remedy}")
    if softmax and outputs.ndim > 2:
        return _with_probabilities(loss, outputs, targets)
    return loss


def _with_class_numbers(loss: Loss, outputs: torch.Tensor, labels: torch.Tensor) -> Loss:
    """Find the axis, and refuse numbers outside the classes."""
    axes = class_axes(outputs, labels[: len(outputs)])
    if not axes:
        raise ObjectiveError(_misfit(loss, outputs, labels))
    loss = _with_axis(loss, outputs, labels, axes)
    assert loss.class_axis is not None
    classes = outputs.shape[loss.class_axis]
    low, high = int(labels.min()), int(labels.max())
    if low == IGNORED:
        valid = labels[labels != IGNORED]
        if loss.targets != "classes":
            raise ObjectiveError(
                f"{labels.numel() - len(valid):,} of {labels.numel():,} labels are {IGNORED}, "
                f"which cross_entropy leaves out and {loss.name} cannot: give loss=cross_entropy, "
                "or one of your own that returns (mean, number of labels)"
            )
        loss, low = replace(loss, units="labels"), int(valid.min()) if len(valid) else 0
    if low < 0 or high >= classes:
        raise ObjectiveError(
            f"labels run from {low} to {high}, but the model has {classes} outputs (labels "
            f"0 to {classes - 1}): check the data and its class numbering"
        )
    return loss


def _with_probabilities(loss: Loss, outputs: torch.Tensor, targets: torch.Tensor) -> Loss:
    """Find the axis along which the targets are probabilities, one-hot ones among them."""
    if targets.shape[1:] != outputs.shape[1:]:
        raise ObjectiveError(_misfit(loss, outputs, targets))
    if loss.takes != "logits":
        raise ObjectiveError(
            f"{loss.name} takes class numbers (integers), and the targets are {_kind(targets)}: "
            "for probabilities over classes the loss is cross_entropy, of the logits"
        )
    smallest, values = float(targets.min()), targets.double()
    sums = {axis: values.sum(axis) for axis in ((1,) if outputs.ndim == 2 else (1, -1))}
    axes = [a for a, s in sums.items() if float((s - 1).abs().max()) <= _SUM_SLACK]
    if smallest >= 0 and axes:
        return _with_axis(loss, outputs, targets, axes)
    low = min(float(x.min()) for x in sums.values())
    high = max(float(x.max()) for x in sums.values())
    better = "bce" if _within(targets, 0, 1) else "mse"
    raise ObjectiveError(
        f"{loss.name} takes class numbers (integers) or probabilities that sum to 1 over the "
        f"classes, and the targets are neither: {_range(targets)}, and they sum to between "
        f"{low:.4g} and {high:.4g}. The right loss is {better}"
    )


def _with_axis(loss: Loss, outputs: torch.Tensor, targets: torch.Tensor, axes: list[int]) -> Loss:
    """The loss with the axis that was stated or the only one that is possible."""
    shapes = f"outputs of shape (N, {_sizes(outputs)}) and targets of shape (N, {_sizes(targets)})"
    plain = loss.plain_name
    if loss.class_axis is not None:
        if outputs.ndim > 2 and loss.class_axis not in axes:
            raise ObjectiveError(
                f"{loss.name}: for {shapes} the classes can only be along the "
                f"{'first axis behind the examples' if axes == [1] else 'last axis'}: take {plain}"
            )
        return loss
    if len(axes) > 1:
        raise ObjectiveError(
            f"{shapes} fit with the classes along either axis: give {plain}@1 for (N, classes, …), "
            f"as torch has it, or {plain}@last for (N, …, classes), as sequence models have it"
        )
    return replace(loss, class_axis=axes[0])


def _misfit(loss: Loss, outputs: torch.Tensor, targets: torch.Tensor) -> str:
    """Say what targets of the wrong shape or type may be, and which loss they belong to."""
    expected = f"outputs of shape (N, {_sizes(outputs)}) and targets that are {_kind(targets)}"
    if targets.is_floating_point() and loss.targets == "classes":
        soft = " or probabilities of the outputs' shape" if loss.takes == "logits" else ""
        return (
            f"{loss.name} takes class numbers (integers){soft}, and has {expected}. Store class "
            "numbers as integers; if the targets are values to be met, the right loss is mse (or "
            "bce for 0 and 1), with as many outputs as values"
        )
    return (
        f"{loss.name} does not take {expected}: it takes class numbers with the shape of the "
        "outputs but for the axis of the classes, or targets of the outputs' shape"
    )


def _of_torchs_own(module: Any, units: str, outputs: torch.Tensor, targets: torch.Tensor) -> str:
    """What torch divides by: the labels that it does not ignore, or their classes' weights."""
    reduction = getattr(module, "reduction", "mean")
    if units == "labels" and reduction != "mean":
        raise ObjectiveError(
            f"some labels are {module.ignore_index}, which {type(module).__name__} leaves out, and "
            f'with reduction="{reduction}" the mean would count them: give it with '
            'reduction="mean", so that each of the other labels weighs the same'
        )
    weighted = isinstance(module, (torch.nn.CrossEntropyLoss, torch.nn.NLLLoss)) and (
        module.weight is not None and reduction == "mean"
    )
    return "labels" if weighted and are_class_numbers(outputs, targets) else units


def _within(values: torch.Tensor, low: float, high: float) -> bool:
    return bool((values >= low).all()) and bool((values <= high).all())


def _range(values: torch.Tensor) -> str:
    return f"they run from {float(values.min()):.4g} to {float(values.max()):.4g}"


def _kind(values: torch.Tensor) -> str:
    numbers = "real numbers" if values.is_floating_point() else "integers"
    return f"{numbers} of shape (N, {_sizes(values)})".replace(", )", ",)")


def _sizes(values: torch.Tensor) -> str:
    return ", ".join(map(str, values.shape[1:]))
