"""Is the gradient zero? Measured, for the classification of a point."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch

from hessscope.linalg.lanczos import lanczos
from hessscope.objective import Objective
from hessscope.operators import HessianOperator, memory_room, other_batch_size
from hessscope.spectra import Criticality

KRYLOV_STEPS = 200
# Taken whatever the memory.
_FEWEST_STEPS = 10


def gradient_floor(
    objective: Objective, at: torch.Tensor, gradient: torch.Tensor, norm: float
) -> float:
    """What rounding may leave of ‖g‖: measured over another batch split, plus that of θ itself.

    Moving θ by one rounding, eps·‖θ‖, moves the gradient by up to eps·‖H‖₂·‖θ‖.

    Args:
        objective: L.
        at: θ.
        gradient: ∇L(θ).
        norm: ‖H‖₂.
    """
    size = getattr(objective, "batch_size", None)
    other = objective.gradient(at, other_batch_size(size)) if size else objective.gradient(at)
    summation = float(torch.linalg.vector_norm(gradient - other))
    eps = torch.finfo(at.dtype).eps
    return 4 * summation + 8 * eps * norm * (1 + float(torch.linalg.vector_norm(at)))


def newton_length(hessian: HessianOperator, gradient: torch.Tensor, tolerance: float) -> float:
    """‖H⁺_τ g‖ by Lanczos from g: (Σ w_j θ_j⁻² over |θ_j| > τ)^½ · ‖g‖.

    Cost: 200 products at most, and as many vectors; fewer where these do not fit in the memory.
    """
    norm = float(torch.linalg.vector_norm(gradient))
    if norm == 0.0:
        return 0.0
    vectors = memory_room(hessian.memory, hessian.device) // (
        gradient.element_size() * len(gradient)
    )
    steps = min(KRYLOV_STEPS, max(_FEWEST_STEPS, vectors))
    (run,) = lanczos(hessian.apply, gradient[:, None], steps)
    rule = run.quadrature()
    outside = np.abs(rule.nodes) > tolerance
    return norm * math.sqrt(float(np.sum(rule.weights[outside] / rule.nodes[outside] ** 2)))


def measure_criticality(hessian: HessianOperator, norm: float, tolerance: float) -> Criticality:
    """Collect the evidence for or against ∇L = 0 at the operator's point.

    Args:
        hessian: H at θ.
        norm: ‖H‖₂, known from its spectrum.
        tolerance: τ of the counts.

    Cost: two gradients, and 200 products where the gradient is at its rounding floor.
    """
    gradient = hessian.objective.gradient(hessian.at)
    evidence = _of_gradient(hessian.objective, hessian.at, gradient, norm)
    if evidence.gradient_norm > evidence.gradient_floor:
        return evidence
    return replace(evidence, newton_length=newton_length(hessian, gradient, tolerance))


def measure_gradient(objective: Objective, at: torch.Tensor, norm: float) -> Criticality:
    """The evidence without a Newton step, for which there is no Hessian: never *critical*.

    Args:
        objective: L.
        at: θ.
        norm: ‖·‖₂ of a matrix with the Hessian's scale.

    Cost: two gradients.
    """
    return _of_gradient(objective, at, objective.gradient(at), norm)


def _of_gradient(
    objective: Objective, at: torch.Tensor, gradient: torch.Tensor, norm: float
) -> Criticality:
    size = float(torch.linalg.vector_norm(gradient))
    floor = gradient_floor(objective, at, gradient, norm)
    return Criticality(size, floor, math.nan, float(torch.linalg.vector_norm(at)))
