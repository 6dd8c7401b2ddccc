"""Curvature operators: matrices known by their products with vectors."""

from hessscope.operators.derivatives import ObjectiveOperator as ObjectiveOperator
from hessscope.operators.finite_differences import Differences as Differences
from hessscope.operators.finite_differences import (
    FiniteDifferenceHessian as FiniteDifferenceHessian,
)
from hessscope.operators.hessian import HessianOperator as HessianOperator
from hessscope.operators.plan import Plan as Plan
from hessscope.operators.plan import memory_in_words as memory_in_words
from hessscope.operators.plan import memory_limit as memory_limit
from hessscope.operators.plan import memory_room as memory_room
from hessscope.operators.plan import other_batch_size as other_batch_size
from hessscope.operators.plan import require_memory as require_memory
from hessscope.operators.plan import room_in_words as room_in_words
from hessscope.operators.symmetric import BlockProduct as BlockProduct
from hessscope.operators.symmetric import CurvatureOperator as CurvatureOperator
from hessscope.operators.symmetric import MatrixOperator as MatrixOperator
from hessscope.operators.symmetric import as_operator as as_operator
from hessscope.operators.symmetric import scipy_operator as scipy_operator
from hessscope.operators.through_outputs import EmpiricalFisherOperator as EmpiricalFisherOperator
from hessscope.operators.through_outputs import FisherOperator as FisherOperator
from hessscope.operators.through_outputs import GaussNewtonOperator as GaussNewtonOperator
from hessscope.operators.through_outputs import OutputOperator as OutputOperator
