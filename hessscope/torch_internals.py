"""Private names of torch, all of them here.

``tests/test_torch_internals.py`` says what breaks where torch changes one.
"""

from __future__ import annotations

import io
from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import fx, nn
from torch.func import functionalize
from torch.fx.experimental.proxy_tensor import make_fx
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves as tree_leaves
from torch.utils._pytree import tree_map as tree_map

#: The fused weight normalisation, as modes of torch functions meet it.
WEIGHT_NORM: Callable[..., torch.Tensor] = torch._weight_norm


class DispatchMode(TorchDispatchMode):
    """Sends every operator of torch, below automatic differentiation, through ``call``."""

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
        return self.call(func, args, kwargs or {})

    @abstractmethod
    def call(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Carry out an operator.

        Args:
            func: overload of the operator.
            args: what it is given by position.
            kwargs: what it is given by name.
        """


class FunctionMode(TorchFunctionMode):
    """Sees every call of a function of torch from Python while it is active."""

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        return self.call(func, args, kwargs or {})

    @abstractmethod
    def call(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Carry out a function.

        Args:
            func: the function.
            args: what it is given by position.
            kwargs: what it is given by name.
        """


def schema(operator: Any) -> Any:
    """Name and arguments of an operator's overload."""
    return operator._schema


def scripts_are_optimized() -> bool:
    """Whether TorchScript rewrites graphs before it runs them."""
    return bool(torch._C._get_graph_executor_optimize())


def has_weight_norm(module: nn.Module) -> bool:
    """Whether it is a weight normalisation, in its new form (a module) or its old one (a hook)."""
    hooks = module._forward_pre_hooks.values()
    return any(type(x).__name__ in ("_WeightNorm", "WeightNorm") for x in (module, *hooks))


def convert_tensors(
    module: nn.Module, convert: Callable[[torch.Tensor], torch.Tensor]
) -> nn.Module:
    """Convert each parameter and buffer in place, and return the module."""
    return module._apply(convert)


def is_written_to(tensor: torch.Tensor) -> bool:
    """Whether a tensor that was made afresh has been changed in place."""
    return tensor._version > 0


def is_zero_tensor(tensor: torch.Tensor) -> bool:
    """Whether it is zeros without memory."""
    return bool(torch._is_zerotensor(tensor))


def saved(content: object, *, old: bool = False) -> bytes:
    """The bytes of ``torch.save``; ``old`` as it wrote before its zip format (torch 1.6)."""
    stream = io.BytesIO()
    torch.save(content, stream, _use_new_zipfile_serialization=not old)
    return stream.getvalue()


def memory_of(tensor: torch.Tensor) -> int:
    """Identity of the memory that a tensor, and all views of it, stand in."""
    try:
        return int(tensor.untyped_storage()._cdata)
    except (NotImplementedError, RuntimeError):  # such as sparse ones
        return id(tensor)


def without_wrapper(model: nn.Module) -> nn.Module:
    """The network within ``DataParallel``, ``DistributedDataParallel`` or ``torch.compile``."""
    while True:
        if isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
            model = model.module
        elif isinstance(compiled := getattr(model, "_orig_mod", None), nn.Module):
            model = compiled
        else:
            return model


def without_compiled_parts(model: nn.Module) -> nn.Module:
    """Put the networks themselves, in place, where there are compiled ones, at any depth."""
    model = without_wrapper(model)
    for parent in model.modules():
        for name, child in parent.named_children():
            if hasattr(child, "_orig_mod"):
                setattr(parent, name, without_wrapper(child))
    return model


Kernel = Callable[..., torch.Tensor]


def traced(function: Callable[..., torch.Tensor], *arguments: torch.Tensor) -> fx.GraphModule:
    """The operators below automatic differentiation that a function carries out, none in place.

    What the function takes from elsewhere is an attribute of the graph.
    """
    with torch.enable_grad():
        graph = make_fx(function)(*arguments)
    with torch.no_grad():
        return make_fx(functionalize(graph))(*arguments)


def divided(graph: fx.GraphModule, *, held: bool) -> tuple[fx.GraphModule, fx.GraphModule]:
    """Divide a graph in what comes before its last argument, and what depends on it.

    Args:
        graph: with one result.
        held: all that does not depend on the argument comes before; else only what is given.

    Returns:
        The first part takes all arguments and gives a tuple of tensors. The second one takes these
        and the last argument, and gives the result.
    """
    given = ("placeholder", "get_attr")
    *_, last = (node for node in graph.graph.nodes if node.op == "placeholder")
    graph.graph.eliminate_dead_code()
    after = {last}
    for node in graph.graph.nodes:
        if node.op not in given and not (held and after.isdisjoint(node.all_input_nodes)):
            after.add(node)
    uses = [use for node in graph.graph.nodes if node in after for use in node.all_input_nodes]
    kept = list(dict.fromkeys(use for use in uses if use not in after))
    early, late, new = fx.Graph(), fx.Graph(), {}
    new = {node: late.placeholder(node.name) for node in (*kept, last)}
    first: dict[fx.Node, fx.Node] = {}
    for node in graph.graph.nodes:
        if node in after and node is not last:
            new[node] = late.node_copy(node, new.__getitem__)
        elif node not in after or node is last:
            first[node] = early.node_copy(node, first.__getitem__)
    early.output(tuple(first[node] for node in kept))
    early.eliminate_dead_code()
    return fx.GraphModule(graph, early), fx.GraphModule(graph, late)


def can_compile(device: torch.device) -> bool:
    """Whether there is a compiler for kernels on a device."""
    try:
        if device.type == "cpu":
            from torch._inductor.cpp_builder import get_cpp_compiler

            return bool(get_cpp_compiler())
        from torch.utils._triton import has_triton

        return bool(has_triton())
    except Exception:  # which one, torch leaves open
        return False


def compiled_graph(graph: fx.GraphModule, inputs: list[torch.Tensor]) -> Kernel:
    """Compile a graph of operators, for inputs of these shapes."""
    import torch._inductor

    with torch.no_grad():
        kernel: Kernel = torch._inductor.compile(graph, list(inputs))
        kernel(*inputs)
    return kernel
