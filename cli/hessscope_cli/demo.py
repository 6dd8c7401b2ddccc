"""``hessscope demo``: train a small network on bundled data, then do the main job on it."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Annotated

import torch
import typer

from hessscope import records
from hessscope.backends import LanczosBackend
from hessscope.errors import RecordError
from hessscope.loaders import load_data
from hessscope.loaders.checkpoints.perceptrons import make_perceptron
from hessscope.pipeline import Problem, SpectrumRequest
from hessscope.training import TrainingOptions, train
from hessscope_cli import options, spectrum, terminal

EXAMPLES = """[bold]Example[/bold]

hessscope demo --folder demo
"""
ARCHITECTURE = "mlp:64-16-10:relu"
TRAINING = TrainingOptions(epochs=30, learning_rate=3e-3)


def command(
    folder: Annotated[
        Path,
        typer.Option(
            "--folder",
            metavar="FOLDER",
            help="Where checkpoint, record and figure go; made if need be.",
            rich_help_panel=options.OUTPUT,
        ),
    ] = Path("demo"),
    seed: Annotated[
        int,
        typer.Option(
            "--seed",
            metavar="N",
            help="Of the training and of all else.",
            rich_help_panel=options.COMPUTING,
        ),
    ] = 0,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Train a small network on bundled data and show its Hessian spectrum.

    The network is a 64-16-10 perceptron, the data scikit-learn's 8x8 digits: no
    download, some seconds. Files of an earlier demo in the folder are replaced.
    """
    path, plot = folder / "digits_mlp.pt", folder / "digits_mlp.spectrum.png"
    problem = Problem(path, "digits", seed=seed)
    problem.check()
    request = SpectrumRequest(
        problem,
        sampled=LanczosBackend(seed=seed),
        out=folder / "digits_mlp.spectrum.h5",
        plot=plot,
        overwrite=True,
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = f"{error.strerror or error}; give another --folder"
        raise RecordError(f"cannot make the folder {folder}: {reason}") from error
    request.check()
    torch.manual_seed(seed)
    model = make_perceptron(ARCHITECTURE)
    with terminal.progress_bars(quiet) as progress:
        result = train(model, load_data("digits"), TRAINING, seed=seed, progress=progress)
    content = io.BytesIO()
    # The state's weights are on the CPU: the file loads everywhere.
    torch.save(dict(result.state.weights), content)
    records.write_atomically(path, content.getvalue(), overwrite=True)
    if not quiet:
        terminal.note(
            f"trained {ARCHITECTURE} on digits; the rest is what this does: "
            f"hessscope spectrum {path} --data digits --plot {plot}"
        )
    spectrum.answer(request, as_json=as_json, quiet=quiet, verbose=False)
    if not quiet:
        terminal.saved("checkpoint", path)
