"""Loaders: checkpoints and data sets come in here."""

from hessscope.loaders.checkpoints import (
    Checkpoint,
    StoredSetting,
    content_sha256,
    load_checkpoint,
    read_checkpoint,
    read_setting,
    read_tensors,
    weights_in,
    write_checkpoint,
)
from hessscope.loaders.data import load_data
from hessscope.loaders.user_code import load_object

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
