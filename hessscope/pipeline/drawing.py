"""The reports, imported when something is drawn: matplotlib and pandas take a second."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from hessscope import records
from hessscope.errors import HessscopeError, OptionError


def drawing() -> ModuleType:
    """The room that draws.

    Raises:
        OptionError: the environment names a backend that Matplotlib does not know.
    """
    try:
        from hessscope import reports
    except ValueError as error:
        backend = os.environ.get("MPLBACKEND")
        raise OptionError(
            f"Matplotlib does not start ({error}); MPLBACKEND is {backend!r}: unset it, or set it "
            "to agg"
        ) from error
    return reports


def save_figure(draw: Callable[[ModuleType], Any], path: Path, overwrite: bool) -> Path:
    """Draw and save a figure of results that are written already; give its path.

    Args:
        draw: makes the figure with the room that draws.
        path: where to; a numbered name where it has come into being in the meantime.
        overwrite: a file that is there may be replaced.

    Raises:
        HessscopeError: it cannot be drawn or written; the results stay.
    """
    room = drawing()
    try:
        figure = draw(room)
        return records.write_or_number(
            lambda free, replace: room.save_figure(figure, free, replace), path, overwrite
        )
    except HessscopeError:
        raise
    except Exception as error:  # of Matplotlib, whatever it is
        raise HessscopeError(
            f"the figure {path} cannot be drawn ({type(error).__name__}: {error}); the results are "
            "written, and hessscope report draws them"
        ) from error
