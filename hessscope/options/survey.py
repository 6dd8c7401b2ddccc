"""Options of ``hessscope survey``, ``hs.survey_checkpoints`` and ``hs.run_survey``."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any

from hessscope.options.fields import (
    COMPUTING,
    OUTPUT,
    Options,
    nonnegative,
    numbers,
    option,
    paths,
    under,
    whole,
)
from hessscope.options.refine import SearchOptions
from hessscope.options.report import EpsilonAlpha
from hessscope.options.setting import Setting

STARTS = "Starts"
_starts, _output = under(STARTS), under(OUTPUT, decides=False)
_computing = under(COMPUTING, decides=False)
#: Searches of each kind by the protocol of Dauphin et al. (2014), appendix C.
PROTOCOL = 100


def _range(value: Any) -> tuple[float, ...]:
    found = numbers(value)
    if len(found) != 2 or not found[0] < found[1]:
        raise ValueError("give two numbers, the lower one first, such as -1,1")
    return found


@dataclass(frozen=True, kw_only=True)
class StudyOptions(SearchOptions):
    """Which searches a survey makes, and how; what ``hs.run_survey`` is asked for."""

    trajectory: int | None = _starts(
        None,
        "Searches from random points of random trajectories, with uniform noise. Default: "
        f"{PROTOCOL}; 0 where there is no trajectory.",
        "N",
        whole(0),
        decides=False,
    )
    uniform: int = _starts(
        PROTOCOL, "Searches from uniformly sampled weights.", "N", whole(0), decides=False
    )
    amplitudes: tuple[float, ...] = _starts(
        (1e-1, 1e-2, 1e-3, 1e-4),
        "Amplitudes of the noise; each search draws one.",
        "LIST",
        nonnegative,
    )
    # The paper's "unit cube" is taken as [−1, 1].
    range: tuple[float, ...] = _starts(
        (-1.0, 1.0), "Range of the uniformly sampled weights.", "LOW,HIGH", _range
    )
    workers: int | None = _computing(
        None,
        "Searches at once, each in a process. Default: one for each core; one on a GPU.",
        "N",
        whole(1),
    )
    threads: int | None = _computing(
        None,
        "Threads of each search. Default: the cores over the workers; 1 on a cluster.",
        "N",
        whole(1),
    )
    retry_failed: bool = _output(False, "Repeat the searches that ended with an error.")
    overwrite: bool = _output(False, "Replace the study that is in the folder.")


@dataclass(frozen=True)
class Runs(Options):
    """The trajectories."""

    runs: str | Path | Iterable[str | Path] = option(
        (),
        "Trajectories: folders of hessscope train, or checkpoints; those of one folder are one "
        "trajectory.",
        "RUN",
        read=paths,
        argument=True,
        many=True,
    )


@dataclass(frozen=True)
class SurveyOptions(EpsilonAlpha, StudyOptions, Setting, Runs):
    """What ``hessscope survey`` is asked for."""

    _: KW_ONLY
    starts: str | Path | Iterable[str | Path] = _starts(
        (),
        "Start from this point as it is: a checkpoint, or a .npy file with the flat vector. May be "
        "given several times.",
        "FILE",
        paths,
        many=True,
    )
    train: int = _starts(
        0,
        "First train N networks by saddle-free Newton, as trajectories; they are kept in OUT_runs.",
        "N",
        whole(0),
    )
    epochs: int = _starts(
        20, "Epochs per `train` run; one checkpoint is saved per epoch.", "N", whole(1)
    )
    scheduler: str | None = _computing(
        None,
        "Compute on the Dask cluster with this scheduler, such as tcp://10.0.0.1:8786.",
        "ADDRESS",
    )
    out: str | Path = _output(
        Path("study"),
        "Folder of the study, with one record for each search; rerun the command to resume.",
        "FOLDER",
        Path,
    )
    plot: str | Path | None = _output(
        None,
        "ε–α plot of the distinct critical points as .png, .pdf or .svg; redrawn each time.",
        "FILE",
        Path,
    )
