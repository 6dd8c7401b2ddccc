"""The convolutional network of ``mnist_cnn_bn.pt`` and ``mnist_cnn_bn.safetensors``."""

import torch
import torch.nn.functional as F
from torch import nn


class MnistCnnBn(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 8, 3)
        self.conv2 = nn.Conv2d(8, 16, 3)
        self.conv3 = nn.Conv2d(16, 24, 3)
        self.norm1 = nn.BatchNorm2d(24)
        self.fc1 = nn.Linear(11616, 32)
        self.dropout = nn.Dropout(0.3)
        self.fc2 = nn.Linear(32, 10)
        self.norm2 = nn.BatchNorm1d(10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.conv1(x))
        x = F.relu(self.conv2(x))
        x = F.relu(self.conv3(x))
        x = torch.flatten(self.norm1(x), 1)
        x = self.dropout(F.relu(self.fc1(x)))
        return F.log_softmax(self.norm2(self.fc2(x)), dim=1)
