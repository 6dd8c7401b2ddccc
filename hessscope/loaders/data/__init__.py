"""Data sets: sources of every kind, their preparation, and the named sets."""

from hessscope.loaders.data.datasets import load_data

__all__ = ["load_data"]
