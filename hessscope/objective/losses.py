"""Losses: a mean over the units of a batch, which are examples or labels."""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F

from hessscope.errors import ObjectiveError, OptionError, UnknownNameError
from hessscope.objective.cross_entropy import summed_cross_entropy

LossFunction = Callable[[Any, Any], torch.Tensor]
#: The Fisher information of one observation, as a product: outputs, axis of the classes, vectors.
Information = Callable[[torch.Tensor, int, torch.Tensor], torch.Tensor]

#: How the axis of the classes is written behind the name of a loss, as in "cross_entropy@last".
CLASS_AXES = {"1": 1, "last": -1}

_MODEL_NAMES = ("model", "net", "network", "module")


# From so many on logits are too large to have copies of.
_MANY_CLASSES = 8192

#: Torch's default for labels that a loss leaves out.
IGNORED = -100


@dataclass(frozen=True)
class Loss:
    """A loss and what it expects.

    The mean over a data set is Σ units · mean / Σ units over its batches, whatever these are: each
    example weighs the same, or each label where some are left out or have weights.

    Attributes:
        name: as in ``LOSSES``, or of the function.
        function: ``function(outputs, targets)`` → mean over the batch's examples (scalar), or one
            value for each example, shape (N,), or a pair of a mean and its number of units. One of
            ``LOSSES`` also takes the axis of the classes, None where there is none.
        takes: what the outputs of the model are: "logits", "probabilities", …, or "any".
        targets: what the targets mean: "classes" (numbers, or probabilities over the classes),
            "bits" (numbers from 0 to 1), "values" (any numbers); "any" for functions of one's own.
        class_axis: axis of the outputs that has the classes, 1 or −1; None where the shapes of
            outputs and targets decide.
        information: of one observation in the outputs, where the loss is a log-likelihood.
        align: turns targets into the labels of the outputs' positions, where these differ.
        units: what the mean is over: "examples"; "labels", those that count, by their weights where
            they have any; or "own units", whose number the function gives.
        of_model: whether the function takes the model and a batch.
    """

    name: str
    function: Callable[..., Any]
    takes: str = "any"
    targets: str = "any"
    class_axis: int | None = None
    information: Information | None = None
    align: Callable[[torch.Tensor], torch.Tensor] | None = None
    units: str = "examples"
    of_model: bool = False

    @property
    def plain_name(self) -> str:
        """The name without the axis of the classes."""
        return self.name.partition("@")[0]

    def __call__(self, outputs: Any, targets: Any) -> torch.Tensor:
        """The loss of a batch: its mean, or one value for each example."""
        return self.with_units(outputs, targets)[0]

    def with_units(self, outputs: Any, targets: Any) -> tuple[Any, Any]:
        """The loss of a batch, and of how many units it is the mean; None where of examples.

        Args:
            outputs: the model's; for a function of the model what that gave.
            targets: of the same examples.
        """
        if self.of_model:
            value = outputs
        elif self.units == "labels":
            total = self._values(outputs, targets, reduction="sum")
            units = self.label_weights(targets).sum().to(total.dtype)
            # The mean of no labels is not a number; their sum is zero.
            return total / units.clamp(min=torch.finfo(total.dtype).tiny), units
        else:
            value = self._values(outputs, targets)
        if isinstance(value, tuple) and len(value) == 2:
            mean, units = value
            if isinstance(units, torch.Tensor) and isinstance(mean, torch.Tensor):
                units = units.detach().to(mean.dtype)
            return mean, units
        return value, None

    def _values(self, outputs: Any, targets: Any, **reduction: str) -> Any:
        if self.targets == "any":
            if reduction:
                return _summed(self.function)(outputs, targets)
            return self.function(outputs, targets)
        labels = self.labels(targets)
        return self.function(outputs, labels, self.axis(outputs, labels), **reduction)

    def labels(self, targets: Any) -> Any:
        """Targets by the outputs' positions."""
        return self.align(targets) if self.align else targets

    def label_weights(self, targets: torch.Tensor) -> torch.Tensor:
        """What each label weighs: its class's weight, or 1; 0 for one that is left out."""
        labels, valid = self.labels(targets), self.counted(targets)
        weight = getattr(self.function, "weight", None)
        return valid if weight is None else weight[labels.where(valid, 0)] * valid

    def counted(self, targets: torch.Tensor) -> torch.Tensor:
        """Which labels are not left out."""
        return self.labels(targets) != getattr(self.function, "ignore_index", IGNORED)

    def axis(self, outputs: torch.Tensor, targets: torch.Tensor) -> int | None:
        """Axis of the classes: the loss's own, else by the shapes; None where there is none."""
        return self.class_axis or next(iter(class_axes(outputs, targets)), None)


def _summed(module: Any) -> Any:
    """A loss module of torch that gives the sum in place of the mean."""
    twin = copy.copy(module)
    twin.reduction = "sum"
    return twin


def class_axes(outputs: torch.Tensor, labels: torch.Tensor) -> list[int]:
    """Axes of the outputs that may have the classes, by the shapes: 1 (torch's own), −1, or both.

    Convolutional models give (N, C, H, W) for labels (N, H, W); sequence models (N, T, C) for
    labels (N, T).
    """
    shape, own = tuple(outputs.shape), tuple(labels.shape)
    if len(shape) < 2:
        return []
    axes = [1] if shape[:1] + shape[2:] == own else []
    if len(shape) > 2 and shape[:-1] == own:
        axes.append(-1)
    return axes


def cross_entropy(
    logits: torch.Tensor, labels: torch.Tensor, axis: int | None, reduction: str = "mean"
) -> torch.Tensor:
    """−log softmax(logits)[label], labels as class numbers or as probabilities over classes."""
    last = axis in (-1, logits.ndim - 1)
    if labels.ndim < logits.ndim and last and logits.shape[-1] >= _MANY_CLASSES:
        total = summed_cross_entropy(logits.flatten(0, -2), labels.flatten(), IGNORED)
        return total if reduction == "sum" else total / (labels != IGNORED).sum()
    logits = logits.movedim(axis or 1, 1)
    if labels.ndim < logits.ndim:
        return F.cross_entropy(logits, labels, reduction=reduction)
    # Probabilities, or one-hot stored as integers.
    return F.cross_entropy(logits, labels.movedim(axis or 1, 1).to(logits.dtype))


def next_labels(tokens: torch.Tensor) -> torch.Tensor:
    """Tokens (N, T) moved so that each stands where it is predicted; none follows the last."""
    labels = tokens.roll(-1, 1)
    labels[:, -1] = IGNORED
    return labels


def nll(
    outputs: torch.Tensor, labels: torch.Tensor, axis: int | None, reduction: str = "mean"
) -> torch.Tensor:
    """−log p[label], for models that end in log-softmax."""
    return F.nll_loss(outputs.movedim(axis or 1, 1), labels, reduction=reduction)


def nll_probabilities(
    outputs: torch.Tensor, labels: torch.Tensor, axis: int | None, reduction: str = "mean"
) -> torch.Tensor:
    """−log p[label], for models that end in softmax."""
    return nll(outputs.log(), labels, axis, reduction)


def are_class_numbers(outputs: torch.Tensor, targets: torch.Tensor) -> bool:
    """Whether targets are class numbers by their type and shape.

    Where there is a single output, integers are the value itself and no class numbers.
    """
    return (
        not targets.is_floating_point()
        and targets.ndim == outputs.ndim - 1
        and outputs[:1].numel() > targets[:1].numel()
    )


def as_targets(
    outputs: torch.Tensor, targets: torch.Tensor, axis: int | None = None
) -> torch.Tensor:
    """Targets in the outputs' shape: class numbers become one-hot, images are flattened.

    Raises:
        ObjectiveError: the two have no common shape.
    """
    shape, own = tuple(outputs.shape), tuple(targets.shape)
    axes = class_axes(outputs, targets)
    if are_class_numbers(outputs, targets) and axes:
        axis = axis if axis in axes else axes[0]
        return F.one_hot(targets.long(), shape[axis]).movedim(-1, axis).to(outputs.dtype)
    if own == shape:
        return targets.to(outputs.dtype)
    flat = min(len(own), len(shape)) <= 2 and own[:1] == shape[:1]
    alike = [n for n in own if n != 1] == [n for n in shape if n != 1]
    if (flat or alike) and math.prod(own) == math.prod(shape):
        return targets.reshape(shape).to(outputs.dtype)
    raise ObjectiveError(
        f"targets of shape {own} do not fit outputs of shape {shape}: this loss takes targets of "
        "the outputs' shape, or class numbers, which are integers"
    )


def mse(outputs: torch.Tensor, targets: torch.Tensor, axis: int | None) -> torch.Tensor:
    """Squared error, mean over examples and outputs; class numbers are taken as one-hot."""
    return F.mse_loss(outputs, as_targets(outputs, targets, axis))


def softmax_mse(logits: torch.Tensor, targets: torch.Tensor, axis: int | None) -> torch.Tensor:
    """Squared error of softmax(logits), as the published code of arXiv:1706.02052 has it."""
    return mse(torch.softmax(logits, dim=axis or -1), targets, axis)


def bce(logits: torch.Tensor, targets: torch.Tensor, axis: int | None) -> torch.Tensor:
    """Binary cross-entropy of logits, mean over examples and outputs."""
    return F.binary_cross_entropy_with_logits(logits, as_targets(logits, targets, axis))


# A loss that is −log p(y | f) up to a constant, in the mean over the independent observations that
# the labels are (examples, and positions or outputs within them), has a Fisher information in the
# outputs f: the expectation of the second derivative, and of the score's outer product, over labels
# drawn from the model itself (Martens, JMLR 21:146, 2020). In closed form, for one observation:
#
#     cross_entropy       diag(p) − p pᵀ, p = softmax(f)
#     nll                 diag(p), p = exp(f)
#     nll_probabilities   diag(1/f)
#     bce                 p (1 − p), p = sigmoid(f)
#     mse                 2, the inverse variance of the Gaussian for which it is −log p


def _softmax(logits: torch.Tensor, axis: int, vectors: torch.Tensor) -> torch.Tensor:
    weighted = torch.softmax(logits, axis) * vectors
    return weighted - torch.softmax(logits, axis) * weighted.sum(axis, keepdim=True)


def _log_probabilities(outputs: torch.Tensor, _: int, vectors: torch.Tensor) -> torch.Tensor:
    return outputs.exp() * vectors


def _probabilities(outputs: torch.Tensor, _: int, vectors: torch.Tensor) -> torch.Tensor:
    return vectors / outputs


def _bits(logits: torch.Tensor, _: int, vectors: torch.Tensor) -> torch.Tensor:
    return torch.sigmoid(logits) * torch.sigmoid(-logits) * vectors


def _gaussian(_: torch.Tensor, __: int, vectors: torch.Tensor) -> torch.Tensor:
    return 2 * vectors


LOSSES = {
    loss.name: loss
    for loss in (
        Loss("cross_entropy", cross_entropy, "logits", "classes", information=_softmax),
        Loss(
            "next_token",
            cross_entropy,
            "logits",
            "classes",
            class_axis=-1,
            information=_softmax,
            align=next_labels,
            units="labels",
        ),
        Loss("mse", mse, "any", "values", information=_gaussian),
        Loss("softmax_mse", softmax_mse, "logits", "values"),
        Loss("bce", bce, "logits", "bits", information=_bits),
        Loss("nll", nll, "log-probabilities", "classes", information=_log_probabilities),
        Loss(
            "nll_probabilities",
            nll_probabilities,
            "probabilities",
            "classes",
            information=_probabilities,
        ),
    )
}


def get_loss(loss: str | Loss | LossFunction) -> Loss:
    """Look up a loss by name, or take a callable ``(outputs, targets) → tensor`` as one.

    A name may state the axis of the classes: "cross_entropy@1" for (N, C, …), as torch has it,
    "cross_entropy@last" for (N, …, C).

    A callable ``(model, batch) → mean``, or ``→ (mean, number of units)``, is known by the name of
    its first argument: model, net, network, or module. Of a class that takes no arguments, such as
    ``nn.MSELoss``, an instance is made.

    Raises:
        UnknownNameError: the name is not known.
        OptionError: there is no such axis, or the callable does not take outputs and targets.
    """
    if isinstance(loss, Loss):
        return loss
    if callable(loss):
        keywords = loss.keywords if isinstance(loss, partial) else {}
        function = loss.func if isinstance(loss, partial) else loss
        name = getattr(function, "__name__", type(function).__name__)
        if function in _MODULES:
            return Loss(name, _MODULES[function](**keywords))
        return _checked(loss, name)
    name, stated, axis = loss.partition("@")
    if name not in LOSSES:
        raise UnknownNameError(
            "loss", loss, LOSSES, "A function of your own is given as file.py:function."
        )
    if not stated:
        return LOSSES[name]
    if LOSSES[name].align:
        raise OptionError(f"loss {loss}: {name} takes outputs (N, T, classes), and no other axis")
    if axis not in CLASS_AXES:
        raise OptionError(
            f"loss {loss}: the axis of the classes is 1, as in {name}@1 for outputs (N, C, …), or "
            f"last, as in {name}@last for outputs (N, …, C)"
        )
    return replace(LOSSES[name], name=loss, class_axis=CLASS_AXES[axis])


#: Losses of torch as functions, and as the modules that have the same arguments.
_MODULES: dict[Any, Callable[..., torch.nn.Module]] = {
    F.cross_entropy: torch.nn.CrossEntropyLoss,
    F.nll_loss: torch.nn.NLLLoss,
}


def _checked(loss: Callable[..., Any], name: str) -> Loss:
    """The loss, or the instance of its class; what takes other arguments is refused."""
    if isinstance(loss, type):
        try:
            loss = loss()
        except TypeError as error:
            raise OptionError(
                f"loss {name} is a class that needs arguments: give an instance of it, such as "
                f"my_loss = {name}(…), and name that"
            ) from error
    try:
        signature = inspect.signature(loss.forward if isinstance(loss, torch.nn.Module) else loss)
    except ValueError:  # some functions written in C do not tell
        return Loss(name, loss)
    except TypeError as error:
        raise OptionError(f"loss {name} makes objects that cannot be called") from error
    taken = list(signature.parameters)
    of_model = bool(taken) and taken[0] in _MODEL_NAMES
    try:
        signature.bind("outputs", "targets")
    except TypeError as error:
        shown = ", ".join(taken) or "nothing"
        raise OptionError(
            f"loss {name} takes {shown}: it must take outputs and targets, or model and batch"
        ) from error
    return Loss(name, loss, of_model=of_model)
