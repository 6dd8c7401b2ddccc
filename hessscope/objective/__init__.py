"""The loss over a finite data set as a function of one flat parameter vector."""

from hessscope.objective.data import Dataset
from hessscope.objective.functions import FunctionObjective
from hessscope.objective.likelihoods import expected_curvature, require_likelihood
from hessscope.objective.losses import LOSSES, Loss, get_loss
from hessscope.objective.protocol import Objective
from hessscope.objective.risk import EmpiricalRisk, Evaluation, resolve_device, resolve_dtype
from hessscope.objective.sections import LossSection, section_along, section_between
from hessscope.objective.terms import BatchTerm, Term

__all__ = [
    "LOSSES",
    "BatchTerm",
    "Dataset",
    "EmpiricalRisk",
    "Evaluation",
    "FunctionObjective",
    "Loss",
    "LossSection",
    "Objective",
    "Term",
    "expected_curvature",
    "get_loss",
    "require_likelihood",
    "resolve_device",
    "resolve_dtype",
    "section_along",
    "section_between",
]
