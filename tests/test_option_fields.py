"""What is typed reaches the request: options that other tests give no value that could be seen."""

from __future__ import annotations

from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hessscope as hs
from cli_runs import Run

HERE = Path()
SPECTRUM = ("spectrum", "model.pt", "--data", "data.npz")
SURVEY = ("survey", "--data", "data.npz", "--model", "mlp:6-2-3:tanh", "--train", 1)
BETWEEN = ("section", "model.pt", "model.pt", "--data", "data.npz")
ALONG = ("section", "model.pt", "--data", "data.npz")
COMMANDS = {
    "spectrum": "hessscope_cli.spectrum.run_spectrum",
    "survey": "hessscope.pipeline.surveys.run_study",
    "section": "hessscope.pipeline.sections.run_section",
}


def requests(monkeypatch: pytest.MonkeyPatch, function: str) -> list[Any]:
    """The requests with which a function is called; none of them is answered."""
    asked: list[Any] = []

    def noted(request: Any, *_: object, **__: object) -> None:
        asked.append(request)
        raise SystemExit(0)

    monkeypatch.setattr(function, noted)
    return asked


@pytest.mark.parametrize(
    ("command", "option", "value", "field", "expected"),
    [
        (SPECTRUM, "--target-width", ["0.2"], "sampled.target_width", 0.2),
        (SPECTRUM, "--target-width", ["0.2", "--budget", "700"], "sampled.budget", "700"),
        (SPECTRUM, "--target-width", ["0.2", "--budget", "30min"], "sampled.budget", "30min"),
        (SPECTRUM, "--reorthogonalize", ["none"], "sampled.reorthogonalize", "none"),
        (SPECTRUM, "--reorthogonalize", ["full"], "sampled.reorthogonalize", "full"),
        (SPECTRUM, "--data-dir", ["."], "problem.root", HERE),
        (SPECTRUM, "--grayscale", [], "problem.grayscale", True),
        (SURVEY, "--retry-failed", [], "retry_failed", True),
        (SURVEY, "--threads", ["3"], "threads", 3),
        (SURVEY, "--scheduler", ["tcp://a:1"], "scheduler", "tcp://a:1"),
        (SURVEY, "--range", ["-0.5,0.25"], "range", (-0.5, 0.25)),
        (SURVEY, "--amplitudes", ["0.3,0.02"], "amplitudes", (0.3, 0.02)),
        (BETWEEN, "--margin", ["0.3"], "margin", 0.3),
        (ALONG, "--reach", ["0.7"], "reach", 0.7),
    ],
)
def test_options_reach_their_field(
    run: Run, work: Path, monkeypatch: pytest.MonkeyPatch,
    command: tuple[Any, ...], option: str, value: list[str], field: str, expected: Any,
) -> None:  # fmt: skip
    asked = requests(monkeypatch, COMMANDS[command[0]])
    outcome = run(*command, f"{option}={value[0]}" if value else option, *value[1:])
    assert outcome.err == ""
    assert reduce(getattr, field.split("."), asked[0]) == expected
    assert run(*command).err == ""
    assert reduce(lambda at, name: getattr(at, name, None), field.split("."), asked[1]) != expected


def test_target_width_in_python(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = requests(monkeypatch, "hessscope.pipeline.spectrum_runs.run_spectrum")
    with pytest.raises(SystemExit):
        hs.spectrum("model.pt", "data.npz", target_width=0.2, budget=700, reorthogonalize="full")
    assert (asked[0].sampled.target_width, asked[0].sampled.budget) == (0.2, 700)
    assert asked[0].sampled.reorthogonalize == "full"


def test_grey_pictures_have_one_channel(run: Run, work: Path) -> None:
    rng = np.random.default_rng(0)
    colours = rng.integers(0, 256, (30, 2, 2, 3), dtype=np.uint8)
    np.savez(work / "colours.npz", inputs=colours, targets=np.arange(30) % 3)
    (work / "net.py").write_text(
        "from torch import nn\n"
        "def net():\n"
        "    return nn.Sequential(nn.Conv2d(1, 3, 2), nn.Flatten())\n"
    )
    done = run(
        "train", "--arch", "net.py:net", "--data", "colours.npz", "--grayscale", "--epochs", 1,
        "--device", "cpu", "--json", "-q",
    )  # fmt: skip
    assert done.code == 0, done.err
    result = run("spectrum", "run/epoch_1.pt", "--trust", "--device", "cpu", "--json", "-q")
    assert result.code == 0, result.err
    assert result.json["parameters"] == 3 * 4 + 3
    assert "grey (0.299 R + 0.587 G + 0.114 B)" in result.json["preprocessing"]


def test_survey_in_python_is_the_command(run: Run, work: Path) -> None:
    done = run(
        "survey", "--starts", "model.pt", "--data", "data.npz", "--activation", "tanh", "--l2",
        "0.05", "--uniform", 1, "--range=-0.5,0.25", "--seed", 3, "--max-iterations", 40,
        "--device", "cpu", "--workers", 1, "--threads", 1, "--quiet", "--json",
    )  # fmt: skip
    assert done.code in (0, 3), done.err
    report = hs.survey_checkpoints(
        data="data.npz", out="python", starts="model.pt", activation="tanh", l2=0.05, trajectory=0,
        uniform=1, range=(-0.5, 0.25), seed=3, max_iterations=40, device="cpu", workers=1,
        threads=1,
    )  # fmt: skip
    assert report.as_dict()["statuses"] == done.json["statuses"]
    for name in ("user_0001", "uniform_0001"):
        one, other = (hs.load_record(f"{folder}/{name}.h5") for folder in ("study", "python"))
        np.testing.assert_array_equal(one["start_parameters"], other["start_parameters"])
        np.testing.assert_array_equal(one["parameters"], other["parameters"])
        assert one.attributes["index"] == other.attributes["index"]
    start = hs.load_record("python/uniform_0001.h5")["start_parameters"]
    assert -0.5 <= start.min() < -0.3
    assert 0.1 < start.max() <= 0.25
