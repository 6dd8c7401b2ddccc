"""From a checkpoint to the critical point nearby, with evidence that it is one."""

from hessscope.refinement.certificates import Certificate
from hessscope.refinement.finder import refine
from hessscope.refinement.methods import METHODS
from hessscope.refinement.options import RefinementOptions
from hessscope.refinement.result import CriticalPoint
from hessscope.refinement.states import SearchState
from hessscope.refinement.trace import Trace, TraceStep

__all__ = [
    "METHODS",
    "Certificate",
    "CriticalPoint",
    "RefinementOptions",
    "SearchState",
    "Trace",
    "TraceStep",
    "refine",
]
