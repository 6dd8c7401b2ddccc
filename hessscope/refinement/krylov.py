"""Saddle-free Newton in a Krylov space: for networks whose Hessian does not fit.

Dauphin et al. 2014, algorithms 1 and 2. The space is spanned by Lanczos vectors from the gradient
and the previous step; in it |H| is exact, and several steps are taken by the same curvature.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from hessscope.backends.measured_noise import solver_noise
from hessscope.linalg.krylov import KrylovBasis, krylov_basis
from hessscope.operators import HessianOperator
from hessscope.options.refine import SearchOptions
from hessscope.refinement.directions import Curvature, Direction
from hessscope.refinement.newton import saddle_free
from hessscope.refinement.points import Point
from hessscope.refinement.states import SpectralSteps


class SubspaceCurvature(Curvature):
    """|H| in a Krylov space.

    Args:
        basis: the space and its image under H.
    """

    def __init__(self, basis: KrylovBasis) -> None:
        self._basis = basis
        self._values, self._vectors = torch.linalg.eigh(basis.restricted())
        self.norm = float(self._values.abs().max())
        # The first vector is that of the gradient.
        self.steepness = float(torch.linalg.vector_norm(basis.images[0]))
        # Ritz values below zero are a lower bound of the index, and no more: it stays unknown.
        self._floor = 2.0 * solver_noise(self._values.cpu().double().numpy(), self._values.dtype)

    def steps(self, gradient: torch.Tensor) -> SpectralSteps:
        """The steps within the space for a gradient, also one of another point."""
        coefficients = self._vectors.T @ (self._basis.vectors @ gradient)
        return SpectralSteps(
            self._values,
            coefficients,
            lambda weights: self._basis.vectors.T @ (self._vectors @ weights),
            lambda weights: self._basis.images.T @ (self._vectors @ weights),
            saddle_free,
            self._floor,
        )


@dataclass(frozen=True)
class KrylovSaddleFree(Direction):
    """−|Ĥ|⁻¹ĝ in a Krylov space, damped.

    Cost of a step: ``size`` products; memory 2·n·size numbers.

    Attributes:
        size: dimension of the space, the previous step included.
    """

    merit: ClassVar[str] = "loss"
    krylov_steps: ClassVar[int] = 50
    inner_steps: ClassVar[int] = 5
    damped: ClassVar[bool] = True

    size: int = krylov_steps

    @classmethod
    def of(cls, options: SearchOptions) -> KrylovSaddleFree:
        """Of ``krylov_steps`` dimensions."""
        return cls(options.krylov_steps or cls.krylov_steps)

    def memory_needed(self, theta: torch.Tensor) -> int:
        """Bytes of vectors and products."""
        return 2 * min(self.size, len(theta)) * len(theta) * theta.element_size()

    def curvature(
        self, point: Point, hessian: HessianOperator, previous_step: torch.Tensor
    ) -> SubspaceCurvature:
        """The space at the point."""
        return SubspaceCurvature(
            krylov_basis(hessian.matvec, point.gradient, self.size, previous_step)
        )
