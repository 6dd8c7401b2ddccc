"""Archives that hold a program, TorchScript and ``torch.export``, run by torch itself.

Their program is code: it is run only for files that the user trusts.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.func import functional_call

from hessscope.errors import ArchitectureError

#: Numbers of floating-point types in TorchScript.
_FLOATS = {5: torch.float16, 6: torch.float32, 7: torch.float64, 15: torch.bfloat16}

_RECURRENT = ("lstm", "gru", "rnn_tanh", "rnn_relu")


class ProgramModel(nn.Module):
    """A program with its tensors as ordinary parameters and buffers, under their own names.

    What is evaluated is torch's own program; before each call it is given the tensors that the
    module holds, so that it can be moved, copied, and called at any θ by
    ``torch.func.functional_call``.
    """

    def __init__(
        self, program: Any, tensors: Mapping[str, torch.Tensor], hidden: Mapping[str, torch.Tensor],
        written_for: torch.dtype | None,
    ) -> None:  # fmt: skip
        """Register tensors under dotted names.

        Args:
            program: what is called.
            tensors: parameters (``nn.Parameter``), of which there is one at least, and buffers.
            hidden: further buffers, which are not part of the state dict.
            written_for: the only data type that the program works in, if so.
        """
        super().__init__()
        self._program = (program,)  # in a tuple: its own copies of the tensors are no submodule's
        self._names = (*tensors, *hidden)
        self._written_for = written_for
        for named, persistent in ((tensors, True), (hidden, False)):
            for name, value in named.items():
                _register(self, name, value, persistent)

    def forward(self, *inputs: Any) -> Any:
        """Run the program on ``inputs``; of several outputs the first is given.

        Raises:
            ArchitectureError: the program is bound to another data type or number of examples.
        """
        now = {name: _at(self, name) for name in self._names}
        dtype = now[self._names[0]].dtype
        if self._written_for is not None and dtype != self._written_for:
            raise ArchitectureError(_bound(f"the data type {_short(self._written_for)}"))
        try:
            found = self._run(now, inputs)
        except (RuntimeError, AssertionError) as error:
            last = str(error).strip().splitlines()[-1][:200] if str(error).strip() else "?"
            raise ArchitectureError(
                f"{_bound('a data type or a number of examples, it seems')}. It failed on inputs "
                f"of shape {tuple(inputs[0].shape)} in {_short(dtype)}: {last}"
            ) from error
        return found[0] if isinstance(found, (tuple, list)) else found

    def _run(self, tensors: Mapping[str, torch.Tensor], inputs: Sequence[Any]) -> Any:
        return functional_call(self._program[0], dict(tensors), tuple(inputs), strict=False)


def _bound(to: str) -> str:
    return (
        f"the program in the archive is bound to {to}. Compute in that data type (`dtype`), or "
        "give the architecture with `model=file.py:factory`"
    )


def _short(dtype: torch.dtype | None) -> str:
    return str(dtype).removeprefix("torch.")


class ScriptedModel(ProgramModel):
    """A TorchScript module, whose attributes are set before each call."""

    def __init__(self, loaded: Any, path: Path) -> None:
        """Find the attributes that hold tensors.

        Raises:
            ArchitectureError: the graph reads parameters in a way that they cannot be exchanged
                in, or has none.
        """
        tensors: dict[str, torch.Tensor] = {}
        known: dict[tuple[object, ...], str] = {}
        for name, value in loaded.named_parameters(remove_duplicate=False):
            twin = known.setdefault(_identity(value), name)
            tensors[name] = tensors[twin] if twin in tensors else nn.Parameter(value.detach())
        for name, value in loaded.named_buffers(remove_duplicate=False):
            known.setdefault(_identity(value), name)
            tensors[name] = value.detach()
        if not any(isinstance(value, nn.Parameter) for value in tensors.values()):
            raise _unsupported(path, "no parameters (they were frozen into constants)")
        hidden: dict[str, torch.Tensor] = {}
        slots: dict[str, str | list[str]] = {name: name for name in tensors}

        def named(value: torch.Tensor, name: str) -> str:
            found = known.setdefault(_identity(value), name)
            if found == name and name not in tensors:
                hidden[name] = value.detach()
            return found

        graph = loaded.inlined_graph
        _check_states(graph, path)
        for name, value in _attributes(graph, loaded, path):
            if isinstance(value, torch.Tensor):
                slots.setdefault(name, named(value, name))
            elif _holds_tensors(value):
                if not isinstance(value, list):
                    raise _unsupported(path, f"tensors in the attribute {name}")
                slots[name] = [named(v, f"{name}_{i}") for i, v in enumerate(value)]
        self._slots = slots
        fixed = _fixed_dtypes(graph)
        own = {value.dtype for value in tensors.values() if isinstance(value, nn.Parameter)}
        super().__init__(loaded, tensors, hidden, next(iter(own & fixed), None) or
                         next(iter(fixed), None))  # fmt: skip

    def _run(self, tensors: Mapping[str, torch.Tensor], inputs: Sequence[Any]) -> Any:
        # The plain interpreter: what it runs is recorded by autograd operation by operation.
        with torch.jit.optimized_execution(False):
            try:
                self._fill(tensors)
                return self._program[0](*inputs)
            finally:
                # A module with parts of a graph in it could not be copied.
                self._fill({name: value.detach() for name, value in tensors.items()})

    def _fill(self, tensors: Mapping[str, torch.Tensor]) -> None:
        for slot, source in self._slots.items():
            *owners, leaf = slot.split(".")
            holder = self._program[0]._c
            for owner in owners:
                holder = holder.getattr(owner)
            if isinstance(source, str):
                holder.setattr(leaf, tensors[source])
            else:
                holder.setattr(leaf, [tensors[name] for name in source])

    def archive(self, tensors: Mapping[str, torch.Tensor]) -> bytes:
        """The program as an archive, with other tensors in place of some of its own."""
        own = {name: _at(self, name).detach() for name in self._names}
        buffer = io.BytesIO()
        try:
            self._fill({**own, **tensors})
            torch.jit.save(self._program[0], buffer)
        finally:
            self._fill(own)
        return buffer.getvalue()

    def __getstate__(self) -> dict[str, Any]:
        """Hold the program as the bytes of its archive, since it cannot be pickled."""
        return {**self.__dict__, "_program": self.archive({})}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Load the program again."""
        program = torch.jit.load(io.BytesIO(state["_program"]), map_location="cpu")
        super().__setstate__({**state, "_program": (program,)})


def exported_model(exported: Any, program: Any, path: Path) -> ProgramModel:
    """The model of an exported program.

    Raises:
        ArchitectureError: it has no parameters, or more than one input, or takes only so many
            examples as it was exported with.
    """
    shared: dict[int, nn.Parameter] = {}
    tensors: dict[str, torch.Tensor] = {
        name: shared.setdefault(id(value), nn.Parameter(value.detach()))
        for name, value in program.named_parameters(remove_duplicate=False)
    }
    if not tensors:
        raise _unsupported(path, "no parameters")
    kept = program.state_dict()
    hidden = dict(program.named_buffers(remove_duplicate=False))
    tensors |= {name: hidden.pop(name).detach() for name in list(hidden) if name in kept}
    inputs = [n for n in exported.graph.nodes if n.name in exported.graph_signature.user_inputs]
    if len(inputs) != 1:
        raise _unsupported(path, f"{len(inputs)} inputs")
    sizes = inputs[0].meta["val"].shape
    if sizes and isinstance(sizes[0], int):
        raise ArchitectureError(
            f"{path} was exported for batches of {sizes[0]} examples only. Export it with "
            "dynamic_shapes=({0: torch.export.Dim.AUTO},), or give its architecture with "
            "`model=file.py:factory`"
        )
    fixed = {
        argument
        for node in exported.graph.nodes
        for argument in (*node.args, *node.kwargs.values())
        if isinstance(argument, torch.dtype) and argument.is_floating_point
    }
    return ProgramModel(program, tensors, hidden, next(iter(fixed), None))


def _attributes(graph: Any, loaded: Any, path: Path) -> Iterator[tuple[str, Any]]:
    """Every attribute that the graph reads, by its dotted name, and what it holds."""
    modules = {next(iter(graph.inputs())).debugName(): ""}
    for node in _nodes(graph):
        if node.kind() in ("prim::CallMethod", "prim::SetAttr"):
            raise _unsupported(path, "methods that change it or that cannot be followed")
        if node.kind() != "prim::GetAttr":
            continue
        parent = modules.get(next(iter(node.inputs())).debugName())
        if parent is None:
            raise _unsupported(path, f"the attribute {node.s('name')} of an object that is none")
        name = f"{parent}.{node.s('name')}" if parent else node.s("name")
        value: Any = loaded
        for part in name.split("."):
            value = getattr(value, part)
        if isinstance(value, nn.Module):
            modules[node.output().debugName()] = name
        else:
            yield name, value


def _nodes(block: Any) -> Iterator[Any]:
    for node in block.nodes():
        yield node
        for inner in node.blocks():
            yield from _nodes(inner)


def _check_states(graph: Any, path: Path) -> None:
    """Refuse recurrent states of a fixed number of examples: torch's kernels read beyond them."""
    _, *inputs = (value.debugName() for value in graph.inputs())
    for node in _nodes(graph):
        if node.kind().partition("::")[2] in _RECURRENT:
            todo, seen = [list(node.inputs())[1]], set[str]()
            while todo:
                value = todo.pop()
                if value.debugName() not in seen:
                    seen.add(value.debugName())
                    maker = value.node()
                    todo += maker.inputs()
                    todo += [output for block in maker.blocks() for output in block.outputs()]
            if not seen & set(inputs):
                raise _unsupported(path, "a recurrent state for a fixed number of examples")


def _holds_tensors(value: Any) -> bool:
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        return any(map(_holds_tensors, value))
    return isinstance(value, torch.Tensor)


def _fixed_dtypes(graph: Any) -> set[torch.dtype]:
    """Floating-point types that are written into the graph."""
    fixed: set[torch.dtype] = set()
    for node in _nodes(graph):
        schema = node.schema()
        if "ScalarType" not in schema:
            continue
        kinds = re.split(
            r",\s*(?![^\[(]*[\])])", schema[schema.index("(") + 1 : schema.rindex(") ->")]
        )
        kinds = [kind for kind in kinds if kind.strip() != "*"]
        for kind, value in zip(kinds, node.inputs(), strict=False):
            if "ScalarType" in kind and value.node().kind() == "prim::Constant":
                number = value.toIValue()
                fixed |= {_FLOATS[number]} if number in _FLOATS else set()
    return fixed


def _identity(value: torch.Tensor) -> tuple[object, ...]:
    if value.numel() == 0:
        return (id(value),)
    return (value.data_ptr(), tuple(value.shape), tuple(value.stride()), value.dtype)


def _at(model: nn.Module, name: str) -> torch.Tensor:
    target: Any = model
    for part in name.split("."):
        target = getattr(target, part)
    return target


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
            f"({error}); give the architecture with `model=file.py:factory`"
        ) from error


def _unsupported(path: Path, what: str) -> ArchitectureError:
    return ArchitectureError(
        f"{path} is a program with {what}, which is not supported; give its architecture with "
        "`model=file.py:factory`"
    )
