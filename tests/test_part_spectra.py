"""How the diagonal blocks of a partition differ: shares outside of them, distances, records."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.spatial.distance
import torch
from torch import nn

import hessscope as hs
from cli_runs import Run
from hessscope import reports
from hessscope.objective.parts import Partition
from hessscope.operators import MatrixOperator
from hessscope.pipeline.part_spectra import off_block_share
from hessscope.reports import tables
from hessscope.reports.figures import style
from hessscope.spectra import BlockDistances, spectral_distance
from models.transformer_families import build, dense, mean_loss, risk_of


def outside(matrix: torch.Tensor, partition: Partition) -> float:
    """The share by its definition."""
    same = partition.numbers[:, None] == partition.numbers[None]
    return float(matrix[~same].square().sum() / matrix.square().sum())


@pytest.mark.parametrize("family", ["torch", "gpt2", "llama", "bert", "vit"])
def test_share_outside_of_blocks_is_in_its_interval(family: str) -> None:
    matrix, risk = dense(family), risk_of(family)
    operator, inside, draws = MatrixOperator(matrix), 0, 40
    for by in ("block", "role"):
        partition = Partition.of(risk, by)
        truth = outside(matrix, partition)
        for seed in range(draws):
            found = off_block_share(operator, partition, 10, seed).share
            assert 0.0 < found.lower <= found.value <= found.upper < 1.0
            inside += found.lower <= truth <= found.upper
    # Of 80 intervals at 95 %, more than 10 misses have a probability of 0.3 %.
    assert inside >= 2 * draws - 10


def test_share_of_few_probes_and_of_none_outside() -> None:
    matrix = torch.block_diag(torch.full((3, 3), 2.0), torch.eye(4)).double()
    blocks = Partition(("a", "b"), torch.tensor([0, 0, 0, 1, 1, 1, 1]))
    halves = Partition(("a", "b"), torch.tensor([0, 0, 1, 1, 1, 1, 1]))
    certain = off_block_share(MatrixOperator(matrix), blocks, 5).share
    assert (certain.value, certain.lower, certain.upper) == (0.0, 0.0, 0.0)
    for probes, partition in ((1, halves), (1, blocks), (4, blocks)):
        found = off_block_share(MatrixOperator(matrix), partition, probes).share
        assert (found.lower, found.upper) == (0.0, 1.0)
    nothing = off_block_share(MatrixOperator(0.0 * matrix), blocks, 9).share
    assert (nothing.value, nothing.lower, nothing.upper) == (0.0, 0.0, 1.0)


def test_share_by_eigenvalues() -> None:
    from hessscope.spectra import OffBlockShare

    matrix, partition = dense("bert"), Partition.of(risk_of("bert"), "role")
    places = [partition.places(k) for k in range(len(partition.names))]
    whole, *blocks = (
        hs.ExactBackend().solve(x.numpy()) for x in (matrix, *(matrix[p][:, p] for p in places))
    )
    found = OffBlockShare.from_spectra(whole, blocks)
    truth = outside(matrix, partition)
    assert found.share.lower <= truth <= found.share.upper
    assert found.share.upper - found.share.lower < 1e-9
    assert found.hvps == 0


def test_distance_of_exact_spectra_is_that_of_smoothed_measures() -> None:
    stream = np.random.default_rng(0)
    values = np.sort(stream.normal(size=40)), np.sort(stream.normal(1.0, 3.0, size=30))
    one, other = (hs.ExactBackend().solve(np.diag(x)) for x in values)
    low, high = min(0, *map(min, values)), max(0, *map(max, values))
    sigma = 0.01 * (high - low)
    grid = np.linspace(low - 8 * sigma, high + 8 * sigma, 200_001)
    p, q = (np.exp(-0.5 * ((grid[:, None] - x) / sigma) ** 2).sum(1) for x in values)
    expected = scipy.spatial.distance.jensenshannon(p, q, base=2)
    found = spectral_distance(one, other)
    assert found.value == pytest.approx(expected, abs=2e-3)
    assert (found.lower, found.upper, found.confidence) == (found.value, found.value, 1.0)
    assert spectral_distance(one, one).value == pytest.approx(0.0, abs=1e-7)
    far = hs.ExactBackend().solve(np.diag([1.0, 1.0])), hs.ExactBackend().solve(-np.eye(3))
    assert spectral_distance(*far).value == pytest.approx(1.0)
    zeros = [hs.ExactBackend().solve(np.zeros((n, n))) for n in (2, 3)]
    assert spectral_distance(*zeros).value == 0.0


def test_distances_of_sampled_spectra_are_in_their_intervals() -> None:
    stream = np.random.default_rng(5)
    sizes, kinds = (300, 200, 250), []
    for n in sizes:
        x = stream.normal(size=(n, n // 2)) * np.geomspace(0.01, 1.0, n // 2)
        kinds.append(x @ x.T / n - 0.01 * np.eye(n))
    exact = BlockDistances.of(
        {str(n): hs.ExactBackend().solve(a) for n, a in zip(sizes, kinds, strict=True)}
    )
    inside, pairs = [], np.triu_indices(3, 1)
    for seed in range(12):
        backend = hs.LanczosBackend(steps=60, probes=4, seed=seed)
        found = BlockDistances.of(
            {str(n): backend.solve(a) for n, a in zip(sizes, kinds, strict=True)}
        )
        assert found.confidence == 0.95
        inside += list(((found.lower <= exact.values) & (exact.values <= found.upper))[pairs])
        assert np.all(found.upper[pairs] - found.lower[pairs] < 0.5)
        assert found.mean.lower <= exact.mean.value <= found.mean.upper
    # Three distances of a draw share their spectra: of 36 at most 4 may miss.
    assert sum(inside) >= 32
    single = hs.LanczosBackend(steps=9, probes=1, reorthogonalize="none").solve(kinds[0])
    assert spectral_distance(single, single).upper == 1.0


def model_and_data() -> tuple[nn.Module, Any]:
    model, inputs, targets = build("torch")
    return model, (inputs, targets)


def test_report_and_record(tmp_path: Path) -> None:
    model, data = model_and_data()
    report = hs.spectrum(
        model, data, by="role", loss=mean_loss, out=tmp_path / "r.h5", device="cpu"
    )
    matrix, risk = dense("torch"), risk_of("torch")
    partition = Partition.of(risk, "role")
    said = json.loads(json.dumps(report.as_dict(), allow_nan=False))
    assert said["by"] == "role"
    assert [layer["layer"] for layer in said["layers"]] == list(partition.names)
    assert [layer["parameters"] for layer in said["layers"]] == list(partition.sizes.values())
    assert all(sum(layer["entries"]) == layer["parameters"] for layer in said["layers"])
    assert said["off_block"]["share"] == pytest.approx(outside(matrix, partition), rel=1e-9)
    assert said["distances"]["names"] == list(partition.names)
    record = hs.load_record(tmp_path / "r.h5")
    np.testing.assert_array_equal(record["distances/values"], said["distances"]["values"])
    assert tuple(tables.part_results(tmp_path / "r.h5")) == partition.names
    at = partition.places(partition.names.index("value"))
    np.testing.assert_allclose(
        record["layers/value/eigenvalues"], np.linalg.eigvalsh(matrix[at][:, at]), atol=1e-11
    )


def test_tables_and_figure(tmp_path: Path) -> None:
    data = torch.randn(40, 6), torch.randint(3, (40,))
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 3))
    given = {"by": "module", "device": "cpu", "loss": "cross_entropy"}
    for backend in ("exact", "lanczos"):
        out = tmp_path / f"{backend}.h5"
        report = hs.spectrum(model, data, backend=backend, steps=6, out=out, **given)
        table, apart = tables.parts_table(out), tables.distance_table(out)
        assert list(table.index) == list(apart.columns) == ["0", "2"]
        for layer, (_, row) in zip(report.layers, table.iterrows(), strict=True):
            assert row["index"] == layer.inertia.negative.estimate
            assert row["lambda_max"] == layer.result.lambda_max
        assert (
            apart.loc["0", "2"] == apart.attrs["mean"]["value"] == report.parts.distances.mean.value
        )
        figure = reports.report_figure(out, "parts")
        for panel, layer in zip(figure.axes, report.layers, strict=True):
            bars = [(p.get_facecolor()[:3], p.get_height()) for p in panel.patches]
            assert sum(height for _, height in bars) == pytest.approx(1.0)
            negative = sum(height for color, height in bars if color == style.NEGATIVE)
            values, masses = layer.result.atoms()
            below = values < -layer.inertia.tolerance
            assert negative == pytest.approx(masses[below].sum(), abs=1e-12)
        for layout in ("parts", "distances"):
            assert "Jensen" not in reports.format_table(reports.report_table(out, layout), "csv")
            assert "√JSD" in reports.format_table(reports.report_table(report, layout), "table")
    plain = hs.spectrum(model, data, device="cpu")
    for layout in ("parts", "distances"):
        with pytest.raises(hs.HessscopeError, match="`by=block`"):
            reports.report_table(plain, layout)


def test_commands(run: Run, work: Path) -> None:
    data = torch.randn(40, 6), torch.randint(3, (40,))
    np.savez("data.npz", inputs=data[0].numpy(), targets=data[1].numpy())
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 3))
    torch.save(model.state_dict(), "m.pt")
    Path("mine.py").write_text("def parts(risk):\n    return {'0.weight': (1, list('aabbcc'))}\n")
    command = ("spectrum", "m.pt", "--data", "data.npz", "--activation", "tanh")
    own = run(*command, "--by", "mine.py:parts", "--json", "--out", "a.h5").json
    assert [(x["layer"], x["parameters"]) for x in own["layers"]] == [
        ("a", 8), ("b", 8), ("c", 8), ("other", 19)
    ]  # fmt: skip
    sampled = ("--backend", "lanczos", "--steps", "4", "--by", "module")
    found = run(*command, *sampled, "--block-probes", "3", "--json", "--out", "b.h5").json
    assert found["off_block"]["hvps"] == 6
    interval = found["off_block"]["share_interval"]
    assert interval["lower"] <= found["off_block"]["share"] <= interval["upper"]
    none = run(*command, *sampled, "--block-probes", "0", "--json", "--out", "c.h5").json
    assert none["off_block"] is None
    text = run(*command, "--by", "mine.py:parts", "--out", "d.h5").out
    assert "outside blocks" in text
    assert "distance" in text
    assert "--by module" in run(*command, "--by-layer", "--by", "block").err
    assert "number of heads" in run(*command, "--by", "head").err
