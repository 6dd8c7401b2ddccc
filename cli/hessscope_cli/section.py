"""``hessscope section``: the loss between checkpoints, or along eigenvectors at one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from hessscope import records
from hessscope.pipeline import (
    Problem,
    SectionReport,
    SectionRequest,
    run_section,
    save_section,
    save_section_figure,
)
from hessscope_cli import options, render_section, terminal
from hessscope_cli.problem import takes_problem

EXAMPLES = """[bold]Examples[/bold]

hessscope section a.pt b.pt --data mnist --plot between.png

hessscope section a.pt b.pt c.pt --data mnist --plot plane.png

hessscope section model.pt --data digits --along highest --reach 0.5 --plot curvature.png
"""


@takes_problem
def command(
    problem: Problem,
    others: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[OTHER]...",
            help="One more point for a line, two for a plane: checkpoints of the same architecture "
            "or records of critical points. None: along eigenvectors at MODEL.",
            show_default=False,
        ),
    ] = None,
    along: Annotated[
        str,
        typer.Option(
            "--along",
            metavar="ENDS",
            help="Eigenvectors of the largest (highest) and the smallest (lowest) eigenvalue: one "
            "makes a line, both a plane.",
            rich_help_panel=options.COMPUTING,
        ),
    ] = "highest,lowest",
    resolution: Annotated[
        int | None,
        typer.Option(
            "--resolution",
            metavar="N",
            help="Values along each axis; each costs a pass over the data. Default: 51 on a line, "
            "25 on a plane.",
            rich_help_panel=options.COMPUTING,
            show_default=False,
        ),
    ] = None,
    margin: Annotated[
        float | None,
        typer.Option(
            "--margin",
            metavar="X",
            help="How far to go beyond the points, in parts of their distance. Default: 0 on a "
            "line, 0.25 on a plane.",
            rich_help_panel=options.COMPUTING,
            show_default=False,
        ),
    ] = None,
    reach: Annotated[
        float,
        typer.Option(
            "--reach",
            metavar="X",
            help="How far to go along eigenvectors, in the units of the parameters.",
            rich_help_panel=options.COMPUTING,
        ),
    ] = 1.0,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="FILE.h5",
            help="Record. Default: MODEL.section.h5 in this folder, numbered.",
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
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """The loss on a line or a plane: between checkpoints, or along eigenvectors at one.

    With one checkpoint the directions are eigenvectors of the Hessian of its
    largest and smallest eigenvalue; with two it is the line between them, with
    three the plane. Writes a record (HDF5) and, on request, a figure.
    """
    request = SectionRequest(
        problem,
        others=tuple(others or ()),
        along=tuple(part.strip() for part in along.split(",")),
        resolution=resolution,
        margin=margin,
        reach=reach,
        out=out or default_record(problem),
        plot=plot,
        overwrite=overwrite,
    )
    with terminal.progress_bars(quiet) as progress:
        report = run_section(request, progress, terminal.teller(quiet))
    try:
        report = save_section(request, report)
        figure = save_section_figure(request, report)
    finally:
        _show(report, as_json=as_json)
        if report.record is not None and not quiet:
            terminal.saved("record", report.record)
    if figure is not None and not quiet:
        terminal.saved("figure", figure)


def default_record(problem: Problem) -> Path:
    """The first free name of MODEL.section.h5, MODEL.section-2.h5, … in this folder."""
    name = f"{Path(problem.checkpoint).stem}.section"
    return records.numbered_path(Path.cwd(), name, ".h5").relative_to(Path.cwd())


def _show(report: SectionReport, *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(report.as_dict(), indent=1, allow_nan=False, ensure_ascii=False))
    else:
        terminal.show(*render_section.section(report))
