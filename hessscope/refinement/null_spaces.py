"""Directions along which the loss does not change at all, verified."""

from __future__ import annotations

from collections.abc import Callable

import torch

from hessscope.objective import Objective

#: θ of shape (n,) to tangent vectors of symmetries at θ, shape (n, m), one a column.
Symmetries = Callable[[torch.Tensor], torch.Tensor]

SAMPLES = 4
# Singular values of the tangent vectors below this part of the largest count as dependent.
_DEPENDENT = 1e-8


def verified_null_space(
    objective: Objective, theta: torch.Tensor, symmetries: Symmetries | None, seed: int = 0
) -> tuple[torch.Tensor, str]:
    """Tangents T(θ) of exact symmetries, orthonormal; those that fail the test are left out.

    A field T of directions belongs to a symmetry if and only if ∇L(θ')·T(θ') = 0 at every θ', not
    only where the gradient is small; that is tested at random points around θ. Differentiated it
    says H T = −(DT)ᵀ∇L, so at a critical point T lies in the null space of H.

    Args:
        objective: L.
        theta: θ.
        symmetries: T; None for no symmetry.
        seed: of the random points.

    Returns:
        Shape (n, k), and what was left out, in words.
    """
    empty = theta.new_zeros((len(theta), 0))
    if symmetries is None:
        return empty, ""
    tangents = symmetries(theta).to(theta)
    if tangents.ndim != 2 or len(tangents) != len(theta):
        return empty, f"symmetries gave shape {tuple(tangents.shape)} for n = {len(theta)}"
    exact = torch.ones(tangents.shape[1], dtype=torch.bool, device=theta.device)
    limit = torch.finfo(theta.dtype).eps ** (2 / 3)
    stream = torch.Generator().manual_seed(seed)
    for _ in range(SAMPLES):
        noise = torch.randn(len(theta), generator=stream, dtype=theta.dtype).to(theta.device)
        other = theta + 0.1 * (1.0 + theta.abs()) * noise
        gradient = objective.gradient(other)
        there = symmetries(other).to(theta)
        change = (there.T @ gradient).abs()
        scale = torch.linalg.vector_norm(there, dim=0) * torch.linalg.vector_norm(gradient)
        exact &= change <= limit * scale
    note = ""
    if not bool(exact.all()):
        note = f"{int((~exact).sum())} of {len(exact)} supposed symmetries change the loss"
    return _span(tangents[:, exact]), note


def _span(vectors: torch.Tensor) -> torch.Tensor:
    """An orthonormal basis of what the columns span."""
    if not vectors.shape[1]:
        return vectors
    left, sizes, _ = torch.linalg.svd(vectors, full_matrices=False)
    return left[:, sizes > _DEPENDENT * sizes[0]]
