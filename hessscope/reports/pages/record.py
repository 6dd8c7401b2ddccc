"""Page of one record."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import numpy as np
import pandas as pd

from hessscope.errors import OptionError, RecordError
from hessscope.records import Record
from hessscope.registry import LAYOUTS
from hessscope.reports.layouts.table import ReportTable, certificate_text
from hessscope.reports.pages.page import Fact, PageFigure, Part, pairs, render_page
from hessscope.reports.tables.points import SERIES, series_axis, series_table
from hessscope.reports.tables.records import as_points, flat
from hessscope.reports.texts import plain

PROVENANCE = (
    *("checkpoint", "checkpoint_sha256", "architecture", "data", "split", "examples"),
    *("data_fingerprint", "loss_function", "l2", "parameters", "method", "optimizer"),
    *("initialization", "seed", "dtype", "device", "backend", "tolerance", "noise_floor"),
)
"""Attributes that say where numbers come from."""
_SPECTRUM = (
    "Density of the eigenvalues, with a line at 0, and the counts for every tolerance τ: "
    "where they change with τ they belong to it."
)
_FACTS = ("loss", "gradient_norm", "index", "degeneracy", "alpha", "lambda_min", "lambda_max")


def record_page(record: Record, title: str | None = None) -> str:
    """The page of one record."""
    row = as_points(record).iloc[0]
    numbers = LAYOUTS["series" if record.kind == SERIES else "summary"](record)
    facts = _facts(row, numbers) if record.kind != SERIES else ()
    tables = (numbers,) if len(numbers.numbers) else ()
    return render_page(
        f"hessscope: {record.kind}",
        title or str(row["name"]),
        tuple(_verdict(row)),
        (*facts, *_section_facts(record)),
        (
            Part("Numbers", tables=tables, figures=tuple(figures_of(record))),
            *_more_tables(record),
            _provenance(record),
        ),
    )


def figures_of(record: Record) -> Iterator[PageFigure]:
    """Every figure that a record has."""
    if record.kind == "section":
        yield PageFigure.of("section", record, "The loss on the section.")
        return
    if record.kind == SERIES:
        axis = series_axis(series_table(record))
        caption = f"Loss, counts, extreme eigenvalues and gradient by {axis}."
        yield PageFigure.of("series", record, caption)
        return
    with suppress(OptionError, RecordError):  # a kind, or a record, without a spectrum
        yield PageFigure.of("spectrum", record, _SPECTRUM)
    if "trace/loss" in record.arrays:
        yield PageFigure.of("trace", record, "The search, step by step.")


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


def _facts(row: pd.Series, numbers: ReportTable) -> Iterator[Fact]:
    if not pd.isna(row["parameters"]):
        examples = "" if pd.isna(row["examples"]) else f"{row['examples']:,} examples"
        yield Fact("parameters n", f"{row['parameters']:,}", examples)
    for quantity, texts in zip(numbers.numbers["quantity"], numbers.shown.to_numpy(), strict=True):
        if quantity in _FACTS:
            yield Fact(*texts)
    if not pd.isna(row["tolerance"]):
        yield Fact("tolerance τ", plain(row["tolerance"]), f"δ = {plain(row['noise_floor'])}")


def _section_facts(record: Record) -> Iterator[Fact]:
    if record.kind == "section":
        values = record.arrays["values"]
        finite = values[np.isfinite(values)]
        if finite.size:
            low, high = float(finite.min()), float(finite.max())
            yield Fact("loss on the section", f"{plain(low)} – {plain(high)}")
        evaluations = record.attributes.get("evaluations")
        yield Fact("evaluations", plain(evaluations, ","), "of the loss over the data")


def _more_tables(record: Record) -> Iterator[Part]:
    if isinstance(record.attributes.get("tolerance_sweep"), dict):
        text = "The counts at other tolerances. A plateau is a gap in the spectrum."
        yield Part("Tolerance sweep", (text,), tables=(LAYOUTS["sweep"](record),))
    if record.attributes.get("degeneracy_causes"):
        yield Part("Causes of zeros", tables=(LAYOUTS["causes"](record),))


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
