"""Which modules of a network follow each other, and where their parameters stand in θ."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import nn

from hessscope.objective import EmpiricalRisk

# Enough to see what is called after what and whether a tensor is passed on unchanged.
_EXAMPLES = 4
# A consumer is looked for among so many of the modules called next.
_REACH = 4

LINEAR = (nn.Linear,)
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_WATCHED = (*LINEAR, *CONVOLUTIONS, *BATCH_NORMS, nn.LayerNorm, nn.MultiheadAttention)


@dataclass(frozen=True)
class Call:
    """A module that is called once for a batch.

    Attributes:
        name: of the module.
        module: itself.
        given: its (first) input.
        returned: its (first) output.
    """

    name: str
    module: nn.Module
    given: torch.Tensor
    returned: torch.Tensor

    def passes_on_to(self, other: Call) -> bool:
        """Whether what it returns is what the other is given, but for its shape."""
        mine, its = self.returned.flatten(), other.given.flatten()
        return mine.shape == its.shape and bool((mine == its).all())


class Wiring:
    """Calls in their order, and places of parameters.

    Args:
        risk: the network and its data.
        theta: θ.
    """

    def __init__(self, risk: EmpiricalRisk, theta: torch.Tensor) -> None:
        slices = risk.layout.slices()
        self.size = risk.layout.size
        self._places = {
            id(parameter): (slices[name], tuple(parameter.shape))
            for name, parameter in risk.model.named_parameters()
            if name in slices
        }
        self.modules = dict(risk.model.named_modules())
        self.calls = _calls(risk, theta)

    def place(self, parameter: object) -> np.ndarray | None:
        """Where a parameter stands in θ, in its own shape; None if it is not one of θ's."""
        if id(parameter) not in self._places:
            return None
        where, shape = self._places[id(parameter)]
        return np.arange(where.start, where.stop).reshape(shape)

    def producer(self, module: nn.Module) -> np.ndarray | None:
        """Weights and biases that scale each output channel: shape (channels, s).

        None where the channels cannot all be scaled by parameters of θ.
        """
        if not isinstance(module, (*LINEAR, *CONVOLUTIONS, *BATCH_NORMS, nn.LayerNorm)):
            return None
        weight, bias = self.place(module.weight), self.place(module.bias)
        if weight is None or (bias is None and module.bias is not None):
            return None
        if isinstance(module, nn.LayerNorm):
            weight = weight.reshape(-1)
            bias = None if bias is None else bias.reshape(-1)
        parts = [weight.reshape(len(weight), -1)]
        return np.hstack([*parts, bias[:, None]] if bias is not None else parts)

    def bias(self, module: nn.Module) -> np.ndarray | None:
        """Where the bias stands, in one dimension."""
        name = "in_proj_bias" if isinstance(module, nn.MultiheadAttention) else "bias"
        place = self.place(getattr(module, name, None))
        return None if place is None else place.reshape(-1)

    def consumer(self, module: nn.Module, channels: int) -> tuple[np.ndarray, np.ndarray] | None:
        """Weights that read each of so many channels.

        Returns:
            Their places, shape (channels, t), and the output channels that they add to, of the
            same shape; None where the module reads another number of channels.
        """
        name = "in_proj_weight" if isinstance(module, nn.MultiheadAttention) else "weight"
        weight = self.place(getattr(module, name, None))
        if weight is None:
            return None
        if isinstance(module, CONVOLUTIONS) and module.in_channels == channels:
            each = module.out_channels // module.groups
            grouped = weight.reshape(module.groups, each, weight.shape[1], -1)
            places = grouped.transpose(0, 2, 1, 3).reshape(channels, -1)
        elif (
            isinstance(module, (*LINEAR, nn.MultiheadAttention)) and not weight.shape[1] % channels
        ):
            # Flattened images: all positions of a channel stand together.
            columns = weight.reshape(len(weight), channels, -1)
            places = columns.transpose(1, 0, 2).reshape(channels, -1)
        else:
            return None
        # Rows of the weight are output channels, whatever its further dimensions.
        rows = np.zeros(self.size, dtype=np.int64)
        rows[weight] = np.arange(len(weight)).reshape(-1, *[1] * (weight.ndim - 1))
        return places, rows[places]

    def pairs(self) -> Iterator[tuple[Call, Call]]:
        """Calls, each with those that come soon after it."""
        for i, call in enumerate(self.calls):
            for later in self.calls[i + 1 : i + 1 + _REACH]:
                yield call, later

    def connections(self) -> Iterator[tuple[Call, Call, np.ndarray, np.ndarray, np.ndarray]]:
        """Pairs of which the later call reads the channels that the earlier one makes.

        Returns:
            Both calls, the places of what makes a channel, those of what reads it, and to which
            outputs the reading adds (``producer``, ``consumer``).
        """
        for call, later in self.pairs():
            produced = self.producer(call.module)
            if produced is not None:
                consumed = self.consumer(later.module, len(produced))
                if consumed is not None:
                    yield call, later, produced, *consumed


def _calls(risk: EmpiricalRisk, theta: torch.Tensor) -> list[Call]:
    """Pass some examples through the network and note what is called."""
    seen: list[Call] = []

    def note(name: str, module: nn.Module, given: tuple[object, ...], returned: object) -> None:
        if isinstance(returned, tuple):
            returned = returned[0]
        if given and isinstance(given[0], torch.Tensor) and isinstance(returned, torch.Tensor):
            # Copies: what comes next may work in place.
            seen.append(Call(name, module, given[0].clone(), returned.clone()))

    with ExitStack() as hooks, torch.no_grad(), risk.kernels():
        for name, module in risk.model.named_modules():
            if type(module) in _WATCHED:
                hooks.enter_context(module.register_forward_hook(partial(note, name)))
        risk.term(0, min(_EXAMPLES, len(risk)))(theta)
    names = [call.name for call in seen]
    return [call for call in seen if names.count(call.name) == 1]
