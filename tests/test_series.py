"""Spectra of several checkpoints: equal to single ones, stored one by one, gone on with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

import numpy as np
import pytest
import torch

import hessscope as hs
from cli_runs import PARAMETERS, Run, arrays, listing
from hessscope.options.spectrum import SpectrumOptions
from hessscope.pipeline import (
    SeriesReport,
    compute_spectrum,
    find_checkpoints,
    series,
    spectrum_series,
    train_checkpoints,
)
from hessscope.pipeline.checkpoint_files import named_epoch
from hessscope.reports.figures import plot_series
from hessscope.reports.tables import series_table

VOLATILE = {"seconds", "record", "plan", "backend_choice", "noise_floor", "gradient_floor", "notes"}


@pytest.fixture
def work(work: Path) -> Path:
    """model.pt, data.npz, and a run of four checkpoints."""
    train_checkpoints(
        "data.npz", model="mlp:6-4-3:tanh", optimizer="sgd", epochs=12, save_every=4,
        learning_rate=0.2, device="cpu",
    )  # fmt: skip
    return work


def close(a: Any, b: Any) -> bool:
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(close(a[k], b[k]) for k in a)
    if isinstance(a, float) and isinstance(b, float):
        return a == pytest.approx(b, rel=1e-8, abs=1e-12)
    return bool(a == b)


BASE = ("spectrum", "run", "--device", "cpu", "--tolerance", "1e-9")


def test_a_series_is_what_single_runs_give(run: Run, work: Path) -> None:
    outcome = run(*BASE, "--json")
    assert outcome.code == 0, outcome.err
    results = outcome.json
    epochs = (0, 4, 8, 12)
    assert [Path(r["checkpoint"]).name for r in results] == [f"epoch_{e}.pt" for e in epochs]
    record = hs.load_record("run.series.h5")
    assert record.kind == "spectrum series"
    assert record["epoch"].tolist() == list(epochs)
    for number, (epoch, result) in enumerate(zip(epochs, results, strict=True)):
        single = run(
            "spectrum", f"run/epoch_{epoch}.pt", "--device", "cpu", "--tolerance", "1e-9",
            "--json", "--out", f"single_{epoch}.h5",
        ).json  # fmt: skip
        assert single.keys() == result.keys()
        for key in single.keys() - VOLATILE - {"tolerance_sweep"}:
            assert close(single[key], result[key]), key
        eigenvalues = hs.load_record(f"single_{epoch}.h5")["eigenvalues"]
        stored = record[f"results/{number:04d}/eigenvalues"]
        np.testing.assert_allclose(stored, eigenvalues, atol=1e-12)
        assert record["index"][number] == result["index"]["estimate"]
        assert record["degeneracy_upper"][number] == result["degeneracy"]["upper"]
        for name in ("loss", "lambda_max", "lambda_min", "gTHg", "gradient_norm"):
            assert record[name][number] == result[name]
        assert result["record"] == "run.series.h5"


def test_curvature_along_the_gradient_in_the_json(work: Path) -> None:
    report = hs.spectrum("run/epoch_4.pt", device="cpu")
    risk = report.opened.risk
    g, h = risk.gradient(), 1e-5
    at = risk.parameters
    change = risk.gradient(at + h * g) - risk.gradient(at - h * g)
    result = report.as_dict()
    assert result["gTHg"] == pytest.approx(float(change @ g) / (2 * h), rel=1e-6)
    assert result["gTg"] == pytest.approx(float(g @ g), rel=1e-12)


def test_table_and_notes(run: Run, work: Path) -> None:
    outcome = run(*BASE)
    rows = [line.split() for line in outcome.out.splitlines()]
    assert [row[0] for row in rows if row and row[0].isdigit()] == ["0", "4", "8", "12"]
    assert "parameters n" in outcome.out
    assert f"{PARAMETERS}" in outcome.out
    for title in ("epoch", "index", "degeneracy", "λ max", "gᵀHg/gᵀg"):
        assert title in outcome.out
    notes = [line for line in outcome.err.splitlines() if line.startswith("note:")]
    assert len(notes) == len(set(notes))
    assert "record: run.series.h5" in outcome.err


def test_a_common_tolerance_is_shown_as_other_tables_show_it(run: Run, work: Path) -> None:
    outcome = run("spectrum", "run", "--device", "cpu", "--tolerance", "3.950376389069259e-9")
    (line,) = [line for line in outcome.out.splitlines() if line.startswith("tolerance τ")]
    assert line.split() == ["tolerance", "τ", "4e-09"]


def counting(monkeypatch: pytest.MonkeyPatch, stop_at: int | None = None) -> list[str]:
    """Note which checkpoints are computed; press Ctrl-C at one of them."""
    computed: list[str] = []

    def counted(options: Any, *arguments: Any) -> Any:
        if len(computed) == stop_at:
            raise KeyboardInterrupt
        computed.append(Path(options.checkpoint).name)
        return compute_spectrum(options, *arguments)

    monkeypatch.setattr("hessscope.pipeline.series.compute_spectrum", counted)
    return computed


def test_an_interrupted_series_goes_on_and_repeats_nothing(
    run: Run, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counting(monkeypatch, stop_at=2)
    outcome = run(*BASE, "--json")
    assert outcome.code == 130
    assert "2 of 4 results are in run.series.h5: rerun the command to resume" in outcome.err
    assert len(outcome.json) == 2
    assert len(hs.load_record("run.series.h5")["loss"]) == 2
    computed = counting(monkeypatch)
    outcome = run(*BASE, "--json")
    assert outcome.code == 0
    assert computed == ["epoch_8.pt", "epoch_12.pt"]
    assert "2 of 4 results are in run.series.h5" in outcome.err
    assert len(outcome.json) == 4
    computed.clear()
    again = run(*BASE, "--json")
    assert computed == []
    assert again.json == outcome.json
    # A run that has gone on has more checkpoints.
    train_checkpoints(
        "data.npz", model="mlp:6-4-3:tanh", optimizer="sgd", epochs=16, save_every=4,
        learning_rate=0.2, device="cpu", resume=True,
    )  # fmt: skip
    assert len(run(*BASE, "--json").json) == 5
    assert computed == ["epoch_16.pt"]


def test_every_result_is_stored_before_the_next_is_begun(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored: list[int] = []

    def watched(options: Any, *arguments: Any) -> Any:
        path = Path("run.series.h5")
        stored.append(len(hs.load_record(path)["loss"]) if path.exists() else 0)
        return compute_spectrum(options, *arguments)

    monkeypatch.setattr("hessscope.pipeline.series.compute_spectrum", watched)
    spectrum_series("run", device="cpu", out="run.series.h5")
    assert stored == [0, 1, 2, 3]


def test_a_changed_checkpoint_is_computed_anew(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = spectrum_series("run", device="cpu", out="s.h5")
    content = torch.load("run/epoch_8.pt", weights_only=True)
    content["state_dict"]["0.weight"][0, 0] += 0.5
    torch.save(content, "run/epoch_8.pt")
    with pytest.raises(hs.HessscopeError, match="is not a record of these checkpoints"):
        spectrum_series("run", device="cpu", out="s.h5")
    computed = counting(monkeypatch)
    second = spectrum_series("run", device="cpu", out="s.h5", overwrite=True)
    assert len(computed) == 4
    assert second.entries[2].number("loss") != first.entries[2].number("loss")
    assert second.entries[1].number("loss") == first.entries[1].number("loss")


def test_changed_data_is_computed_anew(
    run: Run, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run(*BASE, "--data", "data.npz", "--json")
    computed = counting(monkeypatch)
    np.savez(work / "data.npz", **{**arrays(), "inputs": 2 * arrays()["inputs"]})
    again = run(*BASE, "--data", "data.npz", "--json")
    assert len(computed) == 4
    assert "record: run.series-2.h5" in again.err
    assert [r["loss"] for r in again.json] != [r["loss"] for r in first.json]
    refused = run(*BASE, "--data", "data.npz", "--out", "run.series.h5")
    assert refused.code == 2
    assert "is not a record of these checkpoints" in refused.err


@pytest.mark.parametrize(
    ("option", "name", "code"),
    [
        ("--loss", "it.py:f", "def f(outputs, targets):\n    return (outputs**2).mean(1)\n"),
        ("--loss", "it:f", "def f(outputs, targets):\n    return (outputs**2).mean(1)\n"),
        ("--data", "it.py:f", "import numpy\ndef f():\n    return dict(numpy.load('data.npz'))\n"),
        (
            "--model", "it.py:f",
            "from torch import nn\n"
            "f = lambda: nn.Sequential(nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 3))\n",
        ),
    ],
)  # fmt: skip
def test_changed_code_is_computed_anew(
    work: Path, monkeypatch: pytest.MonkeyPatch, option: str, name: str, code: str
) -> None:
    """The keys see the code: ``file.py:name`` and ``module:name`` stay the same names."""
    (work / "it.py").write_text(code)
    options = SpectrumOptions("run/epoch_4.pt", **{"data": "data.npz", option[2:]: name})
    runs = series._runs(options)
    before = series._keys(runs)
    assert series._keys(runs) == before
    (work / "it.py").write_text(f"{code}\n# another\n")
    assert series._keys(runs) != before


def test_other_options_get_another_record(run: Run, work: Path) -> None:
    run(*BASE)
    run(*BASE[:-1], "1e-4")
    assert {path.name for path in work.glob("*.series*.h5")} == {
        "run.series.h5", "run.series-2.h5",
    }  # fmt: skip
    before = listing(work)
    outcome = run(*BASE[:-1], "1e-3", "--out", "run.series.h5", "-q")
    assert outcome.code == 2
    assert "is not a record of these checkpoints with these options" in outcome.error
    assert run(*BASE, "--out", "model.pt", "-q").code == 2
    assert listing(work) == before


def test_a_checkpoint_that_fails_loses_only_itself(
    run: Run, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = (work / "run" / "epoch_4.pt").read_bytes()
    (work / "run" / "epoch_4.pt").write_bytes(good[:200])
    outcome = run(*BASE, "--json", "-q")
    assert outcome.code == 1
    assert "1 of 4 checkpoints failed: run/epoch_4.pt: " in outcome.error
    failed = [r for r in outcome.json if "error" in r]
    assert [r["checkpoint"] for r in failed] == ["run/epoch_4.pt"]
    assert "damaged" in failed[0]["error"]
    assert len(outcome.json) == 4
    record = hs.load_record("run.series.h5")
    assert record["epoch"].tolist() == [0, 8, 12]
    assert record["failed"] == ("run/epoch_4.pt",)
    assert "failed" in run(*BASE).out
    # It is tried again, and the others are not.
    (work / "run" / "epoch_4.pt").write_bytes(good)
    computed = counting(monkeypatch)
    assert run(*BASE).code == 0
    assert computed == ["epoch_4.pt"]
    assert hs.load_record("run.series.h5")["epoch"].tolist() == [0, 4, 8, 12]


def test_a_cause_is_said_once(run: Run, work: Path) -> None:
    for name in ("epoch_4.pt", "epoch_8.pt"):
        (work / "run" / name).write_text("nonsense")
    (work / "run" / "epoch_12.pt").write_bytes(b"")
    said = run(*BASE, "--loss", "mse_of_nothing.py:loss").err
    assert said.count("mse_of_nothing.py does not exist") == 1
    loud, quiet = run(*BASE), run(*BASE, "-q")
    for text in ("epoch_4.pt is a text file", "epoch_8.pt is a text file", "epoch_12.pt is empty"):
        assert loud.err.count(text) == quiet.error.count(text) == 1
    assert loud.err.splitlines()[-1] == (
        "error: 3 of 4 checkpoints failed: run/epoch_4.pt, run/epoch_8.pt, run/epoch_12.pt"
    )


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9.00 GiB."),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes"),
        MemoryError(),
    ],
)
def test_a_checkpoint_without_memory_loses_only_itself(
    run: Run, work: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fails(options: Any, *arguments: Any) -> Any:
        if options.checkpoint.name == "epoch_4.pt":
            raise error
        return compute_spectrum(options, *arguments)

    monkeypatch.setattr("hessscope.pipeline.series.compute_spectrum", fails)
    outcome = run(*BASE, "--json", "-q")
    assert outcome.code == 1
    assert "1 of 4 checkpoints failed" in outcome.error
    assert [r["error"] for r in outcome.json if "error" in r] == ["out of memory"]
    assert hs.load_record("run.series.h5")["epoch"].tolist() == [0, 8, 12]


def test_nothing_is_written_where_all_fail(run: Run, work: Path) -> None:
    torch.save({}, "a.pt")
    torch.save({}, "b.pt")
    outcome = run("spectrum", "a.pt", "b.pt", "--data", "data.npz", "--plot", "x.png", "-q")
    assert outcome.code == 1
    assert "2 of 2 checkpoints failed" in outcome.error
    assert not list(work.glob("*.h5"))
    assert not (work / "x.png").exists()


def test_foreign_checkpoints_in_a_series(run: Run, work: Path) -> None:
    (work / "foreign").mkdir()
    for number in (2, 10, 1):
        model = torch.load("model.pt", weights_only=True)
        model["0.bias"] += number
        torch.save(model, f"foreign/net-{number}.pth")
    results = run("spectrum", "foreign", "--data", "data.npz", "--activation", "tanh",
                  "--device", "cpu", "--json").json  # fmt: skip
    names = [Path(r["checkpoint"]).name for r in results]
    assert names == ["net-1.pth", "net-2.pth", "net-10.pth"]
    assert np.isnan(hs.load_record("foreign.series.h5")["epoch"]).all()


def foreign(*names: str, **beside: Any) -> list[str]:
    """Checkpoints of other weights each, with more entries of the file for some names."""
    for number, name in enumerate(names):
        weights = torch.load("model.pt", weights_only=True)
        weights["0.bias"] += number
        torch.save({"state_dict": weights, **beside.get(Path(name).stem, {})}, name)
    return list(names)


FOREIGN = ("--data", "data.npz", "--activation", "tanh", "--device", "cpu")


def test_without_all_epochs_checkpoints_stand_as_they_were_given(run: Run, work: Path) -> None:
    names = foreign("c.pt", "a.pt", "b.pt", a={"epoch": 30})
    outcome = run("spectrum", *names, *FOREIGN, "--out", "s.h5", "--plot", "s.png")
    assert outcome.code == 0, outcome.err
    rows = [line.split() for line in outcome.out.splitlines()]
    assert [row[0] for row in rows if row and row[0].endswith(".pt")] == names
    assert ["checkpoint", "loss"] in [row[:2] for row in rows]
    assert "epoch" not in outcome.out
    assert "not every checkpoint states its epoch" in outcome.err
    record = hs.load_record("s.h5")
    assert list(record["checkpoints"]) == names
    np.testing.assert_array_equal(record["epoch"], [np.nan, 30, np.nan])
    assert "not every checkpoint states its epoch" in record["notes"][0]
    results = run("spectrum", *names, *FOREIGN, "--out", "s.h5", "--json").json
    assert [r["checkpoint"] for r in results] == names
    shown = run("report", "s.h5", "--json").json
    assert [row["epoch"] for row in shown["rows"]] == [None, 30, None]
    assert [row["checkpoint"] for row in shown["rows"]] == names
    assert shown["title"] == "Spectra by checkpoint"
    assert any("not every checkpoint states its epoch" in note for note in shown["notes"])
    figure = plot_series(record)[0].figure
    for ax in figure.axes:
        assert ax.get_lines()[0].get_xdata().tolist() == [1, 2, 3]
    assert figure.axes[-1].get_xlabel() == "checkpoint"
    assert [label.get_text() for label in figure.axes[-1].get_xticklabels()] == names


def test_a_series_without_epochs_goes_on_in_its_order(
    run: Run, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = foreign("c.pt", "a_e7.pt", "b.pt")
    counting(monkeypatch, stop_at=2)
    assert run("spectrum", *names[1:], names[0], *FOREIGN, "--out", "s.h5").code == 130
    computed = counting(monkeypatch)
    assert run("spectrum", *names, *FOREIGN, "--out", "s.h5").code == 0
    assert computed == names[:1]
    record = hs.load_record("s.h5")
    assert list(record["checkpoints"]) == names
    np.testing.assert_array_equal(record["epoch"], [np.nan, 7, np.nan])


def test_epochs_of_contents_and_of_names_share_an_axis(work: Path) -> None:
    names = foreign("z-ep20.pt", "late.pt", "e5.pt", late={"epoch": 30})
    spectrum_series(names, "data.npz", activation="tanh", device="cpu", out="s.h5")
    record = hs.load_record("s.h5")
    assert list(record["checkpoints"]) == ["e5.pt", "z-ep20.pt", "late.pt"]
    assert record["epoch"].tolist() == [5, 20, 30]
    assert record["notes"] == ()
    assert plot_series(record)[-1].get_xlabel() == "epoch"


@pytest.mark.parametrize(
    ("name", "epoch"),
    [
        *(("epoch_50", 50), ("epoch50", 50), ("Epoch-7", 7), ("epoch=3-step=100", 3)),
        *(("e50", 50), ("e_05", 5), ("ep50", 50), ("ep_4", 4), ("resnet18_E12_best", 12)),
        *(("lastepoch5", 5), ("epochs_9", 9)),
        *((name, None) for name in ("net-1", "resnet50", "mobile50", "lr1e5", "step10", "2024")),
        *((name, None) for name in ("fp8_e5m2", "drop_e0.1", "lr_e-5", "model", "epoch")),
    ],
)
def test_epochs_in_names(name: str, epoch: int | None) -> None:
    found = named_epoch(Path(f"{name}.pt"))
    assert found == epoch if epoch is not None else np.isnan(found)


@pytest.mark.parametrize("backend", ["lanczos", "pyhessian"])
def test_other_backends(run: Run, work: Path, backend: str) -> None:
    outcome = run(
        "spectrum", "run", "--backend", backend, "--device", "cpu", "--json", "--steps", 20
    )
    assert [r["backend"] for r in outcome.json] == [backend] * 4
    record = hs.load_record("run.series.h5")
    if backend == "lanczos":
        assert record["results/0003/nodes"].shape == (4, 20)
        assert (record["index_lower"] <= record["index"]).all()
    else:
        assert np.isnan(record["index"]).all()
    assert run("spectrum", "run", "--backend", backend, "--steps", 20).code == 0


@pytest.mark.parametrize(
    ("output", "words"),
    [
        (("--out", "run/epoch_4.pt"), "run/epoch_4.pt is one of the checkpoints"),
        (("--plot", "data.npz"), "data.npz is the data"),
        (("--out", "x.png", "--plot", "x.png"), "x.png is another output"),
    ],
)
def test_no_input_is_replaced(run: Run, work: Path, output: tuple[str, ...], words: str) -> None:
    before = listing(work)
    outcome = run(*BASE, "--overwrite", *output)
    assert outcome.code == 2
    assert words in outcome.error
    assert listing(work) == before


def test_which_files_are_meant(work: Path) -> None:
    found = [path.name for path in find_checkpoints(["run"])]
    assert found == ["epoch_0.pt", "epoch_4.pt", "epoch_8.pt", "epoch_12.pt"]
    assert [p.name for p in find_checkpoints(["run/epoch_?.pt"])] == found[:3]
    given = [Path("run/epoch_8.pt"), Path("run/epoch_0.pt")]
    assert find_checkpoints([*given, "run/epoch_8.pt"]) == tuple(given)
    assert find_checkpoints(["missing.pt"]) == (Path("missing.pt"),)
    assert find_checkpoints(["."]) == (Path("model.pt"),)
    Path("model.pt").unlink()
    assert [p.name for p in find_checkpoints(["."])] == found
    (work / "empty").mkdir()
    for path, said in (
        ("empty", "without checkpoints in it"),
        ("run/*.ckpt", "no file matches"),
    ):
        with pytest.raises(hs.HessscopeError, match=said):
            find_checkpoints([path])


# --- the figure ----------------------------------------------------------------------------------


def drawn(report: SeriesReport) -> Any:
    return plot_series(report.to_record())[0].figure


def test_figure_shows_the_numbers(work: Path) -> None:
    before = listing(work)
    report = spectrum_series("run", device="cpu", tolerance=1e-9, plot="series.png")
    assert listing(work).keys() - before.keys() == {"series.png"}  # nothing unasked
    assert Path("series.png").read_bytes().startswith(b"\x89PNG")
    figure = drawn(report)
    loss, counts, extremes, gradient = figure.axes
    results = [dict(entry.result or {}) for entry in report.entries]
    epochs = [0, 4, 8, 12]
    for ax, number, expected in (
        (loss, 0, [r["loss"] for r in results]),
        (counts, 0, [r["index"]["estimate"] for r in results]),
        (counts, 1, [r["degeneracy"]["estimate"] for r in results]),
        (extremes, 0, [r["lambda_max"] for r in results]),
        (extremes, 1, [-r["lambda_min"] if r["lambda_min"] < 0 else np.nan for r in results]),
        (gradient, 0, [r["gTg"] for r in results]),
        (gradient, 1, [abs(r["gTHg"]) for r in results]),
    ):
        line = ax.get_lines()[number]
        np.testing.assert_array_equal(line.get_xdata(), epochs)
        np.testing.assert_array_equal(line.get_ydata(), expected)
    assert gradient.get_xlabel() == "epoch"
    assert all(ax.get_ylabel() for ax in figure.axes)
    assert extremes.get_yscale() == gradient.get_yscale() == "log"
    assert figure.get_size_inches()[0] == pytest.approx(8 / 2.54)


def test_constant_counts_lie_inside_the_panel(work: Path) -> None:
    record = spectrum_series("run", device="cpu").to_record()
    for name, value in (("index", 0.0), ("degeneracy", 5.0)):
        for end in ("", "_lower", "_upper"):
            record.arrays[name + end][:] = value  # type: ignore[index]
    counts = plot_series(record)[1]
    low, high = counts.get_ylim()
    assert low < -0.1
    assert high > 5.2
    assert all(float(tick).is_integer() for tick in counts.get_yticks())


def test_negative_curvature_along_the_gradient_is_hollow(work: Path) -> None:
    report = spectrum_series("run", device="cpu")
    record = report.to_record()
    record.arrays["gTHg"][:] = [-1.0, 2.0, -3.0, 4.0]  # type: ignore[index]
    gradient = plot_series(record)[3]
    hollow = gradient.get_lines()[2]
    assert hollow.get_xdata().tolist() == [0, 8]
    assert hollow.get_ydata().tolist() == [1.0, 3.0]
    assert hollow.get_markerfacecolor() == "white"


def test_several_runs_share_a_figure(run: Run, work: Path) -> None:
    train_checkpoints(
        "data.npz", model="mlp:6-4-3:tanh", epochs=8, save_every=4, trials=2, out="many",
        device="cpu",
    )  # fmt: skip
    outcome = run("spectrum", "many/trial_1", "many/trial_2", "--plot", "m.pdf", "--device", "cpu")
    assert outcome.code == 0
    assert "many/trial_2" in outcome.out
    table = series_table(hs.load_record("series.h5"))
    assert table["run"].tolist() == ["many/trial_1"] * 3 + ["many/trial_2"] * 3
    assert table["epoch"].tolist() == [0, 4, 8, 0, 4, 8]
    figure = plot_series(hs.load_record("series.h5"))[0].figure
    colours = [line.get_color() for line in figure.axes[0].get_lines()]
    assert len(colours) == 2
    assert colours[0] != colours[1]
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["many/trial_1", "many/trial_2"]


def test_records_of_other_kinds_are_refused(work: Path) -> None:
    hs.spectrum("run/epoch_4.pt", device="cpu", out="one.h5")
    with pytest.raises(hs.HessscopeError, match="is no series"):
        plot_series(hs.load_record("one.h5"))


def test_json_in_the_record_is_the_array(work: Path) -> None:
    report = spectrum_series(["run/epoch_0.pt", "run/epoch_4.pt"], device="cpu", out="s.h5")
    stored = [json.loads(text) for text in hs.load_record("s.h5")["results_json"]]
    assert stored == json.loads(json.dumps(report.as_list()))


def test_views_go_into_the_series(run: Run, work: Path) -> None:
    outcome = run(*BASE, "--eigenvectors", "2", "--by-layer", "--bulk", "--json", "-q")
    assert outcome.code == 0, outcome.err
    record = hs.load_record("run.series.h5")
    single = run("spectrum", "run/epoch_12.pt", "--device", "cpu", "--eigenvectors", "2",
                 "--by-layer", "--bulk", "--out", "one.h5", "--json", "-q")  # fmt: skip
    arrays = hs.load_record("one.h5").arrays
    assert len(arrays) > 1
    assert {f"results/0003/{name}" for name in arrays} <= set(record.arrays)
    assert outcome.json[3].keys() == single.json.keys()
    assert not list(work.glob("*.partial"))
    drawn = run(*BASE, "--semicircle", "--plot", "x.png")
    assert drawn.code == 0
    assert "has no density" in drawn.err


def test_a_gauss_newton_series_has_no_curvature_along_the_gradient(run: Run, work: Path) -> None:
    outcome = run(*BASE, "--operator", "gauss-newton")
    assert outcome.code == 0, outcome.err
    assert "nan" not in outcome.out
    assert np.isnan(hs.load_record("run.series.h5")["gTHg"]).all()


def test_the_state_of_long_work_lies_beside_the_record_until_the_result_is_in_it(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hessscope.records import Store

    folders: list[Path] = []
    clear = Store.clear

    def noted(self: Store) -> None:
        assert len(hs.load_record("run.series.h5")["loss"]) == len(folders) + 1
        folders.append(self.folder)
        clear(self)

    monkeypatch.setattr(Store, "clear", noted)
    spectrum_series("run", device="cpu", backend="lanczos", steps=20, out="run.series.h5")
    assert len(set(folders)) == 4
    assert {folder.parent.resolve() for folder in folders} == {work.resolve()}
