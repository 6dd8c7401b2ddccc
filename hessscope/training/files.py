"""Checkpoints of a training run: ordinary torch files from which it can also be resumed."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from hessscope.errors import CheckpointError
from hessscope.loaders.checkpoints.settings import KEY
from hessscope.loaders.integrity import check_zip
from hessscope.torch_internals import tree_map
from hessscope.training.history import History
from hessscope.training.states import TrainingState

_NAME = re.compile(r"epoch_(\d+)\.pt")


def checkpoint_name(epoch: int) -> str:
    """File name of the checkpoint of an epoch."""
    return f"epoch_{epoch}.pt"


def checkpoints_in(folder: Path) -> list[Path]:
    """The checkpoints of a run, by epoch."""
    found = {int(m[1]): p for p in folder.glob("epoch_*.pt") if (m := _NAME.fullmatch(p.name))}
    return [found[epoch] for epoch in sorted(found)]


def state_bytes(state: TrainingState, setting: Mapping[str, Any]) -> bytes:
    """A state as the content of a checkpoint file, all but its history.

    The names of the entries tell every reader of checkpoints that what stands beside the weights
    is the optimizer's.
    """
    tested = state.history.last.test_accuracy
    stream = io.BytesIO()
    content = {
        "state_dict": dict(state.weights),
        KEY: dict(setting),
        "epoch": state.epoch,
        **({} if math.isnan(tested) else {"test_accuracy": tested}),
        "optimizer_state": tree_map(_on_cpu, dict(state.optimizer)),
        "rng_state": tree_map(_on_cpu, dict(state.random)),
    }
    torch.save(content, stream)
    return stream.getvalue()


def read_state(path: Path, history: History) -> tuple[TrainingState, dict[str, Any]]:
    """Read the state that a checkpoint of a run holds, and the setting that it states.

    Args:
        path: the checkpoint.
        history: of the run, at least up to the checkpoint's epoch.

    Raises:
        CheckpointError: it is not one of ``hessscope train``, or damaged.
    """
    check_zip(path, CheckpointError)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        epoch = int(content["epoch"])
        state = TrainingState(
            epoch,
            content["state_dict"],
            content["optimizer_state"],
            content["rng_state"],
            history.up_to(epoch),
        )
        return state, dict(content[KEY])
    except Exception as error:
        raise CheckpointError(
            f"{path} is not a checkpoint of hessscope train that can be resumed "
            f"({type(error).__name__}: {error})"
        ) from error


def _on_cpu(leaf: Any) -> Any:
    return leaf.cpu() if isinstance(leaf, torch.Tensor) else leaf
