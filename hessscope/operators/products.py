"""Products of a term's Hessian with several vectors at a time."""

from __future__ import annotations

from collections.abc import Callable

import torch

from hessscope.objective import Term

BlockProduct = Callable[[torch.Tensor], torch.Tensor]


def retained(term: Term, theta: torch.Tensor) -> BlockProduct:
    """Keep the graph of a term's gradient; a product is one pass backward through it.

    The vectors of a block go through the pass together (``torch.vmap``); a single one does not
    need a batching rule for every operation of the model. Linearising the gradient in forward
    mode (``torch.func.linearize``) is not faster, needs seconds of tracing, and was found to give
    wrong products for ``nn.LSTM`` on torch 2.13.

    Args:
        term: differentiable function of θ.
        theta: the point, shape (n,).

    Returns:
        A function of vectors, (k, n) to (k, n).
    """
    point = theta.detach().requires_grad_(True)
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(term(point), point, create_graph=True)

    def product(vectors: torch.Tensor) -> torch.Tensor:
        if not gradient.requires_grad:  # the term is linear in θ
            return torch.zeros_like(vectors)
        if len(vectors) == 1:
            (single,) = torch.autograd.grad(
                gradient, point, vectors[0], retain_graph=True, materialize_grads=True
            )
            return single[None]
        (block,) = torch.autograd.grad(
            gradient, point, vectors, retain_graph=True, is_grads_batched=True
        )
        return block

    return product
