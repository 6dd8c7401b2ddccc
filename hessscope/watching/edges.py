"""The edge of stability: what an optimiser's steps can take, by its own formula.

On a quadratic with Hessian H the steps of an optimiser are a linear recursion in each eigenvector.
It is on the edge where one of its modes changes its sign at each step and keeps its length. For
gradient descent, heavy-ball and Nesterov momentum (arXiv:2103.00065, section 2 and appendix B) that
is Hv = (c/η)v with

    c = 2(1 + β)/(1 − d)          momentum β, dampening d
    c = 2(1 + β)/(1 + 2β)         Nesterov

and for Adam (arXiv:2207.14484) Hv = (c/η)Pv with c = 2(1 + β₁)/(1 − β₁) and, after t steps,
P = (1 − β₁ᵗ) diag(√v̂ + ε). RMSprop has P = diag(√v + ε) and the c of its momentum.

Weight decay λ that is added to the gradient adds λ to H. Where it is decoupled (AdamW), a step is
(1 − ηλ)θ − ηP⁻¹m, and the same calculation gives Hv = (c/η)Pv − λ(c/2)Pv. Groups of parameters may
have η, β and λ of their own: the same recursions hold with diagonal matrices in their place, so
that each parameter counts by those of its group.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from hessscope.errors import OptionError
from hessscope.operators import CurvatureOperator
from hessscope.progress import Progress, silent
from hessscope.records import Store

Group = dict[str, Any]
State = dict[str, Any]


@dataclass(frozen=True)
class Edge:
    """At which largest eigenvalue, of which matrix, an optimiser is on the edge.

    Attributes:
        threshold: of λ_max of the matrix; None where it is not known.
        rule: its formula, or why there is none.
        learning_rate: η; the largest where groups have several.
        scale: s, shape (n,): the matrix is diag(s)^½ H diag(s)^½ + diag(shift); None for H itself.
        shift: shape (n,).
    """

    threshold: float | None
    rule: str
    learning_rate: float | None = None
    scale: torch.Tensor | None = None
    shift: torch.Tensor | None = None

    def matrix(self, hessian: CurvatureOperator) -> ScaledOperator | None:
        """The matrix that the threshold is for; None for the Hessian itself."""
        if self.scale is None or self.shift is None:
            return None
        return ScaledOperator(hessian, self.scale.sqrt(), self.shift)


class ScaledOperator:
    """diag(r) A diag(r) + diag(shift), as a ``CurvatureOperator``.

    Args:
        inner: A.
        root: r, shape (n,).
        shift: shape (n,).
    """

    def __init__(self, inner: CurvatureOperator, root: torch.Tensor, shift: torch.Tensor) -> None:
        self._inner, self._root, self._shift = inner, root[:, None], shift[:, None]
        self.shape, self.dtype, self.device = inner.shape, inner.dtype, inner.device
        self.hvps = 0

    def apply(self, vectors: torch.Tensor) -> torch.Tensor:
        """Product with the columns of a tensor of shape (n, m)."""
        self.hvps += vectors.shape[1]
        return self._root * self._inner.apply(self._root * vectors) + self._shift * vectors

    def to_dense(self, progress: Progress = silent, saved: Store | None = None) -> torch.Tensor:
        """The whole matrix."""
        dense = self._root * self._inner.to_dense(progress, saved) * self._root.T
        dense.diagonal().add_(self._shift[:, 0])
        return dense

    def recomputed(self) -> ScaledOperator | None:
        """The same with A's sums taken in another order."""
        other = self._inner.recomputed()
        if other is None:
            return None
        return ScaledOperator(other, self._root[:, 0], self._shift[:, 0])


@dataclass(frozen=True)
class _Rule:
    """Of one kind of optimiser.

    Attributes:
        constant: c of a group, and its formula.
        denominator: √v̂ + ε and the like from a parameter's state; None for 1.
        decoupled: weight decay of a group is no part of the gradient.
    """

    constant: Callable[[Group], tuple[float, str]]
    denominator: Callable[[Group, State], torch.Tensor] | None = None
    decoupled: Callable[[Group], bool] = lambda group: False


def _sgd(group: Group) -> tuple[float, str]:
    beta, damp = float(group["momentum"]), float(group["dampening"])
    if not beta:
        return 2.0, "2/η"
    if group["nesterov"]:
        return 2 * (1 + beta) / (1 + 2 * beta), "2(1+β)/((1+2β)η)"
    if damp:
        return 2 * (1 + beta) / (1 - damp), "2(1+β)/((1−d)η)"
    return 2 * (1 + beta), "2(1+β)/η"


def _adam(group: Group) -> tuple[float, str]:
    beta = float(group["betas"][0])
    return 2 * (1 + beta) / (1 - beta), "2(1+β₁)/((1−β₁)η)"


def _adam_denominator(group: Group, state: State) -> torch.Tensor:
    beta, beta2, t = *map(float, group["betas"]), float(state["step"])
    squares = state["max_exp_avg_sq" if group["amsgrad"] else "exp_avg_sq"]
    root = (squares.double() / (1 - beta2**t)).sqrt()
    return (1 - beta**t) * (root + group["eps"])


def _rmsprop(group: Group) -> tuple[float, str]:
    beta = float(group["momentum"])
    return 2 * (1 + beta), "2(1+β)/η" if beta else "2/η"


def _rmsprop_denominator(group: Group, state: State) -> torch.Tensor:
    squares = state["square_avg"].double()
    if group["centered"]:
        squares = squares - state["grad_avg"].double() ** 2
    return squares.clamp_min(0).sqrt() + group["eps"]


_RULES: dict[type[torch.optim.Optimizer], _Rule] = {
    torch.optim.SGD: _Rule(_sgd),
    torch.optim.Adam: _Rule(
        _adam, _adam_denominator, lambda group: bool(group.get("decoupled_weight_decay"))
    ),
    torch.optim.AdamW: _Rule(_adam, _adam_denominator, lambda group: True),
    torch.optim.RMSprop: _Rule(_rmsprop, _rmsprop_denominator),
}


def edge_of(
    optimizer: torch.optim.Optimizer | None,
    parameters: Iterable[torch.nn.Parameter],
    dtype: torch.dtype,
    device: torch.device,
) -> Edge:
    """The edge of stability of an optimiser as it stands.

    Args:
        optimizer: of torch; also within accelerate's wrapper.
        parameters: those of the Hessian, in their order.
        dtype: of the Hessian.
        device: likewise.

    Raises:
        OptionError: the optimiser moves none of the parameters, or others beside them.
    """
    if optimizer is None:
        return Edge(None, "no `optimizer` was given")
    while isinstance(inner := getattr(optimizer, "optimizer", None), torch.optim.Optimizer):
        optimizer = inner
    kind, own = type(optimizer), list(parameters)
    where = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    moved = [p for p in own if id(p) in where]
    trained = sum(p.requires_grad for group in optimizer.param_groups for p in group["params"])
    if not moved or trained > len(moved):
        raise OptionError(
            f"the `optimizer` trains {trained} tensors, {len(moved)} of them in the watched "
            "`model`: give the model that it trains as a whole"
        )
    rates = [float(where[id(p)]["lr"]) for p in moved]
    fastest = max(rates)
    rule = _RULES.get(kind)
    if rule is None:
        known = ", ".join(one.__name__ for one in _RULES)
        return Edge(None, f"no threshold is known for {kind.__name__} (only {known})", fastest)
    if any(group.get("maximize") for group in where.values()):
        return Edge(None, "the optimizer maximises", fastest)
    if not fastest:
        return Edge(None, "the learning rate is 0", fastest)
    return _edge(optimizer, rule, own, where, dtype, device, fastest)


def _edge(
    optimizer: torch.optim.Optimizer,
    rule: _Rule,
    own: list[torch.nn.Parameter],
    where: dict[int, Group],
    dtype: torch.dtype,
    device: torch.device,
    fastest: float,
) -> Edge:
    """The same where there is a rule, and a step that moves something."""
    states: Mapping[Any, State] = optimizer.state
    if rule.denominator and not any(states.get(p) for p in own):
        return Edge(None, "no step was taken yet", fastest)
    moving = {
        id(p): where[id(p)]
        for p in own
        if id(p) in where and where[id(p)]["lr"] and (not rule.denominator or states.get(p))
    }
    if not moving:
        return Edge(None, "the learning rate is 0 where steps were taken", fastest)
    limits = {key: rule.constant(group)[0] / float(group["lr"]) for key, group in moving.items()}
    decays = {key: float(group["weight_decay"]) for key, group in moving.items()}
    formula = " or ".join(sorted({rule.constant(group)[1] for group in moving.values()}))
    threshold = min(limits.values())
    several = len(set(limits.values())) > 1 or len(moving) < len(own)
    if not several and not rule.denominator and len(set(decays.values())) == 1:
        decay = next(iter(decays.values()))
        return Edge(threshold - decay, f"{formula} − weight decay" if decay else formula, fastest)
    scales, shifts = [], []
    for p in own:
        scale = torch.zeros(p.numel(), dtype=torch.float64, device=p.device)
        shift = torch.zeros_like(scale)
        if (group := moving.get(id(p))) is not None:
            part = threshold / limits[id(p)]
            scale += part
            if rule.denominator:
                scale /= rule.denominator(group, states[p]).reshape(-1)
            shift = decays[id(p)] * scale
            if rule.decoupled(group):
                shift = torch.full_like(scale, decays[id(p)] * part * rule.constant(group)[0] / 2)
        scales.append(scale)
        shifts.append(shift)
    formula += " of λ_max(P⁻¹H)" if rule.denominator else " of λ_max(H)"
    if any(decays.values()):
        formula += ", weight decay added"
    if several:
        formula += ", each parameter by its group"
    joined = [torch.cat(parts).to(device, dtype) for parts in (scales, shifts)]
    return Edge(threshold, formula, fastest, *joined)
