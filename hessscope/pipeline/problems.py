"""What to look at: checkpoint, data and loss, opened and put together."""

from __future__ import annotations

import dataclasses
import inspect
import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from hessscope.errors import (
    AssumptionWarning,
    HessscopeWarning,
    OptionError,
    UnknownNameError,
    UntrustedCheckpointError,
)
from hessscope.loaders import Checkpoint, load_data, load_object, read_checkpoint
from hessscope.loaders.checkpoints.checkpoint import COMPARED, IN_MEMORY, in_memory
from hessscope.objective import Dataset, EmpiricalRisk, get_loss, resolve_device, resolve_dtype
from hessscope.pipeline.contents import code_of
from hessscope.pipeline.stored_options import options_in
from hessscope.progress import Progress, silent

_COMMON_ACTIVATIONS = ("relu", "tanh", "sigmoid")


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

# Fields that no one gives, and what stands for the fields themselves.
_INTERNAL = ("stored", "withheld", "data_fingerprint", "subset_seed", "options")
_PAPERS = {"sankar2017": "arXiv:1706.02052", "dauphin2014": "arXiv:1406.2572"}


@dataclass(frozen=True)
class Problem:
    """What to look at: a checkpoint, data and a loss; the options that all commands share.

    Attributes:
        checkpoint: path of the file.
        data: a name, a path, ``file.py:factory``, or anything that ``load_data`` takes.
        model: architecture, where the file has none: ``file.py:factory``, ``mlp:784-25-10:relu``.
        activation: of a perceptron whose architecture is inferred.
        trust: the file may run code.
        key: which network of several in the file, as keys joined by dots.
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
        subset_seed: of the subset, where it is not ``seed``.
        stored: names of the options that ``with_preset`` took from the checkpoint.
        withheld: what the checkpoint says, but was not taken since it is code ("loss f.py:g").
        data_fingerprint: what the data has to be, by the checkpoint.
    """

    checkpoint: str | Path
    data: Any = None
    model: Any = None
    activation: str | None = None
    trust: bool = False
    key: str | None = None
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
    subset_seed: int | None = None
    stored: tuple[str, ...] = ()
    withheld: tuple[str, ...] = ()
    data_fingerprint: str | None = None

    @classmethod
    def with_preset(
        cls, preset: str | None, beside: Callable[..., Any] | None = None, **options: Any
    ) -> Problem:
        """Fill in what a preset says for every option that was not given (is None).

        What neither of them says is taken from the checkpoint, if it is one that carries the
        setting it was trained in.

        Args:
            preset: its name.
            beside: the function to which the options were given beside its own; these are named,
                too, where an option is not known.
            **options: fields of the problem; ``checkpoint`` may also be a module in memory.

        Raises:
            UnknownNameError: there is no such preset, or no such option.
        """
        fields = [f.name for f in dataclasses.fields(cls)]
        if any(name not in fields for name in options):
            own = [] if beside is None else inspect.signature(beside).parameters
            named = [name for name in (*own, *fields) if name not in _INTERNAL]
            unknown = next(name for name in options if name not in fields)
            raise UnknownNameError("option", unknown, dict.fromkeys(named))
        if preset is not None and preset not in PRESETS:
            raise UnknownNameError("preset", preset, PRESETS)
        bundle = PRESETS[preset] if preset else {}
        given = {name: value for name, value in options.items() if value is not None}
        if isinstance(given.get("checkpoint"), torch.nn.Module):
            if "model" in given:
                raise OptionError("model is the architecture of a file, and there is none here")
            given |= {"checkpoint": IN_MEMORY, "model": given["checkpoint"]}
        chosen = {**bundle, **given, "preset": preset}
        return cls(**{**options_in(given.get("checkpoint", ""), chosen), **chosen})

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

    def stored_note(self) -> tuple[str, ...]:
        """What was taken from the checkpoint."""
        if not self.stored:
            return ()
        named = ", ".join(f"{name} {getattr(self, name)}" for name in self.stored)
        return (f"as the checkpoint says: {named}",)

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
        if not 0 <= self.seed < 2**63:
            raise OptionError(f"seed is {self.seed}: give a whole number of at least 0, below 2⁶³")


@dataclass(frozen=True)
class Opened:
    """A problem with its files read.

    Attributes:
        checkpoint: the file's contents.
        data: the examples.
        risk: their mean loss.
        notes: what was found, assumed or done on the way, to be shown.
        problem: what was asked for.
        code: SHA-256 of the user's code of network and loss (``code_of``).
    """

    checkpoint: Checkpoint
    data: Dataset
    risk: EmpiricalRisk
    notes: tuple[str, ...]
    problem: Problem
    code: Mapping[str, str] = field(default_factory=dict)


def open_problem(
    problem: Problem, progress: Progress = silent, data: Dataset | None = None
) -> Opened:
    """Read checkpoint and data, settle the activation, and put the objective together.

    Args:
        problem: what to look at.
        progress: told of downloads.
        data: the problem's data, where it has been opened already.

    Raises:
        CheckpointError, DataError, ObjectiveError: with what is wrong and what to do.
    """
    if problem.withheld:
        raise UntrustedCheckpointError(
            f"{problem.checkpoint} was trained with {' and '.join(problem.withheld)}, which is "
            "code: give these options if you know them, or --trust"
        )
    if problem.data is None and data is None:
        # A damaged file that would have said its data is to be called damaged.
        read_problem(problem)
        raise OptionError(
            "no data: a Hessian belongs to a loss over data. Give --data mnist, --data file.npz "
            "or --data file.py:factory"
        )
    problem.check()
    loss = find_loss(problem.loss)
    code = code_of(problem.checkpoint, problem.model, problem.loss)
    checkpoint = read_problem(problem)
    examples = open_data(problem, progress) if data is None else data

    def risk_of(candidate: Checkpoint, dtype: str) -> EmpiricalRisk:
        return EmpiricalRisk(
            candidate.model,
            examples,
            loss,
            l2=problem.l2,
            dtype=dtype,
            device=problem.device,
        )

    checkpoint, extra = settle_activation(checkpoint, risk_of)
    risk = risk_of(checkpoint, problem.dtype)
    layout = (f"inputs {risk.layout_change} for the model",) if risk.layout_change else ()
    said = (*problem.preset_note(), *problem.stored_note())
    notes = (*said, *checkpoint.notes, *extra, *examples.notes, *layout)
    return Opened(checkpoint, examples, risk, notes, problem, code)


def read_problem(problem: Problem, path: str | Path | None = None) -> Checkpoint:
    """The problem's checkpoint, or another one of the same kind at ``path``."""
    own = problem.checkpoint == IN_MEMORY and isinstance(problem.model, torch.nn.Module)
    if path is None and own:
        return in_memory(problem.model)
    return read_checkpoint(
        problem.checkpoint if path is None else path,
        problem.model,
        problem.activation,
        problem.trust,
        problem.key,
    )


def open_data(problem: Problem, progress: Progress = silent, *, others: bool = False) -> Dataset:
    """Load the problem's data; with ``others`` what its subset leaves out.

    Raises:
        DataError: with what is wrong and what to do.
    """
    data = load_data(
        problem.data,
        split=problem.split,
        root=problem.root,
        subset=problem.subset,
        seed=problem.seed if problem.subset_seed is None else problem.subset_seed,
        resize=problem.resize,
        grayscale=problem.grayscale,
        normalize=problem.normalize,
        targets=problem.targets,
        progress=progress,
        others=others,
    )
    if problem.data_fingerprint not in (None, data.fingerprint) and not others:
        warnings.warn(
            f"the data is not what {problem.checkpoint} was trained on, though it has the same "
            "name and options: its files, or how they are prepared, have changed since",
            AssumptionWarning,
            stacklevel=2,
        )
    return data


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
            risk = risk_of(checkpoint.with_activation(name, COMPARED), "float32")
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
        return checkpoint.with_activation(best, COMPARED), ()
    return checkpoint.with_activation(best, COMPARED), (note,)
