"""From a request to a spectrum: check, open, solve, write."""

from __future__ import annotations

import dataclasses
import time
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from hessscope import backends, records
from hessscope.errors import (
    HessscopeWarning,
    OptionError,
    OutputExistsError,
    UnknownNameError,
)
from hessscope.loaders import Dataset
from hessscope.operators import HessianOperator
from hessscope.pipeline.bulks import split_bulk
from hessscope.pipeline.layers import LayerSpectrum, layer_spectra
from hessscope.pipeline.notices import Tell, collected, tell_all, untold
from hessscope.pipeline.problems import Problem, open_problem
from hessscope.pipeline.repeats import RepeatedPlan, threads
from hessscope.pipeline.spectrum_reports import (
    SpectrumReport,
    record_attributes,
    spectral_range,
)
from hessscope.pipeline.views import Details, View
from hessscope.progress import Progress, silent
from hessscope.spectra import (
    NoiseFloorRule,
    Sankar2017Rule,
    Spectrum,
    ZeroRule,
    attribute_degeneracy,
    find_zero_rule,
    tolerance_sweep,
    warn_of_precision,
    widest_gap,
)

BACKENDS = ("auto", "exact", "lanczos", "pyhessian")


def spectrum(
    checkpoint: str | Path,
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
    progress: Progress = silent,
    tell: Tell = untold,
    **options: Any,
) -> SpectrumReport:
    """Compute the Hessian spectrum of a checkpoint; the same as the command.

    Args:
        checkpoint: path of the file.
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
        zero_rule: "noise-floor" (τ = 2δ, twice the noise floor), "absolute" (τ as given),
            "relative" (times the largest |λ|), or "sankar2017" (the counts of that paper's code
            beside ours). Default: noise-floor, or absolute where a tolerance is given.
        memory: bytes that may be used; default what is free.
        plan: a record, the plan of which is to be repeated.
        preset: "sankar2017" or "dauphin2014".
        out: where to write the record; by default none is written.
        plot: where to write the figure.
        overwrite: existing files may be replaced.
        operator: "hessian", "gauss-newton", "fisher" or "empirical-fisher".
        params: patterns of parameter names, for the diagonal block of these.
        by_layer: also compute the spectrum of each module's diagonal block.
        eigenvectors: also compute so many, of largest |λ|, or "lowest:5", or "highest:5".
        bulk: also count outliers, measure where the gradient lies, and compare the bulk with the
            semicircle law.
        semicircle: the same, and draw the law over the figure.
        progress: told of every stage.
        tell: told of every note as soon as it is known; ``print`` will do.

    Raises:
        HessscopeError: of the kind that fits; before any long work where possible.
    """
    problem = Problem.with_preset(preset, checkpoint=checkpoint, data=data, **options)
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
        ),
        target=target_of(target_width, budget),
        explain=explain,
        zero_rule=find_zero_rule(zero_rule, tolerance),
        plan=Path(plan) if plan else None,
        out=Path(out) if out else None,
        plot=Path(plot) if plot else None,
        overwrite=overwrite,
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
    save_figure(request, report)
    return report


@dataclass(frozen=True)
class SpectrumRequest:
    """What ``hessscope spectrum`` is asked for, with the backends in their frozen form.

    Attributes:
        problem: checkpoint, data and loss.
        backend: "auto", "exact", "lanczos" or "pyhessian".
        exact: the exact backend, if it is taken.
        sampled: the Lanczos backend, if it is taken.
        target: how narrow its counts are to be; None for the steps and probes of ``sampled``.
        explain: find out why eigenvalues are zero.
        zero_rule: what counts as zero; default |λ| ≤ 2δ.
        plan: a record; what was decided by measuring there is not measured again.
        out: where the record goes; None for nowhere.
        plot: where the figure goes; None for nowhere.
        overwrite: existing files may be replaced.
        view: which matrix, of which parameters, and what else of it.
    """

    problem: Problem
    backend: str = "auto"
    exact: backends.ExactBackend = field(default_factory=backends.ExactBackend)
    sampled: backends.LanczosBackend = field(default_factory=backends.LanczosBackend)
    target: backends.Target | None = None
    explain: bool = False
    zero_rule: ZeroRule = field(default_factory=NoiseFloorRule)
    plan: Path | None = None
    out: Path | None = None
    plot: Path | None = None
    overwrite: bool = False
    view: View = field(default_factory=View)

    def check(self) -> None:
        """Refuse what cannot be done or written, before anything is read or computed.

        Raises:
            OptionError: an option means nothing, or an output file is there already.
            RecordError: an output cannot be written.
        """
        if self.backend not in BACKENDS:
            raise UnknownNameError("backend", self.backend, BACKENDS)
        if isinstance(self.zero_rule, Sankar2017Rule) and self.backend not in ("auto", "exact"):
            raise _needs_exact(self.backend)
        self.view.check(self.backend)
        if self.target is not None and self.backend not in ("auto", "lanczos"):
            raise OptionError(
                f"a target width is for sampled counts, and the backend is {self.backend}: leave "
                "out --target-width, or take --backend lanczos"
            )
        if self.plot is not None and self.backend == "pyhessian":
            raise OptionError(
                "the pyhessian backend gives no spectrum to plot: leave out --plot, or take "
                "--backend exact or lanczos"
            )
        if self.explain and self.backend == "pyhessian":
            raise OptionError(
                "the pyhessian backend counts no zeros that could be explained: leave out "
                "--explain, or take --backend exact or lanczos"
            )
        if self.explain and not self.view.whole_hessian:
            raise OptionError(
                "--explain speaks of the zeros of the whole Hessian: leave out --operator and "
                "--params"
            )
        if self.view.semicircle and self.plot is None:
            raise OptionError(
                "--semicircle draws over a figure, and there is none: give --plot FILE, or take "
                "--bulk for the comparison in numbers"
            )
        self._check_distinct()
        if self.out is not None:
            records.prepare_output(self.out, self.overwrite)
        if self.plot is not None:
            _drawing().check_figure_path(self.plot, self.overwrite)

    def _check_distinct(self) -> None:
        """No output may replace an input, --overwrite or not, nor the other output."""
        taken = {Path(self.problem.checkpoint).resolve(): "the checkpoint"}
        if isinstance(self.problem.data, (str, Path)):
            taken[Path(self.problem.data).resolve()] = "the data"
        if self.plan is not None:
            taken[self.plan.resolve()] = "the record whose plan is repeated"
        for output in filter(None, (self.out, self.plot)):
            if role := taken.get(output.resolve()):
                raise OptionError(f"{output} is {role}: write to another file")
            taken[output.resolve()] = "the other output"


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
    with threads(repeated.threads if repeated else None):
        return _run(request, repeated, began, progress, tell, data)


def _run(
    request: SpectrumRequest,
    repeated: RepeatedPlan | None,
    began: float,
    progress: Progress,
    tell: Tell,
    data: Dataset | None,
) -> SpectrumReport:
    problem, backend, exact = request.problem, request.backend, request.exact
    sampled = request.sampled
    with collected() as given:
        opened = open_problem(problem, progress, data)
        evaluation = opened.risk.evaluate()
    tell_all(tell, opened.notes)
    with collected() as given_later:
        reason = f"{backend} was asked for"
        risk = request.view.risk(opened.risk)
        if repeated is None:
            operator = request.view.kind(risk, memory=exact.memory)
        else:
            operator = repeated.operator(request.view.kind, risk, exact.memory)
            sampled = dataclasses.replace(sampled, together=repeated.together)
            if backend == "auto":
                backend, reason = repeated.backend, f"as in {repeated.source}"
        if isinstance(request.zero_rule, Sankar2017Rule):
            exact = dataclasses.replace(exact, rounded=True)
            if backend == "auto":
                backend, reason = "exact", "the zero rule sankar2017 needs the matrix"
            elif backend != "exact":
                raise _needs_exact(backend)
        if backend == "auto":
            choice = backends.choose_backend(operator, exact)
            backend, reason = choice.name, choice.reason
            tell(f"backend {backend} (chosen by auto): {reason}")
        result = _solver(request, backend, exact, sampled).solve(operator, progress=progress)
        inertia = None if backend == "pyhessian" else request.zero_rule.inertia(result)
        if inertia is not None and isinstance(result, Spectrum):
            warn_of_precision(result, inertia)
        norm = max(abs(x) for x in spectral_range(result))
        criticality, classification = request.view.judge(operator, opened.risk, norm, inertia)
        along = None
        if request.view.whole_hessian:
            gradient = opened.risk.gradient()
            along = float(gradient @ operator.matvec(gradient))
        causes = None
        if request.explain and inertia is not None and isinstance(operator, HessianOperator):
            causes = attribute_degeneracy(operator, inertia, seed=problem.seed, progress=progress)
        pairs = request.view.eigenpairs(operator, result, problem.seed, exact.memory, progress)
        bulk = None
        if inertia is not None and (request.view.bulk or request.view.semicircle):
            bulk = split_bulk(
                operator,
                result,
                inertia,
                criticality.gradient_floor,
                seed=problem.seed,
                memory=exact.memory,
                progress=progress,
            )
        layers: tuple[LayerSpectrum, ...] = ()
        if request.view.by_layer:
            layers = layer_spectra(
                operator,
                request.backend,
                repeated.layers if repeated else {},
                exact,
                request.sampled,
                request.zero_rule.inertia,
                progress,
            )
    return SpectrumReport(
        opened=opened,
        result=result,
        inertia=inertia,
        zero_rule=request.zero_rule,
        sweep=tolerance_sweep(result, inertia) if inertia else (),
        causes=causes,
        gap=widest_gap(result) if isinstance(result, Spectrum) else None,
        published=request.zero_rule.published(result)
        if isinstance(request.zero_rule, Sankar2017Rule)
        else None,
        criticality=criticality,
        gTHg=along,
        classification=classification,
        loss=evaluation.loss,
        accuracy=evaluation.accuracy,
        choice=reason,
        plan={} if backend == "pyhessian" else operator.plan.as_dict(),
        threads=torch.get_num_threads(),
        seconds=time.perf_counter() - began,
        details=Details(request.view, risk.layout.names, layers, pairs, bulk),
        notes=opened.notes,
        warnings=(*given, *given_later),
    )


def _solver(
    request: SpectrumRequest,
    backend: str,
    exact: backends.ExactBackend,
    sampled: backends.LanczosBackend,
) -> Any:
    if backend == "pyhessian":
        return backends.PyHessianBackend(seed=request.problem.seed)
    if backend == "exact":
        return exact
    if request.target is None:
        return sampled
    return backends.NarrowingBackend(request.target, request.zero_rule, sampled)


def target_of(width: float | None, budget: str | int | None) -> backends.Target | None:
    """The target that two options make.

    Raises:
        OptionError: a budget without a width, or one that means nothing.
    """
    if width is not None:
        return backends.Target.parse(width, budget)
    if budget is not None:
        raise OptionError(f"the budget {budget} belongs to a target width: give --target-width 0.1")
    return None


def _needs_exact(backend: str) -> OptionError:
    return OptionError(
        f"the zero rule sankar2017 counts the rows of the matrix, and the backend is {backend}: "
        "take --backend exact"
    )


def save_record(request: SpectrumRequest, report: SpectrumReport) -> SpectrumReport:
    """Write the record where the request says; give the report with its path.

    A record whose name was taken while the computation ran gets a numbered one, with a warning:
    what took long to compute is not thrown away.

    Raises:
        RecordError: the disk is full or the folder cannot be written.
    """
    if request.out is None:
        return report
    try:
        return _write_record(request, report, request.out, request.overwrite)
    except OutputExistsError:
        free = records.numbered_path(request.out.parent, request.out.stem, request.out.suffix)
        report = _write_record(request, report, free, overwrite=False)
    warnings.warn(
        f"{request.out} came into being during the computation: the record is {free}",
        HessscopeWarning,
        stacklevel=2,
    )
    return report


def _write_record(
    request: SpectrumRequest, report: SpectrumReport, path: Path, overwrite: bool
) -> SpectrumReport:
    report = dataclasses.replace(report, record=path)
    record = report.result.to_record(record_attributes(report, request.problem))
    record = dataclasses.replace(record, arrays={**record.arrays, **report.details.arrays()})
    records.write_record(record, path, overwrite)
    return report


def save_figure(request: SpectrumRequest, report: SpectrumReport) -> None:
    """Draw the figure where the request says.

    Raises:
        RecordError: the disk is full or the folder cannot be written.
    """
    if request.plot is None or report.inertia is None:
        return
    bulk = report.details.bulk if request.view.semicircle else None
    figure = _drawing().spectrum_figure(
        report.result,
        tolerance=report.inertia.tolerance,
        operator=request.view.operator,
        bulk=bulk.semicircle if bulk else None,
    )
    _drawing().save_figure(figure, request.plot, request.overwrite)


def _drawing() -> ModuleType:
    """The reports, imported when something is drawn: matplotlib and pandas take a second."""
    from hessscope import reports

    return reports
