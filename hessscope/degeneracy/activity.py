"""Which units are active on which examples, and which inputs they meet there.

A unit counts as active on an example if a change of its pre-activation changes anything there: its
row of ∂²ℓ/∂e∂e, or an input of a later layer. For ReLU that is z > 0; smooth units always are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from hessscope.operators import HessianOperator
from hessscope.operators.dense_layers import DenseLayer, LayerDerivatives, injected
from hessscope.progress import Progress


@dataclass(frozen=True)
class LayerActivity:
    """What a fully connected layer sees of the data.

    Attributes:
        layer: where it stands.
        active: shape (N, units).
        met: shape (units, features): there is an example on which the unit is active and the
            feature is not zero.
        alive: shape (features,): the feature is not zero throughout.
        first: its inputs depend on no parameter.
    """

    layer: DenseLayer
    active: torch.Tensor
    met: np.ndarray
    alive: np.ndarray
    first: bool

    @property
    def places(self) -> np.ndarray:
        """Where each weight and bias stands in θ, shape (units, features)."""
        layer = self.layer
        weights = np.arange(layer.weight.start, layer.weight.stop).reshape(layer.units, -1)
        if layer.bias is None:
            return weights
        return np.hstack([weights, np.arange(layer.bias.start, layer.bias.stop)[:, None]])


def layer_derivatives(
    hessian: HessianOperator, stage: str, progress: Progress
) -> Iterator[tuple[int, int, LayerDerivatives]]:
    """Derivatives of one chunk of examples after the other, with where the chunk stands."""
    risk, assembly = hessian.objective.network, hessian.assembly
    if risk is None or not assembly.layers:
        return
    progress(stage, 0, len(risk))
    for start in range(0, len(risk), assembly.chunk):
        stop = min(start + assembly.chunk, len(risk))
        yield start, stop, hessian.derivatives(start, stop)
        progress(stage, stop, len(risk))


def _inputs_depend(hessian: HessianOperator) -> list[bool]:
    """Whether the inputs of each fully connected layer depend on parameters of any module."""
    risk, names = hessian.objective.network, [layer.name for layer in hessian.assembly.layers]
    if risk is None or not names:
        return []
    with risk.kernels(), torch.enable_grad(), injected(risk, dict.fromkeys(names)) as calls:
        risk.term(0, 1)(hessian.at.detach().clone().requires_grad_(True))
    return [calls.by_name()[name].requires_grad for name in names]


def layer_activities(hessian: HessianOperator, progress: Progress) -> list[LayerActivity]:
    """Go once through the data; costs as much as the derivatives of the assembly."""
    layers = hessian.assembly.layers
    active: list[list[torch.Tensor]] = [[] for _ in layers]
    met = [torch.zeros(layer.units, layer.features) for layer in layers]
    alive = [torch.zeros(layer.features, dtype=torch.bool) for layer in layers]
    first = [not moved for moved in _inputs_depend(hessian)]
    for _, _, derivatives in layer_derivatives(hessian, "activity of units", progress):
        coupled = (derivatives.second != 0).any(2)
        for jacobian in derivatives.jacobians:
            if jacobian is not None:
                coupled |= (jacobian != 0).any(0)
        for i, layer in enumerate(layers):
            there = derivatives.features[i] != 0
            now = coupled[:, layer.stacked]
            # Sums of ones in float32 stay above zero, which is all that is asked of them.
            met[i] += (now.T.float() @ there.float()).cpu()
            alive[i] |= there.any(0).cpu()
            active[i].append(now.cpu())
    return [
        LayerActivity(layer, torch.cat(a), (m > 0).numpy(), v.numpy(), f)
        for layer, a, m, v, f in zip(layers, active, met, alive, first, strict=True)
    ]
