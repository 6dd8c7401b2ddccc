"""Directions from all eigenvalues and eigenvectors: Newton, damped Newton, saddle-free Newton.

With H = Σ λⱼ vⱼvⱼᵀ and c = Vᵀg, a step is −Σ φ(λⱼ, d) cⱼ vⱼ. Without damping each filter φ is the
inverse, of λ or of |λ|, above the noise floor, and zero below it.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch

from hessscope.backends.exact import ExactBackend, symmetrise_
from hessscope.backends.measured_noise import solver_noise
from hessscope.errors import NonFiniteError, SolverError
from hessscope.operators import HessianOperator
from hessscope.options.refine import SearchOptions
from hessscope.refinement.directions import Curvature, Direction
from hessscope.refinement.points import Point
from hessscope.refinement.states import Filter, SpectralSteps


class Eigensystem(Curvature):
    """All eigenvalues and eigenvectors at one point; rows that are exactly zero are split off.

    Args:
        matrix: H, shape (n, n), symmetric.
        gradient: g, shape (n,), not zero.
        filter: φ of the eigenvalues.

    Raises:
        SolverError: the eigenvalue solver failed.
    """

    def __init__(self, matrix: torch.Tensor, gradient: torch.Tensor, filter: Filter) -> None:
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
        self._filter = filter
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
        coefficients = self._coefficients(gradient)
        return SpectralSteps(
            self.values, coefficients, self._lift, self._image, self._filter, self.floor
        )

    def newton_length(self, point: Point, hessian: HessianOperator, tau: float | None) -> float:
        """‖H⁺_τ g‖; the default τ is the noise floor."""
        outside = self.values.abs() > (self.floor if tau is None else tau)
        parts = self._coefficients(point.gradient)[outside] / self.values[outside]
        return float(torch.linalg.vector_norm(parts))


class SpectralDirection(Direction):
    """Assemble H and take it apart into eigenvalues and eigenvectors.

    Cost of a step: one ``to_dense`` and about 9n³ flops; memory 4n² numbers.
    """

    dense: ClassVar[bool] = True
    damped: ClassVar[bool] = True

    @abstractmethod
    def filter(self, values: torch.Tensor, damping: float, floor: float) -> torch.Tensor:
        """φ(λ, d); zero where λ is below the noise floor."""

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
        return Eigensystem(matrix, point.gradient, self.filter)


class Newton(SpectralDirection):
    """−(H² + d²)⁻¹Hg, which minimises ½‖g + Hp‖² + ½d²‖p‖² (Levenberg 1944)."""

    globalisation: ClassVar[str] = "natural"
    max_iterations: ClassVar[int] = 300

    def filter(self, values: torch.Tensor, damping: float, floor: float) -> torch.Tensor:
        """λ/(λ² + d²)."""
        size = torch.hypot(values, torch.full_like(values, damping))
        return torch.where(values.abs() > floor, values / size / size, torch.zeros_like(values))


@dataclass(frozen=True)
class DampedNewton(SpectralDirection):
    """The damped Newton step, so that more damping goes down in the merit.

    For descent in the loss it is −(H + d)⁻¹g (Dauphin et al. 2014, section 4), which goes down
    along every eigenvector once λ_min + d > 0. Where ‖g‖ is to fall, a negative λ is damped away
    from zero, too: with the same sign throughout, eigenvalues between −d and 0 would turn the step
    round, and it would no longer go down in ½‖g‖², whose slope along this one is −Σ|λ|c²/(|λ| + d).

    Attributes:
        descend: go down in the loss.
    """

    descend: bool = False

    @classmethod
    def of(cls, options: SearchOptions) -> DampedNewton:
        """For the merit of the search."""
        return cls(options.merit == "loss")

    def filter(self, values: torch.Tensor, damping: float, floor: float) -> torch.Tensor:
        """1/(λ + d), or 1/(λ ± d) with the sign of λ."""
        shift = torch.full_like(values, damping)
        moved = values + (shift if self.descend else torch.where(values < 0, -shift, shift))
        return torch.where(moved.abs() > floor, 1 / moved, torch.zeros_like(values))


class SaddleFreeNewton(SpectralDirection):
    """−(|H| + d)⁻¹g (Dauphin et al. 2014, equation 5)."""

    merit: ClassVar[str] = "loss"

    def filter(self, values: torch.Tensor, damping: float, floor: float) -> torch.Tensor:
        """1/(|λ| + d)."""
        return saddle_free(values, damping, floor)


def saddle_free(values: torch.Tensor, damping: float, floor: float) -> torch.Tensor:
    """1/(|λ| + d) above the floor, else zero."""
    moved = values.abs() + damping
    return torch.where(moved > floor, 1 / moved, torch.zeros_like(values))
