"""Products for chains of fully connected layers: nothing but elementwise functions in between.

In the notation of ``dense_layers``, with a_{m+1} = φ_m(z_m), the loss a function of the last z, and
a dot for the derivative along V (Pearlmutter 1994, for such layers):

    ż_m = V_m ã_m + W_m ȧ_m,         ȧ_{m+1} = φ'_m ż_m,
    ṙ of the last layer = C ż,       C the matrix with respect to the last z,
    ṙ_m = φ'_m (V_{m+1}ᵀ δ_{m+1} + W_{m+1}ᵀ ṙ_{m+1}) + φ''_m (W_{m+1}ᵀ δ_{m+1}) ż_m,
    (H V)_m = Σᵢ ṙ_m ã_mᵀ + δ_m ȧ_mᵀ.

All that does not depend on V is kept. A product is then two matrix products with each layer's
inputs, as wide as there are vectors, and small ones with its weights. Matrices JᵀCJ that go through
the outputs are the same with δ = 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import pairwise

import torch

from hessscope.objective import EmpiricalRisk
from hessscope.operators.dense_layers import DenseLayer, features_of, injected
from hessscope.operators.symmetric import BlockProduct, Prepare, retained

# A structure is compared with the graph on so many examples; differences in units of eps.
_SAMPLE, _SLACK = 32, 300


@dataclass(frozen=True)
class ChainPart:
    """What a product needs of some examples, B of them, but for the vectors.

    Attributes:
        features: ã of each layer, shape (B, features); without what is zero in every example.
        first: δ of each layer but the first one, shape (B, units); None for JᵀCJ.
        slopes: φ' in front of each layer but the first one, shape (B, inputs).
        bends: φ''·Wᵀδ at the same places; None where it is zero.
        outer: products with C, (B, k, units) to the same for the last layer's units.
    """

    features: list[torch.Tensor]
    first: list[torch.Tensor] | None
    slopes: list[torch.Tensor]
    bends: list[torch.Tensor | None]
    outer: BlockProduct


def is_chain(risk: EmpiricalRisk, theta: torch.Tensor, layers: tuple[DenseLayer, ...]) -> bool:
    """Whether products through a chain are those through the graph.

    Compared at a random point with one random vector. Which functions stand between the layers does
    not depend on θ, so the point is one at which no unit is saturated and no part of the product
    hidden.

    Args:
        risk: the objective.
        theta: θ.
        layers: to which all parameters belong, in the order of their calls.
    """
    if any(layer.units != later.inputs for layer, later in pairwise(layers)):
        return False
    examples = min(_SAMPLE, len(risk))
    stream = torch.Generator().manual_seed(0)
    point, vector = torch.randn(2, len(theta), generator=stream, dtype=theta.dtype).to(theta.device)
    with torch.no_grad(), injected(risk, {layers[0].name: None}) as calls:
        risk.term(0, examples)(theta)
    size = float(torch.linalg.vector_norm(calls[0][1])) / math.sqrt(examples)
    for layer in layers:
        # Pre-activations of the order 1, from inputs of this norm.
        point[layer.weight] /= size
        size = math.sqrt(layer.units)
    try:
        part = differentiate_chain(risk, point, layers, retained, 0, examples)
    except RuntimeError:  # an input of a layer that depends on no other layer, say
        return False
    found = through_chain([part], point, layers)(vector[None])[0]
    expected = retained(risk.term(0, examples), point)(vector[None])[0]
    slack = _SLACK * torch.finfo(theta.dtype).eps
    for place in (place for layer in layers for place in layer.places):
        # Not "at least", which NaN is not either; where all is zero, nothing was compared.
        difference = float((found - expected)[place].abs().max())
        if not difference < slack * float(expected[place].abs().max()):
            return False
    return True


def differentiate_chain(
    risk: EmpiricalRisk,
    theta: torch.Tensor,
    layers: tuple[DenseLayer, ...],
    prepare: Prepare,
    start: int,
    stop: int,
    *,
    whole: bool = True,
) -> ChainPart:
    """What products with the examples ``start`` to ``stop`` need.

    Cost: two forward passes and a backward pass, and passes through the loss alone.

    Args:
        risk: the objective.
        theta: θ.
        layers: a chain, to which all parameters belong.
        prepare: makes the products with C, from the loss as a function of the last z.
        start: first example.
        stop: behind the last one.
        whole: whether δ and φ'' take part, as in the Hessian.
    """
    term, last = risk.term(start, stop), layers[-1]
    added = {
        layer.name: theta.new_zeros(stop - start, layer.units, requires_grad=True)
        for layer in layers
    }
    with torch.enable_grad(), injected(risk, added) as calls:
        value, inputs = term(theta.detach()), dict(calls)
    points = [added[layer.name] for layer in layers]
    _, *first = torch.autograd.grad(value, points, retain_graph=True)
    slopes: list[torch.Tensor] = []
    bends: list[torch.Tensor | None] = []
    for z, later, delta in zip(points, layers[1:], first, strict=False):
        with torch.enable_grad():
            (slope,) = torch.autograd.grad(inputs[later.name].sum(), z, create_graph=True)
        slopes.append(slope.detach())
        bends.append(None)
        if whole and slope.requires_grad:
            (bend,) = torch.autograd.grad(slope.sum(), z, materialize_grads=True)
            if bool(bend.any()):
                bends[-1] = bend * (delta @ later.weights(theta))

    def predict(z: torch.Tensor) -> torch.Tensor:
        with injected(risk, {last.name: z}):
            return term.predict(theta.detach())

    outer = prepare(replace(term, predict=predict), torch.zeros_like(points[-1]))
    return ChainPart(
        features_of(layers, inputs),
        first if whole else None,
        slopes,
        bends,
        _by_example(outer, stop - start, layers, theta),
    )


def _by_example(
    outer: BlockProduct, examples: int, layers: tuple[DenseLayer, ...], theta: torch.Tensor
) -> BlockProduct:
    """Products with C, vectors in the second dimension; it is kept where it is small beside ã."""
    last = layers[-1]
    if last.units**2 > sum(layer.features for layer in layers):
        return lambda z: outer(z.movedim(1, 0)).movedim(0, 1)
    units = torch.eye(last.units, dtype=theta.dtype, device=theta.device)
    columns = outer(units[:, None, :].expand(last.units, examples, last.units))
    matrix = columns.movedim(0, 1).contiguous()
    return lambda z: torch.bmm(z, matrix)


def through_chain(
    parts: list[ChainPart], theta: torch.Tensor, layers: tuple[DenseLayer, ...]
) -> BlockProduct:
    """Products with the matrix of a chain's examples.

    Args:
        parts: of all examples.
        theta: θ.
        layers: of the chain.

    Returns:
        A function of vectors, (k, n) to (k, n).
    """
    weights = [layer.weights(theta) for layer in layers]
    # Features that are zero in every example of every part are left out.
    used = []
    for features in zip(*(part.features for part in parts), strict=True):
        used.append(torch.stack([(one != 0).any(0) for one in features]).any(0).nonzero()[:, 0])
    parts = [
        replace(part, features=[one[:, j] for one, j in zip(part.features, used, strict=True)])
        for part in parts
    ]

    def product(vectors: torch.Tensor) -> torch.Tensor:
        k = len(vectors)
        moved = [_with_bias(vectors, layer) for layer in layers]
        forward = [v[:, :, j].flatten(0, 1).T for v, j in zip(moved, used, strict=True)]
        backward = [
            v[:, :, : layer.inputs].movedim(1, 0).flatten(1)
            for v, layer in zip(moved, layers, strict=True)
        ]
        sums = [vectors.new_zeros(v.T.shape) for v in forward]
        changes = [torch.zeros_like(v) for v in backward]
        for part in parts:
            count = len(part.features[0])
            z = (part.features[0] @ forward[0]).view(count, k, -1)
            tangents = []
            for m, (slope, bend) in enumerate(zip(part.slopes, part.bends, strict=True), 1):
                # Where φ'' takes no part, ż is not needed again.
                a = z.mul_(slope[:, None]) if bend is None else z * slope[:, None]
                tangents.append((z, a))
                z = (part.features[m] @ forward[m]).view(count * k, -1)
                z = z.addmm_(a.view(count * k, -1), weights[m].T).view(count, k, -1)
            r = part.outer(z)
            for m in reversed(range(len(layers))):
                sums[m].addmm_(r.reshape(count, -1).T, part.features[m])
                if m == 0:
                    break
                z, a = tangents[m - 1]
                r = r.reshape(count * k, -1)
                if part.first is None:
                    r = r @ weights[m]
                else:
                    delta = part.first[m - 1]
                    changes[m].addmm_(delta.T, a.view(count, -1))
                    r = (delta @ backward[m]).view(count * k, -1).addmm_(r, weights[m])
                r = r.view(count, k, -1).mul_(part.slopes[m - 1][:, None])
                if (bend := part.bends[m - 1]) is not None:
                    r.addcmul_(bend[:, None], z)
        result = torch.empty_like(vectors)
        for layer, total, change, j in zip(layers, sums, changes, used, strict=True):
            place = vectors.new_zeros(k, layer.units, layer.features)
            place[:, :, j] = total.view(k, layer.units, -1)
            place[:, :, : layer.inputs] += change.view(layer.units, k, -1).movedim(0, 1)
            result[:, layer.weight] = place[:, :, : layer.inputs].flatten(1)
            if layer.bias is not None:
                result[:, layer.bias] = place[:, :, -1]
        return result

    return product


def _with_bias(vectors: torch.Tensor, layer: DenseLayer) -> torch.Tensor:
    """The parts of vectors that belong to ã: shape (k, units, features)."""
    weight = layer.weights(vectors)
    return weight if layer.bias is None else torch.cat([weight, vectors[:, layer.bias, None]], 2)
