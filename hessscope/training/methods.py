"""The optimisers by name: torch's own, and those that torch does not have."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from hessscope.training.noise import NOISES, NoisySGD, PerturbedGradientDescent

if TYPE_CHECKING:
    from hessscope.training.options import TrainingOptions

Parameters = Iterable[torch.nn.Parameter]
Make = Callable[[Parameters, "TrainingOptions", torch.Generator], torch.optim.Optimizer]


@dataclass(frozen=True)
class Method:
    """An optimiser and its defaults.

    Attributes:
        title: in words.
        learning_rate: default step size; None where the damping sets the length of the steps.
        batch_size: default; "all" for methods that are meant for the whole gradient.
        uses: options that only some methods have.
        make: makes it, of parameters, options and a stream of random numbers; None for
            second-order methods (``second_order.direction_of``).
    """

    title: str
    learning_rate: float | None
    batch_size: int | str = 64
    uses: tuple[str, ...] = ()
    make: Make | None = None

    @property
    def second_order(self) -> bool:
        """Steps are computed from the Hessian."""
        return self.make is None


METHODS: dict[str, Method] = {
    "sgd": Method(
        "stochastic gradient descent", 0.1,
        make=lambda p, o, _: torch.optim.SGD(p, o.step_size),
    ),
    "momentum": Method(
        "SGD with classical momentum", 0.01, uses=("momentum",),
        make=lambda p, o, _: torch.optim.SGD(p, o.step_size, o.momentum),
    ),
    "nesterov": Method(
        "SGD with Nesterov momentum", 0.01, uses=("momentum",),
        make=lambda p, o, _: torch.optim.SGD(p, o.step_size, o.momentum, nesterov=True),
    ),
    "adam": Method(
        "Adam", 1e-3,
        make=lambda p, o, _: torch.optim.Adam(p, o.step_size),
    ),
    "adagrad": Method(
        "Adagrad", 1e-2,
        make=lambda p, o, _: torch.optim.Adagrad(p, o.step_size),
    ),
    "noisy_sgd": Method(
        "noisy SGD", 0.1, uses=("noise", "noise_shape"),
        make=lambda p, o, g: NoisySGD(p, o.step_size, o.noise, o.noise_shape, g),
    ),
    "perturbed_gd": Method(
        "perturbed gradient descent", 0.1, batch_size="all",
        uses=("perturbation_radius", "perturbation_threshold", "perturbation_interval"),
        make=lambda p, o, g: PerturbedGradientDescent(
            p, o.step_size, o.perturbation_radius, o.perturbation_threshold,
            o.perturbation_interval, g,
        ),
    ),
    "damped_newton": Method(
        "damped Newton", None, batch_size="all", uses=("damping",),
    ),
    "sfn": Method(
        "saddle-free Newton", None, batch_size="all", uses=("damping",),
    ),
    "krylov_sfn": Method(
        "Krylov saddle-free Newton", None, batch_size="all",
        uses=("damping", "krylov_dimension", "inner_steps"),
    ),
}  # fmt: skip

_SHORT = {
    "perturbed_gradient_descent": "perturbed_gd",
    "pgd": "perturbed_gd",
    "saddle_free_newton": "sfn",
    "krylov_saddle_free_newton": "krylov_sfn",
}

__all__ = ["METHODS", "NOISES", "Method", "canonical"]


def canonical(name: str) -> str:
    """The name as it stands in ``METHODS``: hyphens and short forms are understood."""
    plain = name.strip().lower().replace("-", "_")
    return _SHORT.get(plain, plain)
