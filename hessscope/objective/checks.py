"""Do model, data and loss fit together? Models cast and moved, and checks of all three."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from hessscope.errors import (
    AssumptionWarning,
    NonFiniteError,
    ObjectiveError,
    PrecisionWarning,
)
from hessscope.objective import batches
from hessscope.objective.kernels import graph_nodes
from hessscope.objective.losses import Loss, are_class_numbers, as_targets
from hessscope.parameters import ParameterLayout
from hessscope.torch_internals import (
    DispatchMode,
    convert_tensors,
    without_compiled_parts,
    without_wrapper,
)

#: What to do about a model that is not deterministic.
DETERMINISTIC_MODEL = (
    "the model draws random numbers in evaluation mode (dropout applied by function, noise, random "
    "augmentation); make it deterministic"
)


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


def warn_of_outputs(loss: Loss, outputs: Any) -> None:
    """Say which loss suits outputs that are not what the given one takes."""
    if isinstance(outputs, torch.Tensor) and (better := _right_loss_for(loss, outputs)):
        warnings.warn(better, AssumptionWarning, stacklevel=3)


def _right_loss_for(loss: Loss, outputs: torch.Tensor) -> str | None:
    values = outputs.double()
    if loss.targets == "bits":
        if bool(((values >= 0) & (values <= 1)).all()):
            return (
                "the outputs all lie in [0, 1]: they look like probabilities, but bce takes "
                "logits. Remove the final sigmoid from the model, or give `loss=file.py:function`"
            )
        return None
    if values.ndim < 2 or values.shape[-1] < 2:
        return None
    axes = (-1, 1) if loss.class_axis is None else (loss.class_axis,)
    probabilities = bool((values >= 0).all()) and _sums_to_one(values, axes)
    logarithms = bool((values <= 0).all()) and _sums_to_one(values.exp(), axes)
    name = loss.plain_name
    if loss.takes == "logits" and probabilities:
        better = "nll_probabilities" if loss.targets == "classes" else "mse"
        return (
            f"the outputs are probabilities already (they sum to 1), but {name} takes "
            f"logits: softmax is applied twice. The right loss is {better}"
        )
    if loss.takes == "logits" and loss.targets == "classes" and logarithms:
        return (
            "the outputs are log-probabilities already: the right loss is nll, which has "
            "the same value and the same Hessian (log-softmax twice changes nothing)"
        )
    fits = {"log-probabilities": logarithms, "probabilities": probabilities}.get(loss.takes, True)
    if not fits:
        better = "nll" if logarithms else "nll_probabilities" if probabilities else "cross_entropy"
        return (
            f"{name} takes {loss.takes}, and these outputs are none: they do not sum to 1 as "
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
    if are_class_numbers(outputs, targets):
        axis, labels = loss.axis(outputs, targets), loss.labels(targets)
        return None if axis is None else (outputs.argmax(axis) == labels)[loss.counted(targets)]
    if loss.targets == "bits":
        return (outputs > 0) == (as_targets(outputs, targets) > 0.5)
    return None


def classes(loss: Loss, outputs: Any, targets: Any) -> int | None:
    """Number of classes that the outputs choose between; None for a regression."""
    if not isinstance(outputs, torch.Tensor) or not isinstance(targets, torch.Tensor):
        return None
    if loss.targets == "classes" or are_class_numbers(outputs, targets):
        axis = loss.axis(outputs, targets)
        return None if axis is None else int(outputs.shape[axis])
    return 2 if loss.targets == "bits" and outputs[0].numel() == 1 else None


def own_parameters_only(evaluate: Callable[[], torch.Tensor], theta: torch.Tensor) -> None:
    """Refuse a loss that depends on trainable tensors outside θ, or not on θ at all.

    A function kept in a model (``self.act = lambda x: self.layer(x)``) goes on using the layers of
    the original when the model is copied: the Hessian would lack them without a word. Such tensors
    are the same in two evaluations; what the model makes on the way (inputs for which it asks a
    gradient) is not.

    Args:
        evaluate: computes a loss from θ.
        theta: leaf of the graph.
    """
    graphs = [evaluate(), evaluate()]  # both are kept, so that identities stay apart
    first, second = ({id(leaf): leaf for leaf in _leaves(value)} for value in graphs)
    strangers = [leaf for key, leaf in first.items() if key in second and leaf is not theta]
    if strangers:
        raise ObjectiveError(
            f"the loss is computed with trainable tensors (of shape {tuple(strangers[0].shape)}, "
            "…) that are not among the model's parameters: functions kept in the model that refer "
            "to the model itself (a lambda that calls self.layer) use the original after copying, "
            "tensors in a plain list are no parameters, and those of a loss are not trained with "
            "the model. Make them methods, modules or registered parameters"
        )
    if id(theta) not in first:
        raise ObjectiveError("the loss does not depend on any trainable parameter of the model")


def _leaves(value: torch.Tensor) -> list[torch.Tensor]:
    """Tensors for which a gradient is accumulated at the ends of a graph."""
    return [n.variable for n in graph_nodes(value) if type(n).__name__ == "AccumulateGrad"]


def not_differentiable(error: Exception, times: str = "") -> ObjectiveError:
    """Error for what torch cannot differentiate (twice), with its own reason."""
    said = " ".join(f"{type(error).__name__}: {error}".split())[:300]
    compiled = "donated buffer" in said or "aot_autograd" in said or "aot autograd" in said
    remedy = ": give the function without torch.compile" if compiled else ""
    if times and not remedy:
        remedy = ": `products=finite_difference` takes gradients alone"
    return ObjectiveError(f"the loss cannot be differentiated{times} ({said}){remedy}")


def narrowed_to(
    predict: Callable[[Any], Any], inputs: Any, dtype: torch.dtype
) -> torch.dtype | None:
    """The type with fewer digits than ``dtype`` that the model casts to inside; None for none."""
    with _Narrowings(dtype) as narrowings:
        predict(batches.pick(inputs, slice(1)))
    return narrowings.found


def full_precision(predict: Callable[[Any], Any], inputs: Any, dtype: torch.dtype) -> None:
    """Warn of a model that computes in lower precision than it is asked for."""
    if (found := narrowed_to(predict, inputs, dtype)) is not None:
        warnings.warn(
            f"the model casts to {str(found).removeprefix('torch.')} inside, though "
            f"{str(dtype).removeprefix('torch.')} was asked for: the noise floor, which compares "
            "computations that share this rounding, does not cover all of it",
            PrecisionWarning,
            stacklevel=3,
        )


class _Narrowings(DispatchMode):
    """Watches for casts from one floating-point type to a narrower one."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self._bits = torch.finfo(dtype).bits
        self.found: torch.dtype | None = None

    def call(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        result = func(*args, **kwargs)
        if (
            func is torch.ops.aten._to_copy.default
            and args[0].dtype.is_floating_point
            and result.dtype.is_floating_point
            and torch.finfo(result.dtype).bits < self._bits == torch.finfo(args[0].dtype).bits
        ):
            self.found = result.dtype
        return result


def move(model: torch.nn.Module, dtype: torch.dtype, device: torch.device) -> torch.nn.Module:
    """Move a model in place and return it: real numbers to ``dtype``, complex ones to its pair.

    ``Module.to(dtype)`` would throw away the imaginary part of complex buffers.

    Args:
        model: its parameters stay the same objects.
        dtype: float64 or float32; complex tensors become complex128 or complex64.
        device: where to.
    """
    return convert_tensors(model, partial(batches.cast, dtype=dtype, device=device))


def loss_copy(loss: Loss, dtype: torch.dtype, device: torch.device) -> Loss:
    """A loss whose function has the data type: buffers of a module, such as class weights."""
    if not isinstance(loss.function, torch.nn.Module):
        return loss
    return replace(loss, function=move(copy.deepcopy(loss.function).eval(), dtype, device))


def evaluation_copy(
    model: torch.nn.Module, dtype: torch.dtype, device: torch.device
) -> torch.nn.Module:
    """A copy in evaluation mode: the user's model keeps its state whatever happens."""
    if any(map(torch.nn.parameter.is_lazy, (*model.parameters(), *model.buffers()))):
        raise ObjectiveError(
            "the model has lazy layers without weights yet: call it once on an input, or load its "
            "weights, before its Hessian is asked for"
        )
    model = without_wrapper(model)
    try:
        result = copy.deepcopy(model, _computed_attributes(model))
    except Exception as error:
        raise ObjectiveError(f"the model cannot be copied ({error}); detach its tensors") from error
    result = without_compiled_parts(result)
    complex_names = [name for name, p in result.named_parameters() if p.is_complex()]
    if complex_names:
        raise ObjectiveError(
            f"complex parameters ({', '.join(complex_names)}) are not supported: keep real and "
            "imaginary parts as two real ones"
        )
    for name, module in result.named_modules():
        if not isinstance(module, torch.nn.Embedding):
            continue
        if module.max_norm is not None:
            raise ObjectiveError(
                f"the embedding {name} shrinks its weights when it is called (max_norm="
                f"{module.max_norm}), so that the loss is no function of them: shrink them once, "
                "and set max_norm to None"
            )
        # What torch's backward pass leaves out or scales is no derivative.
        module.padding_idx, module.scale_grad_by_freq, module.sparse = None, False, False
    return move(result.eval(), dtype, device)


def padding_rows(model: torch.nn.Module) -> dict[str, int]:
    """Rows that training leaves as they are, by the names of the embeddings' weights."""
    return {
        f"{name}.weight".lstrip("."): module.padding_idx
        for name, module in without_wrapper(model).named_modules()
        if isinstance(module, torch.nn.Embedding) and module.padding_idx is not None
    }


def warn_of_padding(rows: dict[str, int], gradient: dict[str, torch.Tensor]) -> None:
    """Say that the loss depends on a row of an embedding that training leaves as it is.

    Args:
        rows: from ``padding_rows``.
        gradient: by the names of the parameters.
    """
    for name, row in rows.items():
        if name in gradient and bool(gradient[name][row].any()):
            warnings.warn(
                f"the loss depends on row {row} of {name}, the padding_idx, which training leaves "
                "as it is: the Hessian counts it among the parameters. If it should not matter, "
                "give the model a mask (attention_mask) and leave padded labels out (-100)",
                AssumptionWarning,
                stacklevel=4,
            )


def _computed_attributes(model: torch.nn.Module) -> dict[int, Any]:
    """Stand-ins, for ``deepcopy``, for tensors that layers keep from their last call.

    The old ``torch.nn.utils.weight_norm`` keeps the weight that it computes; it is made anew at
    the next call, but as part of a graph it cannot be copied.
    """
    return {
        id(value): value.detach().clone()
        for module in model.modules()
        for value in vars(module).values()
        if isinstance(value, torch.Tensor) and value.grad_fn is not None
    }
