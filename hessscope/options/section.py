"""Options of ``hessscope section`` and ``hs.section``."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import KW_ONLY, MISSING, dataclass
from pathlib import Path
from typing import Any

from hessscope.errors import OptionError
from hessscope.options.fields import Options, number, option, whole
from hessscope.options.setting import Outputs, Products, Setting

#: Ends of the spectrum whose eigenvectors a section may go along.
ENDS = ("highest", "lowest")


def _points(value: Any) -> tuple[Any, ...]:
    several = tuple(value) if isinstance(value, (list, tuple)) else (value,)
    if not 1 <= len(several) <= 3:
        raise ValueError(f"a section goes through at most three points, got {len(several)}")
    return tuple(Path(point) if isinstance(point, str) else point for point in several)


def _ends(value: Any) -> tuple[str, ...]:
    parts = value.split(",") if isinstance(value, str) else value
    found = tuple(part.strip() for part in parts)
    if not found or len(set(found)) < len(found) or set(found) - set(ENDS):
        raise ValueError("give highest, lowest or highest,lowest")
    return found


@dataclass(frozen=True)
class SeveralPoints(Options):
    """The points that a section goes through."""

    points: Any = option(
        MISSING,
        "One checkpoint: along eigenvectors there. Two: the line between them. Three: the plane. "
        "The others may also be records of critical points of the same architecture.",
        "MODEL...",
        argument=True,
        many=True,
        read=_points,
    )


@dataclass(frozen=True)
class SectionOptions(Products, Outputs, Setting, SeveralPoints):
    """What ``hessscope section`` is asked for."""

    _: KW_ONLY
    along: str | Iterable[str] | None = option(
        None,
        "Eigenvectors of the largest (highest) and the smallest (lowest) eigenvalue: one makes a "
        "line, both a plane. Default: highest,lowest.",
        "ENDS",
        read=_ends,
    )
    resolution: int | None = option(
        None,
        "Values along each axis; each costs a pass over the data. Default: 51 on a line, 25 on a "
        "plane.",
        "N",
        read=whole(2),
    )
    margin: float | None = option(
        None,
        "Extend the section beyond the points by X times their distance. Default: 0 on a line, "
        "0.25 on a plane.",
        "X",
        read=number(0),
    )
    reach: float = option(
        1.0,
        "Distance along eigenvectors to each side, in the units of the parameters.",
        "X",
        read=number(0, above=True),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.points) > 1 and self.along is not None:
            raise OptionError("`along` chooses eigenvectors at one point; here are several points")
        if len(self.points) == 1 and self.margin is not None:
            raise OptionError(
                "`margin` is for sections between points; along eigenvectors give `reach`"
            )
