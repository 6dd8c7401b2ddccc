"""``hs.refine_checkpoint``: search for a critical point near a checkpoint, certify it, write it."""

from __future__ import annotations

import math
import time
import warnings
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from hessscope import records
from hessscope.errors import HessscopeWarning, OptionError
from hessscope.loaders import write_checkpoint
from hessscope.loaders.checkpoints.contents import rounded
from hessscope.objective import EmpiricalRisk
from hessscope.objective.boundaries import nearest_boundary
from hessscope.options.fields import takes
from hessscope.options.refine import AUTO, RefineOptions, SearchOptions
from hessscope.pipeline.outputs import save_figure
from hessscope.pipeline.problems import collected, open_problem
from hessscope.pipeline.refine_jobs import (
    STATE,
    RefineJob,
    RefinementReport,
    differences,
    resumed_options,
    saved_search,
    search_attributes,
)
from hessscope.pipeline.repeats import threads
from hessscope.records import Record
from hessscope.refinement import CriticalPoint, SearchState, Strategy
from hessscope.refinement.finder import conclude
from hessscope.refinement.search import first_state, run

_UNFINISHED = (None, "interrupted")


@takes(RefineOptions)
def refine_checkpoint(options: RefineOptions) -> RefinementReport:
    """Move a checkpoint to a nearby critical point, classify and certify it; like the command.

    While the search runs, its state is kept beside the record, in a folder with the suffix
    ``.partial``: the same call resumes it. Ctrl-C stops after the step under way, and again
    abandons that step.

    Raises:
        HessscopeError: of the kind that fits; before any long work where possible.
    """
    return save_figure(options, save_refinement(options, run_refinement(options)))


def run_refinement(options: RefineOptions) -> RefinementReport:
    """Search and certify; only the state of the search is written: see ``save_refinement``."""
    began = time.perf_counter()
    job = RefineJob.of(options)
    job.check()
    base = None if options.resume is None else saved_search(options.resume)
    with job.store.locked():
        own = job.store.record(STATE)
        first = own or base
        with threads(None if first is None else int(first.attributes["torch_threads"])):
            return _run(job, base, own, began)


def _run(job: RefineJob, base: Record | None, own: Record | None, began: float) -> RefinementReport:
    options = job.options
    opened = open_problem(options)
    with collected() as given:
        facts = search_attributes(opened, torch.get_num_threads(), job.key)
        if base is not None and (different := differences(base, facts)):
            raise OptionError(
                f"{options.resume} is a search in another setting: {different}. Give the options "
                "that it began with"
            )
        if own is not None and (different := differences(own, facts)):
            job.store.set_aside(different)
            own = None
        strategy, note = _strategy(options, base, opened.risk.layout.size)
        state = first_state(opened.risk)
        if (saved := own or base) is not None:
            state = SearchState.from_record(saved)
        if own is not None:
            note = f"resumes from {job.store.folder}, after {state.iterations} steps"
        options.on_note(note)
        before = opened.risk.evaluate()
        if math.isfinite(before.loss):  # else the search reports what is wrong
            _warn_of_kinks(opened.risk)
        attributes = {**facts, "configuration": strategy.stored()}
        if job.store.folder is not None:
            outputs = {"record": str(options.out), "checkpoint": str(options.save)}
            records.check_attributes({**attributes, **outputs})
        # Where the search had come to its end only the spectrum is missing.
        if own is None or state.status in _UNFINISHED:
            state = _search(job, opened.risk, strategy.options, state, attributes)
        point = _conclude(opened.risk, strategy.options, state)
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
        job_key=job.key,
        seconds=time.perf_counter() - began,
        best_loss=options.best_loss,
        notes=(*opened.notes, note),
        warnings=(*opened.warnings, *given),
    )


def _strategy(options: RefineOptions, base: Record | None, size: int) -> tuple[Strategy, str]:
    """The strategy of the search, and the note of it."""
    search = SearchOptions.part_of(options)
    if base is None:
        strategy = Strategy.of(search, size)
        chosen = f" (chosen by auto: n = {size:,})" if options.method in (None, AUTO) else ""
        return strategy, f"method {strategy.method}{chosen}"
    strategy, state = Strategy.of(resumed_options(search, base), size), base.attributes["state"]
    steps = len(base.arrays["trace/loss"]) - 1
    note = f"resumes from {options.resume}, after {steps} steps by {state['method']}"
    return strategy, note + (f", by {strategy.method}" * (strategy.method != state["method"]))


def _warn_of_kinks(risk: EmpiricalRisk) -> None:
    """Warn beforehand that the theory behind the method does not hold everywhere."""
    nearest = nearest_boundary(risk, risk.parameters)
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
    job: RefineJob,
    risk: EmpiricalRisk,
    options: SearchOptions,
    state: SearchState,
    attributes: dict[str, object],
) -> SearchState:
    """Take the steps; the state is saved on the way and at the end, whatever the end is."""
    store, observer, latest = job.store, job.options.observer, state

    def after_step(reached: SearchState) -> bool:
        nonlocal latest
        latest = reached
        if store.due:
            store.keep(STATE, partial(reached.to_record, attributes))
        stop = observer is not None and observer(reached) is True
        return stop or store.stopping

    with store.interrupts(options.on_note, waits=True):
        try:
            latest = run(risk, options, state, after_step)
        finally:  # also where a step failed
            if latest.iterations > 0:
                store.keep(STATE, partial(latest.to_record, attributes))
                store.flush()
                if store.holds_anything and latest.status in _UNFINISHED:
                    options.on_note(
                        f"the state of the search is in {store.folder}: rerun the command to resume"
                    )
    return latest


def _conclude(risk: EmpiricalRisk, options: SearchOptions, state: SearchState) -> CriticalPoint:
    """The spectrum and the certificate; Ctrl-C leaves them out."""
    try:
        return conclude(risk, options, state)
    except KeyboardInterrupt:
        words = f"stopped during the spectrum at the end; the search had ended: {state.status}"
        return conclude(risk, options, state.ended("interrupted", words))


def save_refinement(options: RefineOptions, report: RefinementReport) -> RefinementReport:
    """Write the refined checkpoint and the record; give the report with their paths.

    What had a free name when the search began and has none now gets a numbered one, with a
    warning. When all is written the state of the search is deleted, unless it was interrupted.

    Raises:
        RecordError: the disk is full or the folder cannot be written.
    """
    job = RefineJob(options, report.job_key)
    out, save, _ = job.outputs
    with collected() as given:
        if save is not None and bool(report.point.parameters.isfinite().all()):
            report = _save_checkpoint(job, report, save)
    report = replace(report, warnings=(*report.warnings, *given))
    if out is not None:
        report = records.write_report(report, out, job.may_replace(out))
        if report.status != "interrupted":
            job.finish()
    return report


def _save_checkpoint(job: RefineJob, report: RefinementReport, path: Path) -> RefinementReport:
    notes: list[str] = []

    def write(path: Path, overwrite: bool) -> None:
        notes.extend(
            write_checkpoint(
                report.opened.checkpoint,
                report.point.parameters,
                path,
                keep_dtype=job.options.keep_dtype,
                overwrite=overwrite,
                announce=job.claim,
            )
        )

    written = records.write_or_number(write, path, job.may_replace(path))
    notes.extend(_precision_notes(job.options, report))
    for note in notes:
        job.options.on_note(note)
    digest = records.file_sha256(written)
    notes = [*report.notes, *notes]
    return replace(report, notes=tuple(notes), checkpoint=written, checkpoint_sha256=digest)


def _precision_notes(options: RefineOptions, report: RefinementReport) -> tuple[str, ...]:
    """Whether the weights in the file still are at the point; a warning where they are not."""
    after, before = report.gradient_norm_rounded, report.point.gradient_norm
    if after is None:
        return ()
    change = f"the gradient norm from {before:.2g} to {after:.2g}"
    if not options.keep_dtype:
        wide = str(report.opened.risk.dtype).removeprefix("torch.")
        lost = f"; rounded to the type of the file they would change {change}"
        return (
            f"the refined weights are written in {wide}, which load_state_dict takes into any "
            f"module{lost if after > 1.1 * before else ''}",
        )
    if after > max(before, report.point.certificate.gradient_floor):
        warnings.warn(
            f"rounding to the data type of the file changed {change}: the file does not hold the "
            "point that the record describes (leave out `keep_dtype=True`)",
            HessscopeWarning,
            stacklevel=2,
        )
    return ()
