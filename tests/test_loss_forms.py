"""Losses of one's own: functions, modules, classes, and what takes other arguments."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import hessscope as hs
from cli_runs import Run, arrays, network
from hessscope.errors import OptionError
from hessscope.objective import get_loss

CLASSES = """
import torch

class Focal(torch.nn.Module):
    def forward(self, outputs, targets):
        p = torch.softmax(outputs, 1).gather(1, targets[:, None])[:, 0]
        return -((1 - p) ** 2 * p.log())

class Weighted(Focal):
    def __init__(self, power):
        super().__init__()

def of_model(model, batch):
    return torch.nn.functional.cross_entropy(model(batch[0]), batch[1])
"""


def focal(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    p = torch.softmax(outputs, 1)[range(len(targets)), targets]
    return -((1 - p) ** 2 * p.log()).mean()


def test_a_class_without_arguments_is_instantiated(run: Run, work: Path) -> None:
    (work / "losses.py").write_text(CLASSES)
    options = ("--data", "data.npz", "--activation", "tanh", "--loss", "losses.py:Focal")
    said = run("spectrum", "model.pt", *options, "--json").json
    x, y = (torch.as_tensor(a) for a in arrays().values())
    assert said["loss"] == pytest.approx(focal(network().double()(x.double()), y).item(), rel=1e-12)
    assert said["loss_function"] == "Focal"
    risk = hs.EmpiricalRisk(network(), (x, y), nn.CrossEntropyLoss, device="cpu")  # type: ignore[arg-type]
    expected = nn.functional.cross_entropy(network().double()(x.double()), y).item()
    assert risk.value() == pytest.approx(expected, rel=1e-12)


def test_a_class_that_needs_arguments_and_a_loss_of_the_model(run: Run, work: Path) -> None:
    (work / "losses.py").write_text(CLASSES)
    base = ("spectrum", "model.pt", "--data", "data.npz", "--activation", "tanh", "--loss")
    outcome = run(*base, "losses.py:Weighted")
    assert (outcome.code, "Weighted is a class that needs arguments" in outcome.error) == (2, True)
    of_model = run(*base, "losses.py:of_model", "--json").json
    by_name = run(*base, "cross_entropy", "--json").json
    assert of_model["lambda_max"] == pytest.approx(by_name["lambda_max"], rel=1e-12)


@pytest.mark.parametrize(
    "loss", [lambda outputs: outputs.sum(), lambda a, b, c: a, nn.ReLU(), nn.Identity]
)
def test_other_arguments_are_refused(loss: Any) -> None:
    with pytest.raises(OptionError, match="it must take outputs and targets"):
        get_loss(loss)


@pytest.mark.parametrize("loss", [lambda *pair: pair[0].mean(), lambda a, b, c=1: a, torch.dist])
def test_what_takes_two_arguments_is_a_loss(loss: Any) -> None:
    assert get_loss(loss).function is loss
