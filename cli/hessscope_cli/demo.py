"""``hessscope demo``: train a small network on bundled data, then do the main job on it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hessscope.errors import RecordError
from hessscope.options.fields import OUTPUT, Options, option, whole
from hessscope.options.spectrum import SpectrumOptions
from hessscope_cli import spectrum, terminal
from hessscope_cli.commands import Screen

EXAMPLES = """
hessscope demo --folder demo
"""
ARCHITECTURE = "mlp:64-16-10:relu"


@dataclass(frozen=True, kw_only=True)
class DemoOptions(Options):
    """What ``hessscope demo`` is asked for."""

    folder: Path = option(
        Path("demo"),
        "Where checkpoint, record and figure go; made if need be.",
        "FOLDER",
        OUTPUT,
        Path,
    )
    seed: int = option(0, "Random seed of the training and of all else.", "N", read=whole(0))


def command(options: DemoOptions, screen: Screen) -> None:
    """Train a small network on bundled data and show its Hessian spectrum.

    The network is a 64-16-10 perceptron, the data scikit-learn's 8x8 digits: no
    download, some seconds. Files of an earlier demo in the folder are replaced.
    """
    import torch

    from hessscope import records
    from hessscope.loaders import load_data
    from hessscope.loaders.checkpoints.perceptrons import make_perceptron
    from hessscope.pipeline.spectrum_checks import check_options
    from hessscope.training import TrainingOptions, train

    folder = options.folder
    path, plot = folder / "digits_mlp.pt", folder / "digits_mlp.spectrum.png"
    asked = SpectrumOptions(
        path,
        "digits",
        seed=options.seed,
        out=folder / "digits_mlp.spectrum.h5",
        plot=plot,
        overwrite=True,
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = f"{error.strerror or error}; give another --folder"
        raise RecordError(f"cannot make the folder {folder}: {reason}") from error
    check_options(asked)
    torch.manual_seed(options.seed)
    model = make_perceptron(ARCHITECTURE)
    training = TrainingOptions(epochs=30, learning_rate=3e-3)
    with terminal.progress_bars(screen.quiet) as progress:
        result = train(model, load_data("digits"), training, seed=options.seed, progress=progress)
    # The state's weights are on the CPU: the file loads everywhere.
    weights = dict(result.state.weights)
    records.write_atomically(path, lambda stream: torch.save(weights, stream), overwrite=True)
    if not screen.quiet:
        terminal.note(
            f"trained {ARCHITECTURE} on digits; the rest is what this does: "
            f"hessscope spectrum {path} --data digits --plot {plot}"
        )
    spectrum.show(asked, spectrum.SpectrumScreen(as_json=screen.as_json, quiet=screen.quiet))
    if not screen.quiet:
        terminal.saved("checkpoint", path)
