"""The command ``hessscope`` and its sub-commands."""

from __future__ import annotations

from typing import Annotated

import typer

import hessscope
from hessscope.options.inspect import InspectOptions
from hessscope.options.refine import RefineOptions
from hessscope.options.report import ReportOptions
from hessscope.options.section import SectionOptions
from hessscope.options.spectrum import SpectrumOptions
from hessscope.options.survey import SurveyOptions
from hessscope.options.train import TrainOptions
from hessscope_cli import demo, inspect, refine, report, section, spectrum, survey, terminal, train
from hessscope_cli.commands import Screen, VerboseScreen, add_command

app = typer.Typer(
    name="hessscope",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Hessian spectra of trained PyTorch checkpoints: how many directions go down (index), "
    "how many are flat (degeneracy), and how sure these numbers are.",
    epilog="""[bold]Example[/bold]

hessscope spectrum model.pt --data mnist
""",
)
add_command(
    app, "spectrum", spectrum.command, SpectrumOptions, spectrum.SpectrumScreen,
    examples=spectrum.EXAMPLES,
)  # fmt: skip
add_command(app, "refine", refine.refine, RefineOptions, VerboseScreen, examples=refine.EXAMPLES)
add_command(app, "report", report.command, ReportOptions, examples=report.EXAMPLES)
add_command(app, "section", section.section, SectionOptions, examples=section.EXAMPLES)
add_command(app, "inspect", inspect.command, InspectOptions, examples=inspect.EXAMPLES)
add_command(app, "train", train.train, TrainOptions, examples=train.EXAMPLES)
add_command(app, "survey", survey.survey, SurveyOptions, Screen, examples=survey.EXAMPLES)
add_command(app, "demo", demo.command, demo.DemoOptions, examples=demo.EXAMPLES)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"hessscope {hessscope.__version__}")
        raise typer.Exit


@app.callback()
def _global(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    terminal.show_warnings()
