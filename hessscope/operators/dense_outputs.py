"""Gauss–Newton and Fisher matrices of fully connected layers, in the terms of ``dense_layers``.

The outputs f depend on a weight only through its layer's pre-activation, ∂f/∂W_l[u,j] =
ã_l[j]·∂f/∂e[u]. With Jₑ = ∂f/∂e of one example and a matrix C on its outputs, the block of JᵀCJ is
therefore that of the Hessian with S = JₑᵀCJₑ and δ = 0: there is no second summand.
"""

from __future__ import annotations

import torch

from hessscope.objective import EmpiricalRisk
from hessscope.operators.dense_layers import (
    DenseLayer,
    LayerDerivatives,
    columns_of,
    features_of,
    injected,
    nothing_added,
)
from hessscope.operators.products import OutputCurvature


def differentiate_outputs(
    risk: EmpiricalRisk,
    theta: torch.Tensor,
    layers: tuple[DenseLayer, ...],
    start: int,
    stop: int,
    curvature: OutputCurvature,
) -> LayerDerivatives:
    """Derivatives of the examples ``start`` to ``stop`` for the matrix JᵀCJ.

    Cost: a backward pass for each output, all examples at once.

    Args:
        risk: the objective.
        theta: θ.
        layers: from ``find_dense_layers``.
        start: first example.
        stop: behind the last one.
        curvature: C.
    """
    added, pieces = nothing_added(theta, stop - start, layers)
    (size, d), term = added.shape, risk.term(start, stop)
    with torch.enable_grad(), injected(risk, pieces) as calls:
        outputs = term.outputs(theta.detach())
        columns = columns_of(outputs.reshape(size, -1), added)
    second = added.new_zeros(size, d, d)
    if columns is not None:
        slopes = columns.permute(2, 1, 0).contiguous()  # units, examples, outputs
        weighed = curvature(term, outputs.detach())(slopes.view(d, *outputs.shape))
        second = torch.bmm(slopes.movedim(0, 1), weighed.reshape(slopes.shape).permute(1, 2, 0))
    features = features_of(layers, calls.by_name())
    jacobians: list[torch.Tensor | None] = [None] * len(layers)
    return LayerDerivatives(features, theta.new_zeros(size, d), second.detach(), jacobians)
