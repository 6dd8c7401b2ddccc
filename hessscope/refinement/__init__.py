"""Search for critical points near a start, with a certificate."""

from hessscope.options.refine import SearchOptions
from hessscope.refinement.certificates import Certificate
from hessscope.refinement.directions import Direction, SingleStep
from hessscope.refinement.finder import refine
from hessscope.refinement.points import Point
from hessscope.refinement.result import CriticalPoint
from hessscope.refinement.states import SearchState
from hessscope.refinement.steps import Step
from hessscope.refinement.strategy import Strategy
from hessscope.refinement.trace import Trace, TraceStep

__all__ = [
    "Certificate",
    "CriticalPoint",
    "Direction",
    "Point",
    "SearchOptions",
    "SearchState",
    "SingleStep",
    "Step",
    "Strategy",
    "Trace",
    "TraceStep",
    "refine",
]
