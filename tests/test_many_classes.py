"""Cross-entropy over many classes: torch's numbers, in less memory."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd import grad

import hessscope as hs
from hessscope.objective import cross_entropy, losses
from hessscope.objective.kernels import note_saved


@pytest.fixture(autouse=True)
def few_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cross_entropy, "_AT_ONCE", 40)


def drawn(dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    labels = torch.randint(11, (23,))
    labels[[2, 3, 20]] = -100
    return (4 * torch.randn(23, 11)).to(dtype).requires_grad_(), labels


def own(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return cross_entropy.summed_cross_entropy(logits, labels, -100)


def torchs(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(logits, labels, reduction="sum")


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_derivatives_up_to_the_third_are_those_of_torch(dtype) -> None:
    """To some units of the last place; beyond a factor that depends on the sum itself."""
    logits, labels = drawn(dtype)
    u = torch.randn(23, 11, dtype=dtype)
    found = []
    for function in (own, torchs):
        value = function(logits, labels)
        scaled = value * value.sqrt()
        (first,) = grad(scaled, logits, create_graph=True)
        (second,) = grad(first, logits, u, create_graph=True)
        (third,) = grad((second * u).sum(), logits)
        found.append([value, first, second, third])
    for mine, theirs in zip(*found, strict=True):
        scale = float(theirs.detach().abs().max())
        assert float((mine - theirs).detach().abs().max()) <= 20 * torch.finfo(dtype).eps * scale


def test_a_product_is_the_closed_form() -> None:
    """diag(p) u − p (p·u), by rows."""
    logits, labels = drawn()
    (first,) = grad(own(logits, labels), logits, create_graph=True)
    (second,) = grad(first, logits, u := torch.randn(23, 11, dtype=torch.float64))
    p = logits.softmax(1)
    expected = (p * u - p * (p * u).sum(1, keepdim=True)) * (labels != -100)[:, None]
    assert torch.allclose(second, expected, rtol=1e-14, atol=1e-15)


def test_gradcheck_passes() -> None:
    logits, labels = drawn()
    assert torch.autograd.gradgradcheck(lambda x: own(x, labels[:4]), (logits[:4],))


@pytest.mark.parametrize("loss", ["cross_entropy@last", "next_token"])
def test_hessians_are_the_same_either_way(loss, monkeypatch) -> None:
    """Products with several vectors at a time, the dense matrix and Gauss-Newton."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(12, 3), nn.Tanh(), nn.Linear(3, 12))
    tokens = torch.randint(12, (5, 6))
    labels = tokens.clone() if loss == "next_token" else tokens.flip(1)
    labels[1, 3:] = -100
    found = []
    for many in (8192, 2):
        monkeypatch.setattr(losses, "_MANY_CLASSES", many)
        risk = hs.EmpiricalRisk(model, (tokens, labels), loss)
        units = torch.eye(len(risk.parameters), dtype=torch.float64)
        for operator in (hs.HessianOperator, hs.GaussNewtonOperator):
            by_graph = operator(risk, plan=hs.Plan("graph", 16, 2, True)).matmat(units)
            found.append((by_graph, operator(risk).to_dense()))
    plain, other = found[:2], found[2:]
    for (a, b), (c, d) in zip(plain, other, strict=True):
        for one, two in ((a, c), (b, d), (c, d)):
            assert torch.allclose(one, two, rtol=0, atol=1e-14)


def test_the_graph_of_the_gradient_keeps_no_probabilities() -> None:
    """The logits and the gradient, where torch's own keeps three tensors of this size."""
    kept = []
    for function in (own, torchs):
        logits = torch.randn(200, 300, requires_grad=True)
        sizes: dict[int, int] = {}

        def note(tensor: torch.Tensor, sizes: dict[int, int] = sizes) -> None:
            sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()

        def differentiate(logits=logits, function=function) -> torch.Tensor:
            hidden = 1.0 * logits  # as by a layer, which needs the gradient for its own
            value = function(hidden, torch.arange(200)) / 200
            return grad(value, logits, create_graph=True)[0]

        note_saved(differentiate, note)
        kept.append(sum(sizes.values()) / (4 * logits.numel()))
    assert kept[0] < 1.1
    assert kept[1] > 1.9
