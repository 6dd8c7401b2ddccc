"""Runs that are killed or interrupted go on from their saved state, and end with the same bits."""

from __future__ import annotations

import errno
import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import hessscope as hs
from hessscope.errors import HessscopeWarning, RecordError
from hessscope.linalg.lanczos import Lanczos, LanczosRecurrence, gaussian
from hessscope.loaders.user_code import digest_of
from hessscope.operators import MatrixOperator
from hessscope.options.spectrum import SpectrumOptions
from hessscope.pipeline import spectrum_runs
from hessscope.pipeline.problems import open_problem
from hessscope.records import Store, lock

KILLS = 20

# Every step takes 10 ms longer and every state is saved, so that a kill meets all of them.
SLOWLY = """
import sys, time
from hessscope.operators import HessianOperator
from hessscope.records import Store, lock
apply, offer = HessianOperator.apply, Store.offer
def slow_apply(self, vectors):
    time.sleep(0.01)
    return apply(self, vectors)
def slow_offer(self, name, state, *, last=False):
    self.every = 0.0
    return offer(self, name, state, last=last)
HessianOperator.apply, Store.offer = slow_apply, slow_offer
from hessscope_cli.main import run
run()
"""

PRODUCTS = ["--steps", "20", "--probes", "3", "--backend", "lanczos"]
EXACT = ["--backend", "exact"]


@pytest.fixture
def problem(tmp_path: Path) -> Path:
    """A convolutional network, so that the exact matrix takes products, too."""
    torch.manual_seed(3)
    model = nn.Sequential(
        nn.Conv2d(1, 3, 3),
        nn.Tanh(),
        nn.Flatten(),
        nn.Linear(3 * 36, 2),
        nn.Tanh(),
        nn.Linear(2, 3),
    )
    torch.save(model.state_dict(), tmp_path / "model.pt")
    (tmp_path / "net.py").write_text(
        "from torch import nn\n"
        "def net():\n"
        "    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.Tanh(), nn.Flatten(),\n"
        "        nn.Linear(3 * 36, 2), nn.Tanh(), nn.Linear(2, 3))\n"
    )
    rng = np.random.default_rng(0)
    np.savez(
        tmp_path / "data.npz",
        inputs=rng.normal(size=(40, 1, 8, 8)).astype(np.float32),
        targets=rng.integers(0, 3, 40),
    )
    return tmp_path


def start(folder: Path, out: str, options: list[str]) -> subprocess.Popen[str]:
    arguments = ["spectrum", "model.pt", "--model", "net.py:net", "--data", "data.npz"]
    return subprocess.Popen(
        [sys.executable, "-c", SLOWLY, *arguments, "--device", "cpu", "--out", out, *options],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def numbers(path: Path) -> dict[str, np.ndarray]:
    record = hs.load_record(path)
    return {**record.arrays, "hvps": np.array(record["hvps"]), "trace": np.array(record["trace"])}


def states(folder: Path) -> list[Path]:
    return list(folder.glob("*.partial/*.npz"))


def wait_for_state(folder: Path, process: subprocess.Popen[str], beyond: float) -> None:
    """Until a state is there that is newer than a time."""
    while process.poll() is None:
        try:
            if any(path.stat().st_mtime > beyond for path in states(folder)):
                return
        except FileNotFoundError:  # replaced in between
            pass
        time.sleep(0.005)


@pytest.mark.slow
@pytest.mark.parametrize("options", [PRODUCTS, EXACT], ids=["lanczos", "exact"])
def test_killed_runs_resume_and_give_the_identical_result(
    problem: Path, options: list[str]
) -> None:
    """Compared with a run that nothing interrupts, by the plan that the resumed run says it had.

    Plans are found by timing, so two runs may differ in them and hence in the last digit, killed or
    not. A resumed run that did not keep the plan of its beginning would agree with neither.
    """
    rng = np.random.default_rng(1)
    killed = 0
    for number in range(4 * KILLS):
        if killed == KILLS // 2:
            break
        out = f"resumed-{number}.h5"
        process = start(problem, out, options)
        wait_for_state(problem, process, 0.0)
        time.sleep(float(rng.uniform(0, 0.4)))
        process.send_signal(signal.SIGKILL)
        process.wait()
        if not states(problem):  # it had come to its end before
            continue
        killed += 1
        again = start(problem, out, options)
        _, errors = again.communicate(timeout=120)
        assert again.returncode == 0, errors
        whole = start(problem, f"whole-{number}.h5", [*options, "--plan", out])
        _, errors = whole.communicate(timeout=120)
        assert whole.returncode == 0, errors
        resumed, expected = numbers(problem / out), numbers(problem / f"whole-{number}.h5")
        assert resumed.keys() == expected.keys()
        for name, array in expected.items():
            np.testing.assert_array_equal(resumed[name], array, err_msg=name)
        assert not list(problem.glob("*.partial"))
    assert killed == KILLS // 2


def test_ctrl_c_saves_the_state_and_the_same_command_goes_on(problem: Path) -> None:
    process = start(problem, "result.h5", PRODUCTS)
    wait_for_state(problem, process, 0.0)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "stopping after this step" in errors
    (folder,) = problem.glob("*.partial")
    assert f"the state is in {folder.name}: rerun the command to resume" in errors
    assert errors.splitlines()[-1] == "error: interrupted"
    assert states(problem)
    assert not (problem / "result.h5").exists()
    again = start(problem, "result.h5", PRODUCTS)
    _, errors = again.communicate(timeout=120)
    assert again.returncode == 0, errors
    assert "resumes from the state" in errors
    # By the same plan: one found by timing may be another one, and so the last digit.
    fresh = start(problem, "fresh.h5", [*PRODUCTS, "--plan", "result.h5"])
    assert fresh.wait(120) == 0
    for name, array in numbers(problem / "fresh.h5").items():
        np.testing.assert_array_equal(numbers(problem / "result.h5")[name], array, err_msg=name)


@pytest.mark.slow
def test_another_job_does_not_find_the_state(problem: Path) -> None:
    process = start(problem, "result.h5", PRODUCTS)
    wait_for_state(problem, process, 0.0)
    process.send_signal(signal.SIGKILL)
    process.wait()
    (before,) = problem.glob("*.partial")
    other = start(problem, "other.h5", [*PRODUCTS, "--seed", "5"])
    _, errors = other.communicate(timeout=120)
    assert other.returncode == 0, errors
    assert "resumes" not in errors
    assert list(problem.glob("*.partial")) == [before]  # the other's is gone, this one stays


class Pressed(MatrixOperator):
    """A diagonal matrix, whose products are noisy; Ctrl-C is pressed during one of them."""

    def __init__(self, number: int, noisy: bool = False) -> None:
        super().__init__(torch.diag(torch.linspace(-1, 2, 60, dtype=torch.float64)))
        self.number, self.calls, self.noisy = number, 0, noisy

    def apply(self, vectors: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        if self.calls == self.number:
            signal.raise_signal(signal.SIGINT)
        return super().apply(vectors)

    def recomputed(self) -> MatrixOperator | None:
        return MatrixOperator(self._matrix * (1 + 1e-16)) if self.noisy else None


STEPS = 10
SAMPLED = hs.LanczosBackend(steps=STEPS, probes=4, together=2)  # three groups: 1 + 2 + 2 runs


@pytest.mark.parametrize("number", [1, STEPS, STEPS + 1, 2 * STEPS, 3 * STEPS - 1, 3 * STEPS])
def test_ctrl_c_in_any_step_stores_the_state(tmp_path: Path, number: int) -> None:
    saved, told = Store(tmp_path / "x.partial", 1e9), list[str]()
    pressed = Pressed(number)
    with pytest.raises(KeyboardInterrupt), saved.interrupts(told.append):
        SAMPLED.solve(pressed, saved=saved)
    assert pressed.calls == number  # the step under way was the last one
    assert len(told) == 1
    assert list((tmp_path / "x.partial").glob("*.npz"))
    again = SAMPLED.solve(Pressed(0), saved=Store(tmp_path / "x.partial", 1e9))
    np.testing.assert_array_equal(again.alphas, SAMPLED.solve(Pressed(0)).alphas)


def test_ctrl_c_after_the_last_step_does_not_wait_for_another(tmp_path: Path) -> None:
    saved, told = Store(tmp_path / "x.partial", 1e9), list[str]()
    pressed = Pressed(3 * STEPS + 1, noisy=True)
    with pytest.raises(KeyboardInterrupt), saved.interrupts(told.append):
        SAMPLED.solve(pressed, saved=saved)
    assert pressed.calls == 3 * STEPS + 1
    assert told == []


@pytest.mark.parametrize("edited", ["net.py", "loss.py"])
def test_changed_code_does_not_find_the_state(
    problem: Path, monkeypatch: pytest.MonkeyPatch, edited: str
) -> None:
    """Half of the matrix would come from the old function."""
    monkeypatch.chdir(problem)
    (problem / "loss.py").write_text("def f(outputs, targets):\n    return (outputs**2).mean(1)\n")
    options = SpectrumOptions(
        "model.pt", "data.npz", model="net.py:net", loss="loss.py:f", device="cpu",
        out=problem / "result.h5",
    )  # fmt: skip

    def folder() -> Path:
        folder = spectrum_runs._store(options, open_problem(options)).folder
        assert folder is not None
        return folder

    before = folder()
    assert folder() == before
    with (problem / edited).open("a") as file:
        file.write("# another\n")
    assert folder() != before


def test_digest_of_what_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "code_xyz.py").write_text("x = 1\n")
    expected = hashlib.sha256(b"x = 1\n").hexdigest()
    for named in ("code_xyz.py", Path("code_xyz.py"), "code_xyz.py:x", "code_xyz:x"):
        assert digest_of(named) == expected
    for nothing in (None, "mnist", "mlp:4-3-2:tanh", "nowhere.py:x", "no.where:x", "nowhere_xyz:x"):
        assert digest_of(nothing) is None
    assert digest_of(problem) != digest_of(states) is not None
    assert digest_of(nn.Tanh()) == digest_of(nn.Tanh)


@pytest.mark.parametrize("kind", [Lanczos, LanczosRecurrence])
def test_an_iteration_goes_on_from_any_step_bit_for_bit(
    kind: type[Lanczos] | type[LanczosRecurrence],
) -> None:
    values = torch.linspace(-1, 2, 60, dtype=torch.float64)[:, None]
    starts = gaussian(60, 3, 0, dtype=torch.float64, device=torch.device("cpu"))
    whole = kind(starts)
    whole.advance(lambda v: values * v, 25)
    for stop in (1, 7, 24):
        first = kind(starts)
        first.advance(lambda v: values * v, stop)
        second = kind(starts)
        second.restore(first.state())
        second.advance(lambda v: values * v, 25)
        for one, other in zip(second.runs(), whole.runs(), strict=True):
            np.testing.assert_array_equal(one.alphas, other.alphas)
            np.testing.assert_array_equal(one.betas, other.betas)


def test_only_what_is_missing_is_done_again(tmp_path: Path) -> None:
    """Finished groups of runs are stored with the state of the one under way, whatever its time."""
    backend = hs.LanczosBackend(steps=STEPS, probes=4, together=2)
    whole = backend.solve(Pressed(0))
    pressed = Pressed(2 * STEPS + 3)
    saved = Store(tmp_path / "x.partial", 1e9)
    with pytest.raises(KeyboardInterrupt), saved.interrupts(lambda told: None):
        backend.solve(pressed, saved=saved)
    again = Pressed(0)
    resumed = backend.solve(again, saved=Store(tmp_path / "x.partial", 1e9))
    assert again.calls == STEPS - 3
    assert resumed.hvps == whole.hvps
    for name, array in whole.to_record().arrays.items():
        np.testing.assert_array_equal(resumed.to_record().arrays[name], array, err_msg=name)


@pytest.mark.parametrize("backend", ["exact", "lanczos", "target"])
def test_what_comes_after_the_spectrum_does_not_lose_it(
    work: Path, monkeypatch: pytest.MonkeyPatch, backend: str
) -> None:
    """Ctrl-C while the zeros are explained: the same call computes no spectrum again."""
    options = {"activation": "tanh", "device": "cpu", "explain": True, "steps": 8, "probes": 2}
    options["backend"] = "exact" if backend == "exact" else "lanczos"
    if backend == "target":
        options |= {"target_width": 0.5, "budget": 100}
    whole = hs.spectrum("model.pt", "data.npz", out="whole.h5", **options)
    with monkeypatch.context() as patch:
        patch.setattr("hessscope.pipeline.spectrum_runs.explain_zeros", interrupted)
        with pytest.raises(KeyboardInterrupt):
            hs.spectrum("model.pt", "data.npz", out="r.h5", **options)
    with monkeypatch.context() as patch:
        for kind in (hs.ExactBackend, hs.LanczosBackend):
            patch.setattr(kind, "solve", interrupted)
        again = hs.spectrum("model.pt", "data.npz", out="r.h5", **options)
    assert again.result.hvps == whole.result.hvps
    assert again.result.options.keys() == {
        k for k, v in whole.result.options.items() if v is not None
    }
    for name, array in numbers(work / "whole.h5").items():
        np.testing.assert_array_equal(numbers(work / "r.h5")[name], array, err_msg=name)
    assert not list(work.glob("*.partial"))


def interrupted(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_no_damaged_state_is_used(tmp_path: Path) -> None:
    """Flips and lost ends of the file: each is seen, said, set aside, and never an error."""
    folder = tmp_path / "x.partial"
    path, rng = folder / "stage.npz", np.random.default_rng(0)
    state = {"a": np.arange(30.0), "b": np.array(3)}

    def make() -> Store:
        saved = Store(folder, 0.0)
        saved.offer("stage", lambda: state)
        return saved

    read = make().load("stage")
    assert read is not None
    for name, array in state.items():
        np.testing.assert_array_equal(read[name], array)
    assert make().load("nothing") is None
    whole = path.read_bytes()
    used = [i for i, byte in enumerate(whole) if byte or i >= 512]
    for kind in rng.integers(2, size=100):
        content, at = bytearray(whole), int(rng.choice(used))
        content[at] ^= 1 << int(rng.integers(8))
        path.write_bytes(content if kind else content[:at])
        with pytest.warns(HessscopeWarning, match=r"cannot be used .* as stage.npz.damaged"):
            assert make_only(folder).load("stage") is None
        assert not path.exists()


def make_only(folder: Path) -> Store:
    return Store(folder, 1e9)


@pytest.mark.parametrize("damaged", ["plan.h5", "lanczos-0-1-8.npz", "result.h5"])
def test_a_damaged_savepoint_costs_time_and_nothing_else(
    work: Path, monkeypatch: pytest.MonkeyPatch, damaged: str
) -> None:
    options = {"activation": "tanh", "device": "cpu", "steps": 8, "probes": 2}
    options |= {"backend": "lanczos", "explain": True}
    hs.spectrum("model.pt", "data.npz", out="whole.h5", **options)
    with monkeypatch.context() as patch:
        patch.setattr("hessscope.pipeline.spectrum_runs.explain_zeros", interrupted)
        with pytest.raises(KeyboardInterrupt):
            hs.spectrum("model.pt", "data.npz", out="r.h5", **options)
    (folder,) = work.glob("*.partial")
    path = folder / damaged
    path.write_bytes(path.read_bytes()[:-20])
    if damaged.startswith("lanczos"):
        (folder / "result.h5").unlink()  # else nobody looks at the runs
    with pytest.warns(HessscopeWarning) as caught:
        hs.spectrum("model.pt", "data.npz", out="r.h5", **options)
    assert f"{damaged} cannot be used" in str(caught[0].message)
    for name, array in numbers(work / "whole.h5").items():
        np.testing.assert_array_equal(numbers(work / "r.h5")[name], array, err_msg=name)


def test_a_full_disk_is_a_warning_and_the_run_continues(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every savepoint meets it, in the middle of the file; once it is said."""
    tried = []

    def full(stream: Any, **arrays: np.ndarray) -> None:
        tried.append(stream.name)
        stream.write(b"something")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(np, "savez", full)
    options = {"activation": "tanh", "device": "cpu", "steps": 8, "probes": 2}
    with pytest.warns(HessscopeWarning, match="No space left on device") as caught:
        hs.spectrum(
            "model.pt", "data.npz", out="r.h5", backend="lanczos", save_every=1e-9, **options
        )
    assert len(tried) > 8
    assert len([w for w in caught if "is not saved" in str(w.message)]) == 1
    assert hs.load_record("r.h5").kind == "spectral density"
    assert sorted(path.name for path in work.iterdir()) == ["data.npz", "model.pt", "r.h5"]


def test_one_process_a_job(tmp_path: Path) -> None:
    """Another one is refused while the first is at work, and only then."""
    folder = tmp_path / "x.partial"
    code = f"from pathlib import Path; from hessscope.records import Store\nwith Store(Path({str(folder)!r})).locked(): pass"  # noqa: E501

    def another() -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

    store = Store(folder)
    with store.locked():
        assert "another process is at work on this" in another().stderr
        with pytest.raises(RecordError, match="another process"), Store(folder).locked():
            pass
        assert folder.is_dir()
    assert not folder.exists()  # nothing was saved
    assert another().returncode == 0
    with store.locked():
        store.put("a", {"x": np.ones(2)})
    assert [path.name for path in folder.iterdir()] == ["a.npz"]


def test_a_share_of_the_time_is_spent_on_saving(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without an interval: the first state at once, the next after twenty times as long."""
    now = [0.0]
    monkeypatch.setattr("hessscope.records.store.time.monotonic", lambda: now[0])
    store, saved = Store(tmp_path / "x"), []

    def state() -> dict[str, np.ndarray]:
        saved.append(now[0])
        now[0] += 1.0
        return {}

    for _ in range(100):
        store.offer("stage", state)
        now[0] += 0.5
    assert saved[:3] == [0.0, 21.0, 42.0]


def test_one_process_a_series(work: Path) -> None:
    """Two would replace each other's record."""
    (work / "other.pt").write_bytes((work / "model.pt").read_bytes())
    arguments: dict[str, Any] = {"data": "data.npz", "activation": "tanh", "out": "all.h5"}
    with lock(work / ".all.h5.lock"), pytest.raises(RecordError, match="another process"):
        hs.spectrum_series(["model.pt", "other.pt"], **arguments)
    assert len(hs.spectrum_series(["model.pt", "other.pt"], **arguments).done) == 2
    assert not (work / ".all.h5.lock").exists()
