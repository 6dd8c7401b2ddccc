"""Models in the data type and on the device of a computation."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import torch

from hessscope.errors import ObjectiveError
from hessscope.objective.losses import Loss
from hessscope.torch_internals import (
    convert_tensors,
    without_compiled_parts,
    without_wrapper,
)


def move(model: torch.nn.Module, dtype: torch.dtype, device: torch.device) -> torch.nn.Module:
    """Move a model in place and return it: real numbers to ``dtype``, complex ones to its pair.

    ``Module.to(dtype)`` would throw away the imaginary part of complex buffers.

    Args:
        model: its parameters stay the same objects.
        dtype: float64 or float32; complex tensors become complex128 or complex64.
        device: where to.
    """
    complex_dtype = torch.complex128 if dtype == torch.float64 else torch.complex64

    def convert(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.is_complex():
            return tensor.to(dtype=complex_dtype, device=device)
        return tensor.to(dtype=dtype if tensor.is_floating_point() else None, device=device)

    return convert_tensors(model, convert)


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
    return move(result.eval(), dtype, device)


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
