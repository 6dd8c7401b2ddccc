"""From a request to a critical point: check, open, search, certify, write."""

from __future__ import annotations

import dataclasses
import math
import time
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch

from hessscope import records
from hessscope.errors import HessscopeWarning
from hessscope.loaders import write_checkpoint
from hessscope.loaders.checkpoints.rewriting import rounded
from hessscope.objective.boundaries import nearest_boundary
from hessscope.options.refine import AUTO, EXACT_UP_TO
from hessscope.pipeline import drawing
from hessscope.pipeline.notices import Tell, collected, tell_all, untold
from hessscope.pipeline.problems import OpenedProblem, Problem, open_problem
from hessscope.pipeline.refine_reports import (
    RefinementReport,
    search_attributes,
    setting,
)
from hessscope.pipeline.refine_requests import RefineRequest
from hessscope.pipeline.repeats import threads
from hessscope.pipeline.saved_searches import SavedSearch, StateFile, claim
from hessscope.pipeline.stop_requests import stop_requests
from hessscope.progress import Progress, silent
from hessscope.refinement import CriticalPoint, SearchOptions, SearchState, Strategy
from hessscope.refinement.finder import conclude
from hessscope.refinement.search import first_state, run

Observer = Callable[[SearchState], object]

_UNFINISHED = (None, "interrupted")


def refine_checkpoint(
    checkpoint: str | Path,
    data: Any = None,
    *,
    method: str | None = None,
    search: Mapping[str, Any] | None = None,
    resume: str | Path | None = None,
    preset: str | None = None,
    out: str | Path | None = None,
    save: str | Path | None = None,
    plot: str | Path | None = None,
    keep_dtype: bool = False,
    best_loss: float = math.nan,
    overwrite: bool = False,
    observer: Observer | None = None,
    progress: Progress = silent,
    tell: Tell = untold,
    **options: Any,
) -> RefinementReport:
    """Go from a checkpoint to the critical point nearby; the same as the command.

    Args:
        checkpoint: path of the file.
        data: as for ``Problem``; so are all further ``options``.
        method: a name from ``METHODS``, or "auto" (the default): "newton" up to 4,000
            parameters, "newton_mr" above.
        search: further fields of ``SearchOptions``, such as ``{"max_iterations": 50}``.
        resume: the saved state or the record of a search, to go on from; what is not said is then
            as it was there.
        preset: "sankar2017" or "dauphin2014".
        out: where to write the record; by default none is written. While the search goes on its
            state is kept beside it, with the suffix ``.partial``.
        save: where to write the refined checkpoint, in the format of the one read.
        plot: where to write the figure of the trace.
        keep_dtype: write the weights in the data types of the file, rounded; by default they are
            written in the type in which they were computed.
        best_loss: the lowest loss that is known, for δ of a good saddle.
        overwrite: existing files may be replaced.
        observer: called with the ``SearchState`` after each step; the search stops if it returns
            True.
        progress: told of every stage.
        tell: told of every note as soon as it is known; ``print`` will do.

    Raises:
        HessscopeError: of the kind that fits; before any long work where possible.
    """
    request = RefineRequest(
        Problem.with_preset(preset, refine_checkpoint, checkpoint=checkpoint, data=data, **options),
        method=method,
        search=dict(search or {}),
        resume=Path(resume) if resume else None,
        out=Path(out) if out else None,
        save=Path(save) if save else None,
        plot=Path(plot) if plot else None,
        keep_dtype=keep_dtype,
        best_loss=best_loss,
        overwrite=overwrite,
    )
    report = run_refinement(request, progress, tell, observer)
    report = save_refinement(request, report, tell)
    save_trace_figure(request, report)
    return report


def run_refinement(
    request: RefineRequest,
    progress: Progress = silent,
    tell: Tell = untold,
    observer: Observer | None = None,
) -> RefinementReport:
    """Search and certify; only the state of the search is written: see ``save_refinement``.

    The first Ctrl-C stops after the step under way, the second gives that step up.

    Args:
        request: what to do, and where it will be written.
        progress: told of every stage.
        tell: told of every note as soon as it is known.
        observer: called with the state after each step; the search stops if it returns True.
    """
    began = time.perf_counter()
    request.check()
    base = SavedSearch.of(request.resume) if request.resume is not None else None
    own = SavedSearch.found(request.partial)
    with threads(own.threads if own else base.threads if base else None):
        return _run(request, base, own, began, progress, tell, observer)


def _run(
    request: RefineRequest,
    base: SavedSearch | None,
    own: SavedSearch | None,
    began: float,
    progress: Progress,
    tell: Tell,
    observer: Observer | None,
) -> RefinementReport:
    with collected() as given:
        progress("checkpoint and data", 0, 0)
        opened = open_problem(dataclasses.replace(request.problem, progress=progress))
        here = {**setting(opened), **opened.code}
        if base is not None:
            base.check(here)
        if own is not None and own.differences(here):
            records.set_aside(own.source, "; ".join(own.differences(here)))
            own = None
        options, words = _search_options(request, base, opened)
        if own is not None:
            words = f"resumes from {own.source}, after {own.state.iterations} steps"
        before = opened.risk.evaluate()
        if math.isfinite(before.loss):  # else the search says what is wrong
            _warn_of_kinks(opened)
    notes = (*opened.notes, words)
    tell_all(tell, notes)
    file = None
    if request.partial is not None:
        attributes = search_attributes(opened, request.problem, torch.get_num_threads())
        refinement = Strategy.of(options, opened.risk.layout.size).stored()
        attributes = {**attributes, "refinement_options": refinement, "job": request.key}
        outputs = {"record": str(request.out), "checkpoint": str(request.save)}
        records.check_attributes({**attributes, **outputs})
        file = StateFile(request.partial, attributes)
    options = dataclasses.replace(options, progress=progress)
    with collected() as given_later:
        saved = own or base
        state = first_state(opened.risk) if saved is None else saved.state
        # Where the search had come to its end only the spectrum is missing.
        if own is None or state.status in _UNFINISHED:
            state = _search(opened, options, state, file, tell, observer)
        point = _conclude(opened, options, state)
    theta = point.parameters
    narrow = rounded(opened.checkpoint.model, theta)
    return RefinementReport(
        opened=opened,
        point=point,
        before=before,
        after=opened.risk.evaluate(theta),
        gradient_norm_rounded=None
        if torch.equal(narrow, theta.cpu())
        else float(torch.linalg.vector_norm(opened.risk.gradient(narrow))),
        threads=torch.get_num_threads(),
        seconds=time.perf_counter() - began,
        best_loss=request.best_loss,
        notes=notes,
        warnings=(*given, *given_later),
    )


def _search_options(
    request: RefineRequest, saved: SavedSearch | None, opened: OpenedProblem
) -> tuple[SearchOptions, str]:
    """Options of the search, and what is to be said of them."""
    seed = request.problem.seed
    n = opened.risk.layout.size
    method = request.method
    if method == AUTO or (method is None and saved is None):
        method = "newton" if n <= EXACT_UP_TO else "newton_mr"
        words = f"method {method} (chosen by auto): n = {n:,} is " + (
            f"at most {EXACT_UP_TO:,}" if n <= EXACT_UP_TO else f"more than {EXACT_UP_TO:,}"
        )
    else:
        words = f"method {method}"
    if saved is not None:
        asked = {} if seed == Problem.seed else {"seed": seed}
        merged, words = saved.search_options(method, {**asked, **request.search})
        return SearchOptions(**merged), words
    return SearchOptions(**{"method": method, "seed": seed, **request.search}), words


def _warn_of_kinks(opened: OpenedProblem) -> None:
    """Say beforehand that the theory behind the method does not hold everywhere."""
    nearest = nearest_boundary(opened.risk, opened.risk.parameters)
    kinks = []
    if math.isfinite(nearest.distance):
        kinks.append(f"an activation has a kink at a distance of {nearest.distance:.2g} in θ")
    if not nearest.determined:
        kinks.append(f"{nearest.undetermined} has kinks at a distance that is not known")
    if kinks:
        warnings.warn(
            f"the loss is smooth only in pieces: {', and '.join(kinks)}. Steps across kinks may "
            "end at no critical point, and there may be none nearby",
            HessscopeWarning,
            stacklevel=2,
        )


def _search(
    opened: OpenedProblem,
    options: SearchOptions,
    state: SearchState,
    file: StateFile | None,
    tell: Tell,
    observer: Observer | None,
) -> SearchState:
    """Take the steps; the state is saved on the way and at the end, whatever the end is."""
    latest = state
    with stop_requests(tell) as asked:

        def after_step(reached: SearchState) -> bool:
            nonlocal latest
            latest = reached
            if file is not None:
                file(reached)
            stop = observer is not None and observer(reached) is True
            return stop or asked()

        try:
            latest = run(opened.risk, dataclasses.replace(options, observer=after_step), state)
        finally:  # also where a step failed
            if file is not None and latest.iterations > 0:
                file.save(latest)
                if latest.status in _UNFINISHED:
                    tell(f"the state of the search is in {file.path}: the same command resumes")
    return latest


def _conclude(opened: OpenedProblem, options: SearchOptions, state: SearchState) -> CriticalPoint:
    """The spectrum and the certificate; Ctrl-C leaves them out."""
    try:
        return conclude(opened.risk, options, state)
    except KeyboardInterrupt:
        words = f"stopped during the spectrum at the end; the search had ended: {state.status}"
        return conclude(opened.risk, options, state.ended("interrupted", words))


def save_refinement(
    request: RefineRequest, report: RefinementReport, tell: Tell = untold
) -> RefinementReport:
    """Write the refined checkpoint and the record; give the report with their paths.

    What had a free name when the search began and has none now gets a numbered one, with a
    warning. When all is written the state of the search is deleted, unless it was interrupted.

    Raises:
        RecordError: the disk is full or the folder cannot be written.
    """
    point, opened = report.point, report.opened
    with collected() as given:
        if request.save is not None and bool(point.parameters.isfinite().all()):
            noted: list[str] = []

            def write(path: Path, overwrite: bool) -> None:
                noted.extend(
                    write_checkpoint(
                        opened.checkpoint, point.parameters, path,
                        keep_dtype=request.keep_dtype, overwrite=overwrite,
                        announce=partial(claim, request.partial),
                    )
                )  # fmt: skip

            written = records.write_or_number(
                write, request.save, request.may_replace(request.save)
            )
            noted.extend(_precision_notes(request, report))
            tell_all(tell, tuple(noted))
            report = dataclasses.replace(
                report,
                notes=(*report.notes, *noted),
                checkpoint=written,
                checkpoint_sha256=records.file_sha256(written),
            )
    report = dataclasses.replace(report, warnings=(*report.warnings, *given))
    if request.out is None:
        return report

    def write_record(path: Path, overwrite: bool) -> None:
        nonlocal report
        report = dataclasses.replace(report, record=path)
        record = report.to_record()
        facts = {**record.attributes, "job": request.key}
        records.write_record(dataclasses.replace(record, attributes=facts), path, overwrite)

    records.write_or_number(write_record, request.out, request.may_replace(request.out))
    if report.status == "interrupted":
        return report
    for path in (request.partial, request.resume):
        if path is not None and path.suffix == ".partial":
            path.unlink(missing_ok=True)
    return report


def _precision_notes(request: RefineRequest, report: RefinementReport) -> tuple[str, ...]:
    """Whether the weights in the file still are at the point; a warning where they are not."""
    after, before = report.gradient_norm_rounded, report.point.gradient_norm
    if after is None:
        return ()
    change = f"the gradient norm from {before:.2g} to {after:.2g}"
    if not request.keep_dtype:
        wide = str(report.opened.risk.dtype).removeprefix("torch.")
        lost = f"; rounded to the type of the file they would change {change}"
        return (
            f"the refined weights are written in {wide}, which load_state_dict takes into any "
            f"module{lost if after > 1.1 * before else ''}",
        )
    if after > max(before, report.point.certificate.gradient_floor):
        warnings.warn(
            f"rounding to the data type of the file changed {change}: the file does not hold the "
            "point that the record describes (leave out --keep-dtype)",
            HessscopeWarning,
            stacklevel=2,
        )
    return ()


def save_trace_figure(request: RefineRequest, report: RefinementReport) -> Path | None:
    """Draw the trace where the request says; give the figure's path.

    Raises:
        RecordError: the disk is full or the folder cannot be written.
    """
    if request.plot is None:
        return None
    record = report.to_record()
    return drawing.save_figure(
        lambda room: room.figures.draw("trace", record), request.plot, request.overwrite
    )
