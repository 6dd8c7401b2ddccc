"""Layout ``sweep``: counts at several tolerances."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from hessscope.errors import OptionError
from hessscope.reports.layouts.table import ReportTable, counts, tolerance_notes
from hessscope.reports.tables.records import COUNTS, RecordSource, as_points, as_record
from hessscope.reports.texts import plain


def sweep(source: RecordSource) -> ReportTable:
    """Counts of one record at several tolerances: without a gap they belong to their τ alone."""
    record = as_record(source)
    found = record.attributes.get("tolerance_sweep")
    if not isinstance(found, Mapping) or "tolerance" not in found:
        raise OptionError(f"this record (kind '{record.kind}') has no tolerance sweep")
    numbers = pd.DataFrame({name: list(column) for name, column in found.items()})
    powers = np.log10(numbers["tolerance"].clip(lower=1e-300))
    # The tolerance in use stands first.
    read = numbers[((powers - powers.round()).abs() < 1e-6) | (numbers.index == 0)]
    shown = {"tolerance τ": read["tolerance"].map(plain)}
    shown |= {name: counts(read, name) for name in COUNTS}
    notes = tolerance_notes(as_points(record))[:1]
    if len(read) < len(numbers):
        notes.append(f"the record (and CSV) has {len(numbers)} tolerances; shown are the decades")
    title = "Counts at several tolerances"
    return ReportTable(title, numbers, pd.DataFrame(shown), tuple(notes))
