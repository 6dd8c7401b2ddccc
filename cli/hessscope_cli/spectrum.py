"""``hessscope spectrum``: eigenvalues, index and degeneracy of a checkpoint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from hessscope import records
from hessscope.backends import ExactBackend, LanczosBackend
from hessscope.pipeline import BACKENDS, Problem, SpectrumReport, run_spectrum
from hessscope_cli import options, render, terminal

EXAMPLES = """[bold]Examples[/bold]

hessscope spectrum model.pt --data mnist

hessscope spectrum model.pt --data mnist --subset 5000 --plot spectrum.png

hessscope spectrum resnet.th --model resnet.py:resnet20 --data cifar10 --backend lanczos

hessscope spectrum model.pt --data digits --json | jq .index
"""


def command(
    checkpoint: options.Checkpoint,
    data: options.Data = None,
    model: options.Model = None,
    activation: options.Activation = None,
    trust: options.Trust = False,
    split: options.SplitOption = None,
    subset: options.Subset = None,
    data_dir: options.DataDir = None,
    resize: options.Resize = None,
    grayscale: options.Grayscale = False,
    normalize: options.Normalize = None,
    targets: options.Targets = None,
    loss: options.Loss = None,
    l2: options.L2 = None,
    preset: options.Preset = None,
    backend: Annotated[
        str,
        typer.Option(
            metavar="|".join(BACKENDS),
            help="exact: all eigenvalues. lanczos: random probes, with intervals. pyhessian: its "
            "top eigenvalue and trace, as a cross-check. auto: exact if it fits in memory and in "
            "15 minutes.",
            rich_help_panel=options.COMPUTING,
        ),
    ] = "auto",
    steps: Annotated[
        int,
        typer.Option(min=1, help="Lanczos steps of each probe.", rich_help_panel=options.COMPUTING),
    ] = 100,
    probes: Annotated[
        int,
        typer.Option(min=1, help="Random start vectors.", rich_help_panel=options.COMPUTING),
    ] = 4,
    tolerance: Annotated[
        float | None,
        typer.Option(
            help="τ: an eigenvalue counts as zero within ±τ. Default: twice the noise floor.",
            rich_help_panel=options.COMPUTING,
            show_default=False,
        ),
    ] = None,
    memory: options.Memory = None,
    dtype: options.DtypeOption = options.Dtype.float64,
    device: options.Device = "auto",
    seed: options.Seed = 0,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="FILE.h5",
            help="Record. Default: MODEL.spectrum.h5 in this folder, numbered.",
            rich_help_panel=options.OUTPUT,
            show_default=False,
        ),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            "--plot",
            metavar="FILE",
            help="Figure as .png, .pdf or .svg.",
            rich_help_panel=options.OUTPUT,
            show_default=False,
        ),
    ] = None,
    overwrite: options.Overwrite = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    debug: options.Debug = False,
) -> None:
    """Hessian spectrum of a checkpoint: index, degeneracy, and how sure they are.

    Loads MODEL and the data, differentiates the mean loss twice, and counts the negative, zero and
    positive eigenvalues of its Hessian. Writes a record (HDF5) and, on request, a figure.
    """
    problem = Problem.with_preset(
        preset,
        checkpoint=checkpoint,
        data=data,
        model=model,
        activation=activation,
        trust=trust,
        split=split.value if split else None,
        root=data_dir,
        subset=subset,
        resize=resize,
        grayscale=grayscale or None,
        normalize=normalize,
        targets=targets,
        loss=loss,
        l2=l2,
        dtype=dtype.value,
        device=device,
        seed=seed,
    )
    room = options.parse_memory(memory)
    report = compute(
        problem,
        backend,
        ExactBackend(memory=room),
        LanczosBackend(steps=steps, probes=probes, seed=seed, memory=room),
        tolerance,
        out,
        plot,
        overwrite,
        quiet,
    )
    if as_json:
        typer.echo(json.dumps(report.as_dict(), indent=1, allow_nan=False, ensure_ascii=False))
        return
    render.spectrum(report, quiet=quiet, verbose=verbose)
    if plot is not None and not quiet:
        terminal.note(f"figure: {plot}")


def compute(
    problem: Problem,
    backend: str,
    exact: ExactBackend,
    sampled: LanczosBackend,
    tolerance: float | None,
    out: Path | None,
    plot: Path | None,
    overwrite: bool,
    quiet: bool,
) -> SpectrumReport:
    """Run the spectrum with progress bars; without ``out`` the record gets a numbered name."""
    target = out or records.numbered_path(
        Path.cwd(), f"{Path(problem.checkpoint).stem}.spectrum", ".h5"
    ).relative_to(Path.cwd())
    with terminal.progress_bars(quiet) as progress:
        return run_spectrum(
            problem,
            backend=backend,
            exact=exact,
            sampled=sampled,
            tolerance=tolerance,
            out=target,
            plot=plot,
            overwrite=overwrite,
            progress=progress,
        )
