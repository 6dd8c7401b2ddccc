"""Comparison of products with differences of first derivatives, before anything rests on them."""

from __future__ import annotations

import math
import warnings
from typing import Any

import torch

from hessscope.errors import HessscopeError, HessscopeWarning, ObjectiveError
from hessscope.objective import Objective
from hessscope.objective.checks import not_differentiable
from hessscope.operators.plan import Plan

_DIFFERENCE = 0.05


def check_products(operator: Any, seed: int = 0) -> None:
    """Compare one product with a difference of first derivatives.

    Functions with a backward pass of their own may have no second derivative, or hide a part of
    it: torch then gives a wrong product and says nothing. Between the two points of a difference
    networks of ReLU and its like may have kinks, so that it is taken over a short way, too, and
    of an empirical risk in float64 over a few examples, whatever the operator's type.

    Args:
        operator: an ``ObjectiveOperator`` at θ.
        seed: of the direction.

    Cost: 1 product through the graph and 2 gradients, 4 where the first two differ; of an
    empirical risk over at most 7 examples. In float32 the risk over these is made anew in float64,
    with a copy of the model.

    Raises:
        ObjectiveError: torch has no second derivative of some operation.

    Warns:
        HessscopeWarning: the two differ by more than rounding and curvature explain.
    """
    objective, theta = operator.objective, operator.at
    objective = _on_few(objective, theta)
    theta = objective.parameters
    graph = operator.planned(Plan("graph", 1, None, held=False), objective, theta)
    eps = torch.finfo(theta.dtype).eps
    stream = torch.Generator().manual_seed(seed)
    v = torch.randn(len(theta), generator=stream, dtype=theta.dtype).to(theta.device)
    v /= torch.linalg.vector_norm(v)
    try:
        product = graph.matvec(v)
    except HessscopeError:
        raise
    except Exception as error:  # which exception an unsupported operation gives is torch's own
        raise not_differentiable(error, " twice") from error
    gaps, norm = [], math.inf
    for step in (eps ** (1 / 3), eps**0.5):
        t = step * (1.0 + float(torch.linalg.vector_norm(theta)))
        with objective.kernels():
            ahead, behind = (graph.antiderivative(theta + s * v) for s in (t, -t))
        difference = (ahead - behind) / (2 * t)
        norm = max(float(torch.linalg.vector_norm(x)) for x in (product, difference))
        noise = max(step, eps / step) * (1.0 + float(torch.linalg.vector_norm(ahead)))
        gaps.append(float(torch.linalg.vector_norm(product - difference)))
        if not gaps[-1] > max(_DIFFERENCE * norm, noise):
            return
    # Across a kink the gradient jumps, and the quotient grows as the way gets shorter.
    cause = "some function with a backward pass of its own hides its second derivative"
    if gaps[1] > 10 * gaps[0]:
        cause = "the loss has a kink here, where its gradient jumps"
    warnings.warn(
        f"a product with the {operator.name} matrix differs by {gaps[1] / norm:.0%} from the "
        f"change of first derivatives: {cause}. Do not trust what rests on the matrix",
        HessscopeWarning,
        stacklevel=2,
    )


def _on_few(objective: Objective, theta: torch.Tensor) -> Objective:
    """The objective over few examples at θ, in float64 where the model can be evaluated in it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of model and loss, given already for the whole risk
        try:
            return objective.on_few(torch.float64, theta)
        except ObjectiveError:
            return objective.on_few(theta.dtype, theta)
