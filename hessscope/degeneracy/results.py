"""What an attribution of the degeneracy says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hessscope.spectra.inertia import CountInterval


@dataclass(frozen=True)
class Cause:
    """Null directions that have one cause.

    Attributes:
        name: one of ``causes.ORDER``.
        description: how many of what, and where.
        directions: dimension of the space that the cause makes, counted for itself.
        new: dimension of what is null in it within the tolerance and independent of all causes
            before.
        residual: ‖H V‖₂, V an orthonormal basis of the new directions; where there are none, of
            those that were tried.
        identity: for a symmetry with fields X, the largest ‖H X + (DX)ᵀ g‖ / ‖X‖, which is zero
            at every θ but for rounding; for other causes the residual.
        evidence: "each direction" was multiplied with H; "random combinations" bound the residual
            with probability 1 − 10⁻¹⁰; "random products" show zero rows with probability 1.
    """

    name: str
    description: str
    directions: int
    new: int
    residual: float
    identity: float
    evidence: str


@dataclass(frozen=True)
class DegeneracyAttribution:
    """Why eigenvalues are zero: how many have which cause.

    At least ``explained`` eigenvalues are within ±``residual``, and so within ±``tolerance``; the
    causes are counted one after the other, each direction once.

    Attributes:
        causes: in the order in which they were counted.
        tolerance: τ.
        degeneracy: number of eigenvalues within ±τ, from the spectrum.
        residual: ‖H V‖₂, V an orthonormal basis of all that is explained; at most τ.
        hvps: Hessian-vector products used.
        notes: what could not be searched, or does not fit together.
    """

    causes: tuple[Cause, ...]
    tolerance: float
    degeneracy: CountInterval
    residual: float
    hvps: int
    notes: tuple[str, ...] = ()

    @property
    def explained(self) -> int:
        """Independent null directions whose cause is known: a lower bound of the degeneracy."""
        return sum(cause.new for cause in self.causes)

    @property
    def unexplained(self) -> CountInterval:
        """What is left of the degeneracy, with its interval."""
        count, known = self.degeneracy, self.explained
        return CountInterval(
            max(count.lower - known, 0),
            max(count.estimate - known, 0),
            max(count.upper - known, 0),
            count.confidence,
        )

    def as_dict(self) -> dict[str, Any]:
        """The form it has in JSON and in records; the causes by columns."""
        names = ("name", "description", "directions", "new", "residual", "identity", "evidence")
        return {
            "explained": self.explained,
            "unexplained": self.unexplained.as_dict(),
            "degeneracy": self.degeneracy.as_dict(),
            "tolerance": self.tolerance,
            "residual": self.residual,
            "hvps": self.hvps,
            "notes": list(self.notes),
            "causes": {name: [getattr(cause, name) for cause in self.causes] for name in names},
        }

    def summary(self) -> str:
        """One line: "2,498 of 2,667: 1,675 dead inputs x units; …; 169 unexplained"."""
        parts = [f"{cause.new:,} {cause.name}" for cause in self.causes if cause.new]
        parts.append(f"{self.unexplained} unexplained")
        return f"{self.explained:,} of {self.degeneracy}: {'; '.join(parts)}"
