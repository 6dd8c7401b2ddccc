"""Curvature operators: matrices known by their products with vectors."""

from hessscope.operators.hessian import HessianOperator
from hessscope.operators.memory import memory_in_words, memory_room, room_in_words
from hessscope.operators.plan import Plan
from hessscope.operators.symmetric import CurvatureOperator, MatrixOperator, as_operator

__all__ = [
    "CurvatureOperator",
    "HessianOperator",
    "MatrixOperator",
    "Plan",
    "as_operator",
    "memory_in_words",
    "memory_room",
    "room_in_words",
]
