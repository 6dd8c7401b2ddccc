"""Loaders: checkpoints and data sets come in here."""

from hessscope.loaders.checkpoints import (
    Checkpoint,
    load_checkpoint,
    read_checkpoint,
    read_tensors,
)
from hessscope.loaders.data import load_data
from hessscope.loaders.rewriting import write_checkpoint
from hessscope.loaders.shards import content_sha256, weights_in
from hessscope.loaders.sources import load_object
from hessscope.loaders.stored_settings import StoredSetting, read_setting

__all__ = [
    "Checkpoint",
    "StoredSetting",
    "content_sha256",
    "load_checkpoint",
    "load_data",
    "load_object",
    "read_checkpoint",
    "read_setting",
    "read_tensors",
    "weights_in",
    "write_checkpoint",
]
