"""From a request to a study: train, open, search from many starts, sum up."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import warnings
from collections.abc import Iterator, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hessscope import records
from hessscope.errors import CheckpointError, HessscopeError, HessscopeWarning, OptionError
from hessscope.objective import EmpiricalRisk
from hessscope.options.train import TrainOptions
from hessscope.parameters import ParameterLayout
from hessscope.pipeline import drawing
from hessscope.pipeline.notices import Tell, collected, tell_all, untold
from hessscope.pipeline.problems import Problem, open_problem, read_problem
from hessscope.pipeline.series import find_checkpoints
from hessscope.pipeline.survey_reports import SurveyReport
from hessscope.pipeline.training_runs import run_training
from hessscope.progress import Progress, silent
from hessscope.refinement import SearchOptions, Strategy
from hessscope.surveys import Source, SurveyOptions, connect_dask, run_survey
from hessscope.training.files import checkpoints_in

_ARRAYS = (".npy", ".npz")


@dataclass(frozen=True)
class SurveyRequest:
    """What ``hessscope survey`` is asked for.

    Attributes:
        problem: network, data and loss; its ``checkpoint`` is one of the runs or starts, or the
            folder where there are none yet.
        runs: checkpoints and folders of checkpoints, the trajectories; a folder of trials is
            several.
        starts: checkpoints, or NumPy files with a flat vector each, to start from as they are.
        options: how starts are chosen and searched from.
        folder: of the study.
        train: networks to train by saddle-free Newton first, as trajectories beside ``runs``.
        epochs: of this training.
        workers: searches at once; default one for each core, and one on a GPU.
        threads: of each search; default the cores over the workers, with a scheduler 1.
        scheduler: address of a Dask scheduler that computes instead.
        overwrite: a study in the folder may be replaced.
        retry_failed: do those again that failed with an error.
        plot: where the ε–α plot goes.
        closed_form: CSV file with known points for it.
    """

    problem: Problem
    runs: tuple[Path, ...] = ()
    starts: tuple[Path, ...] = ()
    options: SurveyOptions = field(default_factory=SurveyOptions)
    folder: Path = Path("study")
    train: int = 0
    epochs: int = 20
    workers: int | None = None
    threads: int | None = None
    scheduler: str | None = None
    overwrite: bool = False
    retry_failed: bool = False
    plot: Path | None = None
    closed_form: Path | None = None

    def check(self) -> None:
        """Refuse what cannot be done or written, before anything is read or computed.

        Raises:
            OptionError: an option means nothing.
            OutputExistsError: the figure exists.
        """
        self.problem.check()
        for name in ("workers", "threads"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise OptionError(f"{name} is {value}: give a number of at least 1")
        if self.train < 0 or self.epochs < 1:
            raise OptionError(
                f"train is {self.train} and epochs {self.epochs}: give a number of networks, and "
                "at least one epoch"
            )
        if self.scheduler is not None and self.workers is not None:
            raise OptionError(
                "--workers is for processes of this machine; the workers of a Dask cluster are "
                "those that it has: leave out one of them"
            )
        inputs = (
            *((path, "what the searches start from") for path in (*self.runs, *self.starts)),
            (self.problem.data, "the data"),
            (self.closed_form, "the known points"),
        )
        records.check_distinct([self.plot], inputs)
        if self.train and self.overwrite:
            self._check_run_folder()
        room = drawing.drawing()  # its tables are needed in any case
        if self.plot is not None:
            # Going on with a study draws its figure anew.
            room.figures.check_figure_path(self.plot, overwrite=True)

    def _check_run_folder(self) -> None:
        """A former run that is replaced must not be what the searches start from."""
        folder = self.run_folder.resolve()
        for path in (*self.runs, *self.starts):
            if folder in (path.resolve(), *path.resolve().parents):
                raise OptionError(
                    f"--train with --overwrite would replace {path}, which the searches start "
                    "from: leave out one of them, or give another --out"
                )

    @property
    def run_folder(self) -> Path:
        """Where networks are trained: beside the study, whose records these are not."""
        return self.folder.with_name(f"{self.folder.name}_runs")


def survey_checkpoints(
    runs: Any = (),
    data: Any = None,
    *,
    out: str | Path = "study",
    starts: Any = (),
    train: int = 0,
    epochs: int = 20,
    workers: int | None = None,
    threads: int | None = None,
    scheduler: str | None = None,
    overwrite: bool = False,
    retry_failed: bool = False,
    preset: str | None = None,
    progress: Progress = silent,
    tell: Tell = untold,
    **options: Any,
) -> SurveyReport:
    """Search for critical points from many starts; the same as ``hessscope survey``.

    In a script, call it under ``if __name__ == "__main__":``, since it starts processes.

    Args:
        runs: checkpoints and folders of checkpoints, the trajectories.
        data: as for ``Problem``.
        out: folder of the study; the same call goes on with it.
        starts: checkpoints, or NumPy files with a flat vector each.
        train: networks to train first.
        epochs: of this training.
        workers: searches at once.
        threads: of each.
        scheduler: address of a Dask scheduler that computes instead.
        overwrite: a study in the folder may be replaced.
        retry_failed: do those again that failed with an error.
        preset: "sankar2017" or "dauphin2014".
        progress: told of every search.
        tell: told of every note as soon as it is known; ``print`` will do.
        options: fields of ``Problem`` (``loss``, ``l2``, ``model``, …), of ``SurveyOptions``
            (``trajectory``, ``uniform``, ``amplitudes``, …) and of ``SearchOptions``
            (``method``, ``max_iterations``, …).

    Raises:
        HessscopeError: of the kind that fits.
    """
    paths = [Path(p) for p in ([runs] if isinstance(runs, (str, Path)) else runs)]
    given = [Path(p) for p in ([starts] if isinstance(starts, (str, Path)) else starts)]
    how = {f.name for f in dataclasses.fields(SearchOptions)} - {"seed"}
    which = {f.name for f in dataclasses.fields(SurveyOptions)} - {"refinement"}
    refinement = SearchOptions(**{k: v for k, v in options.items() if k in how})
    chosen = {k: v for k, v in options.items() if k in which}
    what = {k: v for k, v in options.items() if k not in how and (k not in which or k == "seed")}
    folder = Path(out)
    checkpoint = first_checkpoint(paths, given) or folder
    request = SurveyRequest(
        Problem.with_preset(preset, **{**what, "checkpoint": checkpoint, "data": data}),
        tuple(paths),
        tuple(given),
        SurveyOptions(**chosen, refinement=refinement),
        folder,
        train=train,
        epochs=epochs,
        workers=workers,
        threads=threads,
        scheduler=scheduler,
        overwrite=overwrite,
        retry_failed=retry_failed,
    )
    return run_study(request, progress, tell)


def first_checkpoint(runs: list[Path], starts: list[Path]) -> Path | None:
    """The checkpoint that says what network, data and loss are; None where there is none."""
    for run in trajectories_in(runs):
        return run[0]
    return next((path for path in starts if path.suffix not in _ARRAYS), None)


def trajectories_in(paths: list[Path]) -> list[list[Path]]:
    """Checkpoints by runs: those of one folder are one run, and its subfolders are others.

    Raises:
        CheckpointError: a folder has none.
    """
    found: dict[Path, list[Path]] = {}
    for path in paths:
        folders = [path]
        if path.is_dir():
            below = sorted(p for p in path.iterdir() if p.is_dir() and checkpoints_in(p))
            own = [path] if checkpoints_in(path) or not below else []
            folders = [*own, *below]
        for folder in folders:
            for file in checkpoints_in(folder) or find_checkpoints([folder]):
                found.setdefault(file.parent, []).append(file)
    return list(found.values())


def run_study(
    request: SurveyRequest, progress: Progress = silent, tell: Tell = untold
) -> SurveyReport:
    """Train and search as is asked for.

    Args:
        request: what to search, from where, and where it is written.
        progress: told of every search.
        tell: told of every note as soon as it is known.
    """
    request.check()
    problem, runs = request.problem, list(request.runs)
    if request.train:
        runs.append(_train(request, progress, tell))
        problem = dataclasses.replace(problem, checkpoint=trajectories_in(runs)[0][0])
    if first_checkpoint(runs, list(request.starts)) is None:
        raise OptionError(
            "no network: name the folder of a training run, give --starts CHECKPOINT, or --train N "
            "with --model mlp:16-4-10:tanh"
        )
    with collected() as given:
        opened = open_problem(dataclasses.replace(problem, progress=progress))
    tell_all(tell, opened.notes)
    make = functools.partial(open_risk, problem)
    trajectories = [[_source(problem, path) for path in run] for run in trajectories_in(runs)]
    architecture = opened.checkpoint.architecture
    with _executor(request) as (executor, workers):
        result = run_survey(
            make,
            request.folder,
            request.options,
            trajectories=trajectories,
            starts=[_source(problem, path) for path in request.starts],
            executor=executor,
            workers=workers,
            threads=request.threads,
            overwrite=request.overwrite,
            retry_failed=request.retry_failed,
            attributes={"architecture": architecture, **opened.code},
            progress=progress,
            watch=lambda name, facts: tell(_in_words(name, facts)),
        )
    facts = {
        "architecture": architecture,
        "parameters": opened.risk.layout.size,
        "data": opened.data.name,
        "split": opened.data.split,
        "examples": len(opened.data),
        "preprocessing": list(opened.data.preprocessing),
        "loss_function": opened.risk.loss.name,
        "l2": opened.risk.l2,
        "method": Strategy.of(request.options.refinement).method,
        "seed": request.options.seed,
    }
    return SurveyReport(result, facts, opened.notes, tuple(given))


def save_study_figure(request: SurveyRequest, report: SurveyReport) -> SurveyReport:
    """Draw the ε–α plot where the request says; give the report with its path.

    Raises:
        HessscopeError: it cannot be drawn, the disk is full or the folder cannot be written.
    """
    if request.plot is None or not report.result.certified:
        return report
    drawing.save_figure(
        lambda room: room.report_figure(
            report.table, "epsilon_alpha", distinct=True, closed_form=request.closed_form
        ),
        request.plot,
        overwrite=True,
    )
    return dataclasses.replace(report, figure=request.plot)


def open_risk(problem: Problem) -> EmpiricalRisk:
    """The objective, as a worker makes it; what there is to say the first process has said."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HessscopeWarning)
        return open_problem(problem).risk


def read_vector(problem: Problem, path: Path) -> torch.Tensor:
    """The parameters in a checkpoint of the same network, or in a NumPy file, shape (n,).

    Raises:
        CheckpointError: it cannot be read.
    """
    if path.suffix in _ARRAYS:
        try:
            content = np.load(path)
            values = content if path.suffix == ".npy" else content[next(iter(content.files))]
            return torch.from_numpy(np.asarray(values, dtype=np.float64).ravel())
        except (OSError, ValueError, StopIteration) as error:
            raise CheckpointError(f"{path} is no NumPy file with a vector ({error})") from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HessscopeWarning)
        model = read_problem(problem, path).model
    return ParameterLayout.of(model).flatten(dict(model.named_parameters())).detach().double()


def _source(problem: Problem, path: Path) -> Source:
    try:
        digest = records.file_sha256(path)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}") from error
    return Source(str(path), digest, functools.partial(read_vector, problem, path))


def _train(request: SurveyRequest, progress: Progress, tell: Tell) -> Path:
    """Trajectories by saddle-free Newton; an earlier run in the folder is gone on with."""
    if request.problem.model is None:
        raise OptionError("no network to train: give --model mlp:16-4-10:tanh")
    training = TrainOptions.part_of(
        request.problem,
        preset=None,
        optimizer="sfn",
        epochs=request.epochs,
        seed=request.options.seed,
        out=request.run_folder,
        trials=request.train,
        save_every=1,
        overwrite=request.overwrite,
        resume=not request.overwrite,
        progress=progress,
    )
    trained = run_training(training)
    if trained.interrupted:
        if request.run_folder.is_dir():
            how = " without --overwrite" if request.overwrite else ""
            tell(f"what was trained is in {request.run_folder}: the same command{how} goes on")
        raise KeyboardInterrupt
    losses = [trial.measured["loss"] for trial in trained.trials if "loss" in trial.measured]
    if losses:
        tell(
            f"trajectories: {len(losses)} networks in {request.run_folder}, trained to losses from "
            f"{min(losses):.4g} to {max(losses):.4g}"
        )
    failed = [trial.error for trial in trained.trials if trial.error]
    if len(failed) == len(trained.trials):
        raise HessscopeError(f"no network could be trained: {failed[0]}")
    return request.run_folder


@contextlib.contextmanager
def _executor(request: SurveyRequest) -> Iterator[tuple[Executor | None, int | None]]:
    if request.scheduler is None:
        yield None, request.workers
        return
    with connect_dask(request.scheduler) as (executor, slots):
        yield executor, slots


def _in_words(name: str, facts: Mapping[str, Any]) -> str:
    if "error_message" in facts:
        return f"{name}: failed: {facts['error_message']}"
    words = f"{name}: {facts['status']}, loss {facts['loss']:.6g}, ‖g‖ {facts['gradient_norm']:.2g}"
    index = facts.get("index")
    return words if index is None else f"{words}, index {index['estimate']}"
