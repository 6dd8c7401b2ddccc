"""A checkpoint with other weights, in the format of the one that it came from."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hessscope.errors import CheckpointError
from hessscope.loaders import pickles
from hessscope.loaders.checkpoints import storages
from hessscope.loaders.checkpoints.checkpoint import Checkpoint
from hessscope.loaders.checkpoints.finding import find_weights
from hessscope.loaders.checkpoints.formats import (
    LIGHTNING,
    SAFETENSORS,
    STATE_DICT_LEGACY,
    STATE_DICT_ZIP,
)
from hessscope.loaders.checkpoints.shards import content_sha256
from hessscope.parameters import ParameterLayout
from hessscope.records import write_atomically


def named_tensors(model: nn.Module, theta: torch.Tensor) -> dict[str, torch.Tensor]:
    """Cut θ, shape (n,), into the tensors of ``model.state_dict()`` that it makes.

    Shared parameters come under each of their names.
    """
    layout = ParameterLayout.of(model)
    trainable = [p for p in model.parameters() if p.requires_grad]
    parts = layout.unflatten(theta.detach().cpu()).values()
    values = {id(p): part for p, part in zip(trainable, parts, strict=True)}
    named = model.state_dict(keep_vars=True).items()
    return {name: values[id(tensor)] for name, tensor in named if id(tensor) in values}


def rounded(model: nn.Module, theta: torch.Tensor) -> torch.Tensor:
    """θ with each number rounded to the data type that it has in the model, shape (n,)."""
    layout = ParameterLayout.of(model)
    parts = layout.unflatten(theta.detach().cpu())
    return layout.flatten(
        {k: part.to(model.get_parameter(k).dtype).to(theta.dtype) for k, part in parts.items()}
    )


def write_checkpoint(
    checkpoint: Checkpoint,
    theta: torch.Tensor,
    path: Path,
    *,
    keep_dtype: bool = False,
    overwrite: bool = False,
    announce: Callable[[bytes], object] | None = None,
) -> tuple[str, ...]:
    """Write a checkpoint like the one that was read, with the parameters θ.

    Names, nesting, and all that stood beside the weights are kept. Only the memory of the weights
    is exchanged, so that nothing in an untrusted file is run. Where that cannot be done (whole
    modules, TorchScript, torch.export, pickles of unusual form) a plain state dict is written.

    Args:
        checkpoint: as it was read; its file must still be there.
        theta: θ, shape (n,).
        path: where to.
        keep_dtype: write the data types of the file, rounded; by default θ's own where that is
            wider.
        overwrite: replace a file that is there.
        announce: called with the content before it is written.

    Returns:
        Notes on what was written, where that is not the same format.

    Raises:
        CheckpointError: the file has changed since it was read.
        OutputExistsError, RecordError: it cannot be written.
    """
    if content_sha256(checkpoint.path) != checkpoint.sha256:
        raise CheckpointError(
            f"{checkpoint.path} has changed since it was read, so that no checkpoint like it can "
            "be written: put the old file back"
        )
    state = checkpoint.model.state_dict()
    new = {
        name: value.to(_dtype(state[name].dtype, value.dtype, keep_dtype))
        for name, value in named_tensors(checkpoint.model, theta).items()
    }
    content, notes = _content(checkpoint, new)
    if announce is not None:
        announce(content)
    write_atomically(path, content, overwrite)
    return notes


def _dtype(stored: torch.dtype, own: torch.dtype, keep: bool) -> torch.dtype:
    return stored if keep else torch.promote_types(stored, own)


def _content(
    checkpoint: Checkpoint, new: Mapping[str, torch.Tensor]
) -> tuple[bytes, tuple[str, ...]]:
    entries = [(checkpoint.entries[k], v) for k, v in new.items() if k in checkpoint.entries]
    stored = dict(entries)
    same = all(torch.equal(stored[name], value) for name, value in entries)
    if same and len(entries) == len(new):
        if checkpoint.format == SAFETENSORS:
            return _safetensors(checkpoint.path, stored), ()
        if checkpoint.format in (STATE_DICT_ZIP, STATE_DICT_LEGACY, LIGHTNING):
            try:
                return _pickled(checkpoint.path, stored, checkpoint.key), ()
            except storages.NotRewritableError as error:
                reason = f"{checkpoint.path.name} cannot be rewritten: {error}"
                return _plain(checkpoint, new), (_beside(reason),)
    return _plain(checkpoint, new), (_beside(f"{checkpoint.format} is not written"),)


def _beside(reason: str) -> str:
    return (
        f"the refined checkpoint is a plain state dict ({reason}): load it into the module with "
        "load_state_dict"
    )


def _safetensors(path: Path, new: Mapping[str, torch.Tensor]) -> bytes:
    from safetensors import safe_open
    from safetensors.torch import save

    with safe_open(path, framework="pt", device="cpu") as archive:
        tensors = {key: archive.get_tensor(key) for key in archive.keys()}  # noqa: SIM118
        metadata = archive.metadata()
    return save({**tensors, **{k: v.contiguous() for k, v in new.items()}}, metadata)


def _pickled(path: Path, new: Mapping[str, torch.Tensor], key: str | None) -> bytes:
    """Exchange the memory in which the entries stand."""
    with path.open("rb") as stream:
        zipped = stream.read(2) == b"PK"
    loaded: list[Any] = []

    def note(storage: Any, location: str) -> Any:
        loaded.append(storage)
        return storage

    scan = pickles.scan_zip(path) if zipped else pickles.scan_pickle(path)
    try:
        content = pickles.load_safely(path, scan, zipped=zipped, map_location=note)
    except CheckpointError as error:  # it was opened as code; that is not done again
        raise storages.NotRewritableError("it holds more than plain data") from error
    keys = storages.storage_keys(path, zipped=zipped)
    if len(keys) != len(loaded):
        raise storages.NotRewritableError("its tensors are stored in an unknown way")
    places = {_address(storage): key for storage, key in zip(loaded, keys, strict=True)}
    state = find_weights(content, key).state
    memory: dict[str, torch.Tensor] = {}
    for name, value in new.items():
        old = state[name]
        where = places.get(_address(old.untyped_storage()))
        if where is None:
            raise storages.NotRewritableError(f"{name} is no tensor of torch's")
        if where not in memory:
            whole = torch.empty(0, dtype=old.dtype).set_(old.untyped_storage())
            memory[where] = whole.to(value.dtype, copy=True)
        place = memory[where].as_strided(old.shape, old.stride(), old.storage_offset())
        place.copy_(value)
    return storages.with_storages(path, memory, zipped=zipped)


def _address(storage: Any) -> int:
    """Where a storage's memory begins."""
    return int(storage.data_ptr())


def _plain(checkpoint: Checkpoint, new: Mapping[str, torch.Tensor]) -> bytes:
    """The state dict of the model, under the names of the file where there are such."""
    state = {**checkpoint.model.state_dict(), **new}
    named = {checkpoint.entries.get(k, k): v.detach().clone() for k, v in state.items()
             if isinstance(v, torch.Tensor)}  # fmt: skip
    buffer = io.BytesIO()
    torch.save(named, buffer)
    return buffer.getvalue()
