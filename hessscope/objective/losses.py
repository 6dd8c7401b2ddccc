"""Loss functions by name: the mean over the examples of a batch."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F

from hessscope.errors import ObjectiveError, UnknownNameError

LossFunction = Callable[[Any, Any], torch.Tensor]


@dataclass(frozen=True)
class Loss:
    """A loss and what it expects.

    Attributes:
        name: as in ``--loss``.
        function: ``function(outputs, targets)`` → mean over the batch's examples (scalar), or one
            value for each example, shape (N,).
        takes: what the outputs of the model are, in words: "logits", "probabilities", …
    """

    name: str
    function: LossFunction
    takes: str


def class_axis(outputs: torch.Tensor, labels: torch.Tensor) -> int:
    """Which axis of the outputs has the classes, counted from the end.

    Sequence models give (N, T, C) for labels (N, T); convolutional ones (N, C, H, W).
    """
    if outputs.ndim == labels.ndim + 1 and outputs.shape[:-1] == labels.shape:
        return -1
    return 1 - outputs.ndim


def _class_first(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Outputs with the classes in dimension 1, as torch's losses want them."""
    axis = class_axis(outputs, labels)
    return outputs if axis == 1 - outputs.ndim else outputs.movedim(axis, 1)


def cross_entropy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """−log softmax(logits)[label], labels as class numbers or as probabilities over classes."""
    if labels.is_floating_point():
        return F.cross_entropy(logits, labels)
    if labels.shape == logits.shape:  # one-hot, stored as integers
        return F.cross_entropy(logits, labels.to(logits.dtype))
    return F.cross_entropy(_class_first(logits, labels), labels)


def nll(log_probabilities: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """−log p[label], for models that end in log-softmax."""
    return F.nll_loss(_class_first(log_probabilities, labels), labels)


def nll_probabilities(probabilities: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """−log p[label], for models that end in softmax."""
    return nll(probabilities.log(), labels)


def as_targets(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Targets in the outputs' shape: class numbers become one-hot, images are flattened.

    Where there is a single output, integers are the value itself and no class numbers.

    Raises:
        ObjectiveError: the two have no common shape.
    """
    classes = outputs.shape[-1] if outputs.ndim == targets.ndim + 1 else 1
    if not targets.is_floating_point() and classes > 1:
        return F.one_hot(targets.long(), outputs.shape[-1]).to(outputs.dtype)
    if targets.shape != outputs.shape:
        if targets.shape[0] == outputs.shape[0] and math.prod(targets.shape) == math.prod(
            outputs.shape
        ):
            return targets.reshape(outputs.shape).to(outputs.dtype)
        raise ObjectiveError(
            f"targets of shape {tuple(targets.shape)} do not fit outputs of shape "
            f"{tuple(outputs.shape)}: this loss takes targets of the outputs' shape, or class "
            "numbers"
        )
    return targets.to(outputs.dtype)


def mse(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Squared error, mean over examples and outputs; class numbers are taken as one-hot."""
    return F.mse_loss(outputs, as_targets(outputs, targets))


def softmax_mse(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Squared error of softmax(logits), as the published code of arXiv:1706.02052 has it."""
    return mse(torch.softmax(logits, dim=-1), targets)


def bce(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Binary cross-entropy of logits, mean over examples and outputs."""
    return F.binary_cross_entropy_with_logits(logits, as_targets(logits, targets))


LOSSES = {
    loss.name: loss
    for loss in (
        Loss("cross_entropy", cross_entropy, "logits"),
        Loss("mse", mse, "any"),
        Loss("softmax_mse", softmax_mse, "logits"),
        Loss("bce", bce, "logits"),
        Loss("nll", nll, "log-probabilities"),
        Loss("nll_probabilities", nll_probabilities, "probabilities"),
    )
}


def get_loss(loss: str | Loss | LossFunction) -> Loss:
    """Look up a loss by name, or take a callable ``(outputs, targets) → tensor`` as one.

    Raises:
        UnknownNameError: the name is not known.
    """
    if isinstance(loss, Loss):
        return loss
    if callable(loss):
        return Loss(getattr(loss, "__name__", type(loss).__name__), loss, "any")
    if loss not in LOSSES:
        raise UnknownNameError(
            "loss", loss, LOSSES, "A function of your own is given as file.py:function."
        )
    return LOSSES[loss]
