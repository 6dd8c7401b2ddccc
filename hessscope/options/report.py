"""Options of ``hessscope report`` and ``hs.report``."""

from __future__ import annotations

from dataclasses import KW_ONLY, MISSING, dataclass
from pathlib import Path
from typing import Any

from hessscope.errors import OptionError
from hessscope.options.fields import OUTPUT, Options, one_of, option, under
from hessscope.options.setting import FigureFile
from hessscope.registry import FIGURES, LAYOUTS

DRAWING = "Figure"

AGAINST = ("loss", "error")
COLORS = ("origin", "gradient_norm")
COEFFICIENTS = ("spearman", "kendall")
GROUPINGS = ("label", "optimizer", "initialization", "architecture", "method", "origin", "data")
SUFFIXES = {
    ".txt": "table",
    ".csv": "csv",
    ".tex": "latex",
    ".md": "markdown",
    ".html": "html",
    ".htm": "html",
    ".json": "json",
}
FORMATS = tuple(dict.fromkeys(SUFFIXES.values()))


def labelled(value: Any) -> Any:
    """Read ``LABEL=PATH`` as a mapping; a path that exists is a path, whatever is in it."""
    if isinstance(value, (list, tuple)):
        return [labelled(item) for item in value]
    if not isinstance(value, str) or Path(value).exists():
        return value
    label, equals, path = value.partition("=")
    return {label: path} if equals else value


_drawing, _output = under(DRAWING), under(OUTPUT)


@dataclass(frozen=True, kw_only=True)
class EpsilonAlpha(Options):
    """What else the ε–α plot shows."""

    closed_form: Any = _drawing(
        None,
        "ε–α plot: CSV file with known points to draw as rings, columns loss and alpha.",
        "FILE.csv",
        decides=False,
    )


@dataclass(frozen=True)
class ReportOptions(EpsilonAlpha, FigureFile):
    """What ``hessscope report`` is asked for."""

    records: Any = option(
        MISSING,
        "Records, or folders with records; LABEL=PATH names a method. In Python also results, "
        "reports, or a table of hs.load_records.",
        "RECORD...",
        argument=True,
        many=True,
        read=labelled,
    )
    format: str | None = _output(
        None,
        f"{', '.join(FORMATS)}; html is one page with everything. Default: by the suffix of `out`, "
        "else table.",
        "FORMAT",
        one_of(FORMATS, "format"),
    )
    _: KW_ONLY
    layout: Any = _output(
        None,
        "summary (one record), outcomes (how searches ended), records (a row each), methods (mean "
        "± standard deviation), sweep (other tolerances), causes (of zeros), series (by epoch), or "
        "a table of the 2017 paper with its numbers: table1, table2, table3, table5, table7, "
        "table8, table9, autoencoder. Default: by what there is.",
        "NAME",
        one_of(LAYOUTS),
    )
    by: str | None = _output(
        None,
        f"Column that tells methods apart: {', '.join(GROUPINGS)}.",
        "COLUMN",
        one_of(GROUPINGS, "grouping"),
    )
    title: str | None = _output(None, "Title of the HTML page.", "TEXT")
    out: str | Path | None = _output(
        None, "Write the table or page here: .txt, .csv, .tex, .md, .html, .json.", "FILE", Path
    )
    figure: Any = _drawing(
        None,
        f"{', '.join(FIGURES)}; eigenvalues are those of low, middle and high loss. Default: by "
        "what the records are.",
        "NAME",
        one_of(FIGURES),
    )
    against: str = _drawing(
        "loss", "epsilon_alpha: loss or error.", "AXIS", one_of(AGAINST, "axis")
    )
    color: str = _drawing(
        "origin", f"epsilon_alpha: {' or '.join(COLORS)}.", "COLUMN", one_of(COLORS, "colour")
    )
    uncertified: bool = _drawing(
        False, "epsilon_alpha: also show ends of searches without a certificate, as crosses."
    )
    distinct: bool = _drawing(
        False, "epsilon_alpha: count points once that are the same up to symmetries."
    )
    correlation: str = _drawing(
        "spearman",
        f"epsilon_alpha: {' or '.join(COEFFICIENTS)}.",
        "NAME",
        one_of(COEFFICIENTS, "rank correlation"),
    )
    semicircle: bool = _drawing(
        False, "eigenvalues: the nearest semicircle over each, and its distance."
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.format is None:
            object.__setattr__(self, "format", self._format_of_suffix())
        if self.format == "html" and not (self.layout is None and self.by is None):
            raise OptionError("an HTML page has all tables: leave out `layout` and `by`")
        if self.format != "html" and self.title is not None:
            raise OptionError(f"`title` is for HTML pages; the format is {self.format}")
        if self.plot is None and (self.figure is not None or self.drawing):
            raise OptionError("options of a figure were given, but no file for it: give `plot`")

    @property
    def drawing(self) -> dict[str, Any]:
        """Options of the figure that differ from their defaults."""
        how, given = self.described(), self.stored()
        names = [name for name in given if how[name].panel == DRAWING]
        return {name: getattr(self, name) for name in names if name != "figure"}

    def _format_of_suffix(self) -> str:
        suffix = "" if self.out is None else Path(self.out).suffix.lower()
        if suffix and suffix not in SUFFIXES:
            raise OptionError(
                f"the suffix '{suffix}' of {Path(str(self.out)).name} says no known format; give "
                f"one of {', '.join(SUFFIXES)}, or `format`: {', '.join(FORMATS)}"
            )
        return SUFFIXES.get(suffix, "table")
