"""HTML pages of a record or of a study."""

from __future__ import annotations

from hessscope.reports.pages.record import record_page
from hessscope.reports.pages.study import study_page
from hessscope.reports.tables.records import RecordSource, as_points, as_record


def html_page(source: RecordSource, title: str | None = None) -> str:
    """Make a self-contained HTML page of a record or of several: no scripts, nothing to load.

    Args:
        source: a table of ``load_records``, or what that takes: files, folders, records.
        title: of the page; default the name of the record, or how many there are.

    Raises:
        RecordError: no record can be read.
    """
    points = as_points(source)
    if len(points) != 1:
        return study_page(points, title)
    inside = points["path"].isna().all()
    return record_page(as_record(source if inside else points), title)
