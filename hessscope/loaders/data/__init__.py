"""Data sets: sources of every kind, their preparation, and the named sets."""

from hessscope.loaders.data.loading import load_data, read_data
from hessscope.loaders.data.named import NamedSet, RemoteFile

__all__ = ["NamedSet", "RemoteFile", "load_data", "read_data"]
