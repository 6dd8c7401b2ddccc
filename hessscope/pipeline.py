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
    UnknownNameError,
)
from hessscope.loaders import Checkpoint, Dataset, load_data, load_object, read_checkpoint
from hessscope.objective import EmpiricalRisk, get_loss
from hessscope.operators import HessianOperator
from hessscope.progress import Progress, silent
from hessscope.spectra import (
    Criticality,
    Inertia,
    SpectralDensity,
    Spectrum,
    classify,
)

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
        return cls(**{**bundle, **given})


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
            find_loss(problem.loss),
            l2=problem.l2,
            dtype=dtype,
            device=problem.device,
            batch_size=candidate.batch_size,
        )

    checkpoint, extra = settle_activation(checkpoint, risk_of)
    risk = risk_of(checkpoint, problem.dtype)
    layout = (f"inputs {risk.layout_change} for the model",) if risk.layout_change else ()
    return Opened(checkpoint, data, risk, (*checkpoint.notes, *extra, *data.notes, *layout))


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
        The checkpoint with the activation found, and a note that says so.
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
    return checkpoint.with_activation(best, "compared"), (note,)


def inspect_checkpoint(problem: Problem, progress: Progress = silent) -> Inspection:
    """Read a checkpoint; with data also its loss, accuracy and gradient norm."""
    with _collected() as given:
        if problem.data is None:
            checkpoint = read_checkpoint(
                problem.checkpoint, problem.model, problem.activation, problem.trust
            )
            return Inspection(checkpoint, None, None, None, None, tuple(given))
        opened = open_problem(problem, progress)
        evaluation = opened.risk.evaluate()
        norm = float(torch.linalg.vector_norm(opened.risk.gradient()))
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

    Raises:
        HessscopeError: of the kind that fits; before any long work where possible.
    """
    problem = Problem.with_preset(preset, checkpoint=checkpoint, data=data, **options)
    return run_spectrum(
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
        progress=progress,
    )


def run_spectrum(
    problem: Problem,
    *,
    backend: str,
    exact: backends.ExactBackend,
    sampled: backends.LanczosBackend,
    tolerance: float | None,
    out: Path | None,
    plot: Path | None,
    overwrite: bool,
    progress: Progress,
) -> SpectrumReport:
    """Do what ``spectrum`` says, with the options already in their frozen form."""
    began = time.perf_counter()
    if backend not in BACKENDS:
        raise UnknownNameError("backend", backend, BACKENDS)
    if plot is not None and backend == "pyhessian":
        raise OptionError("the pyhessian backend gives no spectrum to plot: leave out --plot")
    if out is not None:
        records.prepare_output(out, overwrite)
    if plot is not None:
        _drawing().check_figure_path(plot, overwrite)
    with _collected() as given:
        opened = open_problem(problem, progress)
        hessian = HessianOperator(opened.risk, memory=exact.memory)
        evaluation = opened.risk.evaluate()
        reason = f"{backend} was asked for"
        if backend == "auto":
            choice = backends.choose_backend(hessian, exact)
            backend, reason = choice.name, choice.reason
            progress(f"backend {backend}: {reason}", 1, 1)
        solver = {
            "exact": exact,
            "lanczos": sampled,
            "pyhessian": backends.PyHessianBackend(seed=problem.seed),
        }[backend]
        result: Any = solver.solve(hessian, progress=progress)  # type: ignore[attr-defined]
        inertia = None if backend == "pyhessian" else result.inertia(tolerance)
        norm = max(abs(x) for x in _range(result))
        tau = inertia.tolerance if inertia else 1e-12 * norm
        criticality = backends.measure_criticality(hessian, norm, tau)
    if inertia is not None:
        classification = classify(inertia, criticality)
    elif criticality.critical:
        classification = "critical point, not classified (the pyhessian backend counts nothing)"
    else:
        classification = f"not a critical point (gradient norm {criticality.gradient_norm:.3g})"
    report = SpectrumReport(
        opened=opened,
        result=result,
        inertia=inertia,
        criticality=criticality,
        classification=classification,
        loss=evaluation.loss,
        accuracy=evaluation.accuracy,
        choice=reason,
        plan={} if backend == "pyhessian" else hessian.plan.as_dict(),
        seconds=time.perf_counter() - began,
        notes=opened.notes,
        warnings=tuple(given),
    )
    if out is not None:
        report = dataclasses.replace(report, record=out)
        records.write_record(result.to_record(_attributes(report, problem)), out, overwrite)
    if plot is not None and inertia is not None:
        figure = _drawing().spectrum_figure(result, tolerance=inertia.tolerance)
        _drawing().save_figure(figure, plot, overwrite)
    return report


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
