"""Counts, extremes, layers and causes of zeros of one result."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from hessscope import spectra
from hessscope.degeneracy import DegeneracyAttribution
from hessscope.errors import OptionError
from hessscope.records import Record
from hessscope.refinement.result import spectrum_record
from hessscope.reports.tables.records import RecordLike, as_record
from hessscope.spectra import Inertia, Result


def as_result(source: RecordLike) -> Result | Record:
    """Give a result as it is, and of all else the record, which also says the tolerance."""
    return source if isinstance(source, Result) else as_record(source)


def result_of(source: RecordLike) -> Result:
    """Give the result that a record or a report holds; a result is given back as it is.

    Raises:
        OptionError: it is something else, or a record of another kind.
        RecordError: the record lacks a part of the result.
    """
    source = as_result(source)
    return spectra.result_of(_spectrum_record(source)) if isinstance(source, Record) else source


def result_and_tolerance(
    source: RecordLike, tolerance: float | None
) -> tuple[Result, float | None]:
    """Give the result, and the tolerance that is asked for, or else the one in the record."""
    source = as_result(source)
    if tolerance is None and isinstance(source, Record):
        saved = source.attributes.get("tolerance")
        tolerance = float(saved) if isinstance(saved, (int, float)) else None
    return result_of(source), tolerance


def _spectrum_record(source: Record) -> Record:
    """The record of the spectrum at a critical point; any other record as it is."""
    if source.kind != "critical point":
        return source
    inner = spectrum_record(source)
    if inner is not None:
        return inner
    attributes = source.attributes
    if "eigenvalues" not in source.arrays:
        return source
    parts = {"solver": float(attributes.get("noise_floor", 0.0)), "operator": 0.0}
    facts = {"noise_floor_parts": parts, "dtype": "float64", "hvps": 0, **attributes}
    return Record("spectrum", source.arrays, facts)


def inertia_table(source: Inertia | RecordLike, *, tolerance: float | None = None) -> pd.DataFrame:
    """Counts of negative (the index), zero (the degeneracy) and positive eigenvalues.

    Args:
        source: the counts, or a spectrum, a report or a record that they are made of.
        tolerance: τ of the counts; default the record's, or else 2δ.

    Returns:
        Rows ``negative``, ``zero``, ``positive``; columns ``lower``, ``estimate``, ``upper``,
        ``fraction`` (of all eigenvalues, by the estimate) and ``confidence`` of the interval.
        ``attrs`` has ``tolerance`` and ``noise_floor``, without which the counts say nothing.
    """
    if isinstance(source, Inertia):
        inertia = source
    else:
        result, tolerance = result_and_tolerance(source, tolerance)
        inertia = result.inertia(tolerance)
    counts = {"negative": inertia.negative, "zero": inertia.zero, "positive": inertia.positive}
    table = pd.DataFrame(
        [{**c.as_dict(), "fraction": c.estimate / inertia.size} for c in counts.values()],
        index=pd.Index(list(counts), name="eigenvalues"),
        columns=["lower", "estimate", "upper", "fraction", "confidence"],
    )
    table.attrs.update(tolerance=inertia.tolerance, noise_floor=inertia.noise_floor)
    return table


def spectrum_summary(source: RecordLike, *, tolerance: float | None = None) -> pd.DataFrame:
    """Extremes, trace and counts of a spectrum, each with its interval.

    Exact extremes are known to within the noise floor δ, the trace to within nδ. For Lanczos
    there certainly is an eigenvalue in the interval of an extreme one; that none lies beyond is
    all but certain with random start vectors, not proven. Its trace has Student's interval.

    Args:
        source: the result, or a record of it.
        tolerance: τ of the counts; default 2δ.

    Returns:
        Rows ``lambda_min``, ``lambda_max``, ``trace``, ``index``, ``degeneracy``, ``positive``,
        ``alpha``; columns ``lower``, ``estimate``, ``upper``, ``confidence``. ``attrs`` has
        ``parameters``, ``dtype``, ``tolerance`` and ``noise_floor``.
    """
    result = result_of(source)
    inertia = result.inertia(tolerance)
    delta, low, high = inertia.noise_floor, result.lambda_min, result.lambda_max
    below, above = result.lambda_min_residual, result.lambda_max_residual
    trace, n = result.trace_estimate(), result.size
    index = inertia.negative
    rows = {
        "lambda_min": (low - below, low, low + delta, 1.0),
        "lambda_max": (high - delta, high, high + above, 1.0),
        "trace": (trace.lower, trace.value, trace.upper, trace.confidence),
        **{
            name: (c.lower, c.estimate, c.upper, c.confidence) for name, c in inertia.counts.items()
        },
        "alpha": (index.lower / n, index.estimate / n, index.upper / n, index.confidence),
    }
    table = pd.DataFrame.from_dict(
        rows, orient="index", columns=["lower", "estimate", "upper", "confidence"], dtype=float
    )
    table.attrs.update(
        parameters=n, dtype=result.dtype, tolerance=inertia.tolerance, noise_floor=delta
    )
    return table


def layer_table(layers: Iterable[tuple[str, Sequence[int], str]]) -> pd.DataFrame:
    """Parameter counts of the tensors of a model.

    Args:
        layers: name, shape and data type of each tensor.

    Returns:
        One row for each tensor, in the order given, with columns ``shape``, ``dtype`` and
        ``parameters``; ``attrs["parameters"]`` is their sum.
    """
    rows = [
        (name, tuple(map(int, shape)), str(dtype), math.prod(shape))
        for name, shape, dtype in layers
    ]
    columns = ["layer", "shape", "dtype", "parameters"]
    table = pd.DataFrame(rows, columns=columns).set_index("layer")
    table.attrs["parameters"] = int(table["parameters"].sum())
    return table


def degeneracy_table(source: DegeneracyAttribution | RecordLike) -> pd.DataFrame:
    """Null directions by their causes, and the unexplained rest.

    Args:
        source: from ``attribute_degeneracy``, or the report or record of a spectrum that was
            explained.

    Returns:
        One row for each cause, then ``explained`` and ``unexplained``; columns ``description``,
        ``directions`` (for the cause by itself), ``new`` (counted: null and independent of the
        causes before), ``residual`` (‖HV‖₂), ``identity`` (‖HX + (DX)ᵀg‖ of symmetries) and
        ``evidence``. ``attrs`` has ``tolerance``, and ``degeneracy`` and ``unexplained`` with their
        intervals.

    Raises:
        OptionError: the record holds no attribution.
    """
    if isinstance(source, DegeneracyAttribution):
        found: Mapping[str, Any] = source.as_dict()
    else:
        found = as_record(source).attributes.get("degeneracy_causes", {})
        if not found:
            raise OptionError(
                "the record has no causes of zeros: compute the spectrum with `explain=True`"
            )
    columns = found["causes"]
    shown = ("description", "directions", "new", "residual", "identity", "evidence")
    table = pd.DataFrame(
        {name: list(columns[name]) for name in shown},
        index=pd.Index(list(columns["name"]), name="cause", dtype=object),
    )
    table.loc["explained", ["new", "residual"]] = [found["explained"], found["residual"]]
    table.loc["unexplained", "new"] = found["unexplained"]["estimate"]
    table[["directions", "new"]] = table[["directions", "new"]].astype("Int64")
    table[["description", "evidence"]] = table[["description", "evidence"]].fillna("")
    table.attrs.update(
        tolerance=found["tolerance"],
        degeneracy=dict(found["degeneracy"]),
        unexplained=dict(found["unexplained"]),
    )
    return table
