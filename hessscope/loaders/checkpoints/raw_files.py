"""Files as bytes, read once and checked: kind, room, checksums, and the shards of an index."""

from __future__ import annotations

import difflib
import hashlib
import io
import json
import re
import tarfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import nn

from hessscope.errors import CheckpointError, HessscopeError, NonFiniteError
from hessscope.loaders import integrity
from hessscope.loaders.checkpoints.hub import HUB, snapshot
from hessscope.loaders.checkpoints.model_sources import resolve_model
from hessscope.loaders.checkpoints.state_dicts import digest_of_state
from hessscope.loaders.user_code import digest_of, names_object

_SHARD = re.compile(r"(.+)-(\d+)-of-(\d+)\.(safetensors|bin|pt|pth)")
_INDEX = ".index.json"
#: What ``save_pretrained`` writes beside the weights of a network, and of an adapter for one.
CONFIG, ADAPTER_CONFIG = "config.json", "adapter_config.json"
#: Stands for the network that an adapter changes.
BASE = "base"
#: Written there by the ``Trainer``: epoch and step.
TRAINER_STATE = "trainer_state.json"
_WEIGHTS = {
    CONFIG: (
        "model.safetensors", f"model.safetensors{_INDEX}", "pytorch_model.bin",
        f"pytorch_model.bin{_INDEX}",
    ),
    ADAPTER_CONFIG: ("adapter_model.safetensors", "adapter_model.bin"),
}  # fmt: skip


def weights_in(folder: Path) -> Path | None:
    """The file, or index of files, with the weights of a folder that ``save_pretrained`` wrote.

    None for other folders.
    """
    for config, names in _WEIGHTS.items():
        if (folder / config).is_file():
            for name in names:
                if (folder / name).is_file():
                    return folder / name
    return None


def _base_of(config: RawFile) -> Path:
    """The folder, or ``hf:NAME``, that an adapter names as the network that it changes.

    Raises:
        CheckpointError: it names none, or a folder that holds no network.
    """
    name, revision = (config.fields.get(n) for n in ("base_model_name_or_path", "revision"))
    if not isinstance(name, str) or not name:
        raise CheckpointError(f"{config.path} does not name the base of its adapter")
    for folder in (Path(name).expanduser(), config.path.parent / name):
        if folder.is_dir():
            weights = weights_in(folder)
            if weights is None or weights.name in _WEIGHTS[ADAPTER_CONFIG]:
                raise CheckpointError(f"{folder}, the base of {config.path}, holds no network")
            return folder
    return Path(f"{HUB}{name}@{revision}" if isinstance(revision, str) else f"{HUB}{name}")


def _shards_of(path: Path, content: bytes) -> dict[str, list[str]]:
    """Names of the tensors by the file, beside the index, that holds them.

    Raises:
        CheckpointError: it is no index, or names a file that is not there or not beside it.
    """
    try:
        places: Any = json.loads(content)["weight_map"]
        shards: dict[str, list[str]] = {}
        for name, file in places.items():
            if Path(str(file)).name != file:
                raise ValueError(f"'{file}' is not the name of a file beside it")
            shards.setdefault(file, []).append(name)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{path} is no index of shards, or a damaged one: {error}") from error
    lacking = [file for file in shards if not (path.parent / file).is_file()]
    if lacking or not shards:
        raise CheckpointError(
            f"{path} names {len(shards)} files, of which {', '.join(lacking[:4]) or 'none'} "
            f"{'are' if len(lacking) != 1 else 'is'} not there; the checkpoint is whole with all"
        )
    return shards


@dataclass(frozen=True, eq=False)
class RawFile:
    """A file as bytes; an index of shards, or a folder, with the files that belong to it.

    Attributes:
        path: of the file or folder; ``hf:NAME@COMMIT``; or ``file.py:factory``.
        content: all of it; of a folder that of its weights, of a factory what stands for it.
        shards: the files, and which tensors each is said to hold.
        beside: other files of the folder by their names: its config, and code; and the base of
            an adapter.
        made: the network that a factory made.
        checked: false where it is a zip archive without checksums.
    """

    path: Path
    content: bytes = field(repr=False)
    shards: Mapping[RawFile, list[str]] = field(default_factory=dict)
    beside: Mapping[str, RawFile] = field(default_factory=dict)
    made: nn.Module | None = None
    checked: bool = True

    @classmethod
    def read(cls, path: Path, *, part: bool = False) -> RawFile:
        """Read a file, each of its shards once; or call a factory.

        Args:
            path: of a file; of a folder that ``save_pretrained`` wrote; ``hf:NAME`` or
                ``hf:NAME@REVISION``; or ``file.py:factory``, which is **run**.
            part: it belongs to another file, and is no more than a file.

        Raises:
            CheckpointError: there is none, or it is damaged or too large for the memory.
        """
        if not part and str(path).startswith(HUB):
            folder, name = snapshot(str(path))
            return replace(cls.read(folder), path=Path(name))
        if not part and not path.exists() and names_object(str(path)):
            return cls._made(path)
        if not part and path.is_dir() and (weights := weights_in(path)) is not None:
            beside = cls._beside(path)
            if weights.name in _WEIGHTS[ADAPTER_CONFIG]:
                beside[BASE] = cls.read(_base_of(beside[ADAPTER_CONFIG]))
            return replace(cls.read(weights), path=path, beside=beside)
        _check_readable(path)
        shard = _SHARD.fullmatch(path.name)
        if shard is not None and int(shard[3]) > 1 and not part:
            index = path.with_name(f"{shard[1]}.{shard[4]}{_INDEX}")
            hint = (
                f"give its index {index}" if index.is_file() else f"its index {index} is not there"
            )
            raise CheckpointError(
                f"{path} is part {int(shard[2])} of {int(shard[3])} of a checkpoint: {hint}"
            )
        content = path.read_bytes()
        if path.name.endswith(_INDEX) and not part:
            named = _shards_of(path, content).items()
            shards = {cls.read(path.with_name(file), part=True): names for file, names in named}
            return cls(path, content, shards)
        file = cls(path, content)
        checked = not file.is_zip or integrity.check_zip(path, CheckpointError, file.stream())
        return cls(path, content, checked=checked)

    @classmethod
    def _beside(cls, folder: Path) -> dict[str, RawFile]:
        named = (CONFIG, ADAPTER_CONFIG, TRAINER_STATE)
        files = [folder / name for name in named if (folder / name).is_file()]
        return {p.name: cls.read(p, part=True) for p in (*files, *sorted(folder.glob("*.py")))}

    @classmethod
    def _made(cls, path: Path) -> RawFile:
        """What a factory makes, which has to be the same each time: a digest stands for it."""
        source = resolve_model(str(path))
        model, again = source.make(), source.make()
        digest = digest_of_state(model)
        if digest != digest_of_state(again):
            raise CheckpointError(
                f"{path} gives other weights at each call, so that no result could be repeated: "
                "let it call torch.manual_seed first, or save the weights to a file and give that "
                f"as the checkpoint, with `model={path}`"
            )
        return cls(path, f"{path} {digest} {digest_of(str(path))}".encode(), made=model)

    @cached_property
    def fields(self) -> dict[str, Any]:
        """The content as a JSON object; raises ``CheckpointError`` where it is none."""
        try:
            found = json.loads(self.content)
        except (ValueError, RecursionError) as error:
            raise CheckpointError(f"{self.path} is no JSON, or damaged: {error}") from error
        if not isinstance(found, dict):
            raise CheckpointError(f"{self.path} holds a {type(found).__name__}, not an object")
        return found

    def stream(self) -> io.BytesIO:
        """The content as a file, at its start."""
        return io.BytesIO(self.content)

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the content; of an index or folder that of the digests of all files."""
        own = hashlib.sha256(self.content).hexdigest()
        if not self.shards and not self.beside:
            return own
        beside = [self.beside[name] for name in sorted(self.beside)]
        parts = [*sorted(self.shards, key=lambda shard: shard.path), *beside]
        return hashlib.sha256("".join((own, *(p.sha256 for p in parts))).encode()).hexdigest()

    @property
    def is_zip(self) -> bool:
        """Whether it begins as zip archives do."""
        return self.content.startswith((b"PK\x03\x04", b"PK\x05\x06"))

    @cached_property
    def entries(self) -> tuple[str, ...]:
        """Names in a zip archive; none in other files."""
        if not self.is_zip:
            return ()
        with zipfile.ZipFile(self.stream()) as archive:
            return tuple(archive.namelist())

    @property
    def inner_entries(self) -> tuple[str, ...]:
        """The same without the folder that all are in."""
        return tuple(name.split("/", 1)[-1] for name in self.entries)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Put the path before errors that do not name it."""
    try:
        yield
    except (CheckpointError, NonFiniteError) as error:
        if str(path) in str(error):
            raise
        raise type(error)(f"{path}: {error}") from error


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn whatever damaged or crafted files raise into a ``CheckpointError`` with the path."""
    with naming(path):
        try:
            yield
        except HessscopeError:
            raise
        except MemoryError as error:
            raise CheckpointError("it needs more memory to be read than there is") from error
        except OSError as error:
            raise CheckpointError(f"it cannot be read: {error.strerror or error}") from error
        except Exception as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            raise CheckpointError(
                f"it is damaged or incomplete ({reason}); copy or download it again"
            ) from error


def _check_readable(path: Path) -> None:
    if path.is_dir():
        files = sorted(p.name for p in path.iterdir() if p.is_file())
        shown = f"; it holds {', '.join(files[:5])}" if files else ""
        raise CheckpointError(f"{path} is a folder, not a checkpoint file{shown}")
    if not path.exists():
        names = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        near = difflib.get_close_matches(path.name, names, n=1, cutoff=0.6)
        hint = f" Did you mean '{path.parent / near[0]}'?" if near else ""
        raise CheckpointError(f"no such file: {path}.{hint}")
    integrity.check_file(path, CheckpointError)


# How the text of files begins that are often taken for checkpoints, and what they are.
_PAGE = (
    "a web page saved under the checkpoint's name; download the file itself (on GitHub: 'Download "
    "raw file')"
)
_BEGINNINGS = {
    b"version https://git-lfs": "a Git LFS pointer and not the checkpoint itself; fetch the file "
    "with 'git lfs pull'",
    b"\x1f\x8b": "compressed with gzip; decompress it first (gunzip)",
    b"\x89hdf": "an HDF5 file (of Keras, or a hessscope record), not a PyTorch checkpoint",
    b"\x93numpy": "a NumPy array, not a checkpoint with named weights",
    **dict.fromkeys((b"<!doctype", b"<html", b"<?xml", b"<head"), _PAGE),
}


def foreign(file: RawFile) -> CheckpointError:
    """Say what a file is that no format recognises."""
    head = file.content[:4096].lstrip()
    known = [what for start, what in _BEGINNINGS.items() if head.lower().startswith(start)]
    text = head.decode("utf-8", "replace").rstrip("\ufffd")
    if file.is_zip:
        what = _what_zip(file.entries, file.inner_entries)
    elif known:
        what = known[0]
    elif tarfile.is_tarfile(file.stream()):
        what = "a tar file (of torch before 0.1.10?); save it again with a current torch"
    elif "\ufffd" not in text and all(c.isprintable() or c in "\r\n\t\f" for c in text):
        line = (text.strip() or " ").splitlines()[0]
        shown = line if len(line) <= 40 else line[:39] + "…"
        what = f"a text file (it begins '{shown}'), not a checkpoint"
    else:
        what = "in no known checkpoint format (PyTorch, Lightning, safetensors, TorchScript, .pt2)"
    return CheckpointError(f"{file.path} is {what}")


def _what_zip(names: Sequence[str], inner: Sequence[str]) -> str:
    if any(name.startswith(".data/extern_modules") for name in inner):
        return "a torch.package archive, which carries code; save model.state_dict() from it"
    if "model.json" in inner:
        return "a TorchScript archive of torch 1.0, which today's torch cannot read"
    if names and all(name.endswith(".npy") for name in names):
        return "a NumPy .npz file, not a checkpoint"
    return f"a zip file, but no checkpoint: it holds {', '.join(names[:4]) or 'nothing'}"
