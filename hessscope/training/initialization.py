"""Initial weights by ``torch.nn.init``, from a stream of their own."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import nn

Fill = Callable[[torch.Tensor, float, torch.Generator], object]

# He et al. (2015) derive their scale for ReLU; torch's gain for it is √2.
INITIALIZATIONS: Mapping[str, tuple[Fill, float] | None] = {
    "default": None,
    "xavier_uniform": (lambda w, gain, g: nn.init.xavier_uniform_(w, gain, generator=g), 1.0),
    "xavier_normal": (lambda w, gain, g: nn.init.xavier_normal_(w, gain, generator=g), 1.0),
    "he_uniform": (lambda w, gain, g: _he(nn.init.kaiming_uniform_, w, gain, g), 1.0),
    "he_normal": (lambda w, gain, g: _he(nn.init.kaiming_normal_, w, gain, g), 1.0),
    "orthogonal": (lambda w, gain, g: nn.init.orthogonal_(w, gain, generator=g), 1.0),
    "normal": (lambda w, std, g: nn.init.normal_(w, 0.0, std, generator=g), 0.05),
    "uniform": (lambda w, half, g: nn.init.uniform_(w, -half, half, generator=g), 0.05),
}
"""Initialisations by name, each with its usual scale; "default" is whatever the layers do."""


def _he(
    fill: Callable[..., torch.Tensor], w: torch.Tensor, gain: float, g: torch.Generator
) -> None:
    fill(w, nonlinearity="relu", generator=g)
    w.mul_(gain)


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
    chosen = INITIALIZATIONS[name]
    if chosen is None:
        return
    fill, usual = chosen
    for full_name, parameter in model.named_parameters():
        if parameter.ndim >= 2:
            drawn = torch.empty(parameter.shape)
            fill(drawn, usual if scale is None else scale, generator)
            parameter.copy_(drawn)
        elif full_name.rpartition(".")[2].startswith("bias"):
            parameter.zero_()
