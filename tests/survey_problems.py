"""Objectives with known critical points, made by functions that other processes can import."""

from __future__ import annotations

import itertools
import os
import signal
import time
from pathlib import Path

import torch

from closed_forms import LinearAutoencoderPoint
from hessscope import EmpiricalRisk, FunctionObjective

WELLS = 3
CENTRE = 0.3
#: Where a file of this name is, ``deadly_wells`` kills its process; it removes the file first.
MARK = "HESSSCOPE_TEST_MARK"
EIGENVALUES, HIDDEN = (4.0, 2.6, 1.5, 0.7), 2


def wells(x: torch.Tensor) -> torch.Tensor:
    """Σ (y² − 1)²/4 with y = x − 0.3: critical where each y is −1, 0 or 1.

    The index is the number of zeros among the y, and the loss is a quarter of it.
    """
    return (((x - CENTRE) ** 2 - 1) ** 2 / 4).sum()


def double_wells() -> FunctionObjective:
    """The wells as they are."""
    return FunctionObjective(wells, torch.zeros(WELLS))


def slow_wells() -> FunctionObjective:
    """The same, but each evaluation takes some milliseconds."""

    def slow(x: torch.Tensor) -> torch.Tensor:
        time.sleep(0.005)
        return wells(x)

    return FunctionObjective(slow, torch.zeros(WELLS))


def broken_wells() -> FunctionObjective:
    """The same, but an error where the first x is above one half."""

    def broken(x: torch.Tensor) -> torch.Tensor:
        if float(x.detach()[0]) > 0.5:
            raise ValueError("no such place")
        return wells(x)

    return FunctionObjective(broken, torch.zeros(WELLS))


def deadly_wells() -> FunctionObjective:
    """The same, but the process that first finds the mark dies of it, as if out of memory."""

    def deadly(x: torch.Tensor) -> torch.Tensor:
        mark = Path(os.environ[MARK])
        if float(x.detach()[0]) > 0.5 and mark.exists():
            mark.unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        return wells(x)

    return FunctionObjective(deadly, torch.zeros(WELLS))


def fatal_wells() -> FunctionObjective:
    """The same, but every process dies where the first x is above one half."""

    def fatal(x: torch.Tensor) -> torch.Tensor:
        if float(x.detach()[0]) > 0.5:
            os.kill(os.getpid(), signal.SIGKILL)
        return wells(x)

    return FunctionObjective(fatal, torch.zeros(WELLS))


def slope() -> FunctionObjective:
    """x + x³/3: the gradient x² + 1 is smallest at 0, and never zero."""
    return FunctionObjective(lambda x: (x + x**3 / 3).sum(), torch.ones(1))


def linear_autoencoder() -> EmpiricalRisk:
    """x → ABx with two hidden units in four dimensions."""
    return LinearAutoencoderPoint(EIGENVALUES, HIDDEN, (0, 1)).risk()


def autoencoder_points() -> list[LinearAutoencoderPoint]:
    """All its critical points up to the orbit of GL(2)."""
    return [
        LinearAutoencoderPoint(EIGENVALUES, HIDDEN, chosen)
        for rank in range(HIDDEN + 1)
        for chosen in itertools.combinations(range(len(EIGENVALUES)), rank)
    ]
