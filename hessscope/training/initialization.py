"""Initial weights by ``torch.nn.init``, from a stream of their own."""

from __future__ import annotations

import torch
from torch import nn

from hessscope.options.train import INITIALIZATIONS


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
