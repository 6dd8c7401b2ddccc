"""The networks and data that are measured."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

import hessscope as hs
from models.cifar10_resnet20 import ResNet20

SHIPPED = Path(__file__).resolve().parent.parent / "data"


def mlp(inputs: int = 784, hidden: int = 25, outputs: int = 10) -> nn.Module:
    """A ReLU network with one hidden layer, at its initial weights."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, outputs))


def mnist(count: int, root: str | None) -> tuple[torch.Tensor, torch.Tensor, str]:
    """Training images as vectors, their labels, and in words where they come from."""
    if root is not None:
        data = hs.load_data("mnist", root=root)
        words = f"{min(count, len(data)):,} MNIST training images"
    else:
        data = hs.load_data("mnist", root=SHIPPED)
        words = f"the {len(data):,} MNIST images of the tests, repeated to {count:,}"
    at = torch.arange(count if root is None else min(count, len(data))) % len(data)
    return data.inputs[at].flatten(1), data.targets[at], words


def resnet20() -> nn.Module:
    """ResNet-20 for 32x32 images, at its initial weights."""
    torch.manual_seed(0)
    return ResNet20().eval()


def random_images(count: int, classes: int = 10) -> tuple[torch.Tensor, torch.Tensor]:
    """Normally distributed 32x32 images with three channels, and labels."""
    stream = torch.Generator().manual_seed(0)
    images = torch.randn(count, 3, 32, 32, generator=stream)
    return images, torch.randint(0, classes, (count,), generator=stream)
