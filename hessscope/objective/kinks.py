"""Kinks and jumps of torch's operators, and where they lie."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch.autograd.graph import GradientEdge

Given = Mapping[str, Any]


def names(text: str) -> frozenset[str]:
    """The words of a text."""
    return frozenset(text.split())


#: Operators without a kink, by name: where they are finite they are as smooth as asked for.
SMOOTH = names(
    # element by element
    "add sub rsub mul true_divide neg positive exp exp2 expm1 log log2 log10 log1p sin cos tan "
    "asin acos atan sinh cosh tanh asinh acosh atanh rsqrt reciprocal square sigmoid logit gelu "
    "silu mish log_sigmoid_forward log_sigmoid erf erfc erfinv lgamma digamma polygamma i0 sinc "
    "special_i0e special_i1 special_ndtr special_log_ndtr special_erfcx special_ndtri "
    "xlogy special_xlog1py logaddexp logaddexp2 addcmul addcdiv lerp where masked_fill "
    # products
    "mm bmm addmm addmv addr addbmm baddbmm mv dot vdot ger outer linear _trilinear "
    "convolution _convolution mkldnn_convolution cudnn_convolution cross linalg_cross "
    # sums and means
    "sum mean prod cumsum cumprod var var_mean trace logsumexp logcumsumexp softmax _softmax "
    "log_softmax _log_softmax _safe_softmax nanmean nansum "
    # layers and losses
    "native_batch_norm _native_batch_norm_legit _native_batch_norm_legit_no_training "
    "cudnn_batch_norm native_layer_norm native_group_norm _fused_rms_norm rms_norm embedding "
    "avg_pool1d avg_pool2d avg_pool3d _adaptive_avg_pool2d _adaptive_avg_pool3d "
    "_thnn_fused_lstm_cell _thnn_fused_gru_cell mse_loss nll_loss_forward nll_loss2d_forward "
    "binary_cross_entropy_with_logits soft_margin_loss kl_div "
    "_scaled_dot_product_flash_attention _scaled_dot_product_flash_attention_for_cpu "
    "_scaled_dot_product_efficient_attention _scaled_dot_product_cudnn_attention "
    # shapes and places
    "view _unsafe_view reshape _reshape_alias t transpose permute expand squeeze unsqueeze slice "
    "select narrow split split_with_sizes unsafe_split unsafe_chunk chunk unbind cat stack clone "
    "contiguous copy _to_copy alias as_strided flip roll rot90 repeat index_select gather take "
    "index index_put _index_put_impl _unsafe_index _unsafe_index_put scatter scatter_add index_add "
    "index_copy select_scatter slice_scatter diagonal_scatter diagonal diag diag_embed tril triu "
    "fill zero constant_pad_nd reflection_pad1d reflection_pad2d reflection_pad3d "
    "replication_pad1d replication_pad2d replication_pad3d unfold im2col col2im pixel_shuffle "
    "pixel_unshuffle channel_shuffle movedim lift lift_fresh detach repeat_interleave "
    "upsample_nearest1d upsample_nearest2d upsample_nearest3d _upsample_nearest_exact1d "
    "_upsample_nearest_exact2d upsample_linear1d upsample_bilinear2d upsample_trilinear3d "
    "upsample_bicubic2d _upsample_bilinear2d_aa _upsample_bicubic2d_aa "
    # complex numbers and linear algebra
    "complex view_as_real view_as_complex real imag conj _conj _conj_physical conj_physical "
    "resolve_conj resolve_neg _neg_view polar _fft_r2c _fft_c2r _fft_c2c linalg_inv_ex "
    "_linalg_solve_ex _linalg_det linalg_cholesky_ex cholesky_solve linalg_solve_triangular "
    "triangular_solve linalg_matrix_exp linalg_lu_solve linalg_householder_product"
)


@dataclass(frozen=True)
class Part:
    """A tensor whose elements are terms of a crossing.

    Attributes:
        edge: the tensor in the graph of derivatives.
        like: its shape, type and place.
        sign: of the term.
        places: of the elements, shape that of the crossing; None where they are the same.
    """

    edge: GradientEdge | torch.Tensor
    like: torch.Tensor
    sign: float = 1.0
    places: torch.Tensor | None = None

    @classmethod
    def of(cls, tensor: Any, sign: float = 1.0, places: torch.Tensor | None = None) -> list[Part]:
        """The part that a tensor makes; none of what has no derivative."""
        if not isinstance(tensor, torch.Tensor) or not tensor.requires_grad:
            return []
        node = tensor.grad_fn
        # In-place operators are about to move the tensor itself to another place in the graph.
        edge = tensor if node is None else GradientEdge(node, tensor.output_nr)
        return [cls(edge, torch.empty_like(tensor, device="meta"), sign, places)]

    def direction(self, position: int) -> torch.Tensor:
        """∂z/∂(the tensor) of the crossing's element at a position."""
        like = self.like
        found = torch.zeros(like.numel(), dtype=like.dtype)
        found[position if self.places is None else int(self.places.reshape(-1)[position])] = 1.0
        return self.sign * found.reshape(like.shape)


@dataclass(frozen=True)
class Crossing:
    """Numbers z, each zero where an operator changes its branch.

    Attributes:
        name: of the operator.
        values: z, outside the graph.
        parts: of which tensors it is the sum.
    """

    name: str
    values: torch.Tensor
    parts: tuple[Part, ...]

    def slope(self, position: int, theta: torch.Tensor) -> torch.Tensor:
        """∂z/∂θ of one element, shape (n,)."""
        gradient = torch.zeros_like(theta)
        for part in self.parts:
            if isinstance(part.edge, torch.Tensor) and not part.edge.requires_grad:
                continue
            (found,) = torch.autograd.grad(
                part.edge,
                theta,
                part.direction(position).to(theta.device),
                retain_graph=True,
                allow_unused=True,
            )
            if found is not None:
                gradient += found
        return gradient


_Found = list[tuple[torch.Tensor, list[Part]]]
_Rule = Callable[[Given], _Found | None]  # None: the operator has none with these arguments


def _at(*kinks: float) -> _Rule:
    """Kinks of an operator of one tensor, at numbers."""
    return lambda given: [(given["self"] - kink, Part.of(given["self"])) for kink in kinks]


def _named(*names: str) -> _Rule:
    """Kinks where the tensor is equal to another argument, a number or a tensor."""

    def rule(given: Given) -> _Found:
        return [
            found
            for name in names
            if given.get(name) is not None
            for found in _difference(given["self"], given[name])
        ]

    return rule


def _difference(one: Any, other: Any, *offsets: float) -> _Found:
    """z = one − other − offset, whose elements may be used for several."""
    z = torch.as_tensor(one - other)
    parts = [
        part
        for tensor, sign in ((one, 1.0), (other, -1.0))
        for part in Part.of(tensor, sign, _spread(tensor, z.shape))
    ]
    return [(z - offset, parts) for offset in (offsets or (0.0,))]


def _spread(tensor: Any, shape: torch.Size) -> torch.Tensor | None:
    """Which element stands where, once the tensor is broadcast to a shape."""
    if not isinstance(tensor, torch.Tensor) or tensor.shape == shape:
        return None
    return torch.arange(tensor.numel()).reshape(tensor.shape).expand(shape)


def _width(name: str) -> _Rule:
    """Kinks where the value, or its error, is as large as a width."""

    def rule(given: Given) -> _Found:
        width = float(given[name])
        return _difference(given["self"], given.get("target", 0.0), -width, width)

    return rule


def _softplus(given: Given) -> _Found:
    """Above the threshold it is the identity: a jump of exp(−threshold)."""
    end = float(given["threshold"]) / float(given["beta"])
    return [(given["self"] - end, Part.of(given["self"]))]


def _steps(offset: float) -> _Rule:
    """Jumps at every multiple of the divisor (1 where there is none), plus an offset."""

    def rule(given: Given) -> _Found | None:
        x, divisor = given["self"], given.get("other", 1.0)
        if given.get("decimals") or (isinstance(divisor, torch.Tensor) and divisor.requires_grad):
            return None
        return [(x - divisor * (torch.round(x / divisor - offset) + offset), Part.of(x))]

    return rule


def _divided(given: Given) -> _Found | None:
    return _steps(0.0)(given) if given.get("rounding_mode") else []


def _power(given: Given) -> _Found:
    base, exponent = given["self"], given["exponent"]
    if not isinstance(base, torch.Tensor):
        return []
    if isinstance(exponent, torch.Tensor):
        whole = not exponent.requires_grad and bool((exponent == exponent.round()).all())
    else:
        whole = float(exponent).is_integer()
    return [] if whole else [(base + 0.0, Part.of(base))]


def _norm(given: Given) -> _Found | None:
    order = given.get("ord", given.get("p", 2))
    if order == 1:
        return _at(0.0)(given)
    return _at_zero(given) if order in (2, None) else None


def _at_zero(given: Given) -> _Found:
    """The kink of a root, at the result 0; the result's place in the graph is not known yet."""
    result = given["result"]
    return [(result + 0.0, [Part(result, torch.empty_like(result, device="meta"))])]


def _gaps(x: torch.Tensor, places: torch.Tensor, count: int, largest: bool = True) -> _Found:
    """Differences between neighbours among the largest (or smallest) along the last axis.

    Args:
        x: what the operator is given.
        places: of the elements that are compared; −1 is a padding of −∞.
        count: how many of them are told apart from what follows.
        largest: the largest, else the smallest.
    """
    values = x.reshape(-1)[places.clamp(min=0).to(x.device)]
    values = values.masked_fill((places < 0).to(x.device), -math.inf)
    found = values.topk(min(count + 1, values.shape[-1]), -1, largest)
    order = torch.take_along_dim(places, found.indices.cpu(), -1)
    z = found.values[..., :-1] - found.values[..., 1:]
    if not z.numel():
        return []
    return [(z, [*Part.of(x, 1.0, order[..., :-1]), *Part.of(x, -1.0, order[..., 1:])])]


def _order(given: Given, count: int | None = None, largest: bool = True) -> _Found:
    """What stands where among the ``count`` first changes where two neighbours are equal."""
    if "other" in given:
        return _difference(given["self"], given["other"])
    x, dim = given["self"], given.get("dim")
    if not x.ndim:
        return []
    axes = [dim] if isinstance(dim, int) else list(dim or range(x.ndim))
    # The axes that are compared, joined into the last one.
    places = torch.arange(x.numel()).reshape(x.shape).movedim(axes, list(range(-len(axes), 0)))
    places = places.flatten(-len(axes))
    return _gaps(x, places, places.shape[-1] if count is None else count, largest)


def _first(given: Given) -> _Found:
    return _order(given, int(given["k"]), bool(given["largest"]))


def _pooled(given: Given) -> _Found | None:
    """Which element of a window is the largest."""
    x = given["self"]
    if given.get("ceil_mode"):
        return None
    kernel, padding, dilation = given["kernel_size"], given["padding"], given["dilation"]
    height, width = x.shape[-2:]
    image = torch.arange(1.0, height * width + 1, dtype=torch.float64).reshape(1, 1, height, width)
    windows = torch.nn.functional.unfold(
        image, kernel, dilation, padding, given["stride"] or kernel
    )[0].long()
    inside = windows.T - 1  # (windows, elements)
    channels = torch.arange(x[..., 0, 0].numel()).reshape(*x.shape[:-2], 1, 1) * (height * width)
    places = torch.where(inside < 0, inside, inside + channels)
    return _gaps(x, places, 1)


#: Operators with kinks or jumps, of themselves or of their first or second derivative.
KINKED: dict[str, _Rule] = {
    **dict.fromkeys(names("relu leaky_relu prelu _prelu_kernel rrelu elu celu selu"), _at(0.0)),
    **dict.fromkeys(names("rrelu_with_noise abs sign sgn heaviside sqrt"), _at(0.0)),
    "relu6": _at(0.0, 6.0),
    **dict.fromkeys(("hardswish", "hardsigmoid"), _at(-3.0, 3.0)),
    "hardtanh": _named("min_val", "max_val"),
    **dict.fromkeys(("softshrink", "hardshrink"), _width("lambd")),
    "threshold": _named("threshold"),
    "softplus": _softplus,
    **dict.fromkeys(("clamp", "clip", "clamp_min", "clamp_max"), _named("min", "max")),
    **dict.fromkeys(names("maximum minimum fmax fmin gt ge lt le eq ne"), _named("other")),
    **dict.fromkeys(names("greater greater_equal less less_equal not_equal"), _named("other")),
    "huber_loss": _width("delta"),
    "smooth_l1_loss": _width("beta"),
    "binary_cross_entropy": _at(math.exp(-100.0), 1.0),  # where its logarithms are cut off
    **dict.fromkeys(names("floor ceil trunc fix frac remainder fmod floor_divide"), _steps(0.0)),
    **dict.fromkeys(("div", "divide"), _divided),
    "round": _steps(0.5),
    **dict.fromkeys(("pow", "float_power"), _power),
    **dict.fromkeys(("linalg_vector_norm", "norm"), _norm),
    "std": _at_zero,
    **dict.fromkeys(("max", "amax", "argmax"), partial(_order, count=1)),
    **dict.fromkeys(("min", "amin", "argmin"), partial(_order, count=1, largest=False)),
    **dict.fromkeys(names("sort argsort kthvalue median nanmedian"), _order),
    "topk": _first,
    "max_pool2d_with_indices": _pooled,
}
# They are looked at after the call, for their kinks lie where the result is zero.
OF_RESULT = frozenset(("linalg_vector_norm", "norm", "std"))
