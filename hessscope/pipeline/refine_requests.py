"""What ``hessscope refine`` is asked for, checked before anything is read."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

import hessscope
from hessscope import records
from hessscope.errors import RecordError
from hessscope.options.refine import AUTO
from hessscope.pipeline.drawing import drawing
from hessscope.pipeline.job_keys import job_key, plain_problem
from hessscope.pipeline.problems import Problem
from hessscope.refinement import SearchOptions, Strategy
from hessscope.registry import METHODS


@dataclass(frozen=True)
class RefineRequest:
    """What ``hessscope refine`` is asked for.

    Attributes:
        problem: checkpoint, data and loss.
        method: a name from ``METHODS``, or "auto": "newton" up to 4,000 parameters, "newton_mr"
            above; where a search goes on, None for its own.
        search: further fields of ``SearchOptions``; those not given are the method's own.
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

    @cached_property
    def key(self) -> str:
        """Stands for all that decides the result: the same command has the same key."""
        source = None if self.resume is None else records.file_sha256(self.resume)
        search = (plain_problem(self.problem), self.method, sorted(self.search.items()), source)
        versions = (hessscope.__version__, torch.__version__)
        return job_key(self.problem, repr((search, versions)))

    @cached_property
    def partial(self) -> Path | None:
        """Where the state is kept while the search runs; None where nothing is written."""
        if self.out is None or (self.resume is not None and not self.resume.is_file()):
            return None
        name = f"{Path(self.problem.checkpoint).stem}.{self.key[:10]}.partial"
        return self.out.parent / name

    @cached_property
    def unfinished(self) -> frozenset[Path]:
        """Outputs of a try of this search that was interrupted or killed: its end replaces them."""
        if self.partial is None or self.out is None:
            return frozenset()
        own, written = set(), set()
        for path in (self.out, self.partial):
            facts = _facts(path)
            over = facts.get("status") != "interrupted" and not self.partial.is_file()
            if facts.get("job") == self.key and not over:
                own.add(path)
                written.add(facts.get("checkpoint_sha256"))
        if self.save is not None and self.save.is_file():
            own |= {self.save} if records.file_sha256(self.save) in written else set()
        return frozenset(own)

    def may_replace(self, path: Path) -> bool:
        """Whether a file that is there may be written over."""
        return self.overwrite or path in self.unfinished

    def check(self) -> None:
        """Refuse what cannot be done or written, before anything is read or computed.

        Raises:
            OptionError: an option means nothing, or an output file is there already.
            RecordError: an output cannot be written.
        """
        if self.method not in (None, AUTO):
            Strategy.of(SearchOptions.of(**{"method": self.method, **self.search}))
        else:  # the combination is checked when the method is known
            SearchOptions.of(**self.search)
        inputs = (
            (self.problem.checkpoint, "the checkpoint"),
            (self.problem.data, "the data"),
            (self.resume, "what the search goes on from"),
        )
        records.check_distinct((self.out, self.save, self.plot), inputs)
        for path in filter(None, (self.out, self.save)):
            records.prepare_output(path, self.may_replace(path))
        if self.plot is not None:
            drawing().figures.check_figure_path(self.plot, self.overwrite)

    def with_default_outputs(self) -> RefineRequest:
        """With ``MODEL.refine.h5`` and ``MODEL.refined.pt`` in this folder where no file is named.

        Both get the first number that is free, or that of an interrupted try.
        """
        source, number = Path(self.problem.checkpoint), 0
        while True:
            number += 1
            mark = "" if number == 1 else f"-{number}"
            found = replace(
                self,
                out=self.out or Path(f"{source.stem}.refine{mark}.h5"),
                save=self.save or Path(f"{source.stem}.refined{mark}{source.suffix}"),
            )
            chosen = [path for path in (found.out, found.save) if path not in (self.out, self.save)]
            if all(not path.exists() or found.may_replace(path) for path in chosen if path):
                return found


def _facts(path: Path) -> Mapping[str, Any]:
    """Attributes of a record; none where there is none that can be read."""
    try:
        return records.load_record(path, arrays=()).attributes
    except RecordError:
        return {}


def known_methods() -> tuple[str, ...]:
    """Names for ``--method``."""
    return (AUTO, *METHODS)
