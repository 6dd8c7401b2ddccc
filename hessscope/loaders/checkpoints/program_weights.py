"""The numbers in archives that hold a program; nothing of the program is run or believed."""

from __future__ import annotations

import io
import itertools
import json
import re
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from hessscope.errors import CheckpointError
from hessscope.loaders import pickles
from hessscope.loaders.integrity import read_entry
from hessscope.loaders.plain_types import PlainObject

_DTYPES: Mapping[int, torch.dtype] = {
    1: torch.uint8, 2: torch.int8, 3: torch.int16, 4: torch.int32, 5: torch.int64,
    6: torch.float16, 7: torch.float32, 8: torch.float64, 12: torch.bool, 13: torch.bfloat16,
}  # fmt: skip
_OF_TENSORS = ("data.pkl", "version", ".data/version", "byteorder")
_CLASS = re.compile(
    r"^class (\w+)\(Module\):\s+__parameters__ = \[(.*?)\]\s+__buffers__ = \[(.*?)\]", re.MULTILINE
)
_PICKLED = re.compile(r"(^|/)(data/weights/[^/]+\.pt|serialized_state_dict\.(pt|json))$")


def is_export(names: Iterable[str]) -> bool:
    """Whether these are the file names of a ``torch.export`` archive."""
    inner = {name.split("/", 1)[-1] for name in names} | set(names)
    return "serialized_exported_program.json" in inner or (
        "archive_format" in inner and any(n.startswith("models/") for n in inner)
    )


def read_script(path: Path) -> tuple[dict[str, torch.Tensor], frozenset[str]]:
    """Tensors of a TorchScript archive by their dotted names, and which of them are buffers.

    The archive's pickle is opened by the restricted unpickler, with its classes as inert
    containers of attributes.

    Raises:
        UntrustedCheckpointError: it holds more than tensors and modules of the archive.
        CheckpointError: it is damaged.
    """
    plain, members = _without_program(path)
    scan = pickles.scan_zip(path)
    inert: dict[str, Any] = {}
    for name in scan.globals:
        if name.startswith("__torch__."):
            inert[name] = type("Container", (_Container,), {"kind": name})
        elif name.startswith("torch.jit._pickle."):
            inert[name] = _keep
    content = pickles.load_safely(path, scan, zipped=True, archive=plain, inert=inert)
    if not isinstance(content, _Container):
        raise CheckpointError(f"{path} is a damaged TorchScript archive: it holds no module")
    state: dict[str, torch.Tensor] = {}
    others: set[str] = set()
    todo: list[tuple[str, _Container]] = [("", content)]
    for visited in itertools.count():
        if not todo:
            break
        if visited > pickles.MOST_NAMES:
            raise CheckpointError(f"{path} is crafted: its modules hold each other")
        prefix, holder = todo.pop()
        parameters, buffers = members.get(holder.kind, ([], []))
        inner: list[tuple[str, _Container]] = []
        for name, value in holder.attributes.items():
            if isinstance(value, torch.Tensor) and name in (*parameters, *buffers):
                state[f"{prefix}{name}"] = value.detach()
                if name not in parameters:
                    others.add(f"{prefix}{name}")
            elif isinstance(value, _Container):
                inner.append((f"{prefix}{name}.", value))
        todo += reversed(inner)
    return state, frozenset(others)


def _without_program(path: Path) -> tuple[io.BytesIO, dict[str, tuple[list[str], list[str]]]]:
    """The archive as ``torch.save`` would write it; by class its parameters and buffers."""
    plain = io.BytesIO()
    members: dict[str, tuple[list[str], list[str]]] = {}
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(plain, "w") as copy:
        names = archive.namelist()
        root = next(n for n in names if n.partition("/")[2] == "data.pkl").removesuffix("data.pkl")
        for name in names:
            inner, content = name.removeprefix(root), read_entry(archive, name)
            if inner in _OF_TENSORS or inner.startswith("data/"):
                copy.writestr(f"archive/{inner}", content)
            elif inner.startswith("code/__torch__") and inner.endswith(".py"):
                module = inner[len("code/__torch__") : -3].replace("/", ".")
                for match in _CLASS.finditer(content.decode("utf-8", "replace")):
                    parameters, buffers = (re.findall(r'"(.*?)"', match[i]) for i in (2, 3))
                    members[f"__torch__{module}.{match[1]}"] = (parameters, buffers)
    plain.seek(0)
    return plain, members


def _keep(value: object, *described: object) -> object:
    """Stand in for TorchScript's typed lists and tagged values."""
    return value


class _Container(PlainObject):
    """An object of a class in the archive."""

    kind = ""


def read_export(path: Path) -> tuple[dict[str, torch.Tensor], frozenset[str]]:
    """Tensors of a ``torch.export`` archive by their dotted names, and which of them are buffers.

    Raises:
        UntrustedCheckpointError: they are pickled together with other objects.
        CheckpointError: it is damaged, or holds compiled code and no weights.
    """
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        configs = [n for n in names if n.endswith("_weights_config.json")]
        pickled = [n for n in names if _PICKLED.search(n)]
        if configs:
            return _configured(path, archive, min(configs, key=_plainest))
        if not pickled:
            raise CheckpointError(f"{path} is a .pt2 archive without weights in it")
        state = pickles.tensors_of(path, read_entry(archive, min(pickled, key=_plainest)))
    return state, frozenset()


def _plainest(name: str) -> tuple[bool, str]:
    """Of several models in an archive the one that torch calls ``model``."""
    return not name.rsplit("/", 1)[-1].startswith("model"), name


def _configured(
    path: Path, archive: zipfile.ZipFile, config: str
) -> tuple[dict[str, torch.Tensor], frozenset[str]]:
    state: dict[str, torch.Tensor] = {}
    buffers: set[str] = set()
    shared: dict[str, torch.Tensor] = {}  # tied weights are one entry of the archive
    folder = config.rpartition("/")[0] + "/"
    try:
        for name, entry in json.loads(read_entry(archive, config))["config"].items():
            place = json.dumps([entry["path_name"], entry["tensor_meta"]], sort_keys=True)
            if place not in shared:
                content = read_entry(archive, folder + entry["path_name"])
                if entry.get("use_pickle"):
                    shared[place] = next(iter(pickles.tensors_of(path, content).values()))
                else:
                    shared[place] = _tensor(content, entry["tensor_meta"])
            state[name] = shared[place]
            if not entry.get("is_param", True):
                buffers.add(name)
    except (KeyError, TypeError, ValueError, AttributeError, StopIteration) as error:
        raise CheckpointError(
            f"{path} is a .pt2 archive whose weights cannot be read ({type(error).__name__}: "
            f"{error}); export it again with a current torch, or save model.state_dict()"
        ) from error
    return state, frozenset(buffers)


def _tensor(content: bytes, meta: Mapping[str, Any]) -> torch.Tensor:
    sizes = [_number(n) for n in meta["sizes"]]
    strides = [_number(n) for n in meta["strides"]]
    offset = _number(meta["storage_offset"])
    dtype = _DTYPES[int(meta["dtype"])]
    if 0 in sizes:
        return torch.empty(sizes, dtype=dtype)
    flat = torch.frombuffer(bytearray(content), dtype=dtype)
    if min([*sizes, *strides, offset, 0]) < 0:
        raise ValueError("a negative size")
    if offset + sum((n - 1) * s for n, s in zip(sizes, strides, strict=True)) >= flat.numel():
        raise ValueError("a tensor reaches beyond its content")
    return flat.as_strided(sizes, strides, offset)


def _number(value: Any) -> int:
    found = value["as_int"] if isinstance(value, Mapping) else value
    if type(found) is not int:
        raise ValueError(f"a size that is not a number: {found!r}")
    return found
