"""Weights in no file: those that a factory gives its network."""

from __future__ import annotations

from hessscope.loaders.checkpoints.formats import Format, Stored
from hessscope.loaders.checkpoints.raw_files import RawFile


class FactoryFormat(Format):
    """The network as ``file.py:factory`` made it."""

    def recognises(self, file: RawFile) -> bool:
        """It has been made."""
        return file.made is not None

    def read(self, file: RawFile) -> Stored:
        """Give the network."""
        return Stored("weights of the factory", file.made, architecture=str(file.path))
