"""What decides a training run, beside network, data and loss."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from hessscope.errors import OptionError, UnknownNameError
from hessscope.training.initialization import INITIALIZATIONS
from hessscope.training.methods import METHODS, NOISES, Method, canonical

#: Settings that two papers leave to their experiments, as ``TrainingOptions`` takes them.
TRAINING_PRESETS: dict[str, dict[str, Any]] = {
    # The published code of arXiv:1706.02052, which differs from its text.
    "sankar2017": {
        "optimizer": "momentum",
        "learning_rate": 0.1,
        "momentum": 0.9,
        "batch_size": 128,
        "shuffle": False,
        "epochs": 100,
        "initialization": "xavier_normal",
    },
    # Appendices C and F of arXiv:1406.2572: starts of searches lie within 20 epochs of
    # saddle-free Newton, with the damping chosen from these at each update.
    "dauphin2014": {
        "optimizer": "sfn",
        "epochs": 20,
        "damping": (1.0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5),
    },
}
#: The network of a paper, where it has only one.
PRESET_NETWORKS = {"sankar2017": "mlp:784-25-10:relu"}

#: What random numbers are for; "network" is what the code of a network draws when it is made.
STREAMS = ("initialization", "shuffle", "noise", "layers", "network")


@dataclass(frozen=True)
class TrainingOptions:
    """How a network is trained.

    Attributes:
        optimizer: a name of ``METHODS``.
        learning_rate: step size; default the method's own (``METHODS[...].learning_rate``);
            second-order methods have none.
        momentum: of ``momentum`` and ``nesterov``.
        batch_size: examples a step, or "all"; default 64, and "all" for methods that are meant
            for the whole gradient (perturbed gradient descent, the second-order ones).
        epochs: passes over the data, at most.
        shuffle: another order at each epoch.
        stop_tolerance: stop when the loss over the data changes by less between two epochs.
        initialization: a name of ``INITIALIZATIONS``; "default" leaves the weights as they are.
        init_scale: gain of xavier, he and orthogonal (default 1), standard deviation of normal
            and half-width of uniform (default 0.05).
        noise: amplitude a of noisy SGD.
        noise_shape: "cube": every component of the noise is uniform in [−a, a]; "sphere": the
            noise is uniform on the sphere of radius a (Ge et al. 2015).
        perturbation_radius: r of perturbed gradient descent: noise is uniform in this ball.
        perturbation_threshold: gradient norm at or below which it is added.
        perturbation_interval: steps that have to lie between two perturbations.
        damping: of the second-order methods; the one that lowers the loss most is taken at each
            step (Dauphin et al. 2014, appendix F).
        krylov_dimension: size of the subspace of Krylov saddle-free Newton, the previous step
            included; at least 2.
        inner_steps: its steps by the same curvature (Dauphin et al. 2014, algorithm 1).
        log_curvature: also log gᵀg and gᵀHg, of the batch at each step and of the whole data at
            each epoch; costs about two more gradients a step.
        seed: root of all random numbers.
        trial: number of the trial; every trial has streams of its own, spawned from the seed.
    """

    optimizer: str = "adam"
    learning_rate: float | None = None
    momentum: float = 0.9
    batch_size: int | str | None = None
    epochs: int = 20
    shuffle: bool = True
    stop_tolerance: float | None = None
    initialization: str = "default"
    init_scale: float | None = None
    noise: float = 0.01
    noise_shape: str = "cube"
    perturbation_radius: float = 0.01
    perturbation_threshold: float = 0.01
    perturbation_interval: int = 10
    damping: tuple[float, ...] = (1.0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5)
    krylov_dimension: int = 50
    inner_steps: int = 5
    log_curvature: bool = False
    seed: int = 0
    trial: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "optimizer", canonical(self.optimizer))
        object.__setattr__(self, "initialization", self.initialization.replace("-", "_"))
        object.__setattr__(self, "damping", tuple(float(x) for x in self.damping))

    @classmethod
    def with_preset(cls, preset: str | None, **options: Any) -> TrainingOptions:
        """Fill in what a preset says for every option that was not given (is None).

        Learning rate and momentum of a preset are those of its optimiser, and so is the batch size
        where the method is meant for the whole gradient: another optimiser that is given has its
        own.

        Raises:
            UnknownNameError: there is no such preset, or no such option.
        """
        known = [f.name for f in dataclasses.fields(cls)]
        for name in options:
            if name not in known:
                raise UnknownNameError("training option", name, known)
        if preset is not None and preset not in TRAINING_PRESETS:
            raise UnknownNameError("preset", preset, TRAINING_PRESETS)
        given = {name: value for name, value in options.items() if value is not None}
        filled = dict(TRAINING_PRESETS[preset]) if preset else {}
        if "optimizer" in given and canonical(given["optimizer"]) != filled.get("optimizer"):
            for name in _of_optimizer(canonical(given["optimizer"])):
                filled.pop(name, None)
        return cls(**{**filled, **given})

    @property
    def method(self) -> Method:
        """The optimiser.

        Raises:
            UnknownNameError: its name is not known.
        """
        if self.optimizer not in METHODS:
            raise UnknownNameError("optimizer", self.optimizer, METHODS)
        return METHODS[self.optimizer]

    @property
    def step_size(self) -> float:
        """The learning rate, given or the method's own."""
        given = self.method.learning_rate if self.learning_rate is None else self.learning_rate
        assert given is not None
        return given

    @property
    def logs_steps(self) -> bool:
        """Whether every step is kept in the history."""
        return self.log_curvature or self.method.second_order

    def examples_a_step(self, available: int) -> int:
        """The batch size for so many examples."""
        size = self.method.batch_size if self.batch_size is None else self.batch_size
        return available if isinstance(size, str) else min(size, available)

    def check(self) -> None:
        """Refuse what means nothing.

        Raises:
            OptionError: with the option, its value, and what would do.
        """
        _ = self.method
        if self.initialization not in INITIALIZATIONS:
            raise UnknownNameError("initialization", self.initialization, INITIALIZATIONS)
        if self.noise_shape not in NOISES:
            raise UnknownNameError("noise shape", self.noise_shape, NOISES)
        if isinstance(self.batch_size, str) and self.batch_size != "all":
            raise OptionError(
                f"batch_size is '{self.batch_size}': give a number of examples, or all"
            )
        self._refuse_below(1, "epochs", "perturbation_interval", "inner_steps")
        # One dimension would hold the previous step alone, and never the gradient.
        self._refuse_below(2, "krylov_dimension")
        if not isinstance(self.batch_size, str):
            self._refuse_below(1, "batch_size")
        self._refuse_below(0, "seed", "trial", "noise", "momentum", "perturbation_threshold")
        for name in ("learning_rate", "init_scale", "perturbation_radius", "stop_tolerance"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise OptionError(f"{name} is {value}: give a positive number")
        if not self.damping or not all(0 <= x < math.inf for x in self.damping):
            raise OptionError(
                f"damping is {self.damping}: give numbers of at least 0, such as 1, 1e-1, 1e-2"
            )
        if self.method.second_order and self.learning_rate is not None:
            raise OptionError(
                f"learning_rate is {self.learning_rate}, and {self.optimizer} has none: its "
                "damping sets the length of the steps"
            )
        if self.momentum >= 1:
            raise OptionError(f"momentum is {self.momentum}: give a number below 1, such as 0.9")
        if self.optimizer == "nesterov" and self.momentum == 0:
            raise OptionError("momentum is 0, and nesterov is a kind of momentum: take sgd")
        if self.init_scale is not None and self.initialization == "default":
            raise OptionError(
                f"init_scale is {self.init_scale}, but no initialization is: name one "
                "(xavier_normal, normal, …)"
            )

    def _refuse_below(self, least: int, *names: str) -> None:
        for name in names:
            value = getattr(self, name)
            if value is not None and not least <= value < math.inf:
                raise OptionError(f"{name} is {value}: give a number of at least {least}")

    def seed_of(self, stream: str) -> int:
        """Seed of one of ``STREAMS`` of this trial, spawned from the root seed."""
        key = (self.trial, STREAMS.index(stream))
        return int(np.random.SeedSequence(self.seed, spawn_key=key).generate_state(1, np.uint64)[0])

    def as_dict(self) -> dict[str, Any]:
        """All options as plain values, those that the method does not use left out."""
        plain: dict[str, Any] = {
            f.name: getattr(self, f.name)
            for f in dataclasses.fields(self)
            if f.name not in _PARTICULAR or f.name in self.method.uses
        }
        if self.method.second_order:
            del plain["learning_rate"]
        else:
            plain["learning_rate"] = self.step_size
        plain["batch_size"] = self.batch_size or self.method.batch_size
        if "damping" in plain:
            plain["damping"] = list(self.damping)
        if self.initialization == "default":
            del plain["init_scale"]
        return plain

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> TrainingOptions:
        """Make the options that ``as_dict`` gave."""
        known = {f.name for f in dataclasses.fields(cls)}
        return cls(**{name: value for name, value in plain.items() if name in known})


def _of_optimizer(name: str) -> tuple[str, ...]:
    """Options that this optimiser does not take over from a preset with another one."""
    whole = name in METHODS and METHODS[name].batch_size == "all"
    return ("learning_rate", "momentum", *(("batch_size",) if whole else ()))


#: Options of single methods.
_PARTICULAR = frozenset(name for method in METHODS.values() for name in method.uses)
