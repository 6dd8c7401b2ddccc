"""``hessscope inspect``: what is in a checkpoint."""

from __future__ import annotations

import json

import typer

from hessscope.pipeline import Problem, inspect_checkpoint
from hessscope_cli import options, render, terminal
from hessscope_cli.problem import takes_problem

EXAMPLES = """[bold]Examples[/bold]

hessscope inspect model.pt

hessscope inspect model.pt --data mnist --split test

hessscope inspect whole_module.pth --trust --model net.py:CNN
"""


@takes_problem
def command(
    problem: Problem,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Format, layers and metadata of a checkpoint; with --data also loss and accuracy.

    No linear algebra: a few passes over the data at most.
    """
    with terminal.progress_bars(quiet) as progress:
        inspection = inspect_checkpoint(problem, progress, terminal.teller(quiet))
    if as_json:
        typer.echo(json.dumps(inspection.as_dict(), indent=1, allow_nan=False, ensure_ascii=False))
    else:
        terminal.show(*render.inspection(inspection))
