"""Directions along which the loss does not change at all, verified."""

from __future__ import annotations

from collections.abc import Callable

import torch

from hessscope.errors import OptionError
from hessscope.objective import Objective

#: θ of shape (n,) to tangent vectors of symmetries at θ, shape (n, m), one a column.
Symmetries = Callable[[torch.Tensor], torch.Tensor]

# Factors of θ, around which the random points lie.
SHRINKS = (1.0, 1.0, 1.0, 0.1, 0.0)
# Singular values of the tangent vectors below this part of the largest count as dependent.
_DEPENDENT = 1e-8


def verified_null_space(
    objective: Objective, theta: torch.Tensor, symmetries: Symmetries | None, seed: int = 0
) -> tuple[torch.Tensor, str]:
    """Tangents T(θ) of exact symmetries, orthonormal; those that fail the test are left out.

    A field T of directions belongs to a symmetry if and only if ∇L(θ')·T(θ') = 0 at every θ', not
    only where the gradient is small; that is tested at random points around θ, and nearer to the
    origin, where saturated outputs are not. Differentiated it says H T = −(DT)ᵀ∇L, so at a critical
    point T lies in the null space of H. Parameters that have no influence at all (their gradient is
    exactly zero at θ and at all these points) are found here.

    Args:
        objective: L.
        theta: θ.
        symmetries: T; None for no symmetry.
        seed: of the random points.

    Returns:
        Shape (n, k), and what was left out, in words.

    Raises:
        OptionError: the symmetries give no such vectors.
    """
    tangents = theta.new_zeros((len(theta), 0)) if symmetries is None else symmetries(theta)
    if tangents.ndim != 2 or len(tangents) != len(theta):
        raise OptionError(
            f"symmetries gave shape {tuple(tangents.shape)}; expected ({len(theta)}, m), a tangent "
            "vector a column"
        )
    tangents = tangents.to(theta)
    exact = torch.ones(tangents.shape[1], dtype=torch.bool, device=theta.device)
    idle = objective.gradient(theta) == 0
    limit = torch.finfo(theta.dtype).eps ** (2 / 3)
    stream = torch.Generator().manual_seed(seed)
    for shrink in SHRINKS:
        noise = torch.randn(len(theta), generator=stream, dtype=theta.dtype).to(theta.device)
        other = shrink * theta + 0.1 * (1.0 + shrink * theta.abs()) * noise
        gradient = objective.gradient(other)
        idle &= gradient == 0
        if symmetries is not None:
            there = symmetries(other).to(theta)
            scale = torch.linalg.vector_norm(there, dim=0) * torch.linalg.vector_norm(gradient)
            exact &= (there.T @ gradient).abs() <= limit * scale
    note = ""
    if not bool(exact.all()):
        note = f"{int((~exact).sum())} of {len(exact)} supposed symmetries change the loss"
    alone = torch.eye(len(theta), dtype=theta.dtype, device=theta.device)[:, idle]
    return _span(torch.cat([tangents[:, exact], alone], dim=1)), note


def _span(vectors: torch.Tensor) -> torch.Tensor:
    """An orthonormal basis of what the columns span."""
    if not vectors.shape[1]:
        return vectors
    left, sizes, _ = torch.linalg.svd(vectors, full_matrices=False)
    return left[:, sizes > _DEPENDENT * sizes[0]]
