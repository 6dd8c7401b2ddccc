"""Numbers of a series of checkpoints."""

from __future__ import annotations

import pandas as pd

from hessscope.errors import OptionError
from hessscope.reports.tables.records import RecordLike, as_record

SERIES = "spectrum series"
"""Kind of its record."""


def series_table(series: RecordLike) -> pd.DataFrame:
    """The numbers of a series, a row for each checkpoint.

    Args:
        series: the report of ``spectrum_series``, or the record of a series (``hessscope spectrum
            run/*.pt``).

    Returns:
        Columns ``run`` and ``checkpoint``, and every quantity of the record: ``epoch``, ``loss``,
        ``accuracy``, ``gradient_norm``, ``gTg``, ``gTHg``, ``lambda_min``, ``lambda_max``,
        ``index``, ``index_lower``, … NaN where a checkpoint has none. By run and epoch, or in the
        order the checkpoints were given in where not all state their epoch.

    Raises:
        OptionError: the record is of another kind.
    """
    record = as_record(series)
    if record.kind != SERIES:
        raise OptionError(f"a record of kind '{record.kind}' is no series; expected '{SERIES}'")
    columns = {
        name: column for name, column in record.arrays.items() if not name.startswith("results/")
    }
    order = ["epoch", *(name for name in columns if name != "epoch")]
    table = pd.DataFrame(
        {
            "run": list(record.attributes["runs"]),
            "checkpoint": list(record.attributes["checkpoints"]),
            **{name: columns[name] for name in order},
        }
    )
    if series_axis(table) == "checkpoint":
        return table
    return table.sort_values(["run", "epoch"], kind="stable", ignore_index=True)


def series_axis(table: pd.DataFrame) -> str:
    """What a series goes by: "epoch", or "checkpoint" where not all of them state their epoch."""
    return "epoch" if table["epoch"].notna().all() else "checkpoint"
