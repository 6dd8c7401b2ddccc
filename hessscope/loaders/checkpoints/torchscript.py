"""TorchScript archives: their weights, and their program run by torch where it is trusted."""

from __future__ import annotations

import io
import itertools
import re
import zipfile

import torch
from torch import nn

from hessscope.errors import CheckpointError
from hessscope.loaders import pickles
from hessscope.loaders.checkpoints.formats import Format, Stored, loading
from hessscope.loaders.checkpoints.model_sources import ModelSource
from hessscope.loaders.checkpoints.programs import ScriptedModel
from hessscope.loaders.checkpoints.raw_files import RawFile
from hessscope.loaders.checkpoints.state_dicts import State
from hessscope.loaders.integrity import read_entry
from hessscope.loaders.plain_types import PlainObject

_OF_TENSORS = ("data.pkl", "version", ".data/version", "byteorder")
_CLASS = re.compile(
    r"^class (\w+)\(Module\):\s+__parameters__ = \[(.*?)\]\s+__buffers__ = \[(.*?)\]", re.MULTILINE
)


class TorchScriptFormat(Format):
    """An archive of ``torch.jit.save``."""

    program = True

    def recognises(self, file: RawFile) -> bool:
        """It has code in it."""
        return any(n.startswith("code/") and n.endswith(".py") for n in file.inner_entries)

    def read(self, file: RawFile) -> Stored:
        """Give the parameters and buffers; classes of the archive are containers of attributes."""
        plain, members = _without_program(file)
        content = pickles.load_safely(file.stream(), _inert, plain)
        if not isinstance(content, _Container):
            raise CheckpointError("it is a damaged TorchScript archive: it holds no module")
        state: dict[str, torch.Tensor] = {}
        trained: set[str] = set()
        todo: list[tuple[str, _Container]] = [("", content)]
        for visited in itertools.count():
            if not todo:
                break
            if visited > pickles.MOST_NAMES:
                raise CheckpointError("it is crafted: its modules hold each other")
            prefix, holder = todo.pop()
            parameters, buffers = members.get(holder.kind, ([], []))
            for name in (*parameters, *buffers):
                if isinstance(value := holder.attributes.get(name), torch.Tensor):
                    state[f"{prefix}{name}"] = value.detach()
            trained |= {f"{prefix}{name}" for name in parameters}
            todo += reversed([(f"{prefix}{name}.", value)
                              for name, value in holder.attributes.items()
                              if isinstance(value, _Container)])  # fmt: skip
        return Stored("TorchScript", state, buffers=frozenset(state.keys() - trained))

    def run(self, file: RawFile, source: ModelSource | None) -> Stored:
        """Load it by torch, as a module that can be differentiated twice."""
        with loading("TorchScript"):
            loaded = torch.jit.load(file.stream(), map_location="cpu").eval()
        return Stored("TorchScript", ScriptedModel(loaded), "TorchScript archive")

    def write(self, file: RawFile, weights: State, model: nn.Module, key: str | None) -> bytes:
        """Save the program with other parameters, where it was trusted and loaded."""
        if not isinstance(model, ScriptedModel):
            raise CheckpointError("its program was not loaded")
        return model.archive(weights)


def _without_program(file: RawFile) -> tuple[io.BytesIO, dict[str, tuple[list[str], list[str]]]]:
    """The archive as ``torch.save`` would write it; by class its parameters and buffers."""
    plain = io.BytesIO()
    members: dict[str, tuple[list[str], list[str]]] = {}
    with zipfile.ZipFile(file.stream()) as archive, zipfile.ZipFile(plain, "w") as copy:
        for name, inner in zip(file.entries, file.inner_entries, strict=True):
            content = read_entry(archive, name)
            if inner in _OF_TENSORS or inner.startswith("data/"):
                copy.writestr(f"archive/{inner}", content)
            elif inner.startswith("code/__torch__") and inner.endswith(".py"):
                module = inner[len("code/") : -len(".py")].replace("/", ".")
                for match in _CLASS.finditer(content.decode("utf-8", "replace")):
                    parameters, buffers = (re.findall(r'"(.*?)"', match[i]) for i in (2, 3))
                    members[f"{module}.{match[1]}"] = (parameters, buffers)
    return plain, members


class _Container(PlainObject):
    """An object of a class in the archive."""

    kind = ""


def _inert(name: str) -> object:
    """What stands for the classes of an archive, and for typed lists and tagged values."""
    if name.startswith("__torch__."):
        return type("Container", (_Container,), {"kind": name})
    return _keep if name.startswith("torch.jit._pickle.") else None


def _keep(value: object, *described: object) -> object:
    return value
