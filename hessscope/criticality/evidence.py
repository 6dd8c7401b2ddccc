"""Evidence for and against a zero gradient: Newton decrement, flatness, directions of symmetry.

What is here are candidates, by the theory of what the modules compute; ``null_spaces`` verifies
each on the loss itself.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch

from hessscope.criticality.null_spaces import (
    NullSpace,
    Symmetries,
    broken_gradient,
    verified_null_space,
)
from hessscope.degeneracy.activity import layer_activities
from hessscope.degeneracy.fields import dependent_inputs
from hessscope.degeneracy.symmetries import find_symmetries
from hessscope.linalg.lanczos import lanczos
from hessscope.objective import Objective
from hessscope.objective.boundaries import Boundary, nearest_boundary
from hessscope.operators import HessianOperator, memory_room, other_batch_size
from hessscope.progress import silent
from hessscope.spectra import CountInterval, Criticality, Result

# More tangents than this cost more than they explain: a basis of them is dense.
MOST = 2000


def network_symmetries(hessian: HessianOperator) -> Symmetries | None:
    """Tangents of the symmetries of a network on its data; None where there are none.

    Those that the modules suggest (shifts, rescalings, gauges), and changes of weights that no
    example notices since its inputs depend linearly on each other.

    Args:
        hessian: H of an ``EmpiricalRisk``; of other objectives no symmetry is known.
    """
    risk = hessian.objective.network
    if risk is None:
        return None
    fields = [family.fields for family in find_symmetries(risk, hessian.at)]
    activities = layer_activities(hessian, silent)
    nothing = np.zeros(len(hessian.at), dtype=bool)
    fixed = [rows for _, rows in dependent_inputs(hessian, activities, nothing, silent)[0]]
    count = sum(f.count for f in fields) + sum(rows.shape[0] for rows in fixed)
    if not 0 < count <= MOST:
        return None

    def tangents(theta: torch.Tensor) -> torch.Tensor:
        at = theta.detach().cpu().double().numpy()
        rows = [*(f.at(at).toarray() for f in fields), *(part.toarray() for part in fixed)]
        return torch.from_numpy(np.vstack(rows).T.copy())

    return tangents


KRYLOV_STEPS = 200
# Taken whatever the memory.
_FEWEST_STEPS = 10
# A basis of the symmetries is dense: beyond so many parameters only idle ones are looked for.
_DENSE_UP_TO = 40_000
# Points at which symmetries that theory knows are verified, for each of five places.
_COPIES = 8
# How far θ is moved to see whether a gradient that is exactly zero changes, over 1 + ‖θ‖.
_AWAY = 1e-3
# So few parameters are moved one by one where no eigenvectors are known.
_FEW = 64


@dataclass(frozen=True)
class Evidence:
    """What was found out about a point.

    Attributes:
        criticality: whether ∇L = 0.
        boundary: the nearest kink; None where it was not looked for.
        null: where the loss stands still; None where there was no need to know.
    """

    criticality: Criticality
    boundary: Boundary | None = None
    null: NullSpace | None = None


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
    eps = torch.finfo(objective.arithmetic).eps
    own = gradient_rounding(objective, at, gradient)
    return own + 8 * eps * norm * (1 + float(torch.linalg.vector_norm(at)))


def gradient_rounding(objective: Objective, at: torch.Tensor, gradient: torch.Tensor) -> float:
    """The gradient's own rounding at θ: four times what another batch split changes."""
    size = getattr(objective, "batch_size", None)
    other = objective.gradient(at, other_batch_size(size)) if size else objective.gradient(at)
    return 4 * float(torch.linalg.vector_norm(gradient - other))


def newton_lengths(
    hessian: HessianOperator, gradient: torch.Tensor, tolerance: float
) -> tuple[float, float]:
    """‖H⁺_τ g‖ by Lanczos from g, and the norm of the part of g that it leaves out.

    (Σ w_j θ_j⁻² over |θ_j| > τ)^½ · ‖g‖, and (Σ w_j over the others)^½ · ‖g‖.

    Cost: 200 products at most, and as many vectors; fewer where these do not fit in the memory.
    """
    norm = float(torch.linalg.vector_norm(gradient))
    if norm == 0.0:
        return 0.0, 0.0
    vectors = memory_room(hessian.memory, hessian.device) // (
        gradient.element_size() * len(gradient)
    )
    steps = min(KRYLOV_STEPS, max(_FEWEST_STEPS, vectors))
    (run,) = lanczos(hessian.apply, gradient[:, None], steps)
    rule = run.quadrature()
    outside = np.abs(rule.nodes) > tolerance
    inverse = np.sum(rule.weights[outside] / rule.nodes[outside] ** 2)
    return norm * math.sqrt(float(inverse)), norm * math.sqrt(float(rule.weights[~outside].sum()))


def measure_criticality(
    hessian: HessianOperator,
    norm: float,
    tolerance: float,
    zeros: CountInterval | None = None,
    *,
    floor: float | None = None,
    spectrum: Result | None = None,
    symmetries: Symmetries | None = None,
    smooth: bool = False,
) -> Evidence:
    """Collect the evidence for or against ∇L = 0 at the operator's point.

    Args:
        hessian: H at θ.
        norm: ‖H‖₂, known from its spectrum.
        tolerance: τ of the counts.
        zeros: how many eigenvalues lie within ±τ; None where that is not known.
        floor: ‖g‖ that counts as zero; default its rounding floor, measured.
        spectrum: with eigenvectors, if there is one.
        symmetries: tangents of symmetries of L; default those of a network.
        smooth: the caller's word that L has no kink where they cannot be looked for.

    Cost: two gradients; where the gradient is at its floor 200 products, a pass for the kinks,
    where one is met up to 120 gradients, and where there are zeros those of
    ``verified_null_space``.
    """
    theta = hessian.at
    gradient = hessian.objective.gradient(theta)
    evidence = _of_gradient(hessian.objective, theta, gradient, norm)
    if floor is not None:
        evidence = replace(evidence, gradient_floor=floor)
    vectors = None if spectrum is None else spectrum.eigenvectors
    if evidence.gradient_norm > evidence.gradient_floor and vectors is None:
        return Evidence(evidence)
    if spectrum is not None and vectors is not None:
        values, parts = spectrum.eigenvalues, spectrum.components(gradient.cpu())
        assert values is not None
        outside = np.abs(values) > tolerance
        length = float(np.linalg.norm(parts[outside] / values[outside]))
        left_out = float(np.linalg.norm(parts[~outside]))
    else:
        length, left_out = newton_lengths(hessian, gradient, tolerance)
    evidence = replace(evidence, newton_length=length)
    if not evidence.still:
        return Evidence(evidence)
    boundary = nearest_boundary(hessian.objective, theta, _reach(evidence, theta))
    evidence = _with_kinks(evidence, boundary, hessian, smooth)
    if evidence.broken:
        return Evidence(evidence, boundary)
    null = None
    certain = 0 if zeros is None else zeros.lower if zeros.confidence < 1.0 else zeros.estimate
    if certain:
        null = _null_space(hessian, symmetries)
        unresolved = _unresolved(hessian, null, certain, tolerance, spectrum)
        evidence = replace(evidence, unresolved=unresolved)
        if evidence.unresolved and evidence.gradient_norm == 0.0:
            evidence = replace(evidence, unresolved=_plateaus(hessian, null, tolerance, spectrum))
    elif left_out > gradient_rounding(hessian.objective, theta, gradient) and tolerance > 0:
        evidence = replace(evidence, left_out=left_out / tolerance)
    return Evidence(evidence, boundary, null)


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


def _reach(evidence: Criticality, theta: torch.Tensor) -> float:
    """Kinks as near as this are at θ itself, as far as can be told."""
    rounding = 16.0 * torch.finfo(theta.dtype).eps * (1.0 + evidence.parameter_norm)
    return 2.0 * evidence.newton_length + rounding


def _with_kinks(
    evidence: Criticality, boundary: Boundary, hessian: HessianOperator, smooth: bool
) -> Criticality:
    """What kinks at θ, or such as cannot be looked for, leave of the gradient."""
    reach = _reach(evidence, hessian.at)
    if boundary.distance <= reach:
        words = f"on a kink of {boundary.name}"
    elif not boundary.determined and not smooth:
        words = f"kinks cannot be looked for in {boundary.undetermined}"
    else:
        return evidence
    directions = boundary.directions
    if directions is None:
        directions = hessian.at.new_empty((0, len(hessian.at)))
    broken = broken_gradient(
        hessian.objective, hessian.at, directions, reach, evidence.gradient_floor
    )
    return replace(evidence, kinks=words, broken=f"{words}: {broken}" if broken else "")


def _null_space(hessian: HessianOperator, symmetries: Symmetries | None) -> NullSpace:
    if symmetries is not None:
        return verified_null_space(hessian.objective, hessian.at, symmetries)
    candidates = network_symmetries(hessian) if len(hessian.at) <= _DENSE_UP_TO else None
    return verified_null_space(hessian.objective, hessian.at, candidates, _COPIES)


def _unresolved(
    hessian: HessianOperator,
    null: NullSpace,
    zeros: int,
    tolerance: float,
    spectrum: Result | None,
) -> int:
    """How many zeros verified symmetries do not explain."""
    if spectrum is not None and spectrum.eigenvectors is not None:
        return int(np.sum(np.abs(null.beside(spectrum)[0]) <= tolerance))
    inside = int(null.idle.sum())
    if null.tangents.shape[1]:
        block = null.tangents.T @ hessian.apply(null.tangents)
        inside += int((torch.linalg.eigvalsh((block + block.T) / 2).abs() <= tolerance).sum())
    return max(0, zeros - inside)


def _plateaus(
    hessian: HessianOperator, null: NullSpace, tolerance: float, spectrum: Result | None
) -> int:
    """Unexplained null directions along which a gradient of exactly zero stays so.

    Along the others it is seen to be zero at θ alone, as that of x⁴ at 0 is; where it underflows,
    as that of exp(−x) does, it stays zero all around.
    """
    theta = hessian.at
    if spectrum is not None and spectrum.eigenvectors is not None:
        values, vectors = null.beside(spectrum)
        flat = vectors[:, np.abs(values) <= tolerance]
    elif len(theta) <= _FEW:
        flat = np.eye(len(theta))[:, ~null.idle.cpu().numpy()]
    else:
        return len(theta)
    step = _AWAY * (1.0 + float(torch.linalg.vector_norm(theta)))
    moved = [
        hessian.objective.gradient(theta + sign * step * torch.from_numpy(v.copy()).to(theta))
        for v in flat.T
        for sign in (1.0, -1.0)
    ]
    return sum(bool((gradient == 0).all()) for gradient in moved)
