"""Layout ``outcomes``: how searches ended."""

from __future__ import annotations

import pandas as pd

from hessscope.errors import OptionError
from hessscope.options.report import COEFFICIENTS
from hessscope.reports.layouts.table import ReportTable, setting_notes, skipped_notes
from hessscope.reports.tables.correlation import rank_correlation
from hessscope.reports.tables.points import by_search, certified_points, distinct_points
from hessscope.reports.tables.records import RecordSource, as_points
from hessscope.reports.texts import text


def outcomes(source: RecordSource) -> ReportTable:
    """How searches ended, failed ones too, and how α goes with the loss over certified points.

    Records that are of no search have no end: they are left out, and the notes say so.

    Raises:
        OptionError: no record is of a search.
    """
    points = as_points(source)
    searches, others = by_search(points)
    if searches.empty:
        raise OptionError(
            f"the layout outcomes is of searches, and none of the {len(points)} records has a "
            "status: take the layout records"
        )
    status = searches["status"]
    certified = certified_points(searches)
    table = pd.crosstab(status, searches["origin"].fillna("no origin"))
    table.insert(0, "searches", table.sum(axis=1))
    table.insert(1, "certified", searches["certified"].astype(bool).groupby(status).sum())
    numbers = table.rename_axis(index="ended", columns=None).reset_index()
    notes = [f"{len(certified)} certified of {len(searches)} searches"]
    if len(certified):
        distinct = distinct_points(certified)
        notes[0] += (
            f"; {len(distinct)} of them are distinct, the others agree with one of these up to "
            "symmetries of the network"
        )
        for what, rows in (("certified", certified), ("distinct certified", distinct)):
            for coefficient in COEFFICIENTS:
                found = rank_correlation(rows["loss"], rows["alpha"], coefficient)
                notes.append(f"α and loss over {what} points: {found}")
    if len(others):
        names = ", ".join(others["name"].map(text))
        notes.append(f"left out: {len(others)} of {len(points)} records, of no search ({names})")
    notes += [*skipped_notes(points), *setting_notes(certified)]
    return ReportTable("How the searches ended", numbers, numbers.map(str), tuple(notes))
