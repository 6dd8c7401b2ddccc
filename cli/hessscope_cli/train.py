"""``hessscope train``: checkpoints made the way the papers did."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from hessscope.pipeline import TrainingReport, make_request, run_training
from hessscope.training import INITIALIZATIONS, METHODS, TrainingOptions
from hessscope_cli import options, render_training, terminal
from hessscope_cli.exit_codes import INTERRUPTED, NOT_CONVERGED

EXAMPLES = """[bold]Examples[/bold]

hessscope train --arch mlp:64-16-10:tanh --data digits --epochs 30 --save-every 5

hessscope train --arch mlp:784-25-10:relu --data mnist --optimizer nesterov --stop-tolerance 1e-4

hessscope train --preset sankar2017 --trials 8 --out sankar

hessscope train --arch mlp:784-10-784 --data mnist --targets inputs --loss mse --out ae

hessscope train --start run/epoch_20.pt --optimizer sgd --learning-rate 0.01 --out run2
"""
TRAINING = "Training"
_DEFAULTS = TrainingOptions()


def _listed(names: object) -> str:
    return ", ".join(str(name).replace("_", "-") for name in names)  # type: ignore[attr-defined]


def command(
    architecture: Annotated[
        str | None,
        typer.Option(
            "--arch",
            "--model",
            metavar="SPEC",
            help="Network: mlp:784-25-10:relu, file.py:factory or package.module:factory.",
            rich_help_panel=options.INPUT,
            show_default=False,
        ),
    ] = None,
    start: Annotated[
        Path | None,
        typer.Option(
            "--start",
            metavar="CHECKPOINT",
            help="Start from the weights of this checkpoint, and with the network, data and loss "
            "that it states.",
            rich_help_panel=options.INPUT,
            show_default=False,
        ),
    ] = None,
    activation: options.Activation = None,
    trust: options.Trust = False,
    key: options.Key = None,
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
    preset: Annotated[
        str | None,
        typer.Option(
            "--preset",
            metavar="NAME",
            help="Setting of a paper: sankar2017, dauphin2014. Options given beside it win.",
            rich_help_panel=options.LOSS,
            show_default=False,
        ),
    ] = None,
    optimizer: Annotated[
        str | None,
        typer.Option(
            "--optimizer",
            metavar="NAME",
            help=f"{_listed(METHODS)}. Default: {_DEFAULTS.optimizer}.",
            rich_help_panel=TRAINING,
            show_default=False,
        ),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(
            "--epochs",
            metavar="N",
            help=f"Passes over the data, at most. Default: {_DEFAULTS.epochs}.",
            rich_help_panel=TRAINING,
            show_default=False,
        ),
    ] = None,
    learning_rate: Annotated[
        float | None,
        typer.Option(
            "--learning-rate",
            "--lr",
            metavar="X",
            help="Step size. Default: the optimizer's usual one.",
            rich_help_panel=TRAINING,
            show_default=False,
        ),
    ] = None,
    momentum: Annotated[
        float | None,
        typer.Option(
            "--momentum",
            metavar="X",
            help=f"Of momentum and nesterov. Default: {_DEFAULTS.momentum}.",
            rich_help_panel=TRAINING,
            show_default=False,
        ),
    ] = None,
    batch_size: Annotated[
        str | None,
        typer.Option(
            "--batch-size",
            metavar="N|all",
            help="Examples a step. Default: 64; all for perturbed-gd and second-order methods.",
            rich_help_panel=TRAINING,
            show_default=False,
        ),
    ] = None,
    no_shuffle: Annotated[
        bool,
        typer.Option(
            "--no-shuffle",
            help="Take the examples in their order in every epoch.",
            rich_help_panel=TRAINING,
            show_default=False,
        ),
    ] = False,
    stop_tolerance: Annotated[
        float | None,
        typer.Option(
            "--stop-tolerance",
            metavar="X",
            help="Stop when the loss changes by less between two epochs.",
            rich_help_panel=TRAINING,
            show_default=False,
        ),
    ] = None,
    initialization: Annotated[
        str | None,
        typer.Option(
            "--init",
            metavar="NAME",
            help=f"{_listed(INITIALIZATIONS)}. default: what the layers do by themselves. All "
            "others set the biases to zero.",
            rich_help_panel=TRAINING,
            show_default=False,
        ),
    ] = None,
    init_scale: Annotated[
        float | None,
        typer.Option(
            "--init-scale",
            metavar="X",
            help="Gain of xavier, he and orthogonal (1); standard deviation of normal, half-width "
            "of uniform (0.05).",
            rich_help_panel=TRAINING,
            show_default=False,
        ),
    ] = None,
    noise: Annotated[
        float | None,
        typer.Option(
            "--noise",
            metavar="A",
            help=f"noisy-sgd: amplitude of the noise. Default: {_DEFAULTS.noise}.",
            rich_help_panel=TRAINING,
            show_default=False,
        ),
    ] = None,
    noise_shape: Annotated[
        str | None,
        typer.Option(
            "--noise-shape",
            metavar="cube|sphere",
            help="noisy-sgd: every component uniform in ±A (default), or the whole on the sphere "
            "of radius A.",
            rich_help_panel=TRAINING,
            show_default=False,
        ),
    ] = None,
    perturbation_radius: Annotated[
        float | None,
        typer.Option(
            "--perturbation-radius",
            metavar="R",
            help="perturbed-gd: noise is uniform in this ball. "
            f"Default: {_DEFAULTS.perturbation_radius}.",
            rich_help_panel=TRAINING,
            show_default=False,
        ),
    ] = None,
    perturbation_threshold: Annotated[
        float | None,
        typer.Option(
            "--perturbation-threshold",
            metavar="X",
            help="perturbed-gd: gradient norm at or below which it is added. "
            f"Default: {_DEFAULTS.perturbation_threshold}.",
            rich_help_panel=TRAINING,
            show_default=False,
        ),
    ] = None,
    perturbation_interval: Annotated[
        int | None,
        typer.Option(
            "--perturbation-interval",
            metavar="N",
            help="perturbed-gd: steps that lie between two perturbations, at least. "
            f"Default: {_DEFAULTS.perturbation_interval}.",
            rich_help_panel=TRAINING,
            show_default=False,
        ),
    ] = None,
    damping: Annotated[
        str | None,
        typer.Option(
            "--damping",
            metavar="LIST",
            help="Second-order methods: the one that lowers the loss most is taken at each step. "
            f"Default: {','.join(f'{d:g}' for d in _DEFAULTS.damping)}.",
            rich_help_panel=TRAINING,
            show_default=False,
        ),
    ] = None,
    krylov_dimension: Annotated[
        int | None,
        typer.Option(
            "--krylov-dimension",
            metavar="K",
            help=f"krylov-sfn: size of the subspace. Default: {_DEFAULTS.krylov_dimension}.",
            rich_help_panel=TRAINING,
            show_default=False,
        ),
    ] = None,
    inner_steps: Annotated[
        int | None,
        typer.Option(
            "--inner-steps",
            metavar="N",
            help=f"krylov-sfn: steps by the same curvature. Default: {_DEFAULTS.inner_steps}.",
            rich_help_panel=TRAINING,
            show_default=False,
        ),
    ] = None,
    log_curvature: Annotated[
        bool,
        typer.Option(
            "--log-curvature",
            help="Log gᵀg and gᵀHg, of the batch at each step and of the data at each epoch.",
            rich_help_panel=TRAINING,
            show_default=False,
        ),
    ] = False,
    trials: Annotated[
        int,
        typer.Option(
            "--trials",
            metavar="N",
            help="Networks to train, each with random numbers of its own, in trial_1, trial_2, …",
            rich_help_panel=TRAINING,
        ),
    ] = 1,
    dtype: Annotated[
        str | None,
        typer.Option(
            "--dtype",
            metavar="TYPE",
            help="float32 (default) or float64 (default of second-order methods).",
            rich_help_panel=options.COMPUTING,
            show_default=False,
        ),
    ] = None,
    device: options.Device = "auto",
    seed: Annotated[
        int,
        typer.Option(
            "--seed",
            metavar="N",
            help="Of all random numbers: the same seed gives the same weights.",
            rich_help_panel=options.COMPUTING,
        ),
    ] = 0,
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            metavar="FOLDER",
            help="Where checkpoints (epoch_0.pt, …) and logs (training.h5, training.csv) go.",
            rich_help_panel=options.OUTPUT,
        ),
    ] = Path("run"),
    save_every: Annotated[
        int,
        typer.Option(
            "--save-every",
            metavar="N",
            help="Epochs from one checkpoint to the next; first and last are always written.",
            rich_help_panel=options.OUTPUT,
        ),
    ] = 10,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Train on from a finished run in the folder, for more epochs than before.",
            rich_help_panel=options.OUTPUT,
            show_default=False,
        ),
    ] = False,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite",
            help="Replace the run that is in the folder.",
            rich_help_panel=options.OUTPUT,
            show_default=False,
        ),
    ] = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Train a network and keep its checkpoints.

    Every checkpoint is an ordinary torch file that states network, data and loss,
    so that hessscope spectrum run/epoch_10.pt needs nothing else. Ctrl-C keeps
    every epoch that was finished; the same command resumes.
    """
    what = {
        "model": architecture,
        "activation": activation,
        "trust": trust or None,
        "key": key,
        "data": data,
        "split": split,
        "subset": subset,
        "root": data_dir,
        "resize": resize,
        "grayscale": grayscale or None,
        "normalize": normalize,
        "targets": targets,
        "loss": loss,
        "l2": l2,
        "dtype": dtype,
        "device": device,
        "seed": seed,
    }
    how = {
        "optimizer": optimizer,
        "epochs": epochs,
        "learning_rate": learning_rate,
        "momentum": momentum,
        "batch_size": options.parse_count(batch_size, "--batch-size"),
        "shuffle": False if no_shuffle else None,
        "stop_tolerance": stop_tolerance,
        "initialization": initialization,
        "init_scale": init_scale,
        "noise": noise,
        "noise_shape": noise_shape,
        "perturbation_radius": perturbation_radius,
        "perturbation_threshold": perturbation_threshold,
        "perturbation_interval": perturbation_interval,
        "damping": options.parse_numbers(damping, "--damping"),
        "krylov_dimension": krylov_dimension,
        "inner_steps": inner_steps,
        "log_curvature": log_curvature,
        "seed": seed,
    }
    request = make_request(
        preset,
        what,
        how,
        folder=out,
        start=start,
        trials=trials,
        save_every=save_every,
        overwrite=overwrite,
        resume=resume,
    )
    with terminal.progress_bars(quiet) as progress:
        report = run_training(request, progress, terminal.teller(quiet))
    _show(report, as_json=as_json)
    if not quiet:
        terminal.saved("checkpoints", report.folder)
    _leave(report, overwrite=overwrite)


def _show(report: TrainingReport, *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(report.as_dict(), indent=1, allow_nan=False, ensure_ascii=False))
    else:
        terminal.show(*render_training.training(report))


def _leave(report: TrainingReport, *, overwrite: bool) -> None:
    """Say what went wrong, and leave with its exit code."""
    if report.interrupted:
        terminal.show_error(
            f"interrupted; every epoch that was finished is in {report.folder}: the same command"
            f"{' without --overwrite' if overwrite else ''} resumes"
        )
        sys.exit(INTERRUPTED)
    stopped = [trial for trial in report.trials if not trial.finished]
    for trial in stopped:
        which = f"trial {trial.trial}: " if len(report.trials) > 1 else ""
        kept = f"; {trial.checkpoint} is the last epoch before" if trial.checkpoint else ""
        remedy = "; take a smaller --learning-rate" if trial.status == "non_finite" else ""
        terminal.show_error(f"{which}{trial.reason}{kept}{remedy}")
    if stopped:
        sys.exit(NOT_CONVERGED)
