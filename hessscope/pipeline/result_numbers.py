"""Numbers of a result in the form that JSON objects have."""

from __future__ import annotations

from typing import Any

from hessscope.spectra import Inertia


def counts(inertia: Inertia | None) -> dict[str, Any]:
    """Index, degeneracy and positive count with their intervals; null where nothing is counted."""
    if inertia is None:
        return {"index": None, "degeneracy": None, "positive": None}
    return inertia.as_dict()
