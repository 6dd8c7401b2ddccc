"""Loaders: checkpoints and data sets come in here."""

from hessscope.loaders.checkpoints import (
    Checkpoint,
    CheckpointFile,
    StoredSetting,
    load_checkpoint,
    read_setting,
    weights_in,
    write_checkpoint,
)
from hessscope.loaders.data import load_data, read_data
from hessscope.loaders.user_code import load_object

__all__ = [
    "Checkpoint",
    "CheckpointFile",
    "StoredSetting",
    "load_checkpoint",
    "load_data",
    "load_object",
    "read_data",
    "read_setting",
    "weights_in",
    "write_checkpoint",
]
