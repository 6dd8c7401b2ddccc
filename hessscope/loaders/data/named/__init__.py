"""Named data sets: one file each, registered in ``hessscope.registry.DATASETS``."""

from hessscope.loaders.data.named.base import NamedSet as NamedSet
from hessscope.loaders.data.named.base import load_named as load_named
from hessscope.loaders.data.named.downloads import RemoteFile as RemoteFile
