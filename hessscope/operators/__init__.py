"""Curvature operators: matrices known by their products with vectors."""

from hessscope.operators.derivatives import ObjectiveOperator
from hessscope.operators.hessian import HessianOperator
from hessscope.operators.memory import (
    memory_in_words,
    memory_limit,
    memory_room,
    require_memory,
    room_in_words,
    share_of_memory,
)
from hessscope.operators.plan import Plan, other_batch_size
from hessscope.operators.products import BlockProduct
from hessscope.operators.symmetric import (
    CurvatureOperator,
    MatrixOperator,
    as_operator,
    scipy_operator,
)
from hessscope.operators.through_outputs import (
    EmpiricalFisherOperator,
    FisherOperator,
    GaussNewtonOperator,
    OutputOperator,
)

__all__ = [
    "BlockProduct",
    "CurvatureOperator",
    "EmpiricalFisherOperator",
    "FisherOperator",
    "GaussNewtonOperator",
    "HessianOperator",
    "MatrixOperator",
    "ObjectiveOperator",
    "OutputOperator",
    "Plan",
    "as_operator",
    "memory_in_words",
    "memory_limit",
    "memory_room",
    "other_batch_size",
    "require_memory",
    "room_in_words",
    "scipy_operator",
    "share_of_memory",
]
