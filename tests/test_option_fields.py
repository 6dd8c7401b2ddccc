"""Every option works alike on the command line, in the function, and for a series."""

from __future__ import annotations

import re
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hessscope as hs
from cli_runs import Run
from conftest import REPOSITORY
from hessscope.options.fields import COMPUTING, MATRIX, OUTPUT
from hessscope.options.spectrum import SpectrumOptions
from hessscope_cli.wording import flag_of

HERE = Path()
SURVEY = ("survey", "--data", "data.npz", "--model", "mlp:6-2-3:tanh", "--train", 1)
BETWEEN = ("section", "model.pt", "model.pt", "--data", "data.npz")
ALONG = ("section", "model.pt", "--data", "data.npz")
COMMANDS = {
    "survey": "hessscope.pipeline.surveys.run_study",
    "section": "hessscope.pipeline.sections.run_section",
}

# As typed; what else has to be given beside some of them.
TYPED = {
    "checkpoint": "model.pt", "data": "data.npz", "split": "test", "subset": "40", "root": ".",
    "resize": "10x12", "normalize": "center", "targets": "inputs", "loss": "mse", "l2": "0.01",
    "preset": "dauphin2014", "model": "mlp:6-4-3:tanh", "activation": "tanh", "key": "models.0",
    "dtype": "float32", "device": "cpu", "seed": "3", "out": "r.h5", "plot": "f.png",
    "memory": "4GB", "backend": "lanczos", "steps": "7", "probes": "2", "reorthogonalize": "none",
    "target_width": "0.2", "budget": "30min", "tolerance": "1e-6", "zero_rule": "relative",
    "plan": "earlier.h5", "operator": "gauss-newton", "params": "0.*", "eigenvectors": "lowest:2",
    "save_every": "5", "products": "finite-difference", "by": "block", "block_probes": "3",
    "context": "128", "tokenizer": "characters", "token_type": "uint32", "compile": "never",
}  # fmt: skip
BESIDE = {"budget": {"target_width": "0.2"}}
# Those that a small problem on arrays can be computed with.
COMPUTED = [
    name for name, how in SpectrumOptions.described().items()
    if how.panel in (COMPUTING, MATRIX, OUTPUT) or name in ("subset", "l2", "activation")
]  # fmt: skip


def given_python(name: str) -> dict[str, Any]:
    """An option and what belongs to it, as Python code gives them."""
    typed = {**BESIDE.get(name, {}), name: TYPED.get(name, True)}
    return {"checkpoint": "model.pt", "data": "data.npz", **typed}


def given_flags(name: str) -> list[str]:
    """The same on the command line."""
    flags = []
    known = SpectrumOptions.described()
    for option, value in given_python(name).items():
        how = known[option]
        switch = [] if value is True else [str(value)]
        flags += [*([] if how.argument else [flag_of(option, how)]), *switch]
    return flags


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[SpectrumOptions]:
    """The options of each computation; none is done."""
    noted: list[SpectrumOptions] = []

    def compute(options: SpectrumOptions, *_: object) -> None:
        noted.append(options)
        raise SystemExit(0)

    for module in ("hessscope.pipeline", "hessscope.pipeline.spectrum_runs"):
        monkeypatch.setattr(f"{module}.compute_spectrum", compute)
    monkeypatch.setattr("hessscope.pipeline.series.compute_spectrum", compute)
    return noted


@pytest.mark.parametrize("name", [n for n, h in SpectrumOptions.described().items() if h.panel])
def test_every_option_reaches_command_function_and_series(
    run: Run, work: Path, asked: list[SpectrumOptions], name: str
) -> None:
    assert run("spectrum", *given_flags(name)).err == ""
    with pytest.raises(SystemExit):
        hs.spectrum(**given_python(name))
    with pytest.raises(SystemExit):
        hs.spectrum_series(**given_python(name))
    typed, called, series = asked
    value = getattr(called, name)
    assert value != getattr(SpectrumOptions("other.pt"), name)
    for_a_series = {"checkpoint": HERE / "model.pt", "plot": None, "overwrite": True}
    if name == "semicircle":  # the figure of a series has no density
        assert series.bulk
    else:
        assert getattr(series, name) == for_a_series.get(name, value)
    if name not in ("checkpoint", "device"):
        assert getattr(typed, name) == value


@pytest.mark.parametrize("name", COMPUTED)
@pytest.mark.filterwarnings("ignore::hessscope.errors.HessscopeWarning")
def test_every_option_works_in_python(work: Path, name: str) -> None:
    tanh = {"model": "mlp:6-4-3:tanh"} if name != "activation" else {}
    hs.spectrum("model.pt", "data.npz", model="mlp:6-4-3:tanh", out="earlier.h5")
    beside = {"plot": "g.png"} if name == "semicircle" else {}
    given = {"backend": "lanczos"} if name in ("steps", "probes", "target_width") else {}
    given |= {**tanh, **beside, **given_python(name)}
    single = hs.spectrum(**given)
    series = hs.spectrum_series(**{**given, "overwrite": True})
    (entry,) = series.done
    assert entry.number("trace") == pytest.approx(single.as_dict()["trace"], rel=1e-9)


def test_names_may_be_classes_and_objects(work: Path) -> None:
    given = {"activation": "tanh", "device": "cpu"}
    named = hs.spectrum(
        "model.pt", "data.npz", backend="lanczos", steps=30, operator="gauss-newton",
        tolerance=1e-8, **given,
    )  # fmt: skip
    made = hs.spectrum(
        "model.pt", "data.npz", backend=hs.LanczosBackend(steps=30),
        operator=hs.GaussNewtonOperator, zero_rule=hs.AbsoluteRule(1e-8), out="r.h5", **given,
    )  # fmt: skip
    np.testing.assert_array_equal(made.result.nodes, named.result.nodes)
    assert made.inertia == named.inertia
    record = hs.load_record("r.h5")
    assert (record["backend"], record["operator"]) == ("lanczos", "gauss_newton")
    assert record["zero_rule"] == "absolute"
    plain = hs.spectrum("model.pt", "data.npz", backend=hs.LanczosBackend, steps=30, **given)
    assert plain.result.options["steps"] == 30


def test_every_help_text_is_written_once() -> None:
    sources = [
        " ".join(re.sub(r'"\s*\n\s*f?"', "", path.read_text()).split())
        for folder in ("hessscope", "cli")
        for path in (REPOSITORY / folder).rglob("*.py")
    ]
    for name, how in SpectrumOptions.described().items():
        start = re.split(r"[{}]", how.help)[0][-40:] if "{" in how.help else how.help[-40:]
        assert sum(source.count(start) for source in sources) == 1, name


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
