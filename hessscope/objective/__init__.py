"""The loss over a finite data set as a function of one flat parameter vector."""

from hessscope.objective.functions import FunctionObjective
from hessscope.objective.losses import LOSSES, Loss, get_loss
from hessscope.objective.protocol import Objective, Term
from hessscope.objective.risk import EmpiricalRisk, Evaluation, resolve_device, resolve_dtype

__all__ = [
    "LOSSES",
    "EmpiricalRisk",
    "Evaluation",
    "FunctionObjective",
    "Loss",
    "Objective",
    "Term",
    "get_loss",
    "resolve_device",
    "resolve_dtype",
]
