"""Options of ``hs.train``, and of ``hessscope train`` and ``hs.train_checkpoints``."""

from __future__ import annotations

import dataclasses
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any

from hessscope.errors import OptionError
from hessscope.options.data import Seed
from hessscope.options.fields import (
    LOSS,
    NETWORK,
    OUTPUT,
    nonnegative,
    number,
    one_of,
    option,
    plain,
    under,
    whole,
)
from hessscope.options.setting import PRESETS, TRAINING_PRESETS, Setting
from hessscope.registry import OPTIMIZERS

TRAINING = "Training"

#: Initialisations with their usual scale; "default" is whatever the layers do.
INITIALIZATIONS = {
    "default": 1.0,
    "xavier_uniform": 1.0,
    "xavier_normal": 1.0,
    "he_uniform": 1.0,
    "he_normal": 1.0,
    "orthogonal": 1.0,
    "normal": 0.05,
    "uniform": 0.05,
}

# What stands where neither the user nor a preset chooses.
_DEFAULTS: dict[str, Any] = {
    "optimizer": "adam",
    "epochs": 20,
    "momentum": 0.9,
    "shuffle": True,
    "initialization": "default",
    "damping": (1.0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5),
}


def _batch_size(value: Any) -> int | str:
    try:
        return "all" if value == "all" else whole(1)(value)
    except ValueError:
        raise ValueError("give a number of examples, or all") from None


_training, _output = under(TRAINING), under(OUTPUT, decides=False)


@dataclass(frozen=True, kw_only=True)
class TrainingOptions(Seed):
    """How a network is trained; ``resolved`` fills in what is left to presets and defaults."""

    optimizer: Any = _training(
        None, f"{', '.join(OPTIMIZERS)}. Default: adam.", "NAME", one_of(OPTIMIZERS)
    )
    epochs: int = _training(None, "Maximum passes over the data. Default: 20.", "N", whole(1))
    learning_rate: float = _training(
        None,
        "Step size. Default: the optimizer's usual one.",
        "X",
        number(0, above=True),
        flags=("--learning-rate", "--lr"),
    )
    momentum: float = _training(
        None, "Coefficient of momentum and nesterov. Default: 0.9.", "X", number(0)
    )
    batch_size: int | str = _training(
        None,
        "Examples per step. Default: 64; all for perturbed_gd and second-order methods.",
        "N|all",
        _batch_size,
    )
    shuffle: bool = _training(
        None,
        "Take the examples in a new order in every epoch (default), or in their own.",
        flags=("--shuffle/--no-shuffle",),
    )
    stop_tolerance: float | None = _training(
        None,
        "Stop when the loss changes by less between two epochs.",
        "X",
        number(0, above=True),
    )
    initialization: str = _training(
        None,
        f"{', '.join(INITIALIZATIONS)}. default: what the layers do by themselves. All others set "
        "the biases to zero.",
        "NAME",
        one_of(INITIALIZATIONS, "initialization"),
        flags=("--init",),
    )
    init_scale: float | None = _training(
        None,
        "Gain of xavier, he and orthogonal (1); standard deviation of normal, half-width of "
        "uniform (0.05).",
        "X",
        number(0, above=True),
    )
    noise: float = _training(0.01, "noisy_sgd: amplitude of the noise.", "A", number(0))
    noise_shape: str = _training(
        "cube",
        "noisy_sgd: cube: every component uniform in ±A. sphere: the whole noise on the sphere of "
        "radius A (Ge et al. 2015).",
        "cube|sphere",
        one_of(("cube", "sphere"), "noise shape"),
    )
    perturbation_radius: float = _training(
        0.01,
        "perturbed_gd: radius of the ball in which the noise is uniform.",
        "R",
        number(0, above=True),
    )
    perturbation_threshold: float = _training(
        0.01, "perturbed_gd: gradient norm at or below which noise is added.", "X", number(0)
    )
    perturbation_interval: int = _training(
        10, "perturbed_gd: minimum number of steps between perturbations.", "N", whole(1)
    )
    damping: tuple[float, ...] = _training(
        None,
        "Second-order methods: the damping that lowers the loss most is taken at each step. "
        "Default: 1,0.1,0.01,0.001,0.0001,1e-05.",
        "LIST",
        nonnegative,
    )
    # One dimension would hold the previous step alone, and never the gradient.
    krylov_dimension: int = _training(
        50, "krylov_sfn: size of the subspace, the previous step included.", "K", whole(2)
    )
    inner_steps: int = _training(
        5,
        "krylov_sfn: steps with the same curvature (Dauphin et al. 2014, algorithm 1).",
        "N",
        whole(1),
    )
    log_curvature: bool = _training(
        False,
        "Log gᵀg and gᵀHg, of the batch at each step and of the data at each epoch; costs about "
        "two more gradients per step.",
    )
    trial: int = option(
        0, "Number of the trial; each has its own random numbers.", None, None, whole(0)
    )

    def resolved(self, preset: str | None = None) -> TrainingOptions:
        """Fill in what was not given: from the preset, the optimizer, and the defaults.

        Beside another optimizer than the preset's, its step, momentum and batch size do not hold.

        Raises:
            OptionError: options that exclude each other.
        """
        bundle = TRAINING_PRESETS[preset] if preset else {}
        known = {f.name for f in dataclasses.fields(self)}
        given = {name: getattr(self, name) for name in known if getattr(self, name) is not None}
        filled = {name: value for name, value in bundle.items() if name in known}
        name = given.get("optimizer", filled.get("optimizer", _DEFAULTS["optimizer"]))
        method = OPTIMIZERS.find(name)
        if name != filled.get("optimizer"):
            whole = ("batch_size",) if method.batch_size == "all" else ()
            for own in ("learning_rate", "momentum", *whole):
                filled.pop(own, None)
        usual = {"learning_rate": method.learning_rate, "batch_size": method.batch_size}
        found = dataclasses.replace(self, **{**_DEFAULTS, **usual, **filled, **given})
        if method.second_order and found.learning_rate is not None:
            raise OptionError(
                f"`learning_rate={found.learning_rate}`: {name} has none, its `damping` sets the "
                "length of the steps"
            )
        if found.momentum >= 1:
            raise OptionError(f"`momentum={found.momentum}`: give a number below 1, such as 0.9")
        if name == "nesterov" and found.momentum == 0:
            raise OptionError("`momentum=0`: nesterov is a kind of momentum; use `optimizer=sgd`")
        if found.init_scale is not None and found.initialization == "default":
            raise OptionError(
                f"`init_scale={found.init_scale}`: name the `initialization` that it scales "
                "(xavier_normal, normal, …)"
            )
        return found

    @property
    def method(self) -> Any:
        """The ``Optimizer``, once the options are resolved."""
        return OPTIMIZERS.find(self.optimizer)

    @property
    def logs_steps(self) -> bool:
        """Whether every step is kept in the history."""
        return self.log_curvature or bool(self.method.second_order)

    def as_dict(self) -> dict[str, Any]:
        """Resolved options as plain values, without those that the optimizer does not use."""
        others = {name for key in OPTIMIZERS for name in OPTIMIZERS[key].uses}
        others -= set(self.method.uses)
        others |= {"learning_rate"} if self.method.second_order else set()
        others |= {"init_scale"} if self.initialization == "default" else set()
        return {
            f.name: plain(getattr(self, f.name))
            for f in dataclasses.fields(TrainingOptions)
            if f.name not in {*others, "progress", "on_note"}
        }


@dataclass(frozen=True)
class TrainOptions(TrainingOptions, Setting):
    """What ``hessscope train`` is asked for."""

    _: KW_ONLY
    model: Any = option(
        None,
        "Network: mlp:784-25-10:relu, file.py:factory or package.module:factory.",
        "SPEC",
        NETWORK,
        flags=("--model", "--arch"),
    )
    start: str | Path | None = option(
        None,
        "Start from this checkpoint's weights, with the network, data and loss that it states.",
        "CHECKPOINT",
        NETWORK,
        Path,
    )
    preset: str | None = option(
        None,
        f"Data, loss and training of a paper: {', '.join(PRESETS)}. Explicit options override it.",
        "NAME",
        LOSS,
        one_of(PRESETS, "preset"),
    )
    trials: int = _training(
        1,
        "Networks to train, each with its own random numbers, in trial_1, trial_2, …",
        "N",
        whole(1),
    )
    dtype: str | None = option(
        None, "float32 (default), or float64 (default of second-order methods).", "TYPE"
    )
    out: str | Path = _output(
        Path("run"),
        "Folder for checkpoints (epoch_0.pt, …) and logs (training.h5, training.csv).",
        "FOLDER",
        Path,
    )
    save_every: int = _output(
        10,
        "Epochs between checkpoints; the first and the last are always written.",
        "N",
        whole(1),
    )
    resume: bool = _output(
        False, "Train a finished run in the folder for more epochs (an unfinished one resumes)."
    )
    overwrite: bool = _output(False, "Replace the run in the folder.")
