"""Tables as text: aligned, CSV, LaTeX with booktabs, Markdown."""

from __future__ import annotations

import re
import textwrap
import unicodedata
from dataclasses import dataclass
from typing import Any

import pandas as pd

from hessscope.errors import UnknownNameError

TABLE_FORMATS = ("table", "csv", "latex", "markdown")
"""What ``format_table`` writes."""

MISSING = "–"
"""What stands for a number that there is not."""


@dataclass(frozen=True)
class ReportTable:
    """A table twice: as numbers, and as it is read.

    Attributes:
        title: what it shows.
        numbers: every number with its interval, one column each; what CSV has.
        shown: texts; columns may have two levels.
        notes: what the numbers rest on: tolerance, rule, data type, data.
    """

    title: str
    numbers: pd.DataFrame
    shown: pd.DataFrame
    notes: tuple[str, ...] = ()


def format_table(table: ReportTable, kind: str) -> str:
    """Write a table as text.

    Args:
        table: what to write.
        kind: "table" (aligned, for a terminal), "csv" (the numbers, every interval in columns of
            its own), "latex" (needs the package booktabs) or "markdown".

    Raises:
        UnknownNameError: there is no such format.
    """
    if kind not in TABLE_FORMATS:
        raise UnknownNameError("table format", kind, TABLE_FORMATS)
    if kind == "csv":
        return table.numbers.map(_no_formula).to_csv(index=False, lineterminator="\n")
    if kind == "latex":
        return _latex(table)
    return _markdown(table) if kind == "markdown" else _aligned(table)


def _no_formula(value: Any) -> Any:
    """A cell that no spreadsheet takes for a formula: an apostrophe stands before = + - @."""
    return f"'{value}" if isinstance(value, str) and value[:1] in "=+-@\t\r" and value else value


def headers(table: ReportTable) -> list[str]:
    """One header for each column; two levels joined."""
    return [
        " ".join(part for part in name if part) if isinstance(name, tuple) else str(name)
        for name in table.shown.columns
    ]


def cells(table: ReportTable) -> list[list[str]]:
    """The texts, row by row."""
    return [[str(value) for value in row] for row in table.shown.itertuples(index=False, name=None)]


def is_number(column: list[str]) -> bool:
    """Whether the cells of a column are numbers, which stand to the right."""
    number = r"[-−(]?[\d∞][-\d∞,.e+ ±×%()\[\]⁻⁰¹²³⁴⁵⁶⁷⁸⁹]*"
    filled = [text for text in column if text not in ("", MISSING)]
    return bool(filled) and all(re.fullmatch(number, text) for text in filled)


def _aligned(table: ReportTable) -> str:
    rows = cells(table)
    levels = [
        [str(part) for part in (name if isinstance(name, tuple) else ("", name))]
        for name in table.shown.columns
    ]
    # A name over several columns is written once; a column without a second name has it below.
    tops = [top if bottom else "" for top, bottom in levels]
    names = [bottom or top for top, bottom in levels]
    firsts = [k for k, top in enumerate(tops) if k == 0 or top != tops[k - 1]]
    columns = [[name, *(row[k] for row in rows)] for k, name in enumerate(names)]
    widths = [max(map(len, column)) for column in columns]
    for first, end in zip(firsts, [*firsts[1:], len(names)], strict=True):
        space = sum(widths[first:end]) + 2 * (end - first - 1)
        widths[end - 1] += max(0, len(tops[first]) - space)
    right = [is_number(column[1:]) for column in columns]

    def line(texts: list[str]) -> str:
        parts = (
            text.rjust(width) if at_right else text.ljust(width)
            for text, width, at_right in zip(texts, widths, right, strict=True)
        )
        return "  ".join(parts).rstrip()

    over = ""
    for first in firsts:
        over = over.ljust(sum(widths[:first]) + 2 * first) + tops[first]
    rule = "─" * (sum(widths) + 2 * (len(widths) - 1))
    body = [table.title, "", *([over] if over.strip() else []), line(names), rule, *map(line, rows)]
    notes = [
        textwrap.fill(note, 96, initial_indent="• ", subsequent_indent="  ") for note in table.notes
    ]
    return "\n".join([*body, *([""] if notes else []), *notes]) + "\n"


def _markdown(table: ReportTable) -> str:
    rows = cells(table)
    sides = [
        "---:" if is_number([row[k] for row in rows]) else "---"
        for k in range(len(table.shown.columns))
    ]
    lines = [
        f"**{_markdown_text(table.title)}**",
        "",
        f"| {' | '.join(map(_markdown_text, headers(table)))} |",
        f"| {' | '.join(sides)} |",
        *(f"| {' | '.join(map(_markdown_text, row))} |" for row in rows),
    ]
    notes = [f"- {_markdown_text(note)}" for note in table.notes]
    return "\n".join([*lines, *([""] if notes else []), *notes]) + "\n"


def _markdown_text(text: str) -> str:
    """Text that stays text: no markup, no HTML, one line."""
    plain = re.sub(r"([\\`*|])", r"\\\1", " ".join(text.split()))
    return plain.replace("&", "&amp;").replace("<", "&lt;").replace("](", "]\\(")


def _latex(table: ReportTable) -> str:
    shown = table.shown.map(lambda value: _latex_cell(str(value)))
    rows = cells(table)
    sides = "".join(
        "r" if is_number([row[k] for row in rows]) else "l" for k in range(len(shown.columns))
    )
    if isinstance(shown.columns, pd.MultiIndex):
        shown.columns = pd.MultiIndex.from_tuples(
            [tuple(_latex_text(part) for part in name) for name in shown.columns]
        )
    else:
        shown.columns = pd.Index([_latex_text(str(name)) for name in shown.columns])
    caption = f"{table.title}. {'; '.join(table.notes)}"
    text = shown.style.hide(axis="index").to_latex(
        column_format=sides,
        caption=_latex_text(caption),
        hrules=True,
        multicol_align="c",
        position_float="centering",
    )
    return f"% needs \\usepackage{{booktabs}}\n{text}"


_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": "$<$",
    ">": "$>$",
    "|": "$|$",
    "±": r"$\pm$",
    "×": r"$\times$",
    "·": r"$\cdot$",
    "−": "$-$",
    "–": "--",
    "…": r"\ldots{}",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
    "≈": r"$\approx$",
    "‖": r"$\|$",
    "∇": r"$\nabla$",
    "•": r"$\bullet$",
    "─": "--",
    "½": r"$\frac{1}{2}$",
    "₂": "$_2$",
    "→": r"$\to$",
    "∞": r"$\infty$",
    "Δ": r"$\Delta$",
    "α": r"$\alpha$",
    "β": r"$\beta$",
    "δ": r"$\delta$",
    "ε": r"$\epsilon$",
    "η": r"$\eta$",
    "θ": r"$\theta$",
    "λ": r"$\lambda$",
    "ρ": r"$\rho$",
    "σ": r"$\sigma$",
    "τ": r"$\tau$",
}
_RAISED = dict(zip("⁺⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "+-0123456789", strict=True))
_ACCENTS = dict(zip("\u0300\u0301\u0302\u0303\u0308\u030a\u030c\u0327", "`'^~\"rvc", strict=True))


def _latex_cell(text: str) -> str:
    """The same for a cell, where the hyphen before a number is a minus."""
    return _latex_text(re.sub("^-", "−", text) if is_number([text]) else text)


def _latex_character(character: str) -> str:
    """What prints it in any document: letters by their accents, what is not known by its code."""
    if character in _LATEX or character.isascii():
        return _LATEX.get(character, character)
    letter = unicodedata.normalize("NFD", character)
    base, marks = letter[0], letter[1:]
    if base.isascii() and marks in _ACCENTS:
        return f"\\{_ACCENTS[marks]}{{{base}}}"
    return f"U+{ord(character):04X}"


def _latex_text(text: str) -> str:
    """Text that LaTeX prints as it is, Greek letters and signs as mathematics."""
    power = f"[{''.join(_RAISED)}]+"
    parts = re.split(f"({power})", " ".join(text.split()))
    pieces = [
        piece
        for part in parts
        for piece in (
            ["$^{" + "".join(_RAISED[c] for c in part) + "}$"]
            if re.fullmatch(power, part)
            else map(_latex_character, part)
        )
    ]
    for k, piece in enumerate(pieces[1:-1], 1):
        # A letter within a formula belongs to it, as the L in ‖∇L‖.
        if piece.isalpha() and pieces[k - 1][-1:] == "$" == pieces[k + 1][:1] != pieces[k - 1]:
            pieces[k] = f"$ {piece}$"
    return re.sub(r"(?<!\\)\$\$", "", "".join(pieces))  # two formulas side by side are one
