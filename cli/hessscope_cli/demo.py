"""``hessscope demo``: train a small network on bundled data, then do the main job on it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import typer

from hessscope.backends import ExactBackend, LanczosBackend
from hessscope.loaders import load_data
from hessscope.loaders.architectures import make_perceptron
from hessscope.pipeline import Problem
from hessscope.training import train
from hessscope_cli import options, render, spectrum, terminal

EXAMPLES = """[bold]Example[/bold]

hessscope demo --folder demo
"""
ARCHITECTURE = "mlp:64-16-10:relu"


def command(
    folder: Annotated[Path, typer.Option(help="Where checkpoint, record and figure go.")] = Path(
        "demo"
    ),
    seed: options.Seed = 0,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Train a 64-16-10 network on scikit-learn's 8x8 digits and show its Hessian spectrum.

    Needs no download and takes some seconds. Files in the folder are replaced.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "digits_mlp.pt"
    torch.manual_seed(seed)
    model = make_perceptron(ARCHITECTURE)
    with terminal.progress_bars(quiet) as progress:
        train(model, load_data("digits"), seed=seed, progress=progress)
    torch.save(model.state_dict(), path)
    plot = folder / "digits_mlp.spectrum.png"
    if not quiet:
        terminal.note(f"trained {ARCHITECTURE} on digits: {path}; now the same as")
        terminal.note(f"  hessscope spectrum {path} --data digits --plot {plot}")
    report = spectrum.compute(
        Problem(path, "digits", seed=seed),
        "auto",
        ExactBackend(),
        LanczosBackend(seed=seed),
        None,
        folder / "digits_mlp.spectrum.h5",
        plot,
        True,
        quiet,
    )
    render.spectrum(report, quiet=quiet, verbose=False)
    if not quiet:
        terminal.note(f"figure: {plot}")
