"""Runs on disk: checkpoints that know what they are, folders, going on, the command."""

from __future__ import annotations

import csv
import math
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import hessscope as hs
from cli_runs import EXAMPLES, Run, arrays, listing
from hessscope.errors import (
    AssumptionWarning,
    OptionError,
    UnknownNameError,
    UntrustedCheckpointError,
)
from hessscope.loaders import read_data, read_setting
from hessscope.options.data import DataOptions
from hessscope.options.inspect import InspectOptions
from hessscope.options.train import TrainingOptions, TrainOptions
from hessscope.pipeline import Problem, open_problem, train_checkpoints
from hessscope.progress import ignore, silent
from studies import sankar2017

SAMPLE = Path(__file__).parent / "data"
BASE = ("train", "--arch", "mlp:6-4-3:tanh", "--data", "data.npz", "--device", "cpu")


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    parts = arrays()
    train, test = {k: v[:40] for k, v in parts.items()}, {k: v[40:] for k, v in parts.items()}
    np.savez("data.npz", **parts)
    np.savez(
        "split.npz",
        **{f"{k}_train": v for k, v in train.items()},
        **{f"{k}_test": v for k, v in test.items()},
    )
    return tmp_path


def weights(path: str | Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = torch.load(path, weights_only=True)["state_dict"]
    return found


def same(a: str | Path, b: str | Path) -> bool:
    one, other = weights(a), weights(b)
    return all(torch.equal(one[name], other[name]) for name in one)


def names(folder: str | Path) -> list[str]:
    return sorted(path.name for path in Path(folder).iterdir())


# --- checkpoints ---------------------------------------------------------------------------------


def test_checkpoints_are_plain_torch_files(run: Run, work: Path) -> None:
    assert run(*BASE, "--epochs", 5, "--save-every", 2).code == 0
    assert names("run") == [
        "epoch_0.pt", "epoch_2.pt", "epoch_4.pt", "epoch_5.pt", "training.csv", "training.h5",
    ]  # fmt: skip
    content = torch.load("run/epoch_4.pt", weights_only=True)
    assert content["epoch"] == 4
    assert [tuple(v.shape) for v in content["state_dict"].values()] == [(4, 6), (4,), (3, 4), (3,)]
    assert {v.dtype for v in content["state_dict"].values()} == {torch.float32}
    said = content["hessscope"]
    assert said["architecture"] == "mlp:6-4-3:tanh"
    assert said["data"] == str(work / "data.npz")
    assert (said["split"], said["loss"], said["l2"]) == ("train", "cross_entropy", 0.0)
    assert re.fullmatch(r"[0-9a-f]{64}", said["data_fingerprint"])
    assert said["training"]["optimizer"] == "adam"
    assert said["training"]["seed"] == 0


def test_a_checkpoint_says_its_accuracy_on_the_test_data(run: Run, work: Path) -> None:
    run(*BASE, "--epochs", 2, "--split", "all", "--subset", 30)
    tested = hs.load_record("run/training.h5")["test_accuracy"]
    for epoch in (0, 2):
        content = torch.load(f"run/epoch_{epoch}.pt", weights_only=True)
        assert content["test_accuracy"] == tested[epoch]
    run("spectrum", "run/epoch_2.pt", "--device", "cpu", "--out", "s.h5")
    assert hs.load_records("s.h5")["test_accuracy"][0] == tested[2]
    run(*BASE, "--epochs", 1, "--out", "untested")
    assert "test_accuracy" not in torch.load("untested/epoch_1.pt", weights_only=True)


def test_spectrum_of_a_checkpoint_needs_nothing_else(
    run: Run, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ("--loss", "mse", "--l2", "0.01", "--normalize", "standardize", "--subset", 30)
    run(*BASE, *options, "--seed", 7, "--epochs", 2)
    told = run("spectrum", "run/epoch_2.pt", "--data", "data.npz", "--activation", "tanh",
               *options, "--seed", 7, "--device", "cpu", "--json").json  # fmt: skip
    monkeypatch.chdir(work / "run")  # paths hold in any folder
    outcome = run("spectrum", "epoch_2.pt", "--device", "cpu", "--json")
    result = outcome.json
    for key in ("data_fingerprint", "loss", "index", "l2", "loss_function", "lambda_max"):
        # Batches of another size may round the largest eigenvalue otherwise.
        assert result[key] == (pytest.approx(told[key]) if key == "lambda_max" else told[key])
    assert result["data_fingerprint"] == told["data_fingerprint"]
    assert result["loss"] == told["loss"]
    assert result["architecture_source"] == "in the file"
    assert "note: taken from the checkpoint: loss mse, l2 0.01, data " in outcome.err
    assert "subset 30" in outcome.err
    # The loss in the log is in float32, the spectrum's in float64.
    record = hs.load_record("training.h5")
    assert result["loss"] == pytest.approx(record["loss"][-1], rel=1e-5)


def test_options_that_are_given_win(work: Path) -> None:
    train_checkpoints("split.npz", model="mlp:6-4-3:tanh", subset=20, seed=3, l2=0.1, epochs=1)
    path = "run/epoch_1.pt"
    stored = Problem.of(InspectOptions(path))
    assert stored.data == str(work / "split.npz")
    assert (stored.subset, stored.subset_seed, stored.seed) == (20, 3, 0)
    assert Problem.of(InspectOptions(path, l2=0.0)).l2 == 0.0
    tested = Problem.of(InspectOptions(path, split="test"))
    # A subset of the training examples says nothing about the test examples.
    assert (tested.split, tested.subset, tested.l2) == ("test", None, 0.1)
    assert len(open_problem(tested).data) == 20
    other = Problem.of(InspectOptions(path, data="data.npz"))
    assert (other.subset, other.split) == (None, "train")
    again = Problem.of(InspectOptions(path, data="split.npz"))
    assert (again.subset, again.data) == (20, "split.npz")
    preset = Problem.of(InspectOptions(path, preset="sankar2017"))
    assert (preset.data, preset.loss, preset.subset) == ("mnist", "softmax_mse", 60_000)


def test_foreign_files_say_nothing(work: Path) -> None:
    torch.save({"a": torch.zeros(2)}, "foreign.pt")
    (work / "text.pt").write_text("no checkpoint")
    for path in ("foreign.pt", "text.pt", "missing.pt", "."):
        assert read_setting(path) is None
        assert Problem.of(InspectOptions(path)).from_checkpoint == ()


def test_settings_of_the_wrong_kind_are_ignored(work: Path) -> None:
    said = {"data": 3, "split": "train", "subset": "x", "l2": True, "grayscale": 1, "loss": None}
    torch.save({"state_dict": {"w": torch.zeros(2, 2)}, "hessscope": said}, "odd.pt")
    setting = read_setting("odd.pt")
    assert setting is not None
    assert setting.as_dict() == {"split": "train"}


def test_data_that_has_changed_since_is_a_warning(work: Path) -> None:
    train_checkpoints("data.npz", model="mlp:6-4-3:tanh", epochs=1)
    problem = Problem.of(InspectOptions("run/epoch_1.pt"))
    open_problem(problem)
    changed = arrays()
    changed["inputs"][0, 0] += 1.0
    np.savez("data.npz", **changed)
    with pytest.warns(AssumptionWarning, match="have changed since"):
        open_problem(problem)


def test_code_that_a_checkpoint_names_runs_only_with_trust(run: Run, work: Path) -> None:
    (work / "net.py").write_text(
        "import torch\n"
        "def make():\n"
        "    return torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.SiLU(),\n"
        "                               torch.nn.Linear(5, 3))\n"
        "def examples():\n"
        "    import numpy as np\n"
        "    d = np.load('data.npz')\n"
        "    return d['inputs'], d['targets']\n"
        "def halved(outputs, targets):\n"
        "    return torch.nn.functional.cross_entropy(outputs, targets) / 2\n"
    )
    outcome = run("train", "--arch", "net.py:make", "--data", "net.py:examples",
                  "--loss", "net.py:halved", "--epochs", 1)  # fmt: skip
    assert outcome.code == 0, outcome.err
    path = "run/epoch_1.pt"
    assert f"{work / 'net.py'}:make" in run("spectrum", path, "-q").error
    assert "--trust" in run("spectrum", path, "-q").error
    given = ("--model", "net.py:make")
    refused = run("spectrum", path, *given, "-q").error
    assert "which is code" in refused
    assert "loss " in refused
    assert "data " in refused
    assert run("inspect", path, *given, "-q").code == 0
    with pytest.raises(UntrustedCheckpointError, match="trust"):
        hs.load_checkpoint(path)
    trusted = run("spectrum", path, "--trust", "--json", "-q")
    spelled = run("spectrum", path, *given, "--data", "net.py:examples", "--loss",
                  "net.py:halved", "--json", "-q")  # fmt: skip
    assert trusted.json["loss"] == spelled.json["loss"]
    assert trusted.json["architecture_source"] == "in the file"


def test_inspect_reads_no_data_unless_asked(run: Run, work: Path) -> None:
    run(*BASE, "--epochs", 1)
    (work / "data.npz").rename(work / "moved.npz")
    outcome = run("inspect", "run/epoch_1.pt")
    assert outcome.code == 0
    assert re.search(r"hessscope\.training\.optimizer\s+adam", outcome.out)
    assert "weights stood under" not in outcome.err
    assert "there is no data file" in run("spectrum", "run/epoch_1.pt", "-q").error


# --- the log -------------------------------------------------------------------------------------


def test_log_as_record_and_as_csv(run: Run, work: Path) -> None:
    outcome = run("train", "--arch", "mlp:6-4-3:tanh", "--data", "split.npz", "--epochs", 3,
                  "--batch-size", 20, "--log-curvature", "--json", "-q")  # fmt: skip
    record = hs.load_record("run/training.h5")
    assert record.kind == "training"
    assert record["epoch"].tolist() == [0, 1, 2, 3]
    assert record["step"].tolist() == [0, 2, 4, 6]
    assert record["steps/gTHg"].shape == (6,)
    assert record["status"] == "max_epochs"
    assert record["configuration"]["optimizer"] == "adam"
    assert record["test_examples"] == 20
    with Path("run/training.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["loss"]) for row in rows] == record["loss"].tolist()
    assert {"accuracy", "test_loss", "test_accuracy", "gTg", "gTHg", "seconds"} <= set(rows[0])
    (trial,) = outcome.json["trials"]
    for name in ("loss", "accuracy", "test_loss", "test_accuracy", "gTg", "gTHg"):
        assert trial[name] == record[name][-1]
    assert trial["gradient_norm"] == pytest.approx(math.sqrt(trial["gTg"]))


def test_json(run: Run, work: Path) -> None:
    outcome = run(*BASE, "--epochs", 2, "--trials", 2, "--json", "-q")
    assert outcome.err == ""
    result = outcome.json
    assert result["parameters"] == 43
    assert result["examples"] == EXAMPLES
    assert result["test_examples"] is None
    assert result["configuration"]["epochs"] == 2
    assert [t["trial"] for t in result["trials"]] == [1, 2]
    for trial in result["trials"]:
        assert trial["status"] == "max_epochs"
        assert trial["test_accuracy"] is None
        assert trial["gradient_norm"] > 0
        assert Path(trial["checkpoint"]).is_file()
        assert Path(trial["record"]).is_file()
    losses = [t["loss"] for t in result["trials"]]
    summary = result["summary"]["loss"]
    assert summary["mean"] == pytest.approx(np.mean(losses))
    assert summary["std"] == pytest.approx(np.std(losses, ddof=1))
    assert summary["trials"] == 2


def test_table(run: Run, work: Path) -> None:
    outcome = run("train", "--arch", "mlp:6-4-3:tanh", "--data", "split.npz", "--optimizer",
                  "nesterov", "--epochs", 30, "--init", "xavier-normal")  # fmt: skip
    assert "SGD with Nesterov momentum" in outcome.out
    assert "momentum 0.9" in outcome.out
    assert "xavier_normal initialization" in outcome.out
    shown = [int(m) for m in re.findall(r"^\s+(\d+)\s+\d\.\d+", outcome.out, re.M)]
    assert shown[0] == 0
    assert shown[-1] == 30
    assert len(shown) <= 13
    assert shown == sorted(set(shown))
    assert "test accuracy" in outcome.out
    assert "all epochs done" in outcome.out
    assert "note: epoch 10: loss" in outcome.err


# --- options -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (("--momentum", 0.7), {"momentum": 0.7}),
        (("--no-shuffle",), {"shuffle": False}),
        (("--stop-tolerance", 1e-3), {"stop_tolerance": 1e-3}),
        (
            ("--init", "normal", "--init-scale", 0.2),
            {"initialization": "normal", "init_scale": 0.2},
        ),
        (("--noise", 0.03), {"noise": 0.03}),
        (("--noise-shape", "sphere"), {"noise_shape": "sphere"}),
        (("--perturbation-radius", 0.04), {"perturbation_radius": 0.04}),
        (("--perturbation-threshold", 0.05), {"perturbation_threshold": 0.05}),
        (("--perturbation-interval", 7), {"perturbation_interval": 7}),
        (("--krylov-dimension", 12), {"krylov_dimension": 12}),
        (("--inner-steps", 3), {"inner_steps": 3}),
    ],
)
def test_every_option_reaches_its_place_and_no_other(
    run: Run, monkeypatch: pytest.MonkeyPatch, given: tuple[Any, ...], expected: dict[str, Any]
) -> None:
    asked: list[TrainingOptions] = []

    def trained(options: TrainOptions) -> None:
        asked.append(TrainingOptions.part_of(options, progress=silent, on_note=ignore))
        raise hs.HessscopeError("far enough")

    monkeypatch.setattr("hessscope.pipeline.training_runs.run_training", trained)
    assert run(*BASE, *given).error == "error: far enough"
    assert asked == [TrainingOptions(**expected)]
    assert asked != [TrainingOptions()]


# --- held-out examples ---------------------------------------------------------------------------


def test_what_a_subset_of_all_leaves_out_is_tested_on(work: Path) -> None:
    whole = hs.load_data("data.npz", split="all")
    options = DataOptions("data.npz", split="all", subset=45, seed=2)
    part, rest = read_data(options), read_data(options, others=True)
    assert (len(part), len(rest)) == (45, 15)
    rows = torch.cat([part.inputs, rest.inputs])
    assert sorted(map(tuple, rows.tolist())) == sorted(map(tuple, whole.inputs.tolist()))
    assert part.fingerprint != rest.fingerprint
    with pytest.raises(hs.HessscopeError, match="leaves out none"):
        read_data(DataOptions("data.npz", split="all", subset=60), others=True)
    report = train_checkpoints("data.npz", model="mlp:6-4-3:tanh", split="all", subset=45, epochs=1)
    assert report.facts["test_examples"] == 15


def test_without_a_test_split_there_is_a_note(run: Run, work: Path) -> None:
    assert "no held-out examples, so no test accuracy" in run(*BASE, "--epochs", 1).err


# --- presets -------------------------------------------------------------------------------------


def test_preset_of_the_2017_paper(run: Run, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HESSSCOPE_DATA", str(SAMPLE))
    outcome = run("train", "--preset", "sankar2017", "--subset", 800, "--epochs", 12,
                  "--json", "--save-every", 12)  # fmt: skip
    result = outcome.json
    assert result["architecture"] == "mlp:784-25-10:relu"
    assert result["parameters"] == 19_885
    assert (result["split"], result["loss_function"]) == ("all", "softmax_mse")
    assert any("minus the per-pixel mean" in step for step in result["preprocessing"])
    options = result["configuration"]
    assert options["optimizer"] == "momentum"
    assert (options["learning_rate"], options["momentum"]) == (0.1, 0.9)
    assert (options["batch_size"], options["shuffle"]) == (128, False)
    assert options["initialization"] == "xavier_normal"
    (trial,) = result["trials"]
    assert trial["accuracy"] > 0.4
    assert "optimizer momentum" in outcome.err
    assert "subset 800 was given and replaces 60000" in outcome.err
    start = weights("run/epoch_0.pt")
    assert not start["0.bias"].any()
    deviation = math.sqrt(2 / (784 + 25))
    assert float(start["0.weight"].std()) == pytest.approx(deviation, rel=0.02)
    # All of the setting is in the file.
    stored = Problem.of(InspectOptions("run/epoch_12.pt"))
    assert (stored.data, stored.split, stored.subset) == ("mnist", "all", 800)
    assert (stored.normalize, stored.loss) == ("center", "softmax_mse")


def test_preset_of_the_2014_paper(run: Run, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HESSSCOPE_DATA", str(SAMPLE))
    outcome = run("train", "--preset", "dauphin2014", "--arch", "mlp:100-3-10:tanh", "--epochs", 2,
                  "--json", "-q")  # fmt: skip
    result = outcome.json
    assert result["configuration"]["optimizer"] == "sfn"
    assert result["configuration"]["damping"] == [1.0, 0.1, 0.01, 0.001, 0.0001, 0.00001]
    assert result["dtype"] == "float64"
    assert result["parameters"] == 343
    assert "--model" in run("train", "--preset", "dauphin2014", "--out", "x", "-q").error


def test_another_optimizer_beside_a_preset_has_its_own_step() -> None:
    """Step and momentum were chosen for the preset's; the rest of the setting stays."""

    def preset(**given: Any) -> TrainingOptions:
        return TrainingOptions(**given).resolved("sankar2017")

    for name, step, batch in (
        ("adam", 1e-3, 128),
        ("noisy-sgd", 0.1, 128),
        ("nesterov", 0.01, 128),
        ("momentum", 0.1, 128),
        ("perturbed_gd", 0.1, "all"),
    ):
        options = preset(optimizer=name)
        assert (options.learning_rate, options.as_dict()["batch_size"]) == (step, batch)
        assert (options.epochs, options.initialization) == (100, "xavier_normal")
    assert (
        preset(optimizer="nesterov", learning_rate=0.3, momentum=0.5).as_dict()["momentum"] == 0.5
    )
    assert preset(optimizer="adam", learning_rate=0.3).learning_rate == 0.3
    newton = preset(optimizer="krylov_sfn")
    assert newton.as_dict()["batch_size"] == "all"
    assert preset(optimizer="krylov_sfn", batch_size=500).as_dict()["batch_size"] == 500
    with pytest.raises(UnknownNameError, match="optimizer 'adamm'"):
        preset(optimizer="adamm")


def test_what_is_said_of_a_preset_is_what_is_used(
    run: Run, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HESSSCOPE_DATA", str(SAMPLE))
    err = run("train", "--preset", "sankar2017", "--subset", 100, "--epochs", 1,
              "--optimizer", "adam").err  # fmt: skip
    assert "optimizer adam, learning_rate 0.001, batch_size 128" in err


def test_study_keeps_spectra_on_different_numbers_of_examples_apart(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[tuple[Path, int]] = []

    def spectrum(checkpoint: Path, subset: int, out: Path, **_: object) -> None:
        asked.append((out, subset))
        out.touch()

    monkeypatch.setattr(hs, "spectrum", spectrum)
    for examples in (10_000, 60_000, 10_000):
        path = sankar2017.spectrum("momentum", tmp_path / "epoch_100.pt", examples)
        assert path.is_file()
    assert asked == [
        (tmp_path / "epoch_100.10000.spectrum.h5", 10_000),
        (tmp_path / "epoch_100.60000.spectrum.h5", 60_000),
    ]


@pytest.mark.slow
def test_the_2017_setting_reaches_its_accuracy(
    data_folder: Path, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Table 1 of the paper: 96.35 ± 0.02 % after 100 epochs; near 95 % after 20."""
    monkeypatch.setenv("HESSSCOPE_DATA", str(data_folder))
    report = train_checkpoints(preset="sankar2017", epochs=20)
    (trial,) = report.trials
    assert report.facts["parameters"] == 19_885
    assert report.facts["examples"] == 60_000
    assert trial.measured["test_accuracy"] == pytest.approx(0.948, abs=0.012)


# --- folders: refusing, replacing, going on ------------------------------------------------------


def test_a_run_is_not_replaced_unless_asked(run: Run, work: Path) -> None:
    run(*BASE, "--epochs", 4, "--save-every", 2)
    Path("run/mine.txt").write_text("not of the run")
    before = listing(work)
    outcome = run(*BASE, "--epochs", 1)
    assert outcome.code == 2
    assert "holds a finished training run (3 checkpoints)" in outcome.error
    assert "--resume" in outcome.error
    assert run(*BASE, "--trials", 2).code == 2
    assert listing(work) == before
    assert run(*BASE, "--epochs", 1, "--overwrite").code == 0
    assert names("run") == ["epoch_0.pt", "epoch_1.pt", "mine.txt", "training.csv", "training.h5"]
    assert run(*BASE, "--overwrite", "--resume").code == 2


def test_the_start_is_not_replaced_by_its_own_run(run: Run, work: Path) -> None:
    run(*BASE, "--epochs", 2)
    before = listing(work)
    start = ("train", "--start", "run/epoch_2.pt", "--data", "data.npz", "--epochs", 1)
    outcome = run(*start, "--out", "run", "--overwrite")
    assert outcome.code == 2
    assert "run/epoch_2.pt is the checkpoint to start from" in outcome.error
    assert listing(work) == before
    assert run(*start, "--out", "other", "--quiet").code == 0


def test_bad_options_leave_an_old_run_alone(run: Run, work: Path) -> None:
    run(*BASE, "--epochs", 1)
    before = listing(work)
    for options in (
        ("--optimizer", "adan"), ("--epochs", 0), ("--loss", "croos_entropy"),
        ("--data", "missing.npz"), ("--arch", "mlp:7-4-3"), ("--batch-size", "few"),
        ("--damping", "1,x"), ("--init", "xavier"), ("--save-every", 0), ("--trials", 0),
    ):  # fmt: skip
        outcome = run(*BASE, *options, "--overwrite", "-q")
        assert outcome.code in (1, 2), options
        assert outcome.error
        assert listing(work) == before, options


def test_going_on_gives_the_same_bits(run: Run, work: Path) -> None:
    run(*BASE, "--epochs", 6, "--save-every", 2, "--out", "whole", "--log-curvature")
    run(*BASE, "--epochs", 3, "--save-every", 2, "--out", "parts", "--log-curvature")
    outcome = run(*BASE, "--epochs", 6, "--save-every", 2, "--out", "parts", "--log-curvature",
                  "--resume")  # fmt: skip
    assert outcome.code == 0
    assert "resumes from epoch 3" in outcome.err
    assert same("whole/epoch_6.pt", "parts/epoch_6.pt")
    whole, parts = (hs.load_record(f"{name}/training.h5") for name in ("whole", "parts"))
    for name in ("loss", "accuracy", "gTHg", "steps/loss", "steps/gTHg"):
        np.testing.assert_array_equal(whole[name], parts[name])
    # Once done, the same command says so and changes nothing.
    before = {k: v for k, v in listing(work).items() if k.endswith(".pt")}
    again = run(*BASE, "--epochs", 6, "--save-every", 2, "--out", "parts", "--log-curvature",
                "--resume", "--json")  # fmt: skip
    assert again.json["trials"][0]["epochs"] == 6
    assert {k: v for k, v in listing(work).items() if k.endswith(".pt")} == before


def test_a_run_that_is_done_keeps_its_final_numbers(run: Run, work: Path) -> None:
    """Of a network with running means, which a fresh network does not have yet."""
    (work / "net.py").write_text(
        "import torch\n"
        "def make():\n"
        "    return torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.BatchNorm1d(5),\n"
        "                               torch.nn.Tanh(), torch.nn.Linear(5, 3))\n"
    )
    command = (*BASE, "--arch", "net.py:make", "--epochs", 3, "--batch-size", 20, "--json", "-q")
    (first,) = run(*command).json["trials"]
    final = hs.load_record("run/training.h5")["final"]
    (again,) = run(*command, "--resume").json["trials"]
    for name in ("gradient_norm", "gTg", "gTHg"):
        assert again[name] == first[name] == final[name]
    assert hs.load_record("run/training.h5")["final"] == final
    # By the definition, from the checkpoint alone.
    problem = Problem.of(InspectOptions("run/epoch_3.pt", trust=True, dtype="float32"))
    assert float(open_problem(problem).risk.gradient().norm()) == pytest.approx(
        first["gradient_norm"], rel=1e-5
    )


def test_going_on_with_other_options_is_refused(run: Run, work: Path) -> None:
    run(*BASE, "--epochs", 2)
    outcome = run(*BASE, "--epochs", 4, "--resume", "--batch-size", 7, "-q")
    assert outcome.code == 2
    assert "batch_size 64, and now it is 7" in outcome.error
    assert "l2 0.0, and now it is 0.1" in run(*BASE, "--resume", "--l2", 0.1, "-q").error
    # In an empty folder there is nothing to go on with, and the run begins.
    assert run(*BASE, "--epochs", 1, "--resume", "--out", "new").code == 0


def test_trials_are_streams_of_their_own(run: Run, work: Path) -> None:
    run(*BASE, "--epochs", 1, "--trials", 3, "--out", "many")
    run(*BASE, "--epochs", 1, "--out", "one")
    assert names("many") == ["trial_1", "trial_2", "trial_3"]
    assert same("many/trial_1/epoch_1.pt", "one/epoch_1.pt")
    assert not same("many/trial_1/epoch_0.pt", "many/trial_2/epoch_0.pt")
    assert not same("many/trial_2/epoch_0.pt", "many/trial_3/epoch_0.pt")
    outcome = run(*BASE, "--epochs", 1, "--trials", 3, "--out", "many")
    assert "6 checkpoints" in outcome.error
    table = run(*BASE, "--epochs", 2, "--trials", 3, "--out", "many", "--resume").out
    assert "mean" in table
    assert "std" in table
    (torch_trial,) = {torch.load("many/trial_2/epoch_2.pt", weights_only=True)["epoch"]}
    assert torch_trial == 2


def test_start_from_a_checkpoint(run: Run, work: Path) -> None:
    """SGD first, then saddle-free Newton, as in section 7.1.2 of the 2014 paper."""
    run(*BASE, "--loss", "mse", "--l2", "0.001", "--optimizer", "sgd", "--epochs", 3)
    outcome = run("train", "--start", "run/epoch_3.pt", "--optimizer", "sfn", "--epochs", 2,
                  "--out", "after", "--json")  # fmt: skip
    result = outcome.json
    assert same("run/epoch_3.pt", "after/epoch_0.pt")
    assert (result["loss_function"], result["l2"]) == ("mse", 0.001)
    assert result["start_checkpoint"] == "run/epoch_3.pt"
    first = hs.load_record("run/training.h5")["loss"]
    second = hs.load_record("after/training.h5")["loss"]
    assert second[0] == pytest.approx(first[-1], rel=1e-5)
    assert second[-1] < second[0]
    assert hs.load_checkpoint("after/epoch_2.pt").architecture == "mlp:6-4-3:tanh"
    refused = run("train", "--start", "run/epoch_3.pt", "--init", "he-normal", "--out", "x", "-q")
    assert "would replace the weights" in refused.error


# --- what goes wrong -----------------------------------------------------------------------------


def test_divergence_is_said_and_the_last_good_epoch_kept(run: Run, work: Path) -> None:
    outcome = run(*BASE, "--optimizer", "sgd", "--lr", "1e30", "--loss", "mse", "-q", "--json")
    assert outcome.code == 3
    (trial,) = outcome.json["trials"]
    assert trial["status"] == "non_finite"
    assert f"{trial['checkpoint']} is the last epoch before" in outcome.error
    assert "smaller --learning-rate" in outcome.error
    assert all(bool(torch.isfinite(v).all()) for v in weights(trial["checkpoint"]).values())
    assert hs.load_record("run/training.h5")["status"] == "non_finite"


def test_a_trial_that_diverges_does_not_lose_the_others(
    run: Run, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hessscope.pipeline import training_runs

    train = training_runs.train

    def second_fails(*arguments: Any, **options: Any) -> Any:
        if arguments[2].trial == 1:
            raise hs.HessscopeError("no luck")
        return train(*arguments, **options)

    monkeypatch.setattr(training_runs, "train", second_fails)
    outcome = run(*BASE, "--epochs", 1, "--trials", 3, "--json", "-q")
    assert outcome.code == 3
    assert outcome.error == "error: trial 2: no luck"
    assert [t["status"] for t in outcome.json["trials"]] == ["max_epochs", "failed", "max_epochs"]
    assert outcome.json["summary"]["loss"]["trials"] == 2


def test_full_disk_keeps_what_was_written(
    run: Run, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hessscope import records

    write = records.write_atomically

    def full(path: Path, content: Any, overwrite: bool = False) -> None:
        if path.name == "epoch_4.pt":
            raise hs.HessscopeError(f"cannot write {path}: No space left on device")
        write(path, content, overwrite)

    monkeypatch.setattr("hessscope.records.store.write_atomically", full)
    outcome = run(*BASE, "--epochs", 6, "--save-every", 2, "-q")
    assert outcome.code == 1
    assert "No space left" in outcome.error
    monkeypatch.undo()
    monkeypatch.chdir(work)
    assert {"epoch_0.pt", "epoch_2.pt"} <= set(names("run"))
    assert run(*BASE, "--epochs", 6, "--save-every", 2, "--resume").code == 0


def test_ctrl_c_keeps_every_epoch_and_the_run_goes_on(run: Run, work: Path) -> None:
    arguments = [*BASE, "--epochs", "100000", "--save-every", "1000000"]
    process = subprocess.Popen(
        [sys.executable, "-c", "from hessscope_cli.main import run; run()", *arguments],
        cwd=work, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    for _ in range(600):
        if (work / "run" / "epoch_0.pt").exists():
            break
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    last = err.splitlines()[-1]
    assert last == (
        "error: interrupted; every epoch that was finished is in run: rerun the same command to "
        "resume"
    )
    assert "interrupted" in out
    record = hs.load_record("run/training.h5")
    reached = int(record["epoch"][-1])
    assert record["status"] == "interrupted"
    assert {"epoch_0.pt", f"epoch_{reached}.pt"} <= set(names("run"))
    outcome = run(*BASE, "--epochs", reached + 2)
    assert outcome.code == 0
    assert f"resumes from epoch {reached}" in outcome.err
    assert run(*BASE, "--epochs", reached + 2).code == 2  # now it is finished
    run(*BASE, "--epochs", reached + 2, "--out", "whole")
    assert same(f"run/epoch_{reached + 2}.pt", f"whole/epoch_{reached + 2}.pt")


def test_quiet_and_progress(work: Path) -> None:
    stages: list[tuple[str, int, int]] = []
    train_checkpoints(
        "data.npz", model="mlp:6-4-3:tanh", epochs=2, batch_size=20, trials=2,
        progress=lambda *told: stages.append(told),
    )  # fmt: skip
    assert [s for s in stages if s[0] == "training, trial 2 of 2"] == [
        ("training, trial 2 of 2", done, 6) for done in range(7)
    ]


def test_the_function_takes_objects_too(work: Path) -> None:
    data = arrays()
    report = train_checkpoints(
        (data["inputs"], data["targets"]),
        model=lambda: torch.nn.Linear(6, 3),
        epochs=1,
        out="objects",
    )
    setting = read_setting("objects/epoch_1.pt")
    assert setting is not None
    assert (setting.architecture, setting.data) == (None, None)
    assert report.trials[0].status == "max_epochs"
    with pytest.raises(OptionError, match="no network to train"):
        train_checkpoints("data.npz", out="x")
    with pytest.raises(OptionError, match="no data to train on"):
        train_checkpoints(model="mlp:6-4-3", out="x")


def test_a_damaged_checkpoint_is_not_gone_on_from(run: Run, work: Path) -> None:
    """A flipped bit in the weights, which torch alone does not see."""
    assert run(*BASE, "--epochs", 2, "-q").code == 0
    path = work / "run" / "epoch_2.pt"
    content = bytearray(path.read_bytes())
    weight = torch.load(path, weights_only=True)["state_dict"]["0.weight"].numpy().tobytes()
    content[content.index(weight) + 5] ^= 1
    path.write_bytes(content)
    outcome = run(*BASE, "--epochs", 4, "--resume", "-q")
    assert outcome.code == 1
    assert "epoch_2.pt" in outcome.error
