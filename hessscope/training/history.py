"""What a training run did, epoch by epoch and step by step."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import astuple, dataclass, fields
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Epoch:
    """The network after so many epochs; NaN stands for what was not measured.

    Attributes:
        epoch: 0 is the initialisation.
        step: optimiser steps so far.
        loss: L over all training examples, with the penalty.
        accuracy: share of right predictions on them.
        test_loss: mean loss over the held-out examples, without the penalty.
        test_accuracy: share of right predictions on them.
        gradient_norm: ‖g‖, the gradient over all training examples.
        gTg: gᵀg.
        gTHg: gᵀHg, the curvature along the gradient times ‖g‖².
        seconds: training time so far, evaluations included.
    """

    epoch: int
    step: int
    loss: float
    accuracy: float = math.nan
    test_loss: float = math.nan
    test_accuracy: float = math.nan
    gradient_norm: float = math.nan
    gTg: float = math.nan  # noqa: N815 - as the formula is written
    gTHg: float = math.nan  # noqa: N815
    seconds: float = 0.0


@dataclass(frozen=True)
class Step:
    """One step of the optimiser, with the loss of its batch before it.

    Attributes:
        loss: of the batch, with the penalty.
        gTg: gᵀg of the batch.
        gTHg: gᵀHg of the batch.
        damping: that was chosen (second-order methods).
        length: ‖Δθ‖ (second-order methods); 0 where no damping lowered the loss.
    """

    loss: float
    gTg: float = math.nan  # noqa: N815
    gTHg: float = math.nan  # noqa: N815
    damping: float = math.nan
    length: float = math.nan


_WHOLE = frozenset({"epoch", "step"})


@dataclass(frozen=True)
class History:
    """Every epoch, the initialisation first, and every step.

    Attributes:
        epochs: one entry for each epoch.
        steps: one entry for each step, where steps are logged.
    """

    epochs: tuple[Epoch, ...] = ()
    steps: tuple[Step, ...] = ()

    @property
    def last(self) -> Epoch:
        """Where training stands."""
        return self.epochs[-1]

    def up_to(self, epoch: int) -> History:
        """The history until the end of an epoch."""
        kept = tuple(e for e in self.epochs if e.epoch <= epoch)
        return History(kept, self.steps[: kept[-1].step] if kept else ())

    def columns(self) -> dict[str, np.ndarray]:
        """Every quantity of the epochs as an array; those never measured are left out."""
        return _columns(self.epochs, Epoch)

    def arrays(self) -> dict[str, np.ndarray]:
        """All columns, as records hold them: the epochs', and the steps' as ``steps/loss``, …"""
        steps = _columns(self.steps, Step)
        return {**self.columns(), **{f"steps/{name}": column for name, column in steps.items()}}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> History:
        """Make the history that a record holds."""
        steps = {
            name.removeprefix("steps/"): column
            for name, column in arrays.items()
            if name.startswith("steps/")
        }
        return cls(_rows(arrays, Epoch), _rows(steps, Step))


def _columns(rows: tuple[Any, ...], kind: type[Any]) -> dict[str, np.ndarray]:
    table = list(zip(*map(astuple, rows), strict=True))
    found = {}
    for field, values in zip(fields(kind), table, strict=False):
        column = np.array(values, dtype=np.int64 if field.name in _WHOLE else np.float64)
        if field.name in _WHOLE or not np.isnan(column).all():
            found[field.name] = column
    return found


def _rows(arrays: Mapping[str, np.ndarray], kind: type[Any]) -> tuple[Any, ...]:
    names = [f.name for f in fields(kind) if f.name in arrays]
    if not names:
        return ()
    columns = [arrays[name].tolist() for name in names]
    return tuple(kind(**dict(zip(names, row, strict=True))) for row in zip(*columns, strict=True))
