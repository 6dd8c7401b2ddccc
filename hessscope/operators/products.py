"""Ways of computing products of a term's Hessian with several vectors.

A way prepares a term at a point once and returns a function of the vectors, (k, n) to (k, n).
All ways give the same numbers to rounding; which is fastest depends on network and machine.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch

from hessscope.objective import Term

BlockProduct = Callable[[torch.Tensor], torch.Tensor]
Way = Callable[[Term, torch.Tensor], BlockProduct]


def retained(term: Term, theta: torch.Tensor) -> BlockProduct:
    """Keep the graph of the gradient; a product is one pass backward through it.

    The vectors of a block go through the pass together (``torch.vmap``); single ones do not need
    a batching rule for every operation of the model.
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


def linearized(term: Term, theta: torch.Tensor) -> BlockProduct:
    """Linearise the gradient once (forward mode); a product evaluates the linear map."""
    with warnings.catch_warnings():
        # torch's tracer warns about its own bookkeeping.
        warnings.filterwarnings("ignore", message="Attempted to insert a get_attr Node")
        _, tangent = torch.func.linearize(torch.func.grad(term), theta.detach())
    return torch.vmap(tangent)


WAYS: dict[str, Way] = {"retained": retained, "linearized": linearized}
