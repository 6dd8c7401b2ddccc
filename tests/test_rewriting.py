"""Checkpoints written with other weights load wherever the ones they came from did."""

from __future__ import annotations

import argparse
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from safetensors import safe_open
from torch import nn

from cli_runs import PARAMETERS, network
from hessscope.errors import CheckpointError
from hessscope.loaders import Checkpoint, CheckpointFile, write_checkpoint
from hessscope.parameters import ParameterLayout

THETA = torch.linspace(-1.0, 1.0, PARAMETERS, dtype=torch.float64) / 3.0


def read_checkpoint(
    path: Path, model: Any = None, activation: str | None = None, trust: bool = False
) -> Checkpoint:
    return CheckpointFile.open(path, trust).resolve(model, activation)


class Settings:
    """An object of a class that is no plain data."""


class Tied(nn.Module):
    """Two names for one weight, a buffer, and a frozen parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(4, 4), nn.Linear(4, 4)
        self.two.weight = self.one.weight
        self.register_buffer("scale", torch.full((4,), 2.0))
        self.fixed = nn.Parameter(torch.ones(4), requires_grad=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.two(self.one(x)) * self.scale + self.fixed


def state(prefix: str = "") -> OrderedDict[str, torch.Tensor]:
    return OrderedDict((prefix + k, v) for k, v in network().state_dict().items())


def optimizer() -> dict[str, Any]:
    model = network()
    adam = torch.optim.Adam(model.parameters())
    model(torch.ones(1, 6)).sum().backward()
    adam.step()
    return adam.state_dict()


def theta_of(model: nn.Module) -> torch.Tensor:
    return ParameterLayout.of(model).flatten(dict(model.named_parameters())).detach()


def same(one: Any, other: Any) -> bool:
    """Equal through all containers, tensors and arrays with their types."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other) and one.dtype == other.dtype
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[k], other[k]) for k in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, np.ndarray):
        return bool(np.array_equal(one, other)) and one.dtype == other.dtype
    return type(one) is type(other) and (
        vars(one) == vars(other) if hasattr(one, "__dict__") else one == other
    )


CONTENTS: dict[str, Any] = {
    "bare": lambda: state(),
    "prefix": lambda: state("module."),
    "nested": lambda: {"epoch": 3, "model_state_dict": state("module."), "opt": optimizer()},
    "average": lambda: {"ema": state(), "model": state("_orig_mod."), "note": "ü"},
    "lightning": lambda: {
        "epoch": 1, "pytorch-lightning_version": "2.2.0", "state_dict": state("model."),
        "loops": {"fit_loop": {}}, "optimizer_states": [optimizer()],
    },
}  # fmt: skip


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("keep_dtype", [True, False])
@pytest.mark.parametrize("kind", CONTENTS)
def test_only_the_weights_change(tmp_path: Path, kind: str, keep_dtype: bool, zipped: bool) -> None:
    """All else in the file is equal as torch itself loads it, and so are order and nesting."""
    old, new = tmp_path / "old.pt", tmp_path / "new.pt"
    torch.save(CONTENTS[kind](), old, _use_new_zipfile_serialization=zipped)
    checkpoint = read_checkpoint(old, activation="tanh")
    notes = write_checkpoint(checkpoint, THETA, new, keep_dtype=keep_dtype)
    assert notes == ()
    again = read_checkpoint(new, activation="tanh")
    assert again.format == checkpoint.format
    dtype = torch.float32 if keep_dtype else torch.float64
    assert torch.equal(theta_of(again.model), THETA.to(dtype))
    before, after = (torch.load(path, weights_only=False) for path in (old, new))
    weights = _weights(kind, after)
    loaded = network()
    loaded.load_state_dict({k.split(".", 1)[1] if _prefixed(kind) else k: v
                            for k, v in weights.items()})  # fmt: skip
    assert torch.equal(theta_of(loaded), THETA.float())
    for name, value in _weights(kind, before).items():
        assert weights[name].dtype == dtype
        weights[name] = value
    assert same(before, after)


def _prefixed(kind: str) -> bool:
    return kind != "bare"


def _weights(kind: str, content: Any) -> Any:
    where = {"nested": "model_state_dict", "average": "model", "lightning": "state_dict"}
    return content[where[kind]] if kind in where else content


def test_safetensors_keep_metadata_and_buffers(tmp_path: Path) -> None:
    old, new = tmp_path / "old.safetensors", tmp_path / "new.safetensors"
    safetensors.torch.save_file(dict(state()), old, {"format": "pt", "run": "7"})
    write_checkpoint(read_checkpoint(old, activation="tanh"), THETA, new)
    with safe_open(new, framework="pt") as archive:
        assert archive.metadata() == {"format": "pt", "run": "7"}
    model = network()
    safetensors.torch.load_model(model, new)
    assert torch.equal(theta_of(model), THETA.float())
    assert torch.equal(theta_of(read_checkpoint(new, activation="tanh").model), THETA)


def test_tied_weights_views_buffers_and_frozen_parameters(tmp_path: Path) -> None:
    model = Tied()
    old, new = tmp_path / "old.pt", tmp_path / "new.pt"
    torch.save(model.state_dict(), old)
    checkpoint = read_checkpoint(old, model)
    theta = torch.arange(24, dtype=torch.float64) / 7.0  # 16 shared weights, two biases
    write_checkpoint(checkpoint, theta, new)
    loaded = torch.load(new, weights_only=True)
    assert torch.equal(loaded["one.weight"].flatten(), theta[:16])
    assert torch.equal(loaded["two.weight"], loaded["one.weight"])
    assert loaded["two.weight"].data_ptr() == loaded["one.weight"].data_ptr()
    assert torch.equal(loaded["one.bias"], theta[16:20])
    assert torch.equal(loaded["two.bias"], theta[20:])
    assert torch.equal(loaded["scale"], model.scale)
    assert torch.equal(loaded["fixed"], model.fixed)


def test_weights_that_are_views_of_one_memory(tmp_path: Path) -> None:
    """As flattened parameters are stored: transposed and with others beside them."""
    whole = torch.zeros(PARAMETERS + 5)
    views = OrderedDict()
    start = 5
    for name, value in state().items():
        part = whole[start : start + value.numel()].view(value.shape[::-1])
        views[name] = part.permute(*reversed(range(part.ndim)))
        start += value.numel()
    old, new = tmp_path / "old.pt", tmp_path / "new.pt"
    torch.save({"state_dict": views, "head": whole[:5]}, old)
    write_checkpoint(read_checkpoint(old, activation="tanh"), THETA, new)
    assert torch.equal(theta_of(read_checkpoint(new, activation="tanh").model), THETA)
    loaded = torch.load(new, weights_only=True)
    assert torch.equal(loaded["head"], torch.zeros(5))


def test_a_trusted_script_is_saved_as_one(tmp_path: Path) -> None:
    old, new = tmp_path / "old.pt", tmp_path / "new.pt"
    torch.jit.script(network()).save(str(old))
    checkpoint = read_checkpoint(old, trust=True)
    before = theta_of(checkpoint.model)
    assert write_checkpoint(checkpoint, THETA, new) == ()
    assert torch.equal(theta_of(checkpoint.model), before)
    again = read_checkpoint(new, trust=True).model
    assert torch.equal(theta_of(again), THETA)
    inputs = torch.ones(2, 6, dtype=torch.float64)
    model = network().double()
    torch.nn.utils.vector_to_parameters(THETA, model.parameters())
    assert torch.equal(again(inputs), model(inputs))


def _script(path: Path) -> Checkpoint:
    torch.jit.script(network()).save(str(path))
    return read_checkpoint(path, model=network())


def _arguments(path: Path) -> Checkpoint:
    content = {"args": argparse.Namespace(lr=0.1), "acc": np.float64(0.5), "state_dict": state()}
    torch.save(content, path)
    return read_checkpoint(path, activation="tanh")


def _whole(path: Path) -> Checkpoint:
    torch.save(network(), path)
    return read_checkpoint(path, trust=True)


def _foreign(path: Path) -> Checkpoint:
    torch.save({"settings": Settings(), "state_dict": state()}, path)
    return read_checkpoint(path, activation="tanh", trust=True)


def _arrays(path: Path) -> Checkpoint:
    torch.save({k: v.numpy() for k, v in state().items()}, path)
    return read_checkpoint(path, activation="tanh")


def _protocol(path: Path) -> Checkpoint:
    torch.save(state(), path, pickle_protocol=pickle.HIGHEST_PROTOCOL)
    return read_checkpoint(path, activation="tanh", trust=True)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("make", [_script, _arguments, _whole, _foreign, _arrays, _protocol])
def test_what_cannot_be_rewritten_gives_a_plain_state_dict(tmp_path: Path, make: Any) -> None:
    checkpoint = make(tmp_path / "old.pt")
    (note,) = write_checkpoint(checkpoint, THETA, tmp_path / "new.pt")
    assert "plain state dict" in note
    model = network()
    model.load_state_dict(torch.load(tmp_path / "new.pt", weights_only=True))
    assert torch.equal(theta_of(model), THETA.float())


def test_a_file_that_has_changed_is_refused(tmp_path: Path) -> None:
    old = tmp_path / "old.pt"
    torch.save(state(), old)
    checkpoint = read_checkpoint(old, activation="tanh")
    torch.save({"other": state()}, old)
    with pytest.raises(CheckpointError, match="has changed"):
        write_checkpoint(checkpoint, THETA, tmp_path / "new.pt")
    assert not (tmp_path / "new.pt").exists()
