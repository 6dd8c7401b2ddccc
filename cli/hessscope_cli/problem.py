"""The options that say what to look at, written once for all commands that take them."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Concatenate, ParamSpec

from hessscope.pipeline import Problem
from hessscope_cli import options

P = ParamSpec("P")
Problems = Callable[[Path], Problem]


def problem_from(
    checkpoint: options.Checkpoint,
    data: options.Data = None,
    split: options.Split = None,
    subset: options.Subset = None,
    data_dir: options.DataDir = None,
    resize: options.Resize = None,
    grayscale: options.Grayscale = False,
    normalize: options.Normalize = None,
    targets: options.Targets = None,
    loss: options.Loss = None,
    l2: options.L2 = None,
    preset: options.Preset = None,
    model: options.Model = None,
    activation: options.Activation = None,
    trust: options.Trust = False,
    key: options.Key = None,
    dtype: options.Dtype = "float64",
    device: options.Device = "auto",
    seed: options.Seed = 0,
) -> Problem:
    """Make a problem of the shared options; what was not given is left to preset and defaults."""
    return Problem.with_preset(
        preset,
        checkpoint=checkpoint,
        data=data,
        split=split,
        root=data_dir,
        subset=subset,
        resize=resize,
        grayscale=grayscale or None,
        normalize=normalize,
        targets=targets,
        loss=loss,
        l2=l2,
        model=model,
        activation=activation,
        trust=trust,
        key=key,
        dtype=dtype,
        device=device,
        seed=seed,
    )


def takes_problem(command: Callable[Concatenate[Problem, P], None]) -> Callable[..., None]:
    """Give a command whose first parameter is a problem the shared options in its place.

    Typer reads options from a function's signature, so the command gets the two signatures
    joined; ``problem_from`` stays an ordinary function with every type in sight.
    """
    shared = inspect.signature(problem_from, eval_str=True).parameters
    _, *own = inspect.signature(command, eval_str=True).parameters.values()

    @functools.wraps(command)
    def joined(**given: object) -> None:
        chosen = {name: given.pop(name) for name in shared}
        command(problem_from(**chosen), **given)  # type: ignore[arg-type, call-arg]

    return _signed(joined, [*shared.values(), *own])


def takes_problems(command: Callable[Concatenate[Problems, P], None]) -> Callable[..., None]:
    """The same for a command whose first parameter is what makes a problem of a checkpoint.

    Which checkpoints, it says itself.
    """
    _, *shared = inspect.signature(problem_from, eval_str=True).parameters.values()
    _, checkpoints, *own = inspect.signature(command, eval_str=True).parameters.values()

    @functools.wraps(command)
    def joined(**given: object) -> None:
        chosen = {p.name: given.pop(p.name) for p in shared}

        def problem_of(checkpoint: Path) -> Problem:
            return problem_from(checkpoint, **chosen)  # type: ignore[arg-type]

        command(problem_of, **given)  # type: ignore[arg-type, call-arg]

    return _signed(joined, [checkpoints, *shared, *own])


def _signed(
    joined: Callable[..., None], parameters: list[inspect.Parameter]
) -> Callable[..., None]:
    joined.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    joined.__annotations__ = {p.name: p.annotation for p in parameters}
    return joined
