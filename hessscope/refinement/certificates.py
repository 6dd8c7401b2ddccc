"""Certificates of a critical point nearby, by the Newton–Kantorovich theorem.

Let β = ‖H(θ)⁻¹‖, η = ‖H(θ)⁻¹g(θ)‖, and H Lipschitz with constant K near θ. If h = βKη ≤ ½, then g
has a zero within 2η / (1 + √(1 − 2h)) of θ (Kantorovich 1948; Ortega & Rheinboldt 1970, theorem
12.6.2). β and η are taken with their rounding: the smallest |λ| less δ, and g known to within its
rounding floor. K is an estimate times a safety factor, so the statement is conditional on K; it is
looked for over a distance that suits the arithmetic, and again over the radius that follows.

Where L has continuous symmetries H is singular at every critical point. With the tangents N of
verified symmetries, the theorem is applied to L on the plane θ + N^⊥: at its critical point θ*
∇L lies in N, and it is orthogonal to the tangents at θ*; as these differ little from N within so
small a radius, ∇L(θ*) = 0. That is the level "kantorovich-quotient".
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch

from hessscope.criticality.evidence import Evidence
from hessscope.objective.boundaries import nearest_boundary
from hessscope.operators import HessianOperator
from hessscope.refinement.lipschitz import lipschitz_estimate
from hessscope.spectra import Result

SAFETY = 2.0
CERTIFIED = ("kantorovich", "kantorovich-quotient")
"""Levels at which the Newton–Kantorovich theorem applies."""


@dataclass(frozen=True)
class Certificate:
    """What is known of the distance to a true critical point.

    Attributes:
        level: "kantorovich", "kantorovich-quotient" (beside verified symmetries) or
            "residual-only".
        reason: what the statement is conditional on, or why there is none.
        gradient_norm: ‖g‖.
        gradient_norm_relative: ‖g‖ over that of the start.
        gradient_floor: what rounding may leave of ‖g‖; NaN where it was not measured.
        flatness: ‖g − H H⁺_τ g‖ / ‖g‖, 1 at a gradient-flat point; NaN where it was not computed.
        newton_decrement: (g·|H|⁺_τ g)^½; NaN where it was not computed.
        newton_length: η, ‖H⁺_τ g‖ with the rounding of g.
        inverse_norm: β, ‖H⁺_τ‖, in the complement of the symmetries.
        symmetries: dimension of what verified symmetries span.
        lipschitz: K, with its safety factor of 2.
        h: βKη; the theorem needs at most ½.
        radius: within which there is a true critical point, conditional on K.
        boundary_distance: to the nearest kink of an activation, to first order in θ; infinite
            where there is none, NaN where it was not looked for.
        symmetry_error: up to what part of ‖∇L‖ the symmetries are verified.
        stated: where kinks cannot be looked for, and the caller states that there are none.
    """

    level: str
    reason: str
    gradient_norm: float
    gradient_norm_relative: float
    gradient_floor: float = math.nan
    flatness: float = math.nan
    newton_decrement: float = math.nan
    newton_length: float = math.nan
    inverse_norm: float = math.nan
    symmetries: int = 0
    lipschitz: float = math.nan
    h: float = math.nan
    radius: float = math.nan
    boundary_distance: float = math.nan
    symmetry_error: float = 0.0
    stated: str = ""

    @property
    def certified(self) -> bool:
        """The Newton–Kantorovich theorem applies, conditional on K."""
        return self.level in CERTIFIED

    @property
    def eigenvalue_error(self) -> float:
        """How far eigenvalues at the true critical point may be from those here: K times the
        distance, which is the radius or else, as a guess, two Newton steps. 0 where K is unknown.
        """
        if math.isnan(self.lipschitz):
            return 0.0
        distance = self.radius if self.certified else 2.0 * self.newton_length
        return self.lipschitz * distance

    def as_dict(self) -> dict[str, Any]:
        """The form it has in JSON and in records."""
        return {**asdict(self), "certified": self.certified}

    @classmethod
    def from_dict(cls, facts: Mapping[str, Any]) -> Certificate:
        """Make it of that form."""
        return cls(**{name: value for name, value in facts.items() if name != "certified"})


def certify(
    bare: Certificate,
    hessian: HessianOperator,
    gradient: torch.Tensor,
    spectrum: Result,
    evidence: Evidence,
    tolerance: float,
    smooth: bool = False,
) -> Certificate:
    """Complete a certificate by the spectrum.

    Args:
        bare: with the gradient norms, and the rounding floor that was measured.
        hessian: H at θ.
        gradient: g.
        spectrum: of H; the theorem needs all eigenvalues, and for symmetries eigenvectors.
        evidence: for ∇L = 0, with the nearest kink and the verified symmetries.
        tolerance: τ.
        smooth: the caller's word that L has no kink where they cannot be looked for.
    """
    criticality, null = evidence.criticality, evidence.null
    boundary = evidence.boundary or nearest_boundary(hessian.objective, hessian.at)
    stated = "" if boundary.determined or not smooth else boundary.undetermined
    known = replace(
        bare,
        newton_length=criticality.newton_length,
        boundary_distance=boundary.distance,
        stated=stated,
    )
    known = _with_eigenvectors(known, spectrum, gradient, tolerance)
    if not criticality.still or criticality.broken:
        return replace(known, reason="the point did not pass the test of a critical point")
    if hessian.way != "exact":
        reason = "K takes second derivatives, and products were differences of gradients"
        return replace(known, reason=reason)
    directions = _promising(spectrum, gradient, hessian)
    known = replace(known, lipschitz=SAFETY * lipschitz_estimate(hessian, directions))
    if not boundary.determined and not smooth:
        return replace(known, reason=f"kinks cannot be looked for in {boundary.undetermined}")
    if spectrum.eigenvalues is None:
        return replace(known, reason="‖H⁺‖ is not known: it takes the exact spectrum")
    values, length = spectrum.eigenvalues, criticality.newton_length
    if null is not None:
        if spectrum.eigenvectors is None:
            return replace(known, reason=_without_vectors(values, tolerance))
        values, vectors = null.beside(spectrum)
        with np.errstate(divide="ignore", invalid="ignore"):
            parts = np.nan_to_num(vectors.T @ gradient.cpu().double().numpy() / values)
        length = float(np.linalg.norm(parts))
        known = replace(known, symmetries=null.size, symmetry_error=null.error)
        zeros = int(np.sum(np.abs(values) <= tolerance))
        if zeros:
            return replace(known, reason=_unexplained(zeros, null.size, null.note))
    smallest = float(np.abs(values).min()) if len(values) else math.inf
    rounding = spectrum.noise_floor.total
    if smallest <= rounding:
        reason = f"the smallest |λ|, {smallest:.2g}, is below its noise floor {rounding:.2g}"
        return replace(known, reason=reason)
    inverse = 1.0 / (smallest - rounding)
    if spectrum.eigenvectors is None:  # then the length is an estimate from below
        length = inverse * known.gradient_norm
    length += inverse * known.gradient_floor
    known = _apply_theorem(replace(known, newton_length=length, inverse_norm=inverse))
    if not known.certified:
        return known
    closer = lipschitz_estimate(hessian, directions, distance=known.radius, random=0)
    return _apply_theorem(replace(known, lipschitz=max(known.lipschitz, SAFETY * closer)))


def _apply_theorem(known: Certificate) -> Certificate:
    """Fill in h, radius and level."""
    known = replace(known, level="residual-only", radius=math.nan)
    h = known.inverse_norm * known.lipschitz * known.newton_length
    if not h <= 0.5:
        reason = f"h = βKη = {h:.3g} is above ½"
        if math.isfinite(known.boundary_distance):
            reason += (
                f", with an activation's kink at a distance of {known.boundary_distance:.2g}, "
                "which may have met the estimate of K"
            )
        return replace(known, h=h, reason=reason)
    radius = 2.0 * known.newton_length / (1.0 + math.sqrt(1.0 - 2.0 * h))
    if known.boundary_distance <= radius:
        return replace(
            known,
            h=h,
            radius=radius,
            reason=f"the loss is not twice differentiable within the radius {radius:.2g}: an "
            f"activation has a kink at a distance of {known.boundary_distance:.2g}",
        )
    level = "kantorovich-quotient" if known.symmetries else "kantorovich"
    reason = f"conditional on K = {known.lipschitz:.3g} (twice the largest value found)"
    if known.symmetries:
        reason += f", on symmetries that hold to {known.symmetry_error:.2g} of the gradient"
    if known.stated:
        reason += f", and on the statement that the loss is smooth in {known.stated}"
    return replace(known, h=h, radius=radius, level=level, reason=reason)


def _with_eigenvectors(
    known: Certificate, spectrum: Result, gradient: torch.Tensor, tolerance: float
) -> Certificate:
    """Gradient-flatness and Newton decrement."""
    values = spectrum.eigenvalues
    if values is None or spectrum.eigenvectors is None or known.gradient_norm == 0.0:
        return known
    coefficients, sizes = spectrum.components(gradient.cpu()), np.abs(values)
    outside = sizes > tolerance
    flatness = float(np.linalg.norm(coefficients[~outside])) / known.gradient_norm
    decrement = math.sqrt(float(np.sum(coefficients[outside] ** 2 / sizes[outside])))
    return replace(known, flatness=flatness, newton_decrement=decrement)


def _promising(
    spectrum: Result, gradient: torch.Tensor, hessian: HessianOperator
) -> list[torch.Tensor]:
    """Directions in which K is looked for first: Newton step and extreme eigenvectors, or g."""
    vectors, values = spectrum.eigenvectors, spectrum.eigenvalues
    if values is None or vectors is None:
        return [gradient]
    outside = np.abs(values) > 2.0 * spectrum.noise_floor.total
    coefficients = spectrum.components(gradient.cpu())
    step = vectors[:, outside] @ (coefficients[outside] / values[outside])
    found = (step, vectors[:, 0], vectors[:, -1])
    return [torch.from_numpy(vector.copy()).to(hessian.at) for vector in found]


def _without_vectors(values: np.ndarray, tolerance: float) -> str:
    zeros = int(np.sum(np.abs(values) <= tolerance))
    return (
        f"H is singular: {zeros} eigenvalues within ±τ. Whether symmetries explain them takes "
        f"eigenvectors, which are not computed for n = {len(values):,}"
    )


def _unexplained(zeros: int, symmetries: int, note: str) -> str:
    beside = f" beside the {symmetries} directions of verified symmetries" if symmetries else ""
    return (
        f"H is singular: {zeros} eigenvalues within ±τ{beside} are not explained by verified "
        "symmetries" + (f" ({note})" if note else "")
    )
