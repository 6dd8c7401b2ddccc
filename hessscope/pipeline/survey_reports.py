"""Report of a survey: tables, JSON and summary."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hessscope.options.fields import plain
from hessscope.records import Summarised, load_record
from hessscope.surveys import SurveyResult

if TYPE_CHECKING:
    import pandas as pd

    from hessscope.reports.tables import RankCorrelation

# Weights so small beside 1 are zero: the network's output does not depend on its input.
_AT_ORIGIN = 1e-6


@dataclass(frozen=True, repr=False)
class SurveyReport(Summarised):
    """What ``hs.survey_checkpoints`` and ``hessscope survey`` report.

    Attributes:
        result: the searches.
        facts: network, data, loss and method, as plain values.
        notes: what was found, assumed or done, to be shown.
        warnings: texts of the warnings given.
        figure: the ε–α plot, where one was asked for and there is something to draw.
    """

    result: SurveyResult
    facts: Mapping[str, Any]
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    figure: Path | None = None

    @property
    def files(self) -> dict[str, Path | None]:
        """What was written where."""
        return {"study": self.result.folder, "figure": self.figure}

    def __fspath__(self) -> str:
        """The folder, so that this stands for it wherever records are read from one."""
        return str(self.result.folder)

    @cached_property
    def table(self) -> pd.DataFrame:
        """One row for each search that has ended, as ``load_records`` gives them."""
        from hessscope.reports.tables import load_records

        return load_records([self.result.folder / f"{name}.h5" for name in self.result.outcomes])

    @cached_property
    def distinct(self) -> pd.DataFrame:
        """Certified critical points, one row for those that are the same up to symmetries.

        The column ``at_origin`` marks those where all weights but the biases are zero.
        """
        from hessscope.reports.tables import certified_points, distinct_points

        points = distinct_points(certified_points(self.table))
        norms = [
            load_record(path, arrays=()).attributes.get("weight_norm", 1.0)
            for path in points["path"]
        ]
        return points.assign(at_origin=[norm < _AT_ORIGIN for norm in norms])

    @cached_property
    def correlation(self) -> RankCorrelation | None:
        """Spearman's between loss and α over distinct points; None for fewer than four."""
        from hessscope.reports.tables import epsilon_alpha_correlation

        if len(self.distinct) < 4:
            return None
        return epsilon_alpha_correlation(self.distinct)

    def certified_by_origin(self) -> dict[str, int]:
        """Certified searches by the kind of their start."""
        from hessscope.reports.tables import certified_points

        counts = certified_points(self.table)["origin"].value_counts()
        return {str(origin): int(count) for origin, count in counts.items()}

    def summary(self) -> dict[str, str]:
        """Where the searches are, and how they ended."""
        result = self.result
        return {
            "study": str(result.folder),
            "searches": f"{len(result.outcomes)} of {result.planned} ended",
            "statuses": ", ".join(f"{n} {status}" for status, n in result.statuses.items()),
            "certified": str(result.certified),
        }

    def as_dict(self) -> dict[str, Any]:
        """The JSON object of ``hessscope survey --json``."""
        result = self.result
        some = bool(result.outcomes)
        lasting = self.distinct if some else ()
        correlation = self.correlation if some else None
        return {
            "study": str(result.folder),
            **self.facts,
            "searches": result.planned,
            "ended": len(result.outcomes),
            "computed": result.computed,
            "interrupted": result.interrupted,
            "statuses": result.statuses,
            "certified": result.certified,
            "certified_by_origin": self.certified_by_origin() if some else {},
            "distinct": len(lasting),
            "distinct_at_origin": int(self.distinct["at_origin"].sum()) if some else 0,
            "correlation": None if correlation is None else correlation.as_dict(),
            "seconds": plain(result.seconds),
            "figure": None if self.figure is None else str(self.figure),
            "notes": list(self.notes),
            "warnings": list(self.warnings),
        }
