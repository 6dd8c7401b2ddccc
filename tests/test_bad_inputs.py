"""Bad inputs: one line that says what is wrong, exit code 1 or 2, nothing written or damaged."""

from __future__ import annotations

import os
import pickle
import re
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import hessscope as hs
from cli_runs import (
    LOSS_WITH_HIDDEN_SECOND_DERIVATIVE,
    LOSS_WITHOUT_SECOND_DERIVATIVE,
    Run,
    arrays,
    listing,
    network,
)

MODEL = ("--activation", "tanh")
SPECTRUM = ("spectrum", "model.pt", "--data", "data.npz", *MODEL)


@pytest.fixture
def work(work: Path) -> Path:
    write_bad_checkpoints(work)
    write_bad_data(work)
    write_bad_code(work)
    return work


class Payload:
    """Makes the file ``it_ran`` when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch it_ran",)


def write_bad_checkpoints(folder: Path) -> None:
    good = (folder / "model.pt").read_bytes()
    (folder / "empty.pt").write_bytes(b"")
    (folder / "truncated.pt").write_bytes(good[: len(good) // 2])
    (folder / "text.pt").write_text("epoch 1: loss 2.31\nepoch 2: loss 1.94\n")
    (folder / "folder.pt").mkdir()
    (folder / "hostile.pt").write_bytes(pickle.dumps(Payload()))
    torch.save({"state_dict": network().state_dict(), "extra": Payload()}, folder / "sneaky.pt")
    weights = network().state_dict()
    weights["0.weight"][1, 2] = float("nan")
    torch.save(weights, folder / "nan.pt")
    torch.save(nn.Sequential(nn.Conv2d(1, 2, 3)).state_dict(), folder / "convolution.pt")
    torch.save({"epoch": 3, "loss": 0.1}, folder / "no_weights.pt")
    wide = nn.Sequential(nn.Linear(6, 90), nn.Tanh(), nn.Linear(90, 3))
    torch.save(wide.state_dict(), folder / "wide.pt")


def write_bad_data(folder: Path) -> None:
    good = arrays()
    inputs, targets = good["inputs"], good["targets"]
    with_nan = inputs.copy()
    with_nan[4, 2] = np.nan
    np.savez(folder / "nan.npz", inputs=with_nan, targets=targets)
    np.savez(folder / "none.npz", inputs=inputs[:0], targets=targets[:0])
    np.savez(folder / "range.npz", inputs=inputs, targets=targets + 1)
    np.savez(folder / "negative.npz", inputs=inputs, targets=targets - 1)
    np.savez(folder / "narrow.npz", inputs=inputs[:, :5], targets=targets)
    np.savez(folder / "unequal.npz", inputs=inputs, targets=targets[:-1])
    np.savez(folder / "unlabelled.npz", inputs=inputs)
    np.savez(folder / "named.npz", a=inputs, b=targets)
    (folder / "images").mkdir()
    (folder / "empty.npz").write_bytes(b"")
    (folder / "text.npz").write_text("not an archive")


def write_bad_code(folder: Path) -> None:
    (folder / "net.py").write_text(
        "import torch\n"
        "from torch import nn\n"
        "def good():\n"
        "    return nn.Sequential(nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 3))\n"
        "def other():\n"
        "    return nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3))\n"
        "def raises():\n"
        "    raise RuntimeError('no such\\nluck')\n"
        "def needs(width):\n"
        "    return good()\n"
        "def text():\n"
        "    return 'a network'\n"
        "def random():\n"
        "    return Random()\n"
        "class Random(nn.Sequential):\n"
        "    def __init__(self):\n"
        "        super().__init__(nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 3))\n"
        "    def forward(self, x):\n"
        "        return super().forward(x + torch.rand_like(x))\n"
        "number = 3\n"
    )
    (folder / "broken.py").write_text("def make(:\n    pass\n")
    (folder / "losses.py").write_text(
        "import torch\n"
        "def matrix(outputs, targets):\n"
        "    return outputs\n"
        "def number(outputs, targets):\n"
        "    return 1.0\n"
        "def total(outputs, targets):\n"
        "    return torch.nn.functional.cross_entropy(outputs, targets, reduction='sum')\n"
        "def raises(outputs, targets):\n"
        "    raise KeyError('classes')\n"
        "def infinite(outputs, targets):\n"
        "    return (outputs.sum(1) * 0).log()\n"
        "constant = 4\n"
    )


def data(source: object) -> tuple[object, ...]:
    return ("spectrum", "model.pt", "--data", source, *MODEL)


def checkpoint(path: object, *more: object) -> tuple[object, ...]:
    return ("spectrum", path, "--data", "data.npz", *more)


CASES: dict[str, tuple[tuple[object, ...], int, str]] = {
    # checkpoints
    "missing file": (checkpoint("absent.pt"), 1, r"absent\.pt"),
    "empty file": (checkpoint("empty.pt"), 1, r"empty\.pt.*empty"),
    "truncated zip": (checkpoint("truncated.pt"), 1, r"truncated\.pt"),
    "text file": (checkpoint("text.pt"), 1, r"text\.pt"),
    "a folder": (checkpoint("folder.pt"), 1, r"folder\.pt.*folder"),
    "hostile pickle": (checkpoint("hostile.pt"), 1, r"hostile\.pt.*--trust"),
    "hostile beside weights": (checkpoint("sneaky.pt"), 1, r"sneaky\.pt.*--trust"),
    "no weights": (checkpoint("no_weights.pt"), 1, r"no_weights\.pt"),
    "NaN in the weights": (checkpoint("nan.pt", *MODEL), 1, r"0\.weight.*[Nn]a[Nn]|NaN.*0\.weight"),
    "not inferable": (checkpoint("convolution.pt"), 1, r"--model file\.py:factory"),
    # architectures
    "wrong architecture": (
        checkpoint("model.pt", "--model", "net.py:other"), 1, r"0\.weight.*\(4, 6\).*\(5, 6\)",
    ),
    "wrong layer sizes": (checkpoint("model.pt", "--model", "mlp:6-5-3:tanh"), 1, r"6-4-3"),
    "file with a syntax error": (
        checkpoint("model.pt", "--model", "broken.py:make"), 1, r"broken\.py, line 1: SyntaxError",
    ),
    "factory that raises": (
        checkpoint("model.pt", "--model", "net.py:raises"),
        1, r"line 8: RuntimeError: no such luck",
    ),
    "factory with arguments": (
        checkpoint("model.pt", "--model", "net.py:needs"), 1, r"width.*without arguments",
    ),
    "factory of something else": (checkpoint("model.pt", "--model", "net.py:text"), 1, r"str"),
    "not a factory": (checkpoint("model.pt", "--model", "net.py:number"), 1, r"int, not a model"),
    "unknown factory": (
        checkpoint("model.pt", "--model", "net.py:goood"), 2, r"Did you mean 'good'\?",
    ),
    "missing model file": (checkpoint("model.pt", "--model", "nets.py:good"), 2, r"nets\.py"),
    "model without a name": (checkpoint("model.pt", "--model", "net.py"), 2, r"file\.py:factory"),
    "malformed mlp": (checkpoint("model.pt", "--model", "mlp:6-x-3"), 2, r"mlp:784-25-10:relu"),
    "not deterministic": (
        checkpoint("model.pt", "--model", "net.py:random"), 1, r"random|deterministic",
    ),
    # data
    "no data said": (("spectrum", "model.pt"), 2, r"--data mnist"),
    "missing data file": (data("absent.npz"), 1, r"absent\.npz"),
    "empty data file": (data("empty.npz"), 1, r"empty\.npz"),
    "text as data": (data("text.npz"), 1, r"text\.npz"),
    "wrong input shape": (data("narrow.npz"), 1, r"\(5,\).*file\.py:factory"),
    "labels too large": (data("range.npz"), 1, r"1 to 3.*labels 0 to 2"),
    "negative labels": (data("negative.npz"), 1, r"-1 to 1"),
    "NaN in the data": (data("nan.npz"), 1, r"inputs has 1 of 360.*example 4"),
    "no examples": (data("none.npz"), 1, r"none\.npz: there are no examples"),
    "unequal lengths": (data("unequal.npz"), 1, r"60 inputs but 59 targets"),
    "no targets": (data("unlabelled.npz"), 1, r"--targets inputs"),
    "other array names": (data("named.npz"), 1, r"inputs.*targets"),
    "data factory unknown": (data("net.py:dats"), 2, r"dats"),
    "data factory raises": (data("net.py:raises"), 1, r"line 8: RuntimeError: no such luck"),
    "data factory of nothing": (data("net.py:text"), 1, r"str"),
    "unknown data": (data("mnits"), 2, r"'mnits'.*Did you mean 'mnist'\?"),
    "folder as data": (data("images"), 1, r"is a folder"),
    "split that is not there": ((*SPECTRUM, "--split", "test"), 1, r"test"),
    # losses
    "loss of the wrong shape": ((*SPECTRUM, "--loss", "losses.py:matrix"), 1, r"one value for"),
    "loss that is no tensor": ((*SPECTRUM, "--loss", "losses.py:number"), 1, r"float"),
    "loss that is a sum": ((*SPECTRUM, "--loss", "losses.py:total"), 1, r"not a mean"),
    "loss that raises": ((*SPECTRUM, "--loss", "losses.py:raises"), 1, r"KeyError.*classes"),
    "loss that is no function": ((*SPECTRUM, "--loss", "losses.py:constant"), 2, r"int, not a f"),
    "loss that is infinite": ((*SPECTRUM, "--loss", "losses.py:infinite"), 1, r"inf|nan"),
    "loss for other outputs": ((*SPECTRUM, "--loss", "bce", "--targets", "inputs"), 1, r"shape"),
    # names
    "unknown loss": ((*SPECTRUM, "--loss", "mes"), 2, r"'mes'.*Did you mean 'mse'\?"),
    "unknown backend": ((*SPECTRUM, "--backend", "lanzcos"), 2, r"Did you mean 'lanczos'\?"),
    "unknown activation": (
        ("spectrum", "model.pt", "--data", "data.npz", "--activation", "thanh"),
        2, r"Did you mean 'tanh'\?",
    ),
    "unknown preset": ((*SPECTRUM, "--preset", "sankar2018"), 2, r"Did you mean 'sankar2017'\?"),
    "unknown dtype": ((*SPECTRUM, "--dtype", "float46"), 2, r"Did you mean 'float64'\?"),
    "dtype of another kind": ((*SPECTRUM, "--dtype", "float16"), 2, r"Known: float64, float32"),
    "unknown split": ((*SPECTRUM, "--split", "trian"), 2, r"Did you mean 'train'\?"),
    "unknown device": ((*SPECTRUM, "--device", "gpu"), 2, r"'gpu'.*cpu"),
    "unknown normalization": ((*SPECTRUM, "--normalize", "centre"), 2, r"Did you mean 'center'\?"),
    "unknown targets": ((*SPECTRUM, "--targets", "input"), 2, r"Did you mean 'inputs'\?"),
    "unknown option": ((*SPECTRUM, "--tolerence", "1"), 2, r"--tolerence.*--tolerance"),
    "unknown command": (("spectrm", "model.pt"), 2, r"spectrm.*spectrum"),
    "unknown figure format": ((*SPECTRUM, "--plot", "figure.pgn"), 2, r"Did you mean '\.?png'\?"),
    # numbers
    "negative tolerance": ((*SPECTRUM, "--tolerance", -1), 2, r"-1.*at least 0"),
    "tolerance NaN": ((*SPECTRUM, "--tolerance", "nan"), 2, r"nan.*at least 0"),
    "tolerance infinite": ((*SPECTRUM, "--tolerance", "inf"), 2, r"inf.*at least 0"),
    "tolerance of letters": ((*SPECTRUM, "--tolerance", "small"), 2, r"--tolerance.*small"),
    "negative l2": ((*SPECTRUM, "--l2", "-0.5"), 2, r"--l2 -0\.5.*at least 0"),
    "l2 NaN": ((*SPECTRUM, "--l2", "nan"), 2, r"--l2 nan"),
    "l2 infinite": ((*SPECTRUM, "--l2", "inf"), 2, r"--l2 inf"),
    "subset of nothing": ((*SPECTRUM, "--subset", 0), 2, r"--subset 0.*at least 1"),
    "subset of too many": ((*SPECTRUM, "--subset", 61), 1, r"61 .*60 examples"),
    "no steps": ((*SPECTRUM, "--steps", 0), 2, r"steps 0: .*at least 1"),
    "no probes": ((*SPECTRUM, "--probes", 0), 2, r"probes 0: .*at least 1"),
    "negative seed": ((*SPECTRUM, "--seed", -1), 2, r"seed -1: give a whole number of at least 0"),
    "resize of vectors": ((*SPECTRUM, "--resize", 10), 2, r"resize|image"),
    "malformed resize": ((*SPECTRUM, "--resize", "10xx"), 2, r"10x12"),
    "malformed normalization": ((*SPECTRUM, "--normalize", "0.5"), 2, r"0\.1307/0\.3081"),
    "no memory": ((*SPECTRUM, "--memory", "0"), 2, r"--memory 0: .*4GB"),
    "malformed memory": ((*SPECTRUM, "--memory", "4 apples"), 2, r"4 apples.*4GB"),
    # outputs
    "existing record": ((*SPECTRUM, "--out", "old.png"), 2, r"old\.png exists.*--overwrite"),
    "existing figure": ((*SPECTRUM, "--plot", "old.png"), 2, r"old\.png exists.*--overwrite"),
    "record that is a folder": ((*SPECTRUM, "--out", "folder.pt"), 1, r"is a folder"),
    "record in a missing folder": ((*SPECTRUM, "--out", "new/r.h5"), 1, r"no folder new"),
    "figure in a missing folder": ((*SPECTRUM, "--plot", "new/f.png"), 1, r"no folder new"),
    "record over the checkpoint": (
        (*SPECTRUM, "--out", "model.pt", "--overwrite"), 2, r"model\.pt is the checkpoint",
    ),
    "figure over the data": (
        (*SPECTRUM, "--plot", "./data.npz", "--overwrite"), 2, r"data\.npz is the data",
    ),
    "one name for both": ((*SPECTRUM, "--out", "x.png", "--plot", "x.png"), 2, r"another output"),
    "figure of pyhessian": (
        (*SPECTRUM, "--plot", "f.png", "--backend", "pyhessian"), 2, r"leave out --plot",
    ),
    # memory
    "matrix does not fit": (
        checkpoint("wide.pt", *MODEL, "--backend", "exact", "--memory", "1MB"),
        1, r"needs .* kB, and 0 kB are left of --memory 1 MB.*give more --memory",
    ),
    "basis does not fit": (
        checkpoint(
            "wide.pt", *MODEL, "--backend", "lanczos", "--memory", "0.5MB",
            "--reorthogonalize", "full",
        ),
        1, r"needs .* kB, and 0 kB are left of --memory 500 kB .*--dtype float32",
    ),
    # inspect
    "inspect a missing file": (("inspect", "absent.pt"), 1, r"absent\.pt"),
    "inspect a hostile file": (("inspect", "hostile.pt"), 1, r"--trust"),
    "inspect with bad labels": (
        ("inspect", "model.pt", "--data", "range.npz", *MODEL), 1, r"labels 0 to 2",
    ),
    "inspect where the loss is infinite": (
        ("inspect", "model.pt", "--data", "data.npz", *MODEL, "--loss", "losses.py:infinite"),
        1, r"loss is -?inf",
    ),
    "inspect with an unknown dtype": (("inspect", "model.pt", "--dtype", "f"), 2, r"float64"),
    # demo
    "demo in a file": (("demo", "--folder", "data.npz"), 1, r"data\.npz.*--folder"),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore::hessscope.errors.HessscopeWarning")
@pytest.mark.parametrize("name", CASES)
def test_one_line_and_nothing_written(run: Run, work: Path, name: str) -> None:
    arguments, code, expected = CASES[name]
    (work / "old.png").write_bytes(b"precious")
    before = listing(work)
    outcome = run(*arguments, "--quiet")
    assert outcome.code == code, outcome.err
    assert outcome.out == ""
    assert re.search(expected, outcome.error), outcome.err
    assert "Traceback" not in outcome.err
    assert "unexpected" not in outcome.error
    assert listing(work) == before
    assert not (work / "it_ran").exists()


def test_json_is_asked_for_and_something_is_wrong(run: Run, work: Path) -> None:
    outcome = run("spectrum", "absent.pt", "--data", "data.npz", "--json")
    assert (outcome.code, outcome.out) == (1, "")
    assert "absent.pt" in outcome.error


def test_debug_shows_where(run: Run, work: Path) -> None:
    outcome = run("spectrum", "absent.pt", "--data", "data.npz", "--debug")
    assert outcome.code == 1
    assert "Traceback" in outcome.err
    assert outcome.err.splitlines()[-1].startswith("error: ")


def test_errors_nobody_thought_of_are_one_line_too(
    run: Run, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise ZeroDivisionError("division\nby zero")

    monkeypatch.setattr(hs.ExactBackend, "solve", fails)
    outcome = run(*SPECTRUM, "--quiet")
    assert outcome.code == 1
    assert "unexpected ZeroDivisionError: division by zero (--debug shows where)" in outcome.error


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes"),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9.00 GiB."),
        MemoryError(),
    ],
)
def test_out_of_memory_says_what_to_do(
    run: Run, work: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(hs.ExactBackend, "solve", fails)
    outcome = run(*SPECTRUM, "--quiet")
    assert outcome.code == 1
    assert "--backend lanczos" in outcome.error


def test_loss_without_second_derivative_is_refused(run: Run, work: Path) -> None:
    (work / "once.py").write_text(LOSS_WITHOUT_SECOND_DERIVATIVE)
    before = listing(work)
    outcome = run(*SPECTRUM, "--loss", "once.py:loss", "--quiet")
    assert outcome.code == 1
    assert "differentiated twice" in outcome.error
    assert listing(work) == before


@pytest.mark.parametrize("backend", ["exact", "lanczos"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_hidden_second_derivative_is_warned_of(
    run: Run, work: Path, backend: str, dtype: str
) -> None:
    (work / "once.py").write_text(LOSS_WITH_HIDDEN_SECOND_DERIVATIVE)
    chosen = ("--loss", "once.py:loss", "--backend", backend, "--dtype", dtype)
    assert "hides its second derivative" in run(*SPECTRUM, *chosen).err


def test_options_are_refused_before_files_are_read(run: Run, work: Path) -> None:
    """A wrong name is not worth a download."""
    for wrong in (
        ("--loss", "mes"), ("--dtype", "f"), ("--device", "gpu"), ("--l2", -1), ("--subset", 0),
        ("--tolerance", -1), ("--backend", "exat"), ("--memory", "x"), ("--plot", "x.pgn"),
    ):  # fmt: skip
        outcome = run("spectrum", "absent.pt", "--data", "absent.npz", *wrong)
        assert outcome.code == 2, outcome.err
        assert str(wrong[1]).removeprefix("x") in outcome.error


# --- full and read-only disks ------------------------------------------------------------------


@contextmanager
def small_files() -> Iterator[None]:
    """No file may grow beyond 2 kB: writing fails late, as on a disk that fills up.

    Only around the run itself, for the limit holds for the file that pytest's report goes to, too.
    """
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2048, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_disk_that_fills_up(run: Run, work: Path) -> None:
    """The result is shown, since it took long, but nothing half-written stays behind."""
    before = listing(work)
    with small_files():
        outcome = run(*SPECTRUM, "--json", "--quiet")
    assert outcome.code == 1
    assert "cannot write model.spectrum.h5" in outcome.error
    assert "--out" in outcome.error
    assert outcome.json["record"] is None
    assert listing(work) == before


def mounted(work: Path, *options: str) -> Path:
    """A mounted folder; skips where mounting is not allowed."""
    folder = work / "disk"
    folder.mkdir()
    done = subprocess.run(["mount", *options, str(folder)], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"cannot mount: {done.stderr.strip()}")
    return folder


@pytest.mark.skipif(sys.platform != "linux", reason="mounts as on Linux")
def test_full_disk(run: Run, work: Path) -> None:
    disk = mounted(work, "-t", "tmpfs", "-o", "size=16k", "tmpfs")
    try:
        with (disk / "filler").open("wb", buffering=0) as filler:
            try:
                while filler.write(b"x" * 4096):
                    pass
            except OSError:
                pass
        outcome = run("spectrum", "absent.pt", "--data", "data.npz", "--out", disk / "r.h5")
        assert outcome.code == 1
        assert "No space left" in outcome.error  # and that before anything was read
        assert [path.name for path in disk.iterdir()] == ["filler"]
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.skipif(sys.platform != "linux", reason="mounts as on Linux")
def test_read_only_disk(run: Run, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = mounted(work, "-t", "tmpfs", "-o", "ro", "tmpfs")
    try:
        outcome = run("spectrum", "absent.pt", "--data", "data.npz", "--out", disk / "r.h5")
        assert outcome.code == 1
        assert "Read-only" in outcome.error
        monkeypatch.chdir(disk)
        assert "Read-only" in run("spectrum", work / "model.pt", "--data", "digits").error
        assert "Read-only" in run("demo").error
    finally:
        monkeypatch.chdir(work)
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="there is no /proc")
def test_folder_that_takes_no_files(run: Run, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = run("spectrum", "absent.pt", "--data", "data.npz", "--out", "/proc/r.h5")
    assert outcome.code == 1
    assert "/proc" in outcome.error
    monkeypatch.chdir("/proc")
    outcome = run("spectrum", work / "model.pt", "--data", work / "data.npz")
    assert outcome.code == 1
    assert "cannot write" in outcome.error


@pytest.mark.skipif(os.name == "posix" and os.geteuid() == 0, reason="root may write anywhere")
def test_folder_without_permission(run: Run, work: Path) -> None:
    locked = work / "locked"
    locked.mkdir(mode=0o500)
    outcome = run("spectrum", "absent.pt", "--data", "data.npz", "--out", locked / "r.h5")
    assert outcome.code == 1
    assert "Permission denied" in outcome.error
