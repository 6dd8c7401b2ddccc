"""Work is never lost: what cannot be written is refused before it, and a figure comes last."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import hessscope as hs
from cli_runs import Run

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
        (("--seed", 12345678901234567890123), "seed is 12345678901234567890123"),
        (("--memory", "1e30GB"), "memory = 1000000000"),
        (("--out", os.fsdecode(b"mod\xe8le.h5")), "record = 'mod"),
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
