"""Torch settings under which second derivatives exist and are computed in full precision."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel


@contextmanager
def second_order_kernels(model: torch.nn.Module | None = None) -> Iterator[None]:
    """Choose kernels that can be differentiated twice; the settings are restored at the end.

    Attention uses the math kernel (the fused ones have no second derivative), the fused
    transformer layer is off, recurrent networks on CUDA do without cuDNN (whose backward pass
    cannot be differentiated), and TF32 is off.
    """
    recurrent = model is not None and any(isinstance(m, torch.nn.RNNBase) for m in model.modules())
    with ExitStack() as stack:
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        stack.enter_context(
            torch.backends.cudnn.flags(
                enabled=torch.backends.cudnn.enabled and not recurrent, allow_tf32=False
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
