"""Optimizers: those of torch, those with noise of its own, and second-order ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import torch
from torch.optim import SGD as _SGD

from hessscope.training.first_order import NoisySGD, PerturbedGradientDescent


@dataclass(frozen=True)
class Optimizer:
    """An optimizer and its defaults.

    Attributes:
        title: in words.
        learning_rate: default step size; None where the damping sets the length of the steps.
        uses: options that only some optimizers have.
        batch_size: default; "all" for methods that are meant for the whole gradient.
        kind: called with the parameters, the step size, and by name the options that it uses;
            None for second-order methods (``second_order.direction_of``).
        draws: it is also given a stream of random numbers, ``generator``.
    """

    title: str
    learning_rate: float | None
    uses: tuple[str, ...] = ()
    batch_size: int | str = 64
    kind: Callable[..., torch.optim.Optimizer] | None = field(default=None, repr=False)
    draws: bool = False

    @property
    def second_order(self) -> bool:
        """Steps are computed from the Hessian."""
        return self.kind is None


SGD = Optimizer("stochastic gradient descent", 0.1, kind=_SGD)
MOMENTUM = Optimizer("SGD with classical momentum", 0.01, ("momentum",), kind=_SGD)
NESTEROV = Optimizer(
    "SGD with Nesterov momentum", 0.01, ("momentum",), kind=partial(_SGD, nesterov=True)
)
ADAM = Optimizer("Adam", 1e-3, kind=torch.optim.Adam)
ADAGRAD = Optimizer("Adagrad", 1e-2, kind=torch.optim.Adagrad)
NOISY_SGD = Optimizer("noisy SGD", 0.1, ("noise", "noise_shape"), kind=NoisySGD, draws=True)
PERTURBED_GD = Optimizer(
    "perturbed gradient descent",
    0.1,
    ("perturbation_radius", "perturbation_threshold", "perturbation_interval"),
    "all",
    PerturbedGradientDescent,
    draws=True,
)
DAMPED_NEWTON = Optimizer("damped Newton", None, ("damping",), "all")
SFN = Optimizer("saddle-free Newton", None, ("damping",), "all")
KRYLOV_SFN = Optimizer(
    "Krylov saddle-free Newton", None, ("damping", "krylov_dimension", "inner_steps"), "all"
)
