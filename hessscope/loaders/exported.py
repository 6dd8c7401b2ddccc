"""``torch.export`` archives (``.pt2``), read without running anything in them.

``torch.export.load`` evaluates text from the archive as Python (sizes, guards, argument names)
and unpickles parts of it. Here the graph is read as the plain JSON that it is, and only known
operators are run; the weights are read as numbers.
"""

from __future__ import annotations

import io
import json
import math
import re
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hessscope.errors import ArchitectureError, CheckpointError, UntrustedCheckpointError
from hessscope.loaders.graph_operators import ALLOWED, PYTHON_OPERATORS
from hessscope.loaders.graphs import Block, GraphModel, InputBatch, InputDevice, Ref, Step, Stored

_DTYPES: Mapping[int, torch.dtype] = {
    1: torch.uint8, 2: torch.int8, 3: torch.int16, 4: torch.int32, 5: torch.int64,
    6: torch.float16, 7: torch.float32, 8: torch.float64, 12: torch.bool, 13: torch.bfloat16,
}  # fmt: skip
_MEMORY_FORMATS = {
    1: torch.contiguous_format, 2: torch.channels_last, 3: torch.channels_last_3d,
    4: torch.preserve_format,
}  # fmt: skip
#: Arguments that are plain JSON values already.
_PLAIN = ("as_int", "as_ints", "as_float", "as_floats", "as_bool", "as_bools", "as_string",
          "as_strings", "as_int_lists", "as_float_lists")  # fmt: skip

#: Operators whose arguments hold sizes.
_SHAPING = re.compile(r"::(view|reshape|_unsafe_view|expand|zeros|ones|full|empty|new_\w+)\b")


@dataclass(frozen=True)
class ExportedNetwork:
    """A network read from an archive; ``batch_size`` where it accepts only that many examples."""

    module: nn.Module
    batch_size: int | None
    notes: tuple[str, ...]


def is_archive(names: Iterable[str]) -> bool:
    """Whether these are the file names of a ``.pt2`` archive."""
    inner = {name.split("/", 1)[-1] for name in names} | set(names)
    return "serialized_exported_program.json" in inner or (
        "archive_format" in inner and any(n.startswith("models/") for n in inner)
    )


def load_archive(path: Path, *, trust: bool = False) -> ExportedNetwork:
    """Read a ``.pt2`` archive as a differentiable module in evaluation mode.

    Without ``trust`` only known operators run; otherwise, and for pickled parts, raises
    :class:`UntrustedCheckpointError`. Raises :class:`CheckpointError` for damaged archives.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return _read(path, archive, trust)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        if isinstance(error, zipfile.BadZipFile):
            raise CheckpointError(f"{path} is a damaged .pt2 archive: {error}") from error
        raise CheckpointError(
            f"{path} is a .pt2 archive that cannot be read ({type(error).__name__}: {error}); "
            "export it again with a current torch, or save model.state_dict()"
        ) from error
    except zipfile.BadZipFile as error:
        raise CheckpointError(f"{path} is a damaged .pt2 archive: {error}") from error


def _read(path: Path, archive: zipfile.ZipFile, trust: bool) -> ExportedNetwork:
    names = archive.namelist()
    binaries = [n for n in names if n.endswith((".so", ".dll", ".dylib", ".cubin"))]
    models = [n for n in names if n.split("/", 1)[-1].startswith("models/") and n[-5:] == ".json"]
    old = [n for n in names if n.split("/")[-1] == "serialized_exported_program.json"]
    if not models and not old:
        compiled = f" but compiled code ({binaries[0]})" if binaries else ""
        raise CheckpointError(
            f"{path} is a .pt2 archive without an exported program{compiled}; save it with "
            "torch.export.save"
        )
    name = next((n for n in models if n.endswith("models/model.json")), (models + old)[0])
    program = json.loads(archive.read(name))
    if models:
        root = name[: -len("models/" + name.rsplit("/", 1)[-1])]
        label = name.rsplit("/", 1)[-1][: -len(".json")]
        tensors = _payload(path, archive, f"{root}data/weights/", label, "weights")
        tensors |= _payload(path, archive, f"{root}data/constants/", label, "constants")
    else:
        tensors = _pickled(path, archive, "serialized_state_dict")
        tensors |= _pickled(path, archive, "serialized_constants")
    return _translate(path, program, tensors, trust)


def _payload(
    path: Path, archive: zipfile.ZipFile, folder: str, label: str, what: str
) -> dict[str, torch.Tensor]:
    names = set(archive.namelist())
    if f"{folder}{label}.pt" in names:
        return _tensor_file(path, archive.read(f"{folder}{label}.pt"))
    config = f"{folder}{label}_{what}_config.json"
    if config not in names:
        return {}
    found: dict[str, torch.Tensor] = {}
    shared: dict[str, torch.Tensor] = {}  # tied weights are one entry of the archive
    for key, entry in json.loads(archive.read(config))["config"].items():
        content = archive.read(folder + entry["path_name"])
        if not entry["path_name"].startswith(("weight_", "tensor_")):
            raise UntrustedCheckpointError(
                f"{path} holds a pickled object '{key}' beside its weights, which runs code when "
                "it is opened. Safe: save model.state_dict() where the file was made"
            )
        if entry.get("use_pickle"):
            value = next(iter(_tensor_file(path, content).values()))
        else:
            value = _tensor(content, entry["tensor_meta"])
        if entry.get("is_param") and value.is_floating_point():
            value = nn.Parameter(value)
        identity = json.dumps([entry["path_name"], entry["tensor_meta"]], sort_keys=True)
        found[key] = shared.setdefault(identity, value)
    return found


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
    return flat.as_strided(sizes, strides, offset).clone()


def _number(value: Any) -> int:
    found = value["as_int"] if isinstance(value, Mapping) else value
    if type(found) is not int:
        raise ValueError(f"a size that is not a number: {found!r}")
    return found


def _tensor_file(path: Path, content: bytes) -> dict[str, torch.Tensor]:
    try:
        loaded = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:
        raise UntrustedCheckpointError(
            f"{path} holds a pickled part that is not plain tensors, which runs code when it is "
            "opened. Safe: save model.state_dict() where the file was made"
        ) from error
    if isinstance(loaded, torch.Tensor):
        return {"": loaded.detach()}
    return {k: v for k, v in loaded.items() if isinstance(v, torch.Tensor)}


def _pickled(path: Path, archive: zipfile.ZipFile, stem: str) -> dict[str, torch.Tensor]:
    named = [n for n in archive.namelist() if n.rsplit("/", 1)[-1].startswith(stem)]
    content = archive.read(named[0]) if named else b""
    return _tensor_file(path, content) if content else {}


def _translate(
    path: Path, program: Mapping[str, Any], tensors: dict[str, torch.Tensor], trust: bool
) -> ExportedNetwork:
    module = program["graph_module"]
    signature, graph = module["signature"], module["graph"]
    stored: dict[str, Stored] = {}
    inputs: list[str] = []
    trained: dict[str, torch.Tensor] = {}
    constants: dict[str, torch.Tensor] = {}
    for spec in signature["input_specs"]:
        kind, entry = next(iter(spec.items()))
        if kind == "user_input":
            argument = entry["arg"]
            inputs.append(next(iter(argument.values()))["name"])
        elif kind in ("parameter", "buffer", "tensor_constant"):
            key = entry[f"{kind}_name"]
            value = tensors[key]
            keep = kind == "parameter" or (kind == "buffer" and entry.get("persistent", True))
            if kind == "parameter" and not isinstance(value, nn.Parameter):
                value = nn.Parameter(value)
            (trained if keep else constants)[key] = value
            stored[entry["arg"]["name"]] = Stored(key)
        else:
            raise _unsupported(path, f"an input of kind '{kind}'")
    for node in graph["nodes"]:
        if str(node["target"]).startswith("torch.ops.higher_order."):
            raise _unsupported(path, f"the operation {node['target']}")
    refused = _refused(graph["nodes"])
    if refused and not trust:
        raise UntrustedCheckpointError(
            f"{path} is a torch.export archive that uses {', '.join(refused[:5])}, not known to "
            "be harmless. Safe: save model.state_dict() and give --model file.py:factory. If you "
            "trust the file: --trust"
        )
    reader = _Reader(path, stored)
    steps = tuple(reader.step(node) for node in graph["nodes"])
    outputs = [
        reader.value(argument)
        for spec, argument in zip(signature["output_specs"], graph["outputs"], strict=False)
        if "user_output" in spec
    ]
    if len(inputs) != 1 or not outputs:
        raise _unsupported(path, f"{len(inputs)} inputs and {len(outputs)} outputs")
    network = GraphModel(Block(tuple(inputs), steps, tuple(outputs[:1])), trained, constants)
    notes: list[str] = []
    if len(outputs) > 1:
        notes.append(f"the first of its {len(outputs)} outputs is used")
    meta = graph["tensor_values"].get(inputs[0])
    network, batch = _settle_batch(network.eval(), meta, notes)
    return ExportedNetwork(network, batch, tuple(notes))


def _unsupported(path: Path, what: str) -> ArchitectureError:
    return ArchitectureError(
        f"{path} is a torch.export archive with {what}, which is not supported; save "
        "model.state_dict() and give --model file.py:factory"
    )


def _refused(nodes: Iterable[Mapping[str, Any]]) -> list[str]:
    refused: dict[str, None] = {}
    for node in nodes:
        target = str(node["target"])
        parts = target.split(".")
        if target.startswith("torch.ops.aten.") and len(parts) == 5 and parts[3] in ALLOWED:
            continue
        if target.startswith("_operator.") and parts[1] in PYTHON_OPERATORS and len(parts) == 2:
            continue
        refused[target] = None
    return list(refused)


class _Reader:
    """Turns the JSON of nodes and arguments into steps and values."""

    def __init__(self, path: Path, stored: Mapping[str, Stored]) -> None:
        self.path = path
        self.stored = stored

    def step(self, node: Mapping[str, Any]) -> Step:
        parts = str(node["target"]).split(".")
        if parts[0] == "_operator":
            target = f"python::{parts[-1]}"
        elif parts[:2] == ["torch", "ops"] and len(parts) == 5:
            target = f"{parts[2]}::{parts[3]}.{parts[4]}"
        else:
            raise _unsupported(self.path, f"the operation {node['target']}")
        arguments: list[Any] = []
        keywords: dict[str, Any] = {}
        for entry in node["inputs"]:
            value = self.value(entry["arg"])
            if entry.get("kind", 1) == 2 or keywords:
                keywords[str(entry["name"])] = value
            else:
                arguments.append(value)
        return Step(target, tuple(arguments), self.outputs(node), keywords)

    def outputs(self, node: Mapping[str, Any]) -> tuple[str, ...]:
        names: list[str] = []
        for output in node["outputs"]:
            kind, entry = next(iter(output.items()))
            if kind == "as_tensors":
                names += [item["name"] for item in entry]
            elif kind == "as_none":
                names.append("")
            else:
                names.append(entry["name"] if "name" in entry else entry["as_name"])
        return tuple(names)

    def value(self, argument: Mapping[str, Any]) -> Any:
        kind, entry = next(iter(argument.items()))
        if kind in _PLAIN:
            return _plain(entry)
        if kind == "as_none":
            return None
        if kind == "as_tensor":
            return self.named(entry["name"])
        if kind == "as_tensors":
            return [self.named(item["name"]) for item in entry]
        if kind == "as_optional_tensor":
            return self.value(entry)
        if kind == "as_optional_tensors":
            return [self.value(item) for item in entry]
        if kind in ("as_sym_int", "as_sym_float", "as_sym_bool"):
            return self.symbol(entry)
        if kind in ("as_sym_ints", "as_sym_floats", "as_sym_bools"):
            return [self.symbol(item) for item in entry]
        if kind == "as_name":
            return Ref(str(entry))
        if kind == "as_scalar_type":
            return _DTYPES[int(entry)]
        if kind == "as_memory_format":
            return _MEMORY_FORMATS[int(entry)]
        if kind == "as_layout":
            return torch.strided
        if kind == "as_device":
            return InputDevice()
        raise _unsupported(self.path, f"an argument of kind '{kind}'")

    def symbol(self, entry: Mapping[str, Any]) -> Any:
        kind, value = next(iter(entry.items()))
        return Ref(str(value)) if kind == "as_name" else _plain(value)

    def named(self, name: str) -> Any:
        return self.stored.get(name) or Ref(str(name))


def _plain(value: Any) -> Any:
    """Check that a value is made of numbers and text; text may stand for inf and nan."""
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, str) and value in ("Infinity", "-Infinity", "NaN"):
        return float(value.replace("Infinity", "inf"))
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise ValueError(f"an unexpected value {value!r}")


def _settle_batch(
    network: GraphModel, meta: Mapping[str, Any] | None, notes: list[str]
) -> tuple[GraphModel, int | None]:
    """Free a program from the batch size that it was exported with, where that can be done.

    Gives the network and the only batch size that it accepts, ``None`` if it takes any. What was
    exported for one size often works for all, or once the sizes written into it follow the
    inputs; both are tried out on random inputs and kept only if the outputs are the same.
    """
    if meta is None or not meta["sizes"] or "as_int" not in meta["sizes"][0]:
        return network, None
    sizes = [_number(n) for n in meta["sizes"] if "as_int" in n]
    batch, dtype = sizes[0], _DTYPES[int(meta["dtype"])]
    only = f"exported for batches of {batch} only"
    if len(sizes) != len(meta["sizes"]) or math.prod(sizes) > 10_000_000:
        notes.append(only)
        return network, batch
    generator = torch.Generator().manual_seed(0)
    examples = torch.zeros([3 * batch, *sizes[1:]], dtype=dtype)
    if dtype.is_floating_point:
        examples = torch.randn(examples.shape, generator=generator).to(dtype)
    try:
        with torch.no_grad():
            reference = torch.cat([network(part) for part in examples.split(batch)])
    except Exception:  # the inputs must be of another kind; nothing can be tried
        notes.append(only)
        return network, batch
    for every in (None, False, True):
        tried = network if every is None else network.with_body(_follow(network, batch, every))
        if _agrees(tried, examples, reference):
            notes.append(f"exported for batches of {batch}; gives the same for any other (tried)")
            return tried, None
    notes.append(only)
    return network, batch


def _agrees(network: GraphModel, examples: torch.Tensor, reference: torch.Tensor) -> bool:
    try:
        with torch.no_grad():
            for count in {1, 2, len(examples) - 1, len(examples)}:
                made = network(examples[:count])
                if not torch.allclose(made, reference[:count], rtol=1e-3, atol=1e-5):
                    return False
    except Exception:
        return False
    return True


def _follow(network: GraphModel, batch: int, every: bool) -> Block:
    """Replace ``batch`` in written sizes by that of the inputs: in front, or in every place."""

    def free(value: Any) -> Any:
        if not isinstance(value, list):
            return value
        return [
            InputBatch() if type(n) is int and n == batch and (every or position == 0) else n
            for position, n in enumerate(value)
        ]

    steps = [
        replace(step, arguments=tuple(free(value) for value in step.arguments))
        if _SHAPING.search(step.operator)
        else step
        for step in network.body.steps
    ]
    return replace(network.body, steps=tuple(steps))
