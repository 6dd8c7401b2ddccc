"""Loaders: checkpoints and data sets come in here."""

from hessscope.loaders.checkpoints import Checkpoint as Checkpoint
from hessscope.loaders.checkpoints import CheckpointFile as CheckpointFile
from hessscope.loaders.checkpoints import StoredSetting as StoredSetting
from hessscope.loaders.checkpoints import load_checkpoint as load_checkpoint
from hessscope.loaders.checkpoints import read_setting as read_setting
from hessscope.loaders.checkpoints import weights_in as weights_in
from hessscope.loaders.checkpoints import write_checkpoint as write_checkpoint
from hessscope.loaders.data import load_data as load_data
from hessscope.loaders.data import read_data as read_data
from hessscope.loaders.user_code import load_object as load_object
