"""Products of a term's second-order matrices with several vectors at a time."""

from __future__ import annotations

from collections.abc import Callable

import torch

from hessscope.objective import BatchTerm, Term

BlockProduct = Callable[[torch.Tensor], torch.Tensor]
#: What is prepared for a term at θ, so that products are quick.
Prepare = Callable[[Term, torch.Tensor], BlockProduct]
#: Second-order information of a batch in the outputs f: vectors (k, *f.shape) to the same.
OutputCurvature = Callable[[BatchTerm, torch.Tensor], BlockProduct]


def pulled_back(
    function: torch.Tensor, variable: torch.Tensor, vectors: torch.Tensor
) -> torch.Tensor:
    """Jᵀu for every vector u, J the derivative of a kept graph: one pass backward.

    The vectors of a block go through the pass together (``torch.vmap``); a single one does not
    need a batching rule for every operation of the model.

    Args:
        function: with the graph that leads to ``variable``; without one J is zero.
        variable: leaf of the graph.
        vectors: shape (k, *function.shape).

    Returns:
        Shape (k, *variable.shape).
    """
    if not function.requires_grad:
        return vectors.new_zeros(len(vectors), *variable.shape)
    if len(vectors) == 1:
        (single,) = torch.autograd.grad(
            function, variable, vectors[0], retain_graph=True, materialize_grads=True
        )
        return single[None]
    (block,) = torch.autograd.grad(
        function,
        variable,
        vectors,
        retain_graph=True,
        is_grads_batched=True,
        allow_unused=True,
        materialize_grads=True,
    )
    return block


def retained(term: Term, theta: torch.Tensor) -> BlockProduct:
    """Keep the graph of a term's gradient; a product is one pass backward through it.

    Linearising the gradient in forward mode (``torch.func.linearize``) is not faster, needs seconds
    of tracing, and was found to give wrong products for ``nn.LSTM`` on torch 2.13.

    Args:
        term: differentiable function of θ.
        theta: the point, of any shape.

    Returns:
        A function of vectors, (k, *θ.shape) to the same.
    """
    point = theta.detach().requires_grad_(True)
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(term(point), point, create_graph=True)
    return lambda vectors: pulled_back(gradient, point, vectors)


def through_outputs(
    term: BatchTerm, theta: torch.Tensor, curvature: OutputCurvature
) -> BlockProduct:
    """Products with Jᵀ C J, J the derivative of the outputs and C a matrix on them.

    The graphs of the outputs and of u ↦ Jᵀu are kept. The second is linear in u, so its transpose
    is J: a product is one pass backward through each, and none in forward mode.

    Args:
        term: with the model's outputs.
        theta: the point, shape (n,).
        curvature: C.

    Returns:
        A function of vectors, (k, n) to (k, n).
    """
    point = theta.detach().requires_grad_(True)
    with torch.enable_grad():
        outputs = term.outputs(point)
        dual = torch.zeros_like(outputs, requires_grad=True)
        (transposed,) = torch.autograd.grad(outputs, point, dual, create_graph=True)
    weigh = curvature(term, outputs.detach())

    def product(vectors: torch.Tensor) -> torch.Tensor:
        return pulled_back(outputs, point, weigh(pulled_back(transposed, dual, vectors)))

    return product


def gradient_in_outputs(term: BatchTerm, outputs: torch.Tensor) -> torch.Tensor:
    """∂ℓ/∂f of a batch, with its share of the mean."""
    point = outputs.detach().requires_grad_(True)
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(term.of_outputs(point), point)
    return gradient


def second_derivative(term: BatchTerm, outputs: torch.Tensor) -> BlockProduct:
    """∂²ℓ/∂f²: the Gauss–Newton matrix's C. Zero where the loss is linear in the outputs."""
    return retained(term.of_outputs, outputs)


def outer_products(term: BatchTerm, outputs: torch.Tensor) -> BlockProduct:
    """(1/N) uᵢuᵢᵀ for each example, uᵢ = ∂ℓᵢ/∂fᵢ: the empirical Fisher matrix's C."""
    shares = gradient_in_outputs(term, outputs)
    # The term is a mean over all N examples, so its gradient in fᵢ is uᵢ/N.
    scores = term.total * shares.reshape(term.count, -1)

    def product(vectors: torch.Tensor) -> torch.Tensor:
        along = (vectors.reshape(len(vectors), term.count, -1) * scores).sum(-1, keepdim=True)
        return (along * scores / term.total).view(vectors.shape)

    return product
