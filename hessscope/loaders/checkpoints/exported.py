"""Archives of ``torch.export``: their weights, and their program run where it is trusted."""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Mapping
from typing import Any

import torch

from hessscope.errors import CheckpointError
from hessscope.loaders import pickles
from hessscope.loaders.checkpoints.formats import Format, Stored, loading
from hessscope.loaders.checkpoints.model_sources import ModelSource
from hessscope.loaders.checkpoints.programs import exported_model
from hessscope.loaders.checkpoints.raw_files import RawFile
from hessscope.loaders.integrity import read_entry

# Numbers of data types in the archive.
_DTYPES: Mapping[int, torch.dtype] = {
    1: torch.uint8, 2: torch.int8, 3: torch.int16, 4: torch.int32, 5: torch.int64,
    6: torch.float16, 7: torch.float32, 8: torch.float64, 12: torch.bool, 13: torch.bfloat16,
}  # fmt: skip
_PICKLED = re.compile(r"(^|/)(data/weights/[^/]+\.pt|serialized_state_dict\.(pt|json))$")


class ExportFormat(Format):
    """An archive of ``torch.export.save``."""

    program = True

    def recognises(self, file: RawFile) -> bool:
        """By the names of its parts, old and new."""
        names = {*file.entries, *file.inner_entries}
        return "serialized_exported_program.json" in names or (
            "archive_format" in names and any(name.startswith("models/") for name in names)
        )

    def read(self, file: RawFile) -> Stored:
        """Give the tensors that its configuration names, or that are pickled in it."""
        configs = [name for name in file.entries if name.endswith("_weights_config.json")]
        pickled = [name for name in file.entries if _PICKLED.search(name)]
        with zipfile.ZipFile(file.stream()) as archive:
            if configs:
                return _configured(archive, min(configs, key=_plainest))
            if pickled:
                content = read_entry(archive, min(pickled, key=_plainest))
                return Stored("torch.export", _pickled_tensors(content))
        raise CheckpointError("it is a .pt2 archive without weights in it")

    def run(self, file: RawFile, source: ModelSource | None) -> Stored:
        """Load it by torch."""
        with loading("torch.export"):
            exported = torch.export.load(file.stream())
        return Stored("torch.export", exported_model(exported), "torch.export archive")


def _pickled_tensors(content: bytes) -> dict[str, torch.Tensor]:
    found = pickles.load_safely(io.BytesIO(content))
    named = found if isinstance(found, Mapping) else {"": found}
    return {str(k): v.detach() for k, v in named.items() if isinstance(v, torch.Tensor)}


def _plainest(name: str) -> tuple[bool, str]:
    """Of several models in an archive the one that torch calls ``model``."""
    return not name.rsplit("/", 1)[-1].startswith("model"), name


def _configured(archive: zipfile.ZipFile, config: str) -> Stored:
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
                    shared[place] = next(iter(_pickled_tensors(content).values()))
                else:
                    shared[place] = _tensor(content, entry["tensor_meta"])
            state[name] = shared[place]
            if not entry.get("is_param", True):
                buffers.add(name)
    except (KeyError, TypeError, ValueError, RuntimeError, StopIteration) as error:
        raise CheckpointError(
            f"it is a .pt2 archive whose weights cannot be read ({type(error).__name__}: "
            f"{error}); export it again with a current torch, or save model.state_dict()"
        ) from error
    return Stored("torch.export", state, buffers=frozenset(buffers))


def _tensor(content: bytes, meta: Mapping[str, Any]) -> torch.Tensor:
    sizes, strides = ([_number(n) for n in meta[name]] for name in ("sizes", "strides"))
    dtype = _DTYPES[int(meta["dtype"])]
    if 0 in sizes:
        return torch.empty(sizes, dtype=dtype)
    flat = torch.frombuffer(bytearray(content), dtype=dtype)
    return flat.as_strided(sizes, strides, _number(meta["storage_offset"]))


def _number(value: Any) -> Any:
    return value["as_int"] if isinstance(value, Mapping) else value
