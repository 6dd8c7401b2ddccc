"""Training networks and keeping their checkpoints."""

from hessscope.options.train import TrainingOptions
from hessscope.training.history import Epoch, History, Step
from hessscope.training.initialization import initialize
from hessscope.training.loop import STATUSES, TrainingResult, train
from hessscope.training.optimizers import Optimizer
from hessscope.training.perturbations import NoisySGD, PerturbedGradientDescent
from hessscope.training.states import TrainingState

__all__ = [
    "STATUSES",
    "Epoch",
    "History",
    "NoisySGD",
    "Optimizer",
    "PerturbedGradientDescent",
    "Step",
    "TrainingOptions",
    "TrainingResult",
    "TrainingState",
    "initialize",
    "train",
]
