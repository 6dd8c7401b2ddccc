"""The operators that a network inside an archive may use, and how those on plain values work.

The list holds arithmetic on tensors, numbers, lists and text. What is not in it (operators that
write or read files, set global state, talk to other processes, or come from extensions) is
refused unless the user trusts the file.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping
from typing import Any

import torch

_TENSOR_OPERATORS = """
abs absolute acos acosh adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d
_adaptive_avg_pool2d _adaptive_avg_pool3d adaptive_max_pool1d adaptive_max_pool2d
adaptive_max_pool3d add addbmm addcdiv addcmul addmm addmv addr alias all alpha_dropout amax amin
aminmax any arange arccos arctan arctan2 argmax argmin argsort as_strided asin asinh as_tensor
atan atan2 atanh atleast_1d atleast_2d avg_pool1d avg_pool2d avg_pool3d baddbmm batch_norm
bernoulli bilinear bitwise_and bitwise_not bitwise_or bitwise_xor block_diag bmm
broadcast_tensors broadcast_to bucketize cat cdist ceil celu channel_shuffle chunk clamp clamp_max
clamp_min clip clone col2im column_stack concat concatenate constant_pad_nd contiguous conv1d
conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d convolution _convolution
copy copysign cos cosh cosine_similarity count_nonzero cpu cross cross_entropy_loss cummax cummin
cumprod cumsum deg2rad det detach detach_ diag diag_embed diagonal diff dim dist div divide dot
dropout einsum elu embedding embedding_bag empty empty_like eq equal erf erfc erfinv exp exp2
expand expand_as expm1 eye feature_alpha_dropout feature_dropout fill flatten flip fliplr flipud
float_power floor floor_divide fmod frac frobenius_norm full full_like gather ge gelu glu greater
greater_equal grid_sampler grid_sampler_2d group_norm gru gru_cell gt hardshrink hardsigmoid
hardswish hardtanh huber_loss hypot im2col index index_add index_copy index_fill index_put
index_select inner instance_norm isfinite isinf isnan is_floating_point is_complex is_contiguous
is_nonzero is_grad_enabled is_autocast_enabled is_autocast_cpu_enabled is_leaf
l1_loss layer_norm le leaky_relu lerp less less_equal lgamma lift_fresh lift_fresh_copy
linalg_cross linalg_det linalg_inv linalg_matmul linalg_matrix_norm linalg_norm linalg_solve
linalg_vecdot linalg_vector_norm linear linspace log log10 log1p log2 logaddexp logcumsumexp
logical_and logical_not logical_or logical_xor logit log_sigmoid log_softmax _log_softmax
logsumexp lstm lstm_cell lt masked_fill masked_scatter masked_select matmul max maximum max_pool1d
max_pool1d_with_indices max_pool2d max_pool2d_with_indices max_pool3d max_pool3d_with_indices
mean median meshgrid min minimum mish mm moveaxis movedim mse_loss mul multiply mv nan_to_num
narrow native_batch_norm _native_batch_norm_legit_no_training native_channel_shuffle
native_dropout native_group_norm native_layer_norm _native_multi_head_attention ne neg negative
new_empty new_full new_ones new_zeros nll_loss norm not_equal numel numpy_T one_hot ones ones_like
outer pad pairwise_distance permute pixel_shuffle pixel_unshuffle polar positive pow prelu
_prelu_kernel prod rad2deg rand rand_like randn randn_like real reciprocal reflection_pad1d
reflection_pad2d reflection_pad3d relu relu6 remainder renorm repeat repeat_interleave
replication_pad1d replication_pad2d replication_pad3d requires_grad_ reshape reshape_as
resolve_conj resolve_neg rms_norm rnn_relu rnn_relu_cell rnn_tanh rnn_tanh_cell
roll rot90 round rrelu rsqrt rsub scalar_tensor scaled_dot_product_attention scatter scatter_add
scatter_reduce searchsorted select select_scatter selu sgn sigmoid sign signbit silu sin sinc sinh
size slice slice_scatter smooth_l1_loss softmax _softmax _safe_softmax softplus softshrink sort
split split_with_sizes sqrt square squeeze stack std std_mean stride sub subtract sum sum_to_size
swapaxes swapdims sym_numel sym_size sym_stride t take take_along_dim tan tanh tensor tensordot
tensor_split threshold tile to _to_copy topk trace transpose tril tril_indices triu triu_indices
true_divide trunc type_as unbind unflatten unfold unsafe_chunk unsafe_split
unsafe_split_with_sizes _unsafe_view unsqueeze upsample_bicubic2d upsample_bilinear2d
upsample_linear1d upsample_nearest1d upsample_nearest2d upsample_nearest3d upsample_trilinear3d
__interpolate __upsample __upsample_bilinear __upsample_nearest var var_mean vander vdot view
view_as vstack hstack dstack where xlogy zero zeros zeros_like special_expit special_erf
special_log_softmax special_softmax special_logsumexp special_gammaln special_log1p
unsqueeze_copy view_copy permute_copy transpose_copy expand_copy slice_copy select_copy
_nested_tensor_from_mask _nested_tensor_from_mask_left_aligned to_padded_tensor
_transformer_encoder_layer_fwd
mode nanmean nansum nanmedian kthvalue histc bincount unique_dim unique_consecutive nonzero
multinomial normal uniform exponential randint randint_like randperm isclose allclose isin
binary_cross_entropy binary_cross_entropy_with_logits kl_div poisson_nll_loss
cosine_embedding_loss hinge_embedding_loss margin_ranking_loss multi_margin_loss
triplet_margin_loss soft_margin_loss ctc_loss nll_loss_nd nll_loss2d chain_matmul kron outer ger
cartesian_prod combinations cumulative_trapezoid trapezoid trapz diagflat gradient heaviside
igamma i0 digamma polygamma mvlgamma inverse cholesky linalg_cholesky linalg_eigh linalg_qr
linalg_svd linalg_pinv linalg_matrix_exp linalg_matrix_power linalg_slogdet linalg_multi_dot
logdet slogdet matrix_exp matrix_power pinverse fix range center fold fft_fft fft_rfft fft_irfft
fft_ifft fft_fft2 fft_ifft2 fft_rfft2 fft_irfft2 stft istft hann_window hamming_window
max_unpool2d max_unpool3d fractional_max_pool2d pdist pad_sequence ravel mH mT adjoint
movedim swapaxes put scatter_reduce index_reduce complex view_as_real view_as_complex angle conj
imag is_signed is_same_size result_type promote_types expm1 gcd lcm fmax fmin ldexp frexp
dsplit hsplit vsplit atleast_3d argwhere signbit nextafter logaddexp2 quantile nanquantile
std_mean var_mean
squeeze_copy t_copy unbind_copy split_copy unfold_copy
"""

_VALUE_OPERATORS = """
Bool Float FloatImplicit Int IntImplicit ScalarImplicit __and__ __contains__ __derive_index
__getitem__ __is__ __isnot__ __not__ __or__ __range_length __xor__ _set_item _unwrap_optional
append backward_compatible ceil clear copy dict divmod endswith extend find floor floordiv format
get has_torch_function hash index insert is_scripting items join keys len list lower lstrip
mathremainder percentFormat pop replace reverse rstrip setdefault sorted split startswith str
strip update upper values warn device dtype degrees radians fabs isdigit isalpha count remove
"""

_CHECKS = """
_assert_async _assert_scalar _assert_tensor_metadata _functional_assert_scalar
_functional_assert_async sym_constrain_range sym_constrain_range_for_size _shape_as_tensor
_check_is_size
"""

_PRIM_OPERATORS = """
Constant GetAttr If Loop ListConstruct ListUnpack TupleConstruct TupleUnpack TupleIndex
DictConstruct RaiseException unchecked_cast unchecked_unwrap_optional Uninitialized NumToTensor
dtype device layout shape is_cuda is_cpu is_meta is_quantized is_sparse is_nested is_mkldnn is_mps
is_xla is_xpu data min max abs requires_grad tolist itemsize AutogradZero rangelist StringIndex
ConstantChunk index isinstance annotate getattr hasattr Print type is_sparse_csr is_ipu is_maia
is_mtia is_vulkan name nbytes ModuleContainerIndex EnumValue EnumName CallMethod CallFunction
SetAttr range
"""

#: Names of operators (without namespace) that run without trust; in-place forms included.
ALLOWED = frozenset(
    name + suffix
    for name in f"{_TENSOR_OPERATORS} {_VALUE_OPERATORS} {_CHECKS}".split()
    for suffix in ("", "_")
)

#: ``prim`` operators that run without trust.
ALLOWED_PRIM = frozenset(_PRIM_OPERATORS.split())

#: Checks of shapes and data types that an export wrote down; they would not hold in float64.
IGNORED = frozenset(_CHECKS.split()) - {"_shape_as_tensor"} | {"warn"}


def is_operator(name: str) -> bool:
    """Whether torch has an operator ``aten::name``."""
    return bool(torch._C._jit_get_schemas_for_operator(f"aten::{name}"))


def _format(template: str, *values: object) -> str:
    parts = iter(values)
    return re.sub(r"\{\}", lambda _: str(next(parts, "")), template)


def _set_item(container: Any, key: Any, value: Any) -> Any:
    container[key] = value
    return container


def _append(items: list[Any], value: Any) -> list[Any]:
    items.append(value)
    return items


def _extend(items: list[Any], values: Any) -> None:
    items.extend(values)


def _insert(items: list[Any], position: int, value: Any) -> None:
    items.insert(position, value)


def _slice(items: Any, start: int | None = None, end: int | None = None, step: int = 1) -> Any:
    return items[slice(start, end, step)]


def _derive_index(position: int, start: int, step: int) -> int:
    return start + position * step


def _range_length(start: int, stop: int, step: int) -> int:
    return len(range(start, stop, step))


#: On numbers, lists and text, where no tensor is among the arguments.
VALUE_FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "add": operator.add, "sub": operator.sub, "mul": operator.mul, "div": operator.truediv,
    "true_divide": operator.truediv, "floordiv": operator.floordiv, "neg": operator.neg,
    "floor_divide": operator.floordiv, "remainder": operator.mod, "mathremainder": math.remainder,
    "fmod": math.fmod, "pow": operator.pow, "divmod": divmod, "abs": abs, "fabs": abs,
    "eq": operator.eq, "ne": operator.ne, "lt": operator.lt, "le": operator.le,
    "gt": operator.gt, "ge": operator.ge, "__and__": operator.and_, "__or__": operator.or_,
    "__xor__": operator.xor, "__not__": operator.not_, "ceil": math.ceil, "floor": math.floor,
    "round": round, "sqrt": math.sqrt, "exp": math.exp, "log": math.log, "Int": int,
    "Float": float, "Bool": bool, "IntImplicit": int, "FloatImplicit": float,
    "ScalarImplicit": lambda value: value, "str": str, "format": _format, "min": min, "max": max,
    "__derive_index": _derive_index, "__range_length": _range_length, "sum": sum,
    "any": any, "all": all, "sorted": sorted, "hash": hash, "len": len, "list": list,
    "rangelist": lambda stop: list(range(stop)),
}  # fmt: skip

#: On containers, whatever is in them (lists of tensors too).
CONTAINER_FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "__getitem__": operator.getitem, "len": len, "append": _append, "extend": _extend,
    "insert": _insert, "_set_item": _set_item, "__contains__": operator.contains,
    "slice": _slice, "list": list, "copy": lambda items: items.copy(), "add": operator.add,
    "mul": operator.mul, "keys": lambda d: list(d.keys()), "values": lambda d: list(d.values()),
    "items": lambda d: list(d.items()), "get": lambda d, *a: d.get(*a), "dict": dict,
    "pop": lambda items, *a: items.pop(*a), "clear": lambda items: items.clear(),
    "reverse": lambda items: items.reverse(), "index": lambda items, v: items.index(v),
    "count": lambda items, v: items.count(v), "update": lambda d, o: d.update(o),
    "join": lambda text, parts: text.join(parts), "lower": lambda text: text.lower(),
    "upper": lambda text: text.upper(), "startswith": lambda text, p: text.startswith(p),
    "endswith": lambda text, p: text.endswith(p), "split": lambda text, *a: text.split(*a),
    "replace": lambda text, *a: text.replace(*a), "strip": lambda text, *a: text.strip(*a),
}  # fmt: skip

#: Python's operators as ``torch.export`` names them, on sizes and numbers.
PYTHON_OPERATORS: Mapping[str, Callable[..., Any]] = {
    "add": operator.add, "sub": operator.sub, "mul": operator.mul, "truediv": operator.truediv,
    "floordiv": operator.floordiv, "mod": operator.mod, "neg": operator.neg, "pow": operator.pow,
    "eq": operator.eq, "ne": operator.ne, "lt": operator.lt, "le": operator.le,
    "gt": operator.gt, "ge": operator.ge, "and_": operator.and_, "or_": operator.or_,
    "not_": operator.not_, "getitem": operator.getitem, "abs": abs,
}  # fmt: skip
