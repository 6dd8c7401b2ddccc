"""Training networks and keeping their checkpoints."""

from hessscope.options.train import TrainingOptions as TrainingOptions
from hessscope.training.files import TrainingState as TrainingState
from hessscope.training.files import initialize as initialize
from hessscope.training.first_order import NoisySGD as NoisySGD
from hessscope.training.first_order import PerturbedGradientDescent as PerturbedGradientDescent
from hessscope.training.history import History as History
from hessscope.training.loop import STATUSES as STATUSES
from hessscope.training.loop import TrainingResult as TrainingResult
from hessscope.training.loop import train as train
from hessscope.training.optimizers import Optimizer as Optimizer
