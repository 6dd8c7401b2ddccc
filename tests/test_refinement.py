"""Refinement where the critical points are known, and what must not pass for one."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import hessscope as hs
from closed_forms import LinearAutoencoderPoint
from exact_points import distance_to_critical_set
from hessscope.criticality.evidence import newton_lengths
from hessscope.criticality.null_spaces import verified_null_space
from hessscope.errors import MemoryLimitError, OptionError, PrecisionWarning, UnknownNameError
from hessscope.limits import resident_memory
from hessscope.linalg.krylov import krylov_basis
from hessscope.linalg.minres import minres
from hessscope.objective.boundaries import Boundary, nearest_boundary
from hessscope.operators import dense_products
from hessscope.refinement import SearchOptions, Strategy, finder
from hessscope.refinement.directions import Direction, SingleStep
from hessscope.refinement.lipschitz import lipschitz_estimate
from hessscope.refinement.newton import DampedNewton
from hessscope.refinement.points import Point
from hessscope.refinement.search import first_state, run
from hessscope.refinement.states import Step
from hessscope.registry import METHODS

EIGENVALUES = (3.0, 2.0, 1.2, 0.7, 0.3)
SEVEN = (4.0, 3.1, 2.3, 1.6, 1.0, 0.5, 0.2)
NEWTON_TYPE = ("newton", "damped_newton", "newton_mr")
Function = Callable[[torch.Tensor], torch.Tensor]


def saddle(x: torch.Tensor) -> torch.Tensor:
    return 5 * x[0] ** 2 - x[1] ** 2


def monkey_saddle(x: torch.Tensor) -> torch.Tensor:
    return x[0] ** 3 - 3 * x[0] * x[1] ** 2


def refine(function: Function, start: list[float], method: str = "newton", **options: object):
    return hs.refine(hs.FunctionObjective(function, start), method, **options)


def points_of(
    hidden: int, seed: int = 0, eigenvalues: tuple[float, ...] = EIGENVALUES
) -> list[LinearAutoencoderPoint]:
    """Every critical point of an autoencoder, one of each gauge orbit."""
    return [
        LinearAutoencoderPoint(eigenvalues, hidden, chosen, seed=seed)
        for r in range(hidden + 1)
        for chosen in itertools.combinations(range(len(eigenvalues)), r)
    ]


def random_start(risk: hs.EmpiricalRisk, seed: int, scale: float) -> torch.Tensor:
    stream = torch.Generator().manual_seed(seed)
    return scale * torch.randn(len(risk.parameters), generator=stream, dtype=torch.float64)


# The pictures: 5x² − y² and the monkey saddle.


@pytest.mark.parametrize("method", ["newton", "damped_newton", "newton_mr", "gradient_norm"])
def test_the_saddle_attracts_newton(method: str) -> None:
    point = refine(saddle, [1.0, 0.1], method)
    assert point.status == "converged"
    assert float(point.parameters.abs().max()) < 1e-14
    assert point.classification == "saddle"
    assert (point.inertia.negative.estimate, point.inertia.zero.estimate) == (1, 0)
    assert point.certificate.level == "kantorovich"
    # H is constant: K is zero but for rounding.
    assert point.certificate.lipschitz < 1e-9


@pytest.mark.parametrize("method", ["sfn", "krylov_sfn", "gradient_descent"])
def test_the_saddle_repels_descent(method: str) -> None:
    point = refine(saddle, [1.0, 0.1], method)
    assert point.status == "diverging"
    assert abs(float(point.parameters[1])) > 1e5
    assert np.all(np.diff(point.trace.column("loss")) < 0)


def test_the_monkey_saddle_is_undecided_and_not_certified() -> None:
    point = refine(monkey_saddle, [1.0, 0.7])
    assert point.status == "converged"
    # At a double root Newton halves the distance, and the theorem cannot hold (β grows without
    # bound); both eigenvalues are zero to within what is known of them.
    norms = point.trace.column("parameter_norm")
    assert norms[10] / norms[9] == pytest.approx(0.5, abs=1e-6)
    assert point.inertia.zero.lower == 2
    assert point.classification == "undecided to second order"
    assert point.certificate.level == "residual-only"
    assert "above ½" in point.certificate.reason


@pytest.mark.parametrize("method", ["sfn", "krylov_sfn"])
def test_saddle_free_newton_leaves_the_monkey_saddle(method: str) -> None:
    point = refine(monkey_saddle, [0.1, 0.07], method, max_iterations=20)
    assert point.loss < -1.0


# Ends that are not critical points.


def test_a_gradient_flat_point_is_said_to_be_one() -> None:
    # g = 1 + x² never vanishes; ½g² has its minimum at 0, where g' = 0.
    point = refine(lambda x: x[0] + x[0] ** 3 / 3, [1.0])
    assert point.status == "gradient_flat"
    assert point.gradient_norm == pytest.approx(1.0, abs=1e-4)
    assert not point.certificate.certified
    assert point.classification.startswith("not a critical point")


@pytest.mark.parametrize("method", ["newton", "newton_mr", "gradient_norm", "damped_newton"])
def test_a_slope_is_gradient_flat_everywhere(method: str) -> None:
    """The Hessian is exactly zero, the gradient is not."""
    point = refine(lambda x: 3 * x[0] - x[1], [1.0, 2.0], method)
    assert point.status == "gradient_flat"
    assert point.certificate.flatness == 1.0
    assert point.inertia.zero.estimate == 2


@pytest.mark.parametrize("method", [*METHODS])
def test_a_zero_gradient_at_the_start_is_converged(method: str) -> None:
    point = refine(lambda x: ((x - 1) ** 2).sum(), [1.0, 1.0], method)
    assert (point.status, point.iterations) == ("converged", 0)
    assert point.classification == "minimum"


@pytest.mark.parametrize("method", [*METHODS])
def test_separable_data_diverge(method: str) -> None:
    """The gradient falls like exp(−s), and there is no critical point at a finite distance."""
    inputs = torch.tensor([[1.0], [-1.0], [2.0]], dtype=torch.float64)
    model = nn.Linear(1, 1, bias=False, dtype=torch.float64)
    with torch.no_grad():
        model.weight.fill_(1.0)
    labels = torch.tensor([[1.0], [0.0], [1.0]])
    point = hs.refine(hs.EmpiricalRisk(model, (inputs, labels), "bce", device="cpu"), method)
    assert point.status in ("diverging", "max_iterations")
    assert point.status == "diverging" or method == "gradient_descent"
    assert float(point.parameters[0]) > 5


def test_steps_into_nan_are_rejected() -> None:
    # −log x + x, defined for x > 0 only: a full Newton step from 3 leads to −3.
    point = refine(lambda x: x[0] - torch.log(x[0]), [3.0], "newton", globalisation="backtracking")
    assert point.status == "converged"
    assert float(point.parameters[0]) == pytest.approx(1.0, abs=1e-12)
    assert np.isfinite(point.trace.column("loss")).all()


def test_steps_that_overflow_are_rejected() -> None:
    # From −1 the full Newton step of eˣ − 1000x goes to 2,717, where eˣ is infinite.
    options = {"globalisation": "backtracking"}
    point = refine(lambda x: torch.exp(x[0]) - 1000 * x[0], [-1.0], "newton", **options)
    assert point.trace.column("scale")[1] < 1.0
    assert np.isfinite(point.trace.column("loss")).all()
    assert point.status == "converged"
    assert float(point.parameters[0]) == pytest.approx(math.log(1000), abs=1e-12)


@pytest.mark.parametrize("method", ["sfn", "krylov_sfn", "gradient_descent"])
@pytest.mark.parametrize("function", [torch.log, torch.sqrt, lambda x: -1 / x])
def test_a_pole_is_no_critical_point(function: Function, method: str) -> None:
    """Towards 0 the rounding floor grows faster than the gradient, which is infinite there."""
    point = refine(lambda x: function(x[0]), [1.0], method)
    assert point.status == "diverging"
    assert "‖g‖ has grown" in point.diagnosis
    assert not point.certificate.certified
    assert point.classification.startswith("not a critical point")


@pytest.mark.filterwarnings("ignore:the matrix is uncertain")
def test_saturated_outputs_have_no_symmetries() -> None:
    """All gradients underflow around θ, and no parameter is without influence."""
    inputs = torch.tensor([[1.0, 0.2], [0.8, -0.1], [-1.0, 0.3], [-0.7, -0.2]])
    model = nn.Linear(2, 2, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[150.0, 0.0], [-150.0, 0.0]]))
    data = (inputs, torch.tensor([0, 0, 1, 1]))
    point = hs.refine(hs.EmpiricalRisk(model, data, "cross_entropy", dtype="float32", device="cpu"))
    assert point.gradient_norm == 0.0
    assert point.certificate.level == "residual-only"
    # In float64 the gradient is 1e-92, and falls for ever.
    wide = hs.refine(hs.EmpiricalRisk(model, data, "cross_entropy", dtype="float64", device="cpu"))
    assert wide.status == "diverging"


def test_a_gradient_tolerance_is_what_counts_as_zero() -> None:
    options = {"gradient_tolerance": 1e-5}
    point = refine(lambda x: 1e3 * (torch.cosh(x) - 1).sum(), [1e-9], **options)
    assert (point.status, point.iterations) == ("converged", 0)
    assert "at most the 1e-05 asked for" in point.diagnosis
    assert point.classification == "minimum"
    # The theorem needs no such tolerance: the true point, 0, is within the radius.
    assert point.certificate.level == "kantorovich"
    assert 1e-9 <= point.certificate.radius < 1.1e-9


def test_a_remedy_names_a_method_that_there_is() -> None:
    flat = refine(lambda x: x[0] + x[0] ** 3 / 3, [1.0])
    found = re.search(r"go down with (\w+) first", flat.diagnosis)
    assert found is not None
    assert found[1] in METHODS


def test_a_start_that_is_not_finite_is_reported() -> None:
    point = refine(lambda x: torch.log(x[0]), [-1.0])
    assert point.status == "non_finite"
    assert point.inertia is None
    assert "begin elsewhere" in point.diagnosis


def test_the_number_of_steps_is_kept() -> None:
    point = refine(monkey_saddle, [1.0, 0.7], max_iterations=3)
    assert (point.status, point.iterations) == ("max_iterations", 3)
    assert len(point.trace) == 4


# Linear autoencoders.


def check_against_closed_form(
    point: hs.CriticalPoint, hidden: int, eigenvalues: tuple[float, ...] = EIGENVALUES
) -> None:
    """Loss, index and nullity of a critical point that theory knows."""
    family = points_of(hidden, eigenvalues=eigenvalues)
    known = [p for p in family if abs(p.loss - point.loss) <= 1e-10]
    assert known, f"{point.loss} is the loss of no critical point"
    counts = {(p.index, p.nullity) for p in known}
    assert (point.inertia.negative.estimate, point.inertia.zero.estimate) in counts
    assert point.inertia.decided


def search_autoencoders(
    method: str, starts: int, hidden: int, eigenvalues: tuple[float, ...] = EIGENVALUES
) -> tuple[int, int, list[hs.CriticalPoint]]:
    """Searches from random starts and from near saddles of each index."""
    family = points_of(hidden, hidden, eigenvalues)
    converged, certified, points = 0, 0, []
    for number in range(starts):
        near = family[number % len(family)]
        risk = near.risk()
        if number % 2:
            start = risk.parameters + random_start(risk, number, 0.05)
        else:
            start = random_start(risk, number, (0.3, 1.0)[number // 2 % 2])
        point = hs.refine(risk, method, start=start)
        points.append(point)
        if point.status != "converged":
            continue
        converged += 1
        check_against_closed_form(point, hidden, eigenvalues)
        if point.certificate.certified:
            certified += 1
            distance = distance_to_critical_set(risk, point.parameters, hidden)
            assert distance <= point.certificate.radius
    return converged, certified, points


@pytest.mark.parametrize("method", ["newton", "newton_mr"])
def test_autoencoder_searches_converge(method: str) -> None:
    converged, certified, _ = search_autoencoders(method, 8, hidden=2)
    assert converged >= 7
    assert certified >= 7


@pytest.mark.slow
@pytest.mark.parametrize(
    ("hidden", "eigenvalues"), [(1, EIGENVALUES), (2, EIGENVALUES), (3, EIGENVALUES), (2, SEVEN)]
)
@pytest.mark.parametrize("method", NEWTON_TYPE)
def test_autoencoder_searches_converge_from_200_starts(
    method: str, hidden: int, eigenvalues: tuple[float, ...]
) -> None:
    starts = 200 if method == "newton" else 60
    converged, certified, _ = search_autoencoders(method, starts, hidden, eigenvalues)
    assert converged >= 0.95 * starts
    assert certified >= 0.9 * converged


@pytest.mark.parametrize("method", ["sfn", "krylov_sfn"])
@pytest.mark.parametrize("chosen", [(0, 2), (1, 3), (2,)])
def test_newton_returns_to_a_saddle_and_sfn_leaves_it(method: str, chosen: tuple[int, ...]) -> None:
    known = LinearAutoencoderPoint(EIGENVALUES, 2, chosen, seed=1)
    risk = known.risk()
    start = risk.parameters + random_start(risk, 5, 0.01)
    back = hs.refine(risk, "newton", start=start)
    assert back.status == "converged"
    assert back.loss == pytest.approx(known.loss, abs=1e-10)
    assert back.inertia.negative.estimate == known.index > 0
    left = hs.refine(risk, method, start=start)
    assert left.status == "converged"
    assert left.loss < known.loss - 1e-3
    check_against_closed_form(left, 2)
    # From a random direction it gets all the way down.
    assert left.loss == pytest.approx(LinearAutoencoderPoint(EIGENVALUES, 2, (0, 1)).loss)


def deep_autoencoder(widths: tuple[int, ...], seed: int) -> hs.EmpiricalRisk:
    """x → W_L … W_1 x on data whose second moment has the eigenvalues above."""
    one = LinearAutoencoderPoint(EIGENVALUES, 1, (0,), seed=3).risk()
    torch.manual_seed(seed)
    layers = [
        nn.Linear(a, b, bias=False, dtype=torch.float64) for a, b in itertools.pairwise(widths)
    ]
    return hs.EmpiricalRisk(nn.Sequential(*layers), (one.inputs, one.inputs), "mse", device="cpu")


DEEP = [(5, 2, 2, 5), (5, 3, 2, 5), (5, 2, 4, 3, 5)]


@pytest.mark.parametrize("number", range(4))
@pytest.mark.parametrize("widths", DEEP)
def test_deep_linear_networks_end_at_known_losses(widths: tuple[int, ...], number: int) -> None:
    """At every critical point the product is the projection onto some eigenvectors."""
    risk = deep_autoencoder(widths, number)
    point = hs.refine(risk, "newton", start=random_start(risk, number, 0.7))
    # Layers of less than full rank have null directions that no symmetry explains.
    assert point.status in ("converged", "flat_at_tolerance")
    losses = [p.loss for p in points_of(2)]
    assert min(abs(loss - point.loss) for loss in losses) <= 1e-10


@pytest.mark.parametrize("chosen", [(0, 1), (0, 3), (2, 4)])
@pytest.mark.parametrize("widths", DEEP)
def test_inertia_of_deep_linear_networks_at_full_rank(
    widths: tuple[int, ...], chosen: tuple[int, ...]
) -> None:
    """By the manifold of matrices of rank p, which the product is a submersion onto.

    Its dimension is p(2d − p), and on it the loss has as many descent directions as there are pairs
    (i in S, j not in S) with λ_j > λ_i.
    """
    d, p = len(EIGENVALUES), 2
    risk = deep_autoencoder(widths, 0)
    u = torch.linalg.eigh(risk.inputs.T @ risk.inputs)[1].flip(1)[:, list(chosen)]
    inner = [torch.eye(b, a, dtype=torch.float64) for a, b in itertools.pairwise(widths[1:-1])]
    first = torch.eye(widths[1], p, dtype=torch.float64) @ u.T
    last = u @ torch.eye(p, widths[-2], dtype=torch.float64)
    near = torch.cat([part.flatten() for part in (first, *inner, last)])
    point = hs.refine(risk, "newton", start=near + random_start(risk, 1, 0.05))
    # Where all widths are p, the gauge explains every zero; else layers have null spaces, too.
    explained = widths == (d, p, p, d)
    assert point.status == ("converged" if explained else "flat_at_tolerance")
    known = LinearAutoencoderPoint(EIGENVALUES, p, chosen)
    assert point.loss == pytest.approx(known.loss, abs=1e-10)
    assert point.inertia.negative.estimate == known.index
    assert point.inertia.zero.estimate == len(risk.parameters) - p * (2 * d - p)
    assert point.certificate.level == ("kantorovich-quotient" if explained else "residual-only")


# The state of a search.


def stop_after(steps: int) -> Callable[[hs.SearchState], bool]:
    return lambda state: state.iterations >= steps


def without_times(trace: hs.Trace) -> np.ndarray:
    columns = trace.arrays()
    return np.stack([columns[name] for name in sorted(columns) if name != "trace/seconds"])


@pytest.mark.parametrize("method", ["newton", "krylov_sfn", "newton_mr", "damped_newton"])
def test_a_resumed_search_gives_the_same_bits(method: str, tmp_path: Path) -> None:
    risk = LinearAutoencoderPoint(EIGENVALUES, 2, (0, 1)).risk()
    start = random_start(risk, 11, 1.0)
    whole = hs.refine(risk, method, start=start)
    first = hs.refine(risk, method, start=start, observer=stop_after(2))
    assert first.status == "interrupted"
    assert first.inertia is None
    path = tmp_path / "search.h5"
    hs.write_record(first.to_record(), path)
    state = hs.SearchState.from_record(hs.load_record(path))
    second = hs.refine(risk, method, resume=state)
    assert torch.equal(second.parameters, whole.parameters)
    np.testing.assert_array_equal(without_times(second.trace), without_times(whole.trace))
    assert second.status == whole.status == "converged"


def test_a_keyboard_interrupt_gives_up_the_step_only() -> None:
    calls = 0

    def interrupted(x: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls == 60:
            raise KeyboardInterrupt
        return monkey_saddle(x)

    point = refine(interrupted, [1.0, 0.7])
    assert point.status == "interrupted"
    assert point.iterations >= 1
    whole = refine(monkey_saddle, [1.0, 0.7], max_iterations=point.iterations)
    assert torch.equal(point.parameters, whole.parameters)


def test_a_result_survives_its_record(tmp_path: Path) -> None:
    known = LinearAutoencoderPoint(EIGENVALUES, 2, (0, 1))
    point = hs.refine(known.risk(), start=random_start(known.risk(), 3, 1.0))
    path = tmp_path / "point.h5"
    hs.write_record(point.to_record({"note": "kept"}), path)
    again = hs.CriticalPoint.from_record(hs.load_record(path))
    assert torch.equal(again.parameters, point.parameters)
    assert again.status == point.status
    assert again.inertia == point.inertia
    assert again.tolerance_source == point.tolerance_source
    assert again.certificate.as_dict() == pytest.approx(point.certificate.as_dict(), nan_ok=True)
    assert again.classification == point.classification
    assert again.spectrum is not None
    np.testing.assert_array_equal(again.spectrum.eigenvalues, point.spectrum.eigenvalues)
    assert hs.load_record(path).attributes["note"] == "kept"


def test_a_result_without_a_spectrum_survives_its_record() -> None:
    point = refine(monkey_saddle, [1.0, 0.7], observer=stop_after(1))
    again = hs.CriticalPoint.from_record(point.to_record())
    assert (again.status, again.spectrum, again.inertia) == ("interrupted", None, None)


@pytest.mark.parametrize("method", ["newton", "damped_newton", "newton_mr", "gradient_norm"])
def test_another_method_is_judged_by_its_own_steps(method: str) -> None:
    """A descent from near a saddle raises ‖g‖ by orders of magnitude, which is not the next's."""

    def function(x: torch.Tensor) -> torch.Tensor:
        return x[0] ** 2 / 2 - x[1] ** 2 / 2 + x[1] ** 4 / 4 + 0.05 * x[0] * x[1] ** 2

    objective = hs.FunctionObjective(function, [1e-5, 1e-6])
    options = {"globalisation": "fixed", "fraction": 0.02, "max_iterations": 520}
    first = hs.refine(objective, "gradient_descent", **options)
    assert first.gradient_norm > 1e3 * first.gradient_norm_start
    second = hs.refine(objective, method, resume=first.state, max_iterations=3000)
    assert second.status == "converged"
    assert second.iterations > first.iterations


@pytest.mark.parametrize("method", ["krylov_sfn", "newton"])
def test_a_search_goes_on_in_another_type(method: str) -> None:
    risk = LinearAutoencoderPoint(EIGENVALUES, 2, (0, 1)).risk()
    narrow = hs.EmpiricalRisk(
        risk.model, (risk.inputs, risk.inputs), "mse", dtype="float32", device="cpu"
    )
    start = random_start(risk, 11, 1.0)
    first = hs.refine(narrow, method, start=start, observer=stop_after(2))
    again = hs.refine(risk, method, resume=first.state)
    assert again.parameters.dtype == torch.float64
    assert again.status == "converged"


def test_where_the_tolerance_comes_from() -> None:
    """From the noise floor, from what moves an eigenvalue on the way, or from the caller."""
    exact = refine(saddle, [1.0, 0.1])
    assert exact.inertia.tolerance == 2 * exact.inertia.noise_floor
    assert exact.tolerance_source == "2δ"
    cubic = refine(monkey_saddle, [1.0, 0.1])
    assert cubic.inertia.tolerance > 2 * cubic.inertia.noise_floor
    assert "distance" in cubic.tolerance_source
    assert refine(saddle, [1.0, 0.1], tolerance=1e-3).tolerance_source == "given"


# Certificates.


def test_the_radius_covers_the_known_root() -> None:
    """x − cos x as a gradient: its root is known to 30 digits (the Dottie number)."""
    root = 0.739085133215160641655312087673873404
    objective = hs.FunctionObjective(lambda x: x[0] ** 2 / 2 - torch.sin(x[0]), [1.0])
    for offset in (1e-2, 1e-4, 1e-8):
        start = torch.tensor([root + offset], dtype=torch.float64)
        point = hs.refine(objective, start=start, max_iterations=0)
        assert point.certificate.level == "residual-only"
        assert "test of a critical point" in point.certificate.reason
    point = hs.refine(objective)
    certificate = point.certificate
    assert certificate.level == "kantorovich"
    assert abs(float(point.parameters[0]) - root) <= certificate.radius < 1e-13
    # β = 1/(1 + sin x), K = |cos x|, twice for safety.
    assert certificate.inverse_norm == pytest.approx(1 / (1 + math.sin(root)), rel=1e-9)
    assert certificate.lipschitz == pytest.approx(2 * math.cos(root), rel=1e-5)
    assert certificate.h == pytest.approx(
        certificate.inverse_norm * certificate.lipschitz * certificate.newton_length
    )


def test_the_lipschitz_constant_of_a_cubic_is_found() -> None:
    """For f = T(x, x, x)/6 it is the spectral norm of T; here T has a known one."""
    stream = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(6, 6, generator=stream, dtype=torch.float64))[0]
    sizes = torch.tensor([2.0, -1.5, 1.0, 0.5, 0.2, 0.1], dtype=torch.float64)
    # An orthogonally decomposable tensor: its norm is the largest coefficient.
    objective = hs.FunctionObjective(
        lambda x: (sizes * (basis.T @ x) ** 3).sum() / 6, torch.zeros(6)
    )
    found = lipschitz_estimate(hs.HessianOperator(objective))
    assert found <= 2.0 * (1 + 1e-6)
    assert found >= 0.7 * 2.0


def test_curvature_that_changes_within_the_radius_is_seen() -> None:
    """H = 1 − 0.9 w sin(x/w): K is 0.9 on a scale that the first differences step over."""
    w = 1e-6
    point = refine(lambda x: x[0] ** 2 / 2 + 0.9 * w**3 * torch.sin(x[0] / w), [1e-8])
    assert point.status == "converged"
    assert point.certificate.lipschitz >= 0.9


def test_a_curvature_below_its_noise_is_not_inverted() -> None:
    sizes = torch.tensor([1.0, 1e-16], dtype=torch.float64)
    with pytest.warns(PrecisionWarning, match="below twice the noise floor"):
        point = refine(lambda x: (sizes * x**2).sum(), [0.3, 0.0], tolerance=0.0)
    assert point.certificate.level == "residual-only"
    assert "below its noise floor" in point.certificate.reason


def test_without_eigenvectors_zeros_are_not_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    known = LinearAutoencoderPoint(EIGENVALUES, 2, (0, 1))
    monkeypatch.setattr(finder, "VECTORS_UP_TO", 0)
    point = hs.refine(known.risk(), start=random_start(known.risk(), 3, 1.0))
    assert point.status == "converged"
    assert point.certificate.level == "residual-only"
    assert "takes eigenvectors" in point.certificate.reason
    # Where nothing is zero the theorem applies all the same, with β‖g‖ for the Newton step.
    regular = refine(saddle, [1.0, 0.1])
    assert regular.certificate.level == "kantorovich"
    floor = regular.gradient_norm + regular.certificate.gradient_floor
    assert regular.certificate.newton_length == pytest.approx(
        regular.certificate.inverse_norm * floor
    )


def test_a_zero_that_no_symmetry_explains_is_not_certified() -> None:
    point = refine(lambda x: x[0] ** 2 + x[1] ** 4, [1.0, 1e-9])
    assert point.status == "flat_at_tolerance"
    assert point.classification.startswith("flat at the tolerance (1 eigenvalue within ±τ")
    assert point.certificate.level == "residual-only"
    assert "not explained by verified symmetries" in point.certificate.reason


def test_a_gutter_is_certified_by_its_rotation() -> None:
    """(‖x‖² − 1)², a circle of minima: figure 5d of the 2014 paper."""

    def bottle(x: torch.Tensor) -> torch.Tensor:
        return (x[0] ** 2 + x[1] ** 2 - 1) ** 2

    def rotation(x: torch.Tensor) -> torch.Tensor:
        return torch.stack([-x[1], x[0]])[:, None]

    bare = refine(bottle, [0.9, 0.6])
    assert bare.certificate.level == "residual-only"
    point = refine(bottle, [0.9, 0.6], symmetries=rotation)
    assert point.certificate.level == "kantorovich-quotient"
    assert abs(float(point.parameters.norm()) - 1) <= point.certificate.radius
    assert point.classification == "undecided to second order"


@pytest.mark.parametrize("slope", [1e-13, 1e-15])
def test_a_symmetry_that_is_hardly_broken_certifies_nothing(slope: float) -> None:
    """With slope·x₀ added the only critical points near the circle are at (±1, 0)."""

    def tilted(x: torch.Tensor) -> torch.Tensor:
        return (x[0] ** 2 + x[1] ** 2 - 1) ** 2 + slope * x[0]

    def rotation(x: torch.Tensor) -> torch.Tensor:
        return torch.stack([-x[1], x[0]])[:, None]

    for start in ([0.9, 0.6], [0.5, 1.0], [-0.2, 0.8]):
        point = refine(tilted, start, symmetries=rotation)
        assert point.certificate.level == "residual-only"
        assert point.status != "converged"


def test_supposed_symmetries_are_verified() -> None:
    objective = hs.FunctionObjective(saddle, [1.0, 0.5])

    def wrong(x: torch.Tensor) -> torch.Tensor:
        return torch.stack([-x[1], x[0]])[:, None]

    null = verified_null_space(objective, objective.parameters, wrong)
    assert null.basis().shape == (2, 0)
    assert null.note == "1 of 1 supposed symmetries change the loss"
    with pytest.raises(OptionError, match=r"symmetries gave shape \(2,\)"):
        verified_null_space(objective, objective.parameters, lambda x: x)


def test_parameters_without_influence_are_symmetries() -> None:
    objective = hs.FunctionObjective(lambda x: x[0] ** 2 * x[2], [1.0, 2.0, 3.0])
    basis = verified_null_space(objective, objective.parameters, None).basis()
    assert basis.abs().tolist() == [[0.0], [1.0], [0.0]]


def relu_network() -> hs.EmpiricalRisk:
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1)).double()
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
        model[0].bias.copy_(torch.tensor([0.5, -3.0]))
    inputs = torch.tensor([[1.0, 1.0], [-1.0, 2.0], [2.0, -1.0]], dtype=torch.float64)
    return hs.EmpiricalRisk(model, (inputs, torch.ones(3, 1)), "mse", device="cpu")


def test_distance_to_the_nearest_kink() -> None:
    risk = relu_network()
    # z = x₁ + ½ and x₂ − 3; ∂z/∂θ is (x, 1). The nearest: |−1 + ½| over √(1 + 4 + 1).
    assert nearest_boundary(risk, risk.parameters).distance == pytest.approx(0.5 / math.sqrt(6))
    smooth = hs.EmpiricalRisk(
        nn.Sequential(nn.Linear(2, 2), nn.Tanh(), nn.Linear(2, 1)),
        (torch.ones(3, 2), torch.ones(3, 1)),
        "mse",
        device="cpu",
    )
    assert nearest_boundary(smooth, smooth.parameters).distance == math.inf


def test_functional_and_second_layer_kinks_are_seen() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(2, 2), nn.Linear(2, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.leaky_relu(self.second(torch.tanh(self.first(x))))

    data = (torch.randn(20, 2, dtype=torch.float64), torch.ones(20, 1))
    risk = hs.EmpiricalRisk(Net(), data, "mse", device="cpu")
    theta = risk.parameters.requires_grad_(True)
    parts = risk.layout.unflatten(theta)
    hidden = torch.tanh(risk.inputs @ parts["first.weight"].T + parts["first.bias"])
    z = (hidden @ parts["second.weight"].T + parts["second.bias"])[:, 0]
    distances = [
        abs(zi.item()) / torch.autograd.grad(zi, theta, retain_graph=True)[0].norm().item()
        for zi in z
    ]
    assert nearest_boundary(risk, risk.parameters).distance == pytest.approx(min(distances))


class Scaled(nn.Module):
    """w·x through a function."""

    def __init__(self, weight: float, function: Function) -> None:
        super().__init__()
        self.weight, self.function = nn.Parameter(torch.tensor([[weight]])), function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x @ self.weight)


def boundary_of(weight: float, function: Function) -> Boundary:
    data = (torch.ones(4, 1), torch.ones(4, 1))
    risk = hs.EmpiricalRisk(Scaled(weight, function), data, "mse", dtype="float64", device="cpu")
    return nearest_boundary(risk, risk.parameters)


@pytest.mark.parametrize(
    ("weight", "function", "kink"),
    [
        (5.75, nn.ReLU6(), 6.0),
        (1.75, nn.Hardtanh(-2, 2), 2.0),
        (0.25, nn.Softshrink(0.375), 0.375),
        (0.25, nn.Hardshrink(), 0.5),
        (0.25, nn.Threshold(0.125, 0.0), 0.125),
        (0.25, lambda z: z.clamp(min=0), 0.0),
        (0.25, lambda z: torch.clamp(z, max=1.0), 1.0),
        (0.25, lambda z: torch.clamp_max(z, 1.0), 1.0),
        (0.25, lambda z: (1.0 * z).clamp_(-1.0, 0.5), 0.5),
        (0.25, lambda z: (1.0 * z).abs_(), 0.0),
        (0.25, lambda z: torch.relu_(1.0 * z), 0.0),
        (0.25, lambda z: torch.maximum(z, 0.125 * torch.ones_like(z)), 0.125),
        (0.25, lambda z: z * (z > 0), 0.0),
        (0.25, lambda z: z * (z >= 0.125), 0.125),
        (0.25, lambda z: z * z.lt(1.0), 1.0),
        (0.25, lambda z: z.masked_fill(z < 0, 0.0), 0.0),
        (0.25, lambda z: torch.where(z > 0.5, z, 0 * z), 0.5),
        (0.25, lambda z: z * torch.sign(z), 0.0),
        (0.25, lambda z: nn.functional.l1_loss(z, 0 * z, reduction="none"), 0.0),
        (0.25, lambda z: nn.functional.huber_loss(z, 0 * z, reduction="none", delta=0.5), 0.5),
        (
            0.25,
            lambda z: nn.functional.smooth_l1_loss(z, 0 * z, reduction="none", beta=0.125),
            0.125,
        ),
    ],
)
def test_kinks_are_where_the_function_has_them(
    weight: float, function: Function, kink: float
) -> None:
    """∂z/∂w = 1."""
    found = boundary_of(weight, function)
    assert found.determined
    assert found.distance == pytest.approx(abs(weight - kink))


@pytest.mark.parametrize(
    ("function", "distance"),
    [
        # Of w = ¼: where two are equal, at whole numbers, at means and in windows.
        (lambda z: torch.cat([z, 2 * z], 1).amax(1, keepdim=True), 0.25),
        (lambda z: torch.cat([z, 0.75 - z], 1).max(1)[0][:, None], 0.125),
        (lambda z: torch.cat([z, z**2, 0.5 - 2 * z], 1).sort(1)[0][:, :1], 0.025),
        (lambda z: torch.cat([z, 1 - z, z - 2], 1).topk(1, 1)[0], 0.25),
        (lambda z: torch.cat([z, 0.5 - 2 * z], 1).median(1)[0][:, None], 1 / 12),
        (lambda z: z * (z.mean() > 0), 0.25),
        (lambda z: z + 0.1 * torch.floor(z), 0.25),
        (lambda z: z + 0.1 * torch.round(z), 0.25),
        (lambda z: z % 2.0, 0.25),
        (lambda z: torch.div(z, 0.2, rounding_mode="floor"), 0.05),
        (
            lambda z: nn.functional.max_pool1d(torch.stack([z, 0.1 + 0 * z], 2), 2)[:, 0],
            0.15,
        ),
        (lambda z: torch.relu(z.repeat(1, 2).reshape(-1)).reshape(-1, 2)[:, :1], 0.25),
        (lambda z: z + 0.1 * torch.abs(z.mean() - 3), 2.75),
        (lambda z: torch.clamp(z, max=torch.full_like(z, 3.0)), 2.75),
        (lambda z: torch.linalg.vector_norm(z - 1, dim=1, keepdim=True), 0.75),
        (lambda z: (z + 0.5) ** 1.5, 0.75),
        (lambda z: torch.sqrt(z**2), 0.125),
        (nn.functional.softplus, 19.75),
    ],
)
def test_kinks_between_values_and_at_whole_numbers(function: Function, distance: float) -> None:
    """To first order: z² is at 0 after half the way by its slope."""
    found = boundary_of(0.25, function)
    assert found.determined
    assert found.distance == pytest.approx(distance)


class Straight(torch.autograd.Function):
    """Its backward pass is not its derivative."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x)

    @staticmethod
    def backward(ctx: Any, g: torch.Tensor) -> torch.Tensor:
        return g


def half_by_values(z: torch.Tensor) -> torch.Tensor:
    return z if float(z.detach()[0]) > 0 else 2 * z


@torch.jit.script
def scripted_branch(z: torch.Tensor) -> torch.Tensor:
    if bool(z[0, 0] > 0):
        return z
    return 2 * z


@pytest.mark.parametrize(
    ("words", "function"),
    [
        ("cummax", lambda z: torch.cat([z, 2 * z], 1).cummax(1)[0][:, :1]),
        ("detach", lambda z: z * (z.detach() > 0)),
        ("detach", lambda z: z + torch.tensor(z.tolist())),
        ("detach", lambda z: z + torch.from_numpy(abs(z.detach().numpy()))),
        ("detach", lambda z: z * torch.sign(z.data)),
        ("boolean", lambda z: z[z > -5].reshape(-1, 1)),
        ("item", lambda z: z * z[0].item()),
        ("item", half_by_values),
        ("item", lambda z: scripted_branch(z)),
        ("function Straight", Straight.apply),
    ],
)
def test_what_cannot_be_looked_at_is_said_and_not_certified(words: str, function: Function) -> None:
    found = boundary_of(0.25, function)
    assert words in found.undetermined
    assert boundary_of(0.25, torch.tanh) == Boundary(math.inf)
    data = (torch.ones(4, 1), torch.ones(4, 1))
    risk = hs.EmpiricalRisk(Scaled(0.25, function), data, "mse", dtype="float64", device="cpu")
    point = hs.refine(risk, check=False)  # which warns of some of these functions
    assert not point.certificate.certified
    assert "kind" not in point.classification or "no known kind" in point.classification


def test_the_callers_word_is_an_assumption_of_the_certificate() -> None:
    def function(x: torch.Tensor) -> torch.Tensor:
        return (x**2).sum() * (1.0 + 0.0 * x.detach().sum())

    bare = refine(function, [1.0])
    assert (bare.status, bare.certificate.level) == ("converged", "residual-only")
    assert bare.classification.startswith("critical point of no known kind (kinks cannot be")
    point = refine(function, [1.0], smooth=True)
    assert (point.classification, point.certificate.level) == ("minimum", "kantorovich")
    assert "on the statement that the loss is smooth in a value outside" in point.certificate.reason


def test_a_point_on_a_kink_is_not_certified() -> None:
    """At θ = 0 a ReLU after two layers sits on its kink, and leaves it to second order only."""
    model = nn.Sequential(
        nn.Linear(3, 2, bias=False), nn.Tanh(), nn.Linear(2, 1, bias=False), nn.ReLU()
    ).double()
    inputs = 0.1 + torch.rand(
        20, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    )
    with torch.no_grad():
        for part in model.parameters():
            part.zero_()
    risk = hs.EmpiricalRisk(model, (inputs, torch.ones(20, 1)), "mse", l2=1e-2, device="cpu")
    point = hs.refine(risk)
    assert point.certificate.boundary_distance == 0.0
    assert "not twice differentiable within the radius" in point.certificate.reason
    assert risk.value(point.parameters + 1e-3) < risk.value(point.parameters)


@pytest.mark.parametrize("zeros", [1, 600])
def test_units_that_are_always_on_their_kink_are_left_out(zeros: int) -> None:
    """However many they are: two units on 600 examples are more than are differentiated."""
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.ReLU(), nn.Linear(2, 1)).double()
    inputs = torch.zeros(zeros + 1, 2, dtype=torch.float64)
    inputs[-1] = torch.tensor([1.0, 2.0])
    risk = hs.EmpiricalRisk(model, (inputs, torch.ones(zeros + 1, 1)), "mse", device="cpu")
    z = model[0](inputs[-1]).abs().detach()
    assert nearest_boundary(risk, risk.parameters).distance == pytest.approx(
        float(z.min()) / math.sqrt(5)
    )


@pytest.mark.parametrize("batch_size", [7, 80])
def test_the_nearest_of_many_kinks_is_found(batch_size: int) -> None:
    """The nearest of 400 in θ, where ∂z/∂θ = (x, 1) goes from 1 to 50, is not so in z."""
    stream = torch.Generator().manual_seed(0)
    inputs = torch.randn(80, 3, generator=stream, dtype=torch.float64)
    inputs *= torch.logspace(-1, 1.5, 80, dtype=torch.float64)[:, None]
    model = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 1)).double()
    data = (inputs, torch.ones(80, 1))
    risk = hs.EmpiricalRisk(model, data, "mse", device="cpu", batch_size=batch_size)
    z = model[0](inputs).abs().detach()
    distances = z / (1 + inputs.square().sum(1, keepdim=True)).sqrt()
    found = nearest_boundary(risk, risk.parameters).distance
    assert found == pytest.approx(float(distances.min()))
    assert float(z.flatten()[distances.argmin()]) > float(z.min())


def test_masks_of_the_data_are_no_kinks() -> None:
    """They do not change with θ."""

    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(2, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            kept = torch.where(x > 0, x, x.clamp(min=-1.0)) / x.abs().amax(1, keepdim=True)
            return torch.tanh(self.layer(kept)) * (x.round()[:, :1] >= 0)

    data = (torch.randn(20, 2, generator=torch.Generator().manual_seed(0)), torch.ones(20, 1))
    risk = hs.EmpiricalRisk(Masked(), data, "mse", device="cpu")
    assert nearest_boundary(risk, risk.parameters) == Boundary(math.inf)


def test_good_saddles_of_the_2017_paper() -> None:
    point = refine(lambda x: x[0] ** 2 - x[1] ** 2 + 0 * x[2], [0.3, 0.2, 1.0])
    constants = point.saddle_constants(best_loss=-1.0)
    assert (constants.kappa, constants.size, constants.delta) == (2, 3, 1.0)
    assert constants.stable(2, 1e-6)
    assert not constants.stable(1, 1e-6)
    assert not constants.stable(3, 1e-6)  # κ < n
    assert constants.good(2, 1e-6, 1.5)
    assert not constants.good(2, 1e-6, 0.5)
    # Without zeros κ < n cannot hold.
    assert not refine(saddle, [1.0, 0.1]).saddle_constants().stable(2, 1e-6)


@pytest.mark.parametrize(("method", "products"), [("gradient_descent", 1), ("gradient_norm", 2)])
def test_products_of_a_step_are_not_computed_twice(method: str, products: int) -> None:
    """Hg alone, or Hg and H²g; whether g is flat shows in Hg."""
    point = refine(lambda x: torch.cosh(x[0] - 2) + x[1] ** 4, [0.5, 1.0], method, max_iterations=6)
    assert np.diff(point.trace.column("hvps")).tolist() == [products] * 6


def test_newton_mr_computes_no_product_beside_those_of_minres() -> None:
    """In two dimensions MINRES ends after two; ‖Hg‖ is among what it knows."""
    point = refine(
        lambda x: torch.cosh(x[0] - 2) + x[1] ** 4, [0.5, 1.0], "newton_mr", max_iterations=3
    )
    assert point.trace.column("hvps").tolist() == [0, 2, 4, 6]


@pytest.mark.parametrize("method", METHODS)
def test_every_curvature_knows_how_steep_half_the_squared_gradient_is(method: str) -> None:
    """‖Hg‖/‖g‖ at (1, 2) of x⁴/4 + xy + y², where g = (3, 5) and H = [[3, 1], [1, 2]]."""
    objective = hs.FunctionObjective(lambda x: x[0] ** 4 / 4 + x[0] * x[1] + x[1] ** 2, [1.0, 2.0])
    point = Point(objective, objective.parameters)
    curvature = Strategy.of(SearchOptions(method=method)).direction.curvature(
        point, hs.HessianOperator(objective), torch.zeros(2, dtype=torch.float64)
    )
    assert curvature.steepness == pytest.approx(math.hypot(14, 13) / math.hypot(3, 5), rel=1e-12)


def test_a_gradient_is_computed_only_of_the_step_that_is_taken() -> None:
    """Where the loss is the merit; seven dampings and more are tried for each step."""
    point = refine(lambda x: (x**4).sum() + x[0] * x[1], [3.0, 2.0], "sfn", max_iterations=5)
    assert point.trace.column("gradients").tolist() == [1, 2, 3, 4, 5, 6]


def test_few_products_do_not_prepare_the_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = torch.randn(20, 5, generator=torch.Generator().manual_seed(0))
    network = nn.Sequential(nn.Linear(5, 2), nn.Tanh(), nn.Linear(2, 2))
    risk = hs.EmpiricalRisk(network, (inputs, inputs[:, 0] > 0), device="cpu")
    assert hs.HessianOperator(risk).plan.way == "layers"
    prepared: list[int] = []

    def differentiate(*arguments: Any, **named: Any) -> Any:
        prepared.append(1)
        return dense_products.differentiate_chain(*arguments, **named)

    monkeypatch.setattr("hessscope.operators.derivatives.differentiate_chain", differentiate)
    for method, expected in (("gradient_norm", 0), ("gradient_descent", 0), ("newton_mr", 4)):
        prepared.clear()
        run(risk, SearchOptions(method=method, max_iterations=3), first_state(risk))
        assert len(prepared) == expected


@pytest.mark.parametrize("method", ["gradient_descent", "gradient_norm"])
@pytest.mark.parametrize(
    ("scale", "dtype"),
    [(1e-100, "float64"), (1e120, "float64"), (1e-14, "float32"), (1e16, "float32")],
)
def test_the_scale_of_the_loss_does_not_stop_gradients(
    method: str, scale: float, dtype: str
) -> None:
    """Squares of g and of Hg would leave the range of the numbers."""
    start = torch.tensor([0.5, 0.2], dtype=getattr(torch, dtype))
    objective = hs.FunctionObjective(
        lambda x: scale * ((x[0] - 1) ** 2 + 3 * (x[1] + 2) ** 2 + 0.1 * x[0] * x[1]), start
    )
    options = SearchOptions(method=method, max_iterations=50)
    last = run(objective, options, first_state(objective))
    # The minimum: 2(x − 1) + 0.1y = 0, 6(y + 2) + 0.1x = 0.
    expected = torch.linalg.solve(torch.tensor([[2, 0.1], [0.1, 6]]), torch.tensor([2.0, -12.0]))
    torch.testing.assert_close(last.parameters.float(), expected, rtol=1e-2, atol=1e-2)


def test_the_best_step_is_the_best_of_those_that_are_finite() -> None:
    """Where the largest gain leads to an infinite gradient, the next one is taken."""

    def function(x: torch.Tensor) -> torch.Tensor:
        hill = torch.sqrt(1 + x[0] ** 2)
        if abs(float(x[0].detach()) - 1.179) > 0.1:  # where damping 1 leads from x = 2
            return hill
        return hill - 1 + torch.sqrt(x[0] - x[0].detach())

    point = refine(function, [2.0], "sfn", max_iterations=1, dampings=(1.0, 0.5, 0.1))
    step = point.trace[-1]
    assert (step.damping, step.scale) == (0.5, 1.0)
    assert step.loss == pytest.approx(1.11036, abs=1e-5)


def test_the_steps_that_are_said_are_those_that_were_taken() -> None:
    objective = hs.FunctionObjective(lambda x: torch.cosh(x[0] - 2) + x[1] ** 4, [0.5, 1.0])
    options = {"method": "gradient_descent", "merit": "loss"}
    state = run(objective, SearchOptions(**options, max_iterations=4), first_state(objective))
    assert state.reached == "4 steps were taken"
    again = run(objective, SearchOptions(**options, max_iterations=2), state)
    assert again.reached == "4 steps were taken, and at most 2 were asked for"


# Options, sizes and types.


@pytest.mark.parametrize("method", ["newton", "damped_newton", "sfn"])
def test_a_hessian_that_does_not_fit_is_refused_before_any_work(method: str) -> None:
    with pytest.raises(MemoryLimitError, match=r"100,000 parameters takes 320 GB.*newton_mr"):
        refine(lambda x: (x**2).sum(), [1.0] * 100_000, method, memory=10**11)


def test_a_krylov_space_that_does_not_fit_is_refused_before_any_work() -> None:
    """50 vectors and 50 products of 100,000 numbers are 80 MB."""
    limit = resident_memory() + 10**7
    with pytest.raises(MemoryLimitError, match=r"100,000 parameters takes 80 MB.*`krylov_steps`"):
        refine(lambda x: (x**2).sum(), [1.0] * 100_000, "krylov_sfn", memory=limit)


@pytest.mark.parametrize(("fit", "steps"), [(10**6, 50), (15, 15), (0, 10)])
def test_the_newton_length_takes_as_many_steps_as_fit(
    fit: int, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    n = 50
    scales = torch.linspace(1, 2, n, dtype=torch.float64)
    hessian = hs.HessianOperator(hs.FunctionObjective(lambda x: scales @ x**2, [0.0] * n))
    room = f"{newton_lengths.__module__}.memory_room"
    monkeypatch.setattr(room, lambda limit, device: fit * n * 8)
    found, _ = newton_lengths(hessian, torch.ones(n, dtype=torch.float64), tolerance=1e-6)
    assert hessian.hvps <= steps
    assert found == pytest.approx(float(torch.linalg.vector_norm(1 / (2 * scales))), rel=1e-6)


def test_options_that_cannot_work_are_refused() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'newton'"):
        hs.SearchOptions(method="newtn")
    with pytest.raises(UnknownNameError, match="globalisation"):
        hs.SearchOptions(globalisation="none")
    with pytest.raises(OptionError, match="`globalisation=trust_region` needs a method"):
        Strategy.of(hs.SearchOptions(method="newton_mr", globalisation="trust_region"))
    for method in ("newton_mr", "gradient_norm", "gradient_descent"):
        with pytest.raises(OptionError, match=f"`inner_steps=3`, but {method} has one step"):
            Strategy.of(hs.SearchOptions(method, inner_steps=3))
        assert Strategy.of(hs.SearchOptions(method, inner_steps=1)).options.inner_steps == 1
    with pytest.raises(OptionError, match="`globalisation=natural` judges steps"):
        Strategy.of(hs.SearchOptions(globalisation="natural", merit="loss"))
    with pytest.raises(OptionError, match="`max_iterations=-1`"):
        hs.SearchOptions(max_iterations=-1)
    with pytest.raises(OptionError, match="dampings"):
        hs.SearchOptions(dampings=(-1.0,))
    with pytest.raises(OptionError, match=r"expected a vector of 2 parameters"):
        hs.refine(hs.FunctionObjective(saddle, [1.0, 0.1]), start=torch.zeros(3))


@pytest.mark.parametrize("method", [*METHODS])
def test_one_parameter(method: str) -> None:
    point = refine(lambda x: torch.cosh(x[0] - 2), [0.5], method)
    assert point.status == "converged"
    assert float(point.parameters[0]) == pytest.approx(2.0, abs=1e-7)
    assert point.classification == "minimum"


@pytest.mark.parametrize("method", ["newton_mr", "krylov_sfn"])
def test_twenty_thousand_parameters(method: str) -> None:
    stream = torch.Generator().manual_seed(0)
    sizes = 1 + 9 * torch.rand(20_000, generator=stream, dtype=torch.float64)
    target = torch.randn(20_000, generator=stream, dtype=torch.float64)

    def function(x: torch.Tensor) -> torch.Tensor:
        return (sizes * torch.cosh((x - target) / 4)).sum()

    objective = hs.FunctionObjective(function, torch.zeros(20_000))
    point = hs.refine(objective, method, backend="lanczos", steps=30, probes=2)
    assert point.status == "converged"
    assert float((point.parameters - target).abs().max()) < 1e-6
    assert point.certificate.level == "residual-only"
    assert "exact spectrum" in point.certificate.reason


@pytest.mark.parametrize("method", ["newton", "newton_mr", "sfn", "krylov_sfn"])
def test_float32_is_told_truthfully(method: str) -> None:
    """It gets as far as rounding lets it, and is never called converged at a wrong place."""
    risk64 = LinearAutoencoderPoint(EIGENVALUES, 2, (0, 1)).risk()
    risk = hs.EmpiricalRisk(
        risk64.model, (risk64.inputs, risk64.inputs), "mse", dtype="float32", device="cpu"
    )
    point = hs.refine(risk, method, start=random_start(risk64, 0, 1.0))
    assert point.parameters.dtype == torch.float32
    assert point.gradient_norm < 1e-5 * point.gradient_norm_start
    assert min(abs(point.loss - p.loss) for p in points_of(2)) < 1e-5
    assert point.status in ("converged", "step_too_small", "max_iterations")


def test_moved_operators_are_those_of_their_point() -> None:
    risk = LinearAutoencoderPoint(EIGENVALUES, 2, (0, 1)).risk()
    theta = random_start(risk, 0, 1.0)
    moved = hs.HessianOperator(risk).moved(theta)
    torch.testing.assert_close(
        moved.to_dense(), hs.HessianOperator(risk, theta).to_dense(), rtol=0, atol=1e-14
    )
    assert moved.plan == hs.HessianOperator(risk).plan


# Linear algebra.


@pytest.mark.parametrize(("rank", "consistent"), [(12, True), (8, True), (8, False)])
def test_minres_gives_the_pseudo_inverse_solution(rank: int, consistent: bool) -> None:
    stream = torch.Generator().manual_seed(rank)
    q = torch.linalg.qr(torch.randn(12, 12, generator=stream, dtype=torch.float64))[0]
    values = torch.linspace(-2, 3, 12, dtype=torch.float64)
    values[rank:] = 0
    a = (q * values) @ q.T
    b = torch.randn(12, generator=stream, dtype=torch.float64)
    b = a @ b if consistent else b
    result = minres(lambda v: a @ v, b, 50, 1e-13)
    expected = torch.linalg.pinv(a, rtol=1e-10) @ b
    torch.testing.assert_close(result.solution, expected, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(b - a @ result.solution, result.residual, rtol=0, atol=1e-6)
    assert result.nonpositive is not None
    assert float(result.nonpositive @ a @ result.nonpositive) <= 0
    assert float(result.nonpositive @ b) > 0


def test_minres_sees_no_negative_curvature_where_there_is_none() -> None:
    values = torch.linspace(1, 10, 20, dtype=torch.float64)
    result = minres(lambda v: values * v, torch.ones(20, dtype=torch.float64), 40, 1e-12)
    assert result.nonpositive is None
    torch.testing.assert_close(result.solution, 1 / values)


def test_a_krylov_basis_holds_its_products_and_the_last_vector() -> None:
    stream = torch.Generator().manual_seed(0)
    a = torch.randn(30, 30, generator=stream, dtype=torch.float64)
    a = a + a.T
    start, last = torch.randn(2, 30, generator=stream, dtype=torch.float64)
    basis = krylov_basis(lambda v: a @ v, start, 8, last)
    assert basis.vectors.shape == (8, 30)
    eye = torch.eye(8, dtype=torch.float64)
    torch.testing.assert_close(basis.vectors @ basis.vectors.T, eye, rtol=0, atol=1e-13)
    torch.testing.assert_close(basis.images, basis.vectors @ a)
    inside = basis.vectors.T @ (basis.vectors @ last)
    torch.testing.assert_close(inside, last)
    # The first seven are the Krylov space of the gradient: A maps six of them into it.
    krylov = basis.vectors[:7]
    image = basis.images[:6]
    torch.testing.assert_close(image @ krylov.T @ krylov, image)


# Nonlinear networks.


def digits(loss: str, l2: float, activation: type[nn.Module], hidden: int = 3) -> hs.EmpiricalRisk:
    data = hs.load_data("digits", subset=300)
    small = torch.nn.functional.avg_pool2d(data.inputs.double().reshape(-1, 1, 8, 8), 2).flatten(1)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, hidden), activation(), nn.Linear(hidden, 10))
    return hs.EmpiricalRisk(model, (small, data.targets), loss, l2=l2, device="cpu")


@pytest.mark.parametrize("method", ["newton", "newton_mr", "damped_newton"])
def test_digits_with_a_penalty(method: str) -> None:
    """‖g‖² < 1e-20 and the certificate; without a zero the count is beyond doubt."""
    risk = digits("cross_entropy", 1e-2, nn.Tanh)
    point = hs.refine(risk, method, start=random_start(risk, 1, 0.1))
    assert point.status == "converged"
    assert point.gradient_norm < 1e-10
    assert point.certificate.level == "kantorovich"
    # The origin is critical for balanced classes only; here biases move a little.
    assert point.loss == pytest.approx(math.log(10), abs=0.05)
    assert point.inertia.decided
    assert point.inertia.negative.estimate > 0


def test_sfn_goes_down_from_where_newton_stays_on_digits() -> None:
    risk = digits("cross_entropy", 1e-2, nn.Tanh)
    start = random_start(risk, 1, 0.1)
    stays = hs.refine(risk, "newton", start=start)
    left = hs.refine(risk, "sfn", start=stays.parameters + random_start(risk, 2, 1e-3))
    assert left.status == "converged"
    assert left.loss < stays.loss - 0.1
    assert left.inertia.negative.estimate < stays.inertia.negative.estimate


def test_krylov_steps_lower_the_loss_below_a_stalled_descent() -> None:
    risk = digits("mse", 0.0, nn.Tanh, hidden=8)
    slow = hs.refine(risk, "gradient_descent", max_iterations=100, backend="lanczos", steps=20)
    options = {"max_iterations": 5, "backend": "lanczos", "steps": 20, "krylov_steps": 20}
    fast = hs.refine(risk, "krylov_sfn", start=slow.parameters, **options)
    assert fast.loss < 0.9 * slow.loss
    assert fast.trace[-1].hvps <= 5 * 20


@pytest.mark.parametrize("method", ["newton", "sfn", "krylov_sfn"])
def test_a_trust_region_can_be_chosen(method: str) -> None:
    point = refine(lambda x: torch.cosh(x[0] - 1) + 2 * torch.cosh(x[1]), [3.0, 2.0], method,
                   globalisation="trust_region")  # fmt: skip
    assert point.status == "converged"
    assert point.parameters.tolist() == pytest.approx([1.0, 0.0], abs=1e-8)
    # The first radius is 1 + ‖θ‖, and no step is longer than twice the one before.
    lengths = point.trace.column("step_length")[1:]
    assert lengths[0] <= 1 + math.hypot(3, 2)


def test_inner_steps_use_one_curvature() -> None:
    def function(x: torch.Tensor) -> torch.Tensor:
        return torch.cosh(x[0] - 1) + 2 * torch.cosh(x[1])

    once = refine(function, [2.0, 1.0], "sfn", max_iterations=1)
    thrice = refine(function, [2.0, 1.0], "sfn", max_iterations=1, inner_steps=3)
    assert once.trace[-1].hessians == thrice.trace[-1].hessians == 1
    assert thrice.loss < once.loss


def test_damping_keeps_its_digits() -> None:
    values = torch.tensor([2.0, -3.0], dtype=torch.float64)
    found = DampedNewton().filter(values, 0.1, 0.0)
    assert found.tolist() == pytest.approx([1 / 2.1, -1 / 3.1], rel=1e-15)


def test_options_reach_the_state() -> None:
    objective = hs.FunctionObjective(saddle, [1.0, 0.1])
    state = run(objective, hs.SearchOptions(max_iterations=0), first_state(objective))
    assert (state.status, state.method) == ("max_iterations", "newton")


class Diagonal(Direction):
    """Newton's step for a Hessian that is taken to be diagonal: −g / |diag H|."""

    globalisation = "backtracking"
    merit = "loss"

    def curvature(
        self, point: Point, hessian: hs.HessianOperator, previous_step: torch.Tensor
    ) -> SingleStep:
        diagonal = torch.diagonal(hessian.to_dense()).abs()
        step = -point.gradient / diagonal
        steepness = float(torch.linalg.vector_norm(hessian.matvec(point.gradient)))
        return SingleStep(
            Step(step, hessian.matvec(step)), float(diagonal.max()), steepness / point.gradient_norm
        )


@pytest.mark.parametrize("method", [Diagonal, Diagonal()])
def test_a_direction_of_ones_own_is_taken_as_it_is(method: Any, tmp_path: Path) -> None:
    point = refine(lambda x: torch.cosh(x[0] - 1) + 3 * torch.cosh(x[1]), [2.0, 1.0], method)
    assert point.status == "converged"
    assert "Diagonal" in point.method
    assert point.configuration["globalisation"] == "backtracking"
    hs.write_record(point.to_record(), tmp_path / "point.h5")
    again = hs.CriticalPoint.from_record(hs.load_record(tmp_path / "point.h5"))
    assert again.method == point.method
    assert again.diagnosis == point.diagnosis
