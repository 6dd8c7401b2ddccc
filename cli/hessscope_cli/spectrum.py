"""``hessscope spectrum``: eigenvalues, index and degeneracy of a checkpoint."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from hessscope import records
from hessscope.backends import ExactBackend, LanczosBackend
from hessscope.pipeline import (
    BACKENDS,
    Problem,
    SpectrumReport,
    SpectrumRequest,
    View,
    find_checkpoints,
    run_spectrum,
    save_record,
    save_spectrum_figure,
)
from hessscope.registry import ZERO_RULES
from hessscope.spectra import find_zero_rule
from hessscope_cli import options, render, series, terminal
from hessscope_cli.exit_codes import INTERRUPTED
from hessscope_cli.problem import Problems, takes_problems

EXAMPLES = """[bold]Examples[/bold]

hessscope spectrum model.pt --data mnist

hessscope spectrum model.pt --data mnist --subset 5000 --plot spectrum.png

hessscope spectrum resnet.th --model resnet.py:resnet20 --data cifar10 --backend lanczos

hessscope spectrum model.pt --data mnist --backend lanczos --tolerance 1e-3 --target-width 0.1

hessscope spectrum model.pt --data mnist --explain

hessscope spectrum model.pt --data mnist --tolerance 1e-8 --sweep

hessscope spectrum model.pt --preset sankar2017 --zero-rule sankar2017

hessscope spectrum model.pt --data mnist --operator gauss-newton

hessscope spectrum model.pt --data mnist --by-layer --params '*.weight'

hessscope spectrum model.pt --data digits --json | jq .index

hessscope spectrum run/*.pt --plot training.png
"""


@takes_problems
def command(
    problem_of: Problems,
    checkpoints: options.Checkpoints,
    backend: Annotated[
        str,
        typer.Option(
            "--backend",
            metavar="NAME",
            help=f"{', '.join(BACKENDS)}. exact: all eigenvalues. lanczos: random probes, with "
            "intervals. pyhessian: its top eigenvalue and trace, as a cross-check. auto: exact if "
            "it fits in memory and in 15 minutes, else lanczos.",
            rich_help_panel=options.COMPUTING,
        ),
    ] = "auto",
    steps: Annotated[
        int,
        typer.Option(
            "--steps",
            metavar="N",
            help="Lanczos steps of each run: a first one, and the probes.",
            rich_help_panel=options.COMPUTING,
        ),
    ] = 100,
    probes: Annotated[
        int,
        typer.Option(
            "--probes",
            metavar="N",
            help="Random start vectors of lanczos that are sampled.",
            rich_help_panel=options.COMPUTING,
        ),
    ] = 4,
    reorthogonalize: options.Reorthogonalize = "auto",
    target_width: options.TargetWidth = None,
    budget: options.Budget = None,
    tolerance: Annotated[
        float | None,
        typer.Option(
            "--tolerance",
            metavar="TAU",
            help="An eigenvalue counts as zero within ±TAU; with --zero-rule relative within ±TAU "
            "times the largest. Default: twice the noise floor (relative: n times eps).",
            rich_help_panel=options.COMPUTING,
            show_default=False,
        ),
    ] = None,
    explain: Annotated[
        bool,
        typer.Option(
            "--explain",
            help="Why are eigenvalues zero? Count null directions by their causes, each verified "
            "by Hessian-vector products.",
            rich_help_panel=options.COMPUTING,
            show_default=False,
        ),
    ] = False,
    zero_rule: Annotated[
        str | None,
        typer.Option(
            "--zero-rule",
            metavar="RULE",
            help=f"{', '.join(ZERO_RULES)}. noise-floor: twice the measured noise floor. absolute: "
            "as --tolerance says. relative: --tolerance times the largest. sankar2017: also what "
            "the code of arXiv:1706.02052 counts, beside ours. Default: noise-floor, or absolute "
            "with --tolerance.",
            rich_help_panel=options.COMPUTING,
            show_default=False,
        ),
    ] = None,
    sweep: Annotated[
        bool,
        typer.Option(
            "--sweep",
            help="Show the counts at every tolerance of the sweep, four a decade.",
            rich_help_panel=options.OUTPUT,
            show_default=False,
        ),
    ] = False,
    operator: options.Operator = "hessian",
    params: options.Params = None,
    by_layer: options.ByLayer = False,
    eigenvectors: options.Eigenvectors = None,
    bulk: options.Bulk = False,
    semicircle: options.Semicircle = False,
    memory: options.Memory = None,
    plan: Annotated[
        Path | None,
        typer.Option(
            "--plan",
            metavar="RECORD",
            help="Compute as this record says (way, batches, threads): the same numbers, bit for "
            "bit, on the same machine.",
            rich_help_panel=options.COMPUTING,
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="FILE.h5",
            help="Record. Default: MODEL.spectrum.h5 in this folder, numbered; of a series "
            "FOLDER.series.h5, which the same command goes on with.",
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
    save_every: options.SaveEvery = 10.0,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    debug: options.Debug = False,
) -> None:
    """Hessian spectrum of a checkpoint: index, degeneracy, and how sure they are.

    Loads MODEL and the data, differentiates the mean loss twice, and counts the
    negative, zero and positive eigenvalues of its Hessian. Writes a record
    (HDF5) and, on request, a figure. Of several checkpoints it makes one record,
    one table and one figure against the epoch.
    """
    room = options.parse_memory(memory)
    found = find_checkpoints(checkpoints)
    problem = problem_of(found[0])
    rule = find_zero_rule(zero_rule, tolerance)
    request = SpectrumRequest(
        problem,
        backend=backend,
        exact=ExactBackend(memory=room),
        sampled=LanczosBackend(
            steps=steps,
            probes=probes,
            seed=problem.seed,
            reorthogonalize=reorthogonalize,
            memory=room,
            target_width=target_width,
            budget=budget,
            rule=rule,
        ),
        explain=explain,
        zero_rule=rule,
        plan=plan,
        out=out or default_record(problem),
        plot=plot,
        overwrite=overwrite,
        save_every=60.0 * save_every,
        view=View.of(
            operator,
            params,
            by_layer=by_layer,
            eigenvectors=eigenvectors,
            bulk=bulk,
            semicircle=semicircle,
        ),
    )
    if len(checkpoints) > 1 or found != tuple(checkpoints):
        problems = tuple(problem_of(path) for path in found)
        series.answer(request, problems, out, as_json=as_json, quiet=quiet)
        return
    answer(request, as_json=as_json, quiet=quiet, verbose=verbose, sweep=sweep)


def answer(
    request: SpectrumRequest, *, as_json: bool, quiet: bool, verbose: bool, sweep: bool = False
) -> None:
    """Compute, write, and show what came out; shown also where it could not be written."""
    with terminal.progress_bars(quiet) as progress:
        report = run_spectrum(request, progress, terminal.teller(quiet))
    try:
        report = save_record(request, report)
        figure = save_spectrum_figure(request, report)
    except KeyboardInterrupt:
        terminal.show_error("interrupted while writing; the files that are there are whole")
        sys.exit(INTERRUPTED)
    finally:
        _show(report, as_json=as_json, verbose=verbose, sweep=sweep)
        if report.record is not None and not quiet:
            terminal.saved("record", report.record)
    if figure is not None and not quiet:
        terminal.saved("figure", figure)


def default_record(problem: Problem) -> Path:
    """The first free name of MODEL.spectrum.h5, MODEL.spectrum-2.h5, … in this folder."""
    name = f"{Path(problem.checkpoint).stem}.spectrum"
    return records.numbered_path(Path.cwd(), name, ".h5").relative_to(Path.cwd())


def _show(report: SpectrumReport, *, as_json: bool, verbose: bool, sweep: bool) -> None:
    if as_json:
        typer.echo(json.dumps(report.as_dict(), indent=1, allow_nan=False, ensure_ascii=False))
    else:
        terminal.show(*render.spectrum(report, verbose=verbose, sweep=sweep))
