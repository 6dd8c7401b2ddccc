"""Layout ``causes``: why eigenvalues are zero."""

from __future__ import annotations

import pandas as pd

from hessscope.reports.layouts.table import ReportTable
from hessscope.reports.tables.records import RecordSource, as_record
from hessscope.reports.tables.spectra import degeneracy_table
from hessscope.reports.texts import count_text, plain


def causes(source: RecordSource) -> ReportTable:
    """Null directions of one record by their causes."""
    table = degeneracy_table(as_record(source))
    numbers = table.reset_index()
    shown = pd.DataFrame({"cause": numbers["cause"], "what": numbers["description"]})
    shown["counted"] = numbers["new"].map(lambda x: plain(x, ","))
    shown["‖HV‖"] = numbers["residual"].map(plain)
    degeneracy, rest = (
        count_text(c["estimate"], c["lower"], c["upper"])
        for c in (table.attrs["degeneracy"], table.attrs["unexplained"])
    )
    notes = (
        f"of a degeneracy of {degeneracy} at τ = {plain(table.attrs['tolerance'])}; "
        f"unexplained {rest}",
        "counted: null directions that are independent of those of the causes above",
    )
    return ReportTable("Why eigenvalues are zero", numbers, shown, notes)
