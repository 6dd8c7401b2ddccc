"""Trained networks from files of many formats."""

from hessscope.loaders.checkpoints.checkpoint import (
    Checkpoint,
    load_checkpoint,
    read_checkpoint,
    read_tensors,
)
from hessscope.loaders.checkpoints.rewriting import write_checkpoint
from hessscope.loaders.checkpoints.settings import StoredSetting, read_setting
from hessscope.loaders.checkpoints.shards import content_sha256, weights_in

__all__ = [
    "Checkpoint",
    "StoredSetting",
    "content_sha256",
    "load_checkpoint",
    "read_checkpoint",
    "read_setting",
    "read_tensors",
    "weights_in",
    "write_checkpoint",
]
