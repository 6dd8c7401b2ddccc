"""Counting null directions, each once, with a proof, and the result of an attribution.

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
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import scipy.sparse
import torch

from hessscope.linalg.lanczos import gaussian
from hessscope.linalg.row_spaces import RowSpace
from hessscope.operators import CurvatureOperator
from hessscope.spectra.inertia import CountInterval


@dataclass(frozen=True)
class Cause:
    """Null directions that have one cause.

    Attributes:
        name: one of ``causes.ORDER``.
        description: how many of what, and where.
        directions: dimension of the space that the cause makes, counted for itself.
        new: dimension of what is null in it within the tolerance and independent of all causes
            before.
        residual: ‖H V‖₂, V an orthonormal basis of the new directions; where there are none, of
            those that were tried.
        identity: for a symmetry with fields X, the largest ‖H X + (DX)ᵀ g‖ / ‖X‖, which is zero
            at every θ but for rounding; for other causes the residual.
        evidence: "each direction" was multiplied with H; "random combinations" bound the residual
            with probability 1 − 10⁻¹⁰; "random products" show zero rows with probability 1.
    """

    name: str
    description: str
    directions: int
    new: int
    residual: float
    identity: float
    evidence: str


@dataclass(frozen=True)
class DegeneracyAttribution:
    """Why eigenvalues are zero: how many have which cause.

    At least ``explained`` eigenvalues are within ±``residual``, and so within ±``tolerance``; the
    causes are counted one after the other, each direction once.

    Attributes:
        causes: in the order in which they were counted.
        tolerance: τ.
        degeneracy: number of eigenvalues within ±τ, from the spectrum.
        residual: ‖H V‖₂, V an orthonormal basis of all that is explained; at most τ.
        hvps: Hessian-vector products used.
        notes: what could not be searched, or does not fit together.
    """

    causes: tuple[Cause, ...]
    tolerance: float
    degeneracy: CountInterval
    residual: float
    hvps: int
    notes: tuple[str, ...] = ()

    @property
    def explained(self) -> int:
        """Independent null directions whose cause is known: a lower bound of the degeneracy."""
        return sum(cause.new for cause in self.causes)

    @property
    def unexplained(self) -> CountInterval:
        """What is left of the degeneracy, with its interval."""
        count, known = self.degeneracy, self.explained
        return CountInterval(
            max(count.lower - known, 0),
            max(count.estimate - known, 0),
            max(count.upper - known, 0),
            count.confidence,
        )

    def as_dict(self) -> dict[str, Any]:
        """The form it has in JSON and in records; the causes by columns."""
        return {
            "explained": self.explained,
            "unexplained": self.unexplained.as_dict(),
            "degeneracy": self.degeneracy.as_dict(),
            "tolerance": self.tolerance,
            "residual": self.residual,
            "hvps": self.hvps,
            "notes": list(self.notes),
            "causes": {f.name: [getattr(c, f.name) for c in self.causes] for f in fields(Cause)},
        }

    def summary(self) -> str:
        """One line: "2,498 of 2,667: 1,675 dead inputs x units; …; 169 unexplained"."""
        parts = [f"{cause.new:,} {cause.name}" for cause in self.causes if cause.new]
        parts.append(f"{self.unexplained} unexplained")
        return f"{self.explained:,} of {self.degeneracy}: {'; '.join(parts)}"


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
        self._space = RowSpace.zero(hessian.shape[0])
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

    def each(self, count: int) -> bool:
        """Whether so many directions are multiplied one by one."""
        return count <= min(_MOST_PRODUCTS, _MOST_NUMBERS // self.hessian.shape[0])

    def add(self, rows: scipy.sparse.csr_matrix) -> Counted:
        """Count what rows span beyond all before, as far as it is null.

        Where there are few directions, singular values tell how many of them are; else all of
        them are, or none.

        Args:
            rows: shape (k, n), of length 1 or less.
        """
        fresh = self._space.beyond(self.live(rows))
        if fresh.dimension == 0:
            return Counted(0, 0.0, True)
        room = math.sqrt(max(self.tolerance**2 - self._square, 0.0))
        each = self.each(fresh.dimension)
        if each:
            response = self.respond(fresh.combine(np.eye(fresh.dimension)))
            sizes, right = np.linalg.svd(response, full_matrices=False)[1:]
            null = sizes <= room
            residual = float(sizes[null].max() if null.any() else sizes.max())
            if not null.all():
                fresh = fresh.rotated(right[null])
        else:
            residual = self.bound(self.respond(fresh.combine(self.weights(fresh.dimension))))
            if residual > room:
                fresh = fresh.rotated(np.zeros((0, fresh.dimension)))
        new = fresh.dimension
        if new:
            self._space = self._space.joined(fresh)
            self._square += residual**2
            self.count += new
        return Counted(new, residual, each)

    def respond(self, columns: np.ndarray) -> np.ndarray:
        """H times each column: shape (n, c) to (n, c); costs c products."""
        product = np.empty_like(columns)
        for start in range(0, columns.shape[1], _BLOCK):
            block = slice(start, start + _BLOCK)
            vectors = torch.from_numpy(np.ascontiguousarray(columns[:, block]))
            applied = self.hessian.apply(vectors.to(self.hessian.device, self.hessian.dtype))
            product[:, block] = applied.cpu().double().numpy()
        return product

    def weights(self, count: int) -> np.ndarray:
        """Gaussian weights of such combinations, shape (count, SAMPLES)."""
        cpu = torch.device("cpu")
        return gaussian(count, SAMPLES, self._seed, dtype=torch.float64, device=cpu).numpy()

    @staticmethod
    def bound(combinations: np.ndarray) -> float:
        """Bound of ‖B‖₂ from products of B with Gaussian weights, shape (n, SAMPLES)."""
        return _SAFETY * float(np.linalg.norm(combinations, axis=0).max())
