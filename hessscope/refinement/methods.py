"""The methods by name, each with the globalisation and merit that it works best with."""

from __future__ import annotations

from dataclasses import dataclass

from hessscope.refinement.directions import Direction
from hessscope.refinement.gradients import GradientDescent, GradientNormDescent
from hessscope.refinement.newton import DAMPED_NEWTON, NEWTON, SADDLE_FREE_NEWTON


@dataclass(frozen=True)
class Method:
    """A direction with its defaults.

    Attributes:
        direction: how steps are made.
        globalisation: default.
        merit: default.
        max_iterations: default.
        summary: one line, for help texts.
    """

    direction: Direction
    globalisation: str
    merit: str
    max_iterations: int
    summary: str


METHODS: dict[str, Method] = {
    "newton": Method(
        NEWTON, "trust_region", "gradient", 200, "to a critical point of any index; dense"
    ),
    "damped_newton": Method(
        DAMPED_NEWTON, "damping_search", "gradient", 200, "as in the 2014 paper; dense"
    ),
    "saddle_free_newton": Method(
        SADDLE_FREE_NEWTON, "damping_search", "loss", 200, "down, past saddles; dense"
    ),
    "gradient_norm": Method(
        GradientNormDescent(), "backtracking", "gradient", 2000, "descent in ‖g‖²; matrix-free"
    ),
    "gradient_descent": Method(
        GradientDescent(), "backtracking", "loss", 2000, "baseline; matrix-free"
    ),
}
