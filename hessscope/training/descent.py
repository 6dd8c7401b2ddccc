"""Training a classifier by Adam, enough to have a checkpoint to look at."""

from __future__ import annotations

import torch

from hessscope.loaders import Dataset
from hessscope.objective import get_loss
from hessscope.progress import Progress, silent


def train(
    model: torch.nn.Module,
    data: Dataset,
    *,
    loss: str = "cross_entropy",
    epochs: int = 60,
    batch_size: int = 64,
    learning_rate: float = 3e-3,
    seed: int = 0,
    progress: Progress = silent,
) -> torch.nn.Module:
    """Train ``model`` in place by Adam on shuffled mini-batches; float32, on the CPU.

    Args:
        model: what to train; left in evaluation mode.
        data: tensors as inputs and targets.
        loss: a name from ``LOSSES``.
        epochs: passes over the data.
        batch_size: examples a step.
        learning_rate: Adam's.
        seed: of the shuffling.
        progress: told of each epoch.
    """
    function = get_loss(loss).function
    stream = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate)
    model.train()
    progress("training", 0, epochs)
    for epoch in range(epochs):
        order = torch.randperm(len(data), generator=stream)
        for batch in order.split(batch_size):
            optimizer.zero_grad()
            function(model(data.inputs[batch]), data.targets[batch]).backward()
            optimizer.step()
        progress("training", epoch + 1, epochs)
    return model.eval()
