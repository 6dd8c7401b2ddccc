"""``hessscope spectrum`` on several checkpoints: stored one by one, gone on with, compared."""

from __future__ import annotations

import dataclasses
import functools
import glob
import math
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from hessscope import backends, records
from hessscope.errors import CheckpointError, HessscopeError, OptionError, OutputExistsError
from hessscope.loaders import weights_in
from hessscope.objective import Dataset
from hessscope.pipeline import drawing
from hessscope.pipeline.job_keys import job_key, plain_problem
from hessscope.pipeline.notices import Tell, out_of_memory, untold
from hessscope.pipeline.problems import Problem, open_data
from hessscope.pipeline.series_epochs import named_epoch, stated_epoch
from hessscope.pipeline.series_reports import (
    KIND,
    WITHOUT_EPOCHS,
    SeriesEntry,
    SeriesReport,
    entries_in,
)
from hessscope.pipeline.spectrum_requests import SpectrumRequest
from hessscope.pipeline.spectrum_runs import run_spectrum
from hessscope.progress import Progress, silent
from hessscope.spectra import find_zero_rule

_SUFFIXES = (".pt", ".pth", ".th", ".ckpt", ".pkl", ".safetensors", ".pt2")


@dataclass(frozen=True)
class SeriesRequest:
    """The spectra of several checkpoints, computed alike.

    Attributes:
        problems: one for each checkpoint.
        how: backend, tolerance and so on for all; its problem and files do not matter.
        out: the record, which may be one of the same series, of which the rest is missing; None for
            none.
        plot: where the figure goes; None for nowhere.
        overwrite: existing files may be replaced.
    """

    problems: tuple[Problem, ...]
    how: SpectrumRequest
    out: Path | None = None
    plot: Path | None = None
    overwrite: bool = False

    @property
    def stored(self) -> bool:
        """The record is there."""
        return self.out is not None and self.out.exists()

    def request(self, problem: Problem) -> SpectrumRequest:
        """The request of one checkpoint.

        Its result goes into the series' record, beside which the state of long work is saved.
        """
        return dataclasses.replace(
            self.how, problem=problem, out=self.out, plot=None, overwrite=True
        )

    def check(self) -> None:
        """Refuse what cannot be done or written, before anything is read or computed.

        Raises:
            OptionError: an option means nothing, or there is something else in the record's place.
            RecordError: an output cannot be written.
        """
        inputs = [(problem.checkpoint, "one of the checkpoints") for problem in self.problems]
        data = [(problem.data, "the data") for problem in self.problems]
        records.check_distinct((self.out, self.plot), (*inputs, *data))
        if self.how.view.semicircle:
            raise OptionError(
                "--semicircle draws over the density of one spectrum, and the figure of a series "
                "has none: leave it out, or take --bulk for the comparison in numbers"
            )
        self.request(self.problems[0]).check()
        if self.plot is not None:
            # Drawn anew from the record each time the same command runs.
            drawing.drawing().figures.check_figure_path(self.plot, self.overwrite or self.stored)


def find_checkpoints(paths: Iterable[str | os.PathLike[str]]) -> tuple[Path, ...]:
    """Files, the checkpoints in folders, and what patterns stand for; by folder and number.

    In a folder without checkpoints those of its subfolders are meant.

    Raises:
        CheckpointError: a folder or a pattern has no checkpoints.
    """
    found: dict[Path, None] = {}
    for given in paths:
        if isinstance(given, torch.nn.Module):
            raise OptionError("a series is of files; for a model in memory take hs.spectrum")
        path = Path(given)
        if path.is_dir() and weights_in(path) is not None:
            files = [path]  # one checkpoint in several files
        elif path.is_dir():
            # A folder of trials has its checkpoints one level further down.
            files = _checkpoints_of(path.iterdir()) or _checkpoints_of(path.glob("*/*"))
            if not files:
                raise CheckpointError(
                    f"{path} is a folder without checkpoints in it ({', '.join(_SUFFIXES)})"
                )
        elif not path.exists() and glob.has_magic(str(path)):
            files = [Path(p) for p in glob.glob(str(path), recursive=True)]  # noqa: PTH207
            if not files:
                raise CheckpointError(f"no file is called like {path}")
        else:
            files = [path]
        found.update(dict.fromkeys(sorted(files, key=_natural)))
    return tuple(found)


def _checkpoints_of(paths: Iterable[Path]) -> list[Path]:
    return [p for p in paths if p.suffix.lower() in _SUFFIXES and p.is_file()]


def _natural(path: Path) -> tuple[Any, ...]:
    parts = re.split(r"(\d+)", str(path))
    return tuple((1, int(part), "") if part.isdigit() else (0, 0, part) for part in parts)


def with_default_record(request: SeriesRequest) -> SeriesRequest:
    """Let the series be written to RUN.series.h5 in this folder, if nothing else is asked for.

    That of the same series, where there is one, and else a free name.
    """
    if request.out is not None:
        return request
    folders = {Path(problem.checkpoint).resolve().parent for problem in request.problems}
    name = f"{folders.pop().name}.series" if len(folders) == 1 else "series"
    keys = set(_keys(request).values())
    path, number = Path(f"{name}.h5"), 1
    while path.exists() and _former(path, keys) is None:
        number += 1
        path = Path(f"{name}-{number}.h5")
    return dataclasses.replace(request, out=path)


def run_series(
    request: SeriesRequest, progress: Progress = silent, tell: Tell = untold
) -> SeriesReport:
    """Compute what is missing; every result is in the record before the next one is begun.

    A checkpoint that fails is kept with its error, and tried again by the next run.

    Args:
        request: what to compute, and where it is written.
        progress: told of every stage.
        tell: told of every note, once; of a cause of failures at the first.

    Raises:
        OutputExistsError: the record is there, and is not one of this series.
    """
    request.check()
    paths = [str(problem.checkpoint) for problem in request.problems]
    records.check_attributes({"checkpoints": paths, "record": str(request.out)})
    keys = _keys(request)
    former: dict[str, SeriesEntry] = {}
    if request.out is not None and request.stored and not request.overwrite:
        known = _former(request.out, set(keys.values()))
        if known is None:
            raise OutputExistsError(
                f"{request.out} exists, and is not a record of these checkpoints with these "
                "options; give --overwrite, or another --out"
            )
        former = {entry.key: entry for entry in known}
    reused = len(former)
    if reused:
        tell(f"{reused} of {len(keys)} results are in {request.out}")
    entries: list[SeriesEntry] = []
    data = _Data()
    tell = _once(tell)
    interrupted = False
    progress("checkpoints", 0, len(request.problems))
    for number, problem in enumerate(request.problems):
        key = keys[problem.checkpoint]
        try:
            entry = former.get(key) or _compute(request, problem, key, data, progress, tell)
        except KeyboardInterrupt:
            interrupted = True
            break
        entries.append(entry)
        if entry.error is not None:
            again = any(entry.error == other.error for other in entries[:-1])
            tell(f"{entry.checkpoint} failed{', too' if again else f': {entry.error}'}")
        elif key not in former:
            _write(_report(request, [*entries, *_waiting(former, entries)], reused))
            entry.stored()
        progress("checkpoints", number + 1, len(request.problems))
    report = _report(request, [*entries, *_waiting(former, entries)], reused)
    if report.done:
        _write(report)
    if not report.by_epoch:
        tell(WITHOUT_EPOCHS)
    return dataclasses.replace(report, interrupted=interrupted)


def spectrum_series(
    checkpoints: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    data: Any = None,
    *,
    out: str | Path | None = None,
    plot: str | Path | None = None,
    backend: str = "auto",
    steps: int = 100,
    probes: int = 4,
    tolerance: float | None = None,
    zero_rule: str | None = None,
    memory: int | None = None,
    preset: str | None = None,
    overwrite: bool = False,
    progress: Progress = silent,
    tell: Tell = untold,
    **options: Any,
) -> SeriesReport:
    """Compute the spectra of several checkpoints; the same as the command.

    Args:
        checkpoints: files, a folder of them, or patterns such as ``run/*.pt``.
        data: as for ``Problem``; so are all further ``options``. Checkpoints of hessscope's own
            know theirs.
        out: the record; by default none is written. With one of the same series only what it
            lacks is computed.
        plot: where to write the figure.
        backend: "auto", "exact", "lanczos" or "pyhessian".
        steps: Lanczos steps of each probe.
        probes: random start vectors.
        tolerance: τ; default 2δ of each. With one τ for all the counts can be compared.
        zero_rule: as for ``hs.spectrum``.
        memory: bytes that may be used; default what is free.
        preset: "sankar2017" or "dauphin2014".
        overwrite: existing files may be replaced.
        progress: told of every stage.
        tell: told of every note, once.

    Raises:
        HessscopeError: of the kind that fits; before any long work where possible.
    """
    paths = [checkpoints] if isinstance(checkpoints, (str, os.PathLike)) else checkpoints
    problems = tuple(
        Problem.with_preset(preset, checkpoint=path, data=data, **options)
        for path in find_checkpoints(paths)
    )
    sampled = backends.LanczosBackend(
        steps=steps, probes=probes, seed=problems[0].seed, memory=memory
    )
    how = SpectrumRequest(
        problems[0],
        backend=backend,
        exact=backends.ExactBackend(memory=memory),
        sampled=sampled,
        zero_rule=find_zero_rule(zero_rule, tolerance),
    )
    request = SeriesRequest(
        problems, how, Path(out) if out else None, Path(plot) if plot else None, overwrite
    )
    report = run_series(request, progress, tell)
    save_series_figure(request, report)
    return report


def _waiting(former: Mapping[str, SeriesEntry], entries: list[SeriesEntry]) -> list[SeriesEntry]:
    """Stored results whose turn has not come yet: they stay in the record."""
    seen = {entry.key for entry in entries}
    return [entry for key, entry in former.items() if key not in seen]


def save_series_figure(request: SeriesRequest, report: SeriesReport) -> Path | None:
    """Draw the figure where the request says; give its path.

    Raises:
        HessscopeError: it cannot be drawn, the disk is full or the folder cannot be written.
    """
    if request.plot is None or not report.done:
        return None
    return drawing.save_figure(
        lambda room: room.figures.draw("series", report), request.plot, overwrite=True
    )


def _report(request: SeriesRequest, entries: list[SeriesEntry], reused: int) -> SeriesReport:
    """The entries by run and epoch, or as the checkpoints were given where not all state one."""
    places = {str(Path(p.checkpoint)): number for number, p in enumerate(request.problems)}
    ordered = sorted(entries, key=lambda entry: places[entry.checkpoint])
    report = SeriesReport(tuple(ordered), request.out, len(request.problems), reused)
    if not report.by_epoch:
        return report
    ordered.sort(key=lambda entry: (entry.run, math.isnan(entry.epoch), entry.epoch))
    return dataclasses.replace(report, entries=tuple(ordered))


def _write(report: SeriesReport) -> None:
    if report.record is not None:
        records.write_record(report.to_record(), report.record, overwrite=True)


def _compute(
    request: SeriesRequest,
    problem: Problem,
    key: str,
    data: _Data,
    progress: Progress,
    tell: Tell,
) -> SeriesEntry:
    path = Path(problem.checkpoint)
    try:
        examples = data.of(problem, progress) if not problem.withheld else None
        report = run_spectrum(request.request(problem), progress, tell, examples)
    except Exception as error:
        if not isinstance(error, HessscopeError) and not out_of_memory(error):
            raise
        message = str(error) if isinstance(error, HessscopeError) else "out of memory"
        return SeriesEntry(str(path), str(path.parent), named_epoch(path), key, error=message)
    record = None if request.out is None else str(request.out)
    result = {**report.as_dict(), "record": record}
    arrays = {**report.result.to_record({}).arrays, **report.details.arrays()}
    epoch = stated_epoch(report.opened.checkpoint.metadata, path)
    return SeriesEntry(
        str(path), str(path.parent), epoch, key, result, arrays, stored=report.saved.clear
    )


def _keys(request: SeriesRequest) -> dict[str | Path, str]:
    """By checkpoint: a digest of all that its result depends on."""
    digest = functools.cache(records.file_sha256)  # the data is mostly the same for all
    found = {}
    for problem in request.problems:
        same = request.request(plain_problem(problem))
        options = repr(dataclasses.replace(same, out=None, overwrite=False, save_every=0.0))
        found[problem.checkpoint] = job_key(problem, options, digest)
    return found


def _former(path: Path, keys: set[str]) -> list[SeriesEntry] | None:
    """The results in a record, if all of them are of this series."""
    try:
        record = records.load_record(path)
    except HessscopeError:
        return None
    if record.kind != KIND or not set(record.attributes.get("keys", ())) <= keys:
        return None
    return entries_in(record)


class _Data:
    """Keeps the last data set: the checkpoints of a series mostly share it."""

    def __init__(self) -> None:
        self._key: tuple[Any, ...] | None = None
        self._data: Dataset | None = None

    def of(self, problem: Problem, progress: Progress) -> Dataset | None:
        """The problem's data; None where it names none."""
        if problem.data is None:
            return None
        key = (
            id(problem.data) if not isinstance(problem.data, (str, Path)) else str(problem.data),
            problem.split, str(problem.root), problem.subset, problem.seed, problem.subset_seed,
            str(problem.resize), problem.grayscale, str(problem.normalize), problem.targets,
            problem.data_fingerprint,
        )  # fmt: skip
        if self._data is None or key != self._key:
            self._data = None  # before the next one comes
            self._key, self._data = key, open_data(problem, progress)
        return self._data


def _once(tell: Tell) -> Tell:
    told: set[str] = set()

    def tell_new(note: str) -> None:
        if note not in told:
            told.add(note)
            tell(note)

    return tell_new
