"""Checkpoints in folders and behind patterns, in the order of training."""

from __future__ import annotations

import glob
import math
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from hessscope.errors import CheckpointError, OptionError
from hessscope.loaders import weights_in

_SUFFIXES = (".pt", ".pth", ".th", ".ckpt", ".pkl", ".safetensors", ".pt2")
_EPOCH = re.compile(r"epochs?[^a-z0-9]{0,2}(\d+)", re.IGNORECASE)
# Alone it is too short to be sought within words and numbers: mobile50, 1e5, e5m2, e0.1.
_SHORT = re.compile(r"(?<![a-z0-9])(?:ep[-_=]?|e[_=]?)(\d+)(?![a-z0-9]|\.\d)", re.IGNORECASE)


def find_checkpoints(given: Any) -> tuple[Path, ...]:
    """Files, the checkpoints in folders, and what patterns stand for; by folder and number.

    In a folder without checkpoints those of its subfolders are meant.

    Args:
        given: one path, folder or pattern, or several.

    Raises:
        CheckpointError: a folder or a pattern has no checkpoints.
    """
    found: dict[Path, None] = {}
    paths = [given] if isinstance(given, (str, os.PathLike, torch.nn.Module)) else given
    for path in paths:
        if isinstance(path, torch.nn.Module):
            raise OptionError("a series is of files; for a model in memory take hs.spectrum")
        found.update(dict.fromkeys(sorted(_files_of(Path(path)), key=_natural)))
    return tuple(found)


def _files_of(path: Path) -> list[Path]:
    if path.is_dir() and weights_in(path) is None:
        # A folder of trials has its checkpoints one level further down.
        files = _checkpoints_of(path.iterdir()) or _checkpoints_of(path.glob("*/*"))
        if not files:
            raise CheckpointError(
                f"{path} is a folder without checkpoints in it ({', '.join(_SUFFIXES)})"
            )
        return files
    if not path.exists() and glob.has_magic(str(path)):
        files = [Path(p) for p in glob.glob(str(path), recursive=True)]  # noqa: PTH207
        if not files:
            raise CheckpointError(f"no file matches {path}")
        return files
    return [path]  # a folder with weights is one checkpoint in several files


def _checkpoints_of(paths: Iterable[Path]) -> list[Path]:
    return [
        p
        for p in paths
        if (p.suffix.lower() in _SUFFIXES and p.is_file()) or (p.is_dir() and weights_in(p))
    ]


def _natural(path: Path) -> tuple[Any, ...]:
    parts = re.split(r"(\d+)", str(path))
    return tuple((1, int(part), "") if part.isdigit() else (0, 0, part) for part in parts)


def stated_epoch(metadata: Mapping[str, object], path: Path) -> float:
    """The epoch that a checkpoint states by an entry ``epoch`` beside its weights, or by its name.

    Returns:
        The epoch; NaN where neither states one. The place in a list is none.
    """
    stated = metadata.get("epoch")
    if isinstance(stated, (int, float)) and not isinstance(stated, bool) and math.isfinite(stated):
        return float(stated)
    return named_epoch(path)


def named_epoch(path: Path) -> float:
    """The epoch in a file's name: ``epoch_50.pt``, ``net-ep50.pt``, ``e50.pt``; NaN for others."""
    named = _EPOCH.search(path.stem) or _SHORT.search(path.stem)
    return float(named[1]) if named else math.nan
