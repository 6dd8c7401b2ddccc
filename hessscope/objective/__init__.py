"""The loss over a finite data set as a function of one flat parameter vector."""

from hessscope.objective.data import Dataset as Dataset
from hessscope.objective.functions import FunctionObjective as FunctionObjective
from hessscope.objective.losses import get_loss as get_loss
from hessscope.objective.parts import Partition as Partition
from hessscope.objective.risk import EmpiricalRisk as EmpiricalRisk
from hessscope.objective.risk import Evaluation as Evaluation
from hessscope.objective.risk import resolve_device as resolve_device
from hessscope.objective.risk import resolve_dtype as resolve_dtype
from hessscope.objective.sections import LossSection as LossSection
from hessscope.objective.sections import section_along as section_along
from hessscope.objective.sections import section_between as section_between
from hessscope.objective.terms import BatchTerm as BatchTerm
from hessscope.objective.terms import Objective as Objective
from hessscope.objective.terms import Term as Term
from hessscope.objective.terms import expected_curvature as expected_curvature
from hessscope.objective.terms import require_likelihood as require_likelihood
