"""Products for networks whose parameters all belong to fully connected layers.

With the derivatives of ``dense_layers`` kept, a product needs no pass through the network: two
matrix products with the layers' inputs, as wide as there are vectors, and small ones for each
example. In the notation of that module, with q = Σ V ã and p = Vᵀδ for every layer,

    r = S q + Σ_m (∂a_m/∂e)ᵀ p_m,      (H V)_l = Σᵢ r_l ã_lᵀ + δ_l (∂a_l/∂e · q)ᵀ.
"""

from __future__ import annotations

import torch

from hessscope.operators.dense_layers import DenseLayer, LayerDerivatives
from hessscope.operators.products import BlockProduct


def through_layers(layers: tuple[DenseLayer, ...], derivatives: LayerDerivatives) -> BlockProduct:
    """Products with the Hessian of one chunk of examples, from its kept derivatives.

    Args:
        layers: to which all parameters belong, in the order of their calls.
        derivatives: derivatives of the chunk.

    Returns:
        A function of vectors, (k, n) to (k, n).
    """
    jacobians = [None if j is None else j.movedim(0, 1).contiguous() for j in derivatives.jacobians]
    # Features that are zero in every example of the chunk take no part.
    live = [(features != 0).any(0).nonzero()[:, 0] for features in derivatives.features]
    packed = [
        features[:, used] if len(used) < features.shape[1] else features
        for features, used in zip(derivatives.features, live, strict=True)
    ]

    def product(vectors: torch.Tensor) -> torch.Tensor:
        k = len(vectors)
        weights = [_with_bias(vectors, layer) for layer in layers]
        q = torch.cat(
            [
                (features @ w[:, :, used].flatten(0, 1).T).view(-1, k, layer.units)
                for layer, features, used, w in zip(layers, packed, live, weights, strict=True)
            ],
            dim=2,
        )
        r = torch.bmm(q, derivatives.second)
        for layer, w, jacobian in zip(layers, weights, jacobians, strict=True):
            if jacobian is not None:
                later = w[:, :, : layer.inputs].movedim(1, 0).flatten(1)
                p = derivatives.first[:, layer.stacked] @ later
                r += torch.bmm(p.view(-1, k, layer.inputs), jacobian)
        result = torch.empty_like(vectors)
        for layer, features, used, jacobian in zip(layers, packed, live, jacobians, strict=True):
            part = vectors.new_zeros(k, layer.units, layer.features)
            part[:, :, used] = (r[:, :, layer.stacked].flatten(1).T @ features).view(
                k, layer.units, -1
            )
            if jacobian is not None:
                moved = torch.bmm(q, jacobian.mT).flatten(1)
                change = derivatives.first[:, layer.stacked].T @ moved
                part[:, :, : layer.inputs] += change.view(layer.units, k, -1).movedim(0, 1)
            result[:, layer.weight] = part[:, :, : layer.inputs].flatten(1)
            if layer.bias is not None:
                result[:, layer.bias] = part[:, :, -1]
        return result

    return product


def _with_bias(vectors: torch.Tensor, layer: DenseLayer) -> torch.Tensor:
    """The parts of vectors that belong to ã: shape (k, units, features)."""
    weight = vectors[:, layer.weight].view(len(vectors), layer.units, layer.inputs)
    if layer.bias is None:
        return weight
    return torch.cat([weight, vectors[:, layer.bias, None]], 2)
