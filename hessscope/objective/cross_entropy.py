"""Cross-entropy over many classes with its derivatives in closed form, some rows at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F

# Numbers that are at work at once.
_AT_ONCE = 2**22


def summed_cross_entropy(logits: torch.Tensor, labels: torch.Tensor, ignored: int) -> torch.Tensor:
    """Σ −log softmax(logits)[label] over rows, those with the label ``ignored`` left out.

    The probabilities p are never kept: the graph of the gradient p − e holds the logits and the
    gradient, and a product diag(p) u − p (p·u) takes its own result beside. By torch's own function
    there are four and eight tensors of this size.

    Args:
        logits: shape (rows, classes).
        labels: class numbers, shape (rows,).
        ignored: a label that no row counts with.
    """
    total: torch.Tensor = _Sum.apply(logits, labels, ignored)
    return total


def _parts(logits: torch.Tensor) -> Iterator[slice]:
    rows = max(1, _AT_ONCE // logits.shape[1])
    return (slice(start, start + rows) for start in range(0, len(logits), rows))


class _Sum(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(logits: torch.Tensor, labels: torch.Tensor, ignored: int) -> torch.Tensor:
        sums = [
            F.cross_entropy(logits[part], labels[part], ignore_index=ignored, reduction="sum")
            for part in _parts(logits)
        ]
        return torch.stack(sums).sum()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
        logits, labels, ctx.ignored = inputs
        ctx.save_for_backward(logits, labels)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        logits, labels = ctx.saved_tensors
        counted = labels != ctx.ignored
        gradient: torch.Tensor = _Gradient.apply(
            logits, labels.where(counted, 0)[:, None], counted[:, None].to(logits.dtype), *grads
        )
        return gradient, None, None


class _Gradient(torch.autograd.Function):
    """g (p − e) of each row that counts, e the unit vector of its label."""

    generate_vmap_rule = True

    @staticmethod
    def forward(
        logits: torch.Tensor, labels: torch.Tensor, counted: torch.Tensor, g: torch.Tensor
    ) -> torch.Tensor:
        return torch.softmax(logits, 1).mul_(counted).scatter_add_(1, labels, -counted).mul_(g)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (u,), (logits, labels, counted, g) = grads, ctx.saved_tensors
        product, along = torch.empty_like(u), []
        for part in _parts(logits):
            p = torch.softmax(logits[part], 1)
            weighed = p * u[part]
            total = weighed.sum(1, keepdim=True)
            product[part] = (weighed - p * total) * (counted[part] * g)
            along.append(((total - u[part].gather(1, labels[part])) * counted[part]).sum())
        return product, None, None, torch.stack(along).sum()
