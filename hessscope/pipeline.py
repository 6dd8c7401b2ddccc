"""The one-liners over a path: what the commands do, as functions."""

from __future__ import annotations

import dataclasses
import math
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from hessscope import backends, records
from hessscope.errors import (
    AssumptionWarning,
    HessscopeWarning,
    OptionError,
    OutputExistsError,
    PrecisionWarning,
    UnknownNameError,
)
from hessscope.loaders import Checkpoint, Dataset, load_data, load_object, read_checkpoint
from hessscope.objective import EmpiricalRisk, get_loss, resolve_device, resolve_dtype
from hessscope.operators import HessianOperator
from hessscope.progress import Progress, silent
from hessscope.spectra import (
    Criticality,
    Inertia,
    SpectralDensity,
    Spectrum,
    classify,
)
from hessscope.spectra.exact import checked_tolerance

_COMMON_ACTIVATIONS = ("relu", "tanh", "sigmoid")

BACKENDS = ("auto", "exact", "lanczos", "pyhessian")

PRESETS: dict[str, dict[str, Any]] = {
    # The published code of arXiv:1706.02052, which differs from its text.
    "sankar2017": {
        "data": "mnist",
        "split": "all",
        "subset": 60_000,
        "normalize": "center",
        "loss": "softmax_mse",
    },
    # The MNIST experiments of arXiv:1406.2572: images of 10 x 10 pixels.
    "dauphin2014": {"data": "mnist", "resize": 10, "loss": "cross_entropy"},
}

_PAPERS = {"sankar2017": "arXiv:1706.02052", "dauphin2014": "arXiv:1406.2572"}

#: Told of every note as soon as it is known, so that nobody waits an hour for a wrong guess.
Tell = Callable[[str], None]


def untold(note: str) -> None:
    """Keep a note for the result only."""


@dataclass(frozen=True)
class Problem:
    """What to look at: a checkpoint, data and a loss; the options that all commands share.

    Attributes:
        checkpoint: path of the file.
        data: a name, a path, ``file.py:factory``, or anything that ``load_data`` takes.
        model: architecture, where the file has none: ``file.py:factory``, ``mlp:784-25-10:relu``.
        activation: of a perceptron whose architecture is inferred.
        trust: the file may run code.
        split: "train", "test" or "all".
        root: folder with local copies of the named data sets.
        subset: number of examples, stratified and seeded.
        resize: new image size.
        grayscale: average the colours.
        normalize: "mean/std", "center", "none".
        targets: "inputs" for autoencoders.
        loss: a name, ``file.py:function``, or a function.
        l2: coefficient of l2/2·‖θ‖².
        dtype: "float64" or "float32".
        device: "auto", "cpu" or "cuda".
        seed: of the subset and of the probes.
        preset: the bundle that ``with_preset`` filled in.
    """

    checkpoint: str | Path
    data: Any = None
    model: Any = None
    activation: str | None = None
    trust: bool = False
    split: str = "train"
    root: str | Path | None = None
    subset: int | None = None
    resize: Any = None
    grayscale: bool = False
    normalize: str | None = None
    targets: str | None = None
    loss: Any = "cross_entropy"
    l2: float = 0.0
    dtype: str = "float64"
    device: str = "auto"
    seed: int = 0
    preset: str | None = None

    @classmethod
    def with_preset(cls, preset: str | None, **options: Any) -> Problem:
        """Fill in what a preset says for every option that was not given (is None).

        Raises:
            UnknownNameError: there is no such preset.
        """
        if preset is not None and preset not in PRESETS:
            raise UnknownNameError("preset", preset, PRESETS)
        bundle = PRESETS[preset] if preset else {}
        given = {name: value for name, value in options.items() if value is not None}
        return cls(**{**bundle, **given, "preset": preset})

    def preset_note(self) -> tuple[str, ...]:
        """What the preset set, and what was said beside it and won."""
        if self.preset is None:
            return ()
        bundle = PRESETS[self.preset]
        kept = [f"{k} {v}" for k, v in bundle.items() if getattr(self, k) == v]
        lost = [
            f"{k} {getattr(self, k)} was given and replaces {v}"
            for k, v in bundle.items()
            if getattr(self, k) != v
        ]
        settings = "; ".join([", ".join(kept), *lost] if kept else lost)
        return (f"preset {self.preset} ({_PAPERS[self.preset]}): {settings}",)

    def check(self) -> None:
        """Refuse options that no file is needed to refuse, before any is read.

        Raises:
            OptionError: with the option, its value, and what would do.
        """
        resolve_dtype(self.dtype)
        resolve_device(self.device)
        if not 0 <= self.l2 < math.inf:
            raise OptionError(f"l2 is {self.l2}: give a number of at least 0, such as 1e-4")
        if self.subset is not None and self.subset < 1:
            raise OptionError(f"subset is {self.subset}: give a number of examples, at least 1")
        if self.seed < 0:
            raise OptionError(f"seed is {self.seed}: give a whole number of at least 0")


@dataclass(frozen=True)
class Opened:
    """A problem with its files read.

    Attributes:
        checkpoint: the file's contents.
        data: the examples.
        risk: their mean loss.
        notes: what was found, assumed or done on the way, to be shown.
    """

    checkpoint: Checkpoint
    data: Dataset
    risk: EmpiricalRisk
    notes: tuple[str, ...]


@dataclass(frozen=True)
class SpectrumReport:
    """Everything that ``hessscope spectrum`` says.

    Attributes:
        opened: checkpoint, data and objective.
        result: the spectrum, the density, or what PyHessian computes.
        inertia: counts with their intervals; None for the pyhessian backend.
        sweep: the same at other tolerances, ascending.
        criticality: the evidence for or against ∇L = 0.
        classification: what kind of point it is.
        loss: L(θ).
        accuracy: share of right predictions; None where it means nothing.
        choice: why this backend was taken, in words.
        plan: how products were computed, in words.
        seconds: wall time of the whole.
        notes: what was found, assumed or done, to be shown.
        warnings: texts of the warnings given.
        record: where the record was written; None if it was not.
    """

    opened: Opened
    result: Spectrum | SpectralDensity | backends.PyHessianResult
    inertia: Inertia | None
    criticality: Criticality
    classification: str
    loss: float
    accuracy: float | None
    choice: str
    plan: Mapping[str, Any]
    seconds: float
    sweep: tuple[Inertia, ...] = ()
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    record: Path | None = field(default=None, compare=False)

    @property
    def backend(self) -> str:
        """Name of the backend that computed the result."""
        return str(self.result.options["backend"])

    def as_dict(self) -> dict[str, Any]:
        """The JSON object of ``hessscope spectrum --json``."""
        result, inertia = self.result, self.inertia
        counts: dict[str, Any] = {"index": None, "degeneracy": None, "positive": None}
        if inertia is not None:
            counts = {
                "index": inertia.negative.as_dict(),
                "degeneracy": inertia.zero.as_dict(),
                "positive": inertia.positive.as_dict(),
            }
        return {
            "parameters": result.size,
            "examples": len(self.opened.data),
            "loss": self.loss,
            "accuracy": self.accuracy,
            "gradient_norm": self.criticality.gradient_norm,
            "gradient_floor": self.criticality.gradient_floor,
            "backend": self.backend,
            "dtype": result.dtype,
            "tolerance": None if inertia is None else inertia.tolerance,
            "noise_floor": None if inertia is None else inertia.noise_floor,
            **counts,
            "alpha": None if inertia is None else inertia.index_fraction,
            **_extremes(result),
            "hvps": result.hvps,
            "seconds": self.seconds,
            "classification": self.classification,
            **_setting(self.opened),
            "tolerance_sweep": _sweep_columns(self.sweep),
            "backend_choice": self.choice,
            "plan": dict(self.plan),
            "notes": list(self.notes),
            "warnings": list(self.warnings),
            "record": None if self.record is None else str(self.record),
        }


@dataclass(frozen=True)
class Inspection:
    """Everything that ``hessscope inspect`` says.

    Attributes:
        checkpoint: the file's contents.
        opened: with the data, where data was given.
        loss: L(θ), or None without data.
        accuracy: share of right predictions, or None.
        gradient_norm: ‖∇L‖, or None without data.
        warnings: texts of the warnings given.
    """

    checkpoint: Checkpoint
    opened: Opened | None
    loss: float | None
    accuracy: float | None
    gradient_norm: float | None
    warnings: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """The JSON object of ``hessscope inspect --json``."""
        checkpoint = self.checkpoint
        return {
            "checkpoint": str(checkpoint.path),
            "sha256": checkpoint.sha256,
            "format": checkpoint.format,
            "architecture": checkpoint.architecture,
            "architecture_source": checkpoint.architecture_source,
            "activation_source": checkpoint.activation_source,
            "parameters": checkpoint.parameters,
            "layers": [
                {"name": name, "shape": list(shape), "dtype": dtype}
                for name, shape, dtype in checkpoint.layers
            ],
            "metadata": {key: _jsonable(value) for key, value in checkpoint.metadata.items()},
            "notes": list(self.opened.notes if self.opened else checkpoint.notes),
            "examples": len(self.opened.data) if self.opened else None,
            "loss": self.loss,
            "accuracy": self.accuracy,
            "gradient_norm": self.gradient_norm,
            "warnings": list(self.warnings),
        }


def open_problem(problem: Problem, progress: Progress = silent) -> Opened:
    """Read checkpoint and data, settle the activation, and put the objective together.

    Raises:
        CheckpointError, DataError, ObjectiveError: with what is wrong and what to do.
    """
    if problem.data is None:
        raise OptionError(
            "no data: a Hessian belongs to a loss over data. Give --data mnist, --data file.npz "
            "or --data file.py:factory"
        )
    problem.check()
    loss = find_loss(problem.loss)
    checkpoint = read_checkpoint(
        problem.checkpoint, problem.model, problem.activation, problem.trust
    )
    data = load_data(
        problem.data,
        split=problem.split,
        root=problem.root,
        subset=problem.subset,
        seed=problem.seed,
        resize=problem.resize,
        grayscale=problem.grayscale,
        normalize=problem.normalize,
        targets=problem.targets,
        progress=progress,
    )

    def risk_of(candidate: Checkpoint, dtype: str) -> EmpiricalRisk:
        return EmpiricalRisk(
            candidate.model,
            data,
            loss,
            l2=problem.l2,
            dtype=dtype,
            device=problem.device,
            batch_size=candidate.batch_size,
        )

    checkpoint, extra = settle_activation(checkpoint, risk_of)
    risk = risk_of(checkpoint, problem.dtype)
    layout = (f"inputs {risk.layout_change} for the model",) if risk.layout_change else ()
    notes = (*problem.preset_note(), *checkpoint.notes, *extra, *data.notes, *layout)
    return Opened(checkpoint, data, risk, notes)


def find_loss(loss: Any) -> Any:
    """Take a loss by name, as a function, or from ``file.py:function``."""
    if isinstance(loss, str) and ":" in loss:
        function = load_object(loss, "loss")
        if not callable(function):
            raise OptionError(f"--loss {loss} is a {type(function).__name__}, not a function")
        return get_loss(function)
    return get_loss(loss)


def settle_activation(
    checkpoint: Checkpoint, risk_of: Callable[[Checkpoint, str], EmpiricalRisk]
) -> tuple[Checkpoint, tuple[str, ...]]:
    """Find the activation of an inferred perceptron by comparing the candidates on the data.

    The loss alone misleads: ReLU networks that fit their data well often have a lower loss still
    with GELU put in. But training went down to where the gradient of the true network is small,
    which it is not for the others, so candidates are ranked by loss times gradient norm, in
    float32. Uncommon activations are taken only where that product is below half of the best
    common one's.

    Returns:
        The checkpoint with the activation found, and a note that says so; a warning instead of
        the note where the second best is close.
    """
    if not checkpoint.activation_candidates:
        return checkpoint, ()
    losses, scores = {}, {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HessscopeWarning)
        for name in checkpoint.activation_candidates:
            risk = risk_of(checkpoint.with_activation(name, "compared"), "float32")
            losses[name] = risk.value()
            score = losses[name] * float(torch.linalg.vector_norm(risk.gradient()))
            scores[name] = (score if math.isfinite(score) else math.inf) * (
                1.0 if name in _COMMON_ACTIVATIONS else 2.0
            )
    best, second = sorted(scores, key=scores.__getitem__)[:2]
    note = (
        f"activation {best}, found by comparing loss and gradient norm on the data "
        f"(loss {losses[best]:.4g}; next best {second}, {losses[second]:.4g})"
    )
    if scores[second] < 2.0 * scores[best]:
        warnings.warn(
            f"{note}: this is not sure, confirm it with --activation {best}",
            AssumptionWarning,
            stacklevel=2,
        )
        return checkpoint.with_activation(best, "compared"), ()
    return checkpoint.with_activation(best, "compared"), (note,)


def inspect_checkpoint(
    problem: Problem, progress: Progress = silent, tell: Tell = untold
) -> Inspection:
    """Read a checkpoint; with data also its loss, accuracy and gradient norm.

    Args:
        problem: the checkpoint, and the data if there is any.
        progress: told of every stage.
        tell: told of every note as soon as it is known.
    """
    with _collected() as given:
        if problem.data is None:
            problem.check()
            checkpoint = read_checkpoint(
                problem.checkpoint, problem.model, problem.activation, problem.trust
            )
            _tell_all(tell, checkpoint.notes)
            return Inspection(checkpoint, None, None, None, None, tuple(given))
        opened = open_problem(problem, progress)
        _tell_all(tell, opened.notes)
        evaluation = opened.risk.evaluate()
        norm = float(torch.linalg.vector_norm(opened.risk.gradient()))
        if not math.isfinite(evaluation.loss + norm):
            opened.risk.check()  # says where it is not finite
    return Inspection(
        opened.checkpoint, opened, evaluation.loss, evaluation.accuracy, norm, tuple(given)
    )


def spectrum(
    checkpoint: str | Path,
    data: Any = None,
    *,
    backend: str = "auto",
    steps: int = 100,
    probes: int = 4,
    tolerance: float | None = None,
    memory: int | None = None,
    preset: str | None = None,
    out: str | Path | None = None,
    plot: str | Path | None = None,
    overwrite: bool = False,
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
        probes: random start vectors.
        tolerance: τ; default 2δ, twice the noise floor.
        memory: bytes that may be used; default what is free.
        preset: "sankar2017" or "dauphin2014".
        out: where to write the record; by default none is written.
        plot: where to write the figure.
        overwrite: existing files may be replaced.
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
            steps=steps, probes=probes, seed=problem.seed, memory=memory
        ),
        tolerance=tolerance,
        out=Path(out) if out else None,
        plot=Path(plot) if plot else None,
        overwrite=overwrite,
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
        tolerance: τ; default 2δ.
        out: where the record goes; None for nowhere.
        plot: where the figure goes; None for nowhere.
        overwrite: existing files may be replaced.
    """

    problem: Problem
    backend: str = "auto"
    exact: backends.ExactBackend = field(default_factory=backends.ExactBackend)
    sampled: backends.LanczosBackend = field(default_factory=backends.LanczosBackend)
    tolerance: float | None = None
    out: Path | None = None
    plot: Path | None = None
    overwrite: bool = False

    def check(self) -> None:
        """Refuse what cannot be done or written, before anything is read or computed.

        Raises:
            OptionError: an option means nothing, or an output file is there already.
            RecordError: an output cannot be written.
        """
        if self.backend not in BACKENDS:
            raise UnknownNameError("backend", self.backend, BACKENDS)
        checked_tolerance(self.tolerance, 0.0)
        if self.plot is not None and self.backend == "pyhessian":
            raise OptionError(
                "the pyhessian backend gives no spectrum to plot: leave out --plot, or take "
                "--backend exact or lanczos"
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
        for output in filter(None, (self.out, self.plot)):
            if role := taken.get(output.resolve()):
                raise OptionError(f"{output} is {role}: write to another file")
            taken[output.resolve()] = "the other output"


def run_spectrum(
    request: SpectrumRequest, progress: Progress = silent, tell: Tell = untold
) -> SpectrumReport:
    """Compute what is asked for; nothing is written: see ``save_record``.

    Args:
        request: what to compute, and where it will be written.
        progress: told of every stage.
        tell: told of every note as soon as it is known.
    """
    began = time.perf_counter()
    request.check()
    problem, backend, exact = request.problem, request.backend, request.exact
    with _collected() as given:
        opened = open_problem(problem, progress)
        evaluation = opened.risk.evaluate()
    _tell_all(tell, opened.notes)
    with _collected() as given_later:
        hessian = HessianOperator(opened.risk, memory=exact.memory)
        reason = f"{backend} was asked for"
        if backend == "auto":
            choice = backends.choose_backend(hessian, exact)
            backend, reason = choice.name, choice.reason
            tell(f"backend {backend} (chosen by auto): {reason}")
        solver = {
            "exact": exact,
            "lanczos": request.sampled,
            "pyhessian": backends.PyHessianBackend(seed=problem.seed),
        }[backend]
        result: Any = solver.solve(hessian, progress=progress)  # type: ignore[attr-defined]
        inertia = None if backend == "pyhessian" else result.inertia(request.tolerance)
        norm = max(abs(x) for x in _range(result))
        tau = inertia.tolerance if inertia else 1e-12 * norm
        criticality = backends.measure_criticality(hessian, norm, tau)
    if inertia is not None:
        classification = classify(inertia, criticality)
    elif criticality.critical:
        classification = "critical point, not classified (the pyhessian backend counts nothing)"
    else:
        classification = f"not a critical point (gradient norm {criticality.gradient_norm:.3g})"
    return SpectrumReport(
        opened=opened,
        result=result,
        inertia=inertia,
        sweep=tolerance_sweep(result, inertia) if inertia else (),
        criticality=criticality,
        classification=classification,
        loss=evaluation.loss,
        accuracy=evaluation.accuracy,
        choice=reason,
        plan={} if backend == "pyhessian" else hessian.plan.as_dict(),
        seconds=time.perf_counter() - began,
        notes=opened.notes,
        warnings=(*given, *given_later),
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
    record = report.result.to_record(_attributes(report, request.problem))
    records.write_record(record, path, overwrite)
    return report


def save_figure(request: SpectrumRequest, report: SpectrumReport) -> None:
    """Draw the figure where the request says.

    Raises:
        RecordError: the disk is full or the folder cannot be written.
    """
    if request.plot is None or report.inertia is None:
        return
    figure = _drawing().spectrum_figure(report.result, tolerance=report.inertia.tolerance)
    _drawing().save_figure(figure, request.plot, request.overwrite)


def tolerance_sweep(
    result: Spectrum | SpectralDensity, inertia: Inertia, most: int = 6
) -> tuple[Inertia, ...]:
    """Counts at the tolerance itself and at powers of ten above it, to a tenth of the largest |λ|.

    They show whether there is a gap in the spectrum: where every tolerance gives another
    degeneracy, no single number is a property of the point.

    Args:
        result: a spectrum or a density.
        inertia: its counts at the tolerance asked for.
        most: about how many tolerances.
    """
    top = max(abs(x) for x in _range(result))
    start = max(inertia.tolerance, inertia.noise_floor)
    if not 0.0 < start < top:
        return (inertia,)
    first, last = math.floor(math.log10(start)) + 1, math.floor(math.log10(top)) - 1
    if last < first:
        return (inertia,)
    stride = max(1, math.ceil((last - first + 1) / (most - 1)))
    decades = [10.0**k for k in range(last, first - 1, -stride)][::-1]
    with warnings.catch_warnings():
        # The tolerance asked for may lie below the noise floor; that has been said already.
        warnings.simplefilter("ignore", PrecisionWarning)
        return (inertia, *(result.inertia(tau) for tau in decades))


def _drawing() -> ModuleType:
    """The reports, imported when something is drawn: matplotlib and pandas take a second."""
    from hessscope import reports

    return reports


def _range(result: Any) -> tuple[float, ...]:
    if isinstance(result, backends.PyHessianResult):
        return result.eigenvalues
    return (result.lambda_min, result.lambda_max)


def _extremes(result: Any) -> dict[str, Any]:
    if isinstance(result, Spectrum):
        return {
            "lambda_min": result.lambda_min,
            "lambda_max": result.lambda_max,
            "trace": result.trace,
        }
    estimate = result.trace_estimate()
    trace = {
        "trace": estimate.value,
        "trace_interval": {
            "lower": _finite(estimate.lower),
            "upper": _finite(estimate.upper),
            "confidence": estimate.confidence,
        },
    }
    if isinstance(result, SpectralDensity):
        return {
            "lambda_min": result.lambda_min,
            "lambda_min_residual": result.lambda_min_residual,
            "lambda_max": result.lambda_max,
            "lambda_max_residual": result.lambda_max_residual,
            **trace,
        }
    top = max(result.eigenvalues)
    return {
        "lambda_min": None,
        "lambda_max": top if top > 0 else None,
        "eigenvalues": list(result.eigenvalues),
        **trace,
    }


def _sweep_columns(sweep: tuple[Inertia, ...]) -> dict[str, list[Any]] | None:
    """The sweep by columns, which fit into a record's attributes as they do into JSON."""
    if not sweep:
        return None
    counts = {
        "index": [inertia.negative for inertia in sweep],
        "degeneracy": [inertia.zero for inertia in sweep],
        "positive": [inertia.positive for inertia in sweep],
    }
    columns: dict[str, list[Any]] = {"tolerance": [inertia.tolerance for inertia in sweep]}
    for name, column in counts.items():
        columns[f"{name}_lower"] = [count.lower for count in column]
        columns[name] = [count.estimate for count in column]
        columns[f"{name}_upper"] = [count.upper for count in column]
    return columns


def _tell_all(tell: Tell, notes: tuple[str, ...]) -> None:
    for note in notes:
        tell(note)


def _setting(opened: Opened) -> dict[str, Any]:
    checkpoint, data, risk = opened.checkpoint, opened.data, opened.risk
    return {
        "checkpoint": str(checkpoint.path),
        "checkpoint_sha256": checkpoint.sha256,
        "checkpoint_format": checkpoint.format,
        "architecture": checkpoint.architecture,
        "architecture_source": checkpoint.architecture_source,
        "activation_source": checkpoint.activation_source,
        "data": data.name,
        "split": data.split,
        "preprocessing": list(data.preprocessing),
        "data_fingerprint": data.fingerprint,
        "loss_function": risk.loss.name,
        "l2": risk.l2,
        "device": str(risk.device),
    }


def _attributes(report: SpectrumReport, problem: Problem) -> dict[str, Any]:
    """What a record says beside its arrays: the JSON object, the options and the provenance."""
    options = {f.name: _jsonable(getattr(problem, f.name)) for f in dataclasses.fields(problem)}
    layout = report.opened.risk.layout
    return {
        **report.as_dict(),
        "problem": {name: value for name, value in options.items() if value is not None},
        "parameter_names": list(layout.names),
        "provenance": records.provenance(),
        "torch_threads": torch.get_num_threads(),
    }


def _jsonable(value: Any) -> Any:
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return _finite(value)
    return str(value)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


@contextmanager
def _collected() -> Iterator[list[str]]:
    """Note the texts of hessscope's warnings, and give them on as they are."""
    texts: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            yield texts
        finally:
            texts.extend(str(w.message) for w in caught if issubclass(w.category, HessscopeWarning))
    for warning in caught:
        warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
