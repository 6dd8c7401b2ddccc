"""Tables as text: aligned, CSV, LaTeX with booktabs, Markdown."""

from __future__ import annotations

import re
import textwrap
import unicodedata
from collections.abc import Iterable
from typing import Any

import pandas as pd

from hessscope.options.fields import one_of
from hessscope.reports.layouts.table import ReportTable
from hessscope.reports.texts import MISSING


def format_table(table: ReportTable, kind: str) -> str:
    """Write a table as text.

    Args:
        table: what to write.
        kind: "table" (aligned, for a terminal), "csv" (the numbers, every interval in columns of
            its own), "latex" (needs the package booktabs) or "markdown".

    Raises:
        UnknownNameError: there is no such format.
    """
    return _WRITERS[one_of(_WRITERS, "table format")(kind)](table)


def cells(table: ReportTable) -> list[list[str]]:
    """The texts, row by row."""
    return [[str(value) for value in row] for row in table.shown.itertuples(index=False, name=None)]


def levels(table: ReportTable) -> list[tuple[str, ...]]:
    """The headers of each column, from the top down."""
    names = (name if isinstance(name, tuple) else (name,) for name in table.shown.columns)
    return [tuple(map(str, name)) for name in names]


def numeric(table: ReportTable) -> list[bool]:
    """Whether the cells of each column are numbers, which stand to the right."""
    rows = cells(table)
    return [_is_number([row[k] for row in rows]) for k in range(len(table.shown.columns))]


def _is_number(column: list[str]) -> bool:
    number = r"[-−(]?[\d∞][-\d∞,.e+ ±×%()\[\]⁻⁰¹²³⁴⁵⁶⁷⁸⁹]*"
    filled = [text for text in column if text not in ("", MISSING)]
    return bool(filled) and all(re.fullmatch(number, text) for text in filled)


def _csv(table: ReportTable) -> str:
    return table.numbers.map(_no_formula).to_csv(index=False, lineterminator="\n")


def _no_formula(value: Any) -> Any:
    """A cell that no spreadsheet takes for a formula: an apostrophe stands before = + - @."""
    return f"'{value}" if isinstance(value, str) and value[:1] in "=+-@\t\r" and value else value


def _aligned(table: ReportTable) -> str:
    rows, heads = cells(table), levels(table)
    # A name over several columns is written once; a column without a second name has it below.
    tops = [top if any(below) else "" for top, *below in heads]
    names = [below[0] if any(below) else top for top, *below in heads]
    firsts = [k for k, top in enumerate(tops) if k == 0 or top != tops[k - 1]]
    columns = [[name, *(row[k] for row in rows)] for k, name in enumerate(names)]
    widths = [max(map(len, column)) for column in columns]
    for first, end in zip(firsts, [*firsts[1:], len(names)], strict=True):
        space = sum(widths[first:end]) + 2 * (end - first - 1)
        widths[end - 1] += max(0, len(tops[first]) - space)
    right = numeric(table)

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
    def line(texts: Iterable[str]) -> str:
        return f"| {' | '.join(texts)} |"

    heads = [" ".join(filter(None, names)) for names in levels(table)]
    lines = [
        f"**{_markdown_text(table.title)}**",
        "",
        line(map(_markdown_text, heads)),
        line("---:" if right else "---" for right in numeric(table)),
        *(line(map(_markdown_text, row)) for row in cells(table)),
    ]
    notes = [f"- {_markdown_text(note)}" for note in table.notes]
    return "\n".join([*lines, *([""] if notes else []), *notes]) + "\n"


def _markdown_text(text: str) -> str:
    """Text that stays text: no markup, no HTML, one line."""
    plain = re.sub(r"([\\`*|])", r"\\\1", " ".join(text.split()))
    return plain.replace("&", "&amp;").replace("<", "&lt;").replace("](", "]\\(")


def _latex(table: ReportTable) -> str:
    shown = table.shown.map(lambda value: _latex_cell(str(value)))
    heads = [tuple(map(_latex_text, names)) for names in levels(table)]
    two = isinstance(shown.columns, pd.MultiIndex)
    shown.columns = pd.MultiIndex.from_tuples(heads) if two else pd.Index([h for (h,) in heads])
    caption = f"{table.title}. {'; '.join(table.notes)}"
    text = shown.style.hide(axis="index").to_latex(
        column_format="".join("r" if right else "l" for right in numeric(table)),
        caption=_latex_text(caption),
        hrules=True,
        multicol_align="c",
        position_float="centering",
    )
    return f"% needs \\usepackage{{booktabs}}\n{text}"


_COMMANDS = {
    **dict(zip("±×·≤≥≈", ("pm", "times", "cdot", "leq", "geq", "approx"), strict=True)),
    **dict(zip("∇→∞Δℓ•‖", ("nabla", "to", "infty", "Delta", "ell", "bullet", "|"), strict=True)),
}
_LATEX = {
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    **{sign: f"${sign}$" for sign in "<>|"},
    **{sign: f"$\\{command}$" for sign, command in _COMMANDS.items()},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "−": "$-$",
    "–": "--",
    "─": "--",
    "…": r"\ldots{}",
    "½": r"$\frac{1}{2}$",
    "₁": "$_1$",
    "₂": "$_2$",
    "√": r"$\surd$",
    "∂": r"$\partial$",
    "\ufffd": "?",
}
_RAISED = dict(zip("⁺⁻⁰¹²³⁴⁵⁶⁷⁸⁹ᵀ", "+-0123456789T", strict=True))
_ACCENTS = dict(zip("\u0300\u0301\u0302\u0303\u0308\u030a\u030c\u0327", "`'^~\"rvc", strict=True))


def _latex_cell(text: str) -> str:
    """The same for a cell, where the hyphen before a number is a minus."""
    return _latex_text(re.sub("^-", "−", text) if _is_number([text]) else text)


def _latex_character(character: str) -> str:
    """What prints it in any document: letters by their accents, what is not known by its code."""
    if character in _LATEX or character.isascii():
        return _LATEX.get(character, character)
    greek = re.fullmatch(r"GREEK SMALL LETTER (\w+)", unicodedata.name(character, ""))
    if greek and greek[1] != "OMICRON":
        return f"$\\{greek[1].lower().replace('lamda', 'lambda')}$"
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


_WRITERS = {"table": _aligned, "csv": _csv, "latex": _latex, "markdown": _markdown}
