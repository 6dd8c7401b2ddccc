"""Options that several commands share, each written once."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

INPUT = "What to look at"
DATA = "Data"
LOSS = "Loss"
COMPUTING = "Computing"
OUTPUT = "Output"


class Split(str, Enum):
    """Parts of a data set."""

    train = "train"
    test = "test"
    all = "all"


class Dtype(str, Enum):
    """Data types of the computation."""

    float64 = "float64"
    float32 = "float32"


Checkpoint = Annotated[
    Path,
    typer.Argument(
        metavar="MODEL",
        help="Checkpoint: state_dict, Lightning, safetensors, TorchScript, torch.export, module.",
        show_default=False,
    ),
]
Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="SPEC",
        help="Architecture, where the file has none: file.py:factory, package.module:factory, "
        "mlp:784-25-10:relu. Plain perceptrons are inferred from the shapes.",
        rich_help_panel=INPUT,
        show_default=False,
    ),
]
Activation = Annotated[
    str | None,
    typer.Option(
        help="Activation of an inferred perceptron; default: found by comparing losses.",
        rich_help_panel=INPUT,
        show_default=False,
    ),
]
Trust = Annotated[
    bool,
    typer.Option(
        "--trust",
        help="The file may run code when it is opened (pickled modules).",
        rich_help_panel=INPUT,
        show_default=False,
    ),
]
Data = Annotated[
    str | None,
    typer.Option(
        "--data",
        metavar="DATA",
        help="mnist, fashion-mnist, cifar10, digits; a .npz, .pt, .safetensors or .h5 file; "
        "file.py:factory.",
        rich_help_panel=DATA,
        show_default=False,
    ),
]
DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        help="Folder with local copies of the named data sets.  [env: HESSSCOPE_DATA]",
        rich_help_panel=DATA,
        show_default=False,
    ),
]
SplitOption = Annotated[
    Split | None,
    typer.Option("--split", help="Default: train.", rich_help_panel=DATA, show_default=False),
]
Subset = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="Only N examples, stratified by class, drawn with --seed.",
        rich_help_panel=DATA,
        show_default=False,
    ),
]
Resize = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE",
        help="Resize images to 10 (square) or 10x12, anti-aliased.",
        rich_help_panel=DATA,
        show_default=False,
    ),
]
Grayscale = Annotated[
    bool,
    typer.Option(
        "--grayscale",
        help="Turn colour images into grey ones.",
        rich_help_panel=DATA,
        show_default=False,
    ),
]
Normalize = Annotated[
    str | None,
    typer.Option(
        metavar="HOW",
        help="MEAN/STD such as 0.1307/0.3081 (commas between channels), center, or none. "
        "Default: integer images / 255 and nothing else.",
        rich_help_panel=DATA,
        show_default=False,
    ),
]
Targets = Annotated[
    str | None,
    typer.Option(
        metavar="inputs",
        help="'inputs' for autoencoders: the targets are the inputs.",
        rich_help_panel=DATA,
        show_default=False,
    ),
]
Loss = Annotated[
    str | None,
    typer.Option(
        "--loss",
        metavar="LOSS",
        help="cross_entropy (default; takes logits), mse, softmax_mse, bce, nll, "
        "nll_probabilities, or file.py:function.",
        rich_help_panel=LOSS,
        show_default=False,
    ),
]
L2 = Annotated[
    float | None,
    typer.Option(
        "--l2",
        help="Add l2/2 times the squared norm of the parameters to the loss.",
        rich_help_panel=LOSS,
        show_default=False,
    ),
]
Preset = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Data and loss settings of a paper: sankar2017, dauphin2014. Options given beside "
        "it win.",
        rich_help_panel=LOSS,
        show_default=False,
    ),
]
DtypeOption = Annotated[
    Dtype, typer.Option("--dtype", help="Type of the computation.", rich_help_panel=COMPUTING)
]
Device = Annotated[
    str,
    typer.Option(help="auto (CUDA if there is one), cpu or cuda.", rich_help_panel=COMPUTING),
]
Seed = Annotated[
    int,
    typer.Option(help="Of the probes and of --subset.", min=0, rich_help_panel=COMPUTING),
]
Json = Annotated[
    bool,
    typer.Option(
        "--json",
        help="One JSON object on standard output, nothing else there.",
        rich_help_panel=OUTPUT,
        show_default=False,
    ),
]
Quiet = Annotated[
    bool,
    typer.Option(
        "--quiet",
        "-q",
        help="No progress and no notes.",
        rich_help_panel=OUTPUT,
        show_default=False,
    ),
]
Verbose = Annotated[
    bool,
    typer.Option(
        "--verbose",
        "-v",
        help="Also say how it was computed.",
        rich_help_panel=OUTPUT,
        show_default=False,
    ),
]
Overwrite = Annotated[
    bool,
    typer.Option(
        "--overwrite",
        help="Replace output files that exist.",
        rich_help_panel=OUTPUT,
        show_default=False,
    ),
]
Debug = Annotated[
    bool,
    typer.Option(
        "--debug",
        help="Show the traceback of an error.",
        rich_help_panel=OUTPUT,
        show_default=False,
    ),
]


def parse_memory(text: str | None) -> int | None:
    """``4GB``, ``800MB`` or a number of bytes as bytes.

    Raises:
        typer.BadParameter: it is none of these.
    """
    if text is None:
        return None
    units = {"kb": 1e3, "mb": 1e6, "gb": 1e9, "kib": 2**10, "mib": 2**20, "gib": 2**30, "b": 1}
    lowered = text.strip().lower()
    unit = next((u for u in sorted(units, key=len, reverse=True) if lowered.endswith(u)), "")
    try:
        value = float(lowered.removesuffix(unit)) * units.get(unit, 1)
    except ValueError:
        raise typer.BadParameter(f"'{text}' is no amount of memory: 4GB, 800MB") from None
    if not 0 < value < float("inf"):
        raise typer.BadParameter(f"'{text}' must be more than nothing")
    return int(value)


Memory = Annotated[
    str | None,
    typer.Option(
        "--memory",
        metavar="SIZE",
        help="Memory that may be used, such as 4GB; default: what is free.",
        rich_help_panel=COMPUTING,
        show_default=False,
    ),
]
