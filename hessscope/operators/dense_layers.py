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

from collections.abc import Iterator
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


class _Calls:
    """What the layers were called with in one forward pass."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.inputs: list[torch.Tensor] = []

    def by_name(self) -> dict[str, torch.Tensor]:
        """The inputs of each layer, called once."""
        return dict(zip(self.names, self.inputs, strict=True))


@contextmanager
def injected(risk: EmpiricalRisk, layers: dict[str, torch.Tensor | None]) -> Iterator[_Calls]:
    """Add the given tensors to the layers' outputs, and note calls in their order."""
    calls = _Calls()

    def note(
        name: str, module: object, given: tuple[torch.Tensor, ...], output: torch.Tensor
    ) -> torch.Tensor | None:
        calls.names.append(name)
        # Without positional arguments it was called by keyword: left to products.
        calls.inputs.append(given[0] if given else output.new_zeros(()))
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
    slices = risk.layout.slices()
    named = {
        name: module
        for name, module in risk.model.named_modules()
        if type(module) is torch.nn.Linear and f"{name}.weight".removeprefix(".") in slices
    }
    if not named:
        return ()
    found: list[DenseLayer] = []
    first = 0
    for name in _called_once_with_every_example(risk, theta, list(named)):
        module = named[name]
        prefix = f"{name}." if name else ""
        found.append(
            DenseLayer(
                name,
                module.in_features,
                module.out_features,
                slices[f"{prefix}weight"],
                slices.get(f"{prefix}bias"),  # a frozen bias is a constant
                first,
            )
        )
        first += module.out_features
    layers = tuple(found)
    if not layers:
        return ()
    # At θ itself all may be zero and agree; nearby they agree only if the structure is right.
    stream = torch.Generator().manual_seed(0)
    nearby = torch.randn(theta.numel(), generator=stream, dtype=theta.dtype).to(theta.device)
    nearby = theta + (0.1 * (1 + theta.abs())) * nearby
    examples = min(_SAMPLE, len(risk))
    try:
        _differentiate_in_blocks(risk, theta, layers)
        explained = _explains_gradient(risk, nearby, layers, examples)
    except RuntimeError:  # an operation that knows no blocks of vectors, say
        return ()
    return layers if explained else ()


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
            suitable = [
                name
                for name, value in zip(calls.names, calls.inputs, strict=True)
                if calls.names.count(name) == 1 and value.ndim == 2 and len(value) == stop - start
            ]
            order = suitable if order is None else [name for name in order if name in suitable]
        together = _inputs(risk, theta, order or [], 0, min(_SAMPLE, len(risk)))
        alone = _inputs(risk, theta, order or [], 0, 1)
    slack = 1e4 * torch.finfo(theta.dtype).eps
    return [
        name
        for name in order or []
        if together.keys() == alone.keys()
        and float((together[name][:1] - alone[name]).abs().max())
        <= slack * float(together[name].abs().max())
    ]


def _inputs(
    risk: EmpiricalRisk, theta: torch.Tensor, names: list[str], start: int, stop: int
) -> dict[str, torch.Tensor]:
    """What the layers are called with."""
    with injected(risk, dict.fromkeys(names)) as calls:
        risk.term(start, stop)(theta)
    return {name: value.detach() for name, value in calls.by_name().items()}


def nothing_added(
    theta: torch.Tensor, examples: int, layers: tuple[DenseLayer, ...]
) -> tuple[torch.Tensor, dict[str, torch.Tensor | None]]:
    """Zeros e that can be differentiated, shape (B, D), and the part of each layer."""
    size = (examples, sum(layer.units for layer in layers))
    added = torch.zeros(size, dtype=theta.dtype, device=theta.device, requires_grad=True)
    return added, {layer.name: added[:, layer.stacked] for layer in layers}


def _differentiate_in_blocks(
    risk: EmpiricalRisk, theta: torch.Tensor, layers: tuple[DenseLayer, ...]
) -> None:
    """Try a block of two second derivatives, for one example.

    Raises:
        RuntimeError: an operation of the model cannot be differentiated so.
    """
    added, pieces = nothing_added(theta, 1, layers)
    with torch.enable_grad(), injected(risk, pieces):
        value = risk.term(0, 1)(theta.detach())
        (first,) = torch.autograd.grad(value, added, create_graph=True)
        columns_of(first[:, :2], added)


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
        outer = derivatives.first[:, layer.stacked].T @ features
        weight = gradient[layer.weight].view(layer.units, layer.inputs)
        scale = float(outer.abs().max()) + float(weight.abs().max())
        # Not "larger than", which NaN is not.
        if not float((outer[:, : layer.inputs] - weight).abs().max()) <= slack * scale:
            return False
        if (
            layer.bias is not None
            and not float((outer[:, -1] - gradient[layer.bias]).abs().max()) <= slack * scale
        ):
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
        inputs = calls.by_name()
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
    features = features_of(layers, calls.by_name())
    jacobians: list[torch.Tensor | None] = [None] * len(layers)
    return LayerDerivatives(features, theta.new_zeros(size, d), second.detach(), jacobians)
