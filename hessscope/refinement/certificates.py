"""Evidence that a point is close to a critical one."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Certificate:
    """What is known of the distance to a true critical point.

    Attributes:
        level: "kantorovich", "kantorovich-quotient" or "residual-only".
        reason: why it is no more than residual-only; empty otherwise.
        gradient_norm: ‖g‖.
        gradient_norm_relative: ‖g‖ over that of the start.
        gradient_floor: what rounding may leave of ‖g‖.
        flatness: ‖g − H H⁺_τ g‖ / ‖g‖, 1 at a gradient-flat point; NaN where it was not computed.
        newton_decrement: |g·H⁺_τ g|^½.
        newton_length: η = ‖H⁺_τ g‖, rounding of g included.
        inverse_norm: β = ‖H⁺_τ‖.
        lipschitz: K, an estimate (times its safety factor) of the Lipschitz constant of H.
        h: βKη; the theorem needs at most ½.
        radius: within which a true critical point lies, conditional on K.
    """

    level: str
    reason: str
    gradient_norm: float
    gradient_norm_relative: float
    gradient_floor: float
    flatness: float
    newton_decrement: float
    newton_length: float
    inverse_norm: float
    lipschitz: float
    h: float
    radius: float

    @property
    def certified(self) -> bool:
        """The Newton–Kantorovich theorem applies, conditional on K."""
        return self.level in ("kantorovich", "kantorovich-quotient")

    def as_dict(self) -> dict[str, Any]:
        """The form it has in JSON and in records."""
        return asdict(self)
