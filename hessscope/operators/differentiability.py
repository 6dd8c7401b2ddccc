"""Whether second derivatives are what they should be, before anything rests on them."""

from __future__ import annotations

import math
import warnings

import torch

from hessscope.errors import HessscopeError, HessscopeWarning, ObjectiveError
from hessscope.objective import EmpiricalRisk
from hessscope.operators.hessian import HessianOperator
from hessscope.operators.plan import Plan

_DIFFERENCE = 0.05
_EXAMPLES = 8


def check_second_derivative(hessian: HessianOperator, seed: int = 0) -> None:
    """Compare one Hessian-vector product with a difference of gradients.

    Functions with a backward pass of their own may have no second derivative, or hide a part of
    it: torch then gives a wrong Hessian and says nothing. Between the two points of a difference
    networks of ReLU and its like may have kinks, so that it is taken over a short way, too, and
    of an empirical risk in float64 over the first 8 examples, whatever the operator's type.

    Args:
        hessian: H at θ.
        seed: of the direction.

    Cost: 1 product through the graph and 2 gradients, 4 where the first two differ; of an
    empirical risk over no more than 8 examples.

    Raises:
        ObjectiveError: torch has no second derivative of some operation.

    Warns:
        HessscopeWarning: the two differ by more than rounding and curvature explain.
    """
    objective, theta = hessian.objective, hessian.at
    if isinstance(objective, EmpiricalRisk):
        objective = _on_few(objective, theta)
        theta = objective.parameters
    eps = torch.finfo(theta.dtype).eps
    stream = torch.Generator().manual_seed(seed)
    v = torch.randn(len(theta), generator=stream, dtype=theta.dtype).to(theta.device)
    v /= torch.linalg.vector_norm(v)
    graph = HessianOperator(
        objective,
        theta,
        plan=Plan("graph", 1, getattr(objective, "batch_size", None), held=False),
        memory=hessian.memory,
    )
    try:
        product = graph.matvec(v)
    except HessscopeError:
        raise
    except Exception as error:  # which exception an unsupported operation gives is torch's own
        said = " ".join(str(error).split())[:300]
        raise ObjectiveError(f"the loss cannot be differentiated twice ({said})") from error
    gap, size = math.inf, math.inf
    for step in (eps ** (1 / 3), eps**0.5):
        t = step * (1.0 + float(torch.linalg.vector_norm(theta)))
        ahead, behind = objective.gradient(theta + t * v), objective.gradient(theta - t * v)
        difference = (ahead - behind) / (2 * t)
        size = max(float(torch.linalg.vector_norm(x)) for x in (product, difference))
        noise = max(step, eps / step) * (1.0 + float(torch.linalg.vector_norm(ahead)))
        gap = float(torch.linalg.vector_norm(product - difference))
        if not gap > max(_DIFFERENCE * size, noise):
            return
    warnings.warn(
        f"a Hessian-vector product differs by {gap / size:.0%} from the change of the "
        "gradient: some function with a backward pass of its own hides its second derivative, "
        "or the loss is not smooth here. Do not trust what rests on the Hessian",
        HessscopeWarning,
        stacklevel=2,
    )


def _on_few(risk: EmpiricalRisk, theta: torch.Tensor) -> EmpiricalRisk:
    """The risk over few examples at θ, in float64 where the model can be evaluated in it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of model and loss, given already for the whole risk
        try:
            return risk.on_first(_EXAMPLES, torch.float64, theta)
        except ObjectiveError:
            return risk.on_first(_EXAMPLES, risk.dtype, theta)
