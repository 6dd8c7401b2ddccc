"""Loaders: checkpoints and data sets come in here."""

from hessscope.loaders.checkpoints import Checkpoint, load_checkpoint, read_checkpoint
from hessscope.loaders.datasets import Dataset, load_data
from hessscope.loaders.rewriting import write_checkpoint
from hessscope.loaders.sources import load_object

__all__ = [
    "Checkpoint",
    "Dataset",
    "load_checkpoint",
    "load_data",
    "load_object",
    "read_checkpoint",
    "write_checkpoint",
]
