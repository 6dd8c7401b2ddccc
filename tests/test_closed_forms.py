"""Index, nullity and classification where theory gives them."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from closed_forms import LinearAutoencoderPoint
from hessscope import EmpiricalRisk, ExactBackend, FunctionObjective, HessianOperator
from hessscope.criticality import measure_criticality
from hessscope.spectra import classify

EIGENVALUES = (3.0, 2.0, 1.2, 0.7, 0.3)
POINTS = [
    LinearAutoencoderPoint(EIGENVALUES, hidden, chosen, seed=hidden)
    for hidden in (1, 2, 3)
    for r in range(hidden + 1)
    for chosen in itertools.combinations(range(5), r)
]


@pytest.mark.parametrize("point", POINTS, ids=lambda p: f"p{p.hidden}-{p.chosen}")
def test_linear_autoencoder(point: LinearAutoencoderPoint) -> None:
    risk = point.risk()
    assert risk.value() == pytest.approx(point.loss, abs=1e-14)
    hessian = HessianOperator(risk)
    spectrum = ExactBackend().solve(hessian)
    inertia = spectrum.inertia()
    assert inertia.decided
    assert inertia.negative.estimate == point.index
    assert inertia.zero.estimate == point.nullity

    criticality = measure_criticality(
        hessian, max(-spectrum.lambda_min, spectrum.lambda_max), inertia.tolerance, inertia.zero
    ).criticality
    assert criticality.critical
    ups = spectrum.size - point.index - point.nullity
    if point.index and ups:
        expected = "degenerate saddle" if point.nullity else "saddle"
    else:
        expected = "undecided to second order" if point.nullity else "maximum"
    assert classify(inertia, criticality) == expected


def test_closed_forms_cover_every_kind_of_point() -> None:
    """The list above has minima up to symmetry, saddles of many indices, and full degeneracy."""
    assert {p.index for p in POINTS} >= {0, 1, 2, 3, 4, 5, 6, 10, 15}
    assert {p.nullity for p in POINTS} >= {0, 1, 3, 4, 5, 8, 9}


def test_a_step_away_is_no_critical_point() -> None:
    point = LinearAutoencoderPoint(EIGENVALUES, 2, (0, 3))
    risk = point.risk()
    hessian = HessianOperator(risk, risk.parameters + 1e-6)
    spectrum = ExactBackend().solve(hessian)
    inertia = spectrum.inertia()
    criticality = measure_criticality(
        hessian, spectrum.lambda_max, inertia.tolerance, inertia.zero
    ).criticality
    assert not criticality.critical
    assert classify(inertia, criticality).startswith("not a critical point (gradient norm")


def test_a_gradient_that_vanishes_towards_infinity_is_not_critical() -> None:
    """ln(1 + exp(−s)), one separable example: g = −σ(−s) and H = σ(−s)σ(s), a Newton step of 1.

    A stiff direction beside it puts the rounding floor of ‖g‖ above exp(−s).
    """
    objective = FunctionObjective(lambda x: F.softplus(-x[0]) + 5e3 * x[1] ** 2, [25.0, 0.0])
    hessian = HessianOperator(objective)
    criticality = measure_criticality(hessian, 1e4, 0.0).criticality
    assert criticality.gradient_norm == pytest.approx(math.exp(-25))
    assert criticality.gradient_norm < 0.1 * criticality.gradient_floor
    assert criticality.newton_length == pytest.approx(1.0)
    assert not criticality.critical
    inertia = ExactBackend().solve(hessian).inertia()
    assert classify(inertia, criticality).endswith("is at rounding, but a Newton step has 1)")


@pytest.mark.parametrize("hidden", [3, 6])
@pytest.mark.parametrize("activation", [nn.ReLU, nn.Tanh])
def test_softmax_shift_makes_zeros_at_random_parameters(
    hidden: int, activation: type[nn.Module]
) -> None:
    model = nn.Sequential(nn.Linear(5, hidden), activation(), nn.Linear(hidden, 4))
    data = (torch.randn(50, 5), torch.randint(0, 4, (50,)))
    risk = EmpiricalRisk(model, data, device="cpu")
    hessian = HessianOperator(risk)
    inertia = ExactBackend().solve(hessian).inertia()
    # One shift for each input of the last layer, and one for its bias.
    assert inertia.zero.lower >= hidden + 1
    shift = torch.zeros_like(risk.parameters)
    shift[risk.layout.slices()["2.bias"]] = 1.0
    assert float(hessian.matvec(shift).abs().max()) < 1e-15
    # With a penalty the shifts cost something: no zeros are left.
    penalised = EmpiricalRisk(model, data, l2=0.01, device="cpu")
    assert ExactBackend().solve(HessianOperator(penalised)).inertia().zero.upper == 0
