"""Names of shards, their index, and folders in Hugging Face's layout."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from hessscope.errors import CheckpointError

_SHARD = re.compile(r"(.+)-(\d+)-of-(\d+)\.(safetensors|bin|pt|pth)")
_INDEX = ".index.json"
_WEIGHTS = (
    "model.safetensors", f"model.safetensors{_INDEX}", "pytorch_model.bin",
    f"pytorch_model.bin{_INDEX}",
)  # fmt: skip


def weights_in(folder: Path) -> Path | None:
    """The file, or index of files, with the weights of a folder that ``save_pretrained`` wrote.

    None for other folders.
    """
    if not (folder / "config.json").is_file():
        return None
    return next((folder / name for name in _WEIGHTS if (folder / name).is_file()), None)


def is_index(path: Path) -> bool:
    """Whether the name is that of an index of shards."""
    return path.name.endswith(_INDEX)


def check_whole(path: Path) -> None:
    """Refuse one shard of several; raises ``CheckpointError``, naming the index."""
    match = _SHARD.fullmatch(path.name)
    if match is not None and int(match[3]) > 1:
        index = path.with_name(f"{match[1]}.{match[4]}{_INDEX}")
        there = f"give its index {index}" if index.is_file() else f"its index {index} is not there"
        raise CheckpointError(
            f"{path} is part {int(match[2])} of {int(match[3])} of a checkpoint: {there}"
        )


def shards_of(path: Path, content: bytes) -> dict[str, list[str]]:
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
