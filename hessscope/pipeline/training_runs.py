"""From a request to checkpoints: check, open, train, write."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
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
from hessscope.pipeline.notices import Tell, collected, tell_all, untold
from hessscope.pipeline.problems import Problem, find_loss, open_data, open_problem
from hessscope.pipeline.repeats import threads
from hessscope.pipeline.run_folders import (
    RunWriter,
    check_folder,
    clear_folder,
    is_unfinished,
    last_state,
    trial_folder,
)
from hessscope.pipeline.training_reports import FAILED, TrainingReport, TrialReport
from hessscope.progress import Progress, silent
from hessscope.training import (
    PRESET_NETWORKS,
    TRAINING_PRESETS,
    History,
    TrainingOptions,
    TrainingResult,
    TrainingState,
    train,
)
from hessscope.training.loop import INTERRUPTED, along_gradient


@dataclass(frozen=True)
class TrainingRequest:
    """What ``hessscope train`` is asked for.

    Attributes:
        problem: network (``model``), data and loss; its ``checkpoint`` is where the weights come
            from, if they are not to be initialised, and else the folder.
        options: how to train.
        folder: where checkpoints and logs go.
        start: checkpoint from which to start.
        trials: networks to train, each with random numbers of its own.
        save_every: epochs from one checkpoint to the next; first and last are always written.
        overwrite: a run in the folder may be replaced.
        resume: a finished run in the folder is trained on; an unfinished one is in any case.
    """

    problem: Problem
    options: TrainingOptions = field(default_factory=TrainingOptions)
    folder: Path = Path("run")
    start: Path | None = None
    trials: int = 1
    save_every: int = 10
    overwrite: bool = False
    resume: bool = False

    @property
    def resumes(self) -> bool:
        """Whether a run in the folder is resumed."""
        return self.resume or (not self.overwrite and is_unfinished(self.folder, self.trials))

    def check(self) -> None:
        """Refuse what cannot be done or written, before anything is read or computed.

        Raises:
            OptionError: an option means nothing, or there is a finished run in the folder.
            RecordError: the folder cannot be written.
        """
        problem = self.problem
        problem.check()
        self.options.check()
        if problem.data is None and not problem.withheld:
            raise OptionError("no data to train on: give --data mnist, --data file.npz, …")
        if self.start is None and problem.model is None:
            raise OptionError(
                "no network to train: give --arch mlp:784-25-10:relu or --arch file.py:factory, "
                "or --start CHECKPOINT"
            )
        if self.start is not None and self.options.initialization != "default":
            raise OptionError(
                f"initialization {self.options.initialization} would replace the weights of "
                f"{self.start}: give one or the other"
            )
        for name in ("trials", "save_every"):
            if getattr(self, name) < 1:
                raise OptionError(f"{name} is {getattr(self, name)}: give a number of at least 1")
        if self.overwrite and self.resume:
            raise OptionError("overwrite and resume exclude each other: give one of them")
        check_folder(
            self.folder,
            overwrite=self.overwrite,
            resume=self.resumes,
            inputs=((self.start, "the checkpoint to start from"), (problem.data, "the data")),
        )


def train_checkpoints(
    architecture: Any = None,
    data: Any = None,
    *,
    out: str | Path = "run",
    start: str | Path | None = None,
    trials: int = 1,
    save_every: int = 10,
    overwrite: bool = False,
    resume: bool = False,
    preset: str | None = None,
    progress: Progress = silent,
    tell: Tell = untold,
    **options: Any,
) -> TrainingReport:
    """Train networks and write their checkpoints; the same as ``hessscope train``.

    Args:
        architecture: ``mlp:784-25-10:relu``, ``file.py:factory``, or a factory.
        data: as for ``Problem``.
        out: folder for checkpoints and logs.
        start: checkpoint from which to start, in place of an initialisation.
        trials: networks to train, each with random numbers of its own.
        save_every: epochs from one checkpoint to the next.
        overwrite: a run in the folder may be replaced.
        resume: go on with the run in the folder.
        preset: "sankar2017" or "dauphin2014".
        progress: told of every step.
        tell: told of every note as soon as it is known; ``print`` will do.
        options: fields of ``Problem`` (``loss``, ``l2``, ``subset``, …) and of
            ``TrainingOptions`` (``optimizer``, ``epochs``, …).

    Raises:
        HessscopeError: of the kind that fits; before any long work where possible.
    """
    names = {f.name for f in dataclasses.fields(TrainingOptions)}
    how = {name: value for name, value in options.items() if name in names}
    what = {name: value for name, value in options.items() if name not in names or name == "seed"}
    request = make_request(
        preset,
        {**what, "model": architecture, "data": data},
        how,
        folder=Path(out),
        start=Path(start) if start else None,
        trials=trials,
        save_every=save_every,
        overwrite=overwrite,
        resume=resume,
    )
    return run_training(request, progress, tell)


def make_request(
    preset: str | None, what: Mapping[str, Any], how: Mapping[str, Any], **rest: Any
) -> TrainingRequest:
    """Put a request together from options, None for those that were not given.

    Args:
        preset: a paper's bundle, which fills in both.
        what: fields of ``Problem``, but for its checkpoint.
        how: fields of ``TrainingOptions``.
        rest: fields of ``TrainingRequest``.
    """
    options = TrainingOptions.with_preset(preset, **how)
    usual = "float64" if options.method.second_order else "float32"
    start = rest.get("start")
    network = what.get("model")
    if network is None and start is None and preset is not None:
        network = PRESET_NETWORKS.get(preset)
    chosen = {
        **what,
        "checkpoint": start or rest["folder"],
        "model": network,
        "dtype": what.get("dtype") or usual,
    }
    return TrainingRequest(Problem.with_preset(preset, **chosen), options, **rest)


@dataclass(frozen=True)
class _Opened:
    """Data, loss and a source of networks."""

    make: Callable[[], torch.nn.Module]
    architecture: str | None
    data: Dataset
    test: Dataset | None
    loss: Any
    start_sha256: str | None
    notes: tuple[str, ...]


@threads(None)
def run_training(
    request: TrainingRequest, progress: Progress = silent, tell: Tell = untold
) -> TrainingReport:
    """Train and write what is asked for.

    Args:
        request: what to train, how, and where it is written.
        progress: told of every step.
        tell: told of every note as soon as it is known.
    """
    request.check()
    with collected() as given:
        opened = _open(request, progress)
    tell_all(tell, opened.notes)
    setting = _setting(request, opened)
    facts = _facts(request, opened)
    in_the_way = request.overwrite

    def make_room() -> None:
        """An old run goes when the first file of the new one is there to be written."""
        nonlocal in_the_way
        if in_the_way:
            clear_folder(request.folder)
        in_the_way = False

    trials: list[TrialReport] = []
    with collected() as given_later:
        for number in range(request.trials):
            trial = _Trial(request, opened, setting, facts, number, make_room)
            try:
                report = trial.run(_numbered(progress, number, request.trials), tell)
            except HessscopeError as error:
                if request.trials == 1:
                    raise
                tell(f"trial {number + 1} failed: {error}")
                report = TrialReport(number + 1, FAILED, History(), {}, error=str(error))
            trials.append(report)
            facts = {**facts, **trial.found}
            if report.status == "interrupted":
                break
    warnings = tuple(dict.fromkeys((*given, *given_later)))
    return TrainingReport(request.folder, tuple(trials), facts, opened.notes, warnings)


class _Trial:
    """One network on its way."""

    def __init__(
        self,
        request: TrainingRequest,
        opened: _Opened,
        setting: Mapping[str, Any],
        facts: Mapping[str, Any],
        number: int,
        make_room: Callable[[], None],
    ) -> None:
        self._request, self._opened, self._number = request, opened, number
        self._make_room = make_room
        self._options = dataclasses.replace(request.options, trial=number)
        training_setting = {**setting["training"], "trial": number}
        self._setting = {**setting, "training": training_setting}
        self._facts = {**facts, "trial": number + 1}
        self.found: dict[str, Any] = {}

    def run(self, progress: Progress, tell: Tell) -> TrialReport:
        """Train it, or go on with it."""
        request, opened = self._request, self._opened
        folder = trial_folder(request.folder, self._number, request.trials)
        state = last_state(folder, self._setting) if request.resumes else None
        writer = RunWriter(folder, self._setting, request.save_every, self._facts, self._make_room)
        label = f"trial {self._number + 1}, " if request.trials > 1 else ""
        if state is not None:
            tell(f"{label}resumes from epoch {state.epoch}")

        def watch(reached: TrainingState) -> None:
            if writer.due(reached):
                writer.save(reached)
                tell(f"{label}{_in_words(reached.history)}")

        with torch.random.fork_rng():
            torch.manual_seed(self._options.seed_of("network"))
            model = opened.make()
        result = train(
            model,
            opened.data,
            self._options,
            loss=opened.loss,
            l2=request.problem.l2,
            test=opened.test,
            dtype=request.problem.dtype,
            device=request.problem.device,
            state=state,
            watch=watch,
            progress=progress,
        )
        self.found = {"parameters": result.risk.layout.size, "device": str(result.risk.device)}
        measured = _measured(result)
        outcome = {**self.found, "status": result.status, "final": measured}
        checkpoint = writer.finish(result.state, outcome)
        return TrialReport(
            self._number + 1, result.status, result.history, measured, checkpoint, writer.record
        )


def _measured(result: TrainingResult) -> dict[str, float]:
    """The last epoch, with gᵀg and gᵀHg over all examples, logged or not."""
    last = dataclasses.asdict(result.history.last)
    if math.isnan(last["gTg"]) and result.status != INTERRUPTED:
        theta = result.risk.layout.flatten(dict(result.model.named_parameters())).detach()
        last["gTg"], last["gTHg"] = along_gradient(result.risk, theta)
        last["gradient_norm"] = math.sqrt(last["gTg"])
    return {name: value for name, value in last.items() if not math.isnan(value)}


def _open(request: TrainingRequest, progress: Progress) -> _Opened:
    problem = request.problem
    if request.start is not None:
        started = open_problem(dataclasses.replace(problem, progress=progress))
        notes, data, loss = started.notes, started.data, started.risk.loss
        checkpoint = started.checkpoint
        model = checkpoint.model
        test, more = _held_out(problem, progress)
        own = describe_perceptron(model) if isinstance(model, MultiLayerPerceptron) else None
        make = resolve_model(model).make
        sha256: str | None = checkpoint.sha256
        stored = read_setting(request.start)
        own = own or (None if stored is None else stored.architecture)
    else:
        source, loss = resolve_model(problem.model), find_loss(problem.loss)
        with torch.random.fork_rng():
            first = source.make()
        data = open_data(problem, progress)
        notes = (*problem.sources(), *data.notes)
        test, more = _held_out(problem, progress)
        own = describe_perceptron(first) if isinstance(first, MultiLayerPerceptron) else None
        make, sha256 = source.make, None
    said = (*_preset_note(request), *notes, *more)
    named = spelled_out(problem.model) if own is None else own
    return _Opened(make, named, data, test, loss, sha256, said)


def _preset_note(request: TrainingRequest) -> tuple[str, ...]:
    """What the preset set of the training, and what was said beside it and won."""
    preset, options = request.problem.preset, request.options
    if preset is None:
        return ()
    used = options.as_dict()
    shown = ", ".join(f"{k} {used[k]}" for k in TRAINING_PRESETS[preset] if k in used)
    return (f"preset {preset}, training: {shown}",)


def _held_out(problem: Problem, progress: Progress) -> tuple[Dataset | None, tuple[str, ...]]:
    """Examples to test on: the other split, or what the subset leaves out; and a note."""
    try:
        if problem.split == "train":
            test = open_data(
                dataclasses.replace(problem, split="test", subset=None, data_fingerprint=None),
                progress,
            )
        elif problem.subset is not None:
            test = open_data(problem, progress, others=True)
        else:
            return None, ()
    except DataError as error:
        return None, (f"no held-out examples, so no test accuracy: {error}",)
    return test, (f"tested on {len(test):,} held-out examples ({test.split})",)


def _setting(request: TrainingRequest, opened: _Opened) -> dict[str, Any]:
    """What every checkpoint states: enough to use it, and to go on."""
    problem = request.problem
    size, normalize = problem.resize, problem.normalize
    if size is not None and not isinstance(size, (str, int)):
        size = "x".join(map(str, size))
    if normalize is not None and not isinstance(normalize, str):
        normalize = "/".join(_joined(part) for part in normalize)
    stored = StoredSetting(
        architecture=opened.architecture,
        data=spelled_out(problem.data),
        split=problem.split,
        root=None if problem.root is None else str(Path(problem.root).resolve()),
        subset=problem.subset,
        subset_seed=problem.seed if problem.subset_seed is None else problem.subset_seed,
        resize=None if size is None else str(size),
        grayscale=problem.grayscale,
        normalize=normalize,
        targets=problem.targets,
        data_fingerprint=opened.data.fingerprint,
        loss=spelled_out(problem.loss),
        l2=problem.l2,
    )
    how = {**request.options.as_dict(), "dtype": problem.dtype}
    if opened.start_sha256 is not None:
        how["start_sha256"] = opened.start_sha256
    return {
        "version": records.provenance().get("version_hessscope", ""),
        **stored.as_dict(),
        "training": how,
    }


def _joined(part: Any) -> str:
    return ",".join(map(str, part)) if isinstance(part, (tuple, list)) else str(part)


def _facts(request: TrainingRequest, opened: _Opened) -> dict[str, Any]:
    """Network, data, loss and options, for JSON and records."""
    problem, data, test = request.problem, opened.data, opened.test
    return {
        "architecture": opened.architecture or type(problem.model).__name__,
        "start": None if request.start is None else str(request.start),
        "data": data.name,
        "split": data.split,
        "preprocessing": list(data.preprocessing),
        "data_fingerprint": data.fingerprint,
        "examples": len(data),
        "test_examples": None if test is None else len(test),
        "loss_function": opened.loss.name,
        "l2": problem.l2,
        "preset": problem.preset,
        "dtype": problem.dtype,
        "torch_threads": torch.get_num_threads(),
        "options": request.options.as_dict(),
    }


def _in_words(history: History) -> str:
    last = history.last
    words = f"epoch {last.epoch}: loss {last.loss:.5g}"
    if not math.isnan(last.accuracy):
        words += f", accuracy {last.accuracy:.2%}"
    if not math.isnan(last.test_accuracy):
        words += f", test {last.test_accuracy:.2%}"
    return words


def _numbered(progress: Progress, number: int, trials: int) -> Progress:
    if trials == 1:
        return progress

    def told(stage: str, done: int, total: int) -> None:
        progress(f"{stage}, trial {number + 1} of {trials}", done, total)

    return told
