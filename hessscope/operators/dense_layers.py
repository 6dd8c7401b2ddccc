"""Fully connected layers on vectors: their derivatives, and matrices of their outputs.

Let e be a vector added to the pre-activations z of such layers, all stacked (D numbers for each
example). A weight enters the loss only through z = W a + b, so the Hessian over all weights
follows from D differentiations instead of n. With ã = (a, 1) the input of a layer, δ = ∂ℓ/∂e and
S = ∂²ℓ/∂e∂e of one example, units u of layer l and v of a later layer m:

    ∂²ℓ / ∂W_l[u,j] ∂W_m[v,k] = ã_l[j] · ( S[u,v]·ã_m[k] + δ[v]·∂a_m[k]/∂e[u] )

and without the second summand within one layer, whose input its own output does not change.

The outputs f depend on a weight only through its layer's pre-activation, ∂f/∂W_l[u,j] =
ã_l[j]·∂f/∂e[u]. With Jₑ = ∂f/∂e of one example and a matrix C on its outputs, the block of JᵀCJ is
therefore that of the Hessian with S = JₑᵀCJₑ and δ = 0: there is no second summand.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial

import torch

from hessscope.objective import EmpiricalRisk
from hessscope.operators.symmetric import OutputCurvature, pulled_back

_SAMPLE = 8


@dataclass(frozen=True)
class DenseLayer:
    """One fully connected layer, as it stands in θ.

    Attributes:
        name: of the module.
        inputs: length of a.
        units: length of z.
        weight: where W stands in θ, row by row.
        bias: where b stands in θ; None without bias.
        first: number of its first unit among all D.
    """

    name: str
    inputs: int
    units: int
    weight: slice
    bias: slice | None
    first: int

    @property
    def stacked(self) -> slice:
        """Its units among all D."""
        return slice(self.first, self.first + self.units)

    @property
    def features(self) -> int:
        """Length of ã: the inputs, and 1 where there is a bias."""
        return self.inputs + (self.bias is not None)

    @property
    def places(self) -> list[slice]:
        """Where its parameters stand in θ."""
        return [self.weight] if self.bias is None else [self.weight, self.bias]

    def weights(self, vectors: torch.Tensor) -> torch.Tensor:
        """W, or what stands in its place in vectors like θ: shape (..., units, inputs)."""
        return vectors[..., self.weight].unflatten(-1, (self.units, self.inputs))


@dataclass(frozen=True)
class LayerDerivatives:
    """Derivatives for the examples of one chunk, B of them.

    Attributes:
        features: ã of each layer, shape (B, inputs + 1) or (B, inputs).
        first: δ, shape (B, D), divided by the number N of all examples.
        second: S, shape (B, D, D), divided by N.
        jacobians: for each layer ∂a/∂e, shape (inputs, B, D); None where a does not depend on e.
    """

    features: list[torch.Tensor]
    first: torch.Tensor
    second: torch.Tensor
    jacobians: list[torch.Tensor | None]


@contextmanager
def injected(
    risk: EmpiricalRisk, layers: Mapping[str, torch.Tensor | None]
) -> Iterator[list[tuple[str, torch.Tensor]]]:
    """Add the given tensors to the layers' outputs; note their names and inputs, call by call."""
    calls: list[tuple[str, torch.Tensor]] = []

    def note(
        name: str, module: object, given: tuple[torch.Tensor, ...], output: torch.Tensor
    ) -> torch.Tensor | None:
        # Without positional arguments it was called by keyword: left to products.
        calls.append((name, given[0] if given else output.new_zeros(())))
        added = layers[name]
        return None if added is None else output + added

    with ExitStack() as hooks:
        for name in layers:
            module = risk.model.get_submodule(name)
            hooks.enter_context(module.register_forward_hook(partial(note, name)))
        yield calls


def find_dense_layers(risk: EmpiricalRisk, theta: torch.Tensor) -> tuple[DenseLayer, ...]:
    """Find the layers to which the formula applies, in the order in which they are called.

    A layer counts if it is an ``nn.Linear`` with parameters of its own, called once for a batch,
    with one vector for each example. Whether its parameters enter anywhere else is settled by
    comparing δ ãᵀ with the gradient; then none counts.
    """
    # A layer of which a part is free has no such structure.
    slices = {n: s for n, s in risk.layout.slices().items() if n not in risk.layout.entries}
    named = [
        name
        for name, module in risk.model.named_modules()
        if type(module) is torch.nn.Linear and f"{name}.weight".removeprefix(".") in slices
    ]
    layers: tuple[DenseLayer, ...] = ()
    for name in _called_once_with_every_example(risk, theta, named) if named else ():
        weight, bias = (f"{name}.{of}".removeprefix(".") for of in ("weight", "bias"))
        units, inputs = risk.model.get_parameter(weight).shape
        first = sum(layer.units for layer in layers)
        # A frozen bias is a constant.
        layers += (DenseLayer(name, inputs, units, slices[weight], slices.get(bias), first),)
    if not layers:
        return ()
    # At θ itself all may be zero and agree; nearby they agree only if the structure is right.
    stream = torch.Generator().manual_seed(0)
    nearby = torch.randn(theta.numel(), generator=stream, dtype=theta.dtype).to(theta.device)
    nearby = theta + (0.1 * (1 + theta.abs())) * nearby
    examples = min(_SAMPLE, len(risk))
    added, pieces = nothing_added(theta, 1, layers)
    try:
        # A block of two second derivatives.
        with torch.enable_grad(), injected(risk, pieces):
            value = risk.term(0, 1)(theta.detach())
            (slope,) = torch.autograd.grad(value, added, create_graph=True)
            columns_of(slope[:, :2], added)
        return layers if _explains_gradient(risk, nearby, layers, examples) else ()
    except RuntimeError:  # an operation that knows no blocks of vectors, say
        return ()


def _called_once_with_every_example(
    risk: EmpiricalRisk, theta: torch.Tensor, names: list[str]
) -> list[str]:
    """Layers that see example i of each batch, a vector, in row i and only once.

    In the order in which they are called; all batches are passed through the network.
    """
    order: list[str] | None = None
    with torch.no_grad():
        for start in range(0, len(risk), risk.batch_size):
            stop = min(start + risk.batch_size, len(risk))
            with injected(risk, dict.fromkeys(names)) as calls:
                risk.term(start, stop)(theta)
            times = Counter(name for name, _ in calls)
            suitable = [
                name
                for name, value in calls
                if times[name] == 1 and value.ndim == 2 and len(value) == stop - start
            ]
            order = suitable if order is None else [name for name in order if name in suitable]
        together, alone = (
            _inputs(risk, theta, order or [], count) for count in (min(_SAMPLE, len(risk)), 1)
        )
    slack = 1e4 * torch.finfo(theta.dtype).eps
    return [
        name
        for name in order or []
        if together.keys() == alone.keys()
        and float((together[name][:1] - alone[name]).abs().max())
        <= slack * float(together[name].abs().max())
    ]


def _inputs(
    risk: EmpiricalRisk, theta: torch.Tensor, names: list[str], count: int
) -> dict[str, torch.Tensor]:
    """What the layers are called with for the first examples."""
    with injected(risk, dict.fromkeys(names)) as calls:
        risk.term(0, count)(theta)
    return dict(calls)


def nothing_added(
    theta: torch.Tensor, examples: int, layers: tuple[DenseLayer, ...]
) -> tuple[torch.Tensor, dict[str, torch.Tensor | None]]:
    """Zeros e that can be differentiated, shape (B, D), and the part of each layer."""
    size = (examples, sum(layer.units for layer in layers))
    added = torch.zeros(size, dtype=theta.dtype, device=theta.device, requires_grad=True)
    return added, {layer.name: added[:, layer.stacked] for layer in layers}


def _explains_gradient(
    risk: EmpiricalRisk, theta: torch.Tensor, layers: tuple[DenseLayer, ...], examples: int
) -> bool:
    """Compare δ ãᵀ with the gradient: they differ where parameters also enter elsewhere."""
    point = theta.detach().requires_grad_(True)
    term = risk.terms(examples)[0]
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(term(point), point)
    derivatives = differentiate(risk, theta, layers, 0, examples, second=False)
    slack = 1e4 * torch.finfo(theta.dtype).eps
    for layer, features in zip(layers, derivatives.features, strict=True):
        outer, weight = derivatives.first[:, layer.stacked].T @ features, layer.weights(gradient)
        scale = float(outer.abs().max()) + float(weight.abs().max())
        parts = [outer[:, : layer.inputs].flatten(), *outer[:, layer.inputs :].T]
        for part, place in zip(parts, layer.places, strict=True):
            # Not "larger than", which NaN is not.
            if not float((part - gradient[place]).abs().max()) <= slack * scale:
                return False
    return True


def differentiate(
    risk: EmpiricalRisk,
    theta: torch.Tensor,
    layers: tuple[DenseLayer, ...],
    start: int,
    stop: int,
    *,
    second: bool = True,
) -> LayerDerivatives:
    """Derivatives of the examples ``start`` to ``stop`` with respect to e.

    Cost: D backward passes through what follows the first layer, and as many as the later layers
    have inputs; all examples at once.
    """
    added, pieces = nothing_added(theta, stop - start, layers)
    with torch.enable_grad(), injected(risk, pieces) as calls:
        value = risk.term(start, stop)(theta.detach())
        (first,) = torch.autograd.grad(value, added, create_graph=second)
        inputs = dict(calls)
        hessian = theta.new_zeros(0)
        jacobians: list[torch.Tensor | None] = []
        if second:
            columns = columns_of(first, added)
            # A loss that is linear in the layers' outputs has no second derivative there.
            flat = added.new_zeros(*added.shape, added.shape[1])
            hessian = flat if columns is None else columns.movedim(0, 1)
            jacobians = [columns_of(inputs[layer.name], added) for layer in layers]
            jacobians = [j if j is not None and bool(j.any()) else None for j in jacobians]
    return LayerDerivatives(
        features_of(layers, inputs), first.detach(), hessian.detach(), jacobians
    )


def features_of(
    layers: tuple[DenseLayer, ...], inputs: dict[str, torch.Tensor]
) -> list[torch.Tensor]:
    """ã of each layer, from what it was called with."""
    return [
        torch.nn.functional.pad(
            inputs[layer.name].detach(), (0, int(layer.bias is not None)), value=1.0
        )
        for layer in layers
    ]


def columns_of(function: torch.Tensor, variable: torch.Tensor) -> torch.Tensor | None:
    """∂(Σᵢ function[i, c]) / ∂variable for every column c: shape (columns, B, D).

    None where the function does not depend on the variable.
    """
    if not function.requires_grad:
        return None
    columns = function.shape[1]
    units = torch.eye(columns, dtype=function.dtype, device=function.device)
    return pulled_back(function, variable, units[:, None, :].expand(columns, *function.shape))


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
    features = features_of(layers, dict(calls))
    jacobians: list[torch.Tensor | None] = [None] * len(layers)
    return LayerDerivatives(features, theta.new_zeros(size, d), second.detach(), jacobians)
