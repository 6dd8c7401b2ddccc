"""Result of a survey: the searches that have ended."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hessscope.refinement.certificates import CERTIFIED


@dataclass(frozen=True)
class SurveyResult:
    """The searches of a survey that have ended; their records are in its folder.

    Attributes:
        folder: with one record for each search: what ``load_records`` takes.
        outcomes: attributes of these records, by name of the search ("uniform_0007").
        planned: searches that were asked for.
        computed: searches that ended in this run, and were not there before.
        interrupted: Ctrl-C ended it before all searches had.
        seconds: wall time of this run.
    """

    folder: Path
    outcomes: Mapping[str, Mapping[str, Any]]
    planned: int
    computed: int
    interrupted: bool
    seconds: float

    def __fspath__(self) -> str:
        """The folder, so that this stands for it wherever records are read from one."""
        return str(self.folder)

    @property
    def statuses(self) -> dict[str, int]:
        """How many searches ended with which status, the most frequent first."""
        return dict(Counter(str(a["status"]) for a in self.outcomes.values()).most_common())

    @property
    def certified(self) -> int:
        """Searches whose end is certified to be near a critical point."""
        levels = (a.get("certificate", {}).get("level", "") for a in self.outcomes.values())
        return sum(level in CERTIFIED for level in levels)

    @property
    def missing(self) -> int:
        """Searches that were asked for and have not ended."""
        return self.planned - len(self.outcomes)
