"""The loss over a finite data set as a function of one flat parameter vector."""

from hessscope.objective.losses import LOSSES, Loss, get_loss
from hessscope.objective.protocol import Objective, Term
from hessscope.objective.risk import EmpiricalRisk, Evaluation, resolve_device, resolve_dtype
from hessscope.objective.sections import LossSection, section_along, section_between

__all__ = [
    "LOSSES",
    "EmpiricalRisk",
    "Evaluation",
    "Loss",
    "LossSection",
    "Objective",
    "Term",
    "get_loss",
    "resolve_device",
    "resolve_dtype",
    "section_along",
    "section_between",
]
