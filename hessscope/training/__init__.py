"""Making checkpoints, the way the papers did."""

from hessscope.training.history import Epoch, History, Step
from hessscope.training.initialization import INITIALIZATIONS, initialize
from hessscope.training.loop import STATUSES, TrainingResult, train
from hessscope.training.methods import METHODS, Method
from hessscope.training.noise import NoisySGD, PerturbedGradientDescent
from hessscope.training.options import PRESET_NETWORKS, TRAINING_PRESETS, TrainingOptions
from hessscope.training.states import TrainingState

__all__ = [
    "INITIALIZATIONS",
    "METHODS",
    "PRESET_NETWORKS",
    "STATUSES",
    "TRAINING_PRESETS",
    "Epoch",
    "History",
    "Method",
    "NoisySGD",
    "PerturbedGradientDescent",
    "Step",
    "TrainingOptions",
    "TrainingResult",
    "TrainingState",
    "initialize",
    "train",
]
