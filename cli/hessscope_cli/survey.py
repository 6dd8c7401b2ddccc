"""``hessscope survey``: critical points from many starts."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import RenderableType

from hessscope.errors import OptionError
from hessscope.pipeline import (
    SurveyReport,
    SurveyRequest,
    first_checkpoint,
    run_study,
    save_study_figure,
)
from hessscope.refinement import SearchOptions
from hessscope.registry import METHODS
from hessscope.surveys import SurveyOptions
from hessscope_cli import options, terminal
from hessscope_cli.exit_codes import INTERRUPTED, NOT_CONVERGED
from hessscope_cli.layout import add_fact, facts_table, plain_table
from hessscope_cli.problem import Problems, takes_problems

EXAMPLES = """[bold]Examples[/bold]

hessscope survey run --trajectory 100 --uniform 100 --out study

hessscope survey --model mlp:16-4-10:tanh --data digits --resize 4 --loss mse --l2 3e-3 --train 5 \
--out digits --plot digits.pdf

hessscope survey run --uniform 0 --method newton --max-iterations 1000 --workers 4

hessscope survey --starts a.pt --starts b.npy --trajectory 0 --uniform 0

hessscope survey run --scheduler tcp://10.0.0.1:8786
"""
STARTS = "Starts"
SEARCH = "Search"
_DEFAULTS = SurveyOptions()


@takes_problems
def command(
    problem_of: Problems,
    runs: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[RUN]...",
            help="Trajectories: folders of hessscope train, or checkpoints; those of one folder "
            "are one trajectory.",
            show_default=False,
        ),
    ] = None,
    starts: Annotated[
        list[Path] | None,
        typer.Option(
            "--starts",
            metavar="FILE",
            help="Start from this point as it is: a checkpoint, or a .npy file with the flat "
            "vector. May be given again.",
            rich_help_panel=STARTS,
            show_default=False,
        ),
    ] = None,
    train: Annotated[
        int,
        typer.Option(
            "--train",
            metavar="N",
            help="First train N networks by saddle-free Newton, as trajectories; they are kept in "
            "OUT_runs.",
            rich_help_panel=STARTS,
        ),
    ] = 0,
    epochs: Annotated[
        int,
        typer.Option(
            "--epochs",
            metavar="N",
            help="Epochs of --train; each leaves a checkpoint.",
            rich_help_panel=STARTS,
        ),
    ] = 20,
    trajectory: Annotated[
        int | None,
        typer.Option(
            "--trajectory",
            metavar="N",
            help="Searches from random points of the trajectories, with uniform noise. Default: "
            f"{_DEFAULTS.trajectory}; 0 where there is no trajectory.",
            rich_help_panel=STARTS,
            show_default=False,
        ),
    ] = None,
    uniform: Annotated[
        int,
        typer.Option(
            "--uniform",
            metavar="N",
            help="Searches from uniformly sampled weights.",
            rich_help_panel=STARTS,
        ),
    ] = _DEFAULTS.uniform,
    amplitudes: Annotated[
        str | None,
        typer.Option(
            "--amplitudes",
            metavar="LIST",
            help="Amplitudes of the noise; each search draws one. "
            f"Default: {','.join(f'{a:g}' for a in _DEFAULTS.amplitudes)}.",
            rich_help_panel=STARTS,
            show_default=False,
        ),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            "--range",
            metavar="LOW,HIGH",
            help="Of the uniformly sampled weights. "
            f"Default: {_DEFAULTS.low:g},{_DEFAULTS.high:g}.",
            rich_help_panel=STARTS,
            show_default=False,
        ),
    ] = None,
    method: Annotated[
        str,
        typer.Option(
            "--method",
            metavar="NAME",
            callback=options.underscored,
            help=f"{', '.join(METHODS)}.",
            rich_help_panel=SEARCH,
        ),
    ] = "newton",
    max_iterations: Annotated[
        int | None,
        typer.Option(
            "--max-iterations",
            metavar="N",
            help="Steps of a search, at most. Default: the method's own.",
            rich_help_panel=SEARCH,
            show_default=False,
        ),
    ] = None,
    globalisation: Annotated[
        str | None,
        typer.Option(
            "--globalisation",
            metavar="NAME",
            callback=options.underscored,
            help="How steps are kept from going too far. Default: the method's own.",
            rich_help_panel=SEARCH,
            show_default=False,
        ),
    ] = None,
    tolerance: Annotated[
        float | None,
        typer.Option(
            "--tolerance",
            metavar="TAU",
            help="An eigenvalue counts as zero within ±TAU. Default: twice the noise floor, "
            "or what the distance to the critical point asks for, if that is more.",
            rich_help_panel=SEARCH,
            show_default=False,
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers",
            metavar="N",
            help="Searches at once, each in a process. Default: one for each core; one on a GPU.",
            rich_help_panel=options.COMPUTING,
            show_default=False,
        ),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(
            "--threads",
            metavar="N",
            help="Threads of each search. Default: the cores over the workers; 1 with --scheduler.",
            rich_help_panel=options.COMPUTING,
            show_default=False,
        ),
    ] = None,
    scheduler: Annotated[
        str | None,
        typer.Option(
            "--scheduler",
            metavar="ADDRESS",
            help="Compute on the Dask cluster with this scheduler, such as tcp://10.0.0.1:8786.",
            rich_help_panel=options.COMPUTING,
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            metavar="FOLDER",
            help="The study: one record for each search. The same command goes on with it.",
            rich_help_panel=options.OUTPUT,
        ),
    ] = Path("study"),
    plot: Annotated[
        Path | None,
        typer.Option(
            "--plot",
            metavar="FILE",
            help="ε–α plot of the distinct critical points as .png, .pdf or .svg; drawn anew each "
            "time.",
            rich_help_panel=options.OUTPUT,
            show_default=False,
        ),
    ] = None,
    closed_form: Annotated[
        Path | None,
        typer.Option(
            "--closed-form",
            metavar="FILE.csv",
            help="Known points to draw as rings, columns loss and alpha.",
            rich_help_panel=options.OUTPUT,
            show_default=False,
        ),
    ] = None,
    retry_failed: Annotated[
        bool,
        typer.Option(
            "--retry-failed",
            help="Do those searches again that ended with an error.",
            rich_help_panel=options.OUTPUT,
            show_default=False,
        ),
    ] = False,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite",
            help="Replace the study that is in the folder.",
            rich_help_panel=options.OUTPUT,
            show_default=False,
        ),
    ] = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Search for critical points from many starts, in parallel.

    Starts lie along trajectories of training, with noise, and at uniformly sampled
    weights (Dauphin et al. 2014, appendix C). Each search that has ended is stored
    at once, whatever came of it; after Ctrl-C or a crash the same command goes on.
    hessscope report FOLDER makes tables and figures of it.
    """
    paths, given = runs or [], starts or []
    low, high = _range(weights)
    problem = problem_of(first_checkpoint(paths, given) or out)
    if trajectory is None:
        trajectory = _DEFAULTS.trajectory if paths or train else 0
    refinement = SearchOptions(
        method=method,
        globalisation=globalisation,
        max_iterations=max_iterations,
        tolerance=tolerance,
    )
    request = SurveyRequest(
        problem,
        tuple(paths),
        tuple(given),
        SurveyOptions(
            trajectory,
            uniform,
            options.parse_numbers(amplitudes, "--amplitudes") or _DEFAULTS.amplitudes,
            low,
            high,
            problem.seed,
            refinement,
        ),
        out,
        train=train,
        epochs=epochs,
        workers=workers,
        threads=threads,
        scheduler=scheduler,
        overwrite=overwrite,
        retry_failed=retry_failed,
        plot=plot,
        closed_form=closed_form,
    )
    with terminal.progress_bars(quiet) as progress:
        report = run_study(request, progress, terminal.teller(quiet))
    try:
        report = save_study_figure(request, report)
    finally:
        _show(report, as_json=as_json)
        if not quiet:
            terminal.saved("study", report.result.folder)
    if report.figure is not None and not quiet:
        terminal.saved("figure", report.figure)
    _leave(report)


def _range(text: str | None) -> tuple[float, float]:
    numbers = options.parse_numbers(text, "--range") or (_DEFAULTS.low, _DEFAULTS.high)
    if len(numbers) != 2:
        raise OptionError(f"--range {text} is no range: write two numbers, as in --range=-1,1")
    return numbers[0], numbers[1]


def _show(report: SurveyReport, *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(report.as_dict(), indent=1, allow_nan=False, ensure_ascii=False))
    else:
        terminal.show(*_shown(report))


def _shown(report: SurveyReport) -> list[RenderableType]:
    result, known = report.result, report.facts
    facts = facts_table()
    add_fact(facts, "network", known["architecture"], f"n = {known['parameters']:,}")
    data = f"{known['data']} {known['split']}, {known['examples']:,} examples"
    add_fact(facts, "data", data, *known["preprocessing"])
    penalty = f" + {known['l2']:g}/2·‖θ‖²" if known["l2"] else ""
    add_fact(facts, "loss", known["loss_function"] + penalty)
    added = [f"{result.computed:,} now"] if result.computed < len(result.outcomes) else []
    missing = [f"{result.missing:,} not done"] if result.missing else []
    add_fact(
        facts,
        "searches",
        f"{len(result.outcomes):,}",
        known["method"],
        f"seed {known['seed']}",
        *added,
        *missing,
    )
    if not result.outcomes:
        return [facts]
    origins = [f"{count} {origin}" for origin, count in report.certified_by_origin().items()]
    add_fact(facts, "certified", f"{result.certified:,}", *origins)
    at_origin = int(report.distinct["at_origin"].sum())
    add_fact(
        facts,
        "distinct",
        f"{len(report.distinct):,}",
        "up to symmetries of the network",
        *([f"{at_origin} with all weights zero"] if at_origin else []),
    )
    if report.correlation is not None:
        value, _, basis = str(report.correlation).partition(" (")
        add_fact(facts, "loss and α", value, basis.removesuffix(")"))
    table = plain_table()
    table.add_column("ended")
    table.add_column("searches", justify="right")
    for status, count in result.statuses.items():
        table.add_row(status, str(count))
    return [facts, table]


def _leave(report: SurveyReport) -> None:
    """Say what is missing, and leave with its exit code."""
    result = report.result
    if result.interrupted:
        terminal.show_error(
            f"interrupted; {len(result.outcomes)} of {result.planned} searches are in "
            f"{result.folder}, and the same command goes on"
        )
        sys.exit(INTERRUPTED)
    if not result.statuses.get("converged"):
        terminal.show_error(
            "no search converged: take another start, method or loss, or more --max-iterations"
        )
        sys.exit(NOT_CONVERGED)
