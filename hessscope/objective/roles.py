"""Parts of θ by their role in a transformer, and by attention head.

Names and sizes say where queries, keys and values are, and which heads they have. That is not taken
for granted. Scores are products of queries and keys, so the outputs of the model stay as they are
where both change their sign. Values and the columns of the output matrix likewise; and these may be
turned together within a head, but not across heads, whose scores differ. What does not stand this
test is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import product

import torch
from torch.func import functional_call

from hessscope.errors import OptionError
from hessscope.objective import batches
from hessscope.objective.parts import OTHER, Part, blocks_of, with_all_names
from hessscope.objective.risk import EmpiricalRisk

QUERY, KEY, VALUE, OUTPUT = "query", "key", "value", "output"
FUSED = "query, key, value"

#: Roles by a pattern of the parameter's name, in lower case; the first that is found counts.
ROLES: list[tuple[str, str]] = [
    ("norm", r"(^|[._])(\w*norm\d*|ln(_?\w+)?)\.(weight|bias|scale)$"),
    ("head", r"(^|\.)(lm_head|embed_out)\."),
    (FUSED, r"(^|\.)(c_attn|(attn_|to_|w)?qkv(_proj)?|query_key_value|in_proj)[._](weight|bias)$"),
    (QUERY, r"(^|\.)(q|wq|to_q|q_?lin|q_?proj|quer(y|ies)(_proj)?)[._](weight|bias)$"),
    (KEY, r"(^|\.)(k|wk|to_k|k_?lin|k_?proj|keys?(_proj)?)[._](weight|bias)$|\.bias_k$"),
    (VALUE, r"(^|\.)(v|wv|to_v|v_?lin|v_?proj|values?(_proj)?)[._](weight|bias)$|\.bias_v$"),
    (
        OUTPUT,
        r"att\w*\.(output\.)?(o|wo|out|proj|dense|to_out(\.0)?|out_lin|linear_out|(o|c|out)_proj)"
        r"\.(weight|bias)$",
    ),
    (
        "MLP",
        r"(^|\.)(\w*mlp|\w*ffn|feed_?forward|intermediate|densereludense|experts"
        r"|(fc|lin|linear)_?[12]|w[123]|(gate|up|down)_proj|output\.dense)\.",
    ),
    ("embedding", r"embed|(^|\.)(w[tp]e|tok|pos)\.|cls_token|class_token|pos_emb|patch"),
]
#: The role of a module of these classes, whatever its name.
ROLES_OF_CLASSES: list[tuple[str, str]] = [("embedding", r"embedding"), ("norm", r"norm")]
#: Names of modules outside of blocks that turn features into outputs.
HEADS = r"(^|\.)(\w*head|heads|\w*classifier|score|fc|qa_outputs|decoder|predictions|proj_out)\."

_NUMBER_OF_HEADS = ("num_attention_heads", "num_heads", "n_heads", "n_head", "nhead", "heads")


def by_role(risk: EmpiricalRisk) -> dict[str, Part]:
    """Embedding, query, key, value, output, MLP, norm, head, other: by names and classes.

    These are looked up in ``ROLES_OF_CLASSES``, ``ROLES`` and ``HEADS``; more can be added there.

    Raises:
        OptionError: a matrix of queries, keys and values is not divided as its name says.
    """
    roles = _roles(risk.model)
    fused: dict[str, Part] = {}
    for attention in _attentions(risk.model, roles):
        names = [name for name, role in attention.roles.items() if role == FUSED]
        if names:
            _check(risk, attention, by_head=False)
        for name in names:
            fused[name] = (attention.axes[name], [role for role, _ in attention.rows(name)])
    return with_all_names(risk.model, lambda name: fused.get(name, roles[name]))


def by_head(risk: EmpiricalRisk) -> dict[str, Part]:
    """The attention head of each entry of queries, keys, values and the output matrix.

    Heads of queries that share one of keys and values (grouped-query attention) are one part with
    it, since parts are disjoint. What belongs to no head, such as the output's bias, is "other".

    Raises:
        OptionError: no attention says its number of heads, or they are not where it says.
    """
    found: dict[str, Part] = {}
    for attention in _attentions(risk.model, _roles(risk.model)):
        if attention.heads is None or not attention.size_of(OUTPUT):
            continue
        _check(risk, attention, by_head=True)
        for name, axis in attention.axes.items():
            texts = [attention.name_of(head) for _, head in attention.rows(name)]
            found[name] = (axis, texts)
    if not found:
        raise OptionError(
            "no attention with a number of heads (`num_heads` or the like of the module or of its "
            "config) was found: divide the parameters by a function of your own, "
            "`by=file.py:function`"
        )
    return found


@dataclass
class _Attention:
    """The parameters of an attention module that have heads.

    Attributes:
        path: of the module.
        heads: of queries; None where the model does not say.
        roles: of the parameters, by their names.
        axes: along which the heads of each stand.
        sizes: of these axes.
    """

    path: str
    heads: int | None
    roles: dict[str, str] = field(default_factory=dict)
    axes: dict[str, int] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)

    def size_of(self, *roles: str) -> int:
        """Features of the first parameter that has one of the roles; 0 where there is none."""
        return next((self.sizes[n] for n, role in self.roles.items() if role in roles), 0)

    @property
    def layout(self) -> tuple[int, int, int, int]:
        """Features of all queries and of all keys, of a head, and heads that share keys."""
        fused, heads = self.size_of(FUSED), self.heads or 1
        queries = self.size_of(QUERY, OUTPUT) or fused // 3
        keys = self.size_of(KEY) or (fused - queries) // 2
        width = queries // heads
        shared = heads * width // keys if keys else 0
        parts = queries + 2 * keys if fused else queries
        if (
            not keys
            or width * heads != queries
            or keys * shared != queries
            or fused not in (0, parts)
        ):
            sizes = ", ".join(f"{name} {size}" for name, size in self.sizes.items())
            raise OptionError(
                f"the queries, keys and values of '{self.path}' cannot be told apart: "
                f"{heads} heads do not fit to {sizes}. Divide the parameters by a function of your "
                "own, `by=file.py:function`"
            )
        return queries, keys, width, shared

    def rows(self, name: str) -> list[tuple[str, int]]:
        """Role and head of keys for each index along a parameter's axis."""
        queries, keys, width, shared = self.layout
        role = self.roles[name]
        group = width * shared

        def of(role: str, features: int, each: int) -> list[tuple[str, int]]:
            return [(role, k // each) for k in range(features)]

        if role != FUSED:
            return of(role, self.sizes[name], width if role in (KEY, VALUE) else group)
        if "query_key_value" in name:  # head by head, as GPT-NeoX, BLOOM and Falcon have them
            parts = ((QUERY, group), (KEY, width), (VALUE, width))
            return [
                (r, h) for h in range(queries // group) for r, size in parts for _ in range(size)
            ]
        return [*of(QUERY, queries, group), *of(KEY, keys, width), *of(VALUE, keys, width)]

    def name_of(self, head: int) -> str:
        """The part of a head of keys, with the heads of queries that share it."""
        shared = self.layout[3]
        if shared == 1:
            return f"{self.path}.head.{head}"
        return f"{self.path}.heads.{head * shared}-{(head + 1) * shared - 1}"


def _roles(model: torch.nn.Module) -> dict[str, str]:
    """The role of each parameter by all of its names; "other" where no pattern fits."""
    blocks = tuple(f"{block}." for block in blocks_of(model))
    found = {}
    for name, _ in model.named_parameters(remove_duplicate=False):
        owner = type(model.get_submodule(name.rpartition(".")[0])).__name__.lower()
        text = name.lower()
        by_class = (role for role, pattern in ROLES_OF_CLASSES if re.search(pattern, owner))
        by_name = (role for role, pattern in ROLES if re.search(pattern, text))
        last = "head" if re.search(HEADS, text) and not name.startswith(blocks) else OTHER
        found[name] = next(by_class, None) or next(by_name, last)
    return found


def _attentions(model: torch.nn.Module, roles: dict[str, str]) -> list[_Attention]:
    """The attention modules that have queries and keys, with the axes of their heads."""
    found: dict[str, _Attention] = {}
    parameters = dict(model.named_parameters())
    for name, parameter in parameters.items():
        role, owner = roles[name], name.rpartition(".")[0]
        if role not in (QUERY, KEY, VALUE, FUSED, OUTPUT) or (
            role == OUTPUT and parameter.ndim < 2
        ):
            continue
        module = model.get_submodule(owner)
        # nn.MultiheadAttention has its matrices itself; others have a module for each.
        path = owner if isinstance(module, torch.nn.MultiheadAttention) else _above(owner)
        while "att" in _above(path).rpartition(".")[2].lower():
            path = _above(path)
        if role == OUTPUT:
            path = _above(owner.removesuffix(".0"))
            path = _above(path) if path.endswith(".output") else path
        attention = found.setdefault(path, _Attention(path, _heads(model, path)))
        transposed = type(module).__name__ == "Conv1D"  # transformers' own: (inputs, outputs)
        features = parameter.ndim - 1 if transposed else 0
        axis = 1 - features if role == OUTPUT else features
        attention.roles[name], attention.axes[name] = role, axis
        attention.sizes[name] = parameter.shape[axis]
    return [x for x in found.values() if x.size_of(FUSED) or (x.size_of(QUERY) and x.size_of(KEY))]


def _above(path: str) -> str:
    return path.rpartition(".")[0]


def _heads(model: torch.nn.Module, path: str) -> int | None:
    """The number of heads that an attention module, a module in it or one above it has."""
    above = [path]
    while above[-1]:
        above.append(_above(above[-1]))
    inside = [name for name, _ in model.named_modules() if name.startswith(f"{path}.")]
    for name in (path, *inside, *above[1:]):
        module = model.get_submodule(name)
        for source in (module, getattr(module, "config", None)):
            for number in (getattr(source, text, None) for text in _NUMBER_OF_HEADS):
                if isinstance(number, int) and number > 0:
                    return number
    return None


def _check(risk: EmpiricalRisk, attention: _Attention, *, by_head: bool) -> None:
    """Refuse parts that cannot be those of queries and keys, or of values and outputs.

    Cost: 9 passes forward over at most 2 examples, 5 without heads.
    """
    stream = torch.Generator().manual_seed(0)
    state = {
        # Away from weights that are zero, and from scores that are all alike.
        name: p.detach() + 0.1 * (1 + p.detach().abs()) * _normal(p.shape, p, stream)
        for name, p in risk.model.named_parameters()
    }
    inputs = batches.pick(risk.inputs, slice(2))
    queries, keys, width, _ = attention.layout
    heads = keys // width
    turns = torch.linalg.qr(_normal((heads, width, width), risk.parameters, stream))[0]

    def flipped(x: torch.Tensor) -> torch.Tensor:
        return torch.cat([-x[:, :1], x[:, 1:]], 1) if by_head else -x

    def exchanged(x: torch.Tensor) -> torch.Tensor:
        x = x.clone()
        x[:, [0, 1], 0] = x[:, [1, 0], 0]
        return x

    def outputs(change: Callable[[torch.Tensor], torch.Tensor], *roles: str) -> torch.Tensor:
        """Of the model with the features of some roles changed, (shared, heads, width, rest)."""
        changed = dict(state)
        for (name, axis), role in product(attention.axes.items(), roles):
            own = [k for k, (one, _) in enumerate(attention.rows(name)) if one == role]
            if own:
                whole = changed[name].movedim(axis, 0).clone()
                part = whole[own].reshape(heads, -1, width, whole[0].numel()).movedim(1, 0)
                whole[own] = change(part).movedim(0, 1).reshape(whole[own].shape)
                changed[name] = whole.movedim(0, axis)

        def model(*arguments: object, **named: object) -> object:
            return functional_call(risk.model, changed, arguments, named)

        with torch.no_grad(), risk.kernels():
            tensors = batches.leaves(risk.outputs_of(model, inputs))
        return torch.cat([x.reshape(-1).double() for x in tensors if x.is_floating_point()])

    plain = outputs(flipped)
    rounding = 1e3 * torch.finfo(risk.dtype).eps * float(plain.norm())

    def effect(change: Callable[[torch.Tensor], torch.Tensor], *roles: str) -> float:
        return float((outputs(change, *roles) - plain).norm())

    pairs = [(QUERY, KEY), (VALUE, OUTPUT)][: 2 if attention.size_of(OUTPUT) else 1]
    sure = all(
        effect(flipped, *pair) <= 1e-3 * effect(flipped, pair[0]) + rounding for pair in pairs
    )
    if by_head and sure:
        within = effect(lambda x: torch.einsum("hij,shjr->shir", turns, x), VALUE, OUTPUT)
        across = effect(exchanged, VALUE, OUTPUT) if heads > 1 else effect(flipped, VALUE)
        sure = within <= 1e-3 * across + rounding < across
    if not sure:
        raise OptionError(
            f"the {'heads' if by_head else 'queries, keys and values'} of '{attention.path}' are "
            f"not where its names and sizes say ({queries} features of queries, {keys} of keys, "
            f"{width} a head): the outputs change where they must not. Divide the parameters by a "
            "function of your own, `by=file.py:function`"
        )


def _normal(shape: Sequence[int], like: torch.Tensor, stream: torch.Generator) -> torch.Tensor:
    return torch.randn(tuple(shape), generator=stream, dtype=torch.float64).to(like)
