"""Symmetries of ``nn.MultiheadAttention``."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from torch import nn

from hessscope.degeneracy import causes
from hessscope.degeneracy.fields import Family, Fields, contraction_gauge
from hessscope.degeneracy.wiring import Wiring


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
        if module.in_proj_weight is not None:
            joint = wiring.place(module.in_proj_weight)
            if joint is None:
                continue
            query, key, value = joint.reshape(3, width, -1)
        else:
            places = [
                wiring.place(weight)
                for weight in (module.q_proj_weight, module.k_proj_weight, module.v_proj_weight)
            ]
            if any(place is None for place in places):
                continue
            query, key, value = (place for place in places if place is not None)
        if bias is not None:
            query, key, value = (
                np.hstack([weight, part[:, None]])
                for weight, part in zip((query, key, value), bias.reshape(3, width), strict=True)
            )
        elif module.in_proj_bias is not None:
            continue
        out, out_bias = wiring.place(module.out_proj.weight), wiring.place(module.out_proj.bias)

        label = name or "the model"
        query, key, value = (_by_head(rows, heads) for rows in (query, key, value))
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
        alone = Fields.of(wiring.size, width, [(number, bias[width : 2 * width], constant, 1.0)])
        yield Family(causes.KEY_BIAS, "biases", label, alone)
        if out is not None and out_bias is not None:
            moved = [
                (number, bias[2 * width :], constant, 1.0),
                (number[:, None], out_bias[None], out.T, -1.0),
            ]
            fields = Fields.of(wiring.size, width, moved)
            yield Family(causes.ATTENTION_GAUGE, "value biases", label, fields)


def _by_head(rows: np.ndarray, heads: int) -> np.ndarray:
    return rows.reshape(heads, len(rows) // heads, -1)
