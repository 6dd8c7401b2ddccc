"""Counting null directions, each once, with a proof that there are as many eigenvalues.

Theorem. Let V have m orthonormal columns and let σ₁ ≤ … ≤ σ_m be the singular values of H V. Then
for every k at least k eigenvalues of H satisfy |λ| ≤ σ_k.

Proof. The eigenvalues of H² are the λ². By the min-max principle (Courant–Fischer) the k-th
smallest of them is the minimum, over all subspaces of dimension k, of the largest xᵀH²x = ‖Hx‖²
among the unit vectors x in it. The first k right singular vectors of H V, mapped by V, span one
such subspace, and there ‖Hx‖ ≤ σ_k. ∎

In particular ‖H V‖₂ ≤ τ shows that m eigenvalues lie in [−τ, τ], whatever else is known of H. For
several mutually orthogonal spaces together, ‖H (V₁ … V_c)‖₂² ≤ Σ ‖H V_i‖₂²; the ledger keeps this
sum at τ² or less, so its total is such a number, too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import scipy.sparse
import torch

from hessscope.linalg.probes import gaussian
from hessscope.linalg.row_spaces import rows_beyond
from hessscope.operators import CurvatureOperator

#: Random products with which a whole space is verified; it fails once in 10^SAMPLES.
SAMPLES = 10
# ‖B‖₂ ≤ 10 √(2/π) max ‖B ω‖ (Halko, Martinsson & Tropp 2011, lemma 4.1).
_SAFETY = 10 * math.sqrt(2 / math.pi)
# Directions of one space that are multiplied one by one, and numbers held for it.
_MOST_PRODUCTS = 256
_MOST_NUMBERS = 32_000_000
_BLOCK = 32


@dataclass(frozen=True)
class Counted:
    """What a space has added.

    Attributes:
        new: directions that are null and independent of all that was counted before.
        residual: ‖H V‖₂ over them; over all that were offered where none is null.
        each: every direction was multiplied with H; else the bound comes from random
            combinations of them.
    """

    new: int
    residual: float
    each: bool


class Ledger:
    """Null directions counted so far, as an orthonormal basis.

    Args:
        hessian: H.
        tolerance: τ.
        zero_rows: shape (n,), true where the data's part of H has nothing but zeros.
        penalty: l2, the value of H there.
        seed: of the random combinations.

    Attributes:
        zero_rows_count: null directions that are zero rows.
        count: null directions in all.
    """

    def __init__(
        self,
        hessian: CurvatureOperator,
        tolerance: float,
        zero_rows: np.ndarray,
        penalty: float,
        seed: int,
    ) -> None:
        self.hessian = hessian
        self.tolerance = tolerance
        self.penalty = penalty
        self._live = scipy.sparse.diags_array((~zero_rows).astype(float), format="csr")
        self._seed = seed
        self._basis = scipy.sparse.csr_matrix((0, hessian.shape[0]))
        null = zero_rows.any() and penalty <= tolerance
        self.zero_rows_count = int(zero_rows.sum()) if null else 0
        self.count = self.zero_rows_count
        self._square = penalty**2 if null else 0.0

    @property
    def residual(self) -> float:
        """Bound of ‖H V‖₂, V an orthonormal basis of all that is counted; at most τ."""
        return math.sqrt(self._square)

    def live(self, rows: scipy.sparse.csr_matrix) -> scipy.sparse.csr_matrix:
        """Rows less their part in the zero rows of H."""
        return rows @ self._live

    def each(self, rows: scipy.sparse.csr_matrix) -> bool:
        """Whether so many directions are multiplied one by one."""
        count, n = rows.shape
        return count <= _MOST_PRODUCTS and count * n <= _MOST_NUMBERS

    def add(self, rows: scipy.sparse.csr_matrix) -> Counted:
        """Count what orthonormal rows span beyond all before, as far as it is null.

        Where there are few directions, singular values tell how many of them are; else all of
        them are, or none.
        """
        fresh = rows_beyond(rows, self._basis)
        if fresh.shape[0] == 0:
            return Counted(0, 0.0, True)
        room = math.sqrt(max(self.tolerance**2 - self._square, 0.0))
        each = self.each(fresh)
        if each:
            response = self.respond(fresh)
            sizes, right = np.linalg.svd(response, full_matrices=False)[1:]
            null = sizes <= room
            if not null.all():
                fresh = scipy.sparse.csr_matrix(right[null]) @ fresh
            residual = float(sizes[null].max() if null.any() else sizes.max())
        else:
            residual = self.bound(self.respond(self.combined(fresh)))
            if residual > room:
                fresh = fresh[:0]
        new = fresh.shape[0]
        if new:
            self._basis = scipy.sparse.vstack([self._basis, fresh], format="csr")
            self._square += residual**2
            self.count += new
        return Counted(new, residual, each)

    def respond(self, rows: scipy.sparse.csr_matrix) -> np.ndarray:
        """H times each row: shape (n, k); costs k products."""
        blocks = [np.zeros((self.hessian.shape[0], 0))]
        for start in range(0, rows.shape[0], _BLOCK):
            columns = rows[start : start + _BLOCK].toarray().T
            vectors = torch.from_numpy(np.ascontiguousarray(columns))
            product = self.hessian.apply(vectors.to(self.hessian.device, self.hessian.dtype))
            blocks.append(product.cpu().double().numpy())
        return np.hstack(blocks)

    def combined(self, rows: scipy.sparse.csr_matrix) -> scipy.sparse.csr_matrix:
        """Random combinations of the rows, enough for ``bound``."""
        return scipy.sparse.csr_matrix(self.weights(rows.shape[0]).T) @ rows

    def weights(self, count: int) -> np.ndarray:
        """Gaussian weights of such combinations, shape (count, SAMPLES)."""
        cpu = torch.device("cpu")
        return gaussian(count, SAMPLES, self._seed, dtype=torch.float64, device=cpu).numpy()

    @staticmethod
    def bound(combinations: np.ndarray) -> float:
        """Bound of ‖B‖₂ from products of B with Gaussian weights, shape (n, SAMPLES)."""
        return _SAFETY * float(np.linalg.norm(combinations, axis=0).max())
