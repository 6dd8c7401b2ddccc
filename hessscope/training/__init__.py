"""Making checkpoints."""

from hessscope.training.descent import train

__all__ = ["train"]
