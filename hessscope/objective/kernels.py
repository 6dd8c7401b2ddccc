"""Torch settings under which second derivatives exist and are computed in full precision."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode


@contextmanager
def second_order_kernels(model: torch.nn.Module | None = None) -> Iterator[None]:
    """Choose kernels that can be differentiated twice; the settings are restored at the end.

    Attention uses the math kernel (the fused ones have no second derivative), the fused
    transformer layer is off, recurrent networks on CUDA do without cuDNN (whose backward pass
    cannot be differentiated), weight normalisation is spelt out, and TF32 is off.
    """
    recurrent = model is not None and any(isinstance(m, torch.nn.RNNBase) for m in model.modules())
    with ExitStack() as stack:
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        if model is not None and any(map(_has_weight_norm, model.modules())):
            stack.enter_context(_PlainWeightNorm())
        # What is not given goes to torch's defaults, also where the user has set something else.
        cudnn = torch.backends.cudnn
        stack.enter_context(
            cudnn.flags(
                enabled=cudnn.enabled and not recurrent,
                benchmark=cudnn.benchmark,
                benchmark_limit=cudnn.benchmark_limit,
                deterministic=cudnn.deterministic,
                allow_tf32=False,
            )
        )
        fused = torch.backends.mha.get_fastpath_enabled()
        tf32 = torch.backends.cuda.matmul.allow_tf32
        torch.backends.mha.set_fastpath_enabled(False)
        torch.backends.cuda.matmul.allow_tf32 = False
        try:
            yield
        finally:
            torch.backends.mha.set_fastpath_enabled(fused)
            torch.backends.cuda.matmul.allow_tf32 = tf32


def _has_weight_norm(module: torch.nn.Module) -> bool:
    """Whether it is a weight normalisation, in its new form (a module) or its old one (a hook)."""
    hooks = module._forward_pre_hooks.values()
    return any(type(x).__name__ in ("_WeightNorm", "WeightNorm") for x in (module, *hooks))


class _PlainWeightNorm(TorchFunctionMode):
    """Replaces torch's fused weight normalisation by g·v/‖v‖ in plain operations.

    The second derivative of ``torch._weight_norm`` is wrong: it takes ‖v‖ for a constant
    (``torch.autograd.gradgradcheck`` fails, found with torch 2.13).
    """

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if func is not torch._weight_norm:
            return func(*args, **(kwargs or {}))
        v, g, dim = (*args, *(kwargs or {}).values(), 0)[:3]
        others = [axis for axis in range(v.ndim) if axis != dim % v.ndim] if dim != -1 else None
        return v * (g / torch.linalg.vector_norm(v, dim=others, keepdim=True))
