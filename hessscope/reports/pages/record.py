"""Page of one record."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from hessscope.errors import OptionError, RecordError
from hessscope.records import Record
from hessscope.reports.figures.style import draw
from hessscope.reports.layouts.causes import causes
from hessscope.reports.layouts.series import series
from hessscope.reports.layouts.summary import summary
from hessscope.reports.layouts.sweep import sweep
from hessscope.reports.layouts.table import certificate_text
from hessscope.reports.pages.page import Fact, Page, PageFigure, Part, pairs
from hessscope.reports.tables.records import as_points, flat
from hessscope.reports.tables.series import SERIES, series_axis, series_table
from hessscope.reports.texts import SURE, confidence_text, count_text, plain

PROVENANCE = (
    *("checkpoint", "checkpoint_sha256", "architecture", "data", "split", "examples"),
    *("data_fingerprint", "loss_function", "l2", "parameters", "method", "optimizer"),
    *("initialization", "seed", "dtype", "device", "backend", "tolerance", "noise_floor"),
)
"""Attributes that say where numbers come from."""


def record_page(record: Record, title: str | None = None) -> Page:
    """The page of one record."""
    row = as_points(record).iloc[0]
    numbers = (series if record.kind == SERIES else summary)(record)
    return Page(
        f"hessscope: {record.kind}",
        title or str(row["name"]),
        tuple(_verdict(row)),
        (*_facts(row), *_section_facts(record)),
        (
            Part(
                "Numbers",
                tables=(numbers,) if len(numbers.numbers) else (),
                figures=tuple(figures_of(record)),
            ),
            *_more_tables(record),
            _provenance(record),
        ),
    )


def figures_of(record: Record) -> Iterator[PageFigure]:
    """Every figure that a record has."""
    if record.kind == "section":
        yield PageFigure.of(draw("section", record), "The loss on the section.")
        return
    if record.kind == SERIES:
        axis = series_axis(series_table(record))
        caption = f"Loss, counts, extreme eigenvalues and gradient by {axis}."
        yield PageFigure.of(draw("series", record), caption)
        return
    try:
        figure = draw("spectrum", record)
    except (OptionError, RecordError):
        pass  # a kind, or a record, without a spectrum
    else:
        yield PageFigure.of(
            figure,
            "Density of the eigenvalues, with a line at 0, and the counts for every tolerance τ: "
            "where they change with τ they belong to it.",
        )
    if "trace/loss" in record.arrays:
        yield PageFigure.of(draw("trace", record), "The search, step by step.")


def texts_of(record: Record) -> dict[str, str]:
    """Every attribute with its value as a text; groups with dots."""
    return {
        name: ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
        for name, value in flat(record.attributes)
    }


def _verdict(row: pd.Series) -> Iterator[str]:
    if row["classification"]:
        yield _sentence(row["classification"])
    data = row["data"] and f"{row['data']} {row['split'] or ''}".strip()
    known = [part for part in (row["architecture"], data) if part]
    if known:
        yield ", ".join(known)
    if row["status"]:
        yield f"The search by {row['method'] or 'an unnamed method'} ended {row['status']}."
    if row["certificate"]:
        yield _sentence(certificate_text(row))
    if row["certificate_reason"]:
        yield _sentence(row["certificate_reason"])


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _facts(row: pd.Series) -> Iterator[Fact]:
    known = row.notna()
    error = f"error {plain(row['error'], '.2%')}" if known["error"] else ""
    examples = f"{count_text(row['examples'])} examples" if known["examples"] else ""
    gradient = ""
    if known["gradient_floor"]:
        gradient = f"rounding floor {plain(row['gradient_floor'])}"
    elif known["gradient_norm_start"]:
        gradient = f"at the start {plain(row['gradient_norm_start'])}"
    for name, title, value, remark in (
        ("parameters", "parameters n", count_text, examples),
        ("loss", "loss ε", plain, error),
        ("gradient_norm", "gradient norm ‖∇L‖", plain, gradient),
        ("index", "index", count_text, _interval(row, "index")),
        ("degeneracy", "degeneracy", count_text, _interval(row, "degeneracy")),
        ("alpha", "α = index / n", plain, ""),
        ("tolerance", "tolerance τ", plain, f"δ = {plain(row['noise_floor'])}"),
        ("lambda_max", "λ max", plain, f"λ min {plain(row['lambda_min'])}"),
    ):
        if known[name]:
            yield Fact(title, value(row[name]), remark)


def _section_facts(record: Record) -> Iterator[Fact]:
    if record.kind == "section":
        values = record.arrays["values"]
        finite = values[np.isfinite(values)]
        if finite.size:
            low, high = float(finite.min()), float(finite.max())
            yield Fact("loss on the section", f"{plain(low)} – {plain(high)}")
        evaluations = record.attributes.get("evaluations")
        yield Fact("evaluations", plain(evaluations, ","), "of the loss over the data")


def _interval(row: pd.Series, name: str) -> str:
    lower, upper, confidence = row[f"{name}_lower"], row[f"{name}_upper"], row["confidence"]
    if pd.isna(lower) or pd.isna(upper):
        return "no interval"
    if lower == upper and confidence == 1:
        return SURE
    level = "" if np.isnan(confidence) else f", {confidence_text(confidence)}"
    return f"{count_text(lower)} to {count_text(upper)}{level}"


def _more_tables(record: Record) -> Iterator[Part]:
    if isinstance(record.attributes.get("tolerance_sweep"), dict):
        text = "The counts at other tolerances. A plateau is a gap in the spectrum."
        yield Part("Tolerance sweep", (text,), tables=(sweep(record),))
    if record.attributes.get("degeneracy_causes"):
        yield Part("Causes of zeros", tables=(causes(record),))


def _provenance(record: Record) -> Part:
    main: dict[str, str] = {} if record.path is None else {"record": str(record.path)}
    rest: dict[str, str] = {}
    for name, value in texts_of(record).items():
        first = name.split(".")[0]
        here = first in (*PROVENANCE, "provenance", "preprocessing", "hvps")
        (main if here else rest)[name] = value
    notes: list[Any] = []
    for name in ("notes", "warnings"):
        found = record.attributes.get(name, ())
        notes += [found] if isinstance(found, str) else found
    return Part(
        "Provenance",
        tuple(map(str, notes)),
        tables=(pairs("Where this comes from", main),),
        details=(("Everything else in the record", rest),),
    )
