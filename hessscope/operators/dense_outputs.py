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
    size, d = stop - start, sum(layer.units for layer in layers)
    added = torch.zeros(size, d, dtype=theta.dtype, device=theta.device, requires_grad=True)
    pieces = {layer.name: added[:, layer.stacked] for layer in layers}
    term = risk.term(start, stop)
    with torch.enable_grad(), injected(risk, dict(pieces)) as calls:
        outputs = term.outputs(theta.detach())
        columns = columns_of(outputs.reshape(size, -1), added)
    second = added.new_zeros(size, d, d)
    if columns is not None:
        slopes = columns.permute(2, 1, 0).contiguous()  # units, examples, outputs
        weighed = curvature(term, outputs.detach())(slopes.view(d, *outputs.shape))
        second = torch.bmm(slopes.movedim(0, 1), weighed.reshape(slopes.shape).permute(1, 2, 0))
    first = torch.zeros(size, d, dtype=theta.dtype, device=theta.device)
    return LayerDerivatives(
        features_of(layers, calls.by_name()), first, second.detach(), [None] * len(layers)
    )
