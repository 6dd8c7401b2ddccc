"""What ``hessscope refine`` is asked for, checked before anything is read."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from hessscope import records
from hessscope.errors import OutputExistsError
from hessscope.pipeline.drawing import drawing
from hessscope.pipeline.problems import Problem
from hessscope.refinement import METHODS, RefinementOptions

AUTO = "auto"
#: Parameters up to which "auto" takes steps by the exact Hessian: they take seconds then.
EXACT_UP_TO = 4000


class Outputs(NamedTuple):
    """Where the results of a refinement go."""

    record: Path
    checkpoint: Path


@dataclass(frozen=True)
class RefineRequest:
    """What ``hessscope refine`` is asked for.

    Attributes:
        problem: checkpoint, data and loss.
        method: a name from ``METHODS``, or "auto": "newton" up to 4,000 parameters, "newton_mr"
            above; where a search goes on, None for its own.
        search: further fields of ``RefinementOptions``; those not given are the method's own.
        resume: the saved state of a search, or the record of one that ended, to go on from.
        out: where the record goes; None for nowhere.
        save: where the refined checkpoint goes; None for nowhere.
        plot: where the figure of the trace goes; None for nowhere.
        keep_dtype: write the weights in the data types of the file, rounded.
        best_loss: the lowest loss that is known, from which δ of a good saddle is measured; NaN
            where none is.
        overwrite: existing files may be replaced.
    """

    problem: Problem
    method: str | None = None
    search: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    resume: Path | None = None
    out: Path | None = None
    save: Path | None = None
    plot: Path | None = None
    keep_dtype: bool = False
    best_loss: float = math.nan
    overwrite: bool = False

    @property
    def partial(self) -> Path | None:
        """Where the state is kept while the search goes on."""
        return None if self.out is None else partial_path(self.out)

    def check(self) -> None:
        """Refuse what cannot be done or written, before anything is read or computed.

        Raises:
            OptionError: an option means nothing, or an output file is there already.
            RecordError: an output cannot be written.
        """
        if self.method not in (None, AUTO):
            RefinementOptions(**{"method": self.method, **self.search})
        else:  # the combination is checked when the method is known
            for name, value in self.search.items():
                RefinementOptions(**{"method": _ANY_DAMPED, name: value})
        inputs = (
            (self.problem.checkpoint, "the checkpoint"),
            (self.problem.data, "the data"),
            (self.resume, "what the search goes on from"),
        )
        records.check_distinct((self.out, self.save, self.plot), inputs)
        for path in filter(None, (self.out, self.save)):
            records.prepare_output(path, self.overwrite)
        if self.plot is not None:
            drawing().check_figure_path(self.plot, self.overwrite)
        partial = self.partial
        if partial is not None and partial.exists() and not self.overwrite and not self._resumes():
            raise OutputExistsError(
                f"{partial} is the state of a search that was cut short: go on with "
                f"--resume {partial}, or give --overwrite, or another --out"
            )

    def _resumes(self) -> bool:
        partial = self.partial
        return (
            self.resume is not None
            and partial is not None
            and (self.resume.resolve() == partial.resolve())
        )


# With its steps every globalisation works.
_ANY_DAMPED = "newton"


def partial_path(record: Path) -> Path:
    """The file beside a record in which the state is kept while the search goes on."""
    return record.with_suffix(".partial")


def default_outputs(checkpoint: str | Path, resume: Path | None = None) -> Outputs:
    """``MODEL.refine.h5`` and ``MODEL.refined.pt`` in this folder, the first number that is free.

    Args:
        checkpoint: the file that is refined.
        resume: the state of a search that goes on keeps its number.
    """
    source, folder = Path(checkpoint), Path()
    number = 0
    while True:
        number += 1
        mark = "" if number == 1 else f"-{number}"
        found = Outputs(
            folder / f"{source.stem}.refine{mark}.h5",
            folder / f"{source.stem}.refined{mark}{source.suffix}",
        )
        partial = partial_path(found.record)
        own = resume is not None and partial.resolve() == resume.resolve()
        if not any(path.exists() for path in found) and (own or not partial.exists()):
            return found


def known_methods() -> tuple[str, ...]:
    """Names for ``--method``."""
    return (AUTO, *METHODS)
