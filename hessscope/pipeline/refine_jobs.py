"""Jobs and reports of ``hessscope refine``: where the state is kept, what was found."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

from hessscope import records
from hessscope.errors import RecordError
from hessscope.objective import Evaluation
from hessscope.options.fields import plain
from hessscope.options.refine import AUTO, RefineOptions, SearchOptions
from hessscope.pipeline.job_keys import VERSIONS, content_of
from hessscope.pipeline.outputs import Report, drawing
from hessscope.pipeline.problems import OpenedProblem
from hessscope.records import Record, Store
from hessscope.refinement import CriticalPoint, Strategy
from hessscope.refinement.points import SaddleConstants
from hessscope.registry import METHODS

#: Name of the state in the store of a search.
STATE = "search"
_WRITTEN = "checkpoint.sha256"
# What makes it the same search: a resumed one has to agree in all of them.
_SAME = (
    *("start_checkpoint_sha256", "architecture", "model_code_sha256", "data_fingerprint"),
    *("loss_function", "loss_code_sha256", "l2", "dtype"),
)


@dataclass(frozen=True)
class RefineJob:
    """One search with its files.

    Attributes:
        options: of the command.
        key: stands for all that decides the result: the same command has the same key.
    """

    options: RefineOptions
    key: str

    @classmethod
    def of(cls, options: RefineOptions) -> RefineJob:
        """The job of these options; nothing is read where no record is written."""
        if options.out is None or not isinstance(options.checkpoint, (str, Path)):
            return cls(options, "")
        resume = None if options.resume is None else _state_file(Path(options.resume))
        resumed = records.file_sha256(resume) if resume and resume.is_file() else "none"
        return cls(options, options.job_key(*content_of(options), *VERSIONS, resumed))

    @property
    def outputs(self) -> tuple[Path | None, Path | None, Path | None]:
        """Record, refined checkpoint and figure."""
        options = self.options
        out, save, plot = (p and Path(p) for p in (options.out, options.save, options.plot))
        return out or None, save or None, plot or None

    @cached_property
    def store(self) -> Store:
        """Where the state is kept while the search runs."""
        out, *_ = self.outputs
        if not self.key or out is None:
            return Store()
        name = f"{Path(self.options.checkpoint).stem}.{self.key[:10]}.partial"
        return Store(out.parent / name)

    @cached_property
    def _unfinished(self) -> frozenset[Path]:
        """Outputs of a try of this search that was interrupted or killed."""
        own, written = set(), set()
        out, save, _ = self.outputs
        begun = self.store.holds_anything
        if self.key and out and out.is_file():
            facts = _attributes(out)
            if facts.get("job_key") == self.key and (begun or facts["status"] == "interrupted"):
                own.add(out)
                written.add(facts.get("checkpoint_sha256"))
        if begun and self.store.folder and (self.store.folder / _WRITTEN).is_file():
            written.add((self.store.folder / _WRITTEN).read_text())
        if save and save.is_file() and records.file_sha256(save) in written:
            own.add(save)
        return frozenset(own)

    def claim(self, content: bytes) -> None:
        """Note a checkpoint that is about to be written, which the same search may replace."""
        if self.store.holds_anything:
            self.store.keep(_WRITTEN, lambda: hashlib.sha256(content).hexdigest().encode())
            self.store.flush()

    def may_replace(self, path: str | Path) -> bool:
        """Whether a file that is there may be replaced."""
        return self.options.overwrite or Path(path) in self._unfinished

    def check(self) -> None:
        """Refuse what cannot be done or written, before anything is opened or computed.

        Raises:
            OptionError: an option means nothing, or an output file is there already.
            RecordError: an output cannot be written.
        """
        options = self.options
        Strategy.of(options)
        inputs = (
            (options.checkpoint, "the checkpoint"),
            (options.data, "the data"),
            (options.resume, "the search to resume"),
        )
        out, save, plot = self.outputs
        records.check_distinct((out, save, plot), inputs)
        for path in filter(None, (out, save)):
            records.prepare_output(path, self.may_replace(path))
        if plot:
            drawing().figures.check_figure_path(plot, options.overwrite)

    def finish(self) -> None:
        """Remove the states of a search whose results are written."""
        self.store.clear()
        if self.options.resume is not None and Path(self.options.resume).is_dir():
            Store(Path(self.options.resume)).clear()


def with_default_outputs(options: RefineOptions) -> RefineOptions:
    """With ``MODEL.refine.h5`` and ``MODEL.refined.pt`` in this folder where no file is named.

    Both get the first number that is free, or that of an interrupted try.
    """
    source, number = Path(options.checkpoint), 0
    while True:
        number += 1
        mark = "" if number == 1 else f"-{number}"
        found = replace(
            options,
            out=options.out or f"{source.stem}.refine{mark}.h5",
            save=options.save
            or f"{source.stem}.refined{mark}{source.suffix if source.is_file() else '.pt'}",
        )
        chosen = [(found.out, options.out), (found.save, options.save)]
        new = [Path(path) for path, given in chosen if path is not None and given is None]
        if not any(path.exists() for path in new):
            return found
        job = RefineJob.of(found)
        if all(job.may_replace(path) for path in new if path.exists()):
            return found


def saved_search(path: str | Path) -> Record:
    """The state of a search, or the record of one that ended.

    Raises:
        RecordError: it is neither.
    """
    record = records.load_record(_state_file(Path(path)))
    if not {"state", "configuration", "torch_threads"} <= set(record.attributes):
        raise RecordError(
            f"{path} is no search to resume: give a .partial folder, or the record of a refinement"
        )
    return record


def _state_file(path: Path) -> Path:
    return path / f"{STATE}.h5" if path.is_dir() else path


def differences(saved: Record, setting: Mapping[str, Any]) -> str:
    """In what a saved search is one of another problem, in words; empty where it is the same."""
    there, here = ({n: facts.get(n) for n in _SAME} for facts in (saved.attributes, setting))
    found = records.differences(there, here)
    return "; ".join(f"{name} is {theirs} there and {mine} here" for name, theirs, mine in found)


def resumed_options(options: SearchOptions, saved: Record) -> SearchOptions:
    """Options of a search that is resumed: those not given stay as they were.

    A search that used up its iterations, or is resumed by another method, gets the method's own
    number of them on top.
    """
    before, state = dict(saved.attributes["configuration"]), saved.attributes["state"]
    given = options.stored()
    asked = before["method"] if options.method in (None, AUTO) else options.method
    another = plain(asked) != before["method"]
    if another:
        kept = ("tolerance", "backend", "steps", "probes", "seed", "gradient_tolerance")
        before = {name: before[name] for name in kept if name in before}
    if another or state.get("status") == "max_iterations":
        kind = METHODS[asked] if isinstance(asked, str) else asked
        before["max_iterations"] = len(saved.arrays["trace/loss"]) - 1 + kind.max_iterations
    stay = {name: value for name, value in before.items() if name not in given}
    return replace(options, **{**stay, "method": asked})


def _attributes(path: Path) -> Mapping[str, Any]:
    """Attributes of a record; none where there is none that can be read."""
    try:
        return records.load_record(path, arrays=()).attributes
    except RecordError:
        return {}


@dataclass(frozen=True, repr=False)
class RefinementReport(Report):
    """What ``hs.refine_checkpoint`` and ``hessscope refine`` report.

    Attributes:
        opened: checkpoint, data and objective.
        point: where the search ended, with its certificate.
        before: loss and accuracy of the checkpoint.
        after: loss and accuracy at the end.
        gradient_norm_rounded: ‖∇L‖ with the weights rounded to the data types of the file; None
            where they are not narrower.
        threads: number of threads, which decides the order of sums.
        job_key: of the search.
        seconds: wall time of the whole.
        best_loss: the lowest loss that is known; None where none is.
        checkpoint: where the refined checkpoint was written; None if it was not.
        checkpoint_sha256: of that file.
    """

    opened: OpenedProblem
    point: CriticalPoint
    before: Evaluation
    after: Evaluation
    gradient_norm_rounded: float | None
    threads: int
    job_key: str
    seconds: float
    best_loss: float | None = None
    checkpoint: Path | None = field(default=None, compare=False)
    checkpoint_sha256: str | None = field(default=None, compare=False)

    @property
    def status(self) -> str:
        """Why the search ended: see ``CriticalPoint.status``."""
        return self.point.status

    @property
    def saddle_constants(self) -> SaddleConstants | None:
        """Of the stable and good saddles of the 2017 paper; None where nothing was counted."""
        return self.point.saddle_constants(self.best_loss)

    @property
    def files(self) -> dict[str, Path | None]:
        """What was written where."""
        return {"checkpoint": self.checkpoint, **super().files}

    def as_dict(self) -> dict[str, Any]:
        """The JSON object of ``hessscope refine --json``."""
        point, constants, spectrum = self.point, self.saddle_constants, self.point.spectrum
        return _finite(
            {
                **start_facts(self.opened.as_dict()),
                **point.as_dict(),
                **({} if spectrum is None else spectrum.extremes()),
                "accuracy": self.after.accuracy,
                "accuracy_start": self.before.accuracy,
                "gradient_norm_rounded": self.gradient_norm_rounded,
                "stable_saddle": None if constants is None else constants.as_dict(),
                "seconds": self.seconds,
                "checkpoint": None if self.checkpoint is None else str(self.checkpoint),
                "checkpoint_sha256": self.checkpoint_sha256,
                **self.remarks(),
            }
        )

    def summary(self) -> dict[str, str]:
        """What was refined, and where it ended."""
        checkpoint, first = self.opened.checkpoint, self.point.trace[0]
        return {
            "checkpoint": f"{checkpoint.path}, {checkpoint.architecture}",
            "started from": f"loss {first.loss:.6g}, gradient norm {first.gradient_norm:.4g}",
            **self.point.summary(),
            **self.written(),
        }

    def draw(self, room: ModuleType) -> Any:
        """The trace of the search."""
        return room.figures.draw("trace", self)

    def to_record(self) -> records.Record:
        """The critical point with its setting, the options as given and the provenance."""
        facts = search_attributes(self.opened, self.threads, self.job_key)
        return self.point.to_record({**facts, **self.as_dict()})


def search_attributes(opened: OpenedProblem, threads: int, job_key: str) -> dict[str, Any]:
    """What a saved search and its record have in common: setting, options and provenance."""
    return {
        **start_facts(opened.attributes()),
        "torch_threads": threads,
        "job_key": job_key,
    }


def start_facts(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Facts of a problem, with those of its checkpoint as ``start_checkpoint…``."""
    return {f"start_{n}" if n.startswith("checkpoint") else n: v for n, v in facts.items()}


def _finite(value: Any) -> Any:
    """The value with None for NaN and infinity, also inside mappings."""
    if isinstance(value, Mapping):
        return {name: _finite(part) for name, part in value.items()}
    return plain(value) if isinstance(value, float) else value
