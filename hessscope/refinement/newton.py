"""Directions from all eigenvalues and eigenvectors: Newton, damped Newton, saddle-free Newton.

With H = Σ λⱼ vⱼvⱼᵀ and c = Vᵀg, a step is −Σ φ(λⱼ, d) cⱼ vⱼ. Without damping each filter φ is the
inverse, of λ or of |λ|, above the noise floor, and zero below it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch

from hessscope.backends.exact import ExactBackend, symmetrise_
from hessscope.backends.noise import solver_noise
from hessscope.errors import NonFiniteError, SolverError
from hessscope.operators import HessianOperator
from hessscope.refinement.points import Point
from hessscope.refinement.steps import Filter, SpectralSteps

FilterFamily = Callable[[float], Filter]


def levenberg(floor: float) -> Filter:
    """λ/(λ² + d²): the step −(H² + d²)⁻¹Hg minimises ½‖g + Hp‖² + ½d²‖p‖² (Levenberg 1944)."""

    def filter(values: torch.Tensor, damping: float) -> torch.Tensor:
        size = torch.hypot(values, torch.full_like(values, damping))
        return torch.where(values.abs() > floor, values / size / size, torch.zeros_like(values))

    return filter


def shifted_outwards(floor: float) -> Filter:
    """1/(λ ± d), the sign that of λ: the damped Newton step.

    Where λ > 0 it is that of Dauphin et al. 2014, section 4. A negative λ is damped away from zero,
    too: with the same sign throughout, eigenvalues between −d and 0 would turn the step round, and
    it would no longer go down in ½‖g‖², whose slope along this one is −Σ|λ|c²/(|λ| + d).
    """

    def filter(values: torch.Tensor, damping: float) -> torch.Tensor:
        outwards = torch.full_like(values, damping)
        moved = values + torch.where(values < 0, -outwards, outwards)
        return torch.where(moved.abs() > floor, 1 / moved, torch.zeros_like(values))

    return filter


def saddle_free(floor: float) -> Filter:
    """1/(|λ| + d): the saddle-free Newton step (Dauphin et al. 2014, equation 5)."""

    def filter(values: torch.Tensor, damping: float) -> torch.Tensor:
        moved = values.abs() + damping
        return torch.where(moved > floor, 1 / moved, torch.zeros_like(values))

    return filter


class Eigensystem:
    """All eigenvalues and eigenvectors at one point; rows that are exactly zero are split off.

    Args:
        matrix: H, shape (n, n), symmetric.
        gradient: g, shape (n,), not zero.
        family: makes the filter for a noise floor.
        damped: more damping makes its steps shorter.

    Raises:
        SolverError: the eigenvalue solver failed.
    """

    def __init__(
        self, matrix: torch.Tensor, gradient: torch.Tensor, family: FilterFamily, damped: bool
    ) -> None:
        nonzero = (matrix != 0).any(1)
        self._live, self._dead = nonzero.nonzero()[:, 0], (~nonzero).nonzero()[:, 0]
        if len(self._dead):
            matrix = matrix[self._live][:, self._live]
        try:
            values, self._vectors = torch.linalg.eigh(matrix)
        except torch.linalg.LinAlgError as error:
            raise SolverError(f"the eigenvalue solver failed: {error}") from error
        # A zero row is an eigenvalue zero with a unit vector.
        self.values = torch.cat([values, values.new_zeros(len(self._dead))])
        self._family, self._damped = family, damped
        self.norm = float(values.abs().max()) if len(values) else 0.0
        self.floor = 2.0 * solver_noise(values.cpu().double().numpy(), values.dtype)
        self.index = int((values < -self.floor).sum())
        unit = gradient / torch.linalg.vector_norm(gradient)  # ‖Hg‖ may underflow
        self.steepness = float(torch.linalg.vector_norm(self.values * self._coefficients(unit)))

    def _lift(self, weights: torch.Tensor) -> torch.Tensor:
        result = torch.empty_like(weights)
        count = len(self._live)
        result[self._live] = self._vectors @ weights[:count]
        result[self._dead] = weights[count:]
        return result

    def _image(self, weights: torch.Tensor) -> torch.Tensor:
        return self._lift(self.values * weights)

    def _coefficients(self, gradient: torch.Tensor) -> torch.Tensor:
        return torch.cat([self._vectors.T @ gradient[self._live], gradient[self._dead]])

    def steps(self, gradient: torch.Tensor) -> SpectralSteps:
        """The filtered steps for a gradient."""
        coefficients, family = self._coefficients(gradient), self._family(self.floor)
        return SpectralSteps(
            self.values, coefficients, self._lift, self._image, family, self._damped
        )

    def inverse_norm(self, vector: torch.Tensor, tolerance: float) -> float:
        """‖H⁺_τ v‖."""
        outside = self.values.abs() > tolerance
        parts = self._coefficients(vector)[outside] / self.values[outside]
        return float(torch.linalg.vector_norm(parts))


@dataclass(frozen=True)
class SpectralDirection:
    """Assemble H and take it apart into eigenvalues and eigenvectors.

    Cost of a step: one ``to_dense`` and about 9n³ flops; memory 4n² numbers.

    Attributes:
        family: the filter of the eigenvalues.
        damped: more damping makes its steps shorter.
    """

    family: FilterFamily
    damped: bool = True
    dense: ClassVar[bool] = True
    few_products: ClassVar[bool] = False

    def memory_needed(self, theta: torch.Tensor) -> int:
        """Bytes of the matrix, its eigenvectors and the solver's workspace."""
        exact = ExactBackend(eigenvectors=True)
        return exact.memory_needed(len(theta), theta.dtype, theta.device)

    def curvature(
        self, point: Point, hessian: HessianOperator, previous_step: torch.Tensor
    ) -> Eigensystem:
        """Eigenvalues and eigenvectors of H at the point."""
        matrix = hessian.to_dense()
        if not bool(torch.isfinite(matrix).all()):
            raise NonFiniteError("the Hessian has NaN or infinite entries at this point")
        symmetrise_(matrix)
        return Eigensystem(matrix, point.gradient, self.family, self.damped)


NEWTON = SpectralDirection(levenberg)
DAMPED_NEWTON = SpectralDirection(shifted_outwards)
SADDLE_FREE_NEWTON = SpectralDirection(saddle_free)
