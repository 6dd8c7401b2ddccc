"""Families of directions in which a network can be changed without changing what it computes.

A one-parameter symmetry of the loss moves θ along a vector field X with g(θ)·X(θ) = 0 at every θ.
Differentiated once, that is

    H X + (DX)ᵀ g = 0,

so X is a null direction where g = 0, and anywhere at all where X is constant. The fields here are
affine in θ: each entry of X is a factor times one parameter, or a constant.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse

_MOST_ENTRIES = 20_000_000

#: A block of entries: rows, columns, sources and factors, of shapes that broadcast.
Entries = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray | float]


@dataclass(frozen=True)
class Fields:
    """Affine vector fields X_k, k < count, by their entries: X_k[column] += factor · θ[source].

    Attributes:
        size: number n of parameters.
        count: number of fields.
        rows: k of each entry.
        columns: where in X_k it stands.
        sources: which parameter it is proportional to; n for a constant.
        factors: the constant of proportionality.
    """

    size: int
    count: int
    rows: np.ndarray
    columns: np.ndarray
    sources: np.ndarray
    factors: np.ndarray

    @classmethod
    def of(cls, size: int, count: int, blocks: Iterable[Entries]) -> Fields:
        """Join blocks of entries."""
        flat = [[x.ravel() for x in np.broadcast_arrays(*block)] for block in blocks]
        rows, columns, sources, factors = (np.concatenate(x) for x in zip(*flat, strict=True))
        return cls(size, count, rows, columns, sources, factors.astype(float))

    def at(self, theta: np.ndarray) -> scipy.sparse.csr_matrix:
        """X(θ), shape (count, n)."""
        values = self.factors * np.append(theta, 1.0)[self.sources]
        shape = (self.count, self.size)
        return scipy.sparse.csr_matrix((values, (self.rows, self.columns)), shape)

    def adjoint(self, gradient: np.ndarray) -> scipy.sparse.csr_matrix:
        """(DX_k)ᵀ g for every k, shape (count, n)."""
        moving = self.sources < self.size
        values = (self.factors * gradient[self.columns])[moving]
        at = (self.rows[moving], self.sources[moving])
        return scipy.sparse.csr_matrix((values, at), (self.count, self.size))

    @classmethod
    def joined(cls, parts: Sequence[Fields]) -> Fields:
        """The fields of all parts, one part after the other."""
        starts = np.cumsum([0, *(part.count for part in parts)])
        rows = [part.rows + start for part, start in zip(parts, starts[:-1], strict=True)]
        return cls(
            parts[0].size,
            int(starts[-1]),
            np.concatenate(rows),
            *(
                np.concatenate([getattr(part, name) for part in parts])
                for name in ("columns", "sources", "factors")
            ),
        )

    def select(self, kept: np.ndarray) -> Fields:
        """The fields for which ``kept``, shape (count,), is true."""
        there = kept[self.rows]
        number = np.cumsum(kept) - 1
        return Fields(
            self.size,
            int(kept.sum()),
            number[self.rows[there]],
            self.columns[there],
            self.sources[there],
            self.factors[there],
        )

    def scaled(self, factors: np.ndarray) -> Fields:
        """Each field times a number, shape (count,)."""
        return replace(self, factors=self.factors * factors[self.rows])


@dataclass(frozen=True)
class Family:
    """Fields that have one cause in one place of the network.

    Attributes:
        cause: a name from ``causes``.
        noun: what there is one of for each field ("units").
        place: where, by the modules' names.
        fields: the vector fields.
        slack: how far g·X may be from 0, relative to its terms, before the family is given up;
            None for rounding only.
    """

    cause: str
    noun: str
    place: str
    fields: Fields
    slack: float | None = None


def contraction_gauge(size: int, left: np.ndarray, right: np.ndarray) -> Fields | None:
    """GL(d) gauge of a sum Σ_i left_i ⊗ right_i: left → M left, right → M⁻ᵀ right.

    X_ij adds row j of ``left`` to row i, and takes row i of ``right`` from row j.

    Args:
        size: number n of parameters.
        left: places of parameters in θ, shape (heads, d, s); each head has a gauge of its own.
        right: shape (heads, d, t).

    Returns:
        heads · d² fields; None where they would have more than 2e7 entries.
    """
    heads, d, _ = left.shape
    if heads * d * d * (left.shape[2] + right.shape[2]) > _MOST_ENTRIES:
        return None
    head = np.arange(heads)[:, None, None, None]
    i, j = np.arange(d)[None, :, None, None], np.arange(d)[None, None, :, None]
    row = (head * d + i) * d + j
    return Fields.of(
        size,
        heads * d * d,
        [
            (row, left[:, :, None], left[:, None], 1.0),
            (row, right[:, None], right[:, :, None], -1.0),
        ],
    )
