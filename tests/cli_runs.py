"""Running the command line in process, and small problems that it solves in tenths of a second."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from hessscope_cli.main import execute

INPUTS, HIDDEN, CLASSES, EXAMPLES = 6, 4, 3, 60
PARAMETERS = (INPUTS + 1) * HIDDEN + (HIDDEN + 1) * CLASSES

# Of distances torch has no second derivative.
LOSS_WITHOUT_SECOND_DERIVATIVE = """
import torch

def loss(outputs, targets):
    one = torch.ones(1, 3, dtype=outputs.dtype)
    return torch.cdist(outputs, one, compute_mode="donot_use_mm_for_euclid_dist").mean()
"""
# Of this torch gives the Hessian without the part that is hidden, and says nothing.
LOSS_WITH_HIDDEN_SECOND_DERIVATIVE = """
import torch

class Once(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return (x * x).mean()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, g):
        return 2 * g * ctx.saved_tensors[0] / ctx.saved_tensors[0].numel()

def loss(outputs, targets):
    return Once.apply(outputs)
"""


@dataclass(frozen=True)
class Outcome:
    """What a user sees of one command."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def error(self) -> str:
        """The one line of an error; anything else on standard error fails."""
        lines = [line for line in self.err.splitlines() if line]
        assert len(lines) == 1, f"not one line: {self.err}"
        assert lines[0].startswith("error: ")
        return lines[0]


Run = Callable[..., Outcome]


def runner(capsys: pytest.CaptureFixture[str]) -> Run:
    """Give a function that runs ``hessscope ARGUMENTS…`` in this process."""

    def run(*arguments: object) -> Outcome:
        capsys.readouterr()
        code = execute([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return run


def network() -> nn.Sequential:
    """A 6-4-3 tanh network with fixed weights."""
    torch.manual_seed(7)
    return nn.Sequential(nn.Linear(INPUTS, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, CLASSES))


def arrays() -> dict[str, np.ndarray]:
    """Sixty examples of three classes."""
    rng = np.random.default_rng(0)
    targets = np.arange(EXAMPLES) % CLASSES
    inputs = rng.normal(size=(EXAMPLES, INPUTS)) + targets[:, None]
    return {"inputs": inputs.astype(np.float32), "targets": targets}


def write_problem(folder: Path) -> None:
    """Write model.pt and data.npz."""
    torch.save(network().state_dict(), folder / "model.pt")
    np.savez(folder / "data.npz", **arrays())


def listing(folder: Path) -> dict[str, bytes]:
    """Every file below a folder with its content, to see that nothing was written or damaged."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }


def in_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Work in a folder with the small problem in it."""
    monkeypatch.chdir(folder)
    write_problem(folder)
    yield folder
