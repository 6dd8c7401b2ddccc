"""Outputs of the commands: reports, and the files that are checked first and written last."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from hessscope import records
from hessscope.errors import HessscopeError, OptionError

if TYPE_CHECKING:
    import pandas as pd

R = TypeVar("R", bound="Report")


@dataclass(frozen=True, repr=False, kw_only=True)
class Report(records.Summarised):
    """What a command reports.

    Attributes:
        notes: what was found, assumed or done, to be shown.
        warnings: texts of the warnings given.
        record: where the record was written; None if it was not.
        figure: where the figure was written; None if it was not.
    """

    #: Whether each run draws its figure anew, over the one that is there.
    redrawn: ClassVar[bool] = False

    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    record: Path | None = field(default=None, compare=False)
    figure: Path | None = field(default=None, compare=False)

    @property
    def files(self) -> dict[str, Path | None]:
        """What was written where."""
        return {"record": self.record, "figure": self.figure}

    def remarks(self) -> dict[str, Any]:
        """Notes, warnings and the record's path, as JSON objects end."""
        record = None if self.record is None else str(self.record)
        return {"notes": list(self.notes), "warnings": list(self.warnings), "record": record}

    def written(self) -> dict[str, str]:
        """The files, as a summary ends; figures are left out."""
        known = {name: path for name, path in self.files.items() if name != "figure"}
        return {name: str(path) for name, path in known.items() if path is not None}

    def to_dataframe(self) -> pd.DataFrame:
        """What it found as a table: one row, with the columns of ``hs.load_records``."""
        return drawing().tables.load_records([self])

    def draw(self, room: ModuleType) -> Any:
        """The figure, drawn by the room of reports; None where there is nothing to draw."""
        raise NotImplementedError


def drawing() -> ModuleType:
    """The room of reports, imported when it is needed: matplotlib and pandas take a second.

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


def check_outputs(options: Any, inputs: Iterable[tuple[Any, str]]) -> None:
    """Refuse outputs that cannot be written, before anything is read or computed.

    Args:
        options: of a command, with the fields ``out``, ``plot`` and ``overwrite``.
        inputs: what is read, with what to call it, and so may not be replaced.

    Raises:
        OptionError: an output would replace an input or another output.
        OutputExistsError, RecordError: an output exists, or its folder cannot be written.
    """
    records.check_distinct((options.out, options.plot), inputs)
    if options.out is not None:
        records.prepare_output(options.out, options.overwrite)
    if options.plot is not None:
        drawing().figures.check_figure_path(options.plot, options.overwrite)


def save_record(options: Any, report: R) -> R:
    """Write the record to `out`; give the report with its path.

    A record whose name was taken while the computation ran gets a numbered one, with a warning:
    what took long to compute is not thrown away.

    Raises:
        RecordError: the disk is full or the folder cannot be written.
    """
    return records.write_report(report, options.out, options.overwrite)


def save_figure(options: Any, report: R) -> R:
    """Draw the figure to `plot`; give the report with its path.

    Raises:
        HessscopeError: it cannot be drawn or written; the results stay.
    """
    if options.plot is None:
        return report
    room, plot = drawing(), Path(options.plot)
    try:
        figure = report.draw(room)
        if figure is None:
            return report
        path = records.write_or_number(
            lambda free, replace: room.save_figure(figure, free, replace),
            plot,
            report.redrawn or options.overwrite,
        )
    except HessscopeError:
        raise
    except Exception as error:  # of Matplotlib, whatever it is
        raise HessscopeError(
            f"the figure {plot} cannot be drawn ({type(error).__name__}: {error}); the results are "
            "written, and hessscope report draws them"
        ) from error
    return dataclasses.replace(report, figure=path)
