"""Units that make rows of the Hessian zero or equal: inactive ones, and copies.

A unit counts as active on an example if a change of its pre-activation changes anything there: its
row of ∂²ℓ/∂e∂e, or an input of a later layer. For ReLU that is z > 0; smooth units always are.

Found on the operator alone, whatever the network: a row that is not zero has, with probability 1,
a product other than zero with each of ten Gaussian vectors.

Two units that compute the same act through the sum of their outgoing weights. So moving weight from
one to the other leaves the outputs alone: d = e(o, u₁) − e(o, u₂) for each output o. Where their
outgoing weights are proportional, a₁ = κ a₂, moving the incoming weights by (y, −κ y) does so to
first order, too. In second order both meet in cross terms with the slope, H d = ±c(o) on the
incoming weights: so both are candidates only, of which those that are null are counted.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse
import torch

from hessscope.degeneracy import causes
from hessscope.degeneracy.results import SAMPLES, Cause, Ledger
from hessscope.degeneracy.wiring import LINEAR, Wiring
from hessscope.linalg.lanczos import gaussian
from hessscope.operators import CurvatureOperator, HessianOperator
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
    return [dict(calls)[name].requires_grad for name in names]


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


def find_zero_rows(hessian: CurvatureOperator, penalty: float, seed: int) -> np.ndarray:
    """Which rows of H, less the penalty's l2 on its diagonal, are exactly zero: shape (n,).

    Cost: 10 products.
    """
    n = hessian.shape[0]
    probes = gaussian(n, SAMPLES, seed, dtype=hessian.dtype, device=hessian.device)
    # The operator adds the very same product to what the data give.
    return (hessian.apply(probes) == penalty * probes).all(1).cpu().numpy()


def by_zero_rows(
    zero: np.ndarray,
    activities: Sequence[LayerActivity],
    parameters: Mapping[str, slice],
    ledger: Ledger,
) -> Iterator[Cause]:
    """Parameters without any effect on the slope, sorted by their causes; every row has one.

    Args:
        zero: shape (n,), as ``find_zero_rows`` gives it.
        activities: of fully connected layers.
        parameters: names of all parameters and where they stand in θ.
        ledger: which has counted them.
    """
    left = zero.copy()
    counts, words = Counter[str](), defaultdict[str, list[str]](list)

    def take(cause: str, places: np.ndarray, text: str) -> None:
        rows = places[left[places]]
        if len(rows):
            left[rows] = False
            counts[cause] += len(rows)
            words[cause].append(text)

    several = len(activities) > 1
    for a in activities:
        dead = np.flatnonzero(~a.alive)
        if a.first:
            text = f"{_many(len(dead), 'dead input')} x {_many(a.layer.units, 'unit')}"
            take(causes.DEAD_INPUTS, a.places[:, dead].ravel(), text)
    for a in activities:
        of = f" of '{a.layer.name}'" if several and a.layer.name else ""
        idle = np.flatnonzero(~a.active.any(0).numpy())
        text = f"incoming of {_many(len(idle), 'unit')}{of}"
        take(causes.INACTIVE_UNITS, a.places[idle].ravel(), text)
        dead = np.flatnonzero(~a.alive)
        text = f"outgoing of {_many(len(dead), 'unit')} into '{a.layer.name}'"
        take(causes.INACTIVE_UNITS, a.places[:, dead].ravel(), text)
    for a in activities:
        of = f"in '{a.layer.name}'" if several and a.layer.name else "zero whenever active"
        take(causes.UNMET_PAIRS, a.places[~a.met], of)
    for name, where in parameters.items():
        places = np.arange(where.start, where.stop)
        take(causes.OTHER_ZERO_ROWS, places, f"{int(left[places].sum()):,} in {name}")
    for cause, count in counts.items():
        new = count if ledger.zero_rows_count else 0
        text, evidence = ", ".join(words[cause]), "random products"
        yield Cause(cause, text, count, new, ledger.penalty, 0.0, evidence)


def _many(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


# Weights as close as this, relative to the largest of a unit, are identical.
_SAME = 1e-12


def find_duplicates(
    wiring: Wiring, theta: np.ndarray
) -> Iterator[tuple[str, scipy.sparse.csr_matrix, scipy.sparse.csr_matrix | None]]:
    """Find pairs of units of fully connected layers with the same incoming weights.

    Of a group of m such units m − 1 pairs are given, all with the first.

    Returns:
        The layer's name; differences of outgoing weights, orthonormal rows, shape (outputs, n); and
        such differences of incoming weights, None where the outgoing ones are not proportional.
    """
    for call, _, produced, reading, _ in wiring.connections():
        if not isinstance(call.module, LINEAR):
            continue
        for one, other in _same_rows(theta[produced]):
            outgoing = _differences(reading[one], reading[other], 1.0, 1.0, len(theta))
            ratio, incoming = _ratio(theta[reading[one]], theta[reading[other]]), None
            if ratio is not None:
                incoming = _differences(produced[one], produced[other], 1.0, ratio, len(theta))
            yield call.name, outgoing, incoming


def _same_rows(weights: np.ndarray) -> Iterator[tuple[int, int]]:
    """Pairs of equal rows that are not zero: each with the first row that it equals."""
    kept: list[int] = []
    for row, values in enumerate(weights):
        size = np.abs(values).max()
        if size == 0.0:
            continue
        for earlier in kept:
            if np.abs(weights[earlier] - values).max() <= _SAME * size:
                yield earlier, row
                break
        else:
            kept.append(row)


def _ratio(first: np.ndarray, second: np.ndarray) -> float | None:
    """κ with first = κ·second."""
    square = float(second @ second)
    if square == 0.0:
        return None
    ratio = float(first @ second) / square
    same = np.abs(first - ratio * second).max() <= _SAME * np.abs(first).max(initial=0.0)
    return ratio if same else None


def _differences(
    plus: np.ndarray, minus: np.ndarray, a: float, b: float, size: int
) -> scipy.sparse.csr_matrix:
    """Rows (a e(plus_k) − b e(minus_k)) / √(a² + b²)."""
    count, length = len(plus), np.hypot(a, b)
    values = np.repeat([a / length, -b / length], count)
    at = (np.tile(np.arange(count), 2), np.concatenate([plus, minus]))
    return scipy.sparse.csr_matrix((values, at), (count, size))
