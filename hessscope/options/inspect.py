"""Options of ``hessscope inspect`` and ``hs.inspect_checkpoint``."""

from __future__ import annotations

from dataclasses import dataclass

from hessscope.options.setting import OneCheckpoint, Setting


@dataclass(frozen=True)
class InspectOptions(Setting, OneCheckpoint):
    """What ``hessscope inspect`` is asked for."""
