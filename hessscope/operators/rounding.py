"""Checks of products: randomised arithmetic, and differences of first derivatives."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from hessscope.errors import HessscopeError, HessscopeWarning, ObjectiveError
from hessscope.objective import Objective
from hessscope.objective.checks import not_differentiable
from hessscope.operators.plan import Plan, memory_room
from hessscope.torch_internals import DispatchMode, is_zero_tensor, schema, tree_map

# Integers in which floating-point numbers of as many bytes show their bits.
_BITS = {8: torch.int64, 4: torch.int32, 2: torch.int16}

# Operations that move, choose or make numbers and round none.
_EXACT = re.compile(
    r"(abs|neg|sgn|sign|copysign|floor|ceil|round|trunc|nan_to_num|where|masked_fill|masked_select"
    r"|clamp.*|hardtanh.*|relu|threshold.*|maximum|minimum|amax|amin|aminmax|max|min|max_pool.*"
    r"|sort|topk|one_hot|tril|triu|flip|roll|repeat|cat|stack|gather|index|index_select|embedding"
    r"|scatter|.*_scatter|slice_backward|select_backward|.*_pad.d|constant_pad_nd"
    r"|copy|clone|.*_copy|_unsafe_view|lift_fresh|fill|zero|scalar_tensor|_local_scalar_dense"
    r"|(empty|full|zeros|ones|eye|arange|rand|randn|bernoulli|new)(_.*)?)_?"
)


def _gelu_slopes(x: torch.Tensor, approximate: str) -> tuple[torch.Tensor, torch.Tensor]:
    """What gelu multiplies x by, and the derivative of that."""
    if approximate == "none":
        below = 0.5 * (1 + torch.erf(x * math.sqrt(0.5)))
        return below, torch.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)
    scale = math.sqrt(2 / math.pi)
    t = torch.tanh(scale * (x + 0.044715 * x**3))
    return 0.5 * (1 + t), 0.5 * (1 - t * t) * (scale * (1 + 3 * 0.044715 * x * x))


def _gelu(x: torch.Tensor, *, approximate: str = "none") -> torch.Tensor:
    return x * _gelu_slopes(x, approximate)[0]


def _gelu_backward(g: torch.Tensor, x: torch.Tensor, *, approximate: str = "none") -> torch.Tensor:
    below, density = _gelu_slopes(x, approximate)
    return g * (below + x * density)


def _silu_backward(g: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    s = torch.sigmoid(x)
    return g * s * (1 + x * (1 - s))


def _mish_backward(g: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    t = torch.tanh(torch.nn.functional.softplus(x))
    return g * (t + x * torch.sigmoid(x) * (1 - t * t))


def _log_softmax_backward(
    g: torch.Tensor, output: torch.Tensor, dim: int, dtype: torch.dtype
) -> torch.Tensor:
    return g - torch.exp(output) * g.sum(dim, keepdim=True)


# Kernels within which digits cancel that neither operands nor results show, step by step.
_STEPS: dict[str, Callable[..., torch.Tensor]] = {
    "gelu": _gelu,
    "gelu_backward": _gelu_backward,
    "silu_backward": _silu_backward,
    "mish_backward": _mish_backward,
    "_log_softmax_backward_data": _log_softmax_backward,
}


class RandomRounding(DispatchMode):
    """Within it torch rounds at random: y becomes y·(1 ± eps/2), rounded, whatever gave y.

    It works below automatic differentiation, so that passes forward and backward are rounded alike.
    The spread of a result over several draws shows what rounding may do to it, wherever that comes
    from (Monte Carlo arithmetic: D. S. Parker, 1997). Operations that add up (matrix products,
    convolutions, sums, normalisations) round within: their largest operands are rounded at random,
    too. Equal results of an operation are rounded alike, as they are in fact: over equal examples
    errors add up. Zeros stay zero, nothing grows beyond ±1, and what is only moved or chosen stays
    exact.

    Args:
        seed: of the draws; one after another, so that each operation rounds otherwise.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._draws = np.random.default_rng(seed)

    def call(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Carry out an operation, and round its result."""
        name, written = func.overloadpacket.__name__, schema(func).is_mutable
        if func.is_view or _EXACT.fullmatch(name):
            return func(*args, **kwargs)
        if name in _STEPS and not written:
            with self:
                return _STEPS[name](*args, **kwargs)
        if torch.Tag.pointwise not in func.tags and not written:
            largest = max(map(_size, args), default=0)
            args = tuple(self._rounded(a) if _size(a) == largest else a for a in args)
        return tree_map(lambda y: self._rounded(y, in_place=written), func(*args, **kwargs))

    def _rounded(self, y: Any, *, in_place: bool = False) -> Any:
        if not _size(y):
            return y
        parts = torch.view_as_real(y) if y.is_complex() else y
        numbers, kind = torch.finfo(parts.dtype), _BITS[parts.element_size()]
        limits = torch.iinfo(kind)
        # The sign is the highest bit of a product with a random odd number, which all bits decide.
        factor = int(self._draws.integers(limits.min, limits.max)) | 1
        half = torch.tensor(numbers.eps / 2, dtype=parts.dtype).view(kind).item()
        bits = parts.view(kind) * factor
        change = bits.bitwise_and_(limits.min).bitwise_or_(int(half)).view(parts.dtype)
        finite = parts.clamp(numbers.min, numbers.max)
        if in_place:
            parts.addcmul_(finite, change)
            return y
        result = torch.addcmul(parts, finite, change)
        return torch.view_as_complex(result) if y.is_complex() else result


def _size(value: Any) -> int:
    """How many numbers there are to round."""
    if not isinstance(value, torch.Tensor) or value.layout != torch.strided:
        return 0
    if is_zero_tensor(value):  # zeros without memory
        return 0
    if not (value.is_floating_point() or value.is_complex()) or value.element_size() < 2:
        return 0
    return value.numel()


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
    with a copy of the model, where the memory has room for that.

    Raises:
        ObjectiveError: torch has no second derivative of some operation.

    Warns:
        HessscopeWarning: the two differ by more than rounding and curvature explain.
    """
    objective = _on_few(operator)
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
            ahead = graph.antiderivative(theta + t * v)
            length = float(torch.linalg.vector_norm(ahead))
            difference = ahead.sub_(graph.antiderivative(theta - t * v)).div_(2 * t)
        norm = max(float(torch.linalg.vector_norm(x)) for x in (product, difference))
        noise = max(step, eps / step) * (1.0 + length)
        gaps.append(float(torch.linalg.vector_norm(difference.sub_(product))))
        if not gaps[-1] > max(_DIFFERENCE * norm, noise):
            return
    # Across a kink the gradient jumps, and the quotient grows as the way gets shorter.
    cause = (
        "some function with a backward pass of its own hides its second derivative "
        "(`products=finite_difference` takes none)"
    )
    if gaps[1] > 10 * gaps[0]:
        cause = "the loss has a kink here, where its gradient jumps"
    warnings.warn(
        f"a product with the {operator.name} matrix differs by {gaps[1] / norm:.0%} from the "
        f"change of first derivatives: {cause}. Do not trust what rests on the matrix",
        HessscopeWarning,
        stacklevel=2,
    )


# Vectors of float64 that the check takes with the copies of the model.
_COPIES = 20


def _on_few(operator: Any) -> Objective:
    """The objective over few examples, in float64 where the model can be evaluated in it.

    And where there is room for it: a large model is checked in its own data type.
    """
    objective: Objective = operator.objective
    theta = operator.at
    if 8 * _COPIES * len(theta) > memory_room(operator.memory, theta.device):
        return objective.on_few(theta.dtype, theta)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of model and loss, given already for the whole risk
        try:
            return objective.on_few(torch.float64, theta)
        except ObjectiveError:
            return objective.on_few(theta.dtype, theta)
