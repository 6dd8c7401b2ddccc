"""Networks that are programs in archives, TorchScript and ``torch.export``, run by torch itself.

Their program is code: it is run only for files that the user trusts.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from operator import attrgetter
from typing import Any

import torch
from torch import nn
from torch.func import functional_call

from hessscope.errors import ArchitectureError
from hessscope.loaders.checkpoints.state_dicts import place

_RECURRENT = ("lstm", "gru", "rnn_tanh", "rnn_relu")


class ProgramModel(nn.Module):
    """A program with its tensors as ordinary parameters and buffers, under their own names.

    What is evaluated is torch's own program; before each call it is given the tensors that the
    module holds, so that it can be moved, copied, and called at any θ by
    ``torch.func.functional_call``.
    """

    def __init__(
        self, program: Any, tensors: Mapping[str, torch.Tensor], hidden: Mapping[str, torch.Tensor]
    ) -> None:
        """Register tensors under dotted names.

        Args:
            program: what is called.
            tensors: parameters (``nn.Parameter``) and buffers.
            hidden: further buffers, which are not part of the state dict.
        """
        super().__init__()
        self._program = (program,)  # in a tuple: its own copies of the tensors are no submodule's
        self._names = (*tensors, *hidden)
        for name in self._names:
            value = hidden[name] if name in hidden else tensors[name]
            place(self, name, value, persistent=name in tensors)

    def forward(self, *inputs: Any) -> Any:
        """Run the program on ``inputs``; of several outputs the first is given.

        Raises:
            ArchitectureError: it fails, since it is bound to another data type or number of
                examples.
        """
        now = {name: attrgetter(name)(self) for name in self._names}
        try:
            found = self._run(now, inputs)
        except (RuntimeError, AssertionError) as error:
            last = str(error).strip().splitlines()[-1][:200] if str(error).strip() else "?"
            dtype = str(now[self._names[0]].dtype).removeprefix("torch.")
            raise ArchitectureError(
                "the program in the archive seems to be bound to a data type or a number of "
                "examples. Compute in that data type (`dtype`), or give the architecture with "
                f"`model=file.py:factory`. It failed on inputs of shape {tuple(inputs[0].shape)} "
                f"in {dtype}: {last}"
            ) from error
        return found[0] if isinstance(found, (tuple, list)) else found

    def _run(self, tensors: Mapping[str, torch.Tensor], inputs: Sequence[Any]) -> Any:
        return functional_call(self._program[0], dict(tensors), tuple(inputs), strict=False)


class ScriptedModel(ProgramModel):
    """A TorchScript module, whose attributes are set before each call."""

    def __init__(self, loaded: Any) -> None:
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
        if not tensors:
            raise _unsupported("no parameters (they were frozen into constants)")
        for name, value in loaded.named_buffers(remove_duplicate=False):
            known.setdefault(_identity(value), name)
            tensors[name] = value.detach()
        hidden: dict[str, torch.Tensor] = {}
        slots: dict[str, str | list[str]] = {name: name for name in tensors}

        def named(value: torch.Tensor, name: str) -> str:
            found = known.setdefault(_identity(value), name)
            if found == name and name not in tensors:
                hidden[name] = value.detach()
            return found

        _check_states(loaded.inlined_graph)
        for name, value in _attributes(loaded):
            if isinstance(value, torch.Tensor):
                slots.setdefault(name, named(value, name))
            elif isinstance(value, list) and all(isinstance(v, torch.Tensor) for v in value):
                slots[name] = [named(v, f"{name}_{i}") for i, v in enumerate(value)]
            elif _holds_tensors(value):
                raise _unsupported(f"tensors in the attribute {name}")
        super().__init__(loaded, tensors, hidden)
        self._slots = slots

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
            owner, _, leaf = slot.rpartition(".")
            holder = attrgetter(owner)(self._program[0]) if owner else self._program[0]
            new = [tensors[n] for n in source] if isinstance(source, list) else tensors[source]
            setattr(holder, leaf, new)

    def archive(self, tensors: Mapping[str, torch.Tensor]) -> bytes:
        """The program as an archive, with other tensors in place of some of its own."""
        own = {name: attrgetter(name)(self).detach() for name in self._names}
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


def exported_model(exported: Any) -> ProgramModel:
    """The model of an exported program.

    Raises:
        ArchitectureError: it has no parameters, or more than one input, or takes only so many
            examples as it was exported with.
    """
    program = exported.module()
    shared: dict[int, nn.Parameter] = {}
    tensors: dict[str, torch.Tensor] = {
        name: shared.setdefault(id(value), nn.Parameter(value.detach()))
        for name, value in program.named_parameters(remove_duplicate=False)
    }
    if not tensors:
        raise _unsupported("no parameters")
    kept = program.state_dict()
    buffers = {n: b.detach() for n, b in program.named_buffers(remove_duplicate=False)}
    tensors |= {name: value for name, value in buffers.items() if name in kept}
    hidden = {name: value for name, value in buffers.items() if name not in kept}
    inputs = [n for n in exported.graph.nodes if n.name in exported.graph_signature.user_inputs]
    if len(inputs) != 1:
        raise _unsupported(f"{len(inputs)} inputs")
    sizes = inputs[0].meta["val"].shape
    if sizes and isinstance(sizes[0], int):
        raise ArchitectureError(
            f"it was exported for batches of {sizes[0]} examples only. Export it with "
            "dynamic_shapes=({0: torch.export.Dim.AUTO},), or give its architecture with "
            "`model=file.py:factory`"
        )
    return ProgramModel(program, tensors, hidden)


def _attributes(loaded: Any) -> Iterator[tuple[str, Any]]:
    """Every attribute that the graph reads, by its dotted name, and what it holds."""
    graph = loaded.inlined_graph
    modules = {next(iter(graph.inputs())).debugName(): ""}
    for node in _nodes(graph):
        if node.kind() in ("prim::CallMethod", "prim::SetAttr"):
            raise _unsupported("methods that change it or that cannot be followed")
        if node.kind() != "prim::GetAttr":
            continue
        parent = modules.get(next(iter(node.inputs())).debugName())
        if parent is None:
            raise _unsupported(f"the attribute {node.s('name')} of an object that is none")
        name = f"{parent}.{node.s('name')}".removeprefix(".")
        value = attrgetter(name)(loaded)
        if isinstance(value, nn.Module):
            modules[node.output().debugName()] = name
        else:
            yield name, value


def _nodes(block: Any) -> Iterator[Any]:
    for node in block.nodes():
        yield node
        for inner in node.blocks():
            yield from _nodes(inner)


def _check_states(graph: Any) -> None:
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
                raise _unsupported("a recurrent state for a fixed number of examples")


def _holds_tensors(value: Any) -> bool:
    if isinstance(value, Mapping):
        value = list(value.values())
    return isinstance(value, torch.Tensor) or (
        isinstance(value, (list, tuple)) and any(map(_holds_tensors, value))
    )


def _identity(value: torch.Tensor) -> tuple[object, ...]:
    if value.numel() == 0:
        return (id(value),)
    return (value.data_ptr(), tuple(value.shape), tuple(value.stride()), value.dtype)


def _unsupported(what: str) -> ArchitectureError:
    return ArchitectureError(
        f"it is a program with {what}, which is not supported; give its architecture with "
        "`model=file.py:factory`"
    )
