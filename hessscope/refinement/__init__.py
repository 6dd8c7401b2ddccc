"""Search for critical points near a start, with a certificate."""

from hessscope.options.refine import SearchOptions as SearchOptions
from hessscope.refinement.certificates import Certificate as Certificate
from hessscope.refinement.directions import Direction as Direction
from hessscope.refinement.directions import SingleStep as SingleStep
from hessscope.refinement.finder import refine as refine
from hessscope.refinement.points import Point as Point
from hessscope.refinement.points import Trace as Trace
from hessscope.refinement.points import TraceStep as TraceStep
from hessscope.refinement.result import CriticalPoint as CriticalPoint
from hessscope.refinement.states import SearchState as SearchState
from hessscope.refinement.states import Step as Step
from hessscope.refinement.strategy import Strategy as Strategy
