"""Which epoch a checkpoint is of, by what is in the file or by how it is called."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path

_EPOCH = re.compile(r"epochs?[^a-z0-9]{0,2}(\d+)", re.IGNORECASE)
# Alone it is too short to be sought within words and numbers: mobile50, 1e5, e5m2, e0.1.
_SHORT = re.compile(r"(?<![a-z0-9])(?:ep[-_=]?|e[_=]?)(\d+)(?![a-z0-9]|\.\d)", re.IGNORECASE)


def stated_epoch(metadata: Mapping[str, object], path: Path) -> float:
    """The epoch that a checkpoint states by an entry ``epoch`` beside its weights, or by its name.

    Returns:
        The epoch; NaN where neither says one. The place in a list is none.
    """
    said = metadata.get("epoch")
    if isinstance(said, (int, float)) and not isinstance(said, bool) and math.isfinite(said):
        return float(said)
    return named_epoch(path)


def named_epoch(path: Path) -> float:
    """The epoch in a file's name: ``epoch_50.pt``, ``net-ep50.pt``, ``e50.pt``; NaN for others."""
    named = _EPOCH.search(path.stem) or _SHORT.search(path.stem)
    return float(named[1]) if named else math.nan
