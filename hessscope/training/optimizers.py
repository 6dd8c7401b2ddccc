"""Optimizers: those of torch, those with noise of its own, and second-order ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import torch

from hessscope.options.train import TrainingOptions
from hessscope.training.perturbations import NoisySGD, PerturbedGradientDescent

Parameters = Iterable[torch.nn.Parameter]
Make = Callable[[Parameters, TrainingOptions, torch.Generator], torch.optim.Optimizer]


@dataclass(frozen=True)
class Optimizer:
    """An optimizer and its defaults.

    Attributes:
        title: in words.
        learning_rate: default step size; None where the damping sets the length of the steps.
        batch_size: default; "all" for methods that are meant for the whole gradient.
        uses: options that only some optimizers have.
        make: makes it, of parameters, options and a stream of random numbers; None for
            second-order methods (``second_order.direction_of``).
    """

    title: str
    learning_rate: float | None
    batch_size: int | str = 64
    uses: tuple[str, ...] = ()
    make: Make | None = field(default=None, repr=False)

    @property
    def second_order(self) -> bool:
        """Steps are computed from the Hessian."""
        return self.make is None


SGD = Optimizer(
    "stochastic gradient descent",
    0.1,
    make=lambda p, o, _: torch.optim.SGD(p, o.learning_rate),
)
MOMENTUM = Optimizer(
    "SGD with classical momentum",
    0.01,
    uses=("momentum",),
    make=lambda p, o, _: torch.optim.SGD(p, o.learning_rate, o.momentum),
)
NESTEROV = Optimizer(
    "SGD with Nesterov momentum",
    0.01,
    uses=("momentum",),
    make=lambda p, o, _: torch.optim.SGD(p, o.learning_rate, o.momentum, nesterov=True),
)
ADAM = Optimizer("Adam", 1e-3, make=lambda p, o, _: torch.optim.Adam(p, o.learning_rate))
ADAGRAD = Optimizer("Adagrad", 1e-2, make=lambda p, o, _: torch.optim.Adagrad(p, o.learning_rate))
NOISY_SGD = Optimizer(
    "noisy SGD",
    0.1,
    uses=("noise", "noise_shape"),
    make=lambda p, o, stream: NoisySGD(p, o.learning_rate, o.noise, o.noise_shape, stream),
)
PERTURBED_GD = Optimizer(
    "perturbed gradient descent",
    0.1,
    "all",
    ("perturbation_radius", "perturbation_threshold", "perturbation_interval"),
    lambda p, o, stream: PerturbedGradientDescent(
        p,
        o.learning_rate,
        o.perturbation_radius,
        o.perturbation_threshold,
        o.perturbation_interval,
        stream,
    ),
)
DAMPED_NEWTON = Optimizer("damped Newton", None, "all", ("damping",))
SFN = Optimizer("saddle-free Newton", None, "all", ("damping",))
KRYLOV_SFN = Optimizer(
    "Krylov saddle-free Newton", None, "all", ("damping", "krylov_dimension", "inner_steps")
)
