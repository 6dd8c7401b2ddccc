"""The command line as a user and a script meet it."""

from __future__ import annotations

import functools
import json
import os
import re
import signal
import subprocess
import sys
import time
import warnings
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import pytest
import torch
import typer

import hessscope as hs
from cli_runs import EXAMPLES, PARAMETERS, Outcome, Run, listing
from hessscope.loaders import CheckpointFile
from hessscope.options.fields import memory
from hessscope.training import TrainingResult, train
from hessscope_cli import layout, spectrum_tables
from hessscope_cli.app import app

BASE = ("spectrum", "model.pt", "--data", "data.npz", "--activation", "tanh", "--device", "cpu")
COUNT = {"lower": int, "estimate": int, "upper": int, "confidence": float, "usable": bool}
FIXED = {
    "parameters": int, "examples": int, "loss": float, "accuracy": float, "gradient_norm": float,
    "backend": str, "dtype": str, "tolerance": float, "noise_floor": float,
    "index": dict, "degeneracy": dict, "positive": dict,
    "alpha": float, "lambda_min": float, "lambda_max": float, "trace": float,
    "hvps": int, "seconds": float, "classification": str, "record": str,
}  # fmt: skip
NOT_BY_PYHESSIAN = {
    "tolerance", "noise_floor", "index", "degeneracy", "positive", "alpha", "lambda_min",
}  # fmt: skip


def commands() -> dict[str, Any]:
    """Every (sub-)command, as Typer makes them."""
    root: Any = typer.main.get_command(app)
    return {"": root, **root.commands}


# --- JSON ------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["exact", "lanczos", "pyhessian"])
def test_json_has_the_fixed_keys_and_types(run: Run, work: Path, backend: str) -> None:
    outcome = run(*BASE, "--backend", backend, "--json")
    assert outcome.code == 0
    result = outcome.json
    for key, kind in FIXED.items():
        if backend == "pyhessian" and key in NOT_BY_PYHESSIAN:
            assert result[key] is None
        else:
            assert isinstance(result[key], kind), key
    assert result["parameters"] == PARAMETERS
    assert result["examples"] == EXAMPLES
    assert result["backend"] == backend
    assert Path(result["record"]).is_file()
    if backend != "pyhessian":
        counts = [result[key] for key in ("index", "degeneracy", "positive")]
        assert sum(count["estimate"] for count in counts) == PARAMETERS
        for count in counts:
            assert {key: type(value) for key, value in count.items()} == COUNT
            assert 0 <= count["lower"] <= count["estimate"] <= count["upper"] <= PARAMETERS
        assert result["alpha"] == counts[0]["estimate"] / PARAMETERS


def test_backends_agree(run: Run, work: Path) -> None:
    exact, lanczos, theirs = (
        run(*BASE, "--backend", backend, "--json").json
        for backend in ("exact", "lanczos", "pyhessian")
    )
    assert lanczos["lambda_max"] == pytest.approx(exact["lambda_max"], rel=1e-10)
    assert lanczos["lambda_min"] == pytest.approx(exact["lambda_min"], rel=1e-8, abs=1e-12)
    assert theirs["lambda_max"] == pytest.approx(exact["lambda_max"], rel=1e-4)
    for sampled in (lanczos, theirs):
        interval = sampled["trace_interval"]
        rounding = 1e-12 * abs(exact["trace"])  # Lanczos has found every eigenvalue here
        assert interval["lower"] - rounding <= exact["trace"] <= interval["upper"] + rounding


def test_json_of_degenerate_cases_is_valid(run: Run, work: Path) -> None:
    one_step = run(*BASE, "--backend", "lanczos", "--steps", 1, "--probes", 1, "--json")
    assert one_step.code == 0
    interval = one_step.json["trace_interval"]
    assert interval["lower"] <= run(*BASE, "--json").json["trace"] <= interval["upper"]
    one_example = run(*BASE, "--subset", 1, "--json")
    assert one_example.code == 0
    assert one_example.json["examples"] == 1


def test_standard_output_is_pure(work: Path) -> None:
    """In a process of its own: the pipe has JSON and nothing else, notes go to standard error."""
    arguments = ("spectrum", "model.pt", "--data", "data.npz", "--json")  # activation not said
    done = subprocess.run([*HESSSCOPE, *arguments], capture_output=True, text=True, cwd=work)
    assert done.returncode == 0
    assert json.loads(done.stdout)["parameters"] == PARAMETERS
    assert "activation" in done.stderr
    assert "\x1b" not in done.stdout + done.stderr
    assert "\r" not in done.stderr


def test_warnings_and_notes_are_on_standard_error_and_in_the_json(run: Run, work: Path) -> None:
    outcome = run(*BASE, "--tolerance", "1e-30", "--json")
    warned = [line for line in outcome.err.splitlines() if line.startswith("warning: ")]
    assert len(warned) == 1
    assert "below twice the noise floor" in warned[0]
    assert warned[0].removeprefix("warning: ") in outcome.json["warnings"]
    notes = [line for line in outcome.err.splitlines() if line.startswith("note: ")]
    assert all(f"note: {note}" in notes for note in outcome.json["notes"])


def test_warnings_come_before_the_long_work(
    run: Run, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong loss is worth knowing before the hours, not after."""

    def long_work(*_: object, **__: object) -> None:
        raise hs.HessscopeError("stopped here")

    monkeypatch.setattr(hs.ExactBackend, "solve", long_work)
    (work / "net.py").write_text(
        "from torch import nn\n"
        "def make():\n"
        "    return nn.Sequential(nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 3), nn.Softmax(1))\n"
    )
    outcome = run("spectrum", "model.pt", "--data", "data.npz", "--model", "net.py:make")
    assert "warning: the outputs are probabilities already" in outcome.err
    assert "note: backend exact" in outcome.err
    assert outcome.err.endswith("error: stopped here\n")


def test_quiet(run: Run, work: Path) -> None:
    outcome = run(*BASE, "--quiet")
    assert outcome.err == ""
    assert "degeneracy" in outcome.out
    assert run(*BASE, "-q", "--json").err == ""


# --- records ---------------------------------------------------------------------------------


def test_default_records_are_numbered(run: Run, work: Path) -> None:
    names = [run(*BASE, "--json").json["record"] for _ in range(3)]
    assert names == ["model.spectrum.h5", "model.spectrum-2.h5", "model.spectrum-3.h5"]


@pytest.mark.parametrize("option", ["--out", "--plot"])
def test_existing_output_is_refused_before_anything_is_read(
    run: Run, work: Path, option: str
) -> None:
    name = "old.h5" if option == "--out" else "old.png"
    (work / name).write_text("precious")
    before = listing(work)
    # Nothing is read: a checkpoint that is not there goes unnoticed.
    outcome = run("spectrum", "absent.pt", "--data", "data.npz", option, name)
    assert outcome.code == 2
    assert f"{name} exists" in outcome.error
    assert "--overwrite" in outcome.error
    assert listing(work) == before


def test_overwrite(run: Run, work: Path) -> None:
    (work / "old.h5").write_text("precious")
    outcome = run(*BASE, "--out", "old.h5", "--overwrite")
    assert outcome.code == 0
    assert hs.load_record(work / "old.h5").kind == "spectrum"


def test_name_that_was_taken_meanwhile(
    run: Run, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two runs side by side may choose the same free name: neither loses its result."""
    solve = hs.ExactBackend.solve

    def slow(self: hs.ExactBackend, *arguments: Any, **options: Any) -> hs.Spectrum:
        (work / "model.spectrum.h5").write_text("of the other run")
        return solve(self, *arguments, **options)

    monkeypatch.setattr(hs.ExactBackend, "solve", slow)
    outcome = run(*BASE, "--json")
    assert outcome.code == 0
    assert outcome.json["record"] == "model.spectrum-2.h5"
    assert "was created while this ran" in outcome.err
    assert (work / "model.spectrum.h5").read_text() == "of the other run"
    assert hs.load_record("model.spectrum-2.h5").attributes["record"] == "model.spectrum-2.h5"


@pytest.mark.parametrize("backend", ["exact", "lanczos", "pyhessian"])
def test_record_holds_configuration_and_result(run: Run, work: Path, backend: str) -> None:
    arguments = ("--seed", 3, "--subset", 30, "--l2", "0.01", "--tolerance", "1e-6", "--steps", 20)
    result = run(*BASE, *arguments, "--backend", backend, "--json").json
    record = hs.load_record(result["record"])
    saved = record.attributes
    for key, value in result.items():
        if value is not None and not isinstance(value, dict):
            expected = tuple(value) if isinstance(value, list) else value
            assert saved[key] == expected, key
    for key in ("index", "degeneracy", "positive"):
        if result[key] is not None:
            assert saved[key] == result[key]
    assert saved["options"]["seed"] == 3
    assert saved["options"]["subset"] == 30
    assert saved["options"]["l2"] == 0.01
    assert saved["configuration"]["backend"] == backend
    assert saved["provenance"]["version_hessscope"] == hs.__version__
    assert {"version_torch", "created", "platform"} <= set(saved["provenance"])
    assert re.fullmatch(r"[0-9a-f]{64}", saved["checkpoint_sha256"])
    assert re.fullmatch(r"[0-9a-f]{64}", saved["data_fingerprint"])
    assert saved["device"] == "cpu"
    assert saved["dtype"] == "float64"
    assert saved["seconds"] > 0
    if backend == "exact":
        values = record.arrays["eigenvalues"]
        assert len(values) == PARAMETERS
        assert int((values < -1e-6).sum()) == result["index"]["estimate"]
        again = hs.Spectrum.from_record(record).inertia(1e-6)
        assert again.as_dict()["index"] == result["index"]
    if backend == "lanczos":
        assert saved["configuration"]["steps"] == 20
        assert saved["configuration"]["seed"] == 3
        again = hs.SpectralDensity.from_record(record).inertia(1e-6)
        assert again.as_dict()["degeneracy"] == result["degeneracy"]


def test_record_is_readable_without_hessscope(run: Run, work: Path) -> None:
    run(*BASE, "--out", "r.h5")
    with h5py.File("r.h5") as file:
        assert file["eigenvalues"].shape == (PARAMETERS,)
        assert file.attrs["schema_version"] == 1
        assert file["index"].attrs["confidence"] == 1.0
        sweep = file["tolerance_sweep"].attrs
        assert sweep["tolerance"][0] == file.attrs["tolerance"]
        assert sweep["index"][0] == file["index"].attrs["estimate"]


@pytest.mark.parametrize("suffix", ["png", "pdf", "svg"])
def test_plot(run: Run, work: Path, suffix: str) -> None:
    backend = "lanczos" if suffix == "svg" else "exact"
    outcome = run(*BASE, "--plot", f"figure.{suffix}", "--backend", backend)
    assert outcome.code == 0
    assert f"figure: figure.{suffix}" in outcome.err
    magic = {"png": b"\x89PNG", "pdf": b"%PDF", "svg": b"<?xml"}[suffix]
    assert (work / f"figure.{suffix}").read_bytes().startswith(magic)


def test_result_is_shown_though_it_cannot_be_written(
    run: Run, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise hs.HessscopeError("cannot write x.h5: No space left on device")

    monkeypatch.setattr("hessscope.records.record.write_record", full)
    outcome = run(*BASE, "--json", "--out", "x.h5", "-q")
    assert outcome.code == 1
    assert "No space left" in outcome.error
    assert outcome.json["record"] is None
    assert outcome.json["parameters"] == PARAMETERS


# --- the same numbers ------------------------------------------------------------------------


VOLATILE = {"seconds", "record", "plan", "backend_choice", "notes"}


def close(a: Any, b: Any) -> bool:
    """Equal but for rounding, which depends on how products were split."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(close(a[k], b[k]) for k in a)
    if isinstance(a, float) and isinstance(b, float):
        return a == pytest.approx(b, rel=1e-8, abs=1e-9)
    return bool(a == b)


@pytest.mark.parametrize("backend", ["exact", "lanczos"])
def test_same_command_same_numbers(run: Run, work: Path, backend: str) -> None:
    arguments = (*BASE, "--backend", backend, "--seed", 5, "--tolerance", "1e-5", "--json")
    first, second = run(*arguments).json, run(*arguments).json
    for key in first.keys() - VOLATILE - {"noise_floor", "gradient_floor"}:
        assert close(first[key], second[key]), key
    if backend == "lanczos":
        few = ("--backend", backend, "--steps", 4, "--tolerance", "1e-5", "--json")
        traces = [run(*BASE, *few, "--seed", seed).json["trace"] for seed in (5, 6)]
        assert traces[0] != pytest.approx(traces[1], rel=1e-6)


def test_one_liner_is_the_same_as_the_command(run: Run, work: Path) -> None:
    command = run(*BASE, "--backend", "exact", "--tolerance", "1e-6", "--json").json
    before = listing(work)
    report = hs.spectrum(
        "model.pt", data="data.npz", activation="tanh", backend="exact", tolerance=1e-6
    )
    assert listing(work) == before  # no record unless one is asked for
    function = report.as_dict()
    assert function.keys() == command.keys()
    for key in command.keys() - VOLATILE - {"noise_floor", "gradient_floor"}:
        assert close(function[key], command[key]), key


# --- inspect ---------------------------------------------------------------------------------


def test_inspect_where_the_architecture_is_not_known(run: Run, work: Path) -> None:
    """Names and shapes are what one needs to write the factory."""
    torch.save(torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3)).state_dict(), "conv.pt")
    outcome = run("inspect", "conv.pt")
    assert outcome.code == 0
    assert "--model file.py:factory" in outcome.err
    assert re.search(r"0\.weight\s+2 x 1 x 3 x 3\s+float32\s+18\n", outcome.out)
    result = run("inspect", "conv.pt", "--json").json
    assert (result["architecture"], result["parameters"]) == ("unknown", 20)
    assert run("inspect", "conv.pt", "--data", "data.npz").code == 1


def test_inspect_without_data(run: Run, work: Path) -> None:
    outcome = run("inspect", "model.pt")
    assert outcome.code == 0
    assert "state_dict" in outcome.out
    assert "mlp:6-4-3" in outcome.out
    assert re.search(r"0\.weight\s+4 x 6\s+float32\s+24\n", outcome.out)
    result = run("inspect", "model.pt", "--json").json
    assert result["parameters"] == PARAMETERS
    assert result["loss"] is None
    assert [layer["shape"] for layer in result["layers"]] == [[4, 6], [4], [3, 4], [3]]


@pytest.mark.parametrize("data", [(), ("--data", "data.npz")])
def test_inspect_says_its_warnings(
    run: Run, work: Path, monkeypatch: pytest.MonkeyPatch, data: tuple[str, ...]
) -> None:
    def warning(*arguments: Any) -> Any:
        warnings.warn("beware", hs.HessscopeWarning, stacklevel=2)
        return there(*arguments)

    there = CheckpointFile.resolve
    monkeypatch.setattr(CheckpointFile, "resolve", warning)
    outcome = run("inspect", "model.pt", "--activation", "tanh", *data, "--json")
    assert outcome.json["warnings"] == ["beware"]


def test_inspect_with_data(run: Run, work: Path) -> None:
    arguments = ("--data", "data.npz", "--activation", "tanh")
    result = run("inspect", "model.pt", *arguments, "--json").json
    spectrum = run(*BASE, "--json").json
    for key in ("loss", "accuracy", "gradient_norm"):
        assert result[key] == pytest.approx(spectrum[key], rel=1e-12)
    text = run("inspect", "model.pt", *arguments)
    assert f"{result['loss']:.6g}" in text.out
    assert f"{result['accuracy']:.2%}" in text.out
    assert [path.name for path in work.glob("*.h5")] == [spectrum["record"]]


def test_inspect_shows_metadata(run: Run, work: Path) -> None:
    import torch

    from cli_runs import network

    state = {"state_dict": network().state_dict(), "epoch": 12, "note": "[bold]plain[/bold]"}
    torch.save(state, "meta.pt")
    outcome = run("inspect", "meta.pt")
    assert re.search(r"epoch\s+12\n", outcome.out)
    assert "[bold]plain[/bold]" in outcome.out  # not taken as markup


# --- presets, memory, choices ------------------------------------------------------------------


@pytest.mark.parametrize("preset", ["sankar2017", "dauphin2014"])
def test_preset_sets_what_it_says_and_says_what_it_sets(
    run: Run, work: Path, preset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setenv("HESSSCOPE_DATA", str(Path(__file__).parent / "data"))
    size = 100 if preset == "dauphin2014" else 784
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(size, 2), torch.nn.Linear(2, 10))
    torch.save(model.state_dict(), "mnist.pt")
    arguments = ("inspect", "mnist.pt", "--model", f"mlp:{size}-2-10:relu", "--preset", preset)
    outcome = run(*arguments, "--subset", 50, "--json")
    assert outcome.code == 0, outcome.err
    (note,) = (line for line in outcome.err.splitlines() if line.startswith("note: preset"))
    assert "data mnist" in note
    if preset == "sankar2017":
        assert "loss softmax_mse" in note
        assert "normalize center" in note
        assert "split all" in note
        assert "subset 50 was given and replaces 60000" in note
        assert "1706.02052" in note
    else:
        assert "resize 10" in note
        assert "1406.2572" in note
    assert note.removeprefix("note: ") in outcome.json["notes"]


def test_auto_says_what_it_chose_without_verbose(run: Run, work: Path) -> None:
    outcome = run(*BASE)
    (note,) = (line for line in outcome.err.splitlines() if line.startswith("note: backend"))
    assert note.startswith("note: backend exact (chosen by auto)")
    assert "exact" in run(*BASE, "--json").json["backend"]


def test_auto_takes_lanczos_where_the_matrix_does_not_fit(
    run: Run, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hessscope.backends.exact._ALWAYS_EXACT", 0)
    monkeypatch.setattr("hessscope.backends.exact.exact_seconds", lambda hessian: 7200.0)
    outcome = run(*BASE, "--json")
    assert outcome.json["backend"] == "lanczos"
    assert "backend lanczos (chosen by auto): exact is estimated at 2.0 h" in outcome.err


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("4GB", 4 * 10**9), ("800mb", 8 * 10**8), ("1.5 GiB", 3 * 2**29), ("2e9", 2 * 10**9),
        ("12", 12), ("3G", 3 * 10**9), ("64kib", 65536),
    ],
)  # fmt: skip
def test_amounts_of_memory(text: str, amount: int) -> None:
    assert memory(text) == amount


# --- help and version --------------------------------------------------------------------------


def test_version(run: Run) -> None:
    assert run("--version") == Outcome(0, f"hessscope {hs.__version__}\n", "")


def test_no_command_shows_the_help(run: Run) -> None:
    outcome = run()
    assert "spectrum" in outcome.out + outcome.err
    assert "error" not in outcome.err


COMMANDS = ("spectrum", "refine", "survey", "train", "report", "section", "inspect", "demo")


@pytest.mark.parametrize("name", ["", *COMMANDS])
def test_help_has_an_example_and_every_option_is_explained(run: Run, name: str) -> None:
    command = commands()[name]
    arguments = [name, "--help"] if name else ["--help"]
    outcome = run(*arguments)
    assert outcome.code == 0
    assert re.search(r"Examples?\s", outcome.out)
    assert f"hessscope {name}".strip() in outcome.out
    for parameter in command.params:
        explained = getattr(parameter, "help", None)
        assert explained, f"{name} {parameter.name} has no help"


def test_every_command_is_tested() -> None:
    assert set(commands()) == {"", *COMMANDS}


def test_commands_share_their_options() -> None:
    """What says which loss is meant is the same for all: name, form, default, help."""
    inspected = {p.name: p for p in commands()["inspect"].params}
    for parameter in commands()["spectrum"].params:
        if parameter.name != "checkpoint" and (other := inspected.get(parameter.name)):
            assert parameter.opts == other.opts
            assert parameter.default == other.default
            assert parameter.metavar == other.metavar
            assert parameter.help == other.help
    assert {"data", "loss", "model", "trust", "preset", "dtype", "seed"} <= set(inspected)


def test_module_and_app_are_found_where_tools_look() -> None:
    from hessscope_cli import main

    assert main.app is app
    with pytest.raises(AttributeError, match="no attribute 'apple'"):
        _ = main.apple


# --- the look of it ------------------------------------------------------------------------------


def test_table_says_it_all(run: Run, work: Path) -> None:
    outcome = run(*BASE, "--tolerance", "1e-6")
    result = run(*BASE, "--tolerance", "1e-6", "--json").json
    for name in ("index", "degeneracy"):
        assert re.search(rf"{name}\s+{result[name]['estimate']:,}\s", outcome.out)
    assert re.search(r"tolerance τ\s+1e-06", outcome.out)
    assert re.search(r"noise floor δ\s+\d", outcome.out)
    assert result["classification"] in outcome.out
    assert not re.search(r"[ \t]\n", outcome.out)  # no blanks at the ends of lines


@pytest.mark.parametrize("width", [60, 80, 120])
def test_long_paths_and_wide_intervals_fit(
    run: Run, work: Path, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    folder = work / ("deep/" * 20) / "[red]not markup[/red]"
    folder.mkdir(parents=True)
    path = folder / "model.pt"
    path.write_bytes((work / "model.pt").read_bytes())
    arguments = ("--data", "data.npz", "--activation", "tanh")
    outcome = run("spectrum", path, *arguments, "--backend", "lanczos", "--steps", 5)
    assert outcome.code == 0
    assert max(map(len, outcome.out.splitlines())) <= width
    unwrapped = re.sub(r"\n\s+", "", outcome.out)
    assert str(path).replace(" ", "") in unwrapped.replace(" ", "")
    assert "The intervals are wide" in outcome.out
    assert re.search(r"index\s+\d+\?\s", outcome.out)  # not to be taken for a result


def test_counts_of_large_networks_stay_in_one_line() -> None:
    from rich.console import Console

    def count(lower: int, estimate: int, upper: int) -> hs.CountInterval:
        return hs.CountInterval(lower, estimate, upper, 0.95)

    inertia = hs.Inertia(
        count(123_456, 234_567, 934_567),
        count(200_000, 300_000, 900_000),
        count(199_999, 565_433, 777_777),
        1e-3,
        1e-14,
    )
    console = Console(width=80)
    with console.capture() as captured:
        sweep = spectrum_tables._sweep((inertia, inertia), inertia)
        console.print(layout.counts_table(inertia), sweep)
    assert "123,456 – 934,567" in captured.get()
    assert captured.get().count("234,567 [123,456, 934,567]") == 2


def test_files_and_pipes_are_not_wrapped(run: Run, work: Path) -> None:
    outcome = run("inspect", "model.pt", "--data", "data.npz")
    (line,) = (line for line in outcome.out.splitlines() if line.startswith("architecture"))
    assert "inferred from the shapes" in line


def test_sweep_is_at_the_tolerance_and_above(run: Run, work: Path) -> None:
    sweep = run(*BASE, "--json").json["tolerance_sweep"]
    taus = sweep["tolerance"]
    assert taus == sorted(taus)
    assert len(taus) > 2
    assert all(a <= b for a, b in pairwise(sweep["degeneracy"]))
    assert all(a >= b for a, b in pairwise(sweep["index"]))


# --- demo --------------------------------------------------------------------------------------


def test_demo_twice_in_a_row(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("hessscope.training.train", functools.partial(train, epochs=15))
    files = ["digits_mlp.pt", "digits_mlp.spectrum.h5", "digits_mlp.spectrum.png"]
    results = []
    for _ in range(2):
        outcome = run("demo", "--json")
        assert outcome.code == 0, outcome.err
        assert sorted(path.name for path in (tmp_path / "demo").iterdir()) == files
        assert [path.name for path in tmp_path.iterdir()] == ["demo"]
        results.append(outcome.json)
    assert results[0]["accuracy"] > 0.9
    assert results[0]["loss"] == pytest.approx(results[1]["loss"], rel=1e-6)
    assert results[0]["index"]["estimate"] > 0


def test_the_checkpoint_of_the_demo_loads_without_the_device_of_the_training(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def elsewhere(model: torch.nn.Module, *arguments: Any, **options: Any) -> TrainingResult:
        result = train(model, *arguments, epochs=1, **options)
        model.to("meta")  # stands for a GPU: a device that the weights have to come back from
        return result

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("hessscope.training.train", elsewhere)
    monkeypatch.setattr("hessscope_cli.demo.spectrum.show", lambda *_, **__: None)
    assert run("demo").code == 0
    saved = torch.load("demo/digits_mlp.pt", weights_only=True)
    assert {tensor.device.type for tensor in saved.values()} == {"cpu"}
    assert sum(tensor.numel() for tensor in saved.values()) == 65 * 16 + 17 * 10


# --- processes: signals, pipes, terminals ---------------------------------------------------------

HESSSCOPE = (sys.executable, "-c", "from hessscope_cli.main import run; run()")
SLOW = (
    "import time, hessscope as hs\n"
    "def wait(self, operator, progress=None, saved=None):\n"
    "    for i in range(600):\n"
    "        progress('assembly', i, 600)\n"
    "        if i == 5: open('working', 'w').close()\n"
    "        time.sleep(0.1)\n"
    "hs.ExactBackend.solve = wait\n"
    "from hessscope_cli.main import run; run()\n"
)


def wait_for(path: Path, process: subprocess.Popen[str] | None = None) -> None:
    for _ in range(600):
        if path.exists():
            return
        assert process is None or process.poll() is None, process.communicate()
        time.sleep(0.1)
    raise AssertionError(f"{path} never came")


def test_ctrl_c_during_the_work(work: Path) -> None:
    before = listing(work)
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW, *BASE],
        cwd=work, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    wait_for(work / "working", process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out == ""
    assert err.splitlines()[-1] == "error: interrupted"
    assert "the state is in" not in err
    assert "Traceback" not in err
    (work / "working").unlink()
    assert listing(work) == before


def test_ctrl_c_while_writing(run: Run, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The record is there when Ctrl-C stops the drawing: nobody says that nothing was written."""

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("hessscope.pipeline.outputs.save_figure", interrupted)
    outcome = run(*BASE, "--plot", "figure.png", "--json", "-q")
    assert outcome.code == 130
    assert "interrupted while writing" in outcome.error
    assert Path(outcome.json["record"]).is_file()


def test_ctrl_c_during_the_imports(work: Path) -> None:
    """Torch takes seconds to import: Ctrl-C is likely to come then."""
    code = (
        "import sys, os, signal, importlib.abc\n"
        "class Interrupt(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path, target=None):\n"
        "        if name == 'torch': os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Interrupt())\n"
        "from hessscope_cli.main import run; run()\n"
    )
    done = subprocess.run([sys.executable, "-c", code, *BASE], capture_output=True, text=True)
    assert done.returncode == 130
    assert done.stderr == "error: interrupted\n"


def test_reader_that_goes_away(work: Path) -> None:
    """``hessscope … | head -0``: no traceback, and no complaint of the interpreter at its end."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            [*HESSSCOPE, *BASE, "--json"],
            cwd=work, text=True, stdout=writing, stderr=subprocess.PIPE,
        )  # fmt: skip
    finally:
        os.close(writing)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    assert (work / "model.spectrum.h5").is_file()


def test_terminal_without_greek_letters(work: Path) -> None:
    done = subprocess.run(
        [*HESSSCOPE, *BASE, "-q"],
        cwd=work, capture_output=True, env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert b"degeneracy" in done.stdout


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are POSIX")
def test_progress_bar_on_a_terminal(work: Path) -> None:
    """A bar with the time left shows while it works, and nothing of it is left behind."""
    patched = (
        "solve = hs.ExactBackend.solve\n"
        "def both(self, operator, progress=None, saved=None):\n"
        "    wait(self, operator, progress)\n"
        "    return solve(self, operator)\n"
        "hs.ExactBackend.solve = both"
    )
    code = SLOW.replace("hs.ExactBackend.solve = wait", patched).replace("range(600)", "range(25)")
    seen = on_terminal([sys.executable, "-c", code, *BASE], work)
    assert re.search(r"assembly\W.*?\d+/600.*?\d:\d\d:\d\d.*?left", seen, re.DOTALL)
    assert "\x1b[?25h" in seen  # the cursor is back
    final = seen[seen.rindex("\x1b[2K") :]  # after the last line that was wiped
    assert "checkpoint" in final
    assert "assembly" not in final
    assert "\x1b[1" in final  # bold
    assert re.sub(r"\x1b\[[\d;]*m", "", final).endswith("record: model.spectrum.h5\r\n")


def test_no_color(run: Run, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    colour = r"\x1b\[[\d;]*3\d"
    assert re.search(colour, run(*BASE).out)
    monkeypatch.setenv("NO_COLOR", "1")
    assert not re.search(colour, run(*BASE).out)


def on_terminal(command: list[str], folder: Path) -> str:
    """Run a command on a pseudo-terminal of 80 columns and give all that it printed."""
    import fcntl
    import pty
    import struct
    import termios

    main, side = pty.openpty()
    fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 80, 0, 0))
    kept = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "NO_COLOR", "CI")}
    environment = {**kept, "TERM": "xterm-256color"}
    process = subprocess.Popen(
        command, cwd=folder, stdin=side, stdout=side, stderr=side, env=environment
    )
    os.close(side)
    seen = b""
    while True:
        try:
            part = os.read(main, 65536)
        except OSError:  # Linux says so where others give no more bytes
            break
        if not part:
            break
        seen += part
    os.close(main)
    assert process.wait() == 0, seen
    return seen.decode()
