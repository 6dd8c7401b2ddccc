"""MINRES for symmetric systems of any inertia, with detection of non-positive curvature."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

MatVec = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class MinresResult:
    """An approximate solution of A x = b.

    Attributes:
        solution: x, shape (n,).
        residual: r = b − A x, from the recurrence.
        steps: products used.
        norm: lower bound of ‖A‖₂.
        steepness: ‖A b‖/‖b‖.
        nonpositive: a direction with vᵀA v ≤ 0, shape (n,), also a direction along which b·v > 0;
            None if none turned up.
    """

    solution: torch.Tensor
    residual: torch.Tensor
    steps: int
    norm: float
    steepness: float
    nonpositive: torch.Tensor | None


def minres(
    matvec: MatVec,
    b: torch.Tensor,
    steps: int,
    tolerance: float,
    *,
    stop_at_nonpositive: bool = False,
) -> MinresResult:
    """Minimise ‖A x − b‖ over growing Krylov spaces (Paige & Saunders 1975).

    Where b is not in the range of A, the last iterate is a least-squares solution but not the
    shortest; taking off its part along the residual, which A maps to zero, gives A⁺b as
    MINRES-QLP would (Liu, Milzarek & Roosta 2023). The residual of step k is a direction of
    non-positive curvature as soon as c_{k−1}γ_k ≥ 0 (Liu & Roosta 2022).

    Cost: one product a step; memory 8n numbers. Basis vectors are not reorthogonalised.

    Args:
        matvec: the symmetric operator, (n,) to (n,).
        b: right-hand side, not zero.
        steps: products at most.
        tolerance: end where ‖A r‖ ≤ tolerance·‖A b‖, or ‖r‖ ≤ tolerance·‖b‖.
        stop_at_nonpositive: end at the first direction of non-positive curvature.
    """
    eps = torch.finfo(b.dtype).eps
    size = float(torch.linalg.vector_norm(b))
    v, v_before = b / size, torch.zeros_like(b)
    w, w_before = torch.zeros_like(b), torch.zeros_like(b)
    x, r = torch.zeros_like(b), b.clone()
    phi, beta, cosine, sine = size, 0.0, -1.0, 0.0
    delta, epsilon, norm, steepness = 0.0, 0.0, 0.0, 0.0
    nonpositive: torch.Tensor | None = None
    done = 0
    for step in range(steps):
        q = matvec(v)
        done = step + 1
        alpha = float(v @ q)
        q = q - alpha * v - beta * v_before
        beta_next = float(torch.linalg.vector_norm(q))
        norm = max(norm, math.sqrt(alpha**2 + beta**2 + beta_next**2))
        rotated = cosine * delta + sine * alpha
        gamma = sine * delta - cosine * alpha
        delta_next, epsilon_next = -cosine * beta_next, sine * beta_next
        # ‖A r‖ of the residual before this step.
        slope = phi * math.hypot(gamma, delta_next)
        if step == 0:
            steepness = math.hypot(gamma, delta_next)
        if step > 0 and slope <= math.sqrt(eps) * norm * phi:
            # r is in the null space, up to rounding: the shortest solution is without it.
            x = x - (x @ r) / (r @ r) * r
            break
        if nonpositive is None and cosine * gamma >= 0:
            nonpositive = r.clone()
            if stop_at_nonpositive:
                break
        length = math.hypot(gamma, beta_next)
        if length <= eps * norm:
            break
        cosine, sine = gamma / length, beta_next / length
        w, w_before = (v - rotated * w - epsilon * w_before) / length, w
        x = x + cosine * phi * w
        phi_next = sine * phi
        if beta_next <= eps * norm:
            r = r * sine**2
            break
        v, v_before = q / beta_next, v
        r = sine**2 * r - phi_next * cosine * v
        phi, beta, delta, epsilon = phi_next, beta_next, delta_next, epsilon_next
        if phi <= tolerance * size or slope <= tolerance * steepness * size:
            break
    return MinresResult(x, r, done, norm, steepness, nonpositive)
