"""States of training: initial weights, and checkpoints from which a run resumes."""

from __future__ import annotations

import copy
import io
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hessscope.errors import CheckpointError
from hessscope.loaders.checkpoints.checkpoint import KEY
from hessscope.loaders.integrity import check_zip
from hessscope.options.train import INITIALIZATIONS
from hessscope.torch_internals import tree_map
from hessscope.training.history import History


@dataclass(frozen=True)
class TrainingState:
    """Everything that the next step depends on, at the end of an epoch.

    Attributes:
        epoch: epochs done.
        weights: the model's state dict, copied to the CPU.
        optimizer: state of the optimiser.
        random: states of the streams: "shuffle", "noise", and "torch" and "cuda" (what layers
            draw on the CPU, and on the model's device if it is another).
        history: all epochs so far.
    """

    epoch: int
    weights: Mapping[str, torch.Tensor]
    optimizer: Mapping[str, Any]
    random: Mapping[str, torch.Tensor]
    history: History

    @classmethod
    def of(
        cls,
        epoch: int,
        model: torch.nn.Module,
        optimizer: Mapping[str, Any],
        streams: Mapping[str, torch.Generator],
        history: History,
    ) -> TrainingState:
        """Take the state of a run as it stands."""
        random = {name: stream.get_state() for name, stream in streams.items()}
        random["torch"] = torch.get_rng_state()
        device = _device_of(model)
        if device.type == "cuda":
            random["cuda"] = torch.cuda.get_rng_state(device)
        weights = {k: v.detach().cpu().clone() for k, v in model.state_dict().items()}
        return cls(epoch, weights, optimizer, random, history)

    def restore(
        self,
        model: torch.nn.Module,
        optimizer: Callable[[dict[str, Any]], None],
        streams: Mapping[str, torch.Generator],
    ) -> None:
        """Put a run back to where it was; ``optimizer`` takes the optimiser's state."""
        model.load_state_dict(dict(self.weights))
        # A copy: torch's optimisers go on working in the tensors that they are given.
        optimizer(copy.deepcopy(dict(self.optimizer)))
        for name, stream in streams.items():
            stream.set_state(self.random[name])
        torch.set_rng_state(self.random["torch"])
        device = _device_of(model)
        if "cuda" in self.random and device.type == "cuda":
            torch.cuda.set_rng_state(self.random["cuda"], device)


def _device_of(model: torch.nn.Module) -> torch.device:
    return next(model.parameters()).device


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


@torch.no_grad()
def initialize(
    model: nn.Module, name: str, scale: float | None, generator: torch.Generator
) -> None:
    """Fill every weight of two or more dimensions anew, and every bias with zero, in place.

    Scales and shifts of normalisation layers stay as they are. Numbers are drawn in float32 on
    the CPU, so that they are the same for every data type and device.

    Args:
        model: what to initialise.
        name: of ``INITIALIZATIONS``; "default" does nothing.
        scale: gain, standard deviation or half-width; default the usual one.
        generator: source of the random numbers.
    """
    if name == "default":
        return
    usual = INITIALIZATIONS[name] if scale is None else scale
    for full_name, parameter in model.named_parameters():
        if parameter.ndim >= 2:
            parameter.copy_(_drawn(parameter.shape, name, usual, generator))
        elif full_name.rpartition(".")[2].startswith("bias"):
            parameter.zero_()


def _drawn(shape: torch.Size, name: str, scale: float, generator: torch.Generator) -> torch.Tensor:
    weights = torch.empty(shape)
    fill = getattr(nn.init, f"{name.replace('he_', 'kaiming_')}_")
    if name.startswith("he_"):
        # He et al. (2015) derive their scale for ReLU; torch's gain for it is √2.
        fill(weights, nonlinearity="relu", generator=generator)
        return weights.mul_(scale)
    arguments = {"normal": (0.0, scale), "uniform": (-scale, scale)}.get(name, (scale,))
    fill(weights, *arguments, generator=generator)
    return weights
