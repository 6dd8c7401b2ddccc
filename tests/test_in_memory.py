"""Models in memory: modules and state_dicts give what their files give, and results are handy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import hessscope as hs
from hessscope.errors import OptionError


def network(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2))


@pytest.fixture
def data() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(7)
    inputs = torch.randn(40, 4, generator=generator)
    return inputs, torch.randint(2, (40,), generator=generator)


def dense_hessian(model: nn.Module, data: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """The Hessian in plain torch, in float64."""
    model = model.double()
    names = [name for name, _ in model.named_parameters()]
    shapes = [p.shape for p in model.parameters()]
    theta = torch.cat([p.detach().reshape(-1) for p in model.parameters()])

    def loss(flat: torch.Tensor) -> torch.Tensor:
        parts = torch.split(flat, [shape.numel() for shape in shapes])
        named = {n: p.reshape(s) for n, p, s in zip(names, parts, shapes, strict=True)}
        outputs = torch.func.functional_call(model, named, (data[0].double(),))
        return nn.functional.cross_entropy(outputs, data[1])

    return torch.func.hessian(loss)(theta)


def test_state_dict_gives_what_its_file_gives(tmp_path: Path, data: tuple) -> None:
    model, path = network(0), tmp_path / "model.pt"
    torch.save(model.state_dict(), path)
    stored = hs.spectrum(path, data, model=network(1))
    for given in (model.state_dict(), {f"module.{k}": v for k, v in model.state_dict().items()}):
        found = hs.spectrum(given, data, model=network(1))
        assert np.array_equal(found.eigenvalues, stored.eigenvalues)
    assert np.array_equal(hs.spectrum(model, data).eigenvalues, stored.eigenvalues)
    assert list(tmp_path.iterdir()) == [path]  # nothing is written that was not asked for


def test_state_dict_needs_its_network(data: tuple) -> None:
    with pytest.raises(OptionError, match=r"state_dict: give its network as `model`"):
        hs.spectrum(network(0).state_dict(), data)
    with pytest.raises(hs.HessscopeError, match=r"missing|unexpected|is \(3, 4\)"):
        hs.spectrum(network(0).state_dict(), data, model=nn.Linear(4, 2))


def test_every_command_takes_a_model(tmp_path: Path, data: tuple) -> None:
    model = network(0)
    refined = hs.refine_checkpoint(model.state_dict(), data, model=network(1), l2=1e-2)
    again = hs.refine_checkpoint(model, data, l2=1e-2)
    assert refined.status == again.status == "converged"
    assert torch.equal(refined.point.parameters, again.point.parameters)
    inspected = hs.inspect_checkpoint(model, data=data)
    assert inspected.loss == hs.spectrum(model, data).loss
    assert len(repr(inspected)) < 400
    study = hs.survey_checkpoints(
        model, data=data, out=tmp_path / "study", trajectory=2, uniform=0, l2=1e-2, workers=1,
        max_iterations=3,
    )  # fmt: skip
    assert len(study.to_dataframe()) == 2


def test_section_between_models_is_that_between_their_files(tmp_path: Path, data: tuple) -> None:
    ends = [network(0), network(1)]
    for number, end in enumerate(ends):
        torch.save(end.state_dict(), tmp_path / f"{number}.pt")
    stored = hs.section(
        [tmp_path / "0.pt", tmp_path / "1.pt"], data, model=network(2), resolution=5
    )
    found = hs.section(ends, data, resolution=5)
    assert np.array_equal(found.section.values, stored.section.values)
    assert found.points == ("in memory", "in memory")
    states = [end.state_dict() for end in ends]
    again = hs.section(states, data, model=network(2), resolution=5)
    assert np.array_equal(again.section.values, stored.section.values)


class Named:
    """A path that is no ``Path``."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __fspath__(self) -> str:
        return str(self.path)


def test_anything_that_stands_for_a_path_is_opened(tmp_path: Path, data: tuple) -> None:
    torch.save(network(0).state_dict(), tmp_path / "model.pt")
    named = hs.spectrum(Named(tmp_path / "model.pt"), data, model=network(1))
    assert named.opened.checkpoint.path == tmp_path / "model.pt"
    assert np.array_equal(named.eigenvalues, hs.spectrum(network(0), data).eigenvalues)


def test_operator_takes_model_data_and_loss(data: tuple) -> None:
    expected = dense_hessian(network(0), data)
    operator = hs.HessianOperator(network(0), data, loss="cross_entropy")
    columns = torch.eye(len(expected), dtype=torch.float64)
    assert torch.allclose(operator.matmat(columns), expected, atol=1e-13)
    with pytest.raises(OptionError, match="a model with its data, not EmpiricalRisk, loss"):
        hs.HessianOperator(hs.EmpiricalRisk(network(0), data), loss="mse")
    with pytest.raises(OptionError, match="not function"):
        hs.HessianOperator(lambda theta: theta.sum())


def test_reports_have_the_numbers_that_people_look_for(data: tuple) -> None:
    report = hs.spectrum(network(0), data)
    values = np.linalg.eigvalsh(dense_hessian(network(0), data).numpy())
    assert np.allclose(report.eigenvalues, values, atol=1e-13)
    assert report.lambda_max == report.eigenvalues[-1]
    assert report.lambda_min == report.eigenvalues[0]
    assert report.index == (values < -report.inertia.tolerance).sum()
    assert report.degeneracy == (abs(values) <= report.inertia.tolerance).sum()
    (row,) = report.to_dataframe().to_dict("records")
    assert row["index"] == report.index
    assert row["lambda_max"] == report.lambda_max
    assert list(range(100))[report.index] == report.index  # it indexes as a number does


def test_series_as_a_data_frame(tmp_path: Path, data: tuple) -> None:
    for epoch in (1, 2):
        torch.save(network(epoch).state_dict(), tmp_path / f"epoch_{epoch}.pt")
    series = hs.spectrum_series(tmp_path, data, model=network(0))
    frame = series.to_dataframe()
    assert list(frame["epoch"]) == [1, 2]
    assert list(frame["index"]) == [hs.spectrum(network(e), data).index for e in (1, 2)]
