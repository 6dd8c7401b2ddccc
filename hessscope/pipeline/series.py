"""Spectra of several checkpoints: computed alike, stored one by one, compared."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hessscope import records
from hessscope.errors import HessscopeError, OutputExistsError
from hessscope.objective import Dataset
from hessscope.options.fields import DATA, takes
from hessscope.options.setting import Setting
from hessscope.options.spectrum import SpectrumOptions
from hessscope.pipeline.checkpoint_files import find_checkpoints, named_epoch, stated_epoch
from hessscope.pipeline.job_keys import content_of
from hessscope.pipeline.outputs import drawing, save_figure
from hessscope.pipeline.problems import Problem, open_data, out_of_memory
from hessscope.pipeline.series_reports import (
    KIND,
    WITHOUT_EPOCHS,
    SeriesEntry,
    SeriesReport,
    entries_in,
)
from hessscope.pipeline.spectrum_checks import check_options
from hessscope.pipeline.spectrum_runs import compute_spectrum
from hessscope.progress import Note, Progress

_PREPARATION = [name for name, how in Setting.described().items() if how.panel == DATA]


@takes(SpectrumOptions)
def spectrum_series(options: SpectrumOptions) -> SeriesReport:
    """Compute the spectra of several checkpoints; the same as the command.

    With ``out`` a record of the same series, only what it lacks is computed.

    Raises:
        HessscopeError: of the kind that fits; before any long work where possible.
    """
    return save_figure(options, compute_series(options))


def with_default_record(options: SpectrumOptions) -> SpectrumOptions:
    """Let the series be written to FOLDER.series.h5 in this folder, if nothing else is asked for.

    That of the same series, where there is one, and else a free name.
    """
    if options.out is not None:
        return options
    runs = _runs(options)
    folders = {path.resolve().parent for path in runs}
    name = f"{folders.pop().name}.series" if len(folders) == 1 else "series"
    keys = set(_keys(runs).values())
    path, number = Path(f"{name}.h5"), 1
    while path.exists() and _former(path, keys) is None:
        number += 1
        path = Path(f"{name}-{number}.h5")
    return dataclasses.replace(options, out=path)


def compute_series(options: SpectrumOptions) -> SeriesReport:
    """Compute what is missing; every result is in the record before the next one is begun.

    A checkpoint that fails is kept with its error, and tried again by the next run.

    Args:
        options: of a spectrum; of the notes each is given once.

    Raises:
        OutputExistsError: the record is there, and is not one of this series.
        RecordError: another process is at work on it, or it cannot be written.
    """
    if options.out is None:
        return _computed(options)
    out = Path(options.out)
    with records.lock(out.with_name(f".{out.name}.lock")):
        return _computed(options)


def _computed(options: SpectrumOptions) -> SeriesReport:
    seen: set[str] = set()
    options = dataclasses.replace(options, on_note=_once(options.on_note, seen))
    runs = _runs(options)
    _check(options, runs)
    keys = _keys(runs)
    former: dict[str, SeriesEntry] = {}
    if options.out is not None and Path(options.out).exists() and not options.overwrite:
        known = _former(Path(options.out), set(keys.values()))
        if known is None:
            raise OutputExistsError(
                f"{options.out} exists, and is not a record of these checkpoints with these "
                "options; give `overwrite=True`, or another `out`"
            )
        former = {entry.key: entry for entry in known}
    if former:
        options.on_note(f"{len(former)} of {len(keys)} results are in {options.out}")
    record = None if options.out is None else Path(options.out)
    report = SeriesReport((), tuple(map(str, runs)), len(former), record=record)
    data = _SharedData()
    options.progress("checkpoints", 0, len(runs))
    for number, (path, run) in enumerate(runs.items()):
        try:
            entry = former.pop(keys[path], None) or _compute(path, run, keys[path], data)
        except KeyboardInterrupt:
            report = dataclasses.replace(report, interrupted=True)
            break
        again = any(entry.error == other.error for other in report.entries)
        report = report.with_entries(entry)
        if entry.error is not None:
            cause = ", too" if again else f": {entry.error}"
            options.on_note(f"{entry.checkpoint} failed{cause}")
        elif entry.saved is not None:
            _write(report.with_entries(*former.values()))
            entry.saved.clear()
        options.progress("checkpoints", number + 1, len(runs))
    report = report.with_entries(*former.values())  # their turn has not come: they stay
    if report.done:
        _write(report)
    if not report.by_epoch:
        options.on_note(WITHOUT_EPOCHS)
    return report


def _runs(options: SpectrumOptions) -> dict[Path, SpectrumOptions]:
    """The options of each checkpoint's spectrum.

    Its result goes into the series' record, beside which the state of long work is saved.
    """
    alike = dataclasses.replace(
        options,
        plot=None,
        overwrite=True,
        # The figure of a series has no density to draw it over.
        bulk=options.bulk or options.semicircle,
        semicircle=False,
    )
    found = find_checkpoints(options.checkpoint)
    return {path: dataclasses.replace(alike, checkpoint=path) for path in found}


def _check(options: SpectrumOptions, runs: Mapping[Path, SpectrumOptions]) -> None:
    """Refuse what cannot be done or written, before anything is read or computed."""
    inputs = [(path, "one of the checkpoints") for path in runs]
    data = [(Problem.of(run).data, "the data") for run in runs.values()]
    records.check_distinct((options.out, options.plot), (*inputs, *data))
    check_options(next(iter(runs.values())))
    if options.plot is not None:
        # Drawn anew from the record each time the same command runs.
        stored = options.out is not None and Path(options.out).exists()
        drawing().figures.check_figure_path(options.plot, options.overwrite or stored)
    records.check_attributes({"checkpoints": list(map(str, runs)), "record": str(options.out)})
    if options.semicircle:
        options.on_note("the figure of a series has no density: `semicircle` is given in numbers")


def _write(report: SeriesReport) -> None:
    if report.record is not None:
        records.write_record(report.to_record(), report.record, overwrite=True)


def _compute(path: Path, options: SpectrumOptions, key: str, data: _SharedData) -> SeriesEntry:
    try:
        report = compute_spectrum(options, data)
    except Exception as error:
        if not isinstance(error, HessscopeError) and not out_of_memory(error):
            raise
        message = str(error) if isinstance(error, HessscopeError) else "out of memory"
        return SeriesEntry(str(path), str(path.parent), named_epoch(path), key, error=message)
    result = {**report.as_dict(), "record": options.out and str(options.out)}
    epoch = stated_epoch(report.opened.checkpoint.metadata, path)
    arrays, saved = report.arrays(), report.saved
    return SeriesEntry(str(path), str(path.parent), epoch, key, result, arrays, saved=saved)


def _keys(runs: Mapping[Path, SpectrumOptions]) -> dict[Path, str]:
    """By checkpoint: a digest of all that its result depends on."""
    digest = functools.cache(records.file_sha256)  # the data is mostly the same for all
    return {path: run.job_key(*content_of(run, digest)) for path, run in runs.items()}


def _former(path: Path, keys: set[str]) -> list[SeriesEntry] | None:
    """The results in a record, if all of them are of this series."""
    try:
        record = records.load_record(path)
    except HessscopeError:
        return None
    if record.kind != KIND or not set(record.attributes.get("job_keys", ())) <= keys:
        return None
    return entries_in(record)


class _SharedData:
    """Opens data, and keeps the last: the checkpoints of a series mostly share it."""

    def __init__(self) -> None:
        self._key: tuple[Any, ...] | None = None
        self._data: Dataset | None = None

    def __call__(self, problem: Problem, progress: Progress) -> Dataset:
        named = isinstance(problem.data, (str, Path))
        key = (
            str(problem.data) if named else id(problem.data),
            *(str(getattr(problem, name)) for name in _PREPARATION if name != "data"),
            problem.seed, problem.subset_seed, problem.data_fingerprint,
        )  # fmt: skip
        if self._data is None or key != self._key:
            self._data = None  # before the next one comes
            self._key, self._data = key, open_data(problem, progress)
        return self._data


def _once(on_note: Note, seen: set[str]) -> Note:
    def note_new(note: str) -> None:
        if note not in seen:
            seen.add(note)
            on_note(note)

    return note_new
