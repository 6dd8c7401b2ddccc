"""Named data sets: one file each, registered in ``hessscope.registry.DATASETS``."""

from hessscope.loaders.data.named.base import NamedSet, load_named
from hessscope.loaders.data.named.downloads import RemoteFile

__all__ = ["NamedSet", "RemoteFile", "load_named"]
