"""Running the graph of a network that an archive carries, as an ordinary ``nn.Module``.

Neither TorchScript modules nor exported programs can be differentiated in every way that
hessscope needs (``torch.func``, forward mode, vmap, other data types). So their graphs are
translated to plain steps, which :class:`GraphModel` runs one after the other with torch's own
operators on real parameters under their original names.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import torch
from torch import nn

from hessscope.errors import ArchitectureError
from hessscope.loaders.graph_operators import (
    CONTAINER_FUNCTIONS,
    IGNORED,
    PYTHON_OPERATORS,
    VALUE_FUNCTIONS,
)

#: Arguments that differ between training and evaluation: operator -> its position and name.
_TRAINING_ARGUMENTS: Mapping[str, tuple[int, str]] = {
    "dropout": (2, "train"),
    "feature_dropout": (2, "train"),
    "alpha_dropout": (2, "train"),
    "feature_alpha_dropout": (2, "train"),
    "native_dropout": (2, "train"),
    "batch_norm": (5, "training"),
    "native_batch_norm": (5, "training"),
    "rrelu": (3, "training"),
}


@dataclass(frozen=True)
class Ref:
    """The value called ``name`` that an input or an earlier step made."""

    name: str


@dataclass(frozen=True)
class Stored:
    """A parameter, buffer or constant tensor of the model, by its dotted name."""

    name: str


@dataclass(frozen=True)
class InputDevice:
    """A device written into the graph; the one that the inputs are on is used instead."""


@dataclass(frozen=True)
class InputBatch:
    """The number of examples in the inputs."""


@dataclass(frozen=True)
class Step:
    """One operation: ``operator`` such as ``aten::conv2d.default`` or ``prim::If``.

    ``arguments`` and ``keywords`` hold values, :class:`Ref` and :class:`Stored`, also inside
    lists; ``outputs`` are the names of what it makes.
    """

    operator: str
    arguments: tuple[Any, ...]
    outputs: tuple[str, ...]
    keywords: Mapping[str, Any] = field(default_factory=dict)
    blocks: tuple[Block, ...] = ()
    location: str = ""


@dataclass(frozen=True)
class Block:
    """Steps in order, the names of what comes in and the values that go out."""

    inputs: tuple[str, ...]
    steps: tuple[Step, ...]
    results: tuple[Any, ...]


class GraphModel(nn.Module):
    """A network given as steps; ``forward`` takes its inputs and gives its first output.

    ``tensors`` maps dotted names to parameters (``nn.Parameter``) and buffers; tensors in
    ``constants`` become buffers that are not part of the state dict.
    """

    def __init__(
        self,
        body: Block,
        tensors: Mapping[str, torch.Tensor],
        constants: Mapping[str, torch.Tensor],
    ) -> None:
        """Register the tensors under their names; raises ``ArchitectureError`` if one clashes."""
        super().__init__()
        self._body = body
        for names, persistent in ((tensors, True), (constants, False)):
            for name, value in names.items():
                _register(self, name, value, persistent)
        floats = [v.dtype for v in self.parameters() if v.is_floating_point()]
        self._written_dtype = floats[0] if floats else torch.float32

    @property
    def body(self) -> Block:
        """The steps."""
        return self._body

    def with_body(self, body: Block) -> GraphModel:
        """Give a network of other steps on the same tensors."""
        other = copy.copy(self)
        other._body = body
        return other

    def forward(self, *inputs: Any) -> Any:
        """Run the steps on ``inputs``."""
        names = self._body.inputs
        if len(inputs) != len(names):
            raise ArchitectureError(
                f"the network in the archive takes {len(names)} inputs, not {len(inputs)}"
            )
        run = _Run(self, inputs)
        results = run.block(self._body, inputs)
        return results[0] if len(results) == 1 else tuple(results)


class _Run:
    """One pass through the steps: the values made so far."""

    def __init__(self, model: GraphModel, inputs: Sequence[Any]) -> None:
        self.model = model
        self.values: dict[str, Any] = {}
        tensors = [value for value in inputs if isinstance(value, torch.Tensor)]
        self.batch = tensors[0].shape[0] if tensors and tensors[0].ndim else 1
        self.device = tensors[0].device if tensors else torch.device("cpu")
        floats = [p.dtype for p in model.parameters() if p.is_floating_point()]
        self.dtype = floats[0] if floats else model._written_dtype

    def block(self, block: Block, inputs: Sequence[Any]) -> list[Any]:
        self.values.update(zip(block.inputs, inputs, strict=True))
        for step in block.steps:
            self.step(step)
        return [self.read(value) for value in block.results]

    def read(self, value: Any) -> Any:
        if isinstance(value, Ref):
            return self.values[value.name]
        if isinstance(value, Stored):
            target: Any = self.model
            for part in value.name.split("."):
                target = getattr(target, part)
            return target
        if isinstance(value, InputDevice):
            return self.device
        if isinstance(value, InputBatch):
            return self.batch
        if isinstance(value, torch.dtype) and value == self.model._written_dtype:
            return self.dtype
        if isinstance(value, list):
            return [self.read(item) for item in value]
        if isinstance(value, tuple):
            return tuple(self.read(item) for item in value)
        return value

    def step(self, step: Step) -> None:
        namespace, _, name = step.operator.partition("::")
        if namespace == "aten" and name.partition(".")[0] in IGNORED:
            return
        if name == "If" and namespace == "prim":
            chosen = step.blocks[0 if bool(self.read(step.arguments[0])) else 1]
            self.keep(step, self.block(chosen, []))
        elif name == "Loop" and namespace == "prim":
            self.loop(step)
        else:
            arguments = [self.read(value) for value in step.arguments]
            keywords = {key: self.read(value) for key, value in step.keywords.items()}
            self.protect(step, name, arguments)
            made = call(namespace, name, arguments, keywords, step)
            if len(step.outputs) > 1 or name == "ListUnpack":
                self.keep(step, list(made))
            elif step.outputs:
                self.values[step.outputs[0]] = made

    def protect(self, step: Step, name: str, arguments: list[Any]) -> None:
        """Let operators that work in place change a copy of a stored tensor, never itself."""
        short = name.partition(".")[0]
        in_place = short.endswith("_") and not short.endswith("__")
        if in_place and arguments and isinstance(step.arguments[0], Stored):
            arguments[0] = arguments[0].clone()

    def keep(self, step: Step, values: Sequence[Any]) -> None:
        self.values.update(zip(step.outputs, values, strict=False))

    def loop(self, step: Step) -> None:
        most, go_on, *carried = (self.read(value) for value in step.arguments)
        turn = 0
        while go_on and turn < most:
            go_on, *carried = self.block(step.blocks[0], [turn, *carried])
            turn += 1
        self.keep(step, carried)


def call(
    namespace: str, name: str, arguments: list[Any], keywords: dict[str, Any], step: Step
) -> Any:
    """Apply one operator; raises ``ArchitectureError`` for one that is not supported."""
    short, _, overload = name.partition(".")
    if namespace == "python":
        return PYTHON_OPERATORS[short](*arguments)
    if namespace == "prim":
        return _primitive(short, arguments, step)
    if namespace == "aten":
        if short == "is_grad_enabled":
            return True
        if short in ("__is__", "__isnot__"):
            return (arguments[0] is arguments[1]) is (short == "__is__")
        if not keywords:
            special = _plain_values(short, arguments)
            if special is not None:
                return special(*arguments)
        if short == "size" or short == "sym_size":
            shape = arguments[0].shape
            return list(shape) if len(arguments) == 1 else shape[arguments[1]]
        if short in ("dim", "numel", "sym_numel"):
            return arguments[0].dim() if short == "dim" else arguments[0].numel()
        if short in ("Int", "Float", "Bool", "IntImplicit", "FloatImplicit", "ScalarImplicit"):
            return VALUE_FUNCTIONS[short](arguments[0].item())
        if short == "_native_batch_norm_legit_no_training":
            # Has no derivative of its own; this is what it stands for.
            x, weight, bias, mean, variance, momentum, eps = arguments
            out = torch.batch_norm(x, weight, bias, mean, variance, False, momentum, eps, False)
            return out, None, None
        _evaluate(short, arguments, keywords)
    return _overload(namespace, short, overload)(*arguments, **keywords)


def _plain_values(short: str, arguments: list[Any]) -> Any:
    """The Python function for numbers, lists or text, or ``None`` where tensors are meant."""
    first = arguments[0] if arguments else None
    if short in CONTAINER_FUNCTIONS and isinstance(first, (list, tuple, dict, str)):
        return CONTAINER_FUNCTIONS[short]
    if short in VALUE_FUNCTIONS and not any(isinstance(v, torch.Tensor) for v in arguments):
        if short in ("add", "sub", "rsub") and len(arguments) == 3:
            return None
        if not isinstance(first, (list, tuple)) or short in ("len", "sum", "any", "all", "sorted"):
            return VALUE_FUNCTIONS[short]
        if short in ("min", "max", "eq", "ne"):
            return VALUE_FUNCTIONS[short]
    return None


def _evaluate(short: str, arguments: list[Any], keywords: dict[str, Any]) -> None:
    """Turn a training argument off: a network is always looked at in evaluation mode."""
    if short in _TRAINING_ARGUMENTS:
        position, name = _TRAINING_ARGUMENTS[short]
        statistics = arguments[3] is not None if "batch_norm" in short else True
        if position < len(arguments) and statistics:
            arguments[position] = False
        elif name in keywords and statistics:
            keywords[name] = False
    elif short == "scaled_dot_product_attention":
        if len(arguments) > 4:
            arguments[4] = 0.0
        elif "dropout_p" in keywords:
            keywords["dropout_p"] = 0.0
    elif short in ("lstm", "gru", "rnn_tanh", "rnn_relu") and isinstance(arguments[3], bool):
        arguments[6] = False
        _check_recurrent(arguments)


def _check_recurrent(arguments: list[Any]) -> None:
    """Check what torch checks in Python only: its kernels read beyond a state of wrong size."""
    inputs, state, batch_first = arguments[0], arguments[1], arguments[8]
    states = state if isinstance(state, (list, tuple)) else [state]
    batched = inputs.ndim == 3
    examples = inputs.shape[0 if batch_first else 1] if batched else None
    for value in states:
        if value.ndim != inputs.ndim or (batched and value.shape[1] != examples):
            raise ArchitectureError(
                "the network in the archive was written for another number of examples: a "
                f"recurrent state of shape {tuple(value.shape)} meets inputs of shape "
                f"{tuple(inputs.shape)}"
            )


def _primitive(name: str, arguments: list[Any], step: Step) -> Any:
    if name in ("ListConstruct", "ListUnpack"):
        return list(arguments) if name == "ListConstruct" else list(arguments[0])
    if name == "TupleConstruct":
        return tuple(arguments)
    if name == "TupleUnpack":
        return arguments[0] if len(step.outputs) > 1 else arguments[0][0]
    if name in ("TupleIndex", "StringIndex"):
        return arguments[0][arguments[1]]
    if name == "DictConstruct":
        return dict(zip(arguments[::2], arguments[1::2], strict=True))
    if name in ("unchecked_cast", "unchecked_unwrap_optional", "NumToTensor", "data"):
        return arguments[0]
    if name in ("min", "max", "abs", "rangelist"):
        return VALUE_FUNCTIONS[name](*arguments)
    if name == "requires_grad":
        return True  # keeps to the paths that can be differentiated
    if name in ("dtype", "device", "layout", "type", "is_cuda", "is_cpu", "itemsize"):
        return getattr(arguments[0], name)
    if name.startswith("is_"):
        return bool(getattr(arguments[0], name, False))
    if name == "shape":
        return list(arguments[0].shape)
    if name in ("Uninitialized", "Print"):
        return None
    if name == "RaiseException":
        raise ArchitectureError(f"the network in the archive says: {arguments[0]}")
    raise ArchitectureError(
        f"the network in the archive uses prim::{name}{step.location}, which is not supported; "
        "give its architecture with --model file.py:factory"
    )


@lru_cache(maxsize=1024)
def _overload(namespace: str, name: str, overload: str) -> Any:
    try:
        packet = getattr(getattr(torch.ops, namespace), name)
        return getattr(packet, overload) if overload else packet
    except (AttributeError, RuntimeError) as error:
        raise ArchitectureError(
            f"the network in the archive uses {namespace}::{name}, which this torch "
            f"({torch.__version__}) does not have"
        ) from error


def _register(root: nn.Module, name: str, value: torch.Tensor, persistent: bool) -> None:
    *containers, leaf = name.split(".")
    module = root
    try:
        for part in containers:
            if part not in module._modules:
                module.add_module(part, nn.Module())
            module = module.get_submodule(part)
        if isinstance(value, nn.Parameter):
            module.register_parameter(leaf, value)
        else:
            module.register_buffer(leaf, value, persistent=persistent)
    except (KeyError, AttributeError, TypeError) as error:
        raise ArchitectureError(
            f"the archive holds a tensor called {name}, which cannot be the name of one "
            f"({error}); give the architecture with --model file.py:factory"
        ) from error
