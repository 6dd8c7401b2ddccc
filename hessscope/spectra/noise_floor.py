"""The noise floor δ of a computed spectrum, by its parts."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class NoiseFloor:
    """How far a computed eigenvalue may be from the true one; each part was measured.

    Attributes:
        solver: rounding of the eigenvalue solver, a multiple of eps·‖H‖_F.
        operator: what rounding does to the matrix or to its products, in the 2-norm: a multiple of
            the largest difference between the solved operator and products in randomised
            arithmetic.
    """

    solver: float
    operator: float

    @property
    def total(self) -> float:
        """δ: by Weyl's inequality the errors of matrix and solver add up."""
        return self.solver + self.operator
