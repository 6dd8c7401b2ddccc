"""Curvature operators: matrices known by their products with vectors."""

from hessscope.operators.hessian import HessianOperator
from hessscope.operators.plan import Plan, free_memory, memory_in_words
from hessscope.operators.symmetric import CurvatureOperator, MatrixOperator, as_operator

__all__ = [
    "CurvatureOperator",
    "HessianOperator",
    "MatrixOperator",
    "Plan",
    "as_operator",
    "free_memory",
    "memory_in_words",
]
