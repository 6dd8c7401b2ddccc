"""The one-liners over a path, as Python code calls them."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

import hessscope as hs
from cli_runs import CLASSES, EXAMPLES, INPUTS, PARAMETERS, arrays, listing, network
from hessscope.errors import (
    AssumptionWarning,
    HessscopeWarning,
    MemoryLimitError,
    OptionError,
    OutputExistsError,
    RecordError,
    UnknownNameError,
)
from hessscope.loaders.checkpoints.perceptrons import make_perceptron
from hessscope.options.inspect import InspectOptions
from hessscope.options.setting import PRESETS
from hessscope.options.spectrum import SpectrumOptions
from hessscope.pipeline import Problem, compute_spectrum, open_problem, save_record
from hessscope.training import train

SAMPLE = Path(__file__).parent / "data"


def options(**given: object) -> SpectrumOptions:
    return SpectrumOptions("model.pt", "data.npz", activation="tanh", device="cpu", **given)  # type: ignore[arg-type]


def test_spectrum_is_that_of_the_operator(work: Path) -> None:
    report = hs.spectrum("model.pt", "data.npz", activation="tanh", device="cpu")
    data = arrays()
    pair = (torch.from_numpy(data["inputs"]), torch.from_numpy(data["targets"]))
    risk = hs.EmpiricalRisk(network(), pair, device="cpu")
    dense = hs.HessianOperator(risk).to_dense()
    assert isinstance(report.result, hs.Spectrum)
    np.testing.assert_allclose(
        report.result.eigenvalues, np.linalg.eigvalsh(dense.numpy()), atol=1e-14
    )
    assert report.loss == pytest.approx(risk.value(), rel=1e-14)
    assert report.criticality.gradient_norm == pytest.approx(float(risk.gradient().norm()))
    assert report.classification.startswith("not a critical point")


def test_data_may_be_an_object(work: Path) -> None:
    data = arrays()
    pair = (torch.from_numpy(data["inputs"]), torch.from_numpy(data["targets"]))
    report = hs.spectrum("model.pt", pair, activation="tanh", model=None, out="r.h5")
    assert len(report.opened.data) == EXAMPLES
    assert report.record == Path("r.h5")
    assert hs.load_record("r.h5").attributes["data"] == "in memory"


def test_loss_may_be_a_function(work: Path) -> None:
    def halved(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(outputs, targets) / 2

    whole = hs.spectrum("model.pt", "data.npz", activation="tanh")
    half = hs.spectrum("model.pt", "data.npz", activation="tanh", loss=halved)
    assert half.loss == pytest.approx(whole.loss / 2, rel=1e-14)
    assert half.as_dict()["trace"] == pytest.approx(whole.as_dict()["trace"] / 2, rel=1e-12)
    assert half.as_dict()["loss_function"] == "halved"


def test_a_loss_file_runs_once(work: Path) -> None:
    """Comparing eight activations must not run the user's code eight times."""
    (work / "losses.py").write_text(
        "import torch\n"
        "open('runs', 'a').write('x')\n"
        "mine = torch.nn.functional.cross_entropy\n"
    )  # fmt: skip
    open_problem(InspectOptions("model.pt", "data.npz", loss="losses.py:mine", activation="tanh"))
    assert (work / "runs").read_text() == "x"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HessscopeWarning)
        open_problem(InspectOptions("model.pt", "data.npz", loss="losses.py:mine"))
    assert (work / "runs").read_text() == "xx"


def test_activation_is_found_and_said(work: Path) -> None:
    """Training stopped at a small gradient of the true network, not of the others."""
    data = hs.load_data("digits")
    torch.manual_seed(0)
    model = make_perceptron("mlp:64-8-10:tanh")
    train(model, data, epochs=20, learning_rate=3e-3)
    torch.save(model.state_dict(), "digits.pt")
    told: list[str] = []
    inspection = hs.inspect_checkpoint("digits.pt", "digits", on_note=told.append)
    assert inspection.checkpoint.architecture == "mlp:64-8-10:tanh"
    assert inspection.checkpoint.activation_source == "compared"
    (note,) = (note for note in told if note.startswith("activation"))
    assert note.startswith("activation tanh, found by comparing")
    assert inspection.opened is not None
    assert tuple(told) == inspection.opened.notes


def test_an_unsure_activation_is_a_warning_and_no_note(work: Path) -> None:
    with pytest.warns(AssumptionWarning, match="give `activation="):
        opened = open_problem(InspectOptions("model.pt", "data.npz", subset=3))
    assert not any(note.startswith("activation") for note in opened.notes)


def test_presets_fill_in_what_was_not_given() -> None:
    made = Problem.of(InspectOptions("m.pt", preset="sankar2017", subset=100))
    assert (made.data, made.split, made.subset) == ("mnist", "all", 100)
    assert (made.normalize, made.loss, made.preset) == ("center", "softmax_mse", "sankar2017")
    (note,) = made.sources()
    assert "subset 100 was given and replaces 60000" in note
    assert Problem.of(InspectOptions("m.pt")).sources() == ()
    with pytest.raises(UnknownNameError, match="Did you mean 'dauphin2014'"):
        InspectOptions("m.pt", preset="dauphin2015")


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_open_the_papers_data(
    work: Path, preset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HESSSCOPE_DATA", str(SAMPLE))
    size = 10 if preset == "dauphin2014" else 28
    torch.manual_seed(0)
    torch.save(torch.nn.Linear(size * size, 10).state_dict(), "linear.pt")
    opened = open_problem(InspectOptions("linear.pt", preset=preset, subset=100, device="cpu"))
    assert opened.data.inputs.shape[-2:] == (size, size)
    assert opened.risk.loss.name == PRESETS[preset]["loss"]
    if preset == "sankar2017":
        assert opened.data.split == "all"
        assert any("minus" in step or "cent" in step for step in opened.data.preprocessing)


@pytest.mark.filterwarnings("ignore:the tolerance decides")
def test_target_width(work: Path) -> None:
    """The intervals hold the exact counts, and the record says what was asked for."""
    common = {"activation": "tanh", "device": "cpu", "tolerance": 1e-2}
    exact = hs.spectrum("model.pt", "data.npz", **common).as_dict()
    report = hs.spectrum(
        "model.pt", "data.npz", backend="lanczos", steps=8, probes=2, out="r.h5",
        target_width=0.7, budget=5000, **common,
    )  # fmt: skip
    sampled = report.as_dict()
    for name in ("index", "degeneracy", "positive"):
        count = sampled[name]
        assert count["lower"] <= exact[name]["estimate"] <= count["upper"], name
    for name in ("index", "degeneracy"):
        count = sampled[name]
        assert count["upper"] - count["lower"] <= max(0.7 * count["estimate"], 1)
    options = hs.load_record("r.h5").attributes["configuration"]
    assert (options["target_width"], options["reorthogonalize"]) == (0.7, "full")
    assert "at most 0.7" in sampled["ended"]


def test_target_width_without_room_for_a_basis_is_refused(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hessscope.backends.lanczos.memory_room", lambda *_: 0)
    with pytest.raises(MemoryLimitError, match="Lanczos basis"):
        hs.spectrum(
            "model.pt", "data.npz", activation="tanh", device="cpu", backend="lanczos",
            target_width=0.1,
        )  # fmt: skip
    with pytest.raises(OptionError, match="leave out `reorthogonalize=none`"):
        hs.spectrum(
            "model.pt", "data.npz", activation="tanh", device="cpu", backend="lanczos",
            target_width=0.1, reorthogonalize="none",
        )  # fmt: skip


def test_nothing_is_computed_where_the_output_is_there(work: Path) -> None:
    (work / "r.h5").write_text("precious")
    with pytest.raises(OutputExistsError, match=r"r\.h5 exists"):
        hs.spectrum("absent.pt", "data.npz", out="r.h5")
    with pytest.raises(OptionError, match=r"model\.pt is the checkpoint"):
        hs.spectrum("model.pt", "data.npz", out="model.pt", overwrite=True)
    with pytest.raises(OptionError, match="`tolerance=-1`"):
        hs.spectrum("absent.pt", "data.npz", tolerance=-1)
    assert (work / "r.h5").read_text() == "precious"


def test_compute_and_save_are_two_steps(work: Path) -> None:
    before = listing(work)
    asked = options(out="r.h5")
    report = compute_spectrum(asked)
    assert report.record is None
    assert listing(work) == before
    (work / "r.h5").write_text("came up meanwhile")
    with pytest.warns(HessscopeWarning, match=r"saved as r-2\.h5"):
        saved = save_record(asked, report)
    assert saved.record == Path("r-2.h5")
    assert (work / "r.h5").read_text() == "came up meanwhile"


def test_progress_and_notes_are_reported(work: Path) -> None:
    stages: dict[str, tuple[int, int]] = {}
    told: list[str] = []

    def progress(stage: str, done: int, total: int) -> None:
        assert stage in stages or done == 0
        stages[stage] = (done, total)

    report = compute_spectrum(options(progress=progress, on_note=told.append))
    assert any(stage.startswith("eigenvalues of") for stage in stages)
    assert all(done == total for done, total in stages.values())
    assert told[-1].startswith("backend exact (chosen by auto)")
    assert tuple(told[:-1]) == report.notes


def test_counts_of_the_sweep_fit_into_json_and_record(work: Path) -> None:
    report = hs.spectrum("model.pt", "data.npz", activation="tanh", out="r.h5")
    columns = report.as_dict()["tolerance_sweep"]
    saved = hs.load_record("r.h5").attributes["tolerance_sweep"]
    assert {name: list(column) for name, column in saved.items()} == columns
    for i in range(len(columns["tolerance"])):
        total = columns["index"][i] + columns["degeneracy"][i] + columns["positive"][i]
        assert total == PARAMETERS


def test_an_option_that_does_not_exist_is_named() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown option 'los'\. Did you mean 'loss'"):
        hs.spectrum("model.pt", data="digits", los="mse")


@pytest.mark.parametrize("backend", ["exact", "lanczos"])
def test_plan_of_a_record_gives_the_same_bits(work: Path, backend: str) -> None:
    options = {"activation": "tanh", "device": "cpu", "steps": 12, "probes": 3}
    first = hs.spectrum("model.pt", "data.npz", backend=backend, out="first.h5", **options)
    # Another thread count changes the order of sums, but the record's is taken.
    threads = torch.get_num_threads()
    torch.set_num_threads(1 if threads > 1 else 2)
    try:
        again = hs.spectrum("model.pt", "data.npz", plan="first.h5", out="again.h5", **options)
        assert torch.get_num_threads() == (1 if threads > 1 else 2)
    finally:
        torch.set_num_threads(threads)
    assert again.backend == backend
    assert again.plan == first.plan
    assert hs.load_record("again.h5")["torch_threads"] == threads
    name = "eigenvalues" if backend == "exact" else "nodes"
    np.testing.assert_array_equal(getattr(again.result, name), getattr(first.result, name))
    assert again.result.noise_floor == first.result.noise_floor


def test_plan_takes_the_groups_of_probes_of_its_record(work: Path) -> None:
    grouped = hs.LanczosBackend(steps=6, probes=5, together=2)
    asked = options(backend=grouped, out="grouped.h5")
    save_record(asked, compute_spectrum(asked))
    later = compute_spectrum(options(plan="grouped.h5"))
    assert later.backend == "lanczos"
    assert later.result.options["together"] == 2


def test_plan_of_another_network_or_of_none_is_refused(work: Path) -> None:
    hs.spectrum("model.pt", "data.npz", activation="tanh", out="first.h5")
    torch.save(make_perceptron(f"mlp:{INPUTS}-2-{CLASSES}:tanh").state_dict(), "other.pt")
    with pytest.raises(RecordError, match="network has 23"):
        hs.spectrum("other.pt", "data.npz", activation="tanh", plan="first.h5")
    with pytest.raises(RecordError, match="no record"):
        hs.spectrum("model.pt", "data.npz", plan="nowhere.h5")
    hs.spectrum("model.pt", "data.npz", activation="tanh", backend="pyhessian", out="none.h5")
    with pytest.raises(RecordError, match="no plan to repeat"):
        hs.spectrum("model.pt", "data.npz", activation="tanh", plan="none.h5")
    with pytest.raises(OptionError, match="whose plan is repeated"):
        hs.spectrum("model.pt", "data.npz", plan="first.h5", out="first.h5", overwrite=True)


def test_plan_that_holds_too_much_for_the_memory_is_refused(work: Path) -> None:
    hs.spectrum("model.pt", "data.npz", activation="tanh", out="first.h5")
    with pytest.raises(MemoryLimitError, match="leave out the `plan`, or give more"):
        hs.spectrum("model.pt", "data.npz", activation="tanh", plan="first.h5", memory=10**6)


def test_unknown_options_are_looked_for_among_all(work: Path) -> None:
    """Those of the function and those of the problem, and none that only hessscope sets."""
    for option, meant in (("tolerence", "tolerance"), ("backnd", "backend"), ("los", "loss")):
        with pytest.raises(UnknownNameError, match=f"Did you mean '{meant}'") as caught:
            hs.spectrum("model.pt", "data.npz", **{option: 1})
        assert "withheld" not in str(caught.value)
