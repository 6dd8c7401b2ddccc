"""A format of checkpoints is one class; the file is read, checked and named around it."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import hessscope as hs
from cli_runs import network
from hessscope.errors import CheckpointError
from hessscope.loaders import write_checkpoint
from hessscope.loaders.checkpoints import Format, RawFile, Stored
from hessscope.parameters import ParameterLayout
from hessscope.registry import FORMATS


class NpzFormat(Format):
    """Weights in a file of ``numpy.savez``."""

    def recognises(self, file: RawFile) -> bool:
        return bool(file.entries) and all(name.endswith(".npy") for name in file.entries)

    def read(self, file: RawFile) -> Stored:
        arrays = np.load(file.stream())
        return Stored("npz", {name: torch.from_numpy(arrays[name]) for name in arrays})

    def write(
        self, file: RawFile, weights: dict[str, torch.Tensor], model: nn.Module, key: str | None
    ) -> bytes:
        stream = io.BytesIO()
        np.savez(stream, **{name: value.numpy() for name, value in weights.items()})
        return stream.getvalue()


@pytest.fixture
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    class Point:
        @staticmethod
        def load() -> type[Format]:
            return NpzFormat

    monkeypatch.setattr(FORMATS, "_points", {**FORMATS.points, "npz": Point()})


@pytest.mark.usefixtures("_registered")
def test_a_format_is_one_class(tmp_path: Path) -> None:
    model = network()
    path = tmp_path / "model.npz"
    np.savez(path, **{name: value.numpy() for name, value in model.state_dict().items()})
    found = hs.load_checkpoint(path, activation="tanh")
    inputs = torch.ones(2, 6)
    assert torch.equal(found.model(inputs), model(inputs))
    assert (found.format, found.architecture) == ("npz", "mlp:6-4-3:tanh")
    theta = ParameterLayout.of(found.model).flatten(dict(found.model.named_parameters())).detach()
    assert write_checkpoint(found, theta + 1, tmp_path / "new.npz") == ()
    again = hs.load_checkpoint(tmp_path / "new.npz", activation="tanh")
    assert torch.equal(next(again.model.parameters()), next(model.parameters()) + 1)


@pytest.mark.usefixtures("_registered")
def test_damage_is_found_before_a_format_reads(tmp_path: Path) -> None:
    path = tmp_path / "model.npz"
    weight = np.arange(24.0).reshape(4, 6)
    np.savez(path, weight=weight)
    content = bytearray(path.read_bytes())
    content[content.index(weight.tobytes()) + 50] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"its entry 'weight\.npy' is not what was written"):
        hs.load_checkpoint(path)
