"""Why eigenvalues are zero: every cause in closed form, against exact eigenvalues."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import hessscope as hs
from cli_runs import HIDDEN, Run
from closed_forms import LinearAutoencoderPoint
from hessscope import EmpiricalRisk, ExactBackend, HessianOperator, LanczosBackend, Spectrum
from hessscope.degeneracy import (
    DegeneracyAttribution,
    attribute_degeneracy,
    causes,
    results,
    symmetries,
)
from hessscope.degeneracy.fields import Fields, NullSpace
from hessscope.degeneracy.wiring import Wiring
from hessscope.errors import OptionError
from hessscope.linalg.row_spaces import RowSpace
from hessscope.operators import GaussNewtonOperator, MatrixOperator
from hessscope.spectra import CountInterval, Inertia
from hessscope.training import train
from test_closed_forms import POINTS


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    stream = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=stream, dtype=torch.float64)


def taught_by_itself(model: nn.Module, inputs: torch.Tensor) -> EmpiricalRisk:
    """Targets are the network's own outputs: a critical point at which H = G = 2 Σ JᵀJ / (N c).

    So the zeros of H are those of J: directions that change no output on any example.
    """
    model = model.double().eval()
    with torch.no_grad():
        targets = model(inputs)
    return EmpiricalRisk(model, (inputs, targets), "mse", device="cpu")


def examined(risk: EmpiricalRisk, **options: Any) -> tuple[Spectrum, DegeneracyAttribution]:
    """Spectrum and attribution, and what must hold for every attribution."""
    hessian = HessianOperator(risk)
    spectrum = ExactBackend().solve(hessian)
    tolerance = options.pop("tolerance", None)
    found = attribute_degeneracy(hessian, spectrum, tolerance=tolerance, **options)
    assert found.tolerance == spectrum.inertia(tolerance).tolerance
    # The theorem: so many eigenvalues are within the residual of zero (δ for their computation).
    within = found.residual + spectrum.noise_floor.total
    assert int((np.abs(spectrum.eigenvalues) <= within).sum()) >= found.explained
    assert found.residual <= found.tolerance
    assert found.explained <= found.degeneracy.upper
    assert all(0 <= cause.new <= cause.directions for cause in found.causes)
    return spectrum, found


def news(found: DegeneracyAttribution) -> dict[str, int]:
    return {cause.name: cause.new for cause in found.causes if cause.new}


def directions(found: DegeneracyAttribution) -> dict[str, int]:
    return {cause.name: cause.directions for cause in found.causes}


# Linear algebra


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 12), st.integers(1, 12))
def test_min_max_bound_on_random_matrices(seed: int, m: int, zeros: int) -> None:
    """At least k eigenvalues satisfy |λ| ≤ σ_k(H V), for every V."""
    stream = np.random.default_rng(seed)
    n = 16
    values = stream.standard_normal(n) * 10.0 ** stream.integers(-6, 1, n)
    values[:zeros] = 0.0
    q, _ = np.linalg.qr(stream.standard_normal((n, n)))
    matrix = (q * values) @ q.T
    v, _ = np.linalg.qr(q[:, :m] + 0.1 * stream.standard_normal((n, m)))
    sizes = np.sort(np.linalg.svd(matrix @ v, compute_uv=False))
    for k, size in enumerate(sizes, 1):
        assert int((np.abs(values) <= size * (1 + 1e-12) + 1e-15).sum()) >= k


def test_row_spaces_grow_by_what_is_new() -> None:
    stream = np.random.default_rng(1)
    whole = np.linalg.qr(stream.standard_normal((20, 9)))[0].T
    first = stream.standard_normal((7, 5)) @ whole[:5]  # two rows more than its dimension
    second = stream.standard_normal((6, 6)) @ whole[3:9]
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (first, second)]
    start = RowSpace.zero(20).beyond(scipy.sparse.csr_matrix(unit[0]))
    beyond = start.beyond(scipy.sparse.csr_matrix(unit[1]))
    assert (start.dimension, beyond.dimension) == (5, 4)
    half = beyond.rotated(np.linalg.qr(stream.standard_normal((4, 2)))[0].T)
    for space, dimension in ((start.joined(beyond), 9), (start.joined(half), 7)):
        basis = space.combine(np.eye(space.dimension))
        assert basis.shape == (20, dimension)
        assert np.abs(basis.T @ basis - np.eye(dimension)).max() < 1e-11
        assert np.abs(basis - whole.T @ (whole @ basis)).max() < 1e-11
    assert start.joined(beyond).beyond(scipy.sparse.csr_matrix(whole)).dimension == 0
    assert RowSpace.zero(20).beyond(scipy.sparse.csr_matrix((0, 20))).dimension == 0


@pytest.mark.parametrize("block", [17, 64, 600])
def test_null_space_of_rows_in_blocks(block: int) -> None:
    """A column that only the last row shows counts, and one that the first hardly shows, too."""
    rows = normal(500, 40)
    rows[:, 7] = rows[:, 3] - 2 * rows[:, 5]
    rows[:, 9] = 0.0
    rows[:-1, 11] = 0.0
    rows[:300, 13] = rows[:300, 14] + 1e-7 * rows[:300, 15]
    space = NullSpace(40)
    for part in rows.split(block):
        space.restrict(part)
    basis = space.basis()
    assert basis.shape == (40, 2)
    assert float((rows @ basis).norm(dim=0).max()) < 1e-13
    assert float((basis.T @ basis - torch.eye(2)).abs().max()) < 1e-13
    space.restrict(normal(5, 40, seed=2))
    assert not space.open
    assert space.basis().shape == (40, 0)


# What the data never reach


def reached_in_part() -> tuple[nn.Sequential, torch.Tensor]:
    """Three units; two inputs are always zero, unit 2 is never active.

    Input 2 is not zero only where input 0 is negative, so unit 0 (z = 10 a₀ − …) never meets it.
    """
    inputs = torch.rand(60, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    inputs[:, 3:] = 0.0
    inputs[:, 0] += 0.5
    inputs[:30, 0] *= -1.0
    inputs[30:, 2] = 0.0
    model = nn.Sequential(nn.Linear(5, 3), nn.ReLU(), nn.Linear(3, 4)).double()
    with torch.no_grad():
        model[0].weight.copy_(0.1 * normal(3, 5))
        model[0].bias.zero_()
        model[0].weight[0, 0], model[0].weight[0, 2] = 3.0, -0.5
        model[0].weight[1], model[0].bias[1] = 0.1 * normal(5), 3.0
        model[0].bias[2] = -50.0
        model[2].weight.copy_(normal(4, 3, seed=1))
    return model, inputs


def test_parameters_that_the_data_never_reach() -> None:
    model, inputs = reached_in_part()
    labels = torch.arange(60) % 4
    spectrum, found = examined(EmpiricalRisk(model, (inputs, labels), device="cpu"))
    assert news(found) == {
        causes.DEAD_INPUTS: 2 * 3,
        causes.INACTIVE_UNITS: 4 + 4,  # incoming weights of three live inputs, bias; outgoing
        causes.UNMET_PAIRS: 1,
        causes.SOFTMAX_SHIFT: 3,  # two live units and the bias
    }
    zero_rows = sum(c.new for c in found.causes if c.evidence == "random products")
    assert zero_rows == int((spectrum.eigenvalues == 0).sum()) == 15
    assert directions(found)[causes.SOFTMAX_SHIFT] == 4  # that of the inactive unit was counted
    assert found.unexplained.estimate == 0
    first = found.causes[0]
    assert first.description == "2 dead inputs x 3 units"
    assert first.residual == 0.0
    assert found.summary() == (
        "18 of 18: 6 dead inputs x units; 8 weights of inactive units; 1 input–unit pairs that "
        "never meet; 3 softmax shifts; 0 unexplained"
    )


class TwiceUsed(nn.Module):
    """A layer that is used twice, whose unit 0 is dead, before one that is used once."""

    def __init__(self) -> None:
        super().__init__()
        self.shared, self.last = nn.Linear(3, 3), nn.Linear(3, 2)
        with torch.no_grad():
            self.shared.bias[0] = -100.0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(torch.relu(self.shared(torch.relu(self.shared(x)))))


class DeadChannel(nn.Module):
    """A convolution whose channel 0 is dead, before a fully connected layer."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.last = nn.Conv1d(1, 2, 1), nn.Linear(6, 2)
        with torch.no_grad():
            self.convolution.bias[0] = -100.0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(torch.relu(self.convolution(x[:, None])).flatten(1))


@pytest.mark.parametrize("model", [TwiceUsed, DeadChannel])
def test_dead_units_of_other_modules_are_no_dead_inputs(model: type[nn.Module]) -> None:
    torch.manual_seed(0)
    risk = EmpiricalRisk(model(), (normal(20, 3), torch.arange(20) % 2), device="cpu")
    _, found = examined(risk)
    assert causes.DEAD_INPUTS not in directions(found)
    assert directions(found)[causes.INACTIVE_UNITS] >= 2


@pytest.mark.filterwarnings("ignore:a product with the hessian matrix differs")
def test_on_a_kink_nothing_is_attributed() -> None:
    """All units of a ReLU network of zeros are on their kinks."""
    model = nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 2))
    for part in model.parameters():
        nn.init.zeros_(part)
    _, found = examined(EmpiricalRisk(model, (normal(20, 5), torch.arange(20) % 2), device="cpu"))
    assert not found.causes
    assert "on a kink of relu" in found.notes[0]


def test_zero_rows_of_any_operator() -> None:
    matrix = normal(12, 12)
    matrix = matrix + matrix.T
    matrix[[2, 5, 7]] = 0.0
    matrix[:, [2, 5, 7]] = 0.0
    matrix[3, 4] = matrix[4, 3] = 0.0
    spectrum = ExactBackend().solve(matrix)
    found = attribute_degeneracy(MatrixOperator(matrix), spectrum)
    assert news(found) == {causes.OTHER_ZERO_ROWS: 3}
    assert found.hvps == 10


def test_zero_rows_of_convolutions() -> None:
    """A channel that is never active: found by products alone, named by parameters."""
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(2 * 9, 2)).double()
    with torch.no_grad():
        model[0].bias[1] = -100.0
    inputs = normal(80, 1, 5, 5)
    spectrum, found = examined(EmpiricalRisk(model, (inputs, torch.arange(80) % 2), device="cpu"))
    others = {c.name: c for c in found.causes}[causes.OTHER_ZERO_ROWS]
    assert (others.new, others.description) == (10, "9 in 0.weight, 1 in 0.bias")
    assert int((spectrum.eigenvalues == 0).sum()) == 10 + 18


# Dependent inputs


def test_dependence_among_the_inputs_that_each_unit_sees() -> None:
    """Input 3 is a₀ + a₁ where a₂ > 0, and a₀ − 2a₁ elsewhere; units see one or both kinds."""
    inputs = normal(80, 4)
    positive = inputs[:, 2] > 0
    inputs[positive, 3] = (inputs[:, 0] + inputs[:, 1])[positive]
    inputs[~positive, 3] = (inputs[:, 0] - 2 * inputs[:, 1])[~positive]
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)).double()
    with torch.no_grad():
        model[0].weight.copy_(0.01 * normal(3, 4))
        model[0].weight[0, 2], model[0].weight[1, 2] = 5.0, -5.0
        model[0].bias.copy_(torch.tensor([0.0, 0.0, 9.0]))
        # Inactive next to the boundary, so that nothing depends on which side a point is on.
        inputs[:, 2] += 0.5 * inputs[:, 2].sign()
    risk = EmpiricalRisk(model, (inputs, normal(80, 2, seed=3)), "mse", device="cpu")
    _, found = examined(risk)
    assert news(found) == {causes.DEPENDENT_INPUTS: 2}
    assert found.unexplained.estimate == 0


@pytest.mark.parametrize("activation", [nn.Tanh, nn.Softplus])
def test_fewer_examples_than_inputs(activation: type[nn.Module]) -> None:
    """Smooth units see all examples: d + 1 − N dependent inputs each."""
    model = nn.Sequential(nn.Linear(9, 3), activation(), nn.Linear(3, 2)).double()
    risk = EmpiricalRisk(model, (normal(6, 9), normal(6, 2, seed=1)), "mse", device="cpu")
    _, found = examined(risk)
    assert news(found) == {causes.DEPENDENT_INPUTS: 3 * (9 + 1 - 6)}


def test_dependent_inputs_of_a_later_layer_must_leave_the_earlier_one_alone() -> None:
    """Equal hidden units make inputs depend on each other, but weights between them matter."""
    model = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 2)).double()
    with torch.no_grad():
        model[0].weight[1] = model[0].weight[0]
        model[0].bias[1] = model[0].bias[0]
    risk = EmpiricalRisk(model, (normal(50, 2), normal(50, 2, seed=1)), "mse", device="cpu")
    _, found = examined(risk)
    assert found.explained == 0
    assert directions(found) == {causes.DUPLICATES: 2}


# Shifts that softmax and layer normalisation lose


@pytest.mark.parametrize("loss", ["cross_entropy", "softmax_mse"])
@pytest.mark.parametrize("bias", [True, False])
def test_softmax_shift_at_random_parameters(loss: str, bias: bool) -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 4, bias=bias))
    risk = EmpiricalRisk(model, (normal(70, 4), torch.arange(70) % 4), loss, device="cpu")
    _, found = examined(risk)
    assert news(found) == {causes.SOFTMAX_SHIFT: 3 + bias}
    assert found.unexplained.estimate == 0
    assert found.causes[0].residual < 1e-15


def test_no_shift_without_softmax() -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 4))
    risk = EmpiricalRisk(model, (normal(70, 4), torch.arange(70) % 4), "mse", device="cpu")
    spectrum, found = examined(risk)
    assert found.causes == ()
    assert found.summary() == "0 of 0: 0 unexplained"
    assert spectrum.inertia().zero.estimate == 0


class Parallel(nn.Module):
    """Two branches whose outputs are added, each with a bias of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Linear(4, 3), nn.Linear(4, 3), nn.Linear(3, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(torch.tanh(self.first(x) + self.second(x.square())))


def test_biases_that_add_up() -> None:
    risk = EmpiricalRisk(Parallel(), (normal(99, 4), normal(99, 2, seed=1)), "mse", device="cpu")
    _, found = examined(risk)
    assert news(found) == {causes.SUMMED_BIASES: 3}
    assert found.unexplained.estimate == 0


class Normalised(nn.Module):
    """Linear → LayerNorm → tanh → linear."""

    def __init__(self, eps: float) -> None:
        super().__init__()
        self.first, self.norm = nn.Linear(4, 5), nn.LayerNorm(5, eps=eps)
        self.last = nn.Linear(5, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(torch.tanh(self.norm(self.first(x))))


def test_layer_norm_hides_shift_exactly_and_scale_up_to_its_eps() -> None:
    inputs = normal(200, 4)
    _, found = examined(EmpiricalRisk(Normalised(1e-5), (inputs, normal(200, 2)), "mse"))
    assert news(found) == {causes.LAYER_NORM_SHIFT: 5}
    scale = {c.name: c for c in found.causes}[causes.LAYER_NORM_SCALE]
    assert scale.directions == 1
    assert 1e-8 < scale.identity < 1e-3  # broken by eps, and said so
    # With a smaller eps the identity holds better, in proportion.
    _, finer = examined(EmpiricalRisk(Normalised(1e-9), (inputs, normal(200, 2)), "mse"))
    assert {c.name: c for c in finer.causes}[causes.LAYER_NORM_SCALE].identity < 1e-6
    # At a critical point, and at a tolerance that eps allows for, it is null.
    critical = taught_by_itself(Normalised(1e-9), inputs)
    spectrum, counted = examined(critical, tolerance=1e-8)
    assert news(counted) == {causes.LAYER_NORM_SHIFT: 5, causes.LAYER_NORM_SCALE: 1}
    assert spectrum.inertia(1e-8).zero.estimate == 6


# Symmetries: null at critical points, H X = −(DX)ᵀ g anywhere


class BatchNormalised(nn.Module):
    """Linear → BatchNorm with statistics of its own → tanh → linear."""

    def __init__(self, bias: bool, affine: bool = True) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 5, bias=bias), nn.Linear(5, 2)
        self.norm = nn.BatchNorm1d(5, affine=affine)
        assert self.norm.running_mean is not None
        assert self.norm.running_var is not None
        self.norm.running_mean.copy_(normal(5, seed=5))
        self.norm.running_var.copy_(0.5 + normal(5, seed=6).square())
        if affine:
            nn.init.uniform_(self.norm.weight, 0.4, 1.2)
            nn.init.normal_(self.norm.bias, std=0.3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(torch.tanh(self.norm(self.first(x))))


class Attention(nn.Module):
    """One layer of attention, what comes out of it bent twice."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True, **options)
        self.last = nn.Linear(4, 2)
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.7)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mixed = self.attention(x, x[..., : self.attention.kdim], x[..., : self.attention.vdim])[0]
        return torch.tanh(self.last(torch.sin(mixed))).mean(1)


def switching(*modules: nn.Module) -> nn.Module:
    """A sequence with small biases: a unit that stays on one side of its kink is linear."""
    model = nn.Sequential(*modules)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter *= 0.1
    return model


def convolutional() -> nn.Module:
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Conv2d(4, 2, 2, groups=2, bias=False),
        nn.LeakyReLU(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(2, 3),
    )
    assert isinstance(model[1], nn.BatchNorm2d)
    assert model[1].running_mean is not None
    model[1].running_mean.copy_(normal(4, seed=5))
    nn.init.uniform_(model[1].bias, -0.3, 0.1)
    with torch.no_grad():  # so that its outputs take both signs
        model[4].weight -= model[4].weight.mean((1, 2, 3), keepdim=True)
    return model


SYMMETRIC: dict[str, tuple[Any, tuple[int, ...], dict[str, int]]] = {
    "relu": (
        lambda: switching(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3), nn.Tanh()),
        (300, 4),
        {causes.RESCALING: 5},
    ),
    "leaky, twice": (
        lambda: switching(
            nn.Linear(4, 5), nn.LeakyReLU(0.2), nn.Linear(5, 4), nn.PReLU(), nn.Linear(4, 3)
        ),
        (300, 4),
        {causes.RESCALING: 9},
    ),
    "linear": (
        lambda: nn.Sequential(nn.Linear(5, 3), nn.Dropout(), nn.Linear(3, 4), nn.Tanh()),
        (200, 5),
        # GL(3) and 3 shifts of biases.
        {causes.RESCALING: 3, causes.LINEAR_GAUGE: 9},
    ),
    "batch norm": (lambda: BatchNormalised(False), (300, 4), {causes.BATCH_NORM: 5}),
    "batch norm and bias": (lambda: BatchNormalised(True), (300, 4), {causes.BATCH_NORM: 10}),
    "batch norm, not affine": (lambda: BatchNormalised(False, False), (300, 4), {}),
    "attention": (
        Attention,
        (200, 3, 4),
        # Two heads of 2 dimensions: 4 generators each for query–key and value–output.
        {causes.KEY_BIAS: 4, causes.ATTENTION_GAUGE: 8 + 8 + 4},
    ),
    "attention without bias": (
        lambda: Attention(bias=False),
        (200, 3, 4),
        {causes.ATTENTION_GAUGE: 8 + 8},
    ),
    "attention, other widths": (
        lambda: Attention(kdim=3, vdim=4),
        (200, 3, 4),
        {causes.KEY_BIAS: 4, causes.ATTENTION_GAUGE: 8 + 8 + 4},
    ),
    "convolutions": (
        convolutional,
        (300, 1, 8, 8),
        {causes.BATCH_NORM: 8, causes.RESCALING: 4 + 2},
    ),
    "tanh": (
        lambda: nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2)),
        (200, 4),
        {},
    ),
}


@pytest.mark.parametrize("name", SYMMETRIC)
def test_symmetries_explain_every_zero_at_a_critical_point(name: str) -> None:
    make, shape, expected = SYMMETRIC[name]
    spectrum, found = examined(taught_by_itself(make(), normal(*shape)))
    assert news(found) == expected
    inertia = spectrum.inertia()
    assert inertia.zero.estimate == sum(expected.values())
    assert inertia.decided
    assert found.unexplained.upper == 0


@pytest.mark.parametrize("name", SYMMETRIC)
def test_symmetries_hold_off_critical_points_and_make_no_zeros_there(name: str) -> None:
    make, shape, expected = SYMMETRIC[name]
    model = make().double().eval()
    inputs = normal(*shape)
    with torch.no_grad():
        outputs = model(inputs)
    risk = EmpiricalRisk(model, (inputs, outputs + normal(*outputs.shape)), "mse", device="cpu")
    spectrum, found = examined(risk)
    always = {causes.KEY_BIAS: 4} if causes.KEY_BIAS in expected else {}
    assert news(found) == always
    assert found.explained == spectrum.inertia().zero.estimate
    # The same directions are found, and H X = −(DX)ᵀ g to rounding while H X itself is large.
    norm = float(np.abs(spectrum.eigenvalues).max())
    assert sum(directions(found).values()) >= sum(expected.values())
    for cause in found.causes:
        assert cause.identity < 1e-14 * max(norm, 1.0)
        if cause.new == 0:
            assert cause.residual > 1e-4


@pytest.mark.parametrize("l2", [1e-3, 1e-20])
def test_weight_penalty(l2: float) -> None:
    """A penalty lifts every zero to l2; the identities are those of the loss without it."""
    model, inputs = reached_in_part()
    risk = EmpiricalRisk(model, (inputs, torch.arange(60) % 4), l2=l2, device="cpu")
    _, found = examined(risk)
    dead = found.causes[0]
    assert (dead.name, dead.directions, dead.residual) == (causes.DEAD_INPUTS, 6, l2)
    if l2 == 1e-3:
        assert found.explained == 0
        shift = {c.name: c for c in found.causes}[causes.SOFTMAX_SHIFT]
        assert shift.residual == pytest.approx(l2)
        assert shift.identity < 1e-15
    else:
        assert found.explained == 18


def test_a_wrong_symmetry_is_not_claimed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Were the tests of candidates to fail, the products would still count nothing."""
    risk = EmpiricalRisk(
        nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2)),
        (normal(50, 4), normal(50, 2, seed=1)),
        "mse",
        device="cpu",
    )
    candidates = list(symmetries._rescalings(Wiring(risk, risk.parameters)))
    assert [len(family.fields.at(risk.parameters.numpy()).toarray()) for family in candidates] == [
        3
    ]
    assert symmetries.find_symmetries(risk, risk.parameters) == []
    monkeypatch.setattr(symmetries, "_holds", lambda *arguments: True)
    _, found = examined(risk)
    assert directions(found)[causes.RESCALING] == 3
    assert found.explained == 0
    assert all(cause.identity > 1e-6 for cause in found.causes)


def test_fields_and_their_derivatives() -> None:
    """(DX)ᵀ g against automatic differentiation, constants included."""
    n, theta, slope = 6, normal(6), normal(6, seed=1)
    rows, columns = np.array([0, 0, 1, 1]), np.array([1, 2, 3, 0])
    sources, factors = np.array([4, 6, 3, 5]), np.array([2.0, 7.0, -1.0, 0.5])
    fields = Fields.of(n, (rows, columns, sources, factors))

    def dense(x: torch.Tensor) -> torch.Tensor:
        zero = torch.zeros((), dtype=torch.float64)
        first = torch.stack([zero, 2 * x[4], zero + 7.0, zero, zero, zero])
        return torch.stack([first, torch.stack([0.5 * x[5], zero, zero, -x[3], zero, zero])])

    assert np.array_equal(fields.at(theta.numpy()).toarray(), dense(theta).numpy())
    jacobian = torch.autograd.functional.jacobian(dense, theta)
    assert isinstance(jacobian, torch.Tensor)
    expected = torch.einsum("kij,i->kj", jacobian, slope).numpy()
    assert np.array_equal(fields.adjoint(slope.numpy()).toarray(), expected)


# Linear autoencoders


@pytest.mark.parametrize("point", POINTS, ids=lambda p: f"p{p.hidden}-{p.chosen}")
def test_linear_autoencoder_explains_all_zeros(point: LinearAutoencoderPoint) -> None:
    """The orbit of GL(p) has the dimension p² − (p − r)² = r (2p − r), the whole nullity."""
    _, found = examined(point.risk())
    assert found.explained == point.nullity
    assert found.unexplained == CountInterval(0, 0, 0, 1.0)


# Duplicated units


@pytest.mark.parametrize("activation", [nn.ReLU, nn.Tanh])
@pytest.mark.parametrize("proportional", [True, False])
def test_duplicated_units(activation: type[nn.Module], proportional: bool) -> None:
    """Outgoing differences always; incoming ones where the outgoing weights are proportional."""
    model = nn.Sequential(nn.Linear(3, 4), activation(), nn.Linear(4, 2)).double()
    with torch.no_grad():
        model[0].weight[2] = model[0].weight[0]
        model[0].bias[2] = model[0].bias[0]
        model[0].bias += 0.5
        if proportional:
            model[2].weight[:, 2] = -0.7 * model[2].weight[:, 0]
    inputs = normal(300, 3)
    _, found = examined(taught_by_itself(model, inputs))
    rescalings = 4 if activation is nn.ReLU else 0
    duplicated = 2 + (4 if proportional else 0)
    if activation is nn.ReLU:
        # Scaling one unit up and the other down is a difference, or the sum of differences.
        duplicated -= 1 if proportional else 0
    assert found.explained == rescalings + duplicated
    assert found.unexplained.upper == 0


def test_duplicated_relu_units_off_critical_points() -> None:
    """H d meets the slope in one direction for each output; the other incoming ones are null."""
    model = nn.Sequential(nn.Linear(5, 3), nn.ReLU(), nn.Linear(3, 2)).double()
    with torch.no_grad():
        model[0].weight[2] = model[0].weight[0]
        model[0].bias[2] = model[0].bias[0]
        model[0].bias += 0.5
        model[2].weight[:, 2] = 2.0 * model[2].weight[:, 0]
    risk = EmpiricalRisk(model, (normal(300, 5), normal(300, 2, seed=1)), "mse", device="cpu")
    _, found = examined(risk)
    assert news(found) == {causes.DUPLICATES: 6 - 2}
    assert found.unexplained.estimate == 0


# Larger spaces, other results, other operators


def test_large_spaces_are_verified_by_random_combinations(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(results, "_MOST_PRODUCTS", 2)
    make, shape, expected = SYMMETRIC["linear"]
    # Bounds of random combinations are up to some ten times the norm: a wider tolerance.
    _, found = examined(taught_by_itself(make(), normal(*shape)), tolerance=1e-12)
    assert news(found) == expected
    assert {cause.evidence for cause in found.causes} == {"random combinations"}
    model = make().double().eval()
    risk = EmpiricalRisk(model, (normal(*shape), normal(200, 4)), "mse", device="cpu")
    _, off = examined(risk, tolerance=1e-12)
    assert off.explained == 0
    assert all(cause.identity < 1e-12 < 1e-4 < cause.residual for cause in off.causes)


def test_what_is_too_large_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    make, shape, expected = SYMMETRIC["linear"]
    risk = taught_by_itself(make(), normal(*shape))
    monkeypatch.setattr("hessscope.degeneracy.fields._MOST_ENTRIES", 10)
    monkeypatch.setattr("hessscope.degeneracy.searches._MOST_FIELDS", 2)
    _, found = examined(risk)
    assert found.explained == 0
    assert found.unexplained.estimate == sum(expected.values())
    assert any("gauge of 0 → 2 was not tested" in note for note in found.notes)
    assert any("3 are too many" in note for note in found.notes)
    model, inputs = reached_in_part()
    monkeypatch.setattr("hessscope.degeneracy.fields._MOST_FLOPS", 1.0)
    labels = torch.arange(60) % 4
    _, found = examined(EmpiricalRisk(model, (inputs, labels), device="cpu"))
    assert any("dependent inputs of layer '0' were not searched" in note for note in found.notes)


def test_float32() -> None:
    """The same zeros, within a wider band that the data type makes."""
    model, inputs = reached_in_part()
    labels = torch.arange(60) % 4
    risk = EmpiricalRisk(model, (inputs, labels), dtype="float32", device="cpu")
    hessian = HessianOperator(risk)
    spectrum = ExactBackend().solve(hessian)
    found = attribute_degeneracy(hessian, spectrum)
    assert found.explained == 18
    assert found.tolerance > 1e-8
    assert found.residual < 1e-7


def test_lanczos_results_leave_an_interval() -> None:
    model, inputs = reached_in_part()
    risk = EmpiricalRisk(model, (inputs, torch.arange(60) % 4), device="cpu")
    hessian = HessianOperator(risk)
    density = LanczosBackend(steps=12, probes=4, seed=0).solve(hessian)
    found = attribute_degeneracy(hessian, density, tolerance=1e-6)
    assert found.explained == 18
    zero = density.inertia(1e-6).zero
    left = found.unexplained
    assert left.upper == max(zero.upper - 18, 0)
    assert left.confidence == 0.95
    assert (
        left.lower <= ExactBackend().solve(hessian).inertia(1e-6).zero.estimate - 18 <= left.upper
    )


def test_counts_that_are_too_low_are_named() -> None:
    model, inputs = reached_in_part()
    risk = EmpiricalRisk(model, (inputs, torch.arange(60) % 4), device="cpu")
    hessian = HessianOperator(risk)
    n = hessian.shape[0]
    few = CountInterval(5, 10, 12, 0.95)
    rest = CountInterval(0, n - 10, n, 0.95)
    found = attribute_degeneracy(
        hessian, Inertia(CountInterval(0, 0, 3, 0.95), few, rest, 1e-12, 1e-14)
    )
    assert found.unexplained == CountInterval(0, 0, 0, 0.95)
    assert "18 null directions are verified" in found.notes[0]


def test_counts_of_another_matrix_are_refused() -> None:
    spectrum = ExactBackend().solve(np.diag([1.0, 2.0]))
    with pytest.raises(OptionError, match="2 eigenvalues, and the operator has 3"):
        attribute_degeneracy(np.eye(3), spectrum)


def test_gauss_newton_rank() -> None:
    """Fewer outputs than parameters: n − N c zeros at a fitted point, moved by H − G off it."""
    inputs = normal(4, 3)
    model = nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.Linear(6, 2))

    def gauss_newton(risk: EmpiricalRisk) -> MatrixOperator:
        def outputs(theta: torch.Tensor) -> torch.Tensor:
            named = risk.layout.unflatten(theta)
            return torch.func.functional_call(risk.model, named, inputs).flatten()

        jacobian = torch.autograd.functional.jacobian(outputs, risk.parameters)
        assert isinstance(jacobian, torch.Tensor)
        return MatrixOperator(2 * jacobian.T @ jacobian / 8)

    fitted = taught_by_itself(model, inputs)
    n = len(fitted.parameters)
    _, found = examined(fitted, gauss_newton=gauss_newton(fitted))
    rank = found.causes[-1]
    assert (rank.name, rank.directions) == (causes.GAUSS_NEWTON_RANK, n - 8)
    assert found.explained == found.degeneracy.estimate == n - 8
    # A step away from the fit the rank still bounds, but explains nothing at this tolerance.
    targets = fitted.targets + 1e-3 * normal(4, 2)
    near = EmpiricalRisk(model.double(), (inputs, targets), "mse", device="cpu")
    spectrum, apart = examined(near, gauss_newton=gauss_newton(near))
    rank = apart.causes[-1]
    assert rank.new == 0
    assert 1e-6 < rank.residual < 1e-2
    assert int((np.abs(spectrum.eigenvalues) <= rank.residual).sum()) >= n - 8
    _, wide = examined(near, gauss_newton=gauss_newton(near), tolerance=rank.residual)
    assert wide.explained >= n - 8


@pytest.mark.parametrize("loss", ["mse", "cross_entropy"])
def test_gauss_newton_rank_of_large_networks(loss: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the number of outputs, and ‖H − G‖₂ by Lanczos: both bounds hold."""
    monkeypatch.setattr("hessscope.degeneracy.attribution._DENSE", 0)
    model = nn.Sequential(nn.Linear(6, 7), nn.Tanh(), nn.Linear(7, 3))
    targets = torch.arange(5) % 3
    risk = EmpiricalRisk(model, (normal(5, 6), targets), loss, device="cpu")
    hessian, part = HessianOperator(risk), GaussNewtonOperator(risk)
    _, found = examined(risk, gauss_newton=part)
    rank = found.causes[-1]
    assert rank.directions == hessian.shape[0] - 5 * (3 if loss == "mse" else 2)
    exact = float(torch.linalg.matrix_norm(hessian.to_dense() - part.to_dense(), 2))
    assert exact <= rank.residual <= 1.2 * exact


def test_json_form() -> None:
    model, inputs = reached_in_part()
    risk = EmpiricalRisk(model, (inputs, torch.arange(60) % 4), device="cpu")
    _, found = examined(risk)
    made = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    assert made["explained"] == sum(made["causes"]["new"]) == 18
    assert made["unexplained"]["upper"] == 0
    assert {len(column) for column in made["causes"].values()} == {len(found.causes)}


# The command, the one-liner and the record


COMMAND = ("spectrum", "model.pt", "--data", "data.npz", "--activation", "tanh", "--device", "cpu")


def test_command_explains(run: Run, work: Path) -> None:
    outcome = run(*COMMAND, "--explain", "--json", "--out", "explained.h5")
    assert outcome.code == 0
    told = outcome.json["degeneracy_causes"]
    assert told["causes"]["name"] == [causes.SOFTMAX_SHIFT, causes.GAUSS_NEWTON_RANK]
    assert told["causes"]["new"] == [HIDDEN + 1, 0]
    # G has the null space of the outputs: here the shifts and no more.
    assert told["causes"]["directions"] == [HIDDEN + 1, HIDDEN + 1]
    assert told["degeneracy"].items() <= outcome.json["degeneracy"].items()
    record = hs.load_record("explained.h5")
    table = hs.tables.degeneracy_table(record)
    names = [causes.SOFTMAX_SHIFT, causes.GAUSS_NEWTON_RANK, "explained", "unexplained"]
    assert list(table.index) == names
    assert list(table["new"]) == [HIDDEN + 1, 0, HIDDEN + 1, 0]
    assert table.attrs["tolerance"] == outcome.json["tolerance"]

    shown = run(*COMMAND, "--explain")
    assert shown.code == 0
    assert "softmax shifts" in shown.out
    assert "unexplained" in shown.out

    plain = run(*COMMAND, "--json", "--out", "plain.h5")
    assert plain.json["degeneracy_causes"] is None
    with pytest.raises(OptionError, match="explain=True"):
        hs.tables.degeneracy_table(hs.load_record("plain.h5"))


def test_command_explains_what_lanczos_counts(run: Run, work: Path) -> None:
    lanczos = ("--backend", "lanczos", "--steps", 10, "--probes", 3, "--tolerance", 1e-3)
    outcome = run(*COMMAND, "--explain", "--json", *lanczos)
    assert outcome.json["degeneracy_causes"]["explained"] == HIDDEN + 1
    assert outcome.json["degeneracy_causes"]["unexplained"]["confidence"] == 0.95


def test_the_pyhessian_backend_has_nothing_to_explain(run: Run, work: Path) -> None:
    outcome = run(*COMMAND, "--explain", "--backend", "pyhessian")
    assert outcome.code == 2
    assert "leave out --explain" in outcome.error


def test_one_liner_explains(work: Path) -> None:
    report = hs.spectrum("model.pt", "data.npz", activation="tanh", device="cpu", explain=True)
    assert report.causes is not None
    assert report.causes.explained == HIDDEN + 1
    table = hs.tables.degeneracy_table(report.causes)
    assert table.loc[causes.SOFTMAX_SHIFT, "evidence"] == "each direction"


# The real thing


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_mnist_network(data_folder: Path) -> None:
    """784-25-10 with all images: zero rows, dependent inputs and shifts, and nothing else."""
    data = hs.load_data("mnist", root=data_folder)
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 25), nn.ReLU(), nn.Linear(25, 10))
    train(model, data, epochs=6)
    risk = EmpiricalRisk(model, data, device="cpu")
    hessian = HessianOperator(risk)
    n = hessian.shape[0]
    # The exact spectrum takes half an hour; a wide interval instead.
    open_count = CountInterval(0, n, n, 0.95)
    none = CountInterval(0, 0, n, 0.95)
    tolerance = 1e-14
    found = attribute_degeneracy(hessian, Inertia(none, open_count, none, tolerance, tolerance / 2))
    by_name = {cause.name: cause for cause in found.causes}

    # Independently: pre-activations say which unit is active where, pixels which inputs it meets.
    assert isinstance(data.inputs, torch.Tensor)
    inputs = data.inputs.flatten(1).double()
    weights, bias = model[1].weight.detach().double(), model[1].bias.detach().double()
    active = inputs @ weights.T + bias > 0
    met = (active.T.float() @ (inputs > 0).float()) > 0
    dead = int((inputs == 0).all(0).sum())
    idle = int((~active.any(0)).sum())
    assert dead == 67
    assert by_name[causes.DEAD_INPUTS].new == dead * 25
    zero_rows = sum(c.new for c in found.causes if c.evidence == "random products")
    assert zero_rows == int((~met).sum()) + idle + 10 * idle  # biases of idle units; outgoing
    # Dependent inputs: what is lacking to full rank of what each unit sees, by singular values.
    lacking = 0
    for unit in range(25):
        seen = inputs[active[:, unit]][:, met[unit]]
        if len(seen):
            seen = torch.cat([seen, torch.ones(len(seen), 1, dtype=seen.dtype)], 1)
            sizes = torch.linalg.svdvals(torch.linalg.qr(seen, mode="r").R)
            small = sizes < 1e-10 * sizes[0]
            assert not bool(((sizes > 1e-13 * sizes[0]) & (sizes < 1e-8 * sizes[0])).any())
            lacking += int(small.sum()) + max(seen.shape[1] - len(sizes), 0)
    assert by_name[causes.DEPENDENT_INPUTS].new == lacking
    shift = by_name[causes.SOFTMAX_SHIFT]
    assert (shift.directions, shift.new) == (26, 26 - idle)
    assert found.explained == zero_rows + lacking + 26 - idle
    # At the noise floor; and the rescalings are seen, verified, and not counted.
    assert found.residual < 2e-15
    rescaling = by_name[causes.RESCALING]
    assert (rescaling.directions, rescaling.new) == (25, 0)
    assert rescaling.identity < 1e-15 < 1e-4 < rescaling.residual
