"""The file of a checkpoint is opened once, whatever is asked of it in one call."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import hessscope as hs
from cli_runs import network
from hessscope.options.spectrum import SpectrumOptions
from hessscope.pipeline import open_problem

_watched: list[str] = []
_opened: list[str] = []


def _hook(event: str, arguments: tuple[object, ...]) -> None:
    if event == "open" and _watched and isinstance(arguments[0], (str, bytes, os.PathLike)):
        name = os.fsdecode(arguments[0])
        if Path(name).name in _watched:
            _opened.append(name)


@contextmanager
def opened(*names: str) -> Iterator[list[str]]:
    """Names of the files that are opened meanwhile, among those that are watched."""
    if not getattr(sys, "_hessscope_hook", False):
        sys.addaudithook(_hook)  # cannot be removed
        sys._hessscope_hook = True  # type: ignore[attr-defined]
    _opened.clear()
    _watched.extend(names)
    try:
        yield _opened
    finally:
        _watched.clear()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    path = tmp_path / "data.npz"
    np.savez(path, inputs=rng.normal(size=(12, 6)).astype("f4"), targets=np.arange(12) % 3)
    return path


@pytest.mark.parametrize("form", ["zip", "legacy", "safetensors"])
def test_opening_a_problem_opens_its_checkpoint_once(tmp_path: Path, data: Path, form: str) -> None:
    path = tmp_path / "model.pt"
    state = network().state_dict()
    if form == "safetensors":
        save_file(state, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=form == "zip")
    with opened("model.pt") as found:
        open_problem(SpectrumOptions(path, data, model="mlp:6-4-3:tanh", device="cpu"))
    assert found == [str(path)]


@pytest.mark.filterwarnings("ignore::hessscope.errors.HessscopeWarning")
def test_a_spectrum_opens_its_checkpoint_once(tmp_path: Path, data: Path) -> None:
    path = tmp_path / "model.pt"
    torch.save(network().state_dict(), path)
    with opened("model.pt") as found:
        hs.spectrum(path, data, model="mlp:6-4-3:tanh", device="cpu", out=tmp_path / "r.h5")
    assert found == [str(path)]


@pytest.mark.parametrize("archive", ["script", "export"])
def test_a_trusted_program_is_opened_once(tmp_path: Path, archive: str) -> None:
    path = tmp_path / "model.pt2"
    if archive == "script":
        torch.jit.trace(network(), torch.ones(2, 6)).save(str(path))
    else:
        shapes = ({0: torch.export.Dim.AUTO},)
        program = torch.export.export(network(), (torch.ones(2, 6),), dynamic_shapes=shapes)
        torch.export.save(program, path)
    with opened("model.pt2") as found:
        hs.load_checkpoint(path, trust=True)
    assert found == [str(path)]
