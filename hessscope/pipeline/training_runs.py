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
from hessscope.loaders.checkpoints.perceptrons import MultiLayerPerceptron
from hessscope.loaders.user_code import spelled_out
from hessscope.objective import Dataset
from hessscope.options.fields import plain, takes
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
    resumes,
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
        resumes: trials go on from where they stand in the folder.
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
    resumes: bool

    def facts(self) -> dict[str, Any]:
        """Network, data, loss and options, for JSON and records."""
        return {
            "architecture": self.architecture or type(self.problem.model).__name__,
            "start_checkpoint": plain(self.options.start),
            "start_checkpoint_sha256": self.start_sha256,
            "data": self.data.name,
            "split": self.data.split,
            "preprocessing": list(self.data.preprocessing),
            "data_fingerprint": self.data.fingerprint,
            "examples": len(self.data),
            "test_examples": None if self.test is None else len(self.test),
            "loss_function": self.loss.name,
            "l2": self.problem.l2,
            "dtype": self.problem.dtype,
            "torch_threads": torch.get_num_threads(),
            "configuration": self.training.as_dict(),
            "options": self.options.stored(),
        }

    def setting(self, training: TrainingOptions) -> dict[str, Any]:
        """What every checkpoint states: enough to use it, and to resume."""
        problem = self.problem
        stored = StoredSetting(
            **{name: getattr(problem, name) for name in _STATED},
            architecture=self.architecture,
            data=spelled_out(problem.data),
            root=None if problem.root is None else str(Path(problem.root).resolve()),
            subset_seed=problem.seed if problem.subset_seed is None else problem.subset_seed,
            data_fingerprint=self.data.fingerprint,
            loss=spelled_out(problem.loss),
        )
        made = {**training.as_dict(), "dtype": problem.dtype}
        if self.start_sha256 is not None:
            made["start_checkpoint_sha256"] = self.start_sha256
        return {
            "version": records.provenance().get("version_hessscope", ""),
            **stored.as_dict(),
            "training": made,
        }

    def trial(
        self, number: int, facts: Mapping[str, Any], make_room: Callable[[], None]
    ) -> tuple[TrialReport, dict[str, Any]]:
        """Train one network, or resume it; also what is known of it only now."""
        options, trials = self.options, self.options.trials
        training = dataclasses.replace(self.training, trial=number)
        files = TrialFolder(
            trial_folder(options, number),
            self.setting(training),
            {**facts, "trial": number + 1},
            make_room,
        )
        state = files.last_state() if self.resumes else None
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
            model = self.make()
        result = train(
            model,
            self.data,
            training,
            loss=self.loss,
            l2=self.problem.l2,
            test=self.test,
            dtype=self.problem.dtype,
            device=self.problem.device,
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


@threads(None)
def run_training(options: TrainOptions) -> TrainingReport:
    """Train and write what is asked for."""
    notes: list[str] = []

    def note(text: str) -> None:
        notes.append(text)
        options.on_note(text)

    with collected() as given:
        run = _open(options, note)
    opening, facts = tuple(notes), run.facts()
    trials: list[TrialReport] = []
    folder = Path(options.out)

    @functools.cache
    def make_room() -> None:
        """Remove an old run, once the first file of the new one is there to be written."""
        if options.overwrite:
            clear_folder(folder)

    with collected() as given_later, records.Store(folder).locked():
        for number in range(options.trials):
            try:
                report, found = run.trial(number, facts, make_room)
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
        named = model.spec
    test = _held_out(problem, options)
    return _Run(options, training, problem, make, named, data, test, loss, sha256, resumes(options))


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
    inputs = ((options.start, "the checkpoint to start from"), (problem.data, "the data"))
    check_folder(options, inputs)


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


def _measured(result: TrainingResult) -> dict[str, float]:
    """The last epoch, with gᵀg and gᵀHg over all examples, logged or not."""
    last = dataclasses.asdict(result.history.last)
    if math.isnan(last["gTg"]) and result.status != INTERRUPTED:
        theta = result.risk.layout.flatten(dict(result.model.named_parameters())).detach()
        last["gTg"], last["gTHg"] = along_gradient(result.risk, theta)
        last["gradient_norm"] = math.sqrt(last["gTg"])
    return {name: value for name, value in last.items() if not math.isnan(value)}


def _in_words(history: History) -> str:
    last = history.last
    words = f"epoch {last.epoch}: loss {last.loss:.5g}"
    if not math.isnan(last.accuracy):
        words += f", accuracy {last.accuracy:.2%}"
    if not math.isnan(last.test_accuracy):
        words += f", test {last.test_accuracy:.2%}"
    return words
