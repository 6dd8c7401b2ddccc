"""Data sets: sources of every kind, their preparation, and the named sets."""

from hessscope.loaders.data.loading import load_data as load_data
from hessscope.loaders.data.loading import read_data as read_data
from hessscope.loaders.data.named import NamedSet as NamedSet
