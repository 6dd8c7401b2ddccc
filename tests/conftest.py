"""What several tests share: where real data and checkpoints are, and small exact problems."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from cli_runs import Run, in_folder, runner

REPOSITORY = Path(__file__).resolve().parent.parent

# Outputs are compared as files and pipes have them; pytest-xdist sets the width of a terminal.
os.environ.pop("COLUMNS", None)


def _folder(variable: str, beside: str) -> Path | None:
    """The folder that an environment variable names, or the one beside the repository."""
    named = os.environ.get(variable)
    path = Path(named) if named else REPOSITORY.parent / "shared" / beside
    return path if path.is_dir() else None


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """Full MNIST and CIFAR-10."""
    folder = _folder("HESSSCOPE_DATA", "data")
    if folder is None:
        pytest.skip("no full data sets here: set HESSSCOPE_DATA to a folder with mnist/")
    return folder


@pytest.fixture(scope="session")
def checkpoint_folder() -> Path:
    """Checkpoints that other people trained."""
    folder = _folder("HESSSCOPE_CHECKPOINTS", "checkpoints")
    if folder is None:
        pytest.skip("no real checkpoints here: set HESSSCOPE_CHECKPOINTS to their folder")
    return folder


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command line in this process."""
    return runner(capsys)


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a small problem, where the test runs."""
    yield from in_folder(tmp_path, monkeypatch)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)
