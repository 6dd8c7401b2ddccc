"""Models whose code hides derivatives or digits: embeddings with padding, casts to float32."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F

from hessscope import EmpiricalRisk, HessianOperator
from hessscope.errors import AssumptionWarning, ObjectiveError

TOKENS = torch.randint(0, 6, (9, 4), generator=torch.Generator().manual_seed(1))
LABELS = torch.arange(9) % 3


class Bag(nn.Module):
    """Mean of embedded tokens, normalised in float32 as language models do."""

    def __init__(self, cast: bool = False, **embedding: object) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.embed = nn.Embedding(6, 3, **embedding)  # type: ignore[arg-type]
        with torch.no_grad():
            self.embed.weight.normal_()
        self.head, self.cast = nn.Linear(3, 3), cast

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        hidden = torch.tanh(self.embed(tokens)).mean(1)
        if self.cast:
            wide = hidden.to(torch.float32)
            scale = (wide.square().float().mean(-1, keepdim=True) + 1e-6).rsqrt()
            hidden = (wide * scale).type_as(hidden)
            hidden = F.softmax(hidden, -1, dtype=torch.float32).to(hidden.dtype)
        return self.head(hidden)


def by_differences(risk: EmpiricalRisk) -> torch.Tensor:
    """The Hessian from values alone, in plain torch: no backward pass of a layer takes part."""
    theta, step, n = risk.parameters, 1e-4, len(risk.parameters)
    plain = Bag(risk.model.cast).double()
    plain.embed = nn.Embedding(6, 3).double()

    def value(at: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(functional_call(plain, risk.layout.unflatten(at), TOKENS), LABELS)

    unit = step * torch.eye(n, dtype=theta.dtype)
    with torch.no_grad():
        rows = [
            [
                sum(
                    a * b * value(theta + a * unit[i] + b * unit[j])
                    for a in (1, -1)
                    for b in (1, -1)
                )
                for j in range(n)
            ]
            for i in range(n)
        ]
    return torch.tensor(rows, dtype=theta.dtype) / (4 * step**2)


@pytest.mark.parametrize("embedding", [{"padding_idx": 2}, {"scale_grad_by_freq": True}])
def test_the_backward_pass_of_an_embedding_leaves_nothing_out(embedding: dict[str, object]) -> None:
    risk = EmpiricalRisk(Bag(**embedding), (TOKENS, LABELS))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AssumptionWarning)
        found = HessianOperator(risk).to_dense()
    torch.testing.assert_close(found, by_differences(risk), rtol=0, atol=3e-7)


def test_a_padding_row_that_matters_is_told() -> None:
    with pytest.warns(AssumptionWarning, match=r"row 2 of embed\.weight, the padding_idx"):
        EmpiricalRisk(Bag(padding_idx=2), (TOKENS, LABELS)).check()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        EmpiricalRisk(Bag(padding_idx=5), (TOKENS.clamp(max=4), LABELS)).check()
    with pytest.raises(ObjectiveError, match=r"embed shrinks its weights.*max_norm=1"):
        EmpiricalRisk(Bag(max_norm=1.0), (TOKENS, LABELS))


def test_casts_inside_the_model_do_not_lower_the_precision() -> None:
    risk = EmpiricalRisk(Bag(cast=True), (TOKENS, LABELS))
    assert risk.notes == ("the model's casts to float32 are made to float64",)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        operator = HessianOperator(risk)
        found = operator.to_dense()

    def value(theta: torch.Tensor) -> torch.Tensor:
        state = risk.layout.unflatten(theta)
        hidden = torch.tanh(F.embedding(TOKENS, state["embed.weight"])).mean(1)
        hidden = hidden * (hidden.square().mean(-1, keepdim=True) + 1e-6).rsqrt()
        outputs = F.linear(hidden.softmax(-1), state["head.weight"], state["head.bias"])
        return F.cross_entropy(outputs, LABELS)

    expected = torch.func.hessian(value)(risk.parameters)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-14)
    single = EmpiricalRisk(Bag(cast=True), (TOKENS, LABELS), dtype="float32")
    assert single.notes == ()
