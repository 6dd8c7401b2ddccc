"""Spaces spanned by sparse rows, with orthonormal bases that are never written out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.linalg
import scipy.sparse

# A direction counts only if rows of length 1 have a singular value above this along it. Their
# Gram matrix shows its square, and the basis is orthonormal to eps / square.
_DISTINCT = 1e-4


def row_lengths(rows: scipy.sparse.csr_matrix) -> np.ndarray:
    """Euclidean length of each row."""
    return np.sqrt(np.asarray(rows.multiply(rows).sum(axis=1)).ravel())


@dataclass(frozen=True)
class RowSpace:
    """The span of the orthonormal rows C T, T sparse.

    Orthonormal rows of their own would be dense where supports overlap; so only C is kept.

    Attributes:
        rows: T, shape (k, n).
        coefficients: C, shape (m, k).
    """

    rows: scipy.sparse.csr_matrix
    coefficients: np.ndarray

    @classmethod
    def zero(cls, n: int) -> RowSpace:
        """The space {0} in n dimensions."""
        return cls(scipy.sparse.csr_matrix((0, n)), np.zeros((0, 0)))

    @property
    def dimension(self) -> int:
        """m."""
        return len(self.coefficients)

    def beyond(self, rows: scipy.sparse.csr_matrix) -> RowSpace:
        """What further rows span beyond this space: its orthogonal complement in the sum of both.

        Args:
            rows: shape (k, n), of length 1 or what is left of such rows. Directions along which
                they have, beyond this space, singular values up to 1e-4 are left out.

        Returns:
            A space in terms of T and the further rows, stacked. Cost: O(k³), and Gram matrices.
        """
        inner = np.asarray((rows @ self.rows.T).todense()) @ self.coefficients.T
        gram = np.asarray((rows @ rows.T).todense()) - inner @ inner.T
        squares, vectors = scipy.linalg.eigh(gram) if len(gram) else (np.zeros(0), gram)
        kept = squares > _DISTINCT**2
        new = (vectors[:, kept] / np.sqrt(squares[kept])).T
        old = -new @ inner @ self.coefficients
        stacked = scipy.sparse.vstack([self.rows, rows], format="csr")
        return RowSpace(stacked, np.hstack([old, new]))

    def rotated(self, matrix: np.ndarray) -> RowSpace:
        """The part spanned by orthonormal combinations of the basis, shape (m', m)."""
        return RowSpace(self.rows, matrix @ self.coefficients)

    def joined(self, beyond: RowSpace) -> RowSpace:
        """The sum with a space that ``beyond`` gave."""
        padding = ((0, 0), (0, beyond.rows.shape[0] - self.rows.shape[0]))
        mine = np.pad(self.coefficients, padding)
        return RowSpace(beyond.rows, np.vstack([mine, beyond.coefficients]))

    def combine(self, weights: np.ndarray) -> np.ndarray:
        """Combinations of the orthonormal rows, as columns.

        Args:
            weights: shape (m, c).

        Returns:
            Shape (n, c).
        """
        return self.rows.T @ (self.coefficients.T @ weights)
