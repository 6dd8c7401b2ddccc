"""Checkpoints with other weights, in the format of the one that they came from."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import nn

from hessscope.errors import CheckpointError
from hessscope.loaders.checkpoints.checkpoint import Checkpoint
from hessscope.loaders.checkpoints.formats import recognise
from hessscope.loaders.checkpoints.raw_files import RawFile, reading
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

    The file is loaded again, its weights are exchanged, and it is saved by its format's own
    writer: names, nesting, and all that stood beside the weights are kept, and nothing in an
    untrusted file is run. Where that cannot be done (whole modules, archives that were not
    trusted, objects that are no plain data) a plain state dict is written.

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
    with reading(checkpoint.path):
        file = RawFile.read(checkpoint.path)
    if file.sha256 != checkpoint.sha256:
        raise CheckpointError(
            f"{checkpoint.path} has changed since it was read, so that no checkpoint like it can "
            "be written: put the old file back"
        )
    state = checkpoint.model.state_dict()
    new: dict[str, torch.Tensor] = {}
    cast: dict[int, torch.Tensor] = {}  # tied weights stay one tensor
    for name, value in named_tensors(checkpoint.model, theta).items():
        stored = state[name].dtype
        dtype = stored if keep_dtype else torch.promote_types(stored, value.dtype)
        new[name] = cast.setdefault(id(value), value.to(dtype).clone())
    notes: tuple[str, ...] = ()
    try:
        content = _alike(checkpoint, file, new)
    except CheckpointError as error:
        content = _plain(checkpoint, new)
        notes = (
            f"the checkpoint is written as a plain state dict, and not as {checkpoint.format} "
            f"({error}): load it into the module with load_state_dict",
        )
    if announce is not None:
        announce(content)
    write_atomically(path, content, overwrite)
    return notes


def _alike(checkpoint: Checkpoint, file: RawFile, new: Mapping[str, torch.Tensor]) -> bytes:
    """The file with other weights; raises ``CheckpointError`` where that cannot be made."""
    entries = [(checkpoint.entries.get(name), value) for name, value in new.items()]
    stored = {name: value for name, value in entries if name is not None}
    if any(name is None or not torch.equal(stored[name], value) for name, value in entries):
        raise CheckpointError("its weights are not tensors in the file")
    return recognise(file).write(file, stored, checkpoint.model, checkpoint.key)


def _plain(checkpoint: Checkpoint, new: Mapping[str, torch.Tensor]) -> bytes:
    """The state dict of the model, under the names of the file where there are such."""
    state = {**checkpoint.model.state_dict(), **new}
    named = {checkpoint.entries.get(k, k): v.detach().clone() for k, v in state.items()
             if isinstance(v, torch.Tensor)}  # fmt: skip
    buffer = io.BytesIO()
    torch.save(named, buffer)
    return buffer.getvalue()
