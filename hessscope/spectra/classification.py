"""What kind of point it is; said of critical points only."""

from __future__ import annotations

from dataclasses import dataclass

from hessscope.spectra.inertia import CountInterval, Inertia

NEWTON_STEP_LIMIT = 1e-8


@dataclass(frozen=True)
class Criticality:
    """Evidence for or against ∇L = 0.

    Attributes:
        gradient_norm: ‖g‖.
        gradient_floor: what rounding alone may leave of ‖g‖, measured.
        newton_length: ‖H⁺_τ g‖, how far a Newton step would go; NaN where ‖g‖ is above its floor
            (it was not needed).
        parameter_norm: ‖θ‖.
        unresolved: number of eigenvalues within ±τ that no verified symmetry explains: along these
            H⁺_τ says nothing, and rounding hides whether ∇L vanishes nearby.
        left_out: what H⁺_τ leaves out adds at least so much to a Newton step, ‖g_out‖/τ; only
            what is above the gradient's own rounding counts.
        broken: why L has no gradient at θ, in words; empty where it has one.
        kinks: why H does not describe L all around θ, or may not, in words; empty where it does.
    """

    gradient_norm: float
    gradient_floor: float
    newton_length: float
    parameter_norm: float
    unresolved: int = 0
    left_out: float = 0.0
    broken: str = ""
    kinks: str = ""

    @property
    def limit(self) -> float:
        """1e-8 (1 + ‖θ‖): the length of a Newton step that counts as none."""
        return NEWTON_STEP_LIMIT * (1.0 + self.parameter_norm)

    @property
    def still(self) -> bool:
        """‖g‖ at its rounding floor and ‖H⁺_τ g‖ ≤ 1e-8 (1 + ‖θ‖).

        The second part is needed since on separable data the gradient vanishes towards a point at
        infinity, while Newton steps keep their length.
        """
        return self.gradient_norm <= self.gradient_floor and self.newton_length <= self.limit

    @property
    def flat(self) -> bool:
        """Still, but in directions in which τ hides the curvature it may go on, even for ever."""
        hidden = self.unresolved > 0 or self.left_out > self.limit
        return self.still and not self.broken and hidden

    @property
    def critical(self) -> bool:
        """Still, L has a gradient here, and nothing is hidden within ±τ."""
        return self.still and not self.broken and not self.flat

    @property
    def hidden(self) -> str:
        """What is hidden within ±τ, in words."""
        if self.unresolved:
            several = "eigenvalue" if self.unresolved == 1 else "eigenvalues"
            return (
                f"{self.unresolved:,} {several} within ±τ that no verified symmetry explains: "
                "whether the gradient vanishes there is below rounding"
            )
        return f"curvature within ±τ leaves a Newton step of at least {self.left_out:.3g}"


def classify(inertia: Inertia, criticality: Criticality) -> str:
    """Name the point by the signs that the intervals establish, or say why it has no name.

    "strict saddle" is said where there are both signs and it is open whether there are zeros.
    """
    if criticality.still and criticality.broken:
        return f"not differentiable ({criticality.broken})"
    if criticality.flat:
        return f"flat at the tolerance ({criticality.hidden})"
    if not criticality.critical:
        reason = f"gradient norm {criticality.gradient_norm:.3g}"
        if criticality.gradient_norm <= criticality.gradient_floor:
            reason += f" is at rounding, but a Newton step has {criticality.newton_length:.3g}"
        return f"not a critical point ({reason})"
    if criticality.kinks:
        return f"critical point of no known kind ({criticality.kinks})"
    down, flat, up = (_present(c) for c in (inertia.negative, inertia.zero, inertia.positive))
    if down and up:
        return {True: "degenerate saddle", False: "saddle", None: "strict saddle"}[flat]
    if flat is False and down is False:
        return "minimum"
    if flat is False and up is False:
        return "maximum"
    if flat and (down is False or up is False):
        return "undecided to second order"
    return "undecided at this tolerance"


def _present(count: CountInterval) -> bool | None:
    """Whether there are such eigenvalues at all; None where the interval leaves it open."""
    if count.lower > 0:
        return True
    return False if count.upper == 0 else None
