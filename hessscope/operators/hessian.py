"""The Hessian of an objective as a linear operator."""

from __future__ import annotations

from typing import ClassVar

import torch

from hessscope.objective import EmpiricalRisk, Term
from hessscope.operators.dense_layers import LayerDerivatives, differentiate
from hessscope.operators.derivatives import ObjectiveOperator
from hessscope.operators.symmetric import BlockProduct, retained


class HessianOperator(ObjectiveOperator):
    """H = ∇²L(θ), as products with vectors; never formed unless asked for.

    Args:
        objective: what is differentiated, such as an ``EmpiricalRisk``; or a model.
        at: θ, shape (n,); default where the model stands. Of a model: its data.
        plan: how products are computed; default by a short timing at the first product.
        memory: bytes that the process may hold; default four fifths of what is free.
        check: whether objective and derivatives are checked before the first product (``check``).
        setting: of a model: ``loss``, ``l2``, ``dtype``, … as ``EmpiricalRisk`` takes them.

    Example:
        >>> model = torch.nn.Linear(4, 3)
        >>> data = torch.randn(20, 4), torch.randint(3, (20,))
        >>> HessianOperator(model, data, loss="cross_entropy").shape
        (15, 15)
    """

    name = "hessian"
    title = "Hessian"
    description = "Hessian: second derivatives of the loss"
    #: Under which it is registered as a way of products.
    way: ClassVar[str] = "exact"

    def prepare(self, term: Term, theta: torch.Tensor) -> BlockProduct:
        """Products with a term's Hessian at θ."""
        return retained(term, theta)

    def differentiate(self, risk: EmpiricalRisk, start: int, stop: int) -> LayerDerivatives:
        """Second derivatives with respect to the layers' outputs."""
        return differentiate(risk, self.at, self.assembly.layers, start, stop)

    def antiderivative(self, at: torch.Tensor) -> torch.Tensor:
        """The gradient."""
        return self.objective.gradient(at)
