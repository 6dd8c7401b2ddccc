"""Train networks and write their checkpoints: check, open, train, write."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from hessscope import records
from hessscope.errors import DataError, HessscopeError, OptionError
from hessscope.loaders import StoredSetting, read_setting
from hessscope.loaders.checkpoints.model_sources import resolve_model
from hessscope.loaders.checkpoints.perceptrons import MultiLayerPerceptron, describe_perceptron
from hessscope.loaders.user_code import spelled_out
from hessscope.objective import Dataset
from hessscope.options.fields import takes
from hessscope.options.setting import TRAINING_PRESETS
from hessscope.options.train import TrainingOptions, TrainOptions
from hessscope.pipeline.problems import Problem, collected, find_loss, open_data, open_problem
from hessscope.pipeline.repeats import threads
from hessscope.pipeline.run_folders import (
    FAILED,
    TrainingReport,
    TrialFolder,
    TrialReport,
    check_folder,
    clear_folder,
    is_unfinished,
    trial_folder,
)
from hessscope.training import History, TrainingResult, TrainingState, train
from hessscope.training.loop import INTERRUPTED, along_gradient, seed_of, usual_dtype

# Options that a checkpoint states as they are.
_STATED = ("split", "subset", "resize", "grayscale", "normalize", "targets", "l2")


@takes(TrainOptions)
def train_checkpoints(options: TrainOptions) -> TrainingReport:
    """Train networks and write their checkpoints; the same as ``hessscope train``.

    Raises:
        HessscopeError: of the kind that fits; before any long work where possible.
    """
    return run_training(options)


@dataclass(frozen=True)
class _Run:
    """What all trials share.

    Attributes:
        options: as given, with the preset's network and the data type filled in.
        training: how to train, with every default filled in.
        problem: data and loss.
        make: makes a network.
        architecture: of the network, if it can be named.
        data: to train on.
        test: held-out examples.
        loss: ℓ.
        start_sha256: of the checkpoint that training starts from.
    """

    options: TrainOptions
    training: TrainingOptions
    problem: Problem
    make: Callable[[], torch.nn.Module]
    architecture: str | None
    data: Dataset
    test: Dataset | None
    loss: Any
    start_sha256: str | None


@threads(None)
def run_training(options: TrainOptions) -> TrainingReport:
    """Train and write what is asked for."""
    notes: list[str] = []

    def note(text: str) -> None:
        notes.append(text)
        options.on_note(text)

    with collected() as given:
        run = _open(options, note)
    opening, facts = tuple(notes), _facts(run)
    trials: list[TrialReport] = []
    folder, resumes = Path(options.out), _resumes(options)

    @functools.cache
    def make_room() -> None:
        """Remove an old run, once the first file of the new one is there to be written."""
        if options.overwrite:
            clear_folder(folder)

    with collected() as given_later, records.Store(folder).locked():
        for number in range(options.trials):
            try:
                report, found = _run_trial(run, number, facts, resumes, make_room)
            except HessscopeError as error:
                if options.trials == 1:
                    raise
                options.on_note(f"trial {number + 1} failed: {error}")
                report, found = TrialReport(number + 1, FAILED, History(), {}, error=str(error)), {}
            trials.append(report)
            facts |= found
            if report.status == INTERRUPTED:
                break
    warnings = tuple(dict.fromkeys((*given, *given_later)))
    return TrainingReport(folder, tuple(trials), facts, opening, warnings)


def _open(options: TrainOptions, note: Callable[[str], None]) -> _Run:
    """Resolve and check the options before anything is read; then read data and network."""
    training = TrainingOptions.part_of(options).resolved(options.preset)
    preset, network = TRAINING_PRESETS.get(options.preset or "", {}), options.model
    if network is None and options.start is None:
        network = preset.get("model")
    options = dataclasses.replace(
        options, model=network, dtype=options.dtype or usual_dtype(training), on_note=note
    )
    problem = Problem.of(options, options.start or options.out)
    _check(options, training, problem)
    if preset:
        used = training.as_dict()
        shown = ", ".join(f"{name} {used[name]}" for name in preset if name in used)
        note(f"preset {options.preset}, training: {shown}")
    if options.start is not None:
        opened = open_problem(options, options.start)
        model, data, loss = opened.checkpoint.model, opened.data, opened.risk.loss
        make, sha256 = resolve_model(model).make, opened.checkpoint.sha256
        stored = read_setting(options.start)
        named = stored.architecture if stored else spelled_out(network)
    else:
        source, loss = resolve_model(network), find_loss(problem.loss)
        with torch.random.fork_rng():
            model = source.make()
        data = open_data(problem, options.progress)
        for text in (*problem.sources(), *data.notes):
            note(text)
        make, sha256, named = source.make, None, spelled_out(network)
    if isinstance(model, MultiLayerPerceptron):
        named = describe_perceptron(model)
    test = _held_out(problem, options)
    return _Run(options, training, problem, make, named, data, test, loss, sha256)


def _check(options: TrainOptions, training: TrainingOptions, problem: Problem) -> None:
    """Refuse what cannot be done or written, before anything is read or computed."""
    problem.check()
    if problem.data is None and not problem.withheld:
        raise OptionError("no data to train on: give `data=mnist`, `data=file.npz`, …")
    if options.start is None and options.model is None:
        raise OptionError(
            "no network to train: give `model=mlp:784-25-10:relu` or `model=file.py:factory`, or "
            "`start=CHECKPOINT`"
        )
    if options.start is not None and training.initialization != "default":
        raise OptionError(
            f"`initialization={training.initialization}` would replace the weights of "
            f"{options.start}: give one or the other"
        )
    if options.overwrite and options.resume:
        raise OptionError("`overwrite` and `resume` exclude each other: give one of them")
    check_folder(
        Path(options.out),
        overwrite=options.overwrite,
        resume=_resumes(options),
        inputs=((options.start, "the checkpoint to start from"), (problem.data, "the data")),
    )


def _resumes(options: TrainOptions) -> bool:
    unfinished = not options.overwrite and is_unfinished(Path(options.out), options.trials)
    return options.resume or unfinished


def _held_out(problem: Problem, options: TrainOptions) -> Dataset | None:
    """Examples to test on: the other split, or what the subset leaves out."""
    try:
        if problem.split == "train":
            other = dataclasses.replace(problem, split="test", subset=None, data_fingerprint=None)
            test = open_data(other, options.progress)
        elif problem.subset is not None:
            test = open_data(problem, options.progress, others=True)
        else:
            return None
    except DataError as error:
        options.on_note(f"no held-out examples, so no test accuracy: {error}")
        return None
    options.on_note(f"tested on {len(test):,} held-out examples ({test.split})")
    return test


def _run_trial(
    run: _Run,
    number: int,
    facts: Mapping[str, Any],
    resumes: bool,
    make_room: Callable[[], None],
) -> tuple[TrialReport, dict[str, Any]]:
    """Train one network, or resume it; also what is known of it only now."""
    options, problem, trials = run.options, run.problem, run.options.trials
    training = dataclasses.replace(run.training, trial=number)
    files = TrialFolder(
        trial_folder(Path(options.out), number, trials),
        _setting(run, training),
        {**facts, "trial": number + 1},
        make_room,
    )
    state = files.last_state() if resumes else None
    label = f"trial {number + 1}, " if trials > 1 else ""
    if state is not None:
        options.on_note(f"{label}resumes from epoch {state.epoch}")

    def watch(reached: TrainingState) -> None:
        if reached.epoch % options.save_every == 0:
            files.save(reached)
            options.on_note(f"{label}{_in_words(reached.history)}")

    def progress(stage: str, done: int, total: int) -> None:
        which = f", trial {number + 1} of {trials}" if trials > 1 else ""
        options.progress(f"{stage}{which}", done, total)

    with torch.random.fork_rng():
        torch.manual_seed(seed_of(training, "network"))
        model = run.make()
    result = train(
        model,
        run.data,
        training,
        loss=run.loss,
        l2=problem.l2,
        test=run.test,
        dtype=problem.dtype,
        device=problem.device,
        state=state,
        watch=watch,
        progress=progress,
    )
    found = {"parameters": result.risk.layout.size, "device": str(result.risk.device)}
    measured = _measured(result)
    outcome = {**found, "status": result.status, "final": measured}
    checkpoint = files.finish(result.state, outcome)
    report = TrialReport(
        number + 1, result.status, result.history, measured, checkpoint, files.record
    )
    return report, found


def _measured(result: TrainingResult) -> dict[str, float]:
    """The last epoch, with gᵀg and gᵀHg over all examples, logged or not."""
    last = dataclasses.asdict(result.history.last)
    if math.isnan(last["gTg"]) and result.status != INTERRUPTED:
        theta = result.risk.layout.flatten(dict(result.model.named_parameters())).detach()
        last["gTg"], last["gTHg"] = along_gradient(result.risk, theta)
        last["gradient_norm"] = math.sqrt(last["gTg"])
    return {name: value for name, value in last.items() if not math.isnan(value)}


def _setting(run: _Run, training: TrainingOptions) -> dict[str, Any]:
    """What every checkpoint states: enough to use it, and to resume."""
    problem = run.problem
    stored = StoredSetting(
        **{name: getattr(problem, name) for name in _STATED},
        architecture=run.architecture,
        data=spelled_out(problem.data),
        root=None if problem.root is None else str(Path(problem.root).resolve()),
        subset_seed=problem.seed if problem.subset_seed is None else problem.subset_seed,
        data_fingerprint=run.data.fingerprint,
        loss=spelled_out(problem.loss),
    )
    started = {} if run.start_sha256 is None else {"start_checkpoint_sha256": run.start_sha256}
    return {
        "version": records.provenance().get("version_hessscope", ""),
        **stored.as_dict(),
        "training": {**training.as_dict(), "dtype": problem.dtype, **started},
    }


def _facts(run: _Run) -> dict[str, Any]:
    """Network, data, loss and options, for JSON and records."""
    problem, data, test = run.problem, run.data, run.test
    return {
        "architecture": run.architecture or type(problem.model).__name__,
        "start_checkpoint": None if run.options.start is None else str(run.options.start),
        "start_checkpoint_sha256": run.start_sha256,
        "data": data.name,
        "split": data.split,
        "preprocessing": list(data.preprocessing),
        "data_fingerprint": data.fingerprint,
        "examples": len(data),
        "test_examples": None if test is None else len(test),
        "loss_function": run.loss.name,
        "l2": problem.l2,
        "dtype": problem.dtype,
        "torch_threads": torch.get_num_threads(),
        "configuration": run.training.as_dict(),
        "options": run.options.stored(),
    }


def _in_words(history: History) -> str:
    last = history.last
    words = f"epoch {last.epoch}: loss {last.loss:.5g}"
    if not math.isnan(last.accuracy):
        words += f", accuracy {last.accuracy:.2%}"
    if not math.isnan(last.test_accuracy):
        words += f", test {last.test_accuracy:.2%}"
    return words
