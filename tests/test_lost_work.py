"""Work is never lost: what cannot be written is refused before it, and a figure comes last."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import signal
import subprocess
import sys
import termios
from pathlib import Path

import numpy as np
import pytest
import torch

import hessscope as hs
from cli_runs import Run
from hessscope_cli import main

HESSSCOPE = (sys.executable, "-c", "from hessscope_cli.main import run; run()")
PROBLEM = ("--data", "data.npz", "--activation", "tanh", "--device", "cpu")


@pytest.fixture
def no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever would take long fails."""

    def begun(*_: object, **__: object) -> None:
        raise AssertionError("the work was begun")

    monkeypatch.setattr(hs.ExactBackend, "solve", begun)
    monkeypatch.setattr("hessscope.pipeline.refine_runs.run", begun)
    monkeypatch.setattr("hessscope.pipeline.sections.section_along", begun)
    monkeypatch.setattr("hessscope.backends.EigenvectorBackend.solve", begun)
    monkeypatch.setattr("hessscope.pipeline.training_runs.train", begun)


@pytest.mark.usefixtures("no_work")
@pytest.mark.parametrize("command", ["spectrum", "refine", "section", "series"])
@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--seed", 12345678901234567890123), "seed"),
        (("--memory", "1e30GB"), "memory"),
        (("--out", os.fsdecode(b"mod\xe8le.h5")), "= 'mod"),
    ],
    ids=["seed", "memory", "name of the record"],
)
def test_what_the_record_cannot_hold(
    run: Run, work: Path, command: str, options: tuple[object, ...], named: str
) -> None:
    if command == "section" and options[0] == "--memory":
        pytest.skip("section has no such option")
    places = ["model.pt"]
    if command == "series":
        (work / "other.pt").write_bytes((work / "model.pt").read_bytes())
        places.append("other.pt")
    name = "spectrum" if command == "series" else command
    outcome = run(name, *places, *PROBLEM, *options, "-q")
    assert outcome.code in (1, 2)
    assert named in outcome.error


@pytest.mark.usefixtures("no_work")
@pytest.mark.parametrize("command", ["spectrum", "refine", "section"])
def test_the_name_of_a_checkpoint_that_is_not_utf8(run: Run, work: Path, command: str) -> None:
    named = os.fsdecode(b"mod\xe8le.pt")
    (work / named).write_bytes((work / "model.pt").read_bytes())
    outcome = run(command, named, *PROBLEM, "--out", "r.h5", "-q")
    assert outcome.code == 1
    assert "checkpoint = 'mod" in outcome.error


@pytest.mark.usefixtures("no_work")
@pytest.mark.parametrize("command", ["spectrum", "refine"])
def test_a_surrogate_in_the_name_of_a_parameter(run: Run, work: Path, command: str) -> None:
    class Odd(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = torch.nn.Linear(6, 4), torch.nn.Linear(4, 3)
            self.register_parameter("a\udcff", torch.nn.Parameter(torch.zeros(1)))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.second(torch.tanh(self.first(x))) + getattr(self, "a\udcff")

    torch.save(Odd().state_dict(), "odd.pt")
    data = np.load(work / "data.npz")
    pair = (data["inputs"], data["targets"])
    compute = hs.spectrum if command == "spectrum" else hs.refine_checkpoint
    with pytest.raises(hs.HessscopeError, match="a record cannot hold parameter_names"):
        compute("odd.pt", pair, model=Odd, out="r.h5", device="cpu")


FIGURES = {
    "spectrum": ("model.pt", *PROBLEM),
    "refine": ("model.pt", *PROBLEM, "--l2", 0.1),
    "section": ("model.pt", *PROBLEM, "--resolution", 3),
    "series": ("model.pt", "other.pt", *PROBLEM),
    "survey": (
        "model.pt", *PROBLEM, "--l2", 0.1, "--method", "sfn", "--trajectory", 0, "--uniform", 1,
        "--workers", 1,
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    "command",
    [pytest.param(c, marks=pytest.mark.slow) if c == "survey" else c for c in FIGURES],
)
def test_a_figure_that_fails_leaves_the_record(
    run: Run, work: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """All results are there and shown; the figure alone is missing, and the exit code says so."""

    def fails(*_: object, **__: object) -> None:
        raise RuntimeError("no such font")

    (work / "other.pt").write_bytes((work / "model.pt").read_bytes())
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", fails)
    name = "spectrum" if command == "series" else command
    outcome = run(name, *FIGURES[command], "--plot", "f.png", "--json", "-q")
    assert outcome.code == 1
    assert "the figure f.png cannot be drawn (RuntimeError: no such font)" in outcome.error
    assert outcome.json
    (record,) = (work / "study").glob("*.h5") if command == "survey" else work.glob("*.h5")
    assert hs.load_record(record).attributes["provenance"]
    assert not list(work.rglob("*f.png*"))
    assert not list(work.glob("*.partial"))


def test_a_backend_that_matplotlib_does_not_know_is_named_before_the_work(work: Path) -> None:
    done = subprocess.run(
        [*HESSSCOPE, "spectrum", "model.pt", *PROBLEM, "--plot", "f.png", "-q"],
        cwd=work, capture_output=True, text=True, env={**os.environ, "MPLBACKEND": "nonsense"},
    )  # fmt: skip
    assert done.returncode == 2
    assert "MPLBACKEND is 'nonsense': unset it, or set it to agg" in done.stderr
    assert sorted(path.name for path in work.iterdir()) == ["data.npz", "model.pt"]


@pytest.mark.parametrize("error", [ImportError, AttributeError, RuntimeError])
def test_a_file_needs_no_window(
    run: Run, work: Path, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    """What an unusable backend (module://os) raises depends on the backend."""

    def fails(*_: object, **__: object) -> None:
        raise error("no window")

    monkeypatch.setattr("matplotlib.pyplot.figure", fails)
    assert run("spectrum", "model.pt", *PROBLEM, "--plot", "f.png", "-q").code == 0
    assert (work / "f.png").is_file()


STOPPED = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}
LANCZOS = ("spectrum", "model.pt", *PROBLEM, "--backend", "lanczos", "--steps", 8, "--probes", 2)


def stopped(monkeypatch: pytest.MonkeyPatch, number: int, *arguments: object, after: int) -> int:
    """The exit code of a command that gets a signal during a product."""
    calls, apply = iter(range(10**6)), hs.HessianOperator.apply

    def apply_and_signal(self: hs.HessianOperator, vectors: torch.Tensor) -> torch.Tensor:
        if next(calls) == after:
            signal.raise_signal(number)
        return apply(self, vectors)

    with monkeypatch.context() as patch:
        patch.setattr(hs.HessianOperator, "apply", apply_and_signal)
        with pytest.raises(SystemExit) as left:
            main.run([str(argument) for argument in arguments])
    return int(left.value.code or 0)


@pytest.mark.parametrize("number", STOPPED)
def test_every_signal_saves_like_ctrl_c(
    run: Run, work: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    before = [signal.getsignal(each) for each in STOPPED]
    assert stopped(monkeypatch, number, *LANCZOS, "--out", "r.h5", after=12) == STOPPED[number]
    assert [signal.getsignal(each) for each in STOPPED] == before
    assert list(work.glob("*.partial/lanczos-*.npz"))
    assert "resumes from the state" in run(*LANCZOS, "--out", "r.h5").err
    assert run(*LANCZOS, "--out", "whole.h5").code == 0
    for name, array in hs.load_record("whole.h5").arrays.items():
        np.testing.assert_array_equal(hs.load_record("r.h5").arrays[name], array, err_msg=name)


def test_what_is_ignored_stays_ignored(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert stopped(monkeypatch, signal.SIGHUP, *LANCZOS, "--out", "r.h5", after=12) == 0
    finally:
        signal.signal(signal.SIGHUP, before)
    assert (work / "r.h5").is_file()


@pytest.mark.slow
def test_a_closed_terminal_is_no_error(work: Path) -> None:
    """Its notes go nowhere; the state is saved, and the exit code is that of the signal."""
    leader, terminal = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", SLOWLY, *map(str, LANCZOS), "--out", "r.h5"],
        cwd=work, stdin=terminal, stdout=terminal, stderr=terminal, start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )  # fmt: skip
    os.close(terminal)
    for _ in range(600):
        if (work / "working").exists():
            break
        with contextlib.suppress(OSError):
            os.read(leader, 1000) if select.select([leader], [], [], 0.1)[0] else None
    os.close(leader)
    assert process.wait(60) == 129
    assert list(work.glob("*.partial/lanczos-*.npz"))


@pytest.mark.parametrize(
    ("kills", "only"),
    [
        (2, ["lanczos", "refine"]),
        pytest.param(20, [], marks=pytest.mark.slow, id="all commands"),
    ],
)
def test_killed_commands_end_with_the_identical_result(
    tmp_path: Path, kills: int, only: list[str]
) -> None:
    """The first rows of the study, or twenty of all its commands."""
    arguments = ["rows.csv", "--kills", str(kills), *(["--only", *only] if only else [])]
    done = subprocess.run(
        [sys.executable, "-m", "studies.kills", *arguments],
        cwd=tmp_path, capture_output=True, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    counts = json.loads(done.stdout.splitlines()[-1])
    assert counts["kills"] >= kills
    assert counts["identical"] == counts["kills"], done.stderr


SLOWLY = """
import time
from hessscope.operators import HessianOperator
apply, calls = HessianOperator.apply, iter(range(10**6))
def slow(self, vectors):
    if next(calls) == 12: open("working", "w").close()
    time.sleep(0.2)
    return apply(self, vectors)
HessianOperator.apply = slow
from hessscope_cli.main import run
run()
"""
