"""``hs.survey_checkpoints``: train, open, search from many starts, sum up."""

from __future__ import annotations

import contextlib
import functools
import warnings
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from hessscope import records
from hessscope.errors import CheckpointError, HessscopeError, HessscopeWarning, OptionError
from hessscope.loaders import CheckpointFile
from hessscope.loaders.checkpoints.checkpoint import IN_MEMORY, in_memory
from hessscope.objective import EmpiricalRisk
from hessscope.options.fields import paths, plain, takes
from hessscope.options.survey import SurveyOptions
from hessscope.options.train import TrainOptions
from hessscope.parameters import ParameterLayout
from hessscope.pipeline.outputs import Report, drawing, save_figure
from hessscope.pipeline.problems import Problem, open_problem, read_problem
from hessscope.pipeline.series import find_checkpoints
from hessscope.pipeline.training_runs import run_training
from hessscope.records import load_record
from hessscope.refinement import Strategy
from hessscope.surveys import Source, SurveyResult, connect_dask, run_survey
from hessscope.training.files import checkpoints_in

if TYPE_CHECKING:
    import pandas as pd

    from hessscope.reports.tables import RankCorrelation

# Weights so small beside 1 are zero: the network's output does not depend on its input.
_AT_ORIGIN = 1e-6


@dataclass(frozen=True, repr=False)
class SurveyReport(Report):
    """What ``hs.survey_checkpoints`` and ``hessscope survey`` report.

    Attributes:
        result: the searches.
        facts: network, data, loss and method, as plain values.
        closed_form: known points, to be drawn beside the found ones.
    """

    redrawn = True

    result: SurveyResult
    facts: Mapping[str, Any]
    closed_form: Any = None

    @property
    def files(self) -> dict[str, Path | None]:
        """What was written where."""
        return {"study": self.result.folder, "figure": self.figure}

    def __fspath__(self) -> str:
        """The folder, so that this stands for it wherever records are read from one."""
        return str(self.result.folder)

    @cached_property
    def table(self) -> pd.DataFrame:
        """One row for each search that has ended, as ``load_records`` gives them."""
        from hessscope.reports.tables import load_records

        return load_records([self.result.folder / f"{name}.h5" for name in self.result.outcomes])

    def to_dataframe(self) -> pd.DataFrame:
        """One row for each search that has ended: ``table``."""
        return self.table

    @cached_property
    def distinct(self) -> pd.DataFrame:
        """Certified critical points, one row for those that are the same up to symmetries.

        The column ``at_origin`` marks those where all weights but the biases are zero.
        """
        from hessscope.reports.tables import certified_points, distinct_points

        points = distinct_points(certified_points(self.table))
        norms = [
            load_record(path, arrays=()).attributes.get("weight_norm", 1.0)
            for path in points["path"]
        ]
        return points.assign(at_origin=[norm < _AT_ORIGIN for norm in norms])

    @cached_property
    def correlation(self) -> RankCorrelation | None:
        """Spearman's between loss and α over distinct points; None for fewer than four."""
        from hessscope.reports.tables import epsilon_alpha_correlation

        if len(self.distinct) < 4:
            return None
        return epsilon_alpha_correlation(self.distinct)

    def certified_by_origin(self) -> dict[str, int]:
        """Certified searches by the kind of their start."""
        from hessscope.reports.tables import certified_points

        counts = certified_points(self.table)["origin"].value_counts()
        return {str(origin): int(count) for origin, count in counts.items()}

    def summary(self) -> dict[str, str]:
        """Where the searches are, and how they ended."""
        result = self.result
        return {
            "study": str(result.folder),
            "searches": f"{len(result.outcomes)} of {result.planned} ended",
            "statuses": ", ".join(f"{n} {status}" for status, n in result.statuses.items()),
            "certified": str(result.certified),
        }

    def as_dict(self) -> dict[str, Any]:
        """The JSON object of ``hessscope survey --json``."""
        result = self.result
        some = bool(result.outcomes)
        lasting = self.distinct if some else ()
        correlation = self.correlation if some else None
        return {
            "study": str(result.folder),
            **self.facts,
            "searches": result.planned,
            "ended": len(result.outcomes),
            "computed": result.computed,
            "interrupted": result.interrupted,
            "statuses": result.statuses,
            "certified": result.certified,
            "certified_by_origin": self.certified_by_origin() if some else {},
            "distinct": len(lasting),
            "distinct_at_origin": int(self.distinct["at_origin"].sum()) if some else 0,
            "correlation": None if correlation is None else correlation.as_dict(),
            "seconds": plain(result.seconds),
            "figure": None if self.figure is None else str(self.figure),
            "notes": list(self.notes),
            "warnings": list(self.warnings),
        }

    def draw(self, room: ModuleType) -> Any:
        """The ε–α plot; None where nothing is certified."""
        if not self.result.certified:
            return None
        return room.report_figure(
            self.table, "epsilon_alpha", distinct=True, closed_form=self.closed_form
        )


_ARRAYS = (".npy", ".npz")


@takes(SurveyOptions)
def survey_checkpoints(options: SurveyOptions) -> SurveyReport:
    """Search for critical points from many starts; the same as ``hessscope survey``.

    In a script, call it under ``if __name__ == "__main__":``, since it starts processes.

    Raises:
        HessscopeError: of the kind that fits.
    """
    return save_figure(options, run_study(options))


def run_study(options: SurveyOptions) -> SurveyReport:
    """Train if that is asked for, and search."""
    _check(options)
    runs, starts = list(paths(options.runs)), list(paths(options.starts))
    if options.train:
        runs.append(_train(options))
    trajectories = trajectories_in(runs)
    first = first_checkpoint(trajectories, starts)
    if first is None:
        raise OptionError(
            "no network: name the folder of a training run, give `starts=CHECKPOINT`, or "
            "`train=N` with `model=mlp:16-4-10:tanh`"
        )
    opened = open_problem(options, first)
    problem, architecture = opened.problem, opened.checkpoint.architecture
    source = functools.partial(_source, problem)
    with contextlib.ExitStack() as stack:
        executor: Executor | None = None
        study = options
        if options.scheduler is not None:
            executor, slots = stack.enter_context(connect_dask(options.scheduler))
            study = replace(options, workers=slots)
        result = run_survey(
            functools.partial(open_risk, problem),
            options.out,
            study,
            trajectories=[[source(path) for path in run] for run in trajectories],
            starts=[source(path) for path in starts],
            executor=executor,
            attributes={"architecture": architecture, **opened.code},
            watch=lambda name, facts: options.on_note(_in_words(name, facts)),
        )
    facts = {
        **opened.as_dict(),
        "parameters": opened.risk.layout.size,
        "method": Strategy.of(options, opened.risk.layout.size).method,
        "seed": options.seed,
    }
    return SurveyReport(
        result, facts, options.closed_form, notes=opened.notes, warnings=opened.warnings
    )


def _check(options: SurveyOptions) -> None:
    """Refuse what cannot be done or written, before anything is read or computed."""
    Strategy.of(options)
    if options.scheduler is not None and options.workers is not None:
        raise OptionError(
            "`workers` is for processes of this machine; the workers of a Dask cluster are those "
            "that it has: leave out one of them"
        )
    sources = (*paths(options.runs), *paths(options.starts))
    inputs = (
        *((path, "what the searches start from") for path in sources),
        (options.data, "the data"),
        (options.closed_form, "the known points"),
    )
    plot = None if options.plot is None else Path(options.plot)
    records.check_distinct([plot], inputs)
    folder = run_folder(options).resolve()
    for path in sources if options.train and options.overwrite else ():
        if isinstance(path, Path) and folder in (path.resolve(), *path.resolve().parents):
            raise OptionError(
                f"`train` with `overwrite=True` would replace {path}, which the searches start "
                "from: leave out one of them, or give another `out`"
            )
    room = drawing()  # its tables are needed in any case
    if plot is not None:
        # Resuming a study draws its figure anew.
        room.figures.check_figure_path(plot, overwrite=True)


def run_folder(options: SurveyOptions) -> Path:
    """Where networks are trained: beside the study, whose records these are not."""
    out = Path(options.out)
    return out.with_name(f"{out.name}_runs")


def first_checkpoint(trajectories: Sequence[list[Any]], starts: list[Any]) -> Any:
    """The checkpoint that states network, data and loss; None where there is none."""
    points = (point for point in starts if getattr(point, "suffix", "") not in _ARRAYS)
    return trajectories[0][0] if trajectories else next(points, None)


def trajectories_in(paths: list[Any]) -> list[list[Any]]:
    """Checkpoints by runs: those of one folder are one run, and its subfolders are others.

    A model in memory is a run by itself.

    Raises:
        CheckpointError: a folder has none.
    """
    found: dict[Any, list[Any]] = {}
    for path in paths:
        if isinstance(path, torch.nn.Module):
            found[path] = [path]
            continue
        folders = [path]
        if path.is_dir():
            below = sorted(p for p in path.iterdir() if p.is_dir() and checkpoints_in(p))
            own = [path] if checkpoints_in(path) or not below else []
            folders = [*own, *below]
        for folder in folders:
            for file in checkpoints_in(folder) or find_checkpoints([folder]):
                found.setdefault(file.parent, []).append(file)
    return list(found.values())


def open_risk(problem: Problem) -> EmpiricalRisk:
    """The objective, as a worker makes it; the first process has given the notes and warnings."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HessscopeWarning)
        return open_problem(problem).risk


def read_vector(problem: Problem, path: Any) -> torch.Tensor:
    """The parameters in a checkpoint of the same network, or in a NumPy file, shape (n,).

    Raises:
        CheckpointError: it cannot be read.
    """
    if isinstance(path, torch.nn.Module):
        return flat_parameters(path)
    if path.suffix in _ARRAYS:
        try:
            content = np.load(path)
            values = content if path.suffix == ".npy" else content[next(iter(content.files))]
            return torch.from_numpy(np.asarray(values, dtype=np.float64).ravel())
        except (OSError, ValueError, StopIteration) as error:
            raise CheckpointError(f"{path} is no NumPy file with a vector ({error})") from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HessscopeWarning)
        return flat_parameters(read_problem(problem, path).model)


def flat_parameters(model: torch.nn.Module) -> torch.Tensor:
    """θ of a model, shape (n,), in float64."""
    return ParameterLayout.of(model).flatten(dict(model.named_parameters())).detach().double()


def _source(problem: Problem, path: Any) -> Source:
    if isinstance(path, torch.nn.Module):
        read = functools.partial(read_vector, problem, path)
        return Source(IN_MEMORY, in_memory(path).sha256, read)
    if path.suffix not in _ARRAYS:
        digest = CheckpointFile.open(path, problem.trust, problem.key).raw.sha256
    else:
        try:
            digest = records.file_sha256(path)
        except OSError as error:
            raise CheckpointError(f"{path} cannot be read: {error.strerror or error}") from error
    return Source(str(path), digest, functools.partial(read_vector, problem, path))


def _train(options: SurveyOptions) -> Path:
    """Trajectories by saddle-free Newton; an earlier run in the folder is resumed."""
    if options.model is None:
        raise OptionError("no network to train: give `model=mlp:16-4-10:tanh`")
    folder = run_folder(options)
    training = TrainOptions.part_of(
        Problem.of(options, folder),  # with the data and loss of its preset, but not the training
        preset=None,
        optimizer="sfn",
        epochs=options.epochs,
        out=folder,
        trials=options.train,
        save_every=1,
        overwrite=options.overwrite,
        resume=not options.overwrite,
        progress=options.progress,
    )
    trained = run_training(training)
    if trained.interrupted:
        if folder.is_dir():
            how = " without `overwrite=True`" if options.overwrite else ""
            options.on_note(f"what was trained is in {folder}: rerun the command{how} to resume")
        raise KeyboardInterrupt
    losses = [trial.measured["loss"] for trial in trained.trials if "loss" in trial.measured]
    if losses:
        options.on_note(
            f"trajectories: {len(losses)} networks in {folder}, trained to losses from "
            f"{min(losses):.4g} to {max(losses):.4g}"
        )
    failed = [trial.error for trial in trained.trials if trial.error]
    if len(failed) == len(trained.trials):
        raise HessscopeError(f"no network could be trained: {failed[0]}")
    return folder


def _in_words(name: str, facts: Mapping[str, Any]) -> str:
    if "error_message" in facts:
        return f"{name}: failed: {facts['error_message']}"
    words = f"{name}: {facts['status']}, loss {facts['loss']:.6g}, ‖g‖ {facts['gradient_norm']:.2g}"
    index = facts.get("index")
    return words if index is None else f"{words}, index {index['estimate']}"
