"""The reports, imported when something is drawn: matplotlib and pandas take a second."""

from __future__ import annotations

from types import ModuleType


def drawing() -> ModuleType:
    """The room that draws."""
    from hessscope import reports

    return reports
