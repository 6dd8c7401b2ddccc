"""The benchmarks run, at sizes of a few seconds and without the peers."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import pytest

from benchmarks import assembly, gpu, growth, measuring, page, products
from conftest import REPOSITORY


def test_products_have_times_and_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "peers_are_there", lambda: False)
    result = products.products("mlp", 64, None, 2)
    assert {"gradient", "hessscope, one vector", "hessscope, block of 32"} <= set(result["times"])
    for time in result["times"].values():
        assert 0 < time["low"] <= time["median"] <= time["high"]
    assert "gradients, target" in page.products(result)


def test_products_are_put_beside_the_best_peer_for_as_many_vectors() -> None:
    seconds = {"gradient": 10, "single": 20, "four": 15, "hessscope, one": 18, "hessscope, 4": 16}
    result = {
        "what": "MLP", "repeats": 2, "plan": "by layers", "full": True,
        "times": {
            name: {"median": t, "low": t, "high": t, "cpu": 2 * t} for name, t in seconds.items()
        },
        "widths": {"gradient": 1, "single": 1, "four": 4, "hessscope, one": 1, "hessscope, 4": 4},
        "machine": {**measuring.machine(), "load": [0, 0, 0]},
    }  # fmt: skip
    text = page.products(result)
    assert "Hessscope, one: 0.90 of the time of the best peer for so many vectors (single)" in text
    assert "(four), 1.07 by processor time, target at most 1.00: missed by a factor of 1.07" in text


def test_assembly_agrees_with_products() -> None:
    result = assembly.assembly(60, None, 16, hidden=3, inputs=40, rate_size=128)
    assert result["n"] == 40 * 3 + 3 + 3 * 10 + 10
    assert result["difference"] <= 1e-13 * max(1, result["largest"])
    assert "times the floor" in page.assembly(result)


def test_exponents_are_those_of_power_laws() -> None:
    sizes = [10, 20, 40, 80]
    assert growth.exponent(sizes, [x**3.0 for x in sizes]) == pytest.approx(3)


def test_growth_is_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "isolated", lambda function, *rest: function(*rest))
    small = {
        name: (function, work, (8, 16, 32), laws)
        for name, (function, work, _, laws) in growth.SWEEPS.items()
        if not name.startswith("probes")
    }
    monkeypatch.setattr(growth, "SWEEPS", small)
    result = growth.growth()
    growth.draw(result, tmp_path / "growth.png")
    assert (tmp_path / "growth.png").is_file()
    text = page.growth(result)
    for name, sweep in result["sweeps"].items():
        assert len(sweep["seconds"]) == len(sweep["bytes"]) == 3
        assert min(sweep["seconds"]) > 0
        assert f"| {name} | {sweep['work']} | 8 to 32 |" in text


def test_growth_figure_shows_what_was_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plt, "close", lambda figure: None)
    common = {"sizes": [500, 1000, 2000], "bytes": [2e6, 8e6, 16e6]}
    eigenvalues = {"work": "eigenvalues", "seconds": [0.5, 3.0, 32.0], "laws": [3, 2]}
    products = {"work": "16 products", "seconds": [0.2, 0.5, 0.8], "laws": [1, 1]}
    sweeps = {
        "parameters n": {**common, **eigenvalues, "fits": [2.75, 1.5]},
        "examples N": {**common, **products, "fits": [1.0, 1.504]},
    }
    growth.draw({"sweeps": sweeps}, tmp_path / "growth.png")
    figure = plt.gcf()
    # The laws n³, n² and N go through the last point.
    for axis, values, laws, labels in zip(
        figure.axes,
        ([0.5, 3.0, 32.0], [0.2, 0.5, 0.8], [2.0, 8.0, 16.0], [2.0, 8.0, 16.0]),
        ([0.5, 4.0, 32.0], [0.2, 0.4, 0.8], [1.0, 4.0, 16.0], [4.0, 8.0, 16.0]),
        (
            ["law: $n^3$", "fit: 2.75"],
            ["law: $N$", "fit: 1.00"],
            ["law: $n^2$", "fit: 1.50"],
            ["law: $N$", "fit: 1.50"],
        ),
        strict=True,
    ):
        law, measured = axis.get_lines()
        assert list(law.get_xdata()) == list(measured.get_xdata()) == [500, 1000, 2000]
        assert list(measured.get_ydata()) == pytest.approx(values)
        assert list(law.get_ydata()) == pytest.approx(laws)
        assert [text.get_text() for text in axis.get_legend().get_texts()] == labels
        assert (axis.get_xscale(), axis.get_yscale()) == ("log", "log")
    time, other, memory, last = figure.axes
    assert (time.get_ylabel(), memory.get_ylabel()) == ("time [s]", "peak memory [MB]")
    assert (time.get_title(), other.get_title()) == ("eigenvalues", "16 products")
    assert (memory.get_xlabel(), last.get_xlabel()) == ("parameters n", "examples N")
    monkeypatch.undo()
    plt.close(figure)


def test_gpu_workloads_run_on_the_cpu() -> None:
    assert gpu.exact("cpu", 40, None, hidden=1)["assembly"] > 0
    assert len(gpu.resnet18("cpu", count=4, steps=2, probes=1, width=4)) >= 3
    sizes = {"vocabulary": 20, "length": 6, "width": 8, "heads": 2, "layers": 1}
    assert len(gpu.transformer("cpu", sequences=2, steps=2, probes=1, **sizes)) >= 3


def test_the_page_has_a_place_for_every_table() -> None:
    text = (REPOSITORY / "docs" / "performance.md").read_text("utf-8")
    for part in page.RENDER:
        text = page.put(text, part, f"table of {part}")
        assert f"table of {part}" in text
    with pytest.raises(ValueError, match="no markers"):
        page.put(text, "elsewhere", "")
