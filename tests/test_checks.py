"""What operators refuse and warn of by themselves, so that Python is as careful as the command."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

import hessscope as hs
from cli_runs import Run
from hessscope.backends.pyhessian import PyHessianBackend
from hessscope.errors import HessscopeWarning, NonDeterministicError, ObjectiveError

torch.manual_seed(0)
X, Y = torch.randn(40, 4, dtype=torch.float64), torch.randint(0, 3, (40,))
OPERATORS = (
    hs.HessianOperator, hs.GaussNewtonOperator, hs.FisherOperator, hs.EmpiricalFisherOperator,
)  # fmt: skip


class HiddenTanh(torch.autograd.Function):
    """The first derivative is right; the second is lost, since the output kept has no graph."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        ctx.kept = torch.tanh(x)
        return ctx.kept.clone()

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> torch.Tensor:
        return grads[0] * (1 - ctx.kept**2)


class OnceSquare(torch.autograd.Function):
    """x² with a backward pass that is a constant to torch, also in what comes from above."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: torch.Tensor) -> torch.Tensor:
        return 2 * grads[0] * ctx.saved_tensors[0]


class Net(nn.Module):
    def __init__(self, inner: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.first, self.last, self.inner = nn.Linear(4, 5), nn.Linear(5, 3), inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.inner(2 * self.first(x)))


def risk(inner: Callable[[torch.Tensor], torch.Tensor], **options: Any) -> hs.EmpiricalRisk:
    return hs.EmpiricalRisk(Net(inner), (X, Y), device="cpu", **options)


def silent(compute: Callable[[], object]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        compute()


SOLVERS: dict[str, Callable[[hs.EmpiricalRisk], object]] = {
    "exact": lambda risk: hs.ExactBackend().solve(hs.HessianOperator(risk)),
    "lanczos": lambda risk: hs.LanczosBackend(steps=10, probes=1).solve(hs.HessianOperator(risk)),
    "pyhessian": lambda risk: PyHessianBackend().solve(hs.HessianOperator(risk)),
    "product": lambda risk: hs.HessianOperator(risk).matvec(torch.ones_like(risk.parameters)),
    "refine": lambda risk: hs.refine(risk, max_iterations=1),
}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("solver", SOLVERS)
def test_a_hidden_second_derivative_is_told_once(solver: str, dtype: str) -> None:
    hidden = risk(HiddenTanh.apply, dtype=dtype)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", HessscopeWarning)
        SOLVERS[solver](hidden)
    told = [w for w in caught if "hides its second derivative" in str(w.message)]
    assert len(told) == 1


def test_the_command_tells_it_once(run: Run, work: Path) -> None:
    (work / "net.py").write_text(
        "import torch\nfrom test_checks import HiddenTanh, Net\n"
        "def make():\n    return Net(HiddenTanh.apply)\n"
    )
    torch.save(Net(torch.tanh).state_dict(), work / "w.pt")
    np.savez(work / "own.npz", inputs=X.numpy(), targets=Y.numpy())
    for command in ("spectrum", "refine"):
        outcome = run(command, "w.pt", "--model", "net.py:make", "--data", "own.npz", "--json")
        assert outcome.err.count("hides its second derivative") == 1, outcome.err


def test_the_checks_can_be_switched_off() -> None:
    hidden = risk(HiddenTanh.apply)
    ones = torch.ones_like(hidden.parameters)
    silent(lambda: hs.HessianOperator(hidden, check=False).matvec(ones))
    silent(lambda: hs.HessianOperator(risk(torch.tanh)).matvec(ones))


def test_matrices_of_first_derivatives_are_compared_with_theirs() -> None:
    """A derivative that is lost in H alone leaves them right; one that J is made of does not."""
    for kind in OPERATORS[1:]:
        plain, hidden = kind(risk(torch.tanh)), kind(risk(HiddenTanh.apply))
        silent(hidden.check)
        torch.testing.assert_close(hidden.to_dense(), plain.to_dense(), atol=1e-14, rtol=1e-12)
        with pytest.warns(HessscopeWarning, match=f"the {kind.name} matrix .*hides its second"):
            kind(risk(OnceSquare.apply)).check()
    regression = hs.EmpiricalRisk(
        nn.Linear(4, 3), (X, torch.randn(40, 3)), lambda a, b: OnceSquare.apply(a - b).mean()
    )
    with pytest.warns(HessscopeWarning, match="linear in the model's outputs"):
        operator = hs.GaussNewtonOperator(regression)
    with pytest.warns(HessscopeWarning, match="gauss_newton matrix .*hides its second"):
        operator.check()


@pytest.mark.parametrize("kind", OPERATORS)
@pytest.mark.parametrize("l2", [0.0, 0.3])
def test_nothing_is_said_of_what_is_right(kind: Any, l2: float) -> None:
    for inner in (torch.tanh, torch.relu, F.gelu, torch.sin):
        silent(kind(risk(inner, l2=l2)).check)


class Centres(nn.Module):
    """Torch has no second derivative of cdist."""

    def __init__(self) -> None:
        super().__init__()
        self.centres = nn.Parameter(torch.randn(3, 4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return -torch.cdist(x, self.centres)


class Checkpointed(Net):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return checkpoint(self.last, torch.tanh(self.first(x)), use_reentrant=True)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Centres(), r"cannot be differentiated twice.*_cdist_backward"),
        (Checkpointed(torch.tanh), r"cannot be differentiated.*use_reentrant=False"),
    ],
)
def test_torchs_own_errors_become_ours(model: nn.Module, message: str, solver: str) -> None:
    with pytest.raises(ObjectiveError, match=message):
        SOLVERS[solver](hs.EmpiricalRisk(model, (X, Y), device="cpu"))


@pytest.mark.parametrize("inner", [False, True])
def test_compiled_networks_are_taken_as_they_are(inner: bool) -> None:
    """And yours stays compiled."""
    plain = Net(torch.tanh)
    compiled = Net(torch.tanh)
    if inner:
        compiled.first = torch.compile(compiled.first, backend="eager")  # type: ignore[assignment]
    else:
        compiled = torch.compile(compiled, backend="eager")  # type: ignore[assignment]
    found = hs.EmpiricalRisk(compiled, (X, Y), device="cpu")
    expected = hs.EmpiricalRisk(plain, (X, Y), device="cpu")
    assert found.layout.names == expected.layout.names
    dense = hs.HessianOperator(expected).to_dense()
    torch.testing.assert_close(hs.HessianOperator(found).to_dense(), dense, atol=1e-14, rtol=1e-12)
    assert hasattr(compiled.first if inner else compiled, "_orig_mod")


def test_compiled_functions_within_a_model_are_differentiated_as_they_were_written() -> None:
    """Torch gives no second derivative of what was compiled with its first one."""

    def plain(z: torch.Tensor) -> torch.Tensor:
        return torch.tanh(z) * z

    found = hs.HessianOperator(risk(torch.compile(plain, backend="aot_eager"))).to_dense()
    torch.testing.assert_close(
        found, hs.HessianOperator(risk(plain)).to_dense(), rtol=0, atol=1e-15
    )


def test_a_factory_may_give_a_compiled_network(run: Run, work: Path) -> None:
    (work / "net.py").write_text(
        "import torch\nfrom test_checks import Net\n"
        "def plain():\n    return Net(torch.tanh)\n"
        "def compiled():\n    return torch.compile(plain(), backend='eager')\n"
    )
    torch.save(Net(torch.tanh).state_dict(), work / "w.pt")
    np.savez(work / "own.npz", inputs=X.numpy(), targets=Y.numpy())
    found = [
        run("spectrum", "w.pt", "--model", f"net.py:{name}", "--data", "own.npz", "--json").json
        for name in ("plain", "compiled")
    ]
    assert found[0]["lambda_max"] == pytest.approx(found[1]["lambda_max"], rel=1e-12)
    assert found[0]["parameters"] == found[1]["parameters"] == 43


def test_a_point_on_a_kink_is_called_one() -> None:
    kinked = hs.FunctionObjective(lambda x: (x**2 / 2 - 2 * torch.relu(x)).sum(), [0.0])
    with pytest.warns(HessscopeWarning, match="has a kink here"):
        hs.HessianOperator(kinked).to_dense()
    smooth = hs.FunctionObjective(lambda x: (x**2 / 2 - 2 * torch.relu(x)).sum(), [1.0])
    silent(hs.HessianOperator(smooth).to_dense)


def test_functions_may_take_derivatives_themselves() -> None:
    def function(x: torch.Tensor) -> torch.Tensor:
        return torch.func.grad(lambda z: (z**4).sum())(x).square().sum()  # 16 Σ x⁶

    start = torch.tensor([1.0, -0.5], dtype=torch.float64)
    dense = hs.HessianOperator(hs.FunctionObjective(function, start)).to_dense()
    torch.testing.assert_close(dense, torch.diag(480 * start**4), atol=1e-12, rtol=1e-12)


class Counted(nn.Linear):
    """Counts passes forward, and examples."""

    passes = examples = 0

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        Counted.passes += 1
        Counted.examples += len(inputs)
        return super().forward(inputs)


def test_the_checks_cost_what_they_say() -> None:
    """Beside two gradients over the 40 examples only a few passes over a few examples."""
    Counted.passes = Counted.examples = 0
    made = hs.EmpiricalRisk(Counted(4, 3), (X, Y), device="cpu")
    assert Counted.passes <= 19
    assert Counted.examples <= 60
    operator = hs.HessianOperator(made)
    for passes, examples in ((6, 2 * 40 + 1 + 3 * 7), (0, 0)):
        Counted.passes = Counted.examples = 0
        operator.check()
        assert Counted.passes <= passes
        assert Counted.examples <= examples


def test_an_objective_is_checked_once_by_a_search(monkeypatch: pytest.MonkeyPatch) -> None:
    checks = []
    own = hs.EmpiricalRisk.check
    monkeypatch.setattr(hs.EmpiricalRisk, "check", lambda *a: (checks.append(a), own(*a)))
    objective = risk(torch.tanh, l2=1e-2)
    point = hs.refine(objective, max_iterations=3)
    assert (point.iterations, len(checks)) == (3, 1)
    operator = hs.HessianOperator(objective)
    operator.to_dense()
    operator.moved(point.parameters).matvec(point.parameters)
    operator.restricted("first.*").to_dense()
    assert len(checks) == 2


@pytest.mark.parametrize("solver", SOLVERS)
def test_random_models_are_refused_by_every_way(solver: str) -> None:
    with pytest.raises(NonDeterministicError, match="random numbers"):
        SOLVERS[solver](risk(lambda x: F.dropout(x, 0.5, training=True)))
