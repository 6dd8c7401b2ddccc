"""Kernels that can be differentiated twice, and what autograd keeps for a backward pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from hessscope.torch_internals import (
    WEIGHT_NORM,
    DispatchMode,
    FunctionMode,
    has_weight_norm,
    scripts_are_optimized,
)


@dataclass(frozen=True)
class SecondOrderKernels:
    """Kernels that can be differentiated twice.

    Attention uses the math kernel (the fused ones have no second derivative), the fused
    transformer layer is off, and TF32 is off. TorchScript runs as it was written: what it optimises
    is taken out of the graph of derivatives as one function.

    Attributes:
        recurrent: on CUDA there is no cuDNN, whose backward pass through recurrent layers cannot
            be differentiated.
        weight_norm: weight normalisation is spelt out.
        widened: casts of the model to a narrower type than this one are made to this one.
    """

    recurrent: bool = False
    weight_norm: bool = False
    widened: torch.dtype | None = None

    @classmethod
    def of(cls, model: torch.nn.Module) -> SecondOrderKernels:
        """What a model needs, by its modules."""
        modules = list(model.modules())
        return cls(
            recurrent=any(isinstance(module, torch.nn.RNNBase) for module in modules),
            weight_norm=any(map(has_weight_norm, modules)),
        )

    @contextmanager
    def chosen(self) -> Iterator[None]:
        """Choose them; the settings are restored at the end.

        To change settings and back takes as long as a third of a product with a small network, so
        that a loop enters this once, and within it nothing is done.
        """
        if self._stand():
            yield
            return
        with ExitStack() as stack:
            stack.enter_context(sdpa_kernel(SDPBackend.MATH))
            stack.enter_context(torch.jit.optimized_execution(False))
            if self.weight_norm:
                stack.enter_context(_PlainWeightNorm())
            if self.widened is not None:
                stack.enter_context(_Widening(self.widened))
            # What is not given goes to torch's defaults, also where the user set something else.
            cudnn = torch.backends.cudnn
            stack.enter_context(
                cudnn.flags(
                    enabled=cudnn.enabled and not self.recurrent,
                    benchmark=cudnn.benchmark,
                    benchmark_limit=cudnn.benchmark_limit,
                    deterministic=cudnn.deterministic,
                    allow_tf32=False,
                )
            )
            fused = torch.backends.mha.get_fastpath_enabled()
            tf32 = torch.backends.cuda.matmul.allow_tf32
            stack.callback(torch.backends.mha.set_fastpath_enabled, fused)
            stack.callback(setattr, torch.backends.cuda.matmul, "allow_tf32", tf32)
            torch.backends.mha.set_fastpath_enabled(False)
            torch.backends.cuda.matmul.allow_tf32 = False
            yield

    def _stand(self) -> bool:
        """Whether torch is set so already.

        Asked of torch itself: the settings are the process's, and another thread may have put them
        back in the meantime.
        """
        cuda, cudnn = torch.backends.cuda, torch.backends.cudnn
        return not (
            self.weight_norm  # a mode of the thread, which torch does not tell
            or self.widened is not None  # likewise
            or torch.backends.mha.get_fastpath_enabled()
            or scripts_are_optimized()
            or cuda.flash_sdp_enabled()
            or cuda.mem_efficient_sdp_enabled()
            or cuda.cudnn_sdp_enabled()
            or not cuda.math_sdp_enabled()
            or cuda.matmul.allow_tf32
            or cudnn.allow_tf32
            or (self.recurrent and cudnn.enabled)
        )


class _PlainWeightNorm(FunctionMode):
    """Replaces torch's fused weight normalisation by g·v/‖v‖ in plain operations.

    The second derivative of ``torch._weight_norm`` is wrong: it takes ‖v‖ for a constant
    (``torch.autograd.gradgradcheck`` fails, found with torch 2.13).
    """

    def call(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if func is not WEIGHT_NORM:
            return func(*args, **kwargs)
        v, g, dim = (*args, *kwargs.values(), 0)[:3]
        others = [axis for axis in range(v.ndim) if axis != dim % v.ndim] if dim != -1 else None
        return v * (g / torch.linalg.vector_norm(v, dim=others, keepdim=True))


class _Widening(FunctionMode):
    """Computes in one type what a model's code casts to a narrower one, as many norms do."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        every = (torch.float32, torch.float16, torch.bfloat16)
        self._dtype, self._narrow = dtype, [t for t in every if t != dtype]

    def call(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        def wide(value: Any) -> Any:
            narrow = isinstance(value, torch.dtype) and value in self._narrow
            return self._dtype if narrow else value

        if func in (torch.Tensor.float, torch.Tensor.half, torch.Tensor.bfloat16):
            return args[0].to(self._dtype)
        named = {name: wide(value) for name, value in kwargs.items()}
        return func(*map(wide, args), **named)


Note = Callable[[torch.Tensor], None]


def note_saved(compute: Callable[[], Any], note: Note) -> None:
    """Run a computation and give ``note`` each tensor that its graph keeps.

    Transforms of ``torch.func`` within it know no hooks of saved tensors. Then the results of all
    operations are given, which are those that are kept and some more.
    """

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        note(tensor)
        return tensor

    try:
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            compute()
    except RuntimeError as error:
        if "saved tensor hooks" not in str(error):
            raise
        with _Results(note):
            compute()


def graph_nodes(value: torch.Tensor) -> Iterator[Any]:
    """Each node once of the graph from which a value came."""
    seen: set[Any] = {None}
    waiting: list[Any] = [value.grad_fn]
    while waiting:
        node = waiting.pop()
        if node not in seen:
            seen.add(node)
            waiting.extend(following for following, _ in node.next_functions)
            yield node


class _Results(DispatchMode):
    """Notes what every operation gives."""

    def __init__(self, note: Note) -> None:
        super().__init__()
        self._note = note

    def call(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        result = func(*args, **kwargs)
        for tensor in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(tensor, torch.Tensor):
                self._note(tensor)
        return result
