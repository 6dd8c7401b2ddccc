"""Load trained networks from files of many formats."""

from hessscope.loaders.checkpoints.checkpoint import Checkpoint as Checkpoint
from hessscope.loaders.checkpoints.checkpoint import StoredSetting as StoredSetting
from hessscope.loaders.checkpoints.contents import write_checkpoint as write_checkpoint
from hessscope.loaders.checkpoints.file import CheckpointFile as CheckpointFile
from hessscope.loaders.checkpoints.file import load_checkpoint as load_checkpoint
from hessscope.loaders.checkpoints.file import read_setting as read_setting
from hessscope.loaders.checkpoints.formats import Format as Format
from hessscope.loaders.checkpoints.formats import Stored as Stored
from hessscope.loaders.checkpoints.raw_files import RawFile as RawFile
from hessscope.loaders.checkpoints.raw_files import weights_in as weights_in
