"""What kind of file it is, by its content, and what it holds."""

from __future__ import annotations

import difflib
import json
import tarfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hessscope.errors import CheckpointError, HessscopeError, UntrustedCheckpointError
from hessscope.loaders import integrity, pickles
from hessscope.loaders.checkpoints import program_weights, programs, settings, shards, storages
from hessscope.loaders.checkpoints.finding import Found, find_weights, scalars
from hessscope.torch_internals import without_wrapper

STATE_DICT_ZIP = "state_dict (zip)"
STATE_DICT_LEGACY = "state_dict (legacy pickle)"
LIGHTNING = "Lightning"
SAFETENSORS = "safetensors"
TORCHSCRIPT = "TorchScript"
EXPORTED = "torch.export"
PICKLED_MODULE = "pickled module"
PROGRAMS = (TORCHSCRIPT, EXPORTED)
# Formats in which a key has been followed while reading.
_KEYED = (STATE_DICT_ZIP, STATE_DICT_LEGACY, LIGHTNING, PICKLED_MODULE)


@dataclass(frozen=True)
class Contents:
    """What a checkpoint file holds.

    ``state`` are its named tensors in the file's order (``ordered`` is false where the format
    sorts them), ``module`` the model itself where the file carries one, ``architecture`` what
    is known about it. ``buffers`` are the tensors that the file says are not trained, ``parts``
    what stood beside each other in it, as in ``Found``.
    """

    format: str
    state: dict[str, torch.Tensor]
    module: nn.Module | None = None
    architecture: str | None = None
    metadata: Mapping[str, object] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    ordered: bool = True
    buffers: frozenset[str] = frozenset()
    parts: tuple[str, ...] = ()


def read_contents(
    path: Path,
    supply: pickles.ClassSupply | None = None,
    *,
    trust: bool = False,
    key: str | None = None,
    weights_only: bool = False,
) -> Contents:
    """Read a checkpoint of any known format; its code runs only where ``trust`` is true.

    ``supply`` gives classes of a whole pickled module, ``key`` says which of several networks
    is meant; with ``weights_only`` no program in an archive is loaded, trusted or not. Raises
    :class:`CheckpointError` (or its subclass for untrusted files), with one line that says what
    the file is.
    """
    try:
        _check_readable(path)
        if shards.is_index(path):
            contents = _read_shards(path, trust)
        else:
            shards.check_whole(path)
            kind = sniff(path)
            stamped = not _is_zip(path) or integrity.check_zip(path, CheckpointError)
            contents = _read(path, kind, supply, trust, key, weights_only)
            if not stamped:
                note = "the file carries no checksums: damage to its numbers cannot be seen"
                contents = replace(contents, notes=(*contents.notes, note))
        if key is not None and contents.format not in _KEYED:
            found = find_weights(contents.state, key)
            contents = replace(contents, state=found.state, parts=found.parts)
        integrity.check_expanded(path, contents.state.values(), CheckpointError)
        return contents
    except HessscopeError as error:
        said = str(error)
        if str(path) in said or not isinstance(error, CheckpointError):
            raise
        raise type(error)(f"{path}: {said}") from error
    except MemoryError as error:
        raise CheckpointError(f"{path} needs more memory to be read than there is") from error
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}") from error
    except Exception as error:  # a damaged or crafted file may raise anything
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise CheckpointError(
            f"{path} is damaged or incomplete ({reason}); copy or download it again"
        ) from error


def _read(
    path: Path, kind: str, supply: pickles.ClassSupply | None, trust: bool, key: str | None,
    weights_only: bool,
) -> Contents:  # fmt: skip
    if kind == SAFETENSORS:
        return _read_safetensors(path)
    if kind not in PROGRAMS:
        return _read_pickled(path, supply, kind == STATE_DICT_ZIP, trust, key)
    if trust and not weights_only and key is None:
        if kind == TORCHSCRIPT:
            return Contents(kind, {}, programs.load_script(path), "TorchScript archive")
        return Contents(kind, {}, programs.load_export(path), "torch.export archive")
    read = program_weights.read_script if kind == TORCHSCRIPT else program_weights.read_export
    state, buffers = read(path)
    return Contents(kind, state, buffers=buffers)


def _read_shards(path: Path, trust: bool) -> Contents:
    state: dict[str, torch.Tensor] = {}
    notes: dict[str, None] = {}
    index = shards.read_index(path)
    for file, names in index.items():
        shard = path.parent / file
        kind = sniff(shard)
        if _is_zip(shard):
            integrity.check_zip(shard, CheckpointError)
        found = _read(shard, kind, None, trust, None, True)
        lacking = [name for name in names if name not in found.state]
        if lacking:
            raise CheckpointError(f"{shard} does not hold {lacking[0]}, which {path} says it does")
        state |= found.state
        notes |= dict.fromkeys(found.notes)
    return Contents(f"{kind} ({len(index)} shards)", state, notes=tuple(notes), ordered=False)


def _is_zip(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(2) == b"PK"


def sniff(path: Path) -> str:
    """Tell the format of ``path`` from its content; raises ``CheckpointError`` if it has none."""
    with path.open("rb") as stream:
        head = stream.read(4096)
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return _sniff_zip(path)
    size = int.from_bytes(head[:8], "little")
    if len(head) > 8 and head[8:9] == b"{" and size >= 2:
        if size + 8 > path.stat().st_size:
            raise CheckpointError(f"{path} is a truncated safetensors file; copy it again")
        return SAFETENSORS
    if head[:1] == b"\x80" or pickles.scan_pickle(path).complete:
        return STATE_DICT_LEGACY
    raise CheckpointError(f"{path} {_foreign(path, head)}")


def _check_readable(path: Path) -> None:
    if path.is_dir():
        files = sorted(p.name for p in path.iterdir() if p.is_file())
        shown = f"; it holds {', '.join(files[:5])}" if files else ""
        raise CheckpointError(f"{path} is a folder, not a checkpoint file{shown}")
    if not path.exists():
        near: list[str] = []
        if path.parent.is_dir():
            names = [p.name for p in path.parent.iterdir()]
            near = difflib.get_close_matches(path.name, names, n=1, cutoff=0.6)
        hint = f" Did you mean '{path.parent / near[0]}'?" if near else ""
        raise CheckpointError(f"no such file: {path}.{hint}")
    integrity.check_regular(path, CheckpointError)
    integrity.check_room(path, path.stat().st_size, CheckpointError)
    try:
        if path.stat().st_size == 0:
            raise CheckpointError(f"{path} is empty (0 bytes); copy or download it again")
        path.open("rb").close()
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}") from error


def _foreign(path: Path, head: bytes) -> str:
    """Say what a file is that is no checkpoint."""
    start = head.lstrip().lower()
    if head.startswith(b"version https://git-lfs"):
        return (
            "is a Git LFS pointer and not the checkpoint itself; fetch the file with 'git lfs pull'"
        )
    if start.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        return (
            "is a web page saved under the checkpoint's name; download the file itself (on "
            "GitHub: 'Download raw file')"
        )
    if head.startswith(b"\x1f\x8b"):
        return "is compressed with gzip; decompress it first (gunzip)"
    if head.startswith(b"\x89HDF"):
        return "is an HDF5 file (of Keras, or a hessscope record), not a PyTorch checkpoint"
    if head.startswith(b"\x93NUMPY"):
        return "is a NumPy array, not a checkpoint with named weights"
    if tarfile.is_tarfile(path):
        return (
            "is a tar file (torch before 0.1.10, or an archive); extract it, or save it again "
            "with a current torch"
        )
    try:
        text = head.decode("utf-8", "strict" if len(head) < 4096 else "ignore")
        if text.isprintable() or all(c.isprintable() or c in "\r\n\t\f" for c in text):
            line = text.strip().splitlines()[0] if text.strip() else ""
            shown = line if len(line) <= 40 else line[:39] + "…"
            return f"is a text file (it begins '{shown}'), not a checkpoint"
    except UnicodeDecodeError:
        pass
    return "is in no known checkpoint format (PyTorch, Lightning, safetensors, TorchScript, .pt2)"


def _sniff_zip(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise CheckpointError(
            f"{path} is a truncated or damaged zip file; copy or download it again"
        ) from error
    inner = [name.split("/", 1)[-1] for name in names]
    if program_weights.is_export(names):
        return EXPORTED
    if any(n.startswith("code/") and n.endswith(".py") for n in inner):
        return TORCHSCRIPT
    if any(n.startswith(".data/extern_modules") for n in inner):
        raise CheckpointError(
            f"{path} is a torch.package archive, which carries code; open it with "
            "torch.package where you trust it and save model.state_dict()"
        )
    if any(n == "data.pkl" for n in inner):
        return STATE_DICT_ZIP
    if any(n == "model.json" for n in inner):
        raise CheckpointError(
            f"{path} is a TorchScript archive of torch 1.0, which today's torch cannot read"
        )
    if names and all(n.endswith(".npy") for n in names):
        raise CheckpointError(f"{path} is a NumPy .npz file, not a checkpoint")
    shown = ", ".join(names[:4]) or "nothing"
    raise CheckpointError(f"{path} is a zip file, but no checkpoint: it holds {shown}")


def _read_pickled(
    path: Path, supply: pickles.ClassSupply | None, zipped: bool, trust: bool, key: str | None
) -> Contents:
    scan = pickles.scan_zip(path) if zipped else pickles.scan_pickle(path)
    unknown = pickles.unknown_globals(scan)
    if not scan.complete and not unknown:
        raise CheckpointError(f"{path} is damaged or incomplete; copy or download it again")
    plain = not zipped and not scan.legacy
    content: Any
    try:
        content = pickles.load_safely(path, scan, zipped=zipped)
    except CheckpointError as error:
        if not trust or not (plain or isinstance(error, UntrustedCheckpointError)):
            raise
        content = pickles.load_trusted(path, supply, plain=plain)
    if scan.legacy and not storages.is_as_long_as_it_says(path):
        raise CheckpointError(f"{path} is damaged: it continues after its last number")
    found = find_weights(content, key)
    if found.module is not None:
        return _of_module(found, scan)
    kind = STATE_DICT_ZIP if zipped else STATE_DICT_LEGACY
    if isinstance(content, Mapping) and "pytorch-lightning_version" in content:
        kind = LIGHTNING
    return Contents(
        kind, found.state, None, _own_architecture(content), found.metadata, found.notes,
        parts=found.parts,
    )  # fmt: skip


def _of_module(found: Found, scan: pickles.PickleScan) -> Contents:
    assert found.module is not None
    kind = type(found.module)
    pickled = [name for name in scan.globals if name.rsplit(".", 1)[-1] == kind.__name__]
    name = pickled[0] if pickled else f"{kind.__module__}.{kind.__qualname__}"
    module = without_wrapper(found.module)
    return Contents(PICKLED_MODULE, {}, module, name, found.metadata, found.notes)


def _own_architecture(content: object) -> str | None:
    """Give the architecture that hessscope itself has written beside the weights."""
    own = content.get(settings.KEY) if isinstance(content, Mapping) else None
    if not isinstance(own, Mapping):
        return None
    return settings.StoredSetting.from_dict(own).architecture


def _read_safetensors(path: Path) -> Contents:
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import load_file

    try:
        with safe_open(path, framework="pt", device="cpu") as archive:
            written = archive.metadata() or {}
        state = load_file(path)
    except (SafetensorError, json.JSONDecodeError, ValueError) as error:
        raise CheckpointError(
            f"{path} is a damaged safetensors file ({error}); copy or download it again"
        ) from error
    if not state:
        raise CheckpointError(f"{path} is a safetensors file without tensors in it")
    # safetensors.torch.save_model leaves out names that share a tensor, and says so.
    tied = {name: state[kept] for name, kept in written.items()
            if name not in state and kept in state}  # fmt: skip
    architecture = written.get("hessscope.architecture", "")
    return Contents(
        SAFETENSORS, {**state, **tied}, None,
        architecture if architecture.startswith("mlp:") else None,
        scalars({name: text for name, text in written.items() if name not in tied}), ordered=False,
    )  # fmt: skip
