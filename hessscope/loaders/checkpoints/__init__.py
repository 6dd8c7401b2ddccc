"""Load trained networks from files of many formats."""

from hessscope.loaders.checkpoints.checkpoint import Checkpoint
from hessscope.loaders.checkpoints.file import CheckpointFile, load_checkpoint, read_setting
from hessscope.loaders.checkpoints.formats import Format, Stored
from hessscope.loaders.checkpoints.raw_files import RawFile
from hessscope.loaders.checkpoints.rewriting import write_checkpoint
from hessscope.loaders.checkpoints.settings import StoredSetting
from hessscope.loaders.checkpoints.shards import weights_in

__all__ = [
    "Checkpoint",
    "CheckpointFile",
    "Format",
    "RawFile",
    "Stored",
    "StoredSetting",
    "load_checkpoint",
    "read_setting",
    "weights_in",
    "write_checkpoint",
]
