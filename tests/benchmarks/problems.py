"""The networks and data that are measured."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
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


class _Layer(nn.Module):
    def __init__(self, width: int, heads: int, causal: bool = True) -> None:
        super().__init__()
        self.heads, self.causal = heads, causal
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query_key_value, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        parts = self.query_key_value(self.before(x)).unflatten(-1, (3, self.heads, -1))
        q, k, v = (part.transpose(1, 2) for part in parts.unbind(2))
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        x = x + self.out(attended.transpose(1, 2).flatten(2))
        return x + self.down(F.gelu(self.up(self.between(x))))


class Transformer(nn.Module):
    """A decoder in GPT-2's shape: 124 million parameters with the default sizes."""

    def __init__(
        self,
        vocabulary: int = 50257,
        length: int = 1024,
        width: int = 768,
        heads: int = 12,
        layers: int = 12,
    ) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.positions = nn.Parameter(0.02 * torch.randn(length, width))
        self.layers = nn.Sequential(*[_Layer(width, heads) for _ in range(layers)])
        self.last = nn.LayerNorm(width)
        nn.init.normal_(self.tokens.weight, std=0.02)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.tokens(tokens) + self.positions[: tokens.shape[1]]
        return F.linear(self.last(self.layers(x)), self.tokens.weight)


def gpt() -> nn.Module:
    """A decoder of 4 layers, width 128, for 64 bytes, at its initial weights."""
    torch.manual_seed(0)
    return Transformer(256, length=64, width=128, heads=4, layers=4).eval()


def random_tokens(sequences: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Random bytes, and the next ones."""
    tokens = torch.randint(256, (sequences, 65), generator=torch.Generator().manual_seed(0))
    return tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()


class VisionTransformer(nn.Module):
    """Patches of 4x4 in images of 32x32, 4 layers of width 128, ten classes by their mean."""

    def __init__(self, width: int = 128, heads: int = 4, layers: int = 4) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 4, 4)
        self.positions = nn.Parameter(0.02 * torch.randn(64, width))
        self.layers = nn.Sequential(*[_Layer(width, heads, causal=False) for _ in range(layers)])
        self.last, self.head = nn.LayerNorm(width), nn.Linear(width, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2) + self.positions
        return self.head(self.last(self.layers(x)).mean(1))


def vit() -> nn.Module:
    """A small vision transformer at its initial weights."""
    torch.manual_seed(0)
    return VisionTransformer().eval()
