"""``hessscope inspect``: what is in a checkpoint."""

from __future__ import annotations

import json

import typer

from hessscope.pipeline import Problem, inspect_checkpoint
from hessscope_cli import options, render, terminal

EXAMPLES = """[bold]Examples[/bold]

hessscope inspect model.pt

hessscope inspect model.pt --data mnist --split test

hessscope inspect whole_module.pth --trust --model net.py:CNN
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
    dtype: options.DtypeOption = options.Dtype.float64,
    device: options.Device = "auto",
    seed: options.Seed = 0,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Show format, layers and metadata of a checkpoint; with --data also loss and accuracy.

    No linear algebra: at most two passes over the data.
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
    with terminal.progress_bars(quiet) as progress:
        inspection = inspect_checkpoint(problem, progress)
    if as_json:
        typer.echo(json.dumps(inspection.as_dict(), indent=1, allow_nan=False, ensure_ascii=False))
    else:
        render.inspection(inspection, quiet=quiet)
