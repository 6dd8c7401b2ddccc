"""Open a checkpoint, its data and its loss."""

from __future__ import annotations

import dataclasses
import math
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import torch

from hessscope import records
from hessscope.errors import (
    AssumptionWarning,
    HessscopeWarning,
    OptionError,
    UntrustedCheckpointError,
)
from hessscope.loaders import Checkpoint, CheckpointFile, load_object, read_data, read_setting
from hessscope.loaders.checkpoints.checkpoint import COMPARED, IN_MEMORY, in_memory, with_weights
from hessscope.objective import Dataset, EmpiricalRisk, get_loss, resolve_device, resolve_dtype
from hessscope.options.data import DataOptions
from hessscope.options.setting import PAPERS, PRESETS, OneCheckpoint, Setting
from hessscope.options.spectrum import SpectrumOptions
from hessscope.pipeline.stored_options import code_of, options_in
from hessscope.progress import Progress, silent


@contextmanager
def collected() -> Iterator[list[str]]:
    """Note the texts of hessscope's warnings, and give them on as they are."""
    texts: list[str] = []
    caught: list[warnings.WarningMessage] = []
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield texts
    finally:  # an error may be explained by the warnings before it
        texts.extend(str(w.message) for w in caught if issubclass(w.category, HessscopeWarning))
        for w in caught:
            warnings.warn_explicit(w.message, w.category, w.filename, w.lineno)


# What torch's allocators, the system and C++ say where they raise a plain RuntimeError or OSError.
_OUT_OF_MEMORY = ("not enough memory", "allocate memory", "bad_alloc", "out of memory")


def out_of_memory(error: Exception) -> bool:
    """Whether the memory gave out, the main one or a device's."""
    kinds = (MemoryError, torch.OutOfMemoryError)
    said = str(error).lower()
    return isinstance(error, kinds) or any(words in said for words in _OUT_OF_MEMORY)


#: Opens the examples of a problem, as ``open_data`` does.
OpenData: TypeAlias = "Callable[[Problem, Progress], Dataset]"

_COMMON_ACTIVATIONS = ("relu", "tanh", "sigmoid")


def _always(name: str, default: Any) -> Any:
    """The option of ``Setting``, with the value that stands for None."""
    metadata = Setting.__dataclass_fields__[name].metadata
    return dataclasses.field(default=default, metadata=metadata)


@dataclass(frozen=True, kw_only=True)
class Problem(Setting, OneCheckpoint):
    """Network, data and loss, with nothing left open; made by ``Problem.of``.

    Attributes:
        subset_seed: of the subset, where it is not ``seed``.
        from_checkpoint: names of the options that were taken from the checkpoint.
        withheld: what the checkpoint states, but was not taken since it is code ("loss f.py:g").
        data_fingerprint: what the data has to be, by the checkpoint.
    """

    split: str = _always("split", "train")
    grayscale: bool = _always("grayscale", False)
    loss: Any = _always("loss", "cross_entropy")
    l2: float = _always("l2", 0.0)
    dtype: str = _always("dtype", "float64")
    subset_seed: int | None = None
    from_checkpoint: tuple[str, ...] = ()
    withheld: tuple[str, ...] = ()
    data_fingerprint: str | None = None

    @classmethod
    def of(
        cls, options: Setting, checkpoint: Any = None, file: CheckpointFile | None = None
    ) -> Problem:
        """Fill in what was not given: from the preset, then the checkpoint, then the defaults.

        Args:
            options: of a command.
            checkpoint: path of the file, a module or a state_dict; default that of the options.
            file: the file, where it has been opened already.
        """
        if isinstance(options, Problem) and checkpoint is None:
            return options
        wanted = {name: getattr(options, name) for name in Setting.described()}
        given = {name: value for name, value in wanted.items() if value is not None}
        named = getattr(options, "checkpoint", "") if checkpoint is None else checkpoint
        if isinstance(named, Mapping):
            if "model" not in given:
                raise OptionError("`checkpoint` is a state_dict: give its network as `model`")
            named = with_weights(given.pop("model"), named)
        if isinstance(named, torch.nn.Module):
            if "model" in given:
                raise OptionError("`model` is the architecture of a file, and there is none here")
            named, given["model"] = IN_MEMORY, named
        chosen = {**PRESETS.get(options.preset or "", {}), **given}
        stored = options_in(file.setting if file else read_setting(named), chosen)
        from_checkpoint = stored.pop("stored", ())
        return cls(named, **{**stored, **chosen}, from_checkpoint=from_checkpoint)

    def sources(self) -> tuple[str, ...]:
        """Notes of what the preset and the checkpoint set, and what replaced it."""
        notes = []
        if self.preset is not None:
            bundle = PRESETS[self.preset]
            kept = [f"{k} {v}" for k, v in bundle.items() if getattr(self, k) == v]
            lost = [
                f"{k} {getattr(self, k)} was given and replaces {v}"
                for k, v in bundle.items()
                if getattr(self, k) != v
            ]
            settings = "; ".join([", ".join(kept), *lost] if kept else lost)
            notes.append(f"preset {self.preset} ({PAPERS[self.preset]}): {settings}")
        if self.from_checkpoint:
            named = ", ".join(f"{name} {getattr(self, name)}" for name in self.from_checkpoint)
            notes.append(f"taken from the checkpoint: {named}")
        return tuple(notes)

    def check(self) -> None:
        """Refuse what no file is needed to refuse."""
        check_setting(self)


@dataclass(frozen=True)
class OpenedProblem:
    """A problem with its files read.

    Attributes:
        options: as they were given.
        checkpoint: the file's contents.
        data: the examples.
        risk: their mean loss.
        notes: what was found, assumed or done on the way, to be shown.
        problem: the options in use.
        code: SHA-256 of the user's code of network and loss (``code_of``).
        warnings: texts of the warnings given on the way.
    """

    options: Setting
    checkpoint: Checkpoint
    data: Dataset
    risk: EmpiricalRisk
    notes: tuple[str, ...]
    problem: Problem
    code: Mapping[str, str]
    warnings: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Checkpoint, data and loss, as JSON objects and records state them."""
        checkpoint = self.checkpoint
        return {
            "checkpoint": str(checkpoint.path),
            "checkpoint_sha256": checkpoint.sha256,
            "checkpoint_format": checkpoint.format,
            "architecture": checkpoint.architecture,
            "architecture_source": checkpoint.architecture_source,
            "activation_source": checkpoint.activation_source,
            "training": _training(checkpoint),
            **self.risk.facts(),
        }

    def attributes(self) -> dict[str, Any]:
        """The same for records, with digests of code, the options as given, and the provenance."""
        return {
            **self.as_dict(),
            **self.code,
            "parameter_names": list(self.risk.layout.names),
            "options": self.options.stored(),
            "provenance": records.provenance(),
        }


def _training(checkpoint: Checkpoint) -> dict[str, Any] | None:
    """How ``hessscope train`` made the checkpoint, by its own word; None for others."""
    prefix = "hessscope.training."
    stated = {
        name.removeprefix(prefix): value
        for name, value in checkpoint.metadata.items()
        if name.startswith(prefix) and value is not None
    }
    if stated:
        beside = ("epoch", "test_accuracy")
        stated |= {
            name: checkpoint.metadata[name] for name in beside if name in checkpoint.metadata
        }
    return stated or None


def check_setting(options: Setting) -> None:
    """Refuse what no file is needed to refuse, before any is read.

    Raises:
        OptionError: with the option, its value, and what would do.
    """
    if not (options.dtype == "bfloat16" and isinstance(options, SpectrumOptions)):
        resolve_dtype(options.dtype or "float64")
    resolve_device(options.device)
    if isinstance(options.loss, str) and ":" not in options.loss:
        get_loss(options.loss)


def open_problem(
    options: Setting, checkpoint: Any = None, *, data: OpenData | None = None
) -> OpenedProblem:
    """Read checkpoint and data, infer the activation, and put the objective together.

    Args:
        options: of a command; its callbacks are called with stages and notes.
        checkpoint: path of the file, a module or a state_dict; default that of the options.
        data: opens the examples; default ``open_data``.

    Raises:
        CheckpointError, DataError, ObjectiveError: with what is wrong and what to do.
    """
    options.progress("checkpoint and data", 0, 0)
    with collected() as given:
        named = getattr(options, "checkpoint", "") if checkpoint is None else checkpoint
        file = None
        check_setting(options)
        if isinstance(named, (str, os.PathLike)) and named != IN_MEMORY:
            file = CheckpointFile.open(Path(named), options.trust, options.key)
        opened = _open(options, Problem.of(options, checkpoint, file), file, data or open_data)
        for note in opened.notes:
            options.on_note(note)
    return dataclasses.replace(opened, warnings=tuple(given))


def _open(
    options: Setting, problem: Problem, file: CheckpointFile | None, data: OpenData
) -> OpenedProblem:
    if problem.withheld:
        raise UntrustedCheckpointError(
            f"{problem.checkpoint} was trained with {' and '.join(problem.withheld)}, which is "
            "code: give these options if you know them, or `trust=True`"
        )
    if problem.data is None:
        raise OptionError(
            "`data` is required: the Hessian is that of a loss over a data set. Give `data=mnist`, "
            "`data=file.npz` or `data=file.py:factory`"
        )
    loss = find_loss(problem.loss)
    code = code_of(file.setting if file else None, problem.model, problem.loss)
    found = file.resolve(problem.model, problem.activation) if file else in_memory(problem.model)
    examples = data(problem, options.progress)

    def risk_of(candidate: Checkpoint, dtype: str) -> EmpiricalRisk:
        return EmpiricalRisk(
            candidate.model, examples, loss, l2=problem.l2, dtype=dtype, device=problem.device
        )

    found, extra = infer_activation(found, risk_of)
    risk = risk_of(found, problem.dtype)
    notes = (*problem.sources(), *found.notes, *extra, *examples.notes, *risk.notes)
    return OpenedProblem(options, found, examples, risk, notes, problem, code)


def read_problem(problem: Problem, path: str | Path | None = None) -> Checkpoint:
    """The problem's checkpoint, or another one of the same kind at ``path``."""
    own = problem.checkpoint == IN_MEMORY and isinstance(problem.model, torch.nn.Module)
    if path is None and own:
        return in_memory(problem.model)
    named = problem.checkpoint if path is None else path
    file = CheckpointFile.open(named, problem.trust, problem.key)
    return file.resolve(problem.model, problem.activation)


def open_data(problem: Problem, progress: Progress = silent, *, others: bool = False) -> Dataset:
    """Load the problem's data; with ``others`` what its subset leaves out.

    Raises:
        DataError: with what is wrong and what to do.
    """
    seed = problem.seed if problem.subset_seed is None else problem.subset_seed
    options = DataOptions.part_of(problem, seed=seed, progress=progress)
    data = read_data(options, others=others)
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
            raise OptionError(f"`loss={loss}` is a {type(function).__name__}, not a function")
        return get_loss(function)
    return get_loss(loss)


def infer_activation(
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
            f"{note}: this is a guess; give `activation={best}` to confirm it",
            AssumptionWarning,
            stacklevel=2,
        )
        return checkpoint.with_activation(best, COMPARED), ()
    return checkpoint.with_activation(best, COMPARED), (note,)
