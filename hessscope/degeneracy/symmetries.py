"""Symmetries of networks: of rescaled units, normalised layers and attention heads.

Candidates come from the modules' types and the order of their calls, and may be wrong: something
unseen may stand between two layers. So each is tested near θ, at a point where nothing vanishes by
accident: g·X must be zero there but for rounding.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import nn

from hessscope.degeneracy import causes
from hessscope.degeneracy.fields import Entries, Family, Fields, contraction_gauge
from hessscope.degeneracy.wiring import BATCH_NORMS, CONVOLUTIONS, LINEAR, Call, Wiring
from hessscope.linalg.row_spaces import row_lengths
from hessscope.objective import EmpiricalRisk


def attention_families(wiring: Wiring, notes: list[str]) -> Iterator[Family]:
    """Symmetries of every attention module, for each head with its d dimensions.

    Scores see queries and keys through Wq xᵀ Wk y only: Wq → M Wq, Wk → M⁻ᵀ Wk, d² generators;
    outputs see values through Wo Wv only: d² more. A key's bias adds the same to all scores of a
    query, which softmax loses; and as attention weights sum to 1, a value's bias reaches the output
    as one more bias there.
    """
    for name, module in wiring.modules.items():
        if not isinstance(module, nn.MultiheadAttention):
            continue
        width, heads = module.embed_dim, module.num_heads
        bias = wiring.place(module.in_proj_bias)
        projections = [module.in_proj_weight]
        if module.in_proj_weight is None:
            projections = [module.q_proj_weight, module.k_proj_weight, module.v_proj_weight]
        places = [place for w in projections if (place := wiring.place(w)) is not None]
        if len(places) < len(projections) or (bias is None and module.in_proj_bias is not None):
            continue
        parts = list(places[0].reshape(3, width, -1)) if len(places) == 1 else places
        if bias is not None:
            biases = bias.reshape(3, width, 1)
            parts = [np.hstack(both) for both in zip(parts, biases, strict=True)]
        out, out_bias = wiring.place(module.out_proj.weight), wiring.place(module.out_proj.bias)

        label = name or "the model"
        query, key, value = (_by_head(rows, heads) for rows in parts)
        contractions = [("query–key", query, key)]
        if out is not None:
            contractions.append(("value–output", value, _by_head(out.T, heads)))
        for noun, left, right in contractions:
            mixing = contraction_gauge(wiring.size, left, right)
            if mixing is None:
                notes.append(f"the {noun} gauge of {label} was not tested: it is too large")
            else:
                yield Family(causes.ATTENTION_GAUGE, f"{noun} generators", label, mixing)
        if bias is None:
            continue
        number, constant = np.arange(width), np.array(wiring.size)
        alone = Fields.of(wiring.size, (number, bias[width : 2 * width], constant, 1.0))
        yield Family(causes.KEY_BIAS, "biases", label, alone)
        if out is not None and out_bias is not None:
            moved = (number, bias[2 * width :], constant, 1.0)
            fields = Fields.of(wiring.size, moved, (number[:, None], out_bias[None], out.T, -1.0))
            yield Family(causes.ATTENTION_GAUGE, "value biases", label, fields)


def _by_head(rows: np.ndarray, heads: int) -> np.ndarray:
    return rows.reshape(heads, len(rows) // heads, -1)


# Layer normalisation hides the scale of what it normalises but for its eps beside the variance.
_LAYER_NORM_SLACK = 1e-2
# How far from θ the test is made, in parts of the size of the parameters.
_NEARBY = 0.05


def find_symmetries(
    risk: EmpiricalRisk, theta: torch.Tensor, notes: list[str] | None = None
) -> list[Family]:
    """Find the symmetries of the loss without its penalty, in the order of their causes.

    Args:
        risk: the loss.
        theta: θ.
        notes: what was too large to be tested is added to them.

    Cost: one gradient, and a forward pass of a few examples.
    """
    wiring, notes = Wiring(risk, theta), [] if notes is None else notes
    candidates = [
        *_shifts(wiring),
        *_summed_biases(wiring),
        *_rescalings(wiring),
        *_batch_norms(wiring),
        *_layer_norm_scales(wiring),
        *_gauges(wiring, notes),
        *attention_families(wiring, notes),
    ]
    nearby = _nearby(risk, theta)
    gradient = (risk.gradient(nearby) - risk.l2 * nearby).cpu().double().numpy()
    rounding = math.sqrt(torch.finfo(theta.dtype).eps)
    point = nearby.cpu().double().numpy()
    found = [family for family in candidates if _holds(family, point, gradient, rounding)]
    return sorted(found, key=lambda family: causes.ORDER.index(family.cause))


def _holds(family: Family, point: np.ndarray, gradient: np.ndarray, rounding: float) -> bool:
    """Whether g·X = 0 for all fields: a layer has such a symmetry as a whole or not at all.

    Single fields say little, since where a gradient is small everything looks like a symmetry.
    """
    fields = family.fields.at(point)
    change = np.abs(fields @ gradient)
    terms = abs(fields) @ np.abs(gradient)
    if family.slack is not None:
        return bool((change <= family.slack * terms).all())
    # A gradient that is zero consists of rounding, which its own size does not bound.
    noise = 1e3 * rounding**2 * row_lengths(fields) * np.abs(gradient).max()
    return bool((change <= rounding * terms + noise).all())


def _nearby(risk: EmpiricalRisk, theta: torch.Tensor) -> torch.Tensor:
    """A point at which parameters that are zero or equal at θ are not."""
    stream = torch.Generator().manual_seed(0)
    moved = theta.clone()
    for where in risk.layout.slices().values():
        values = theta[where]
        size = float(values.square().mean().sqrt()) or 1.0
        noise = torch.randn(len(values), generator=stream, dtype=theta.dtype).to(theta.device)
        moved[where] += _NEARBY * (values.abs() + size) * noise
    return moved


def _shifts(wiring: Wiring) -> Iterator[Family]:
    """The same amount added to all outputs of a layer: softmax and layer normalisation lose it.

    One direction for each input of the layer and one for its bias; X is constant, so these are
    null at every θ.
    """
    last = next((c.name for c in reversed(wiring.calls) if isinstance(c.module, LINEAR)), None)
    normalised = any(isinstance(module, nn.LayerNorm) for module in wiring.modules.values())
    for name, module in wiring.modules.items():
        if not isinstance(module, (*LINEAR, *CONVOLUTIONS, nn.Embedding)):
            continue
        weight = wiring.place(module.weight)
        if weight is None:
            continue
        if isinstance(module, nn.Embedding):
            inputs = weight.T
        else:
            inputs = weight.reshape(len(weight), -1)
            bias = wiring.bias(module)
            inputs = inputs if bias is None else np.hstack([inputs, bias[:, None]])
        number, constant = np.arange(inputs.shape[1])[None], np.array(wiring.size)
        fields = Fields.of(wiring.size, (number, inputs, constant, 1.0))
        cause = causes.LAYER_NORM_SHIFT if normalised and name != last else causes.SOFTMAX_SHIFT
        yield Family(cause, "inputs and bias", name, fields)


def _summed_biases(wiring: Wiring) -> Iterator[Family]:
    """Two biases that are added to the same numbers, as after parallel branches: (1, −1).

    X is constant, so these are null at every θ.
    """
    biases = [
        (name, wiring.bias(module))
        for name, module in wiring.modules.items()
        if isinstance(module, (*LINEAR, *CONVOLUTIONS, *BATCH_NORMS, nn.LayerNorm))
    ]
    for (name, one), (other_name, other) in itertools.combinations(biases, 2):
        if one is None or other is None or len(one) != len(other):
            continue
        number, constant = np.arange(len(one)), np.array(wiring.size)
        fields = Fields.of(
            wiring.size, (number, one, constant, 1.0), (number, other, constant, -1.0)
        )
        yield Family(causes.SUMMED_BIASES, "biases", f"{name} + {other_name}", fields)


def _rescalings(wiring: Wiring) -> Iterator[Family]:
    """A channel's weights and bias times s, what reads it by 1/s: X = (w, b, −w_out).

    Holds where all that stands between is positively homogeneous, channel by channel: ReLU and its
    leaky kind, max and average pooling, or nothing.
    """
    for call, later, produced, reading, _ in wiring.connections():
        channel = np.arange(len(produced))[:, None]
        scaled = (channel, produced, produced, 1.0)
        fields = Fields.of(wiring.size, scaled, (channel, reading, reading, -1.0))
        yield Family(causes.RESCALING, "units", _between(call, later), fields)


def _batch_norms(wiring: Wiring) -> Iterator[Family]:
    """A channel against its batch normalisation γ (z − μ)/σ + β, whose μ and σ stand still.

    With z = w·a + b: (w, b − μ, −γ) scales z − μ against γ, and (1, −γ/σ) moves b against β.
    Without b, moving β makes up for μ: (w, −γ, −γ μ/σ).
    """
    for call, later in wiring.pairs():
        norm = later.module
        weights, scales = wiring.producer(call.module), wiring.producer(norm)
        if (
            not isinstance(norm, BATCH_NORMS)
            or norm.running_mean is None
            or norm.running_var is None
            or weights is None
            or scales is None
            or len(weights) != len(scales)
            or not call.passes_on_to(later)
        ):
            continue
        mean = norm.running_mean.cpu().numpy()
        spread = torch.sqrt(norm.running_var + norm.eps).cpu().numpy()
        channel, constant = np.arange(len(weights))[:, None], np.array(wiring.size)
        gamma, beta = scales[:, :1], scales[:, 1:]
        blocks: list[Entries] = [(channel, weights, weights, 1.0), (channel, gamma, gamma, -1.0)]
        if wiring.bias(call.module) is not None:
            bias = weights[:, -1:]
            blocks.append((channel, bias, constant, -mean[:, None]))
            if beta.size:
                moved = channel + len(weights)
                blocks.append((moved, bias, constant, 1.0))
                blocks.append((moved, beta, gamma, -1.0 / spread[:, None]))
        elif beta.size:
            blocks.append((channel, beta, gamma, -(mean / spread)[:, None]))
        place = _between(call, later)
        yield Family(causes.BATCH_NORM, "directions", place, Fields.of(wiring.size, *blocks))


def _layer_norm_scales(wiring: Wiring) -> Iterator[Family]:
    """All weights and biases of a layer times s, before layer normalisation: X = (W, b)."""
    for call, later in wiring.pairs():
        if not isinstance(later.module, nn.LayerNorm) or not isinstance(
            call.module, (*LINEAR, *CONVOLUTIONS)
        ):
            continue
        weights = wiring.producer(call.module)
        if weights is None or not call.passes_on_to(later):
            continue
        fields = Fields.of(wiring.size, (np.array(0), weights, weights, 1.0))
        place = _between(call, later)
        yield Family(causes.LAYER_NORM_SCALE, "layers", place, fields, _LAYER_NORM_SLACK)


def _gauges(wiring: Wiring, notes: list[str]) -> Iterator[Family]:
    """Layers with nothing between: B → M B, A → A M⁻¹, and b₁ → b₁ + t, b₂ → b₂ − A t.

    The diagonal of M alone is the rescaling of units.
    """
    for call, later, produced, reading, added_to in wiring.connections():
        if not call.passes_on_to(later):
            continue
        place = _between(call, later)
        if isinstance(call.module, LINEAR):
            mixing = contraction_gauge(wiring.size, produced[None], reading[None])
            if mixing is None:
                notes.append(f"the gauge of {place} was not tested: it is too large")
            else:
                yield Family(causes.LINEAR_GAUGE, "generators", place, mixing)
        bias, later_bias = wiring.bias(call.module), wiring.bias(later.module)
        if bias is not None and later_bias is not None:
            number = np.arange(len(produced))[:, None]
            moved = (number, bias[:, None], np.array(wiring.size), 1.0)
            fields = Fields.of(wiring.size, moved, (number, later_bias[added_to], reading, -1.0))
            yield Family(causes.LINEAR_GAUGE, "biases", place, fields)


def _between(call: Call, later: Call) -> str:
    return f"{call.name} → {later.name}"
