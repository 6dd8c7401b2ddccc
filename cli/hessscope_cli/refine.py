"""``hessscope refine``: the critical point near a checkpoint, and evidence that it is one."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from hessscope.pipeline import (
    Problem,
    RefinementReport,
    RefineRequest,
    known_methods,
    run_refinement,
    save_refinement,
    save_trace_figure,
)
from hessscope.registry import GLOBALISATIONS
from hessscope_cli import options, render, terminal
from hessscope_cli.exit_codes import INTERRUPTED, NOT_CONVERGED
from hessscope_cli.problem import takes_problem
from hessscope_cli.search_display import search_display

SEARCH = "Search"
END = "Spectrum at the end"

EXAMPLES = """[bold]Examples[/bold]

hessscope refine model.pt --data mnist --subset 5000 --l2 1e-3

hessscope refine model.pt --data mnist --method krylov_sfn --max-iterations 50 --plot trace.png

hessscope refine model.pt --data mnist --resume model.refine.h5 --method newton_mr

hessscope refine model.pt --data digits --json | jq .certificate
"""


@takes_problem
def command(
    problem: Problem,
    method: Annotated[
        str | None,
        typer.Option(
            "--method",
            metavar="NAME",
            callback=options.underscored,
            help=f"{', '.join(known_methods())}. newton, damped_newton and newton_mr go to the "
            "critical point nearby, of any index; sfn and krylov_sfn go down and leave saddles. "
            "auto, the default: newton up to 4,000 parameters, newton_mr (matrix-free) above.",
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
            help=f"{', '.join(GLOBALISATIONS)}. Default: what suits the method.",
            rich_help_panel=SEARCH,
            show_default=False,
        ),
    ] = None,
    merit: Annotated[
        str | None,
        typer.Option(
            "--merit",
            metavar="NAME",
            help="What steps make smaller: gradient (½‖∇L‖²) or loss. Default: the method's own.",
            rich_help_panel=SEARCH,
            show_default=False,
        ),
    ] = None,
    max_iterations: Annotated[
        int | None,
        typer.Option(
            "--max-iterations",
            metavar="N",
            help="Steps at most, those before --resume included. Default: the method's own.",
            rich_help_panel=SEARCH,
            show_default=False,
        ),
    ] = None,
    gradient_tolerance: Annotated[
        float | None,
        typer.Option(
            "--gradient-tolerance",
            metavar="X",
            help="Gradient norm that counts as zero. Default: its rounding floor, measured.",
            rich_help_panel=SEARCH,
            show_default=False,
        ),
    ] = None,
    krylov_steps: Annotated[
        int | None,
        typer.Option(
            "--krylov-steps",
            metavar="N",
            help="Products for a step of the matrix-free methods, at most.",
            rich_help_panel=SEARCH,
            show_default=False,
        ),
    ] = None,
    inner_steps: Annotated[
        int | None,
        typer.Option(
            "--inner-steps",
            metavar="N",
            help="Steps by the same curvature before it is computed anew.",
            rich_help_panel=SEARCH,
            show_default=False,
        ),
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(
            "--resume",
            metavar="FILE",
            help="Start where another search stopped: from its record, or from its .partial file. "
            "Search options not given stay as they were.",
            rich_help_panel=SEARCH,
            show_default=False,
        ),
    ] = None,
    backend: Annotated[
        str | None,
        typer.Option(
            "--backend",
            metavar="NAME",
            help="auto (default), exact or lanczos. The full certificate takes exact.",
            rich_help_panel=END,
            show_default=False,
        ),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(
            "--steps",
            metavar="N",
            help="Lanczos steps of each probe; default 300.",
            rich_help_panel=END,
            show_default=False,
        ),
    ] = None,
    probes: Annotated[
        int | None,
        typer.Option(
            "--probes",
            metavar="N",
            help="Random start vectors of lanczos; default 4.",
            rich_help_panel=END,
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
            rich_help_panel=END,
            show_default=False,
        ),
    ] = None,
    smooth: Annotated[
        bool | None,
        typer.Option(
            "--smooth",
            help="State that the loss is smooth where kinks cannot be looked for (custom "
            "functions, values that are read). The certificate names it as an assumption.",
            rich_help_panel=END,
            show_default=False,
        ),
    ] = None,
    best_loss: Annotated[
        float,
        typer.Option(
            "--best-loss",
            metavar="X",
            help="Lowest loss that is known: δ of a (κ, ε, ρ, δ)-good saddle is measured from it.",
            rich_help_panel=END,
            show_default=False,
        ),
    ] = math.nan,
    memory: options.Memory = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="FILE.h5",
            help="Record. Default: MODEL.refine.h5 in this folder, numbered.",
            rich_help_panel=options.OUTPUT,
            show_default=False,
        ),
    ] = None,
    save: Annotated[
        Path | None,
        typer.Option(
            "--save",
            metavar="FILE",
            help="Refined checkpoint, in the format of MODEL. Default: MODEL.refined.pt in this "
            "folder, numbered like the record.",
            rich_help_panel=options.OUTPUT,
            show_default=False,
        ),
    ] = None,
    keep_dtype: Annotated[
        bool,
        typer.Option(
            "--keep-dtype",
            help="Write the weights in the data types of MODEL, rounded. Default: in the type in "
            "which they were computed, since float32 cannot hold a critical point.",
            rich_help_panel=options.OUTPUT,
            show_default=False,
        ),
    ] = False,
    plot: Annotated[
        Path | None,
        typer.Option(
            "--plot",
            metavar="FILE",
            help="Figure of the trace as .png, .pdf or .svg.",
            rich_help_panel=options.OUTPUT,
            show_default=False,
        ),
    ] = None,
    overwrite: options.Overwrite = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    debug: options.Debug = False,
) -> None:
    """Go to the critical point near a checkpoint, and say what kind of point it is.

    Writes the refined checkpoint, a record (HDF5) with the trace, and on request a figure. Ctrl-C
    stops after the step under way and writes what was reached; the same command resumes from
    there. Exit code 3 where the search did not converge.
    """
    given: dict[str, Any] = {
        "globalisation": globalisation,
        "merit": merit,
        "max_iterations": max_iterations,
        "gradient_tolerance": gradient_tolerance,
        "krylov_steps": krylov_steps,
        "inner_steps": inner_steps,
        "smooth": smooth,
        "backend": backend,
        "steps": steps,
        "probes": probes,
        "tolerance": tolerance,
        "memory": options.parse_memory(memory),
    }
    request = RefineRequest(
        problem,
        method=method,
        search={name: value for name, value in given.items() if value is not None},
        resume=resume,
        out=out,
        save=save,
        plot=plot,
        keep_dtype=keep_dtype,
        best_loss=best_loss,
        overwrite=overwrite,
    )
    answer(request.with_default_outputs(), as_json=as_json, quiet=quiet, verbose=verbose)


def answer(request: RefineRequest, *, as_json: bool, quiet: bool, verbose: bool) -> None:
    """Search, write, and show what came out; shown also where it could not be written."""
    tell = terminal.teller(quiet)
    with search_display(quiet) as (progress, watch):
        report = run_refinement(request, progress, tell, watch)
    try:
        report = save_refinement(request, report, tell)
        figure = save_trace_figure(request, report)
    except KeyboardInterrupt:
        terminal.show_error("interrupted while writing; the files that are there are whole")
        sys.exit(INTERRUPTED)
    finally:
        _show(report, as_json=as_json, verbose=verbose)
        if not quiet:
            for what, path in (("checkpoint", report.checkpoint), ("record", report.record)):
                if path is not None:
                    terminal.saved(what, path)
    if figure is not None and not quiet:
        terminal.saved("figure", figure)
    if report.status == "interrupted":
        sys.exit(INTERRUPTED)
    if report.status != "converged":
        sys.exit(NOT_CONVERGED)


def _show(report: RefinementReport, *, as_json: bool, verbose: bool) -> None:
    if as_json:
        typer.echo(json.dumps(report.as_dict(), indent=1, allow_nan=False, ensure_ascii=False))
    else:
        terminal.show(*render.refinement(report, verbose=verbose))
