"""Data sets: sources of every kind, their preparation, and the named sets."""

from hessscope.loaders.data.loading import load_data, read_data

__all__ = ["load_data", "read_data"]
