"""An orthonormal basis of a Krylov space, with its image under the operator."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

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
