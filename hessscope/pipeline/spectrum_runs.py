"""From a request to a spectrum: check, open, solve, write."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from hessscope import backends, records
from hessscope.objective import Dataset
from hessscope.operators import HessianOperator, ObjectiveOperator
from hessscope.pipeline import drawing
from hessscope.pipeline.bulks import split_bulk
from hessscope.pipeline.explanations import explain_zeros
from hessscope.pipeline.layers import LayerSpectrum, layer_spectra
from hessscope.pipeline.notices import Tell, collected, tell_all, untold
from hessscope.pipeline.problems import OpenedProblem, Problem, open_problem
from hessscope.pipeline.repeats import RepeatedPlan, threads
from hessscope.pipeline.savepoints import (
    finished,
    keep_finished,
    note_plan,
    noted_plan,
    savepoint,
)
from hessscope.pipeline.spectrum_reports import (
    SpectrumReport,
    known_attributes,
)
from hessscope.pipeline.spectrum_requests import SpectrumRequest, needs_exact
from hessscope.pipeline.views import Details, View
from hessscope.progress import Progress, silent
from hessscope.records import Store
from hessscope.registry import BACKENDS
from hessscope.spectra import (
    find_zero_rule,
    tolerance_sweep,
    warn_of_precision,
    widest_gap,
)


def spectrum(
    checkpoint: str | Path | torch.nn.Module,
    data: Any = None,
    *,
    backend: str = "auto",
    steps: int = 100,
    probes: int = 4,
    reorthogonalize: str = "auto",
    target_width: float | None = None,
    budget: str | int | None = None,
    tolerance: float | None = None,
    explain: bool = False,
    zero_rule: str | None = None,
    memory: int | None = None,
    plan: str | Path | None = None,
    preset: str | None = None,
    out: str | Path | None = None,
    plot: str | Path | None = None,
    overwrite: bool = False,
    operator: str = "hessian",
    params: str | Iterable[str] | None = None,
    by_layer: bool = False,
    eigenvectors: str | int | None = None,
    bulk: bool = False,
    semicircle: bool = False,
    save_every: float = 600.0,
    progress: Progress = silent,
    tell: Tell = untold,
    **options: Any,
) -> SpectrumReport:
    """Compute the Hessian spectrum of a checkpoint; the same as the command.

    Args:
        checkpoint: path of the file, or a module in memory.
        data: as for ``Problem``; so are all further ``options``.
        backend: "auto", "exact", "lanczos" or "pyhessian".
        steps: Lanczos steps of each probe.
        probes: random start vectors that are sampled.
        reorthogonalize: "full", "none", or "auto", as for ``LanczosBackend``.
        target_width: Lanczos goes on until index and degeneracy have intervals of at most this
            part of their counts.
        budget: of ``target_width``: products (5000) or time ("30min").
        explain: find out why eigenvalues are zero (``attribute_degeneracy``).
        tolerance: the number that belongs to the zero rule (``find_zero_rule``); τ where no rule
            is named.
        zero_rule: "noise_floor" (τ = 2δ, twice the noise floor), "absolute" (τ as given),
            "relative" (times the largest |λ|), or "sankar2017" (the counts of that paper's code
            beside ours). Default: noise_floor, or absolute where a tolerance is given.
        memory: bytes that may be used; default what is free.
        plan: a record, the plan of which is to be repeated.
        preset: "sankar2017" or "dauphin2014".
        out: where to write the record; by default none is written.
        plot: where to write the figure.
        overwrite: existing files may be replaced.
        operator: "hessian", "gauss_newton", "fisher" or "empirical_fisher".
        params: patterns of parameter names, for the diagonal block of these.
        by_layer: also compute the spectrum of each module's diagonal block.
        eigenvectors: also compute so many, of largest |λ|, or "lowest:5", or "highest:5".
        bulk: also count outliers, measure where the gradient lies, and compare the bulk with the
            semicircle law.
        semicircle: the same, and draw the law over the figure.
        save_every: seconds after which the state of long work is saved beside ``out``; 0 for never.
        progress: told of every stage.
        tell: told of every note as soon as it is known; ``print`` will do.

    Raises:
        HessscopeError: of the kind that fits; before any long work where possible.
    """
    problem = Problem.with_preset(preset, spectrum, checkpoint=checkpoint, data=data, **options)
    request = SpectrumRequest(
        problem,
        backend=backend,
        exact=backends.ExactBackend(memory=memory),
        sampled=backends.LanczosBackend(
            steps=steps,
            probes=probes,
            seed=problem.seed,
            reorthogonalize=reorthogonalize,
            memory=memory,
            target_width=target_width,
            budget=budget,
            rule=find_zero_rule(zero_rule, tolerance),
        ),
        explain=explain,
        zero_rule=find_zero_rule(zero_rule, tolerance),
        plan=Path(plan) if plan else None,
        out=Path(out) if out else None,
        plot=Path(plot) if plot else None,
        overwrite=overwrite,
        save_every=save_every,
        view=View.of(
            operator,
            params,
            by_layer=by_layer,
            eigenvectors=eigenvectors,
            bulk=bulk,
            semicircle=semicircle,
        ),
    )
    report = save_record(request, run_spectrum(request, progress, tell))
    save_spectrum_figure(request, report)
    return report


def run_spectrum(
    request: SpectrumRequest,
    progress: Progress = silent,
    tell: Tell = untold,
    data: Dataset | None = None,
) -> SpectrumReport:
    """Compute what is asked for; nothing is written: see ``save_record``.

    Args:
        request: what to compute, and where it will be written.
        progress: told of every stage.
        tell: told of every note as soon as it is known.
        data: the problem's data, where it has been opened already.
    """
    began = time.perf_counter()
    request.check()
    repeated = RepeatedPlan.of(request.plan) if request.plan is not None else None
    progress("checkpoint and data", 0, 0)
    with collected() as given:
        opened = open_problem(dataclasses.replace(request.problem, progress=progress), data=data)
    tell_all(tell, opened.notes)
    if request.out is not None:
        records.check_attributes(known_attributes(request, opened))
    saved = savepoint(request, opened)
    with saved.locked():
        if earlier := noted_plan(saved):
            repeated = repeated or earlier
            tell(f"resumes from the state in {earlier.source}")
        try:
            with threads(repeated.threads if repeated else None):
                return _run(request, opened, tuple(given), repeated, saved, began, progress, tell)
        except KeyboardInterrupt:
            saved.flush()
            if saved.holds_anything:
                tell(f"the state is in {saved.folder}: the same command resumes")
            raise


def _run(
    request: SpectrumRequest,
    opened: OpenedProblem,
    given: tuple[str, ...],
    repeated: RepeatedPlan | None,
    saved: Store,
    began: float,
    progress: Progress,
    tell: Tell,
) -> SpectrumReport:
    problem, view, memory = request.problem, request.view, request.exact.memory
    with collected() as given_later:
        progress("loss", 0, 0)
        evaluation = opened.risk.evaluate()
        progress("checks and plan of the products", 0, 0)
        risk = view.risk(opened.risk)
        if repeated is None:
            operator = view.kind(risk, memory=memory)
        else:
            operator = repeated.operator(view.kind, risk, memory)
        backend, reason = _backend(request, operator, repeated, tell)
        solving = _then(progress, "noise floor")
        result = _solve(request, backend, operator, repeated, saved, solving, tell)
        progress("test for a critical point", 0, 0)
        inertia = request.zero_rule.inertia(result) if result.counts else None
        if inertia is not None:
            warn_of_precision(result, inertia)
        criticality, classification = view.judge(operator, opened.risk, result.norm, inertia)
        along = None
        if view.whole_hessian:
            gradient = opened.risk.gradient()
            along = float(gradient @ operator.matvec(gradient))
        causes = None
        if request.explain and inertia is not None and isinstance(operator, HessianOperator):
            causes = explain_zeros(operator, inertia, problem.seed, progress)
        pairs = view.eigenpairs(operator, result, problem.seed, memory, progress)
        bulk = None
        if inertia is not None and (view.bulk or view.semicircle):
            bulk = split_bulk(
                operator,
                result,
                inertia,
                criticality.gradient_floor,
                seed=problem.seed,
                memory=memory,
                progress=progress,
            )
        layers: tuple[LayerSpectrum, ...] = ()
        if view.by_layer:
            layers = layer_spectra(
                operator,
                request.backend,
                repeated.layers if repeated else {},
                request.exact,
                dataclasses.replace(request.sampled, target_width=None, budget=None),
                request.zero_rule.inertia,
                progress,
            )
    progress("counts at other tolerances", 0, 0)
    return SpectrumReport(
        opened=opened,
        saved=saved,
        result=result,
        inertia=inertia,
        zero_rule=request.zero_rule,
        sweep=tolerance_sweep(result, inertia) if inertia else (),
        causes=causes,
        gap=widest_gap(result),
        published=request.zero_rule.published(result) if result.counts else None,
        criticality=criticality,
        gTHg=along,
        classification=classification,
        loss=evaluation.loss,
        accuracy=evaluation.accuracy,
        choice=reason,
        plan=operator.plan.as_dict() if result.counts else {},
        threads=torch.get_num_threads(),
        seconds=time.perf_counter() - began,
        details=Details(request.view, risk.layout.names, layers, pairs, bulk),
        notes=opened.notes,
        warnings=(*given, *given_later),
    )


def _then(progress: Progress, next_stage: str) -> Progress:
    """Name what follows a stage that is complete, so that nothing seems to stand still."""

    def report(stage: str, done: int, total: int) -> None:
        progress(stage, done, total)
        if total and done >= total:
            progress(next_stage, 0, 0)

    return report


def _backend(
    request: SpectrumRequest,
    operator: ObjectiveOperator,
    repeated: RepeatedPlan | None,
    tell: Tell,
) -> tuple[str, str]:
    """Which backend to take, and why."""
    backend = request.backend
    if backend == "auto" and repeated is not None:
        backend, reason = repeated.backend, f"as in {repeated.source}"
    else:
        reason = f"{backend} was asked for"
    if request.zero_rule.rounded and backend != "exact":
        if backend != "auto":
            raise needs_exact(backend)
        backend, reason = "exact", "the zero rule sankar2017 needs the matrix"
    if backend == "auto":
        choice = backends.choose_backend(operator, request.exact)
        backend, reason = choice.name, choice.reason
        tell(f"backend {backend} (chosen by auto): {reason}")
    return backend, reason


def _solve(
    request: SpectrumRequest,
    backend: str,
    operator: ObjectiveOperator,
    repeated: RepeatedPlan | None,
    saved: Store,
    progress: Progress,
    tell: Tell,
) -> Any:
    """Run the backend; its state is saved on the way."""
    solver: Any = request.sampled
    if backend == "exact":
        solver = dataclasses.replace(request.exact, rounded=request.zero_rule.rounded)
    elif backend != "lanczos":
        solver = BACKENDS[backend](seed=request.problem.seed)
    solver = solver.planned(operator, {} if repeated is None else {"together": repeated.together})
    if not solver.counts:
        return solver.solve(operator, progress)
    together = getattr(solver, "together", None)
    if (result := finished(saved)) is not None:
        return result
    note_plan(saved, operator, backend, together)
    with saved.interrupts(tell):
        result = solver.solve(operator, progress, saved)
    keep_finished(saved, result)
    return result


def save_record(request: SpectrumRequest, report: SpectrumReport) -> SpectrumReport:
    """Write the record where the request says; give the report with its path.

    A record whose name was taken while the computation ran gets a numbered one, with a warning:
    what took long to compute is not thrown away.

    Raises:
        RecordError: the disk is full or the folder cannot be written.
    """
    report = records.write_report(report, request.out, request.overwrite)
    report.saved.clear()
    return report


def save_spectrum_figure(request: SpectrumRequest, report: SpectrumReport) -> Path | None:
    """Draw the figure where the request says; give its path.

    Raises:
        RecordError: the disk is full or the folder cannot be written.
    """
    if request.plot is None or report.inertia is None:
        return None
    bulk = report.details.bulk if request.view.semicircle else None
    semicircle = bulk.semicircle if bulk else None
    tolerance, operator = report.inertia.tolerance, request.view.operator
    return drawing.save_figure(
        lambda room: room.figures.draw(
            "spectrum", report.result, tolerance=tolerance, operator=operator, bulk=semicircle
        ),
        request.plot,
        request.overwrite,
    )
