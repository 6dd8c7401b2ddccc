"""TorchScript archives: a check of their code before it is loaded, and a differentiable module.

A TorchScript archive is a program in a restricted language, part of which runs while it is
loaded. Its text is checked first: every operator that it names must be a known harmless one.
The loaded graph is then translated to a :class:`~hessscope.loaders.graphs.GraphModel`.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hessscope.errors import ArchitectureError, CheckpointError, UntrustedCheckpointError
from hessscope.loaders.graph_operators import ALLOWED, ALLOWED_PRIM, is_operator
from hessscope.loaders.graphs import Block, GraphModel, InputDevice, Ref, Step, Stored
from hessscope.loaders.pickles import scan_stream

_STRING = re.compile(r'"(?:[^"\\\n]|\\.)*"')
_GETATTR = re.compile(r'getattr\(\s*[^"]*?,\s*("(?:[^"\\\n]|\\.)*")')
#: A name or a closing bracket (text, number) and what is taken from it: ``torch.relu``, ``).size``.
_ACCESS = re.compile(r"(?:(?<![\w.])([A-Za-z_]\w*)|([)\]}\"\d]))((?:\s*\.\s*[A-Za-z_]\w*)*)")


def load_archive(path: Path, *, trust: bool = False) -> tuple[nn.Module, tuple[str, ...]]:
    """Load a TorchScript archive as a differentiable module in evaluation mode, with notes.

    Raises :class:`UntrustedCheckpointError` where its code uses operators that are not known to
    be harmless (unless ``trust``), :class:`CheckpointError` where it cannot be read, and
    ``ArchitectureError`` where its graph cannot be translated.
    """
    if not trust:
        found = suspicious_code(path)
        if found:
            raise UntrustedCheckpointError(
                f"{path} is a TorchScript archive whose code uses {', '.join(found[:5])}, which "
                "is not known to be harmless. Safe: save model.state_dict() and give --model "
                "file.py:factory. If you trust the file: --trust"
            )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            loaded = torch.jit.load(str(path), map_location="cpu").eval()
            graph = loaded.inlined_graph
    except Exception as error:
        reason = next((line for line in str(error).splitlines() if line.strip()), "")
        raise CheckpointError(
            f"{path} is a TorchScript archive that cannot be loaded: {reason[:200]}"
        ) from error
    return _Translation(path, loaded).model(graph).eval(), ()


def suspicious_code(path: Path) -> list[str]:
    """Name what the code of a TorchScript archive uses beyond the known harmless operators.

    The text is only read, by the reader that torch itself uses to load it, so that both see the
    same. Raises :class:`CheckpointError` where the archive is damaged.
    """
    found: dict[str, None] = {}
    try:
        reader = torch._C.PyTorchFileReader(str(path))
        records = reader.get_all_records()
        if len({name.lower() for name in records}) < len(records):
            return ["two entries of one name"]
        for name in records:
            if name.lower().endswith(".py"):
                found |= dict.fromkeys(_suspicious(reader.get_record(name).decode("utf-8")))
            elif name.lower().endswith(".pkl"):
                scan = scan_stream(io.BytesIO(reader.get_record(name)))
                found |= dict.fromkeys(n for n in scan.globals if ".torch.classes." in f".{n}")
    except (RuntimeError, UnicodeDecodeError, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"{path} is a damaged TorchScript archive: {reason}") from error
    return list(found)


def _suspicious(code: str) -> Iterator[str]:
    for match in _GETATTR.finditer(code):
        if not _harmless_member(match[1].strip('"')):
            yield f"getattr {match[1]}"
    bare = _STRING.sub('""', code)
    # torch itself writes none of these; they could hide text from this check.
    for sign in ("'", "#", "\\"):
        if sign in bare:
            yield f"the character {sign}"
    for match in _ACCESS.finditer(bare):
        root, names = match[1], re.findall(r"\w+", match[3])
        if root == "torch":
            if len(names) != 1 or names[0] not in ALLOWED:
                yield ".".join(["torch", *names])
        elif root == "ops":
            if len(names) != 2 or not _harmless_operator(names[0], names[1]):
                yield ".".join(["ops", *names])
        elif root == "__torch__":
            if names[:2] == ["torch", "classes"]:
                yield ".".join([root, *names])
        else:
            yield from (f".{name}" for name in names if not _harmless_member(name))


def _harmless_operator(namespace: str, name: str) -> bool:
    return (namespace == "aten" and name in ALLOWED) or (
        namespace == "prim" and name in ALLOWED_PRIM
    )


def _harmless_member(name: str) -> bool:
    """A method of a tensor must be a listed operator; other names are the archive's own."""
    return name in ALLOWED or not is_operator(name)


class _Translation:
    """Turns an inlined TorchScript graph into steps on named tensors."""

    def __init__(self, path: Path, loaded: Any) -> None:
        self.path = path
        self.loaded = loaded
        self.tensors: dict[str, torch.Tensor] = {}
        self.constants: dict[str, torch.Tensor] = {}
        self.known: dict[str, Any] = {}  # names of graph values that are not made by steps
        self.parents: dict[str, str] = {}  # names of graph values that are modules: their path
        parameters: dict[tuple[object, ...], nn.Parameter] = {}
        for name, value in loaded.named_parameters(remove_duplicate=False):
            shared = parameters.setdefault(_identity(value), nn.Parameter(value.detach()))
            self.tensors[name] = shared
        for name, value in loaded.named_buffers(remove_duplicate=False):
            self.tensors[name] = value.detach()
        self.by_identity = {_identity(v): name for name, v in self.tensors.items()}

    def model(self, graph: Any) -> GraphModel:
        receiver, *inputs = list(graph.inputs())
        self.parents[receiver.debugName()] = ""
        steps = self.steps(graph)
        results = tuple(self.value(output) for output in graph.outputs())
        names = tuple(value.debugName() for value in inputs)
        if not any(isinstance(value, nn.Parameter) for value in self.tensors.values()):
            raise self.unsupported("no parameters (they were frozen into constants)")
        return GraphModel(Block(names, steps, results), self.tensors, self.constants)

    def steps(self, block: Any) -> tuple[Step, ...]:
        made: list[Step] = []
        for node in block.nodes():
            made.extend(self.node(node))
        return tuple(made)

    def node(self, node: Any) -> list[Step]:
        kind = node.kind()
        if kind == "prim::Constant":
            self.constant(node)
            return []
        if kind == "prim::GetAttr":
            self.attribute(node)
            return []
        if kind == "prim::If":
            return self.branch(node)
        outputs = tuple(value.debugName() for value in node.outputs())
        if kind.startswith("aten::") or kind.startswith("prim::"):
            arguments = tuple(self.value(value) for value in node.inputs())
            blocks = tuple(self.block(inner) for inner in node.blocks())
            operator = kind
            if kind.startswith("aten::"):
                schema = node.schema()
                overload = re.match(r"[\w:]+\.(\w+)\(", schema)
                operator = f"{kind}.{overload[1] if overload else 'default'}"
                arguments, keywords = _split(arguments, _parameters(schema))
                return [Step(operator, arguments, outputs, keywords, (), _line(node))]
            return [Step(operator, arguments, outputs, {}, blocks, _line(node))]
        arguments = tuple(self.value(value) for value in node.inputs())
        return [Step(kind, arguments, outputs, {}, (), _line(node))]

    def block(self, block: Any) -> Block:
        inputs = tuple(value.debugName() for value in block.inputs())
        steps = self.steps(block)
        return Block(inputs, steps, tuple(self.value(value) for value in block.outputs()))

    def branch(self, node: Any) -> list[Step]:
        """Follow the branch that is taken where that is known, as it is for ``training``."""
        condition = self.value(next(iter(node.inputs())))
        outputs = [value.debugName() for value in node.outputs()]
        if not isinstance(condition, bool):
            blocks = tuple(self.block(inner) for inner in node.blocks())
            return [Step("prim::If", (condition,), tuple(outputs), {}, blocks, _line(node))]
        chosen = list(node.blocks())[0 if condition else 1]
        steps = list(self.steps(chosen))
        for name, value in zip(outputs, chosen.outputs(), strict=True):
            if value.debugName() in self.parents:
                self.parents[name] = self.parents[value.debugName()]
            else:
                self.known[name] = self.value(value)
        return steps

    def constant(self, node: Any) -> None:
        output = node.output()
        value = output.toIValue() if node.hasAttributes() else None
        kind = output.type().kind()
        if kind == "DeviceObjType" and value is not None:
            self.known[output.debugName()] = InputDevice()
            return
        if isinstance(value, int) and not isinstance(value, bool) and _means_dtype(output):
            value = _dtype_of(value)
        self.known[output.debugName()] = self.literal(value, f"_constant_{len(self.constants)}")

    def attribute(self, node: Any) -> None:
        output, name = node.output(), node.s("name")
        parent = self.parents.get(next(iter(node.inputs())).debugName())
        if parent is None:
            raise self.unsupported(f"the attribute {name} of an object that is no module")
        path = f"{parent}.{name}" if parent else name
        target: Any = self.loaded
        for part in path.split("."):
            target = getattr(target, part)
        if isinstance(target, torch.nn.Module):
            self.parents[output.debugName()] = path
        else:
            self.known[output.debugName()] = self.literal(target, path)

    def literal(self, value: Any, name: str) -> Any:
        """A value written into the graph; tensors in it become the model's own."""
        if isinstance(value, torch.Tensor):
            if name in self.tensors:
                return Stored(name)
            shared = self.by_identity.get(_identity(value))
            if shared is not None:
                return Stored(shared)
            leaf = name.replace(".", "_")
            self.constants.setdefault(leaf, value.detach().clone())
            return Stored(leaf)
        if isinstance(value, (list, tuple)):
            items = [self.literal(item, f"{name}_{i}") for i, item in enumerate(value)]
            return items if isinstance(value, list) else tuple(items)
        if isinstance(value, torch.device):
            return InputDevice()
        return value

    def value(self, value: Any) -> Any:
        name = value.debugName()
        if name in self.parents:
            raise self.unsupported("a module that is used as a value")
        return self.known[name] if name in self.known else Ref(name)

    def unsupported(self, what: str) -> ArchitectureError:
        return ArchitectureError(
            f"{self.path} is a TorchScript archive with {what}, which is not supported; give its "
            "architecture with --model file.py:factory"
        )


def _identity(value: torch.Tensor) -> tuple[object, ...]:
    if value.numel() == 0:
        return (id(value),)
    return (value.data_ptr(), tuple(value.shape), tuple(value.stride()), value.dtype)


@lru_cache(maxsize=1024)
def _parameters(schema: str) -> tuple[tuple[str, str, bool], ...]:
    """Type, name and whether by keyword only, of each argument in an operator's schema."""
    text = schema[schema.index("(") + 1 : schema.rindex(") ->")]
    found: list[tuple[str, str, bool]] = []
    keyword = False
    for part in re.split(r",\s*(?![^\[(]*[\])])", text):
        if part.strip() == "*":
            keyword = True
        elif part.strip():
            kind, _, name = part.strip().split("=")[0].rpartition(" ")
            found.append((kind, name, keyword))
    return tuple(found)


def _split(
    arguments: tuple[Any, ...], parameters: tuple[tuple[str, str, bool], ...]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Part the values of a graph's node into positional ones and keywords."""
    if len(arguments) != len(parameters):
        return arguments, {}
    pairs = list(zip(arguments, parameters, strict=True))
    positional = tuple(value for value, (_, _, keyword) in pairs if not keyword)
    return positional, {name: value for value, (_, name, keyword) in pairs if keyword}


def _means_dtype(output: Any) -> bool:
    """Whether an integer constant stands for a data type in an operator that uses it."""
    for use in output.uses():
        schema = use.user.schema()
        if schema and "ScalarType" in schema:
            parameters = _parameters(schema)
            if use.offset < len(parameters) and "ScalarType" in parameters[use.offset][0]:
                return True
    return False


def _dtype_of(number: int) -> torch.dtype:
    kinds = [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.float16,
             torch.float32, torch.float64, torch.complex32, torch.complex64, torch.complex128,
             torch.bool, torch.qint8, torch.quint8, torch.qint32, torch.bfloat16]  # fmt: skip
    return kinds[number]


def _line(node: Any) -> str:
    range_ = str(node.sourceRange() or "")
    match = re.search(r'File "([^"]+)", line (\d+)', range_)
    return f" ({Path(match[1]).name}, line {match[2]})" if match else ""
