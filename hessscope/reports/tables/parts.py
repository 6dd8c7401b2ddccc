"""Diagonal blocks of a partition of the parameters, and how far apart their spectra are."""

from __future__ import annotations

import pandas as pd

from hessscope import spectra
from hessscope.errors import OptionError
from hessscope.records import Record
from hessscope.reports.tables.records import RecordLike, as_record
from hessscope.spectra import Result


def part_results(source: RecordLike) -> dict[str, tuple[Result, float]]:
    """The spectrum of each part's diagonal block, and the tolerance of its counts.

    Args:
        source: the report or record of a spectrum with ``by``.

    Raises:
        OptionError: there are no parts in it.
    """
    record = as_record(source)
    found = record.attributes.get("layers")
    if not found:
        raise OptionError("the record has no parts: compute the spectrum with `by=block`, say")
    results = {}
    # Groups of a file are sorted by their names; the parts are in the order of θ.
    for name in record.attributes.get("distances", {}).get("names", found):
        facts = found[name]
        above = f"layers/{name}/"
        own = {n.removeprefix(above): x for n, x in record.arrays.items() if n.startswith(above)}
        # Records of earlier versions do not say the kind.
        kind = facts.get("kind", "spectrum")
        results[name] = spectra.result_of(Record(kind, own, facts)), float(facts["tolerance"])
    return results


def parts_table(source: RecordLike) -> pd.DataFrame:
    """Counts and extremes of the diagonal blocks of a partition.

    Args:
        source: the report or record of a spectrum with ``by``.

    Returns:
        A row for each part, with columns ``parameters``; ``index``, ``degeneracy`` and their
        ``_lower`` and ``_upper``; ``confidence``, ``tolerance``, ``lambda_min``, ``lambda_max``,
        ``trace``. ``attrs`` has ``by``, ``off_block`` and ``distance`` (the mean), with their
        intervals, where the record has them.

    Raises:
        OptionError: there are no parts in it.
    """
    facts = as_record(source).attributes
    rows = {}
    for name, (result, tolerance) in part_results(source).items():
        inertia = result.inertia(tolerance)
        counts = {"index": inertia.negative, "degeneracy": inertia.zero}
        rows[name] = {
            "parameters": result.size,
            **{n: count.estimate for n, count in counts.items()},
            **{f"{n}_lower": count.lower for n, count in counts.items()},
            **{f"{n}_upper": count.upper for n, count in counts.items()},
            "confidence": inertia.negative.confidence,
            "tolerance": tolerance,
            "noise_floor": inertia.noise_floor,
            "lambda_min": result.lambda_min,
            "lambda_max": result.lambda_max,
            "trace": result.trace,
        }
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("part")
    table.attrs["by"] = facts.get("by", "module")
    table.attrs["off_block"] = _estimate(facts.get("off_block"), "share")
    table.attrs["distance"] = _estimate(facts.get("distances"), "mean")
    return table


def distance_table(source: RecordLike) -> pd.DataFrame:
    """Jensen–Shannon distances of the parts' spectra.

    Args:
        source: the report or record of a spectrum with ``by``.

    Returns:
        Parts by parts; ``attrs`` has the ends of the intervals, ``lower`` and ``upper``, as tables,
        and the ``mean`` with its interval.

    Raises:
        OptionError: there are no distances in it.
    """
    record = as_record(source)
    facts = record.attributes.get("distances")
    if not facts:
        raise OptionError(
            "the record has no distances of parts: compute the spectrum with `by=block`, say"
        )
    names = pd.Index(list(facts["names"]), name="part")
    values, lower, upper = (
        pd.DataFrame(record.arrays[f"distances/{name}"], names, names)
        for name in ("values", "lower", "upper")
    )
    values.attrs.update(lower=lower, upper=upper, mean=_estimate(facts, "mean"))
    return values


def _estimate(facts: dict[str, object] | None, name: str) -> dict[str, object] | None:
    """A number with its interval, out of a record."""
    return facts and {"value": facts[name], **dict(facts[f"{name}_interval"])}  # type: ignore[call-overload]
