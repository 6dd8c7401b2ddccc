"""Surveys: starts by the protocol, known critical points, nothing lost and nothing done twice."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest
import torch

import hessscope as hs
import survey_problems as problems
from cli_runs import Outcome, Run
from conftest import REPOSITORY
from hessscope.errors import NoWorkerError, OptionError, RecordError, WorkerError
from hessscope.operators import memory_room
from hessscope.options.survey import StudyOptions
from hessscope.surveys import Source, connect_dask
from hessscope.surveys.loop import default_workers
from hessscope.surveys.starts import make_starts


@pytest.fixture
def here() -> Iterator[Executor]:
    """Computes in this process."""
    with ThreadPoolExecutor(1) as executor:
        yield executor


def source(values: Any, name: str = "point", fingerprint: str = "") -> Source:
    vector = torch.as_tensor(values, dtype=torch.float64)
    return Source(name, fingerprint or name, lambda: vector)


def uniform(count: int, **options: Any) -> StudyOptions:
    return StudyOptions(trajectory=0, uniform=count, **options)


def run(
    folder: Path,
    options: StudyOptions,
    executor: Executor,
    make: Callable[[], Any] = problems.double_wells,
    **more: Any,
) -> hs.SurveyResult:
    options = dataclasses.replace(options, workers=1, threads=1)
    return hs.run_survey(make, folder, options, executor=executor, **more)


def stamps(folder: Path) -> dict[str, int]:
    """When each record was written."""
    return {path.stem: path.stat().st_mtime_ns for path in folder.glob("*_*.h5")}


def table_rows(result: hs.SurveyResult) -> list[dict[str, Any]]:
    return hs.load_records(result).to_dict("records")


# --- starts --------------------------------------------------------------------------------------


def runs_of(sizes: list[int], n: int) -> list[list[Source]]:
    """Trajectories whose points say by their values which they are."""
    return [
        [source(torch.full((n,), 10.0 * r + p), f"run{r}/{p}") for p in range(size)]
        for r, size in enumerate(sizes)
    ]


def test_trajectory_starts_follow_the_protocol() -> None:
    """Each run is as likely as another, whatever its length, and each amplitude likewise."""
    n, count = 40, 600
    options = StudyOptions(trajectory=count, uniform=0, seed=3)
    drawn = [start.draw(n) for start in make_starts(options, runs_of([2, 8], n), ())]
    amplitudes = np.array([about["start"]["amplitude"] for _, about in drawn])
    for amplitude in options.amplitudes:
        # Four standard errors of a binomial share of one quarter.
        share = float(np.mean(amplitudes == amplitude))
        assert abs(share - 0.25) < 4 * np.sqrt(0.25 * 0.75 / count)
    first = np.array([about["start"]["source"].startswith("run0") for _, about in drawn])
    assert abs(first.mean() - 0.5) < 4 * np.sqrt(0.25 / count)
    names = {about["start"]["source"] for _, about in drawn}
    assert len(names) == 10
    for theta, about in drawn:
        run, point = about["start"]["source"].removeprefix("run").split("/")
        noise = (theta - (10.0 * int(run) + int(point))).numpy() / about["start"]["amplitude"]
        assert np.abs(noise).max() <= 1 + 1e-9
        # Uniform in ±1: mean 0 and variance 1/3, whose estimates have these standard errors.
        assert abs(noise.mean()) < 5 * np.sqrt(1 / 3 / n)
        assert abs(np.mean(noise**2) - 1 / 3) < 5 * np.sqrt(4 / 45 / n)


def test_uniform_starts_fill_their_range() -> None:
    starts = make_starts(uniform(50, range=(-0.5, 2.0)), (), ())
    values = np.concatenate([start.draw(100)[0].numpy() for start in starts])
    assert values.min() >= -0.5
    assert values.max() <= 2.0
    assert abs(values.mean() - 0.75) < 5 * 2.5 / np.sqrt(12 * len(values))
    assert len(np.unique(values)) == len(values)


def test_more_searches_leave_the_others_as_they_are() -> None:
    few = make_starts(StudyOptions(trajectory=2, uniform=3), runs_of([3], 5), ())
    many = make_starts(StudyOptions(trajectory=9, uniform=7), runs_of([3], 5), ())
    others = {start.name: start.draw(5) for start in many}
    for start in few:
        theta, about = start.draw(5)
        assert torch.equal(theta, others[start.name][0])
        assert about == others[start.name][1]
    seeds = [about["seed"] for _, about in others.values()]
    assert len(set(seeds)) == len(seeds)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: StudyOptions(trajectory=-1), "`trajectory=-1`: give a whole number"),
        (lambda: StudyOptions(amplitudes=()), "give numbers"),
        (lambda: StudyOptions(range=(1.0, 1.0)), "the lower one first"),
        (lambda: make_starts(StudyOptions(trajectory=5), (), ()), "no trajectory"),
        (lambda: make_starts(uniform(0), (), ()), "no searches"),
        (
            lambda: make_starts(uniform(0), (), [source([1.0])])[0].draw(3),
            "1 parameters",
        ),
        (lambda: StudyOptions(workers=0), "`workers=0`"),
    ],
)
def test_what_cannot_work_is_refused(make: Callable[[], Any], words: str) -> None:
    with pytest.raises(OptionError, match=words):
        make()


# --- results -------------------------------------------------------------------------------------


def test_double_wells_are_found_with_their_index(tmp_path: Path, here: Executor) -> None:
    """Critical points are 0.3 + {−1, 0, 1}³: index and loss count the zeros.

    Every search ends at one of them, certified, and the record holds it.
    """
    result = run(tmp_path / "study", uniform(25, range=(-1.5, 1.5)), here)
    assert result.statuses == {"converged": 25}
    assert result.certified == 25
    assert (result.computed, result.missing, result.interrupted) == (25, 0, False)
    rows = table_rows(result)
    assert {row["index"] for row in rows} >= {0, 1, 2}
    for row in rows:
        assert row["loss"] == pytest.approx(row["index"] / 4, abs=1e-12)
        assert row["alpha"] == pytest.approx(row["index"] / 3)
        record = hs.load_record(row["path"])
        assert record.kind == "critical point"
        point = hs.CriticalPoint.from_record(record)
        places = point.parameters - problems.CENTRE
        rounded = places.round()
        np.testing.assert_allclose(places, rounded, atol=1e-8)
        assert int((rounded == 0).sum()) == row["index"]
        start = record.arrays["start_parameters"]
        assert np.abs(start).max() <= 1.5
        assert record.attributes["origin"] == "uniform"
        assert record.attributes["start"] == {"kind": "uniform", "low": -1.5, "high": 1.5}
    table = hs.load_records(tmp_path / "study")
    assert len(table) == 25
    assert table["certified"].all()
    assert list(table["index"]) == [row["index"] for row in rows]
    # Up to permutations and signs there are four points at most.
    assert len(hs.tables.distinct_points(table)) == len({row["index"] for row in rows})


def test_a_search_on_other_machines_takes_one_thread(
    tmp_path: Path, here: Executor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What cores this machine has says nothing about those of the executor."""
    monkeypatch.setattr("hessscope.surveys.loop.available_cores", lambda: 16)
    hs.run_survey(problems.double_wells, tmp_path, uniform(1, workers=2), executor=here)
    (row,) = hs.load_records(tmp_path)["path"]
    assert hs.load_record(row).attributes["torch_threads"] == 1


def test_one_search_at_a_time_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hessscope.surveys.loop.available_cores", lambda: 16)
    on_gpu = SimpleNamespace(parameters=SimpleNamespace(device=torch.device("cuda")))
    assert default_workers(on_gpu) == 1
    assert default_workers(problems.double_wells()) == 16


def test_the_plan_fits_into_memory_for_each_of_the_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = []

    class Watched(hs.HessianOperator):
        def __init__(self, *given: Any, memory: int | None = None, **more: Any) -> None:
            limits.append(memory)
            super().__init__(*given, memory=memory, **more)

    free = SimpleNamespace(available=8_000_000_000)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: free)
    ways = SimpleNamespace(find=lambda name: Watched)
    monkeypatch.setattr("hessscope.surveys.loop.PRODUCTS", ways)
    monkeypatch.setattr("hessscope.surveys.loop.LocalProcesses", ThreadPoolExecutor)
    hs.run_survey(problems.double_wells, tmp_path, uniform(1, workers=4, threads=1))
    (limit,) = limits
    assert memory_room(limit, torch.device("cpu")) == pytest.approx(0.8 * 2e9, rel=0.05)


def test_own_starts_are_taken_as_they_are(tmp_path: Path, here: Executor) -> None:
    given = [source([1.2, 0.4, -0.6], "a"), source([0.4, 0.4, 0.4], "b")]
    result = run(tmp_path, uniform(0), here, starts=given)
    found = [hs.load_record(row["path"]) for row in table_rows(result)]
    np.testing.assert_array_equal(found[0].arrays["start_parameters"], [1.2, 0.4, -0.6])
    np.testing.assert_allclose(found[0].arrays["parameters"], [1.3, 0.3, -0.7], atol=1e-8)
    np.testing.assert_allclose(found[1].arrays["parameters"], [0.3] * 3, atol=1e-8)
    assert [r.attributes["start"]["source"] for r in found] == ["a", "b"]
    assert [row["origin"] for row in table_rows(result)] == ["user", "user"]


def test_gradient_flat_ends_are_kept_and_counted(tmp_path: Path, here: Executor) -> None:
    result = run(tmp_path, uniform(3), here, problems.slope)
    assert result.statuses == {"gradient_flat": 3}
    assert result.certified == 0
    table = hs.load_records(tmp_path)
    assert list(table["status"]) == ["gradient_flat"] * 3
    np.testing.assert_allclose(table["gradient_norm"], 1.0, atol=1e-3)


def test_failed_searches_are_kept_and_done_again_on_request(tmp_path: Path, here: Executor) -> None:
    options = uniform(12)
    result = run(tmp_path, options, here, problems.broken_wells)
    failed = result.statuses["failed"]
    assert 0 < failed < 12
    assert len(result.outcomes) == 12
    row = next(a for a in result.outcomes.values() if a["status"] == "failed")
    assert row["error_message"] == "ValueError: no such place"
    assert "raise ValueError" in row["traceback"]
    table = hs.load_records(tmp_path)
    assert len(table) == 12
    assert (table["status"] == "failed").sum() == failed
    again = run(tmp_path, options, here, problems.broken_wells)
    assert again.computed == 0
    again_failed = dataclasses.replace(options, retry_failed=True)
    mended = run(tmp_path, again_failed, here, problems.double_wells)
    assert mended.computed == failed
    assert mended.statuses == {"converged": 12}


def test_autoencoder_points_are_those_of_the_closed_form(tmp_path: Path, here: Executor) -> None:
    """(loss, index) of every end is one of the 11 of Baldi & Hornik, and all 11 are found.

    Uniform starts fall where they like; one start near each of the points finds this one. All
    Hessians are singular, and each is certified in the quotient by the verified symmetries.
    """
    points = problems.autoencoder_points()
    known = {(round(p.loss, 9), p.index, p.nullity) for p in points}
    assert len(known) == 11
    # Of the same data, so that the points are those of the one risk.
    rng = np.random.default_rng(0)
    near = [
        source(p.risk().parameters + torch.from_numpy(rng.normal(0, 0.01, 16)), str(p.chosen))
        for p in points
    ]
    result = run(
        tmp_path,
        uniform(12, range=(-1.5, 1.5)),
        here,
        problems.linear_autoencoder,
        starts=near,
    )
    assert result.statuses == {"converged": 23}
    assert result.certified == 23
    found = [(round(r["loss"], 9), r["index"], r["degeneracy"]) for r in table_rows(result)]
    assert set(found) == known
    table = hs.load_records(tmp_path)
    forms = [(p.loss, p.index / 16) for p in points]
    axes = hs.figures.plot_epsilon_alpha(table, closed_form=forms)
    drawn = [c.get_offsets() for c in axes.collections if c.get_gid() == "closed form"]
    assert len(drawn) == 1
    assert len(drawn[0]) == 11


# --- going on ------------------------------------------------------------------------------------


def test_a_study_goes_on_and_repeats_nothing(tmp_path: Path, here: Executor) -> None:
    seen: list[str] = []
    told: list[tuple[str, int, int]] = []

    def progress(stage: str, done: int, total: int) -> None:
        told.append((stage, done, total))

    run(tmp_path, uniform(4), here)
    before = stamps(tmp_path)
    assert len(before) == 4
    result = run(
        tmp_path, uniform(7, progress=progress), here, watch=lambda name, _: seen.append(name)
    )
    after = stamps(tmp_path)
    assert result.computed == 3
    assert len(result.outcomes) == 7
    assert {name: after[name] for name in before} == before
    assert seen == ["uniform_0005", "uniform_0006", "uniform_0007"]
    assert told == [("searches", done, 3) for done in range(4)]


def test_order_and_resumption_do_not_change_a_bit(tmp_path: Path, here: Executor) -> None:
    run(tmp_path / "whole", uniform(5, seed=2), here)
    run(tmp_path / "parts", uniform(2, seed=2), here)
    run(tmp_path / "parts", uniform(5, seed=2), here)
    run(tmp_path / "other", uniform(5, seed=3), here)
    for path in sorted((tmp_path / "whole").glob("*.h5")):
        one, two = hs.load_record(path), hs.load_record(tmp_path / "parts" / path.name)
        np.testing.assert_array_equal(one.arrays["parameters"], two.arrays["parameters"])
        assert one.attributes["seed"] == two.attributes["seed"]
        other = hs.load_record(tmp_path / "other" / path.name)
        assert not np.array_equal(one["start_parameters"], other["start_parameters"])


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"seed": 1}, r"seed 0, and now it is 1"),
        ({"range": (-1, 2.0)}, r"range \[-1.0, 1.0\], and now it is \[-1.0, 2.0\]"),
        (
            {"max_iterations": 7},
            r"search.max_iterations \d+, and now it is 7",
        ),
    ],
)
def test_another_configuration_is_refused(
    tmp_path: Path, here: Executor, changed: dict[str, Any], words: str
) -> None:
    run(tmp_path, uniform(1), here)
    before = stamps(tmp_path)
    with pytest.raises(OptionError, match=words):
        run(tmp_path, uniform(1, **changed), here)
    assert stamps(tmp_path) == before
    run(tmp_path, uniform(1, **changed, overwrite=True), here)
    assert stamps(tmp_path) != before


def test_another_network_or_start_is_refused(tmp_path: Path, here: Executor) -> None:
    run(
        tmp_path,
        uniform(0),
        here,
        starts=[source([1.0, 1.0, 1.0], "a", "x")],
    )
    with pytest.raises(OptionError, match=r"starts \[.x.\]"):
        run(
            tmp_path,
            uniform(0),
            here,
            starts=[source([2.0, 1.0, 1.0], "a", "y")],
        )
    with pytest.raises(OptionError, match="parameters 3, and now it is 1"):
        run(
            tmp_path,
            uniform(0),
            here,
            problems.slope,
            starts=[source([1.0], "a", "x")],
        )


def test_a_damaged_record_is_done_again(tmp_path: Path, here: Executor) -> None:
    run(tmp_path, uniform(3), here)
    path = tmp_path / "uniform_0002.h5"
    path.write_bytes(path.read_bytes()[:100])
    assert run(tmp_path, uniform(3), here).computed == 1
    assert len(hs.load_records(tmp_path)) == 3


def test_foreign_files_stay(tmp_path: Path, here: Executor) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    run(tmp_path, uniform(2), here)
    run(tmp_path, uniform(1, overwrite=True), here)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "notes.txt", "study.json", "uniform_0001.h5",
    ]  # fmt: skip
    (tmp_path / "study.json").write_text("{}")
    with pytest.raises(RecordError, match="not the configuration of a study"):
        run(tmp_path, uniform(1), here)


def test_ctrl_c_keeps_what_has_ended(tmp_path: Path, here: Executor) -> None:
    seen: list[str] = []

    def watch(name: str, _: Any) -> None:
        seen.append(name)
        if len(seen) == 3:
            raise KeyboardInterrupt

    result = run(tmp_path, uniform(8), here, watch=watch)
    assert result.interrupted
    assert 3 <= len(result.outcomes) < 8
    assert result.missing == 8 - len(result.outcomes)
    before = stamps(tmp_path)
    assert set(before) == set(result.outcomes)
    whole = run(tmp_path, uniform(8), here)
    assert whole.computed == 8 - len(before)
    assert len(whole.outcomes) == 8
    after = stamps(tmp_path)
    assert {name: after[name] for name in before} == before


# --- processes -----------------------------------------------------------------------------------


def test_a_process_that_dies_loses_only_its_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mark makes one process die once: the search is begun again, and none is lost."""
    mark = tmp_path / "mark"
    mark.touch()
    monkeypatch.setenv(problems.MARK, str(mark))
    options = uniform(8, workers=1, threads=1)
    result = hs.run_survey(problems.deadly_wells, tmp_path / "study", options)
    assert not mark.exists()
    assert result.statuses == {"converged": 8}


@pytest.mark.slow
def test_a_search_that_kills_its_process_is_given_up(tmp_path: Path) -> None:
    deadly, harmless = source([1.2, 0.4, 0.4], "deadly"), source([-0.6, 0.4, 0.4], "harmless")
    result = hs.run_survey(
        problems.fatal_wells,
        tmp_path,
        uniform(0, workers=1, threads=1),
        starts=[deadly, harmless],
    )
    assert [row["status"] for row in table_rows(result)] == ["failed", "converged"]
    messages = [a["error_message"] for a in result.outcomes.values() if a["status"] == "failed"]
    assert len(messages) == 1
    assert "ended in the middle of its work" in messages[0]


def test_a_damaged_configuration_is_refused(tmp_path: Path, here: Executor) -> None:
    run(tmp_path, uniform(1), here)
    path = tmp_path / "study.json"
    path.write_text(path.read_text().replace('"seed": 0', '"seed": 1'))
    with pytest.raises(RecordError, match="does not match its checksum"):
        run(tmp_path, uniform(1), here)


def test_a_function_that_cannot_be_sent_is_refused(tmp_path: Path) -> None:
    objective = problems.double_wells()
    with pytest.raises(OptionError, match="at the top of a module"):
        hs.run_survey(lambda: objective, tmp_path, uniform(1, workers=1))


SCRIPT = """
import sys
import hessscope as hs
import survey_problems
if __name__ == "__main__":
    options = hs.StudyOptions(trajectory=0, uniform=40, workers=2, threads=1)
    hs.run_survey(survey_problems.slow_wells, sys.argv[1], options)
"""


@pytest.mark.slow
def test_a_survey_killed_again_and_again_ends_complete(tmp_path: Path) -> None:
    """SIGKILL at random moments, of the whole program and of its processes: none of 40 is lost.

    No record is ever written again, no half-written file counts, and no process is left behind.
    """
    script, study = tmp_path / "script.py", tmp_path / "study"
    script.write_text(SCRIPT)
    rng = np.random.default_rng(0)
    written: dict[str, int] = {}
    kills = 0
    for attempt in range(30):
        before = len(stamps(study)) if study.is_dir() else 0
        process = subprocess.Popen(
            [sys.executable, script, study], env=_environment(), start_new_session=True
        )
        deadline = time.monotonic() + 240
        goal = before + int(rng.integers(3, 12))
        while process.poll() is None and time.monotonic() < deadline:
            now = stamps(study) if study.is_dir() else {}
            if attempt < 4 and len(now) >= goal and len(now) < 40:
                time.sleep(float(rng.uniform(0, 0.1)))
                children = psutil.Process(process.pid).children(recursive=True)
                if attempt % 2 == 0:
                    process.kill()
                    kills += 1
                    process.wait()
                    _, alive = psutil.wait_procs(children, timeout=60)
                    assert not alive
                    break
                workers = [c for c in children if "spawn_main" in " ".join(c.cmdline())]
                workers[0].kill()
                kills += 1
                goal = 99
            time.sleep(0.02)
        now = stamps(study)
        assert {name: now[name] for name in written} == written
        written = now
        if process.returncode == 0:
            break
    assert kills >= 2
    assert process.returncode == 0
    assert sorted(written) == [f"uniform_{k:04d}" for k in range(1, 41)]
    assert sorted(p.name for p in study.iterdir() if p.suffix not in (".h5", ".json")) in (
        [], [p.name for p in study.iterdir() if p.name.startswith(".")],
    )  # fmt: skip
    table = hs.load_records(study)
    assert list(table["status"]) == ["converged"] * 40


def _environment() -> dict[str, str]:
    paths = [str(REPOSITORY), str(REPOSITORY / "cli"), str(REPOSITORY / "tests")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}


# --- Dask ----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_dask_cluster_and_a_worker_that_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real scheduler and two workers; one is killed, and no search is lost or done twice."""
    distributed = pytest.importorskip("distributed")
    for name, value in _environment().items():
        monkeypatch.setenv(name, value)
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
    ) as cluster:
        seen: list[str] = []

        def watch(name: str, _: Any) -> None:
            seen.append(name)
            if len(seen) == 4:
                os.kill(next(iter(cluster.workers.values())).pid, signal.SIGKILL)

        with connect_dask(cluster.scheduler_address) as (executor, slots):
            assert slots == 2
            result = hs.run_survey(
                problems.slow_wells,
                tmp_path / "dask",
                uniform(16, workers=slots, threads=1),
                executor=executor,
                watch=watch,
            )
    assert result.statuses == {"converged": 16}
    assert sorted(seen) == [f"uniform_{k:04d}" for k in range(1, 17)]
    with ThreadPoolExecutor(1) as executor:
        same = run(tmp_path / "here", uniform(3), executor, problems.slow_wells)
    for row in table_rows(same):
        there = hs.load_record(tmp_path / "dask" / f"{row['name']}.h5")
        np.testing.assert_array_equal(
            there["start_parameters"], hs.load_record(row["path"])["start_parameters"]
        )
        assert there["loss"] == pytest.approx(row["loss"], abs=1e-12)


def test_a_scheduler_that_does_not_answer(unused_tcp: int) -> None:
    pytest.importorskip("distributed")
    with (
        pytest.raises(NoWorkerError, match="no Dask scheduler answers"),
        connect_dask(f"tcp://127.0.0.1:{unused_tcp}", timeout=0.5),
    ):
        pass


@pytest.fixture
def unused_tcp() -> int:
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


class _Lost(Executor):
    """A cluster that gives up everything after the first call."""

    def __init__(self) -> None:
        self.calls = 0

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        from concurrent.futures import Future

        future: Future[Any] = Future()
        self.calls += 1
        if self.calls == 1:
            future.set_result(fn(*args, **kwargs))
        else:
            future.cancel()
            future.set_running_or_notify_cancel()
        return future


def test_a_lost_cluster_keeps_what_has_ended(tmp_path: Path) -> None:
    with pytest.raises(WorkerError, match="the same command resumes"):
        run(tmp_path, uniform(5), _Lost())
    assert len(stamps(tmp_path)) <= 1
    with ThreadPoolExecutor(1) as executor:
        assert len(run(tmp_path, uniform(5), executor).outcomes) == 5


# --- the command ---------------------------------------------------------------------------------


def test_command_trains_searches_reports_and_goes_on(run: Run, work: Path) -> None:
    command = functools.partial(
        run, "survey", "--model", "mlp:6-2-3:tanh", "--data", "data.npz", "--l2", "0.05",
        "--train", 1, "--epochs", 2, "--uniform", 2, "--workers", 1, "--quiet",
    )  # fmt: skip
    first: Outcome = command("--trajectory", 2, "--json", "--plot", "plot.svg")
    assert first.code == 0, first.err
    answer = first.json
    assert answer["searches"] == answer["ended"] == answer["computed"] == 4
    assert sum(answer["statuses"].values()) == 4
    assert answer["certified"] == sum(answer["certified_by_origin"].values())
    assert 0 < answer["distinct"] <= answer["certified"]
    assert answer["parameters"] == 6 * 2 + 2 + 2 * 3 + 3
    assert Path(answer["figure"]).read_text("utf-8").startswith("<?xml")
    assert Path("study_runs/epoch_2.pt").is_file()
    table = hs.load_records("study")
    assert sorted(table["origin"]) == ["trajectory"] * 2 + ["uniform"] * 2
    assert table["architecture"].notna().all()
    record = hs.load_record("study/trajectory_0001.h5")
    assert "study_runs" in record.attributes["start"]["source"]
    before = stamps(Path("study"))
    second = command("--trajectory", 3)
    assert second.code == 0, second.err
    assert "1 now" in second.out
    after = stamps(Path("study"))
    assert {name: after[name] for name in before} == before
    assert len(after) == 5
    other = command("--trajectory", 3, "--seed", 5)
    assert other.code == 2
    assert stamps(Path("study")) == after


def test_ctrl_c_during_the_training_says_how_to_go_on(
    run: Run, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stopped:
        interrupted = True

    def stopped(request: Any, *_: object) -> Stopped:
        Path(request.out).mkdir()
        return Stopped()

    monkeypatch.setattr("hessscope.pipeline.surveys.run_training", stopped)
    base = ("survey", "--model", "mlp:6-2-3:tanh", "--data", "data.npz", "--train", 1)
    outcome = run(*base)
    assert outcome.code == 130
    assert "what was trained is in study_runs: rerun the command to resume" in outcome.err
    assert outcome.err.splitlines()[-1] == "error: interrupted"


def test_command_takes_starts_of_the_user(run: Run, work: Path) -> None:
    vector = np.random.default_rng(0).normal(size=43)
    np.save("own.npy", vector)
    done = run(
        "survey", "--starts", "model.pt", "--starts", "own.npy", "--data", "data.npz",
        "--activation", "tanh", "--l2", "0.05", "--uniform", 0, "--workers", 1, "--quiet", "--json",
    )  # fmt: skip
    assert done.code in (0, 3), done.err
    assert done.json["searches"] == 2
    own = hs.load_record("study/user_0002.h5")
    np.testing.assert_array_equal(own["start_parameters"], vector)


def test_command_refuses_changed_code(run: Run, work: Path) -> None:
    Path("my.py").write_text("def f(outputs, targets):\n    return (outputs**2).mean(1)\n")
    command = functools.partial(
        run, "survey", "--starts", "model.pt", "--data", "data.npz", "--activation", "tanh",
        "--loss", "my.py:f", "--uniform", 0, "--max-iterations", 1, "--workers", 1, "--quiet",
    )  # fmt: skip
    assert command().code in (0, 3)
    assert command().code in (0, 3)
    before = stamps(Path("study"))
    Path("my.py").write_text("def f(outputs, targets):\n    return (outputs**4).mean(1)\n")
    refused = command()
    assert refused.code == 2
    assert "loss_code_sha256" in refused.error
    assert stamps(Path("study")) == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--data", "data.npz"], "no network"),
        (["--data", "data.npz", "--train", 1], "no network to train"),
        (["run", "--data", "data.npz"], "run"),
        (["--starts", "model.pt", "--data", "data.npz", "--range", "1"], "--range 1"),
        (["--starts", "model.pt", "--data", "data.npz", "--method", "newtn"], "newtn"),
        (["--starts", "model.pt", "--data", "data.npz", "--workers", "0"], "--workers 0"),
        (["--starts", "model.pt", "--data", "data.npz", "--amplitudes", "a"], "--amplitudes a"),
        (["--starts", "model.pt", "--data", "data.npz", "--plot", "a.gif"], "gif"),
        (["--starts", "model.pt", "--data", "data.npz", "--plot", "data.npz"], "is the data"),
        (
            [
                "--starts",
                "study_runs/epoch_1.pt",
                "--data",
                "data.npz",
                "--train",
                1,
                "--overwrite",
            ],
            "would replace study_runs/epoch_1.pt",
        ),
    ],
)
def test_command_refuses_what_cannot_work(
    run: Run, work: Path, arguments: list[Any], words: str
) -> None:
    refused = run("survey", *arguments, "--quiet")
    assert refused.code in (1, 2)
    assert words in refused.error
    assert not Path("study").exists()


def test_configuration_is_readable_by_anyone(tmp_path: Path, here: Executor) -> None:
    run(tmp_path, uniform(1), here)
    content = json.loads((tmp_path / "study.json").read_text("utf-8"))
    assert content["format"] == "hessscope study"
    assert content["configuration"]["search"]["method"] == "newton"
    assert content["configuration"]["objective"]["parameters"] == 3
