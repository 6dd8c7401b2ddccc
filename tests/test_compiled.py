"""Compiled products: the same numbers as products by the graph, where they pay, or none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call, hessian

import hessscope as hs
from hessscope.backends.measured_noise import operator_noise
from hessscope.operators import Plan, compiled, plan
from hessscope.registry import OPERATORS


def problem(examples: int = 7) -> tuple[nn.Module, tuple[torch.Tensor, torch.Tensor]]:
    torch.manual_seed(0)
    layers = [nn.Conv1d(2, 3, 2), nn.GELU(), nn.Flatten(), nn.LayerNorm(9), nn.Linear(9, 3)]
    return nn.Sequential(*layers), (torch.randn(examples, 2, 4), torch.randint(3, (examples,)))


class PlainNorm(nn.LayerNorm):
    """Spelt out: transforms of torch.func over torch's own give wrong second derivatives (2.13)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        centred = x - x.mean(-1, keepdim=True)
        scale = (centred.square().mean(-1, keepdim=True) + self.eps).sqrt()
        return centred / scale * self.weight + self.bias


def dense() -> torch.Tensor:
    """The Hessian by plain torch.func, in float64."""
    model, (x, y) = problem()
    model[3] = PlainNorm(9)
    state = {k: v.detach().double() for k, v in model.named_parameters()}
    sizes = [p.numel() for p in state.values()]

    def loss(theta: torch.Tensor) -> torch.Tensor:
        parts = zip(state, theta.split(sizes), strict=True)
        own = {k: part.view(state[k].shape) for k, part in parts}
        return nn.functional.cross_entropy(functional_call(model, own, (x.double(),)), y)

    return hessian(loss)(torch.cat([p.flatten() for p in state.values()]))


@pytest.fixture
def uncompiled(monkeypatch: pytest.MonkeyPatch) -> list[torch.fx.GraphModule]:
    """Traced graphs run as they are, in place of kernels; the list has each one."""
    made: list[torch.fx.GraphModule] = []
    # Normalisation has no rule for many vectors at once: each would be traced by itself.
    monkeypatch.setattr(plan, "VECTOR_COUNTS", (1,))
    monkeypatch.setattr(compiled, "can_compile", lambda device: True)
    monkeypatch.setattr(compiled, "compiled_graph", lambda graph, _: made.append(graph) or graph)
    return made


@pytest.mark.parametrize("vectors", [1, 4])
@pytest.mark.parametrize("held", [True, False])
def test_traced_products_are_those_of_the_dense_hessian(held, vectors, uncompiled) -> None:
    """The last batch is shorter, and so is the last block of vectors."""
    risk = hs.EmpiricalRisk(*problem())
    operator = hs.HessianOperator(risk, plan=Plan("compiled", vectors, 3, held))
    columns = torch.eye(len(risk.parameters), dtype=torch.float64)[:, :7]
    assert float((operator.matmat(columns) - dense()[:, :7]).abs().max()) < 1e-13
    assert torch.equal(operator.matmat(columns), operator.matmat(columns))
    assert len(uncompiled) == 1  # two batches share it, the third goes by the graph
    # What does not depend on the vectors, such as the exponentials, is computed once.
    assert ("aten.exp.default" in uncompiled[0].code) is not held
    elsewhere = operator.moved(1.1 * risk.parameters)
    by_graph = hs.HessianOperator(risk, 1.1 * risk.parameters, plan=Plan("graph", 1, 3, held))
    assert torch.allclose(elsewhere @ columns[:, 0], by_graph @ columns[:, 0], rtol=1e-12)
    assert len(uncompiled) == 1


@pytest.mark.parametrize("name", sorted(OPERATORS))
def test_every_matrix_can_be_compiled(name, uncompiled) -> None:
    risk = hs.EmpiricalRisk(*problem())
    vector = torch.randn(len(risk.parameters), dtype=torch.float64)
    by_graph = OPERATORS[name](risk, plan=Plan("graph", 1, 7, True)) @ vector
    assert torch.allclose(
        OPERATORS[name](risk, plan=Plan("compiled", 1, 7, True)) @ vector, by_graph, rtol=1e-12
    )


def test_products_are_compiled_where_so_many_pay_for_it(uncompiled, monkeypatch) -> None:
    times = iter([0.5, 1.0, 2.0, 1.0])  # compiled and by the graph, twice
    monkeypatch.setattr(compiled, "seconds_of", lambda product, block: next(times))
    risk = hs.EmpiricalRisk(*problem())
    for products, way in ((20, "graph"), (10_000, "compiled"), (10_000, "graph")):
        operator = hs.HessianOperator(risk)
        assert operator.plan.way == "graph"
        operator.pace = 1.0
        operator.foresee(products, 1)
        assert operator.plan.way == way
    for kept in (
        hs.HessianOperator(risk, compile="never"),
        hs.HessianOperator(risk, plan=Plan("graph", 1, 7, True)),
    ):
        kept.foresee(10**9, 1)
        assert kept.plan.way == "graph"


def test_what_does_not_compile_goes_by_the_graph(uncompiled, monkeypatch) -> None:
    def failing(graph, inputs):
        raise RuntimeError("no such register")

    monkeypatch.setattr(compiled, "compiled_graph", failing)
    risk = hs.EmpiricalRisk(*problem())
    with pytest.warns(hs.errors.HessscopeWarning, match="no such register"):
        assert hs.HessianOperator(risk, compile="always").plan.way == "graph"
    with pytest.raises(hs.errors.OptionError, match="leave out the `plan`"):
        hs.HessianOperator(risk, plan=Plan("compiled", 1, 7, True)).matvec(risk.parameters)
    # Without a compiler nothing is tried, and nothing said.
    monkeypatch.setattr(compiled, "can_compile", lambda device: False)
    operator = hs.HessianOperator(risk)
    operator.foresee(10**9)
    assert operator.plan.way == "graph"


def test_kernels_with_other_results_are_not_used(uncompiled, monkeypatch) -> None:
    monkeypatch.setattr(
        compiled, "compiled_graph", lambda graph, _: lambda *inputs: 1.001 * graph(*inputs)
    )
    with pytest.warns(hs.errors.HessscopeWarning, match="differ from those by the graph"):
        taken = hs.HessianOperator(hs.EmpiricalRisk(*problem()), compile="always").plan
    assert taken.way == "graph"


def test_a_record_says_that_products_were_compiled_and_repeats_them(
    uncompiled, tmp_path: Path
) -> None:
    model, data = problem()
    out = tmp_path / "first.h5"
    first = hs.spectrum(model, data=data, compile="always", backend="lanczos", steps=5, out=out)
    assert first.plan["way"] == "compiled"
    again = hs.spectrum(model, data=data, steps=5, plan=out)
    assert again.plan == first.plan
    assert np.array_equal(again.result.alphas, first.result.alphas)


@pytest.mark.slow
def test_kernels_agree_to_the_noise_floor_and_repeat_their_bits() -> None:
    """With torch's compiler, which takes half a minute or more."""
    if not compiled.can_compile(torch.device("cpu")):
        pytest.skip("there is no C++ compiler")
    risk = hs.EmpiricalRisk(*problem(), dtype="float32")
    operator = hs.HessianOperator(risk, compile="always")
    assert operator.plan.way == "compiled"
    n = len(risk.parameters)
    matrix, exact = operator.matmat(torch.eye(n)), dense()
    delta = operator_noise(operator, matrix)[0]
    assert torch.linalg.matrix_norm(matrix.double() - exact, ord=2) <= delta
    repeated = hs.HessianOperator(risk, plan=operator.plan)
    assert torch.equal(repeated.matmat(torch.eye(n)), matrix)
