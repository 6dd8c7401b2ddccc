"""The dense Hessian by structure where it has one, and by products for the rest.

One function decides: ``plan_assembly``. Blocks between fully connected layers come from the
second derivatives with respect to their outputs (``dense_layers``) and matrix products over the
examples; all other columns are Hessian-vector products with unit vectors.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
import torch

from hessscope.objective import Objective
from hessscope.operators.dense_layers import (
    DenseLayer,
    LayerDerivatives,
    find_dense_layers,
)
from hessscope.operators.dense_products import is_chain
from hessscope.progress import Progress

CHUNK_BYTES = 400e6
# For a chunk in products. By processor time 8 MB to 200 MB are equally good; where processors are
# busy, each step of each chunk waits for all threads. Fewer than 512 examples never pay.
WORKING_BYTES = 128e6
_SHORTEST = 512
# Rows of the data are picked out for an input only if that leaves out at least this share.
_WORTH_PICKING = 0.3


@dataclass(frozen=True)
class Assembly:
    """How the dense matrix is put together.

    Attributes:
        layers: fully connected layers whose mutual blocks come from their structure.
        structured: which parameters belong to these layers, shape (n,); rows and columns of the
            others come from products.
        chunk: examples at a time in the structured part.
        examples: number of all examples; 0 where nothing is known of a data set.
        chain: all parameters belong to the layers, and nothing but elementwise functions stands
            between these (``dense_products``).
    """

    layers: tuple[DenseLayer, ...]
    structured: torch.Tensor
    chunk: int
    examples: int
    chain: bool

    @property
    def others(self) -> torch.Tensor:
        """Numbers of the parameters without structure, shape (count,); 8 bytes for each."""
        return (~self.structured).nonzero()[:, 0]

    @property
    def product_vectors(self) -> int:
        """Vectors at a time in products by structure: no more than makes matrix products fast."""
        return min(32, max(1, 1024 // max(layer.units for layer in self.layers)))

    def product_bytes(self, theta: torch.Tensor, vectors: int = 0) -> int:
        """Memory for one example in products by structure: kept, or at work for some vectors."""
        features, units = (
            sum(getattr(layer, of) for layer in self.layers) for of in ("features", "units")
        )
        if vectors:
            return theta.element_size() * (features + 3 * units * vectors)
        # Twice: once while it is put together.
        return 2 * theta.element_size() * (2 * features + 4 * units)

    def product_chunk(self, theta: torch.Tensor, vectors: int) -> int:
        """Examples at a time in products by structure; on a GPU as many as in the assembly."""
        amount = WORKING_BYTES if theta.device.type == "cpu" else CHUNK_BYTES
        most = max(_SHORTEST, int(amount / self.product_bytes(theta, vectors)))
        return min(most, self.examples)

    @property
    def flops(self) -> float:
        """Floating-point operations of the structured part, nothing taken off for zeros."""
        total = 0.0
        for i, layer in enumerate(self.layers):
            pairs = layer.units * (layer.units + 1) / 2
            total += pairs * layer.features**2
            for later in self.layers[i + 1 :]:
                total += 2.0 * layer.features * layer.units * later.units * later.features
        return total * self.examples


def plan_assembly(
    objective: Objective, theta: torch.Tensor, outputs: int | None = None
) -> Assembly:
    """Decide which parameters' blocks come from structure, and which from products.

    Args:
        objective: the mean loss of a network for there to be any structure.
        theta: θ.
        outputs: numbers that the model gives for an example, where the derivatives go through
            these (``dense_outputs``) and not from layer to layer (``dense_layers``).
    """
    network = objective.network
    with objective.kernels():
        narrow = objective.arithmetic != objective.dtype  # only torch knows where
        layers = () if network is None or narrow else find_dense_layers(network, theta)
    structured = torch.zeros(theta.numel(), dtype=torch.bool)
    for place in (place for layer in layers for place in layer.places):
        structured[place] = True
    d = sum(layer.units for layer in layers)
    jacobians = sum(layer.inputs for layer in layers[1:]) if outputs is None else outputs
    features = sum(layer.features for layer in layers)
    # Memory that the derivatives of one example take.
    bytes_each = theta.element_size() * (3 * d * d + 2 * d * jacobians + 3 * features + 1)
    chunk = max(1, int(CHUNK_BYTES / bytes_each))
    all_belong = bool(layers) and bool(structured.all())
    with objective.kernels():
        chain = network is not None and all_belong and is_chain(network, theta, layers)
    return Assembly(layers, structured, chunk, 0 if network is None else len(network), chain)


def state_of(result: torch.Tensor, done: int, work: Work) -> dict[str, np.ndarray]:
    """The matrix as far as it is, and after how many steps."""
    return {
        "matrix": result.cpu().numpy(),
        "done": np.array(done),
        "work": np.array(work.finished),
    }


class Work:
    """Adds up what is done and tells a progress report."""

    def __init__(self, progress: Progress, total: int) -> None:
        self._progress, self._total, self.finished = progress, total, 0
        progress("assembly", 0, total)

    def done(self, amount: int) -> None:
        """Note a further amount."""
        self.finished += amount
        self._progress("assembly", self.finished, self._total)


def accumulate(
    result: torch.Tensor, layers: tuple[DenseLayer, ...], derivatives: LayerDerivatives, work: Work
) -> None:
    """Add some examples to the blocks on one side of the diagonal."""
    for i, layer in enumerate(layers):
        _within(result, layer, derivatives.features[i], derivatives.second, work)
        for k in range(i + 1, len(layers)):
            _between(result, layers, i, k, derivatives)


def _within(
    result: torch.Tensor,
    layer: DenseLayer,
    features: torch.Tensor,
    second: torch.Tensor,
    work: Work,
) -> None:
    """Blocks of one layer: for units u ≤ v and pairs of features, Σᵢ S[u,v] ã[j] ã[k].

    For each feature j only the examples in which it is not zero take part. Features are taken
    from the sparsest on, so that a pair costs what its sparser one has, and features that are zero
    throughout are left out. Of (j, k) and (k, j) only the one met first is written.
    """
    units = layer.units
    u, v = torch.triu_indices(units, units, device=features.device)
    weights = second[:, layer.first + u, layer.first + v]
    # Features that are not zero throughout, the sparsest first and the bias last.
    counts = (features != 0).sum(0)
    if layer.bias is not None:
        counts[-1] = len(features) + 1
    order = counts.argsort(stable=True)
    order = order[counts[order] > 0]
    packed = features[:, order]
    parts = features.new_zeros(units, units, layer.features)
    buffers = (packed.new_empty(weights.numel()), packed.new_empty(packed.numel()))
    for position, j in enumerate(order.tolist()):
        rows = packed[:, position].nonzero()[:, 0]
        block = _weighted_products(weights, packed[:, position:], rows, buffers)
        # Within this row the features already passed have their pairs elsewhere.
        parts[:, :, order[:position]] = 0
        parts[u[:, None], v[:, None], order[position:]] = block
        if j == layer.inputs and layer.bias is not None:
            target = result[layer.bias]
        else:
            target = result[layer.weight.start + j : layer.weight.stop : layer.inputs]
        target[:, layer.weight].view(units, units, layer.inputs).add_(parts[:, :, : layer.inputs])
        if layer.bias is not None:
            target[:, layer.bias] += parts[:, :, -1]
        work.done(len(features))
    work.done(len(features) * (layer.features - len(order)))


def _weighted_products(
    weights: torch.Tensor,
    packed: torch.Tensor,
    rows: torch.Tensor,
    buffers: tuple[torch.Tensor, torch.Tensor],
) -> torch.Tensor:
    """Σᵢ weights[i, p] packed[i, 0] packed[i, k] over the rows: shape (pairs, features).

    The buffers are there since fresh memory for every feature costs more than the arithmetic.
    """
    left = buffers[0][: len(rows) * weights.shape[1]].view(len(rows), -1)
    if len(rows) > (1 - _WORTH_PICKING) * len(weights):
        left = buffers[0].view(weights.shape)
        torch.mul(weights, packed[:, :1], out=left)
        return left.T @ packed
    right = buffers[1][: len(rows) * packed.shape[1]].view(len(rows), -1)
    torch.index_select(packed, 0, rows, out=right)
    torch.index_select(weights, 0, rows, out=left)
    left.mul_(right[:, :1])
    return left.T @ right


def _between(
    result: torch.Tensor,
    layers: tuple[DenseLayer, ...],
    i: int,
    k: int,
    derivatives: LayerDerivatives,
) -> None:
    """Blocks of a layer and one called later: Σᵢ ã_l[j] (S[u,v] ã_m[k] + δ[v] ∂a_m[k]/∂e[u])."""
    layer, later, forward = layers[i], layers[k], derivatives.jacobians[k]
    left, right = derivatives.features[i], derivatives.features[k]
    for u in range(layer.units):
        cross = derivatives.second[:, layer.first + u, later.stacked]
        inner = cross[:, :, None] * right[:, None, :]
        if forward is not None:
            slope = forward[:, :, layer.first + u].T
            inner[:, :, : later.inputs] += (
                derivatives.first[:, later.stacked, None] * slope[:, None, :]
            )
        block = (left.T @ inner.flatten(1)).view(layer.features, later.units, later.features)
        offset = layer.weight.start + u * layer.inputs
        targets = [result[offset : offset + layer.inputs]]
        if layer.bias is not None:
            targets.append(result[layer.bias.start + u, None])
        for target, part in zip(targets, block.split(layer.inputs), strict=True):
            target[:, later.weight] += part[:, :, : later.inputs].flatten(1)
            if later.bias is not None:
                target[:, later.bias] += part[:, :, -1]


def mirror(result: torch.Tensor, layers: tuple[DenseLayer, ...]) -> None:
    """Complete what ``accumulate`` left out by symmetry."""
    for i, layer in enumerate(layers):
        for u in range(layer.units):
            for v in range(u, layer.units):
                _mirror_units(result, layer, u, v)
        for later in layers[i + 1 :]:
            for a, b in product(layer.places, later.places):
                result[b, a] = result[a, b].T


def _mirror_units(result: torch.Tensor, layer: DenseLayer, u: int, v: int) -> None:
    """Within one layer a block (u, v) is symmetric in its features, and equals block (v, u)."""
    start, m = layer.weight.start, layer.inputs
    at_u = slice(start + u * m, start + (u + 1) * m)
    at_v = slice(start + v * m, start + (v + 1) * m)
    block = result[at_u, at_v]
    diagonal = block.diagonal().clone()
    block += block.T.clone()  # of each pair one is written and the other is still zero
    block.diagonal().copy_(diagonal)
    if u != v:
        result[at_v, at_u] = block
    if layer.bias is not None:
        bias_u, bias_v = layer.bias.start + u, layer.bias.start + v
        column = result[at_u, bias_v].clone()
        result[bias_v, at_u] = column
        result[bias_u, at_v] = column
        result[at_v, bias_u] = column
        result[bias_v, bias_u] = result[bias_u, bias_v].clone()
