"""Files of safetensors."""

from __future__ import annotations

import json

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import nn

from hessscope.errors import CheckpointError
from hessscope.loaders.checkpoints.formats import Format, Stored
from hessscope.loaders.checkpoints.raw_files import RawFile
from hessscope.loaders.checkpoints.state_dicts import State


class SafetensorsFormat(Format):
    """A header in JSON, then the numbers."""

    def recognises(self, file: RawFile) -> bool:
        """The length of the header, and the header's first character."""
        return _header_size(file) >= 2 and file.content[8:9] == b"{"

    def read(self, file: RawFile) -> Stored:
        """Give the tensors; those that ``save_model`` left out since they share others."""
        if _header_size(file) + 8 > len(file.content):
            raise CheckpointError("it is a truncated safetensors file; copy it again")
        try:
            state, written = load(file.content), _metadata(file)
        except (SafetensorError, ValueError) as error:
            raise CheckpointError(
                f"it is a damaged safetensors file ({error}); copy or download it again"
            ) from error
        if not state:
            raise CheckpointError("it is a safetensors file without tensors in it")
        tied = {name: state[kept] for name, kept in written.items()
                if name not in state and kept in state}  # fmt: skip
        said = {name: text for name, text in written.items() if name not in tied}
        return Stored("safetensors", {**state, **tied}, metadata=said, ordered=False)

    def write(self, file: RawFile, weights: State, model: nn.Module, key: str | None) -> bytes:
        """The same tensors and metadata, with other weights."""
        prefix = f"{key}." if key else ""
        new = {f"{prefix}{name}": value.contiguous() for name, value in weights.items()}
        return save({**load(file.content), **new}, _metadata(file) or None)


def _header_size(file: RawFile) -> int:
    return int.from_bytes(file.content[:8], "little")


def _metadata(file: RawFile) -> dict[str, str]:
    header = json.loads(file.content[8 : 8 + _header_size(file)])
    return dict(header.get("__metadata__", {}))
