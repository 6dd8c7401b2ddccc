"""From the options of a spectrum to its report: check, open, solve, write."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

import torch

from hessscope import records
from hessscope.backends import Backend
from hessscope.backends.backend import zero_rule_of
from hessscope.operators import HessianOperator, ObjectiveOperator
from hessscope.options.fields import takes
from hessscope.options.spectrum import AUTO, SpectrumOptions
from hessscope.pipeline import outputs
from hessscope.pipeline.job_keys import VERSIONS
from hessscope.pipeline.part_spectra import PartSpectra, divided, part_spectra
from hessscope.pipeline.problems import OpenData, OpenedProblem, collected, open_data, open_problem
from hessscope.pipeline.repeats import RepeatedPlan, note_plan, noted_plan, settle_backend, threads
from hessscope.pipeline.spectrum_checks import check_options, is_whole_hessian
from hessscope.pipeline.spectrum_details import (
    explain_zeros,
    find_eigenpairs,
    judge,
    split_bulk,
)
from hessscope.pipeline.spectrum_reports import SpectrumReport
from hessscope.progress import Progress
from hessscope.records import Store
from hessscope.registry import OPERATORS, PRODUCTS
from hessscope.spectra import Result, result_of, tolerance_sweep, warn_of_precision

_RESULT = "result"
# From so many parameters on, what the work costs is said before it begins.
_LARGE = 1_000_000


@takes(SpectrumOptions)
def spectrum(options: SpectrumOptions) -> SpectrumReport:
    """Compute the Hessian spectrum of a checkpoint; the same as the command.

    Raises:
        HessscopeError: of the kind that fits; before any long work where possible.
    """
    return outputs.save_figure(options, save_record(options, compute_spectrum(options)))


def compute_spectrum(options: SpectrumOptions, data: OpenData = open_data) -> SpectrumReport:
    """Compute what is asked for; nothing is written: see ``save_record``.

    Args:
        options: of the spectrum.
        data: opens the examples; a series opens those that its checkpoints share once.
    """
    began = time.perf_counter()
    check_options(options)
    repeated = None if options.plan is None else RepeatedPlan.of(Path(options.plan))
    opened = open_problem(options, data=data)
    # A checkpoint may name its data itself.
    records.check_distinct((options.out, options.plot), ((opened.problem.data, "the data"),))
    if options.out is not None:
        records.check_attributes({**opened.attributes(), "record": str(options.out)})
    saved = _store(options, opened)
    with saved.locked():
        if earlier := noted_plan(saved):
            repeated = repeated or earlier
            options.on_note(f"resumes from the state in {earlier.source}")
        try:
            with threads(repeated.threads if repeated else None):
                report = _computed(options, opened, repeated, saved)
        except KeyboardInterrupt:
            saved.flush()
            if saved.holds_anything:
                options.on_note(f"the state is in {saved.folder}: rerun the command to resume")
            raise
    return dataclasses.replace(report, seconds=time.perf_counter() - began)


def _store(options: SpectrumOptions, opened: OpenedProblem) -> Store:
    """The store of this job, beside its record; one that saves nothing where none is wanted.

    It is named by everything that decides the result, so that only the same job finds it.
    """
    if options.out is None or not options.save_every:
        return Store()
    key = options.job_key(
        opened.checkpoint.sha256,
        opened.checkpoint.architecture,
        opened.data.fingerprint,
        sorted(opened.code.items()),
        str(opened.risk.device),
        VERSIONS,
    )
    name = f"{Path(opened.problem.checkpoint).stem}.{key[:10]}.partial"
    return Store(Path(options.out).parent / name, 60.0 * options.save_every)


def _computed(
    options: SpectrumOptions, opened: OpenedProblem, repeated: RepeatedPlan | None, saved: Store
) -> SpectrumReport:
    progress, rule = options.progress, zero_rule_of(options)
    with collected() as given:
        progress("loss", 0, 0)
        evaluation = opened.risk.evaluate()
        progress("checks and plan of the products", 0, 0)
        risk = opened.risk.restricted(options.params) if options.params else opened.risk
        partition = divided(risk, options)
        matrix = OPERATORS.find(options.operator)
        way = PRODUCTS.find(options.products) if matrix is HessianOperator else matrix
        operator: ObjectiveOperator = way(risk, memory=options.memory, compile=options.compile)
        if repeated is not None:
            operator = repeated.planned(operator)
        backend, choice = settle_backend(options, operator, repeated)
        if options.backend == AUTO:
            options.on_note(f"backend {backend.name} (chosen by auto): {choice}")
        if operator.shape[0] >= _LARGE and (cost := backend.cost(operator)):
            options.on_note(cost)
        result = _solved(options, backend, operator, saved)
        progress("test for a critical point", 0, 0)
        inertia = rule.inertia(result) if result.counts else None
        if inertia is not None:
            warn_of_precision(result, inertia)
        whole = is_whole_hessian(options)
        criticality, classification = judge(operator, opened.risk, result, inertia, whole=whole)
        along = None
        if whole:
            gradient = opened.risk.gradient()
            along = float(gradient @ operator.matvec(gradient))
        causes = bulk = None
        if options.explain and inertia is not None:
            causes = explain_zeros(operator, inertia, options)
        pairs = find_eigenpairs(operator, result, options)
        if inertia is not None and (options.bulk or options.semicircle):
            bulk = split_bulk(
                operator,
                result,
                inertia,
                criticality.gradient_floor,
                seed=options.seed,
                progress=progress,
            )
        plans = repeated.layers if repeated else {}
        parts = PartSpectra()
        if partition is not None:
            parts = part_spectra(operator, result, partition, options, plans)
    progress("counts at other tolerances", 0, 0)
    return SpectrumReport(
        options=options,
        opened=opened,
        result=result,
        inertia=inertia,
        criticality=criticality,
        gTHg=along,
        classification=classification,
        loss=evaluation.loss,
        accuracy=evaluation.accuracy,
        choice=choice,
        plan=operator.plan.as_dict() if result.counts else {},
        parameter_names=risk.layout.names,
        threads=torch.get_num_threads(),
        seconds=0.0,
        sweep=tolerance_sweep(result, inertia) if inertia else (),
        causes=causes,
        parts=parts,
        eigenpairs=pairs,
        bulk=bulk,
        notes=opened.notes,
        warnings=(*opened.warnings, *given),
        saved=saved,
    )


def _solved(
    options: SpectrumOptions, backend: Backend, operator: ObjectiveOperator, saved: Store
) -> Result:
    """The backend's result, or the one that an earlier try of the same job left."""
    if (record := saved.record(_RESULT)) is not None:
        return result_of(record)
    if backend.counts:
        note_plan(saved, operator, backend)
    with saved.interrupts(options.on_note):
        result = backend.solve(operator, _then(options.progress, "noise floor"), saved)
    saved.keep(_RESULT, result.to_record)
    return result


def _then(progress: Progress, next_stage: str) -> Progress:
    """Name what follows a stage that is complete, so that nothing seems to stand still."""

    def report(stage: str, done: int, total: int) -> None:
        progress(stage, done, total)
        if total and done >= total:
            progress(next_stage, 0, 0)

    return report


def save_record(options: SpectrumOptions, report: SpectrumReport) -> SpectrumReport:
    """Write the record as ``outputs.save_record`` does; the state of the work goes when it is."""
    report = outputs.save_record(options, report)
    if report.record is not None:
        report.saved.clear()
    return report
