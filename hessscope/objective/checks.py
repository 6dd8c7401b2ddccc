"""Do model, data and loss fit together, and is their mean loss a function of θ alone?"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from hessscope.errors import (
    AssumptionWarning,
    NonDeterministicError,
    NonFiniteError,
    ObjectiveError,
    OptionError,
    PrecisionWarning,
    UnknownNameError,
)
from hessscope.objective import batches
from hessscope.objective.losses import Loss, as_targets, class_axis
from hessscope.parameters import ParameterLayout


def bad_choice(what: str, value: object, known: Iterable[str]) -> OptionError:
    """Error for an option that is not among its choices."""
    return UnknownNameError(what, str(value).removeprefix("torch."), known)


def negative(what: str, value: float) -> OptionError:
    """Error for an option that must be positive."""
    return OptionError(f"{what} is {value}, which is too small: give a larger number")


def wrong_length(shape: tuple[int, ...], size: int) -> ObjectiveError:
    """Error for a parameter vector of another length than the model's."""
    return ObjectiveError(f"a parameter vector of shape {shape} was given; expected ({size},)")


def finite_weights(layout: ParameterLayout, point: torch.Tensor) -> None:
    """Refuse NaN and infinity among the weights, naming the tensors."""
    bad = [
        f"{name} ({int((~torch.isfinite(t)).sum())} of {t.numel()})"
        for name, t in layout.unflatten(point).items()
        if not bool(torch.isfinite(t).all())
    ]
    if bad:
        raise NonFiniteError(
            f"NaN or infinite weights in {', '.join(bad)}: training diverged or the file is "
            "damaged; take an earlier checkpoint"
        )


def fits(loss: Loss, predict: Callable[[Any], Any], inputs: Any, targets: Any) -> None:
    """Try model and loss on a few examples; refuse a misfit and warn of the wrong kind of outputs.

    Raises:
        ObjectiveError: the loss rejects outputs or targets, or is not a mean over examples.
    """
    n = batches.length(inputs)
    four = min(4, n)
    outputs = predict(batches.take(inputs, 0, four))
    few = batches.take(targets, 0, four)
    if loss.name in ("cross_entropy", "nll", "nll_probabilities"):
        labels_in_range(outputs, targets)
    try:
        whole = loss.function(outputs, few)
        first = loss.function(batches.take(outputs, 0, 1), batches.take(targets, 0, 1))
    except ObjectiveError:
        raise
    except Exception as error:
        said = " ".join(str(error).split())[:300]
        raise ObjectiveError(
            f"the loss '{loss.name}' does not take the model's outputs {_shape(outputs)} with "
            f"targets {_shape(few)} ({type(error).__name__}: {said})"
        ) from error
    if not isinstance(whole, torch.Tensor) or whole.ndim > 1 or (whole.ndim and len(whole) != four):
        raise ObjectiveError(
            f"the loss '{loss.name}' must return the mean over the batch (a scalar tensor) or one "
            f"value for each example (shape ({four},)); it returned {_shape(whole)}"
        )
    if four > 1 and whole.ndim == 0:
        rest = loss.function(batches.take(outputs, 1, four), batches.take(targets, 1, four))
        parts = (float(first) + (four - 1) * float(rest)) / four
        slack = 1e-4 * (abs(parts) + abs(float(whole)) + 1e-6)
        if abs(parts - float(whole)) > slack:
            raise ObjectiveError(
                f"the loss '{loss.name}' is not a mean over examples: {four} together give "
                f"{float(whole):.6g}, one by one they average {parts:.6g}. Return the mean over "
                "the batch, or one value for each example"
            )
    if isinstance(outputs, torch.Tensor):
        wanted = right_loss_for(loss, outputs)
        if wanted:
            warnings.warn(wanted, AssumptionWarning, stacklevel=3)


def labels_in_range(outputs: Any, targets: Any) -> None:
    """Refuse class numbers outside the model's outputs."""
    if (
        not isinstance(outputs, torch.Tensor)
        or not isinstance(targets, torch.Tensor)
        or targets.is_floating_point()
        or outputs.ndim < 2
    ):
        return
    sequence = outputs.ndim == targets.ndim + 1 and outputs.ndim > 2
    classes = outputs.shape[-1] if sequence and outputs.shape[1] == targets.shape[1] else None
    classes = classes or outputs.shape[1]
    low, high = int(targets.min()), int(targets.max())
    if low < 0 or high >= classes:
        raise ObjectiveError(
            f"labels run from {low} to {high}, but the model has {classes} outputs (labels "
            f"0 to {classes - 1}): check the data and its class numbering"
        )


def right_loss_for(loss: Loss, outputs: torch.Tensor) -> str | None:
    """Say which loss suits outputs that are not what the given one takes."""
    values = outputs.double()
    if loss.name == "bce":
        if bool(((values >= 0) & (values <= 1)).all()):
            return (
                "the outputs all lie in [0, 1]: they look like probabilities, but bce takes "
                "logits. Remove the final sigmoid from the model, or give --loss file.py:function"
            )
        return None
    if values.ndim < 2 or values.shape[-1] < 2:
        return None
    axes = (-1, 1)  # of the classes, as sequence models and convolutional ones have them
    probabilities = bool((values >= 0).all()) and _sums_to_one(values, axes)
    logarithms = bool((values <= 0).all()) and _sums_to_one(values.exp(), axes)
    if loss.takes == "logits" and probabilities:
        better = "nll_probabilities" if loss.name == "cross_entropy" else "mse"
        return (
            f"the outputs are probabilities already (they sum to 1), but {loss.name} takes "
            f"logits: softmax is applied twice. The right loss is {better}"
        )
    if loss.name == "cross_entropy" and logarithms:
        return (
            "the outputs are log-probabilities already: the right loss is nll, which has "
            "the same value and the same Hessian (log-softmax twice changes nothing)"
        )
    fits = {"log-probabilities": logarithms, "probabilities": probabilities}.get(loss.takes, True)
    if not fits:
        better = "nll" if logarithms else "nll_probabilities" if probabilities else "cross_entropy"
        return (
            f"{loss.name} takes {loss.takes}, and these outputs are none: they do not sum to 1 as "
            f"such. The right loss is {better}"
        )
    return None


def _sums_to_one(values: torch.Tensor, axes: tuple[int, ...]) -> bool:
    """Along one of the axes."""
    sums = [values.sum(axis) for axis in axes]
    return any(torch.allclose(total, torch.ones_like(total), atol=1e-4) for total in sums)


def correct(loss: Loss, outputs: Any, targets: Any) -> torch.Tensor | None:
    """Which predictions are right; None where accuracy means nothing."""
    if not isinstance(outputs, torch.Tensor) or not isinstance(targets, torch.Tensor):
        return None
    classes = outputs.ndim == targets.ndim + 1 and outputs.shape[-1] > 1
    if loss.name == "bce" and (targets.is_floating_point() or not classes):
        return (outputs > 0) == (as_targets(outputs, targets) > 0.5)
    if targets.is_floating_point() or not classes:
        return None
    axis = -1 if outputs.shape[:-1] == targets.shape else 1
    return outputs.argmax(axis) == targets


def deterministic(
    once: tuple[float, torch.Tensor],
    again: tuple[float, torch.Tensor],
    *,
    remedy: str = "the model draws random numbers in evaluation mode (dropout applied by function, "
    "noise, random augmentation); make it deterministic",
) -> None:
    """Refuse a loss or gradient that changes from one evaluation to the next."""
    (value, gradient), (value_again, gradient_again) = once, again
    # GPU kernels may add in another order each time: that much is rounding, more is not.
    slack = 1e4 * torch.finfo(gradient.dtype).eps
    drift = float(torch.linalg.vector_norm(gradient - gradient_again))
    size = float(torch.linalg.vector_norm(gradient))
    if abs(value - value_again) > slack * abs(value) or drift > slack * max(size, abs(value)):
        raise NonDeterministicError(
            f"two evaluations at the same weights differ (loss {value:.9g} and {value_again:.9g}, "
            f"gradients by {drift:.3g}): {remedy}"
        )


def own_parameters_only(value: torch.Tensor, theta: torch.Tensor) -> None:
    """Refuse a loss that depends on trainable tensors outside θ, or not on θ at all.

    A function kept in a model (``self.act = lambda x: self.layer(x)``) goes on using the layers of
    the original when the model is copied: the Hessian would lack them without a word.

    Args:
        value: a loss, computed from θ.
        theta: leaf of the graph.
    """
    seen, strangers = set(), []
    waiting: list[Any] = [value.grad_fn]
    reached = False
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        leaf = node.variable if type(node).__name__ == "AccumulateGrad" else None
        if leaf is theta:
            reached = True
        elif leaf is not None:
            strangers.append(tuple(leaf.shape))
        waiting.extend(following for following, _ in node.next_functions)
    if strangers:
        raise ObjectiveError(
            f"the model computes with trainable tensors (of shape {strangers[0]}, …) that are not "
            "among its own parameters: functions kept in the model that refer to the model itself "
            "(a lambda that calls self.layer) use the original after copying, and tensors in a "
            "plain list are no parameters. Make them methods, modules or registered parameters"
        )
    if not reached:
        raise ObjectiveError("the loss does not depend on any trainable parameter of the model")


def full_precision(predict: Callable[[Any], Any], inputs: Any, dtype: torch.dtype) -> None:
    """Warn of a model that computes in lower precision than it is asked for."""
    with _Narrowings(dtype) as narrowings:
        predict(batches.take(inputs, 0, 1))
    if narrowings.found is not None:
        warnings.warn(
            f"the model casts to {str(narrowings.found).removeprefix('torch.')} inside, though "
            f"{str(dtype).removeprefix('torch.')} was asked for: the noise floor, which compares "
            "computations that share this rounding, does not cover all of it",
            PrecisionWarning,
            stacklevel=3,
        )


class _Narrowings(TorchDispatchMode):
    """Watches for casts from one floating-point type to a narrower one."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self._bits = torch.finfo(dtype).bits
        self.found: torch.dtype | None = None

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # Else torch imports its compiler, in a second or two, only to keep away from it.
        return False

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if (
            func is torch.ops.aten._to_copy.default
            and args[0].dtype.is_floating_point
            and result.dtype.is_floating_point
            and torch.finfo(result.dtype).bits < self._bits == torch.finfo(args[0].dtype).bits
        ):
            self.found = result.dtype
        return result


def independent(predict: Callable[[Any], Any], inputs: Any) -> None:
    """Refuse a model in which one example's output depends on the others in its batch."""
    n = min(4, batches.length(inputs))
    if n < 2:
        return
    together = batches.leaves(predict(batches.take(inputs, 0, n)))
    alone = batches.leaves(predict(batches.take(inputs, 0, 1)))
    for many, one in zip(together, alone, strict=True):
        scale = float(many.abs().max()) + 1e-12
        slack = 1e5 * torch.finfo(many.dtype).eps if many.is_floating_point() else 0.0
        if many.shape[0] == n and float((many[:1] - one).abs().max()) > slack * scale:
            raise NonDeterministicError(
                "the output for one example depends on the others in its batch (batch "
                "normalisation without running statistics?): the mean loss over a data set is "
                "then not defined without its batches; use running statistics"
            )


def _shape(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        return f"of shape {tuple(value.shape)}"
    return f"({type(value).__name__})"


def classes(loss: Loss, outputs: Any, targets: Any) -> int | None:
    """Number of classes that the outputs choose between; None for a regression."""
    if not isinstance(outputs, torch.Tensor) or not isinstance(targets, torch.Tensor):
        return None
    if loss.name in ("cross_entropy", "nll", "nll_probabilities"):
        return int(outputs.shape[class_axis(outputs, targets)])
    if outputs[0].numel() == 1:
        return 2 if loss.name == "bce" else None
    if targets.is_floating_point() or outputs.ndim != targets.ndim + 1:
        return None
    return int(outputs.shape[-1])
