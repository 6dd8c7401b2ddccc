"""Units with identical incoming weights.

Two units that compute the same act through the sum of their outgoing weights. So moving weight from
one to the other leaves the outputs alone: d = e(o, u₁) − e(o, u₂) for each output o. Where their
outgoing weights are proportional, a₁ = κ a₂, moving the incoming weights by (y, −κ y) does so to
first order, too. In second order both meet in cross terms with the slope, H d = ±c(o) on the
incoming weights: so both are candidates only, of which those that are null are counted.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import scipy.sparse

from hessscope.degeneracy.wiring import LINEAR, Wiring

# Weights as close as this, relative to the largest of a unit, are identical.
_SAME = 1e-12


@dataclass(frozen=True)
class Duplicates:
    """Two units of one layer that compute the same.

    Attributes:
        place: the layer's name.
        outgoing: differences of outgoing weights, orthonormal rows, shape (outputs, n).
        incoming: differences of incoming weights, orthonormal rows; None where the outgoing
            weights are not proportional.
    """

    place: str
    outgoing: scipy.sparse.csr_matrix
    incoming: scipy.sparse.csr_matrix | None


def find_duplicates(wiring: Wiring, theta: np.ndarray) -> Iterator[Duplicates]:
    """Find pairs of units of fully connected layers with the same incoming weights.

    Of a group of m such units m − 1 pairs are given, all with the first.
    """
    for call, _, produced, reading, _ in wiring.connections():
        if not isinstance(call.module, LINEAR):
            continue
        for one, other in _same_rows(theta[produced]):
            outgoing = _differences(reading[one], reading[other], 1.0, 1.0, len(theta))
            first, second = theta[reading[one]], theta[reading[other]]
            ratio = _ratio(first, second)
            incoming = None
            if ratio is not None:
                incoming = _differences(produced[one], produced[other], 1.0, ratio, len(theta))
            yield Duplicates(call.name, outgoing, incoming)


def without_slope(
    incoming: scipy.sparse.csr_matrix, responses: np.ndarray, tolerance: float
) -> scipy.sparse.csr_matrix:
    """The combinations of rows that are orthogonal to the columns of ``responses``, up to τ.

    Args:
        incoming: orthonormal rows, shape (k, n).
        responses: H d for the differences of outgoing weights, shape (n, outputs).
        tolerance: τ.
    """
    _, sizes, right = np.linalg.svd((incoming @ responses).T)
    return scipy.sparse.csr_matrix(right[int((sizes > tolerance).sum()) :]) @ incoming


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
