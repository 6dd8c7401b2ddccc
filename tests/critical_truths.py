"""Functions and networks whose critical points are known, made to be taken for others."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

import hessscope as hs

METHODS = ("newton", "damped_newton", "sfn", "krylov_sfn", "newton_mr", "gradient_norm")
NAMES = {
    "minimum",
    "maximum",
    "saddle",
    "degenerate saddle",
    "strict saddle",
    "undecided to second order",
}
DOTTIE = 0.739085133215160641655312087673873404
Critical = tuple[tuple[float, ...], str]


@dataclass(frozen=True)
class Known:
    """An objective and all its critical points.

    Attributes:
        name: of the case.
        make: the objective; called anew for each search.
        starts: where searches begin.
        critical: all points with ∇L = 0, each with its kind; "" where it has none to second order.
    """

    name: str
    make: Callable[[], Any]
    starts: Sequence[Sequence[float]]
    critical: Sequence[Critical] = field(default=())

    def check(self, method: str, start: Sequence[float]) -> hs.CriticalPoint:
        """Search, and hold what is said against the truth."""
        point = hs.refine(self.make(), method, start=torch.tensor(start, dtype=torch.float64))
        distances = [
            float((point.parameters - torch.tensor(where, dtype=torch.float64)).norm())
            for where, _ in self.critical
        ]
        nearest = min(distances, default=math.inf)
        kind = self.critical[distances.index(nearest)][1] if distances else ""
        said = f"{self.name}, {method}, {start}: {point.status}, {point.classification}"
        limit = 1e-6 * (1.0 + float(point.parameters.norm()))
        if point.status == "converged":
            assert nearest <= limit, said
        if point.certificate.certified:
            assert nearest <= point.certificate.radius, said
            assert kind, said
        if point.classification in NAMES:
            assert nearest <= limit, said
            unnamed = point.classification == "undecided to second order"
            assert unnamed or point.classification == kind, said
        return point


def function(
    name: str,
    formula: Callable[[torch.Tensor], torch.Tensor],
    starts: Sequence[Sequence[float]],
    *critical: Critical,
) -> Known:
    return Known(name, lambda: hs.FunctionObjective(formula, starts[0]), starts, critical)


def mask(x: torch.Tensor) -> torch.Tensor:
    return (x.detach() > 0).to(x.dtype)


def indexed(x: torch.Tensor) -> torch.Tensor:
    return (x**2).sum() / 2 - 2 * x[x > 0].sum()


def branched(x: torch.Tensor) -> torch.Tensor:
    return x[0] ** 2 / 2 - (2 * x[0] if x[0] > 0 else 0.0)


def by_number(x: torch.Tensor) -> torch.Tensor:
    return x[0] ** 2 / 2 - 2 * x[0] * float(x[0].item() > 0)


class Hidden(torch.autograd.Function):
    """relu with the derivative 0."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x)

    @staticmethod
    def backward(ctx: Any, g: torch.Tensor) -> torch.Tensor:
        return 0.0 * g


class Weight(nn.Module):
    """w²/2 − 2 relu(w), as the mean of the network's outputs."""

    def __init__(self, kink: nn.Module, weight: float = 0.0) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1, bias=False).double()
        self.kink = kink
        nn.init.constant_(self.layer.weight, weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return -2 * self.kink(self.layer(x))


def first_output(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return outputs.mean()


def network(model: Callable[[], nn.Module]) -> Callable[[], hs.EmpiricalRisk]:
    inputs = torch.ones(3, 1, dtype=torch.float64)

    def make() -> hs.EmpiricalRisk:
        return hs.EmpiricalRisk(
            model(), (inputs, torch.zeros(3, 1)), first_output, l2=1.0, device="cpu"
        )

    return make


def archived() -> nn.Module:
    traced = torch.jit.trace(Weight(nn.ReLU()), torch.ones(3, 1, dtype=torch.float64))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.pt"
        torch.jit.save(traced, path)
        return hs.load_checkpoint(path, trust=True).model


def exported() -> nn.Module:
    inputs = torch.ones(3, 1, dtype=torch.float64)
    batch = torch.export.Dim("batch")
    program = torch.export.export(Weight(nn.ReLU()), (inputs,), dynamic_shapes={"x": {0: batch}})
    return program.module()


def separable(stiff: float) -> Callable[[torch.Tensor], torch.Tensor]:
    """Two separable examples of logistic regression beside a stiff parameter."""

    def formula(x: torch.Tensor) -> torch.Tensor:
        return (F.softplus(-x[0]) + F.softplus(-2 * x[0])) / 2 + stiff * x[1] ** 2 / 2

    return formula


TWO = ((2.0,), "minimum")
NEAR = [[0.0], [-1.0], [1e-17], [-1e-16]]
STATED = [
    # Kinks, jumps and what hides them; x²/2 − 2 relu(x) falls from 0, and has its minimum at 2.
    function("relu", lambda x: x[0] ** 2 / 2 - 2 * torch.relu(x[0]), NEAR, TWO),
    function("mask", lambda x: x[0] ** 2 / 2 - 2 * x[0] * mask(x[0]), NEAR, TWO),
    function("boolean index", indexed, NEAR, TWO),
    function("if", branched, NEAR, TWO),
    function("item", by_number, NEAR, TWO),
    function("custom", lambda x: x[0] ** 2 / 2 - 2 * Hidden.apply(x[0]), NEAR, TWO),
    function("where", lambda x: torch.where(x > 0, x**2 / 2 - 2 * x, x**2 / 2).sum(), NEAR, TWO),
    function("clamp", lambda x: x[0] ** 2 / 2 - 2 * x[0].clamp(min=0), NEAR, TWO),
    function("maximum", lambda x: torch.maximum(x[0] ** 2 / 2, x[0] ** 2 / 2 + x[0]), NEAR),
    function("amax", lambda x: x[0] ** 2 / 2 - 2 * torch.stack([x[0], 0 * x[0]]).amax(), NEAR, TWO),
    function(
        "sort", lambda x: x[0] ** 2 / 2 - 2 * torch.stack([x[0], 0 * x[0]]).sort()[0][1], NEAR, TWO
    ),
    function(
        "−|x|",
        lambda x: x[0] ** 2 / 2 - x[0].abs(),
        NEAR,
        ((1.0,), "minimum"),
        ((-1.0,), "minimum"),
    ),
    function("|x|", lambda x: x[0] ** 2 / 2 + x[0].abs(), [[0.0], [1e-17], [1.0]]),
    function("√x²", lambda x: (x[0] - 1) ** 2 / 2 + torch.sqrt(x[0] ** 2), [[0.5], [1e-9]]),
    function("norm", lambda x: 2 * torch.linalg.vector_norm(x) + (x**2).sum(), [[0.3, 0.1]]),
    function("floor", lambda x: x[0] ** 2 / 2 + torch.floor(x[0]), [[0.0], [0.4]]),
    function("round", lambda x: (x[0] - 0.5) ** 2 / 2 + torch.round(x[0]), [[0.5], [0.6]]),
    function("sign", lambda x: x[0] ** 2 / 2 + torch.sign(x[0]), [[0.0], [1e-17]]),
    function(
        "small kink",
        lambda x: x[0] ** 2 / 2 - 1e-8 * torch.relu(x[0]),
        [[0.0], [-1.0]],
        ((1e-8,), "minimum"),
    ),
    function(
        "beside",
        lambda x: x[0] ** 2 - x[1] ** 2 / 2 + (x[0] + x[1]).abs(),
        [[0.0, 0.0], [1.0, -1.0]],
        ((-0.5, 1.0), "saddle"),
        ((0.5, -1.0), "saddle"),
    ),
    function("half curvature", lambda x: x[0] ** 2 / 2 - torch.relu(x[0]) ** 2, NEAR, ((0.0,), "")),
    Known("network", network(lambda: Weight(nn.ReLU())), NEAR, [TWO]),
    Known("TorchScript", network(archived), NEAR, [TWO]),
    Known("exported", network(exported), NEAR, [TWO]),
    # Poles and infima at infinity: no critical point.
    function("log", lambda x: torch.log(x[0]), [[1.0]]),
    function("1/x", lambda x: -1 / x[0] + x[1] ** 2 / 2, [[1.0, 1.0]]),
    function("separable", separable(1.0), [[14.0, 0.0], [20.0, 1.0], [30.0, 0.1]]),
    function("separable, stiff", separable(1e3), [[14.0, 0.1], [25.0, 0.0], [30.0, 1.0]]),
    function("exp", lambda x: x[1] ** 2 / 2 + torch.exp(-x[0]), [[30.0, 0.0], [36.0, 1.0]]),
    function("exp underflows", lambda x: x[1] ** 2 / 2 + torch.exp(-x[0]), [[800.0, 0.0]]),
    function("reciprocal", lambda x: x[1] ** 2 / 2 + 1 / x[0], [[1e4, 0.0], [3e5, 0.1]]),
    function(
        "lorentz",
        lambda x: x[1] ** 2 / 2 - 1 / (1 + x[0] ** 2),
        [[3e3, 0.0], [1e5, 0.1]],
        ((0.0, 0.0), "minimum"),
    ),
    function("two", lambda x: torch.exp(-x[0]) + torch.exp(-x[1]) + x[2] ** 2, [[33.0, 35.0, 0.1]]),
    # Degenerate points: those that converge may be critical, and have no kind.
    function("x⁶", lambda x: x[0] ** 6 + x[1] ** 2, [[1.2e-4, 0.0], [0.1, 1.0]], ((0.0, 0.0), "")),
    function("x⁴", lambda x: x[0] ** 4 + x[1] ** 2, [[1e-9, 0.0], [0.0, 0.0]], ((0.0, 0.0), "")),
    function("x³", lambda x: x[0] ** 3 + x[1] ** 2, [[1e-3, 1.0], [0.0, 0.0]], ((0.0, 0.0), "")),
    function(
        "monkey saddle", lambda x: x[0] ** 3 - 3 * x[0] * x[1] ** 2, [[1.0, 0.7]], ((0.0, 0.0), "")
    ),
    function("inflection", lambda x: x[0] + x[0] ** 3 / 3 + x[1] ** 2, [[1.0, 0.3]]),
    # Regular points, which must stay certified.
    function("dottie", lambda x: x[0] ** 2 / 2 - torch.sin(x[0]), [[1.0]], ((DOTTIE,), "minimum")),
    function("cosh", lambda x: torch.cosh(x - 1).sum(), [[0.3, 2.0]], ((1.0, 1.0), "minimum")),
    function("saddle", lambda x: 5 * x[0] ** 2 - x[1] ** 2, [[1.0, 0.1]], ((0.0, 0.0), "saddle")),
    function("x − log x", lambda x: x[0] - torch.log(x[0]), [[0.5]], ((1.0,), "minimum")),
    function("elu", lambda x: F.elu(x[0]) + (x[0] - 2) ** 2, [[1.0]], ((1.5,), "minimum")),
    function(
        "beside a kink", lambda x: (x[0] - 1) ** 2 + x[0].abs() * 0.5, [[0.9]], ((0.75,), "minimum")
    ),
]
SMOOTH = ("dottie", "cosh", "saddle", "x − log x", "elu", "beside a kink")
