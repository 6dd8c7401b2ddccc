"""The state of a training run: a plain frozen value from which it goes on with the same results."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

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
