"""The benchmarks run, at sizes of a few seconds and without the peers."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import assembly, gpu, growth, measuring, page, products
from conftest import REPOSITORY


def test_products_have_times_and_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "peers_are_there", lambda: False)
    result = products.products("mlp", 64, None, 2)
    assert {"gradient", "hessscope, one vector", "hessscope, block of 32"} <= set(result["times"])
    for time in result["times"].values():
        assert 0 < time["low"] <= time["median"] <= time["high"]
    assert "gradients" in page.products(result)


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
    assert (tmp_path / "growth.png").stat().st_size > 10_000
    assert "exponent" in page.growth(result)


def test_gpu_workloads_run_on_the_cpu() -> None:
    assert gpu.exact("cpu", 40, None, hidden=1)["assembly"] > 0
    assert len(gpu.resnet18("cpu", count=4, steps=2, probes=1, width=2)) >= 3
    sizes = {"vocabulary": 20, "length": 6, "width": 8, "heads": 2, "layers": 1}
    assert len(gpu.transformer("cpu", sequences=2, steps=2, probes=1, **sizes)) >= 3


def test_the_page_has_a_place_for_every_table() -> None:
    text = (REPOSITORY / "docs" / "performance.md").read_text("utf-8")
    for part in page.RENDER:
        text = page.put(text, part, f"table of {part}")
        assert f"table of {part}" in text
    with pytest.raises(ValueError, match="no markers"):
        page.put(text, "elsewhere", "")
