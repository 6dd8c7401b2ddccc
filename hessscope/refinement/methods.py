"""The methods by name, each with the globalisation and merit that it works best with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hessscope.refinement.directions import Direction
from hessscope.refinement.gradients import GradientDescent, GradientNormDescent
from hessscope.refinement.krylov import KrylovSaddleFree
from hessscope.refinement.newton import DAMPED_NEWTON, NEWTON, SADDLE_FREE_NEWTON
from hessscope.refinement.newton_mr import NewtonMR


@dataclass(frozen=True)
class Method:
    """A direction with its defaults.

    Attributes:
        direction: made for a number of products a step and for the name of a merit.
        globalisation: default.
        merit: default.
        max_iterations: default.
        krylov_steps: default number of products a step, where the direction has a choice.
        inner_steps: default number of steps by the same curvature.
    """

    direction: Callable[[int, str], Direction]
    globalisation: str
    merit: str
    max_iterations: int
    krylov_steps: int = 0
    inner_steps: int = 1


METHODS: dict[str, Method] = {
    "newton": Method(
        lambda size, merit: NEWTON,
        "natural",
        "gradient",
        300,
    ),
    "damped_newton": Method(
        lambda size, merit: DAMPED_NEWTON,
        "damping_search",
        "gradient",
        200,
    ),
    "sfn": Method(
        lambda size, merit: SADDLE_FREE_NEWTON,
        "damping_search",
        "loss",
        200,
    ),
    "krylov_sfn": Method(
        lambda size, merit: KrylovSaddleFree(size),
        "damping_search",
        "loss",
        200,
        krylov_steps=50,
        inner_steps=5,
    ),
    "newton_mr": Method(
        lambda size, merit: NewtonMR(size, descend=merit == "loss"),
        "backtracking",
        "gradient",
        200,
        krylov_steps=200,
    ),
    "gradient_norm": Method(
        lambda size, merit: GradientNormDescent(),
        "backtracking",
        "gradient",
        2000,
    ),
    "gradient_descent": Method(
        lambda size, merit: GradientDescent(),
        "backtracking",
        "loss",
        2000,
    ),
}
