"""Search for critical points near a start, with a certificate."""

from hessscope.options.refine import SearchOptions
from hessscope.refinement.certificates import Certificate
from hessscope.refinement.finder import refine
from hessscope.refinement.result import CriticalPoint
from hessscope.refinement.states import SearchState
from hessscope.refinement.strategy import Strategy
from hessscope.refinement.trace import Trace, TraceStep

__all__ = [
    "Certificate",
    "CriticalPoint",
    "SearchOptions",
    "SearchState",
    "Strategy",
    "Trace",
    "TraceStep",
    "refine",
]
