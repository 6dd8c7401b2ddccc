"""Krylov spaces with their image, and converged Ritz pairs."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from hessscope.linalg.lanczos import Lanczos, StoredLanczos, row_lengths

MatVec = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class KrylovBasis:
    """Vectors and their products, one a row.

    Attributes:
        vectors: orthonormal, shape (k, n).
        images: A times each, shape (k, n).
    """

    vectors: torch.Tensor
    images: torch.Tensor

    def restricted(self) -> torch.Tensor:
        """The operator in the space, V A Vᵀ, shape (k, k); symmetric."""
        matrix = self.images @ self.vectors.T
        return (matrix + matrix.T) / 2


def krylov_basis(
    matvec: MatVec, start: torch.Tensor, size: int, last: torch.Tensor | None = None
) -> KrylovBasis:
    """Lanczos vectors from a start, each product kept (Dauphin et al. 2014, algorithm 2).

    Each vector is made orthogonal to all before it, twice. The space ends early where it turns
    out invariant.

    Cost: ``size`` products and 4·n·size² flops; memory 2·n·size numbers.

    Args:
        matvec: the symmetric operator, (n,) to (n,).
        start: shape (n,), not zero.
        size: dimension of the space, at most n.
        last: a vector that the space is to contain beside the Krylov vectors, such as the previous
            step; left out where it is zero or lies in the space already.
    """
    n, eps = len(start), torch.finfo(start.dtype).eps
    extra = last is not None and bool(last.any())
    size = min(size, n)
    vectors, images = start.new_empty((size, n)), start.new_empty((size, n))
    new: torch.Tensor | None = start / torch.linalg.vector_norm(start)
    count, scale = 0, 0.0
    while new is not None and count < size - int(extra):
        vectors[count], images[count] = new, matvec(new)
        scale = max(scale, float(torch.linalg.vector_norm(images[count])))
        count += 1
        new = _orthogonal(vectors[:count], images[count - 1], n**0.5 * eps * scale)
    if extra and last is not None and count < size:
        new = _orthogonal(vectors[:count], last / torch.linalg.vector_norm(last), 1e-8)
        if new is not None:
            vectors[count], images[count] = new, matvec(new)
            count += 1
    return KrylovBasis(vectors[:count], images[:count])


def _orthogonal(basis: torch.Tensor, vector: torch.Tensor, least: float) -> torch.Tensor | None:
    """The unit vector of the part outside the space; None where that part is rounding."""
    rest = vector - basis.T @ (basis @ vector)
    rest = rest - basis.T @ (basis @ rest)
    length = float(torch.linalg.vector_norm(rest))
    return rest / length if length > least else None


# Vectors of which less than this part is new are copies of what another run has found.
_NEW = 1e-2


@dataclass(frozen=True)
class RitzPairs:
    """Orthonormal vectors y with A y ≈ θ y.

    Attributes:
        values: θ, ascending, shape (m,).
        residuals: ‖A y − θ y‖, shape (m,).
        vectors: as rows, shape (m, n).
    """

    values: np.ndarray
    residuals: np.ndarray
    vectors: torch.Tensor

    def with_more(self, more: RitzPairs) -> RitzPairs:
        """Together with pairs from the orthogonal complement of these, where these are kept."""
        values = np.concatenate([self.values, more.values])
        order = np.argsort(values, kind="stable")
        vectors = torch.cat([self.vectors, more.vectors.to(self.vectors.device)])
        residuals = np.concatenate([self.residuals, more.residuals])
        return RitzPairs(values[order], residuals[order], vectors[torch.from_numpy(order)])


def converged_pairs(iteration: Lanczos | StoredLanczos, most: int | None = None) -> RitzPairs:
    """Pairs that have converged; none from a product with A.

    Half of the digits are enough, since residuals enter the counts squared: those of a pair (θ, y)
    move counts near zero by r²/|θ|, which is to stay below eps·‖A‖. The vectors of all
    runs are joined, copies of one direction become one, and a Rayleigh–Ritz step in their span
    gives the pairs. A acts on a Ritz vector y = Qᵀs as θ y + β s_k q_{k+1}, which is known. A
    single run with a stored basis has no copies, and its Ritz pairs are taken as they are.

    Cost: 8·n·m² flops and 3·n·m numbers of memory for m pairs; a pass over a stored basis, and m
    vectors.

    Args:
        iteration: the runs.
        most: pairs, those of largest magnitude, that there is room for; default any number.
    """
    eps, runs = iteration.eps, iteration.runs()
    norm = max((float(np.abs(run.quadrature().nodes).max()) for run in runs), default=0.0)

    def enough(theta: np.ndarray) -> np.ndarray:
        return math.sqrt(eps * norm) * np.sqrt(np.maximum(np.abs(theta), eps * norm))

    if isinstance(iteration, StoredLanczos):
        nodes, vectors = runs[0].decomposition()
        residuals = np.abs(runs[0].betas[-1] * vectors[-1])
        kept = np.flatnonzero(residuals <= enough(nodes))
        kept = np.sort(kept[np.argsort(-np.abs(nodes[kept]), kind="stable")][:most])
        pairs = iteration.combine(0, vectors[:, kept])
        return RitzPairs(nodes[kept], residuals[kept], pairs)
    rows, images = [], []
    for number, run in enumerate(runs):
        nodes, vectors = run.decomposition()
        last = run.betas[-1] * vectors[-1]
        chosen = np.flatnonzero(np.abs(last) <= enough(nodes))
        found = iteration.combine(number, vectors[:, chosen])
        rows.append(found)
        inside = torch.from_numpy(nodes[chosen]).to(found)[:, None]
        outside = torch.from_numpy(last[chosen]).to(found)[:, None]
        images.append(inside * found + outside * iteration.current[number])
    span, image = torch.cat(rows), torch.cat(images)
    if not len(span):
        return RitzPairs(np.zeros(0), np.zeros(0), span)
    lengths, mixing = torch.linalg.eigh(span @ span.T)
    new = lengths > _NEW
    combine = (mixing[:, new] / lengths[new].sqrt()).T
    span, image = combine @ span, combine @ image
    inner = span @ image.T
    values, rotation = torch.linalg.eigh((inner + inner.T) / 2)
    span, image = rotation.T @ span, rotation.T @ image
    residuals = row_lengths(image - values[:, None] * span).cpu().double().numpy()
    theta = values.cpu().double().numpy()
    good = residuals <= enough(theta)
    return RitzPairs(theta[good], residuals[good], span[torch.from_numpy(good)])
