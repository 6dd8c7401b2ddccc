"""Evidence that a true critical point is near: the Newton–Kantorovich theorem.

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
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import scipy.linalg
import torch

from hessscope.objective import EmpiricalRisk
from hessscope.operators import HessianOperator
from hessscope.refinement.boundaries import nearest_boundary
from hessscope.refinement.lipschitz import lipschitz_estimate
from hessscope.refinement.null_spaces import Symmetries, verified_null_space
from hessscope.refinement.symmetries import network_symmetries
from hessscope.spectra import Criticality, SpectralDensity, Spectrum

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
        return asdict(self)


def certify(
    bare: Certificate,
    hessian: HessianOperator,
    gradient: torch.Tensor,
    spectrum: Spectrum | SpectralDensity,
    criticality: Criticality,
    tolerance: float,
    symmetries: Symmetries | None,
) -> Certificate:
    """Add to a certificate what the spectrum says.

    Args:
        bare: with the gradient norms, and the rounding floor that was measured.
        hessian: H at θ.
        gradient: g.
        spectrum: of H; the theorem needs an exact one, and for symmetries its eigenvectors.
        criticality: the two-part test of ∇L = 0.
        tolerance: τ.
        symmetries: tangents of symmetries of L as a function of θ, to be verified; None for
            those that a network has by its modules and its data.
    """
    known = replace(bare, newton_length=criticality.newton_length)
    kinks = ""
    if isinstance(hessian.objective, EmpiricalRisk):
        nearest = nearest_boundary(hessian.objective, hessian.at)
        known = replace(known, boundary_distance=nearest.distance)
        if not nearest.determined:
            kinks = f"the distance to the nearest kink of {nearest.undetermined} is not known"
    if isinstance(spectrum, Spectrum):
        known = _with_eigenvectors(known, spectrum, gradient, tolerance)
    if not criticality.critical:
        return replace(known, reason="the point did not pass the test of a critical point")
    directions = _promising(spectrum, gradient, hessian)
    known = replace(known, lipschitz=SAFETY * lipschitz_estimate(hessian, directions))
    if kinks:
        return replace(known, reason=kinks)
    if isinstance(spectrum, SpectralDensity):
        return replace(known, reason="‖H⁺‖ is not known: it takes the exact spectrum")
    values, length = spectrum.eigenvalues, criticality.newton_length
    if float(np.abs(values).min()) <= tolerance:
        if spectrum.eigenvectors is None:
            return replace(known, reason=_without_vectors(values, tolerance))
        candidates = network_symmetries(hessian) if symmetries is None else symmetries
        null, note = verified_null_space(hessian.objective, hessian.at, candidates)
        values, length = _in_complement(spectrum, gradient, null, length)
        known = replace(known, symmetries=null.shape[1])
        zeros = int(np.sum(np.abs(values) <= tolerance))
        if zeros:
            return replace(known, reason=_unexplained(zeros, null.shape[1], note))
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
    return replace(known, h=h, radius=radius, level=level, reason=reason)


def _with_eigenvectors(
    known: Certificate, spectrum: Spectrum, gradient: torch.Tensor, tolerance: float
) -> Certificate:
    """Gradient-flatness and Newton decrement."""
    if spectrum.eigenvectors is None or known.gradient_norm == 0.0:
        return known
    coefficients = spectrum.components(gradient.cpu())
    sizes = np.abs(spectrum.eigenvalues)
    outside = sizes > tolerance
    flatness = float(np.linalg.norm(coefficients[~outside])) / known.gradient_norm
    decrement = math.sqrt(float(np.sum(coefficients[outside] ** 2 / sizes[outside])))
    return replace(known, flatness=flatness, newton_decrement=decrement)


def _in_complement(
    spectrum: Spectrum, gradient: torch.Tensor, null: torch.Tensor, length: float
) -> tuple[np.ndarray, float]:
    """Eigenvalues of H in the complement of N, and the length of the Newton step there."""
    vectors = spectrum.eigenvectors
    if not null.shape[1] or vectors is None:
        return spectrum.eigenvalues, length
    n, m = null.shape
    if n == m:
        return np.empty(0), 0.0
    complete = np.linalg.qr(null.cpu().double().numpy(), mode="complete")[0][:, m:]
    turned = complete.T @ vectors
    values, inner = scipy.linalg.eigh((turned * spectrum.eigenvalues) @ turned.T)
    coefficients = inner.T @ (complete.T @ gradient.cpu().double().numpy())
    with np.errstate(divide="ignore", invalid="ignore"):
        return values, float(np.linalg.norm(np.nan_to_num(coefficients / values)))


def _promising(
    spectrum: Spectrum | SpectralDensity, gradient: torch.Tensor, hessian: HessianOperator
) -> list[torch.Tensor]:
    """Directions in which K is looked for first: Newton step and extreme eigenvectors, or g."""
    if isinstance(spectrum, SpectralDensity) or spectrum.eigenvectors is None:
        return [gradient]
    vectors, values = spectrum.eigenvectors, spectrum.eigenvalues
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
