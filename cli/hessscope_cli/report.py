"""``hessscope report``: tables, figures and pages of records."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from hessscope.errors import OptionError
from hessscope.records import check_distinct, prepare_output
from hessscope_cli import options, terminal

EXAMPLES = """[bold]Examples[/bold]

hessscope report model.spectrum.h5

hessscope report model.spectrum.h5 --out model.html

hessscope report study --out study.html --plot epsilon_alpha.pdf

hessscope report momentum=runs/momentum adam=runs/adam --layout table1 --format latex

hessscope report study --figure eigenvalues --semicircle --plot eigenvalues.svg
"""

DRAWING = "Figure"


def command(
    records: Annotated[
        list[str],
        typer.Argument(
            metavar="RECORD...",
            help="Records, or folders with records; LABEL=PATH names a method.",
            show_default=False,
        ),
    ],
    format: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="FORMAT",
            help="table, csv, latex, markdown or html (one page with everything). Default: by the "
            "suffix of --out, else table.",
            rich_help_panel=options.OUTPUT,
            show_default=False,
        ),
    ] = None,
    layout: Annotated[
        str | None,
        typer.Option(
            "--layout",
            metavar="NAME",
            help="summary (one record), outcomes (how searches ended), records (a row each), "
            "methods (mean ± standard deviation), sweep (other tolerances), causes (of zeros), "
            "series (by epoch), or a table of the 2017 paper with its numbers: table1, table2, "
            "table3, table5, table7, table8, table9, autoencoder. Default: by what there is.",
            rich_help_panel=options.OUTPUT,
            show_default=False,
        ),
    ] = None,
    by: Annotated[
        str | None,
        typer.Option(
            "--by",
            metavar="COLUMN",
            help="What tells methods apart: label, optimizer, initialization, architecture, "
            "method, origin or data.",
            rich_help_panel=options.OUTPUT,
            show_default=False,
        ),
    ] = None,
    title: Annotated[
        str | None,
        typer.Option(
            "--title",
            metavar="TEXT",
            help="Of the HTML page.",
            rich_help_panel=options.OUTPUT,
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="FILE",
            help="Write the table or page here: .txt, .csv, .tex, .md, .html.",
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
            rich_help_panel=DRAWING,
            show_default=False,
        ),
    ] = None,
    figure: Annotated[
        str | None,
        typer.Option(
            "--figure",
            metavar="NAME",
            help="epsilon-alpha, eigenvalues (low, middle and high loss), spectrum, section, "
            "trace or series. Default: by what the records are.",
            rich_help_panel=DRAWING,
            show_default=False,
        ),
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(
            "--against",
            metavar="AXIS",
            help="epsilon-alpha: loss (default) or error.",
            rich_help_panel=DRAWING,
            show_default=False,
        ),
    ] = None,
    color: Annotated[
        str | None,
        typer.Option(
            "--color",
            metavar="COLUMN",
            callback=options.underscored,
            help="epsilon-alpha: origin (default) or gradient-norm.",
            rich_help_panel=DRAWING,
            show_default=False,
        ),
    ] = None,
    uncertified: Annotated[
        bool,
        typer.Option(
            "--uncertified",
            help="epsilon-alpha: show ends of searches without a certificate too, as crosses.",
            rich_help_panel=DRAWING,
            show_default=False,
        ),
    ] = False,
    distinct: Annotated[
        bool,
        typer.Option(
            "--distinct",
            help="epsilon-alpha: count points once that are the same up to symmetries.",
            rich_help_panel=DRAWING,
            show_default=False,
        ),
    ] = False,
    correlation: Annotated[
        str | None,
        typer.Option(
            "--correlation",
            metavar="NAME",
            help="epsilon-alpha: spearman (default) or kendall.",
            rich_help_panel=DRAWING,
            show_default=False,
        ),
    ] = None,
    closed_form: Annotated[
        Path | None,
        typer.Option(
            "--closed-form",
            metavar="FILE.csv",
            help="epsilon-alpha: known points to draw as rings, columns loss and alpha.",
            rich_help_panel=DRAWING,
            show_default=False,
        ),
    ] = None,
    semicircle: Annotated[
        bool,
        typer.Option(
            "--semicircle",
            help="eigenvalues: the nearest semicircle over each, and how near it is.",
            rich_help_panel=DRAWING,
            show_default=False,
        ),
    ] = False,
    overwrite: options.Overwrite = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Tables, figures and pages of records, for a paper or for the screen.

    Takes records of spectra, of critical points and of sections, or a folder of
    a survey. Every count comes with its interval and its tolerance; searches
    that failed are counted as such.
    """
    from hessscope import reports  # matplotlib and pandas take a second

    drawing = {
        "against": against,
        "color": color,
        "uncertified": uncertified or None,
        "correlation": correlation,
    }
    given = {name: value for name, value in drawing.items() if value is not None}
    if plot is None and (figure or given or distinct or closed_form or semicircle):
        raise OptionError("options of a figure were given, but no file for it: add --plot FILE")
    if as_json and (out is not None or format is not None):
        raise OptionError("--json prints an object of its own: leave out --format and --out")
    kind = reports.chosen_format(format, out)
    sources = labelled(records)
    paths = [path for s in sources for path in (s.values() if isinstance(s, dict) else [s])]
    inputs = [*((path, "one of the records") for path in paths), (closed_form, "the known points")]
    check_distinct((out, plot), inputs)
    if out is not None:
        prepare_output(out, overwrite)
    if plot is not None:
        reports.check_figure_path(plot, overwrite)
    points = reports.load_records(sources)
    drawn = None
    if plot is not None:
        drawn = reports.report_figure(
            points,
            figure,
            distinct=distinct,
            semicircle=semicircle,
            closed_form=closed_form,
            **given,
        )
    if as_json:
        answer: Any = reports.report_object(points, layout, by)
        typer.echo(json.dumps(answer, indent=1, allow_nan=False, ensure_ascii=False))
    else:
        text = reports.report(
            points, kind, layout=layout, by=by, title=title, out=out, overwrite=overwrite
        )
        if out is None:
            typer.echo(terminal.printable(text), nl=False)
        elif not quiet:
            terminal.saved("report", out)
    if plot is not None and drawn is not None:
        reports.save_figure(drawn, plot, overwrite)
        if not quiet:
            terminal.saved("figure", plot)


def labelled(arguments: list[str]) -> list[Any]:
    """``LABEL=PATH`` as a mapping; a path that exists is a path, whatever is in it."""
    sources: list[Any] = []
    for argument in arguments:
        label, equals, path = argument.partition("=")
        sources.append({label: path} if equals and not Path(argument).exists() else argument)
    return sources
