"""Options that several commands share, each written once."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from hessscope.errors import OptionError
from hessscope.registry import OPERATORS

INPUT = "Network"
DATA = "Data"
LOSS = "Loss"
COMPUTING = "Computing"
OUTPUT = "Output"
MATRIX = "Matrix"


def underscored(name: str | None) -> str | None:
    """Callback of options that take a name: ``newton-mr`` is ``newton_mr``."""
    return name and name.replace("-", "_")


Checkpoint = Annotated[
    Path,
    typer.Argument(
        metavar="MODEL",
        help="Checkpoint: state_dict, Lightning, safetensors, TorchScript, torch.export, module.",
        show_default=False,
    ),
]
Checkpoints = Annotated[
    list[Path],
    typer.Argument(
        metavar="MODEL...",
        help="Checkpoint: state_dict, Lightning, safetensors, TorchScript, torch.export, module. "
        "Several, or a folder of them: a series.",
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
        "--activation",
        metavar="NAME",
        help="Activation of an inferred perceptron: relu, tanh, sigmoid, … Default: found by "
        "comparing the candidates on the data.",
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
Key = Annotated[
    str | None,
    typer.Option(
        "--key",
        metavar="KEY",
        help="Which network, where the file holds several: generator, models.0.",
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
        metavar="FOLDER",
        help="Folder with local copies of the named data sets; default: HESSSCOPE_DATA, else a "
        "download.",
        rich_help_panel=DATA,
        show_default=False,
    ),
]
Split = Annotated[
    str | None,
    typer.Option(
        "--split",
        metavar="PART",
        help="train (default), test or all.",
        rich_help_panel=DATA,
        show_default=False,
    ),
]
Subset = Annotated[
    int | None,
    typer.Option(
        "--subset",
        metavar="N",
        help="Only N examples, stratified by class, drawn with --seed.",
        rich_help_panel=DATA,
        show_default=False,
    ),
]
Resize = Annotated[
    str | None,
    typer.Option(
        "--resize",
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
        "--normalize",
        metavar="HOW",
        help="MEAN/STD such as 0.1307/0.3081 (commas between channels), center, standardize or "
        "none. Default: integer images / 255, floats as they are.",
        rich_help_panel=DATA,
        show_default=False,
    ),
]
Targets = Annotated[
    str | None,
    typer.Option(
        "--targets",
        metavar="inputs",
        help="inputs: the targets are the inputs (autoencoders).",
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
        "nll_probabilities, or file.py:function. cross_entropy@1 and cross_entropy@last state the "
        "axis of the classes.",
        rich_help_panel=LOSS,
        show_default=False,
    ),
]
L2 = Annotated[
    float | None,
    typer.Option(
        "--l2",
        metavar="X",
        help="Add l2/2 times the squared norm of the parameters to the loss.",
        rich_help_panel=LOSS,
        show_default=False,
    ),
]
Preset = Annotated[
    str | None,
    typer.Option(
        "--preset",
        metavar="NAME",
        help="Data and loss settings of a paper: sankar2017, dauphin2014. Options given beside "
        "it win.",
        rich_help_panel=LOSS,
        show_default=False,
    ),
]
Dtype = Annotated[
    str,
    typer.Option(
        "--dtype",
        metavar="TYPE",
        help="float64, or float32: faster, with a noise floor some 1e9 times higher.",
        rich_help_panel=COMPUTING,
    ),
]
Device = Annotated[
    str,
    typer.Option(
        "--device",
        metavar="DEVICE",
        help="auto (CUDA if there is one), cpu or cuda.",
        rich_help_panel=COMPUTING,
    ),
]
Seed = Annotated[
    int,
    typer.Option(
        "--seed",
        metavar="N",
        help="Of the probes and of --subset: the same seed gives the same numbers.",
        rich_help_panel=COMPUTING,
    ),
]
Operator = Annotated[
    str,
    typer.Option(
        "--operator",
        metavar="NAME",
        help=f"{', '.join(OPERATORS)}: which matrix. gauss-newton leaves out the second "
        "derivatives of the outputs; fisher takes the labels from the model, empirical-fisher "
        "from the data.",
        rich_help_panel=MATRIX,
    ),
]
Params = Annotated[
    list[str] | None,
    typer.Option(
        "--params",
        metavar="PATTERN",
        help="Only parameters whose names match, such as 'layers.0.*': a diagonal block. Commas "
        "between several, or the option again.",
        rich_help_panel=MATRIX,
        show_default=False,
    ),
]
ByLayer = Annotated[
    bool,
    typer.Option(
        "--by-layer",
        help="Also the spectrum of each layer's diagonal block, as a table.",
        rich_help_panel=MATRIX,
        show_default=False,
    ),
]
Eigenvectors = Annotated[
    str | None,
    typer.Option(
        "--eigenvectors",
        metavar="K",
        help="Also K eigenvectors, of the largest |λ|, or lowest:K, or highest:K, with residuals; "
        "they are in the record.",
        rich_help_panel=MATRIX,
        show_default=False,
    ),
]
Bulk = Annotated[
    bool,
    typer.Option(
        "--bulk",
        help="Also count outliers, measure how much of the gradient lies in their space, and "
        "compare the bulk with the semicircle law.",
        rich_help_panel=MATRIX,
        show_default=False,
    ),
]
Semicircle = Annotated[
    bool,
    typer.Option(
        "--semicircle",
        help="The same, and draw the best semicircle over the figure of --plot.",
        rich_help_panel=MATRIX,
        show_default=False,
    ),
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
        help="No progress and no notes; warnings and results stay.",
        rich_help_panel=OUTPUT,
        show_default=False,
    ),
]
Verbose = Annotated[
    bool,
    typer.Option(
        "--verbose",
        "-v",
        help="Also say how products were computed, and how long it took.",
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
Reorthogonalize = Annotated[
    str,
    typer.Option(
        "--reorthogonalize",
        metavar="HOW",
        help="full: keep the Lanczos basis orthogonal. none: keep no basis; wider intervals that "
        "are not rigorous. auto: full where a basis fits in the memory.",
        rich_help_panel=COMPUTING,
    ),
]
TargetWidth = Annotated[
    float | None,
    typer.Option(
        "--target-width",
        metavar="X",
        help="Lanczos goes on until the intervals of index and degeneracy are at most X of their "
        "counts wide (0.1 is 10 %), or the budget is spent.",
        rich_help_panel=COMPUTING,
        show_default=False,
    ),
]
SaveEvery = Annotated[
    float,
    typer.Option(
        "--save-every",
        metavar="MINUTES",
        help="Save the state of long work so often; the same command goes on from there after it "
        "was killed. 0: never.",
        rich_help_panel=OUTPUT,
    ),
]
Budget = Annotated[
    str | None,
    typer.Option(
        "--budget",
        metavar="N|TIME",
        help="Of --target-width: products such as 5000, or a time such as 30min. Default: 10000 "
        "products.",
        rich_help_panel=COMPUTING,
        show_default=False,
    ),
]


def parse_memory(text: str | None) -> int | None:
    """``4GB``, ``800MB`` or a number of bytes as bytes.

    Raises:
        OptionError: it is none of these.
    """
    if text is None:
        return None
    match = re.fullmatch(r"\s*([\d.]+(?:e\d+)?)\s*([kmgt]?)(i?)b?\s*", text.lower())
    try:
        amount = float(match[1]) if match else 0.0
    except ValueError:  # 1.2.3
        amount = 0.0
    base = 1024 if match and match[3] else 1000
    value = amount * base ** " kmgt".index(match[2] or " ") if match else 0.0
    if not 1 <= value < float("inf"):
        raise OptionError(f"--memory {text} is no amount of memory: write 4GB, 800MB or 2e9")
    return int(value)


def parse_count(text: str | None, option: str) -> int | str | None:
    """A number of examples, or ``all``.

    Raises:
        OptionError: it is neither.
    """
    if text is None or text == "all":
        return text
    try:
        return int(text)
    except ValueError:
        raise OptionError(f"{option} {text} is no number of examples: write 64, or all") from None


def parse_numbers(text: str | None, option: str) -> tuple[float, ...] | None:
    """Numbers with commas between them.

    Raises:
        OptionError: one of them is none.
    """
    if text is None:
        return None
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise OptionError(f"{option} {text} is no list of numbers: write 1,0.1,0.01") from None


Memory = Annotated[
    str | None,
    typer.Option(
        "--memory",
        metavar="SIZE",
        help="Most memory to hold in all, such as 4GB; default: four fifths of what is free.",
        rich_help_panel=COMPUTING,
        show_default=False,
    ),
]
