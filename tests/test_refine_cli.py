"""``hessscope refine`` as a user and a script meet it, and what it leaves on disk."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from rich.console import Console
from torch import nn

import hessscope as hs
from cli_runs import (
    EXAMPLES,
    LOSS_WITH_HIDDEN_SECOND_DERIVATIVE,
    LOSS_WITHOUT_SECOND_DERIVATIVE,
    PARAMETERS,
    Run,
    arrays,
    listing,
    network,
)
from conftest import REPOSITORY
from hessscope.errors import HessscopeWarning, RecordError
from hessscope.refinement.search import first_state
from hessscope.reports.figures import plot_trace
from hessscope_cli import search_display, terminal

L2 = 0.01
# From the fixed weights of ``network`` Newton's method converges within some ten steps.
BASE = (
    "refine", "model.pt", "--data", "data.npz", "--activation", "tanh", "--device", "cpu",
    "--l2", L2,
)  # fmt: skip
HESSSCOPE = (sys.executable, "-c", "from hessscope_cli.main import run; run()")
FIXED = {
    "status": str, "method": str, "iterations": int, "loss": float, "gradient_norm": float,
    "gradient_norm_start": float, "certificate": dict, "index": dict, "degeneracy": dict,
    "alpha": float, "checkpoint": str, "record": str,
}  # fmt: skip
TRACE = ("loss", "gradient_norm", "step_length", "damping", "index", "parameter_norm", "hvps")

#: A loss like cross_entropy that takes its time where SLOW says so.
SLOW_LOSS = """
import os, time
import torch.nn.functional as F

def loss(outputs, targets):
    time.sleep(float(os.environ.get("SLOW", "0")))
    return F.cross_entropy(outputs, targets)
"""


def derivatives(weights: dict[str, torch.Tensor]) -> tuple[float, float, np.ndarray]:
    """Loss, ‖∇L‖ and eigenvalues of the Hessian by autograd alone, without hessscope."""
    model = network().double()
    model.load_state_dict(weights)
    names, parameters = zip(*model.named_parameters(), strict=True)
    data = {k: torch.from_numpy(v) for k, v in arrays().items()}
    shapes = [p.shape for p in parameters]

    def loss(theta: torch.Tensor) -> torch.Tensor:
        parts = theta.split([p.numel() for p in parameters])
        named = {n: t.view(s) for n, t, s in zip(names, parts, shapes, strict=True)}
        outputs = torch.func.functional_call(model, named, data["inputs"].double())
        return F.cross_entropy(outputs, data["targets"]) + L2 / 2 * theta @ theta

    theta = torch.cat([p.detach().flatten() for p in parameters]).requires_grad_(True)
    value = loss(theta)
    (gradient,) = torch.autograd.grad(value, theta)
    hessian = torch.autograd.functional.hessian(loss, theta)
    return float(value), float(gradient.norm()), torch.linalg.eigvalsh(hessian).numpy()


# --- What comes out ------------------------------------------------------------------------------


def test_converges_and_writes_what_it_says(run: Run, work: Path) -> None:
    """The numbers agree with autograd at the weights in the refined checkpoint."""
    outcome = run(*BASE, "--plot", "trace.png", "--json")
    assert outcome.code == 0, outcome.err
    result = outcome.json
    for key, kind in FIXED.items():
        assert isinstance(result[key], kind), key
    assert result["status"] == "converged"
    assert result["method"] == "newton"
    assert (result["checkpoint"], result["record"]) == ("model.refined.pt", "model.refine.h5")
    assert (result["parameters"], result["examples"]) == (PARAMETERS, EXAMPLES)

    weights = torch.load("model.refined.pt", weights_only=True)
    assert list(weights) == list(network().state_dict())
    loss, norm, eigenvalues = derivatives(weights)
    assert result["loss"] == pytest.approx(loss, rel=1e-13)
    assert norm < 1e-13
    assert result["gradient_norm"] < 1e-13
    start = derivatives(network().state_dict())
    assert result["loss_start"] == pytest.approx(start[0], rel=1e-12)
    assert result["gradient_norm_start"] == pytest.approx(start[1], rel=1e-12)
    assert result["index"]["estimate"] == np.sum(eigenvalues < -1e-10)
    assert result["degeneracy"]["estimate"] == np.sum(np.abs(eigenvalues) <= 1e-10)
    assert result["alpha"] == result["index"]["estimate"] / PARAMETERS
    assert result["lambda_min"] == pytest.approx(eigenvalues[0], rel=1e-10)
    certificate = result["certificate"]
    assert certificate["level"] == "kantorovich"
    assert certificate["certified"] is True
    assert certificate["boundary_distance"] is None  # infinite: tanh has no kinks

    record = hs.load_record("model.refine.h5")
    assert record.kind == "critical point"
    for name in TRACE:
        assert len(record[f"trace/{name}"]) == result["iterations"] + 1, name
    assert record["trace/loss"][0] == result["loss_start"]
    assert record["trace/gradient_norm"][-1] == result["gradient_norm"]
    assert math.isnan(record["trace/step_length"][0])
    assert np.allclose(record["spectrum/eigenvalues"], eigenvalues, rtol=0, atol=1e-13)
    flat = torch.cat([w.flatten() for w in weights.values()])
    assert np.array_equal(record["parameters"], flat.numpy())
    for key in FIXED.keys() - {"certificate"}:
        assert record.attributes[key] == result[key], key
    assert record.attributes["options"]["l2"] == L2
    assert record.attributes["provenance"]["version_torch"] == torch.__version__
    assert record.attributes["parameter_names"] == tuple(network().state_dict())
    again = hs.CriticalPoint.from_record(record)
    assert again.diagnosis == result["diagnosis"]
    assert again.certificate.radius == certificate["radius"]

    assert (work / "trace.png").read_bytes().startswith(b"\x89PNG")
    assert not list(work.glob("*.partial"))


def test_terminal_output_says_all_that_matters(run: Run, work: Path) -> None:
    outcome = run(*BASE)
    assert outcome.code == 0
    for words in ("1.09861", "converged", "kantorovich", "within", "index", "saddle"):
        assert words in outcome.out
    lines = outcome.err.splitlines()
    header = next(i for i, line in enumerate(lines) if line.split()[:2] == ["iteration", "loss"])
    first = lines[header + 1].split()
    assert first[0] == "0"
    assert float(first[1]) == pytest.approx(1.04924742, rel=1e-8)
    assert "checkpoint: model.refined.pt" in lines
    assert "record: model.refine.h5" in lines
    assert any("written in float64" in line for line in lines)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((), "(twice what the distance"),
        (("--tolerance", "1e-9"), "1e-09  (given)"),
    ],
)
def test_the_source_of_the_tolerance_is_said(
    run: Run, work: Path, options: tuple[str, ...], words: str
) -> None:
    """By default it allows for the distance to the critical point, here above the noise floor."""
    outcome = run(*BASE, *options, "--quiet")
    (line,) = [line for line in outcome.out.splitlines() if line.startswith("tolerance τ")]
    assert words in line


def test_quiet_says_only_the_result(run: Run, work: Path) -> None:
    outcome = run(*BASE, "--quiet", "--json", "--max-iterations", 2)
    assert outcome.err == ""
    assert outcome.json["iterations"] == 2


def test_live_table_shows_the_last_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    console = Console(stderr=True, force_terminal=True, width=100, record=True)
    monkeypatch.setattr(terminal, "STDERR", console)
    function = hs.FunctionObjective(lambda t: (t**4).sum() + t[0] * t[1], [1.0, 2.0])
    state = first_state(function)
    with search_display.search_display(quiet=False) as shown:
        shown["progress"]("assembly", 0, 10)
        hs.refine(function, max_iterations=3, observer=shown["observer"])
        shown["progress"]("assembly", 10, 10)
    text = console.export_text()
    assert "‖∇L‖" in text
    assert f"{state.trace[0].loss:.9g}" in text


def test_numbered_outputs_and_explicit_ones(run: Run, work: Path) -> None:
    few = (*BASE, "--max-iterations", 1, "--quiet", "--json")
    for mark in ("", "-2"):
        result = run(*few).json
        assert result["record"] == f"model.refine{mark}.h5"
        assert result["checkpoint"] == f"model.refined{mark}.pt"
    before = listing(work)
    for option, name in (("--out", "model.refine.h5"), ("--save", "model.refined.pt")):
        outcome = run(*BASE, option, name)
        assert outcome.code == 2
        assert "exists; give --overwrite" in outcome.error
    assert listing(work) == before
    outcome = run(*few, "--out", "model.refine.h5", "--save", "mine.pt", "--overwrite")
    assert outcome.json["checkpoint"] == "mine.pt"
    assert hs.load_record("model.refine.h5").attributes["checkpoint"] == "mine.pt"


def test_refined_checkpoint_opens_as_the_critical_point_that_it_is(run: Run, work: Path) -> None:
    torch.save({"epoch": 9, "state_dict": network().state_dict()}, "nested.pt")
    refined = run("refine", "nested.pt", *BASE[2:], "--json").json
    assert torch.load("nested.refined.pt", weights_only=True)["epoch"] == 9
    spectrum = run("spectrum", "nested.refined.pt", *BASE[2:], "--json").json
    for key in ("classification", "index", "degeneracy"):
        assert spectrum[key] == refined[key]
    assert spectrum["loss"] == refined["loss"]
    assert refined["checkpoint_sha256"] == spectrum["checkpoint_sha256"]


def test_keep_dtype_warns_that_the_point_is_lost(run: Run, work: Path) -> None:
    minimum = (*BASE, "--method", "sfn", "--json")  # the saddle at the origin rounds to itself
    wide = run(*minimum)
    narrow = run(*minimum, "--keep-dtype")
    assert wide.json["gradient_norm_rounded"] == narrow.json["gradient_norm_rounded"]
    assert narrow.json["gradient_norm_rounded"] > 1e-9 > wide.json["gradient_norm"]
    assert "does not hold the point" in narrow.err
    assert "does not hold the point" in narrow.json["warnings"][-1]
    assert torch.load("model.refined-2.pt", weights_only=True)["0.weight"].dtype == torch.float32
    assert torch.load("model.refined.pt", weights_only=True)["0.weight"].dtype == torch.float64


def test_python_call_is_the_same_as_the_command(run: Run, work: Path) -> None:
    by_command = run(*BASE, "--json").json
    before = listing(work)
    report = hs.refine_checkpoint(
        "model.pt", "data.npz", activation="tanh", device="cpu", l2=L2, method="newton"
    )
    assert listing(work) == before
    by_call = report.as_dict()
    for key in ("loss", "gradient_norm", "iterations", "index", "certificate", "status"):
        assert by_call[key] == by_command[key], key


def test_every_json_key_is_documented(work: Path) -> None:
    page = (REPOSITORY / "docs" / "refine-command.md").read_text("utf-8")
    for backend in ("exact", "lanczos"):
        report = hs.refine_checkpoint(
            "model.pt", "data.npz", activation="tanh",
            max_iterations=1, backend=backend, steps=5,
        )  # fmt: skip
        assert [key for key in report.as_dict() if f"`{key}`" not in page] == []


# --- Statuses and going on -----------------------------------------------------------------------


def same_search(one: hs.Record, other: hs.Record, *spent: str) -> None:
    """Bit for bit, but for the times (and what else was spent)."""
    assert one.arrays.keys() == other.arrays.keys()
    for name, array in one.arrays.items():
        if name not in ("trace/seconds", *spent):
            assert np.array_equal(array, other[name], equal_nan=True), name
    for name in ("loss", "gradient_norm", "index", "certificate", "classification", "iterations"):
        mine, theirs = one.attributes[name], other.attributes[name]
        assert repr(mine) == repr(theirs), name  # by their texts, since NaN differs from itself


def test_not_converged_is_exit_code_3_with_all_results(run: Run, work: Path) -> None:
    outcome = run(*BASE, "--max-iterations", 3, "--json")
    assert outcome.code == 3
    assert outcome.json["status"] == "max_iterations"
    assert outcome.json["certificate"]["level"] == "residual-only"
    assert "not a critical point" in outcome.json["classification"]
    loss, norm, _ = derivatives(torch.load("model.refined.pt", weights_only=True))
    assert outcome.json["gradient_norm"] == pytest.approx(norm, rel=1e-10)
    assert outcome.json["loss"] == pytest.approx(loss, rel=1e-12)


def test_resumed_from_a_record_is_as_if_never_stopped(run: Run, work: Path) -> None:
    run(*BASE, "--out", "whole.h5", "--save", "whole.pt")
    run(*BASE, "--max-iterations", 3, "--out", "first.h5")
    resumed = run(*BASE, "--resume", "first.h5", "--out", "second.h5", "--save", "second.pt")
    assert resumed.code == 0
    assert "resumes from first.h5, after 3 steps by newton" in resumed.err
    whole, second = hs.load_record("whole.h5"), hs.load_record("second.h5")
    # The spectrum at the first end took products, too.
    same_search(whole, second, "trace/hvps")
    ours, theirs = (torch.load(p, weights_only=True) for p in ("whole.pt", "second.pt"))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert hs.load_record("first.h5").attributes["iterations"] == 3  # the old one is kept


def test_goes_on_by_another_method(run: Run, work: Path) -> None:
    run(*BASE, "--method", "sfn", "--max-iterations", 2, "--out", "first.h5")
    outcome = run(*BASE, "--resume", "first.h5", "--method", "damped_newton", "--json")
    assert outcome.json["method"] == "damped_newton"
    assert outcome.json["globalisation"] == "damping_search"
    assert outcome.json["iterations"] > 2
    assert "after 2 steps by sfn, by damped_newton" in outcome.err


def test_names_may_have_hyphens(run: Run, work: Path) -> None:
    chosen = ("--method", "damped-newton", "--globalisation", "trust-region")
    outcome = run(*BASE, *chosen, "--max-iterations", 1, "--json")
    assert (outcome.json["method"], outcome.json["globalisation"]) == (
        "damped_newton",
        "trust_region",
    )


def test_a_seed_that_is_given_holds_when_a_search_goes_on(run: Run, work: Path) -> None:
    run(*BASE, "--seed", 3, "--max-iterations", 1, "--out", "first.h5")
    for given, seed in (((), 3), (("--seed", 7), 7)):
        assert run(*BASE, *given, "--resume", "first.h5", "--out", f"{seed}.h5").code == 0
        assert hs.load_record(f"{seed}.h5").attributes["configuration"].get("seed", 0) == seed


def test_constants_of_a_good_saddle(run: Run, work: Path) -> None:
    """δ is the loss above the best that is known; without one there is none."""
    assert run(*BASE, "--json").json["stable_saddle"]["delta"] is None
    result = run(*BASE, "--best-loss", 0.25, "--json").json
    assert result["stable_saddle"]["delta"] == pytest.approx(result["loss"] - 0.25)
    assert result["stable_saddle"]["epsilon"] == result["gradient_norm"]
    kappa = result["parameters"] - result["degeneracy"]["lower"]
    assert result["stable_saddle"]["kappa"] == kappa


def test_the_evidence_is_shown(run: Run, work: Path) -> None:
    out = run(*BASE).out
    record = hs.load_record("model.refine.h5").attributes["certificate"]
    assert f"Newton decrement {record['newton_decrement']:.2g}" in out
    assert f"gradient-flatness {record['flatness']:.2g}" in out


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("--l2", 0.02), "l2 is 0.01 there and 0.02 here"),
        (("--subset", 30), "data_fingerprint is "),
        (("--loss", "nll"), "loss_function is cross_entropy there"),
        (("--dtype", "float32"), "dtype is float64 there"),
    ],
)
def test_resume_of_another_problem_is_refused(
    run: Run, work: Path, change: tuple[Any, ...], words: str
) -> None:
    run(*BASE, "--max-iterations", 1)
    before = listing(work)
    outcome = run(*BASE, *change, "--resume", "model.refine.h5", "--quiet")
    assert outcome.code == 2
    assert words in outcome.err
    assert listing(work) == before


def test_resume_with_changed_code_is_refused(run: Run, work: Path) -> None:
    Path("my.py").write_text("def f(outputs, targets):\n    return (outputs**2).mean(1)\n")
    search = (*BASE, "--loss", "my.py:f", "--max-iterations", 1)
    assert run(*search).code == 3
    Path("my.py").write_text("def f(outputs, targets):\n    return (outputs**4).mean(1)\n")
    outcome = run(*search, "--resume", "model.refine.h5", "--quiet")
    assert outcome.code == 2
    assert "loss_code_sha256 is " in outcome.err


def test_resume_of_what_is_no_search_is_refused(run: Run, work: Path) -> None:
    run("spectrum", *BASE[1:], "--out", "spectrum.h5")
    for name, words in (
        ("spectrum.h5", "no search to resume"),
        ("model.pt", "cannot be read as HDF5"),
        ("none.h5", "there is no record"),
    ):
        outcome = run(*BASE, "--resume", name)
        assert outcome.code == 1
        assert words in outcome.error


# --- Cut short -----------------------------------------------------------------------------------


def slow_run(work: Path, signal_number: int) -> tuple[tuple[Any, ...], subprocess.Popen[str]]:
    """A search in a process of its own, sent a signal when it has saved its first state."""
    (work / "slow.py").write_text(SLOW_LOSS)
    base = (*BASE, "--loss", "slow.py:loss")
    process = subprocess.Popen(
        [*HESSSCOPE, *map(str, base), "--json"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=work,
        env={**os.environ, "SLOW": "0.02"},
    )  # fmt: skip
    end = time.monotonic() + 120
    while not list(work.glob("model.*.partial/search.h5")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.02)
    process.send_signal(signal_number)
    return base, process


def reference(run: Run, base: tuple[Any, ...]) -> hs.Record:
    assert run(*base, "--out", "whole.h5", "--save", "whole.pt").code == 0
    return hs.load_record("whole.h5")


def test_ctrl_c_stops_after_the_step_and_saves(run: Run, work: Path) -> None:
    base, process = slow_run(work, signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert "stopping after this step" in err
    assert "Traceback" not in err
    result = json.loads(out)
    assert result["status"] == "interrupted"
    assert result["iterations"] >= 1
    assert "`resume`" in result["diagnosis"]
    assert torch.load("model.refined.pt", weights_only=True).keys() == network().state_dict().keys()
    assert "rerun the command to resume" in err
    explicit = run(
        *base, "--resume", "model.refine.h5", "--out", "second.h5", "--save", "second.pt"
    )
    assert explicit.code == 0
    resumed = run(*base, "--json")
    assert resumed.code == 0
    # What was interrupted is replaced by what is whole.
    assert resumed.json["record"] == "model.refine.h5"
    assert resumed.json["checkpoint"] == "model.refined.pt"
    assert not list(work.glob("*.partial"))
    whole = reference(run, base)
    for name in ("second.h5", "model.refine.h5"):
        same_search(whole, hs.load_record(name))
    same_weights("whole.pt", "model.refined.pt")
    # Now it is finished: the same command makes a result of its own.
    assert run(*base, "--json").json["record"] == "model.refine-2.h5"


def same_weights(one: str, other: str) -> None:
    first, second = (torch.load(path, weights_only=True) for path in (one, other))
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name


def test_killed_search_goes_on_from_its_last_state(run: Run, work: Path) -> None:
    base, process = slow_run(work, signal.SIGKILL)
    process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL
    assert not list(work.glob("model.refined*"))
    assert not (work / "model.refine.h5").exists()
    (partial,) = work.glob("*.partial")
    shutil.copytree(partial, "copy.partial")
    resumed = run(*base, "--json")
    assert resumed.code == 0
    assert f"resumes from {partial.name}, after" in resumed.err
    assert resumed.json["record"] == "model.refine.h5"  # the name that the first one would have
    explicit = run(*base, "--resume", "copy.partial", "--out", "copy.h5", "--save", "copy.pt")
    assert explicit.code == 0
    assert not list(work.glob("*.partial"))
    whole = reference(run, base)
    same_search(whole, hs.load_record("model.refine.h5"))
    same_search(whole, hs.load_record("copy.h5"))


def interrupted_after(steps: int) -> hs.RefinementReport:
    return hs.refine_checkpoint(
        "model.pt", "data.npz", activation="tanh", l2=L2, device="cpu", out="here.h5",
        save="here.pt", observer=lambda state: state.iterations == steps,
    )  # fmt: skip


def test_only_the_same_search_finds_a_state(run: Run, work: Path) -> None:
    """And only its own interrupted outputs are replaced."""
    assert interrupted_after(2).status == "interrupted"
    (partial,) = work.glob("*.partial")
    other = run(*BASE, "--seed", 5, "--out", "other.h5", "--save", "other.pt", "--json")
    assert "resumes" not in other.err
    assert run(*BASE, "--seed", 5, "--out", "here.h5", "--save", "x.pt").code == 2
    assert list(work.glob("*.partial")) == [partial]
    assert interrupted_after(3).point.iterations == 3
    assert interrupted_after(-1).status == "converged"
    assert not list(work.glob("*.partial"))
    with pytest.raises(hs.HessscopeError, match=r"here\.h5 exists"):
        interrupted_after(-1)


def test_killed_between_checkpoint_and_record(
    run: Run, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The checkpoint that is there is this search's own, and no reason to refuse the command."""
    with monkeypatch.context() as patch:
        patch.setattr("hessscope.pipeline.refine_jobs.RefinementReport.to_record", killed)
        with pytest.raises(SystemError):
            interrupted_after(-1)
    assert Path("here.pt").is_file()
    assert not Path("here.h5").exists()
    assert interrupted_after(-1).status == "converged"
    same_search(reference(run, BASE), hs.load_record("here.h5"))
    (work / "here.h5").unlink()
    with pytest.raises(hs.HessscopeError, match=r"here\.pt exists"):  # now it is a result
        interrupted_after(-1)


def killed(*_: object) -> None:
    raise SystemError


@pytest.mark.parametrize("cut", [-20, 40, 0])
def test_a_damaged_state_of_a_search_is_set_aside(run: Run, work: Path, cut: int) -> None:
    interrupted_after(2)
    (partial,) = work.glob("*.partial")
    state = partial / "search.h5"
    state.write_bytes(state.read_bytes()[:cut])
    with pytest.warns(HessscopeWarning, match=r"set aside as search\.h5\.damaged"):
        report = interrupted_after(-1)
    assert report.status == "converged"
    same_search(reference(run, BASE), hs.load_record("here.h5"))


def test_observer_stops_the_search(work: Path) -> None:
    report = hs.refine_checkpoint(
        "model.pt", "data.npz", activation="tanh", l2=L2, out="here.h5",
        observer=lambda state: state.iterations == 2,
    )  # fmt: skip
    assert report.status == "interrupted"
    assert hs.load_record("here.h5").attributes["iterations"] == 2


def test_ctrl_c_during_the_last_spectrum_keeps_the_search(
    run: Run, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(hs.ExactBackend, "solve", interrupted)
        outcome = run(*BASE, "--json", "--out", "first.h5")
    assert outcome.code == 130
    assert outcome.json["status"] == "interrupted"
    assert "the search had ended: converged" in outcome.json["diagnosis"]
    assert outcome.json["index"] is None
    resumed = run(*BASE, "--resume", "first.h5", "--json")
    assert resumed.code == 0
    assert resumed.json["iterations"] == outcome.json["iterations"]


def test_failure_at_the_end_keeps_the_state(
    run: Run, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object, **__: object) -> None:
        raise hs.HessscopeError("no luck")

    with monkeypatch.context() as patch:
        patch.setattr(hs.ExactBackend, "solve", failing)
        outcome = run(*BASE)
    assert outcome.code == 1
    assert "error: no luck" in outcome.err
    resumed = run(*BASE)
    assert resumed.code == 0
    assert "resumes from model." in resumed.err
    same_search(reference(run, BASE), hs.load_record("model.refine.h5"))


# --- Bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--method", "newtn"), 2, "Did you mean 'newton'?"),
        (("--globalisation", "trust"), 2, "Did you mean 'trust_region'?"),
        (("--merit", "los"), 2, "Did you mean 'loss'?"),
        (("--backend", "pyhessian"), 2, "Known: auto, exact, lanczos"),
        (("--max-iterations", -1), 2, "--max-iterations -1"),
        (("--gradient-tolerance", -1), 2, "--gradient-tolerance -1"),
        (("--method", "newton_mr", "--globalisation", "trust_region"), 2, "take backtracking"),
        (("--out", "no/such/r.h5"), 1, "there is no folder no/such"),
        (("--save", "no/such/m.pt"), 1, "there is no folder no/such"),
        (("--save", "model.pt", "--overwrite"), 2, "model.pt is the checkpoint"),
        (("--out", "data.npz", "--overwrite"), 2, "data.npz is the data"),
        (("--out", "x.h5", "--save", "x.h5"), 2, "x.h5 is another output"),
        (("--plot", "trace.tiff"), 2, "unknown figure format"),
        (("--memory", "much"), 2, "--memory much: give an amount"),
    ],
)
def test_wrong_usage_is_said_before_any_work(
    run: Run, work: Path, arguments: tuple[Any, ...], code: int, words: str
) -> None:
    before = listing(work)
    outcome = run(*BASE, *arguments)
    assert outcome.code == code
    assert words in outcome.error
    assert outcome.out == ""
    assert listing(work) == before


def test_missing_data_is_said(run: Run, work: Path) -> None:
    outcome = run("refine", "model.pt")
    assert outcome.code == 2
    assert "--data mnist" in outcome.error


def test_weights_that_are_not_numbers_are_refused(run: Run, work: Path) -> None:
    weights = network().state_dict()
    weights["0.weight"][1, 2] = math.nan
    torch.save(weights, "nan.pt")
    before = listing(work)
    outcome = run("refine", "nan.pt", *BASE[2:])
    assert outcome.code == 1
    assert "0.weight" in outcome.error
    assert "NaN" in outcome.error
    assert listing(work) == before


def test_start_without_a_finite_loss_is_a_status(run: Run, work: Path) -> None:
    weights = {name: 1e200 * value for name, value in network().double().state_dict().items()}
    torch.save(weights, "huge.pt")
    outcome = run("refine", "huge.pt", *BASE[2:], "--json")
    assert outcome.code == 3
    assert outcome.json["status"] == "non_finite"
    assert outcome.json["iterations"] == 0
    assert outcome.json["gradient_norm"] is None or math.isfinite(outcome.json["gradient_norm"])


def test_loss_without_second_derivative_is_refused(run: Run, work: Path) -> None:
    (work / "once.py").write_text(LOSS_WITHOUT_SECOND_DERIVATIVE)
    before = listing(work)
    outcome = run(*BASE, "--loss", "once.py:loss", "--quiet")
    assert outcome.code == 1
    assert "differentiated twice" in outcome.err
    assert listing(work) == before


def test_hidden_second_derivative_is_warned_of(run: Run, work: Path) -> None:
    (work / "once.py").write_text(LOSS_WITH_HIDDEN_SECOND_DERIVATIVE)
    outcome = run(*BASE, "--loss", "once.py:loss", "--max-iterations", 1)
    assert outcome.code == 3
    assert "hides its second derivative" in outcome.err


def test_kinks_are_warned_of(run: Run, work: Path) -> None:
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 3))
    torch.save(model.state_dict(), "relu.pt")
    outcome = run(
        "refine", "relu.pt", "--data", "data.npz", "--activation", "relu", "--device", "cpu",
        "--l2", L2, "--max-iterations", 2, "--json",
    )  # fmt: skip
    assert outcome.code in (0, 3)
    assert "warning: the loss is smooth only in pieces" in outcome.err
    assert "smooth only in pieces" in outcome.json["warnings"][0]


def test_full_disk_while_saving_the_state_is_a_warning(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise RecordError("disk full")

    monkeypatch.setattr("hessscope.records.store.write_record", full)
    with pytest.warns(HessscopeWarning, match="not saved") as given:
        report = interrupted_after(-1)
    assert report.status == "converged"
    assert sum("not saved" in str(warning.message) for warning in given) == 1  # once


# --- Figure --------------------------------------------------------------------------------------


def test_trace_figure_shows_the_numbers_of_the_record() -> None:
    objective = hs.FunctionObjective(lambda t: (t**4).sum() + t[0].sin() - t[0] * t[1], [1.0, 2.0])
    point = hs.refine(objective)
    record = point.to_record()
    loss, norms, index = plot_trace(record)
    assert np.array_equal(loss.lines[0].get_ydata(), record["trace/loss"])
    curves = {line.get_label(): line.get_ydata() for line in norms.lines}
    assert np.array_equal(curves["gradient ‖∇L‖"], record["trace/gradient_norm"])
    assert norms.get_yscale() == "log"
    assert np.array_equal(index.lines[0].get_ydata(), record["trace/index"][1:])
    with pytest.raises(hs.HessscopeError, match="no trace"):
        plot_trace(hs.Record("spectrum", {}, {}))
