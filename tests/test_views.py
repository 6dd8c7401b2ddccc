"""Other matrices, parts of the parameters and layers, through the one-liner and the command."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import hessscope as hs
from cli_runs import Run, arrays, network
from hessscope.errors import OptionError
from hessscope.registry import OPERATORS


@pytest.fixture
def run(run: Run, work: Path) -> Run:
    return run


def risk() -> hs.EmpiricalRisk:
    data = arrays()
    return hs.EmpiricalRisk(network(), (data["inputs"], data["targets"]), device="cpu")


COMMAND = ("spectrum", "model.pt", "--data", "data.npz", "--activation", "tanh")


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("backend", ["exact", "lanczos"])
def test_every_operator_by_every_backend(run: Run, name: str, backend: str) -> None:
    outcome = run(*COMMAND, "--operator", name, "--backend", backend, "--json", "--out", "r.h5")
    assert outcome.code == 0
    said = outcome.json
    values = np.linalg.eigvalsh(OPERATORS[name](risk()).to_dense().numpy())
    assert said["operator"] == name
    assert said["lambda_max"] == pytest.approx(values[-1], rel=1e-10)
    assert said["index"]["lower"] <= np.sum(values < -said["tolerance"]) <= said["index"]["upper"]
    assert ("not a critical point" in said["classification"]) == (name == "hessian")
    assert ("takes the Hessian" in said["classification"]) == (name != "hessian")
    record = hs.load_record("r.h5")
    assert record["operator"] == name
    table = run(*COMMAND, "--operator", name, "--out", "s.h5").out
    assert ("matrix" in table) == (name != "hessian")


def test_part_of_the_parameters(run: Run) -> None:
    said = run(*COMMAND, "--params", "0.*", "--json", "--out", "r.h5").json
    block = hs.HessianOperator(risk()).to_dense()[:28, :28]
    values = np.linalg.eigvalsh(block.numpy())
    assert (said["parameters"], said["params"]) == (28, ["0.*"])
    assert said["lambda_min"] == pytest.approx(values[0], abs=1e-13)
    assert said["trace"] == pytest.approx(values.sum(), rel=1e-12)
    assert "all parameters" in said["classification"]
    # The gradient is that of all parameters: it says what point this is.
    assert said["gradient_norm"] == pytest.approx(float(risk().gradient().norm()), rel=1e-10)
    record = hs.load_record("r.h5")
    assert record["parameter_names"] == ("0.weight", "0.bias")
    twice = run(*COMMAND, "--params", "0.bias", "--params", "2.bias", "--json", "--out", "s.h5")
    assert twice.json["parameters"] == 7


def test_layers(run: Run) -> None:
    outcome = run(*COMMAND, "--by-layer", "--json", "--out", "r.h5")
    said = outcome.json
    dense = hs.HessianOperator(risk()).to_dense().numpy()
    record = hs.load_record("r.h5")
    first, second = said["layers"]
    assert [layer["layer"] for layer in said["layers"]] == ["0", "2"]
    assert [layer["parameters"] for layer in said["layers"]] == [28, 15]
    assert first["parameter_names"] == ["0.weight", "0.bias"]
    for layer, block in ((first, dense[:28, :28]), (second, dense[28:, 28:])):
        values = np.linalg.eigvalsh(block)
        counted = [layer[k]["estimate"] for k in ("index", "degeneracy", "positive")]
        tau = layer["tolerance"]
        assert counted[0] == np.sum(values < -tau)
        assert sum(counted) == layer["parameters"]
        assert layer["lambda_min"] == pytest.approx(values[0], abs=1e-13)
        assert layer["lambda_max"] == pytest.approx(values[-1], abs=1e-13)
        # Cauchy: no block has more negative eigenvalues than the whole, nor larger extremes.
        assert layer["index"]["lower"] <= said["index"]["upper"]
        assert layer["lambda_max"] <= said["lambda_max"] + 1e-13
        saved = record[f"layers/{layer['layer']}/eigenvalues"]
        np.testing.assert_allclose(saved, values, atol=1e-13)
        assert record["layers"][layer["layer"]]["index"] == layer["index"]
    assert first["trace"] + second["trace"] == pytest.approx(said["trace"], rel=1e-12)
    table = run(*COMMAND, "--by-layer", "--backend", "lanczos", "--out", "s.h5").out
    assert "layer" in table
    assert "all but certain" in table


def test_layers_of_a_part_and_repeated_plans(run: Run) -> None:
    first = run(*COMMAND, "--by-layer", "--params", "*.weight", "--json", "--out", "a.h5").json
    assert [layer["parameter_names"] for layer in first["layers"]] == [["0.weight"], ["2.weight"]]
    again = run(
        *COMMAND, "--by-layer", "--params", "*.weight", "--json", "--plan", "a.h5", "--out", "b.h5"
    ).json
    assert again["layers"] == first["layers"]


def test_layer_without_a_module(tmp_path: Path) -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale, self.layer = nn.Parameter(torch.ones(6)), nn.Linear(6, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layer(self.scale * x)

    torch.save(Scaled().state_dict(), tmp_path / "scaled.pt")
    data = arrays()
    report = hs.spectrum(
        tmp_path / "scaled.pt",
        (data["inputs"], data["targets"]),
        model=Scaled,
        by_layer=True,
        out=tmp_path / "r.h5",
    )
    names = [layer.name for layer in report.layers]
    assert names == ["(model)", "layer"]
    assert "layers/(model)/eigenvalues" in hs.load_record(tmp_path / "r.h5").arrays


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--operator", "gaus-newton"), "'gauss_newton'"),
        (("--operator", "fisher", "--backend", "pyhessian"), "only hessian"),
        (("--by-layer", "--backend", "pyhessian"), "--by-layer"),
        (("--params", "9.*"), "9.*"),
        (("--operator", "fisher", "--loss", "softmax_mse"), "gauss_newton"),
    ],
)
def test_what_cannot_be_done_is_said(run: Run, options: tuple[str, ...], said: str) -> None:
    outcome = run(*COMMAND, *options, "--quiet")
    assert outcome.code in (1, 2)
    assert said in outcome.error


def test_pyhessian_of_a_part_sees_that_part(work: Path) -> None:
    report = hs.spectrum(
        "model.pt", "data.npz", activation="tanh", params="2.*", backend="pyhessian"
    )
    block = hs.HessianOperator(risk()).restricted("2.*").to_dense()
    top = torch.linalg.eigvalsh(block)[-1]
    assert report.result.size == 15
    assert report.result.largest[0] == pytest.approx(float(top), rel=1e-3)


def test_bad_views_are_refused_in_python(work: Path) -> None:
    with pytest.raises(OptionError, match="operator"):
        hs.spectrum("model.pt", "data.npz", operator="hesian")
