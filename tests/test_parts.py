"""Parts of θ: partitions by block, role and head, and the Hessian's diagonal blocks on them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import hessscope as hs
from hessscope.objective import roles
from hessscope.objective.parts import Partition
from hessscope.registry import OPERATORS
from models.transformer_families import dense, risk_of

FAMILIES = ["torch", "gpt2", "llama", "bert", "vit", "neox", "phi3", "falcon", "qwen3"]
CHECKED = ["torch", "gpt2", "llama", "bert", "vit"]


def numbered(risk: hs.EmpiricalRisk) -> Callable[[str], torch.Tensor]:
    """The numbers of a parameter's entries in θ, in its shape."""
    start, found = 0, {}
    for name, parameter in risk.model.named_parameters():
        found[name] = torch.arange(start, start + parameter.numel()).view(parameter.shape)
        start += parameter.numel()
    return found.__getitem__


def entries(risk: hs.EmpiricalRisk, by: Any, part: str) -> torch.Tensor:
    partition = Partition.of(risk, by)
    return partition.places(partition.names.index(part))


def joined(*pieces: torch.Tensor) -> torch.Tensor:
    return torch.cat([piece.reshape(-1) for piece in pieces]).sort().values


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("by", ["module", "block", "role", "head"])
def test_parts_are_a_partition(family: str, by: str) -> None:
    risk = risk_of(family)
    partition = Partition.of(risk, by)
    every = torch.cat([partition.places(k) for k in range(len(partition.names))])
    torch.testing.assert_close(every.sort().values, torch.arange(len(risk.parameters)))
    assert list(partition.sizes) == list(dict.fromkeys(partition.names))
    # In the order of their first entries.
    firsts = [int(partition.places(k)[0]) for k in range(len(partition.names))]
    assert firsts == sorted(firsts)


def test_columns_of_one_matrix_of_gpt2() -> None:
    risk = risk_of("gpt2")
    at = numbered(risk)
    layers = [f"transformer.h.{k}.attn" for k in range(2)]
    for k, role in enumerate(("query", "key", "value")):
        columns = [
            at(f"{x}.c_attn.{of}")[..., 4 * k : 4 * k + 4]
            for x in layers
            for of in ("weight", "bias")
        ]
        torch.testing.assert_close(entries(risk, "role", role), joined(*columns))
    for h in range(2):
        path, own = layers[1], slice(2 * h, 2 * h + 2)
        weight, bias = at(f"{path}.c_attn.weight"), at(f"{path}.c_attn.bias")
        wanted = joined(
            *(weight[:, 4 * k :][:, own] for k in range(3)),
            *(bias[4 * k :][own] for k in range(3)),
            at(f"{path}.c_proj.weight")[own],
        )
        torch.testing.assert_close(entries(risk, "head", f"{path}.head.{h}"), wanted)
    # The matrix that is embedding and head is one part with both names.
    tied = at("transformer.wte.weight").reshape(-1)
    torch.testing.assert_close(entries(risk, "role", "embedding = head"), tied)
    torch.testing.assert_close(entries(risk, "block", "transformer.wte = lm_head"), tied)


def test_rows_of_one_matrix_of_torch() -> None:
    risk = risk_of("torch")
    at, path = numbered(risk), "1.layers.0.self_attn"
    for h in range(2):
        own = slice(2 * h, 2 * h + 2)
        rows = [
            at(f"{path}.in_proj_{of}")[4 * k :][own] for of in ("weight", "bias") for k in range(3)
        ]
        wanted = joined(*rows, at(f"{path}.out_proj.weight")[:, own])
        torch.testing.assert_close(entries(risk, "head", f"{path}.head.{h}"), wanted)


def test_heads_that_share_keys_are_one_part() -> None:
    risk = risk_of("llama")
    at, path = numbered(risk), "model.layers.0.self_attn"
    for k in range(2):
        wanted = joined(
            at(f"{path}.q_proj.weight")[4 * k : 4 * k + 4],
            at(f"{path}.k_proj.weight")[2 * k : 2 * k + 2],
            at(f"{path}.v_proj.weight")[2 * k : 2 * k + 2],
            at(f"{path}.o_proj.weight")[:, 4 * k : 4 * k + 4],
        )
        part = f"{path}.heads.{2 * k}-{2 * k + 1}"
        torch.testing.assert_close(entries(risk, "head", part), wanted)


def test_rows_head_by_head() -> None:
    risk = risk_of("neox")
    at, path = numbered(risk), "gpt_neox.layers.0.attention"
    weight, bias = (at(f"{path}.query_key_value.{of}") for of in ("weight", "bias"))
    keys = [x[start : start + 2] for x in (weight, bias) for start in (2, 8)]
    found = entries(risk, "role", "key")
    torch.testing.assert_close(found[: len(joined(*keys))], joined(*keys))
    wanted = joined(weight[6:], bias[6:], at(f"{path}.dense.weight")[:, 2:])
    torch.testing.assert_close(entries(risk, "head", f"{path}.head.1"), wanted)


def test_all_roles_are_found() -> None:
    attention = {"query", "key", "value", "output", "MLP", "norm"}
    for family, others in {
        "gpt2": {"embedding", "embedding = head"},
        "llama": {"embedding", "head"},
        "bert": {"embedding", "head", "other"},
        "vit": {"embedding", "head"},
        "torch": {"embedding", "other"},
    }.items():
        assert set(Partition.of(risk_of(family), "role").names) == attention | others


def test_blocks_of_a_residual_network() -> None:
    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1, self.conv2 = nn.Conv2d(2, 2, 1), nn.Conv2d(2, 2, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + self.conv2(torch.relu(self.conv1(x)))

    layers = [nn.Sequential(*(Residual() for _ in range(count))) for count in (2, 1)]
    model = nn.Sequential(nn.Conv2d(1, 2, 1), *layers, nn.Flatten(), nn.Linear(8, 2))
    data = torch.randn(5, 1, 2, 2), torch.randint(2, (5,))
    risk = hs.EmpiricalRisk(model, data, device="cpu")
    assert Partition.of(risk, "block").names == ("0", "1.0", "1.1", "2.0", "4")


@pytest.mark.parametrize("family", CHECKED)
def test_spectra_of_parts_are_those_of_submatrices(family: str) -> None:
    risk, whole = risk_of(family), dense(family)
    hessian = hs.HessianOperator(risk, plan=hs.Plan("graph", 32, None, held=True), check=False)
    for by in ("block", "role", "head"):
        partition = Partition.of(risk, by)
        for number, name in enumerate(partition.names):
            at = partition.places(number)
            block = hessian.restricted(at).planned(hessian.plan)
            found = np.linalg.eigvalsh(block.to_dense())
            expected = np.linalg.eigvalsh(whole[at][:, at])
            scale = 1 + np.abs(expected).max()
            np.testing.assert_allclose(found, expected, atol=1e-9 * scale, err_msg=name)


def test_noise_floor_of_a_part_of_a_matrix() -> None:
    risk = risk_of("gpt2")
    at = entries(risk, "role", "value")
    spectrum = hs.ExactBackend().solve(hs.HessianOperator(risk).restricted(at))
    error = np.abs(spectrum.eigenvalues - np.linalg.eigvalsh(dense("gpt2")[at][:, at])).max()
    assert error <= spectrum.noise_floor.total <= 1e-12


@pytest.mark.parametrize("name", list(OPERATORS))
def test_other_matrices_of_some_entries(name: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    data = torch.randn(9, 3), torch.randint(2, (9,))
    risk = hs.EmpiricalRisk(model, data, l2=0.1, device="cpu")
    elsewhere = risk.parameters + 0.3
    whole = OPERATORS[name](risk, elsewhere)
    at = torch.tensor([0, 1, 5, 12, 13, 14, 15, 20, 23, 24, 25])
    expected = whole.to_dense()[at][:, at]
    block = whole.restricted(at)
    torch.testing.assert_close(block.to_dense(), expected, rtol=1e-11, atol=1e-14)
    columns = torch.randn(len(at), 3, dtype=torch.float64)
    recomputed = block.recomputed()
    assert recomputed is not None
    for operator in (block, recomputed):
        torch.testing.assert_close(operator.matmat(columns), expected @ columns)
    # Of a part the same again.
    again = block.restricted(torch.tensor([1, 2, 8, 10]))
    torch.testing.assert_close(
        again.to_dense(), expected[[1, 2, 8, 10]][:, [1, 2, 8, 10]], rtol=1e-11, atol=1e-14
    )
    assert again.objective.layout.names == ("0.weight", "2.weight", "2.bias")  # type: ignore[attr-defined]


def test_a_part_of_the_risk_stands_by_itself() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    risk = hs.EmpiricalRisk(model, (torch.randn(9, 3), torch.randint(2, (9,))), device="cpu")
    at = torch.tensor([0, 3, 17, 24])
    part = risk.restricted(at, risk.parameters + 0.2)
    torch.testing.assert_close(part.gradient(), risk.gradient(risk.parameters + 0.2)[at])
    moved = risk.parameters + 0.2
    moved[at] += 1.0
    torch.testing.assert_close(part.value(part.parameters + 1.0), risk.value(moved))
    few = part.on_few(torch.float32, part.parameters + 1.0)
    assert few.dtype == torch.float32
    assert few.parameters.shape == (4,)
    assert few.value() == pytest.approx(risk.value(moved), rel=0.5)
    same = part.on_few(torch.float64, part.parameters + 1.0)
    assert few.value() == pytest.approx(same.value(), rel=1e-6)
    inputs, targets = risk.inputs, risk.targets
    outputs = part.model_at(part.parameters + 1.0)(inputs)
    assert nn.functional.cross_entropy(outputs, targets).item() == pytest.approx(risk.value(moved))


@pytest.mark.parametrize("places", [[], [3, 2], [1, 1], [-1, 0], [26], [[0]], [0.0]], ids=repr)
def test_entries_that_are_none(places: Any) -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    risk = hs.EmpiricalRisk(model, (torch.randn(9, 3), torch.randint(2, (9,))), device="cpu")
    with pytest.raises(hs.HessscopeError, match="numbers from 0 to 25"):
        risk.restricted(torch.tensor(places))


@pytest.mark.parametrize("heads", [1, 4])
@pytest.mark.parametrize("family", ["gpt2", "bert", "torch"])
def test_wrong_numbers_of_heads_are_refused(
    family: str, heads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    risk = risk_of(family)
    # What the model says is changed, and not what it does.
    monkeypatch.setattr(roles, "_heads", lambda model, path: heads)
    with pytest.raises(hs.HessscopeError, match="not where its names and sizes say"):
        Partition.of(risk, "head")


def test_a_matrix_that_is_divided_otherwise_is_refused() -> None:
    class Mixed(nn.Module):
        """Queries, keys and values by turns, under a name that says one after the other."""

        def __init__(self) -> None:
            super().__init__()
            self.qkv, self.proj = nn.Linear(4, 12), nn.Linear(4, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            q, k, v = self.qkv(x).unflatten(-1, (4, 3)).unbind(-1)
            return self.proj(torch.softmax(q @ k.mT, -1) @ v)

    torch.manual_seed(0)
    model = nn.Sequential()
    model.add_module("attn", Mixed())
    model.add_module("flat", nn.Flatten())
    model.add_module("head", nn.Linear(12, 2))
    data = torch.randn(5, 3, 4), torch.randint(2, (5,))
    risk = hs.EmpiricalRisk(model, data, device="cpu")
    with pytest.raises(hs.HessscopeError, match=r"queries, keys and values of 'attn'.*by=file"):
        Partition.of(risk, "role")
    with pytest.raises(hs.HessscopeError, match="no attention with a number of heads"):
        Partition.of(risk, "head")


def test_parts_of_ones_own() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    data = torch.randn(9, 3), torch.randint(2, (9,))
    risk = hs.EmpiricalRisk(model, data, device="cpu")
    columns = Partition.of(risk, lambda risk: {"0.weight": (1, ["x", "y", "x"]), "2.bias": "y"})
    assert columns.sizes == {"x": 8, "y": 6, "other": 12}
    for named, message in (
        ({"1.weight": "x"}, "'1.weight' are given, which is no parameter"),
        ({"0.weight": (1, ["x"])}, r"shape \(4, 3\): got 1 of them for axis 1"),
        ({"0.bias": (2, ["x"])}, "for axis 2"),
    ):
        with pytest.raises(hs.HessscopeError, match=message):
            Partition.of(risk, lambda risk, named=named: named)
    some = Partition.of(risk.restricted("2.*"), "module")
    assert some.sizes == {"2": 10}


def test_products_of_a_part_go_only_through_it() -> None:
    """Fewer operations for the last block of a chain than for the first, of equal blocks."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Counting(TorchDispatchMode):
        count = 0

        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            self.count += 1
            return func(*args, **(kwargs or {}))

    torch.manual_seed(0)
    model = nn.Sequential(*(nn.Sequential(nn.Linear(4, 4), nn.Softplus()) for _ in range(8)))
    data = torch.randn(9, 4), torch.randint(4, (9,))
    risk = hs.EmpiricalRisk(model, data, device="cpu")
    counts = []
    for block in ("0.0.*", "7.0.*"):
        operator = hs.HessianOperator(risk, plan=hs.Plan("graph", 1, None, held=False), check=False)
        part = operator.restricted(block).planned(operator.plan)
        with Counting() as counting:
            part.matvec(torch.ones(20, dtype=torch.float64))
        counts.append(counting.count)
    assert counts[1] < 0.5 * counts[0]
