"""Index, nullity and classification where theory gives them."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from closed_forms import LinearAutoencoderPoint
from hessscope import EmpiricalRisk, ExactBackend, HessianOperator
from hessscope.backends import measure_criticality
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
        hessian, max(-spectrum.lambda_min, spectrum.lambda_max), inertia.tolerance
    )
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
    criticality = measure_criticality(hessian, spectrum.lambda_max, inertia.tolerance)
    assert not criticality.critical
    assert classify(inertia, criticality).startswith("not a critical point (gradient norm")


def test_a_gradient_that_vanishes_towards_infinity_is_not_critical() -> None:
    # Separable data: at scale s the gradient is of the order exp(−s), the Newton step stays 1.
    inputs = torch.tensor([[1.0], [-1.0]], dtype=torch.float64)
    model = nn.Linear(1, 1, bias=False, dtype=torch.float64)
    with torch.no_grad():
        model.weight.fill_(36.0)
    risk = EmpiricalRisk(model, (inputs, torch.tensor([[1.0], [0.0]])), "bce", device="cpu")
    hessian = HessianOperator(risk)
    spectrum = ExactBackend().solve(hessian)
    criticality = measure_criticality(hessian, spectrum.lambda_max, 0.0)
    assert criticality.gradient_norm < 1e-15
    assert criticality.gradient_norm <= criticality.gradient_floor or not criticality.critical
    assert not criticality.critical


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
