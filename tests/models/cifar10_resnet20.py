"""Two plans of ResNet-20: shortcuts without parameters, and shortcuts with a convolution."""

import torch
import torch.nn.functional as F
from torch import nn


class Block(nn.Module):
    """Two convolutions and a shortcut; ``learned`` shortcuts have weights of their own."""

    def __init__(self, inputs: int, outputs: int, stride: int, learned: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample: nn.Sequential | None = None
        self.padding = 0 if learned or inputs == outputs else outputs // 4
        if learned and inputs != outputs:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shortcut = x
        if self.downsample is not None:
            shortcut = self.downsample(x)
        elif self.padding:
            shortcut = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.padding, self.padding))
        out = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(out)) + shortcut)


class _ResNet20(nn.Module):
    def __init__(self, learned: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = self._layer(16, 16, 1, learned)
        self.layer2 = self._layer(16, 32, 2, learned)
        self.layer3 = self._layer(32, 64, 2, learned)

    @staticmethod
    def _layer(inputs: int, outputs: int, stride: int, learned: bool) -> nn.Sequential:
        first = Block(inputs, outputs, stride, learned)
        rest = [Block(outputs, outputs, 1, learned) for _ in range(2)]
        return nn.Sequential(first, *rest)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        return self.layer3(self.layer2(self.layer1(x))).mean((2, 3))


class ResNet20(_ResNet20):
    """Of ``cifar10_resnet20.th``: zero-padded shortcuts, last layer ``linear``."""

    def __init__(self) -> None:
        super().__init__(learned=False)
        self.linear = nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(self.features(x))


class ResNet20Downsample(_ResNet20):
    """Of ``cifar10_resnet20_dataparallel.pkl``: learned shortcuts, last layer ``fc``."""

    def __init__(self) -> None:
        super().__init__(learned=True)
        self.fc = nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.features(x))
