"""``hessscope report``: tables, figures and pages of records."""

from __future__ import annotations

from dataclasses import replace

import typer

from hessscope.errors import OptionError
from hessscope.options.report import ReportOptions
from hessscope_cli import terminal
from hessscope_cli.commands import Screen

EXAMPLES = """
hessscope report model.spectrum.h5

hessscope report model.spectrum.h5 --out model.html

hessscope report study --out study.html --plot epsilon_alpha.pdf

hessscope report momentum=runs/momentum adam=runs/adam --layout table1 --format latex

hessscope report study --figure eigenvalues --semicircle --plot eigenvalues.svg
"""


def command(options: ReportOptions, screen: Screen) -> None:
    """Tables, figures and pages of records, for a paper or for the screen.

    Takes records of spectra, of critical points and of sections, or a folder of
    a survey. Every count comes with its interval and its tolerance; searches
    that failed are counted as such.
    """
    from hessscope.reports import make_report  # matplotlib and pandas take a second

    if screen.as_json:
        if options.out is not None or options.format != "table":
            raise OptionError("--json prints an object of its own: leave out `format` and `out`")
        options = replace(options, format="json")
    text = make_report(options)
    if options.out is None:
        typer.echo(terminal.printable(text), nl=False)
    for name, path in (("report", options.out), ("figure", options.plot)):
        if path is not None and not screen.quiet:
            terminal.saved(name, path)
