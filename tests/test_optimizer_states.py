"""States of optimisers beside the weights are described; networks are chosen by ``key``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import hessscope as hs
from hessscope.errors import CheckpointError


def trained(kind: type[torch.optim.Optimizer], steps: int, **options: Any) -> dict[str, Any]:
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    optimizer = kind(model.parameters(), **options)
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.ones(4, 3)).square().sum().backward()
        optimizer.step(lambda: torch.tensor(0.0))
    return {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": steps}


OPTIMIZERS = [
    (torch.optim.SGD, {"lr": 0.1}, 2, "SGD; lr 0.1; 2 tensors"),
    (
        torch.optim.SGD,
        {"lr": 0.1, "momentum": 0.9},
        2,
        "SGD with momentum; lr 0.1, momentum 0.9; 2 tensors",
    ),
    (torch.optim.Adam, {"lr": 1e-3}, 0, "no state yet; lr 0.001, betas 0.9/0.999, eps 1e-08; "),
    (torch.optim.Adam, {"lr": 1e-3}, 3, "Adam; step 3; lr 0.001, betas 0.9/0.999, eps 1e-08; 2"),
    (
        torch.optim.AdamW,
        {"lr": torch.tensor(1e-3), "betas": (0.8, 0.99)},
        5,
        "AdamW; step 5; lr 0.001, betas 0.8/0.99, eps 1e-08, weight_decay 0.01; 2 tensors",
    ),
    (torch.optim.Adam, {"lr": 1e-3, "amsgrad": True}, 1, "AMSGrad (Adam); step 1; "),
    (torch.optim.NAdam, {"lr": 1e-3}, 1, "NAdam; step 1; "),
    (torch.optim.Adamax, {"lr": 1e-3}, 1, "Adamax; step 1; "),
    (torch.optim.Adagrad, {"lr": 0.01}, 1, "Adagrad; step 1; "),
    (torch.optim.Adadelta, {"lr": 0.01}, 1, "Adadelta; step 1; "),
    (torch.optim.RMSprop, {"lr": 0.01}, 1, "RMSprop; step 1; "),
    (torch.optim.Rprop, {"lr": 0.01}, 1, "Rprop; step 1; "),
    (torch.optim.ASGD, {"lr": 0.01}, 1, "ASGD; step 1; "),
    (torch.optim.Adafactor, {"lr": 0.01}, 2, "Adafactor; step 2; "),
]


@pytest.mark.filterwarnings("ignore:Converting a tensor with requires_grad")
@pytest.mark.parametrize(("kind", "options", "steps", "words"), OPTIMIZERS)
def test_optimiser_shows_in_its_state(
    kind: type[torch.optim.Optimizer],
    options: dict[str, Any],
    steps: int,
    words: str,
    tmp_path: Path,
) -> None:
    content = trained(kind, steps, **options)
    torch.save(content, tmp_path / "run.pt")
    found = hs.inspect_checkpoint(tmp_path / "run.pt")
    assert str(found.checkpoint.metadata["optimizer"]).startswith(words)
    assert found.checkpoint.metadata["epoch"] == steps
    torch.save(content["optimizer"], tmp_path / "optimizer.pt")
    with pytest.raises(CheckpointError, match="state of an optimiser") as error:
        hs.load_checkpoint(tmp_path / "optimizer.pt")
    assert words in str(error.value)


def test_lists_of_optimisers_groups_and_odd_values(tmp_path: Path, run: Any) -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2))
    groups = [
        {"params": model[0].parameters(), "lr": 0.1},
        {"params": model[1].parameters(), "lr": 0.2},
    ]
    state = torch.optim.Adam(groups).state_dict()
    odd = {"state": {0: {"own": torch.ones(2)}}, "param_groups": [{"lr": "fast", "params": 3}]}
    content = {
        "state_dict": model.state_dict(),
        "optimizer_states": [state, odd],
        "global_step": 7,
        "pytorch-lightning_version": "2.6",
    }
    torch.save(content, tmp_path / "last.ckpt")
    outcome = run("inspect", str(tmp_path / "last.ckpt"), "--json")
    metadata = json.loads(outcome.out)["metadata"]
    first = metadata["optimizer_states.0"]
    assert "lr 0.1" in first
    assert "lr 0.2" in first
    assert metadata["optimizer_states.1"] == "unknown, keeps own; 0 tensors"
    assert metadata["global_step"] == 7


def test_key_chooses_the_average_and_networks_beside_each_other(tmp_path: Path) -> None:
    networks = [nn.Linear(3, 2) for _ in range(4)]
    model, average, generator, other = (network.state_dict() for network in networks)
    torch.save({"model": model, "model_ema": average, "ema": average}, tmp_path / "ema.pt")
    found = hs.load_checkpoint(tmp_path / "ema.pt")
    assert torch.equal(next(iter(found.model.parameters())), model["weight"])
    assert any("'model_ema'" in note and "'ema'" in note for note in found.notes)
    for key in ("model_ema", "ema"):
        found = hs.load_checkpoint(tmp_path / "ema.pt", key=key)
        assert torch.equal(next(iter(found.model.parameters())), average["weight"])
    torch.save({"nets": [generator, other], "step": 3}, tmp_path / "list.pt")
    for index, state in enumerate((generator, other)):
        found = hs.load_checkpoint(tmp_path / "list.pt", key=f"nets.{index}")
        assert torch.equal(next(iter(found.model.parameters())), state["weight"])
    torch.save({"generator": generator, "critic": other}, tmp_path / "gan.pt")
    with pytest.raises(CheckpointError, match=r"generator, critic.*`key=generator`"):
        hs.load_checkpoint(tmp_path / "gan.pt")
    with pytest.raises(CheckpointError, match="no 'actor' in it"):
        hs.load_checkpoint(tmp_path / "gan.pt", key="actor")
    shadow = {f"ema.{name}": value for name, value in average.items()}
    plain = {f"net.{name}": value for name, value in model.items()}
    torch.save({**plain, **shadow}, tmp_path / "flat.pt")
    found = hs.load_checkpoint(tmp_path / "flat.pt", key="ema")
    assert torch.equal(next(iter(found.model.parameters())), average["weight"])
