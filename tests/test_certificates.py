"""Certificates, tolerances and names of points, against what can be worked out by hand."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

import hessscope as hs
from hessscope.criticality.evidence import newton_lengths
from hessscope.refinement.certificates import Certificate, _apply_theorem
from hessscope.refinement.finder import reviewed
from hessscope.refinement.points import SaddleConstants
from hessscope.refinement.search import first_state
from hessscope.spectra import CountInterval, Criticality, Inertia, classify

Function = Callable[[torch.Tensor], torch.Tensor]


def refine(function: Function, start: list[float], **options: object) -> hs.CriticalPoint:
    return hs.refine(hs.FunctionObjective(function, start), **options)


# The theorem of Newton and Kantorovich.


@pytest.mark.parametrize("h", [0.1, 0.48, 0.5])
def test_the_radius_is_the_root_of_the_majorant(h: float) -> None:
    """β = K = 1, so that η = h: the least root of K t²/2 − t/β + η/β bounds the distance."""
    found = _apply_theorem(
        Certificate("", "", 0.0, 0.0, newton_length=h, inverse_norm=1.0, lipschitz=1.0)
    )
    assert found.certified
    assert found.h == h
    assert found.radius == pytest.approx(min(np.roots([0.5, -1.0, h]).real))


def test_above_one_half_the_theorem_says_nothing() -> None:
    found = _apply_theorem(
        Certificate("", "", 0.0, 0.0, newton_length=0.5001, inverse_norm=1.0, lipschitz=1.0)
    )
    assert not found.certified
    assert math.isnan(found.radius)


def test_the_theorem_takes_all_three_constants() -> None:
    """h = βKη and the radius, from constants of different sizes."""
    found = _apply_theorem(
        Certificate("", "", 0.0, 0.0, newton_length=0.01, inverse_norm=4.0, lipschitz=10.0)
    )
    assert found.h == pytest.approx(0.4)
    assert found.radius == pytest.approx(min(np.roots([10.0 / 2, -1 / 4.0, 0.01 / 4.0]).real))


def test_beside_a_symmetry_the_radius_is_the_distance_to_the_orbit() -> None:
    """(‖x‖² − 1)² at ‖x‖ = 1 + d: the circle of minima is d away."""
    d = 1e-8

    def rotation(x: torch.Tensor) -> torch.Tensor:
        return torch.stack([-x[1], x[0]])[:, None]

    point = refine(
        lambda x: ((x**2).sum() - 1) ** 2,
        [1.0 + d, 0.0],
        gradient_tolerance=1e-6,
        tolerance=1e-6,
        symmetries=rotation,
    )
    assert point.iterations == 0
    assert point.certificate.level == "kantorovich-quotient"
    assert 0.999 * d <= point.certificate.radius < 1.01 * d


@pytest.mark.parametrize(
    ("function", "start", "level", "expected"),
    [
        # K = 2·|f‴| = 2, and the point is r = 1e-9 away: τ is twice K r.
        (lambda x: x[0] ** 2 / 2 + x[0] ** 3 / 6, [1e-9], "kantorovich", 4e-9),
        # |∇³f(v, v, v)| = |6 cos 3φ|, so K = 12; η is half the distance of 1e-9, h = 1, and two
        # Newton steps are the guess.
        (lambda x: x[0] ** 3 - 3 * x[0] * x[1] ** 2, [1e-9, 0.0], "residual-only", 2.4e-8),
    ],
    ids=["certified", "guessed"],
)
def test_the_tolerance_allows_for_the_distance_to_the_critical_point(
    function: Function, start: list[float], level: str, expected: float
) -> None:
    point = refine(function, start, gradient_tolerance=1e-6)
    assert point.iterations == 0
    assert point.certificate.level == level
    assert point.inertia is not None
    assert point.inertia.tolerance == pytest.approx(expected, rel=1e-3)
    assert point.tolerance_source is not None
    assert point.tolerance_source.startswith("twice what the distance")


def test_flatness_and_newton_decrement() -> None:
    """g = (4, 3), H = diag(4, 0): (0, 3) cannot be lowered; gᵀ|H|⁺g = 16/4."""
    point = refine(lambda x: 2 * x[0] ** 2 + 3 * x[1], [1.0, 0.0], max_iterations=0)
    assert point.certificate.flatness == pytest.approx(3 / 5)
    assert point.certificate.newton_decrement == pytest.approx(2.0)


def test_the_newton_decrement_takes_the_size_of_a_curvature() -> None:
    """g = (4, −6), H = diag(4, −2): gᵀ|H|⁻¹g = 16/4 + 36/2, where gᵀH⁻¹g is negative."""
    point = refine(lambda x: 2 * x[0] ** 2 - x[1] ** 2, [1.0, 3.0], max_iterations=0)
    assert point.certificate.flatness == 0.0
    assert point.certificate.newton_decrement == pytest.approx(math.sqrt(22.0))


# What is critical, and what it is called.


def test_a_long_newton_step_is_not_critical_however_small_the_gradient() -> None:
    """1e-9 cosh: the gradient passes the tolerance, and a Newton step goes tanh ½."""
    point = refine(
        lambda x: 1e-9 * torch.cosh(x[0]), [0.5], gradient_tolerance=1e-6, max_iterations=0
    )
    assert point.status == "max_iterations"
    assert not point.certificate.certified
    assert point.criticality is not None
    assert point.criticality.gradient_norm <= point.criticality.gradient_floor
    assert point.criticality.newton_length == pytest.approx(math.tanh(0.5))
    assert point.classification == (
        "not a critical point (gradient norm 5.21e-10 is at rounding, but a Newton step has 0.462)"
    )


@pytest.mark.parametrize(
    ("curvatures", "gradient", "length", "left_out"),
    [
        # Where 1e-9 is zero: (1/3, 2/−2, 3/1e-3) and (1/3, 2/−2).
        ([3.0, -2.0, 1e-3, 1e-9], [1.0, 2.0, 3.0, 4.0], math.sqrt(1 / 9 + 1 + 3000**2), 4.0),
        ([3.0, -2.0, 1e-9], [1.0, 2.0, 4.0], math.sqrt(1 / 9 + 1), 4.0),
    ],
)
def test_newton_lengths_by_lanczos_are_those_of_the_pseudo_inverse(
    curvatures: list[float], gradient: list[float], length: float, left_out: float
) -> None:
    d, g = torch.tensor(curvatures, dtype=torch.float64), torch.tensor(gradient).double()
    objective = hs.FunctionObjective(lambda x: (d * x**2).sum() / 2, torch.zeros(len(d)))
    found = newton_lengths(hs.HessianOperator(objective), g, 1e-6)
    assert found == pytest.approx((length, left_out), rel=1e-6)


CRITICAL = Criticality(1e-16, 1e-15, 1e-12, 1.0)
NOT_CRITICAL = Criticality(1.0, 1e-15, math.nan, 1.0)


@pytest.mark.parametrize(
    ("negative", "zero", "positive", "name"),
    [
        ((1, 1, 1), (0, 0, 0), (2, 2, 2), "saddle"),
        ((1, 1, 2), (1, 1, 1), (0, 1, 1), "undecided at this tolerance"),
        ((1, 1, 1), (1, 1, 1), (1, 1, 1), "degenerate saddle"),
        ((1, 1, 1), (0, 1, 2), (1, 1, 1), "strict saddle"),
        ((0, 0, 0), (0, 0, 0), (3, 3, 3), "minimum"),
        ((3, 3, 3), (0, 0, 0), (0, 0, 0), "maximum"),
        ((0, 1, 2), (0, 1, 2), (1, 1, 1), "undecided at this tolerance"),
        ((0, 0, 0), (0, 1, 1), (2, 2, 3), "undecided at this tolerance"),
        ((0, 0, 0), (1, 1, 1), (2, 2, 2), "undecided to second order"),
        ((2, 2, 2), (1, 1, 1), (0, 0, 0), "undecided to second order"),
        ((0, 0, 0), (3, 3, 3), (0, 0, 0), "undecided to second order"),
    ],
)
def test_names_are_what_the_intervals_establish(
    negative: tuple[int, int, int],
    zero: tuple[int, int, int],
    positive: tuple[int, int, int],
    name: str,
) -> None:
    counts = [CountInterval(*ends, confidence=1.0) for ends in (negative, zero, positive)]
    assert classify(Inertia(*counts, 1e-12, 1e-13), CRITICAL) == name
    assert classify(Inertia(*counts, 1e-12, 1e-13), NOT_CRITICAL) == (
        "not a critical point (gradient norm 1)"
    )


@pytest.mark.parametrize(
    ("status", "criticality", "expected"),
    [
        ("converged", NOT_CRITICAL, "step_too_small"),
        ("converged", CRITICAL, "converged"),
        ("max_iterations", CRITICAL, "converged"),
        ("step_too_small", CRITICAL, "converged"),
        ("diverging", CRITICAL, "diverging"),
        ("max_iterations", NOT_CRITICAL, "max_iterations"),
        ("gradient_flat", NOT_CRITICAL, "gradient_flat"),
    ],
)
def test_the_spectrum_reviews_the_status(
    status: str, criticality: Criticality, expected: str
) -> None:
    objective = hs.FunctionObjective(lambda x: (x**2).sum(), [1.0])
    state = first_state(objective, None).ended(status, "so said the search")
    found = reviewed(state, criticality)
    assert found.status == expected
    if expected == status:
        assert found.reached == "so said the search"
    else:
        assert found.reached.startswith("by the spectrum at the end")


# Stable and good saddles.


def test_stable_saddles_are_those_of_the_definition() -> None:
    """Definition 3: ‖∇f‖ < ε strictly, at most κ < N eigenvalues not zero, H ρ-Lipschitz."""
    constants = SaddleConstants(kappa=2, epsilon=1e-3, rho=5.0, delta=0.1, size=3)
    assert constants.stable(2, 2e-3, 5.0)
    assert constants.stable(2, 2e-3)
    assert not constants.stable(2, 2e-3, 4.9)
    assert not constants.stable(2, 1e-3)
    assert not constants.stable(1, 2e-3)
    assert not constants.stable(3, 2e-3)


def test_good_saddles_are_stable_ones_of_low_loss() -> None:
    constants = SaddleConstants(kappa=2, epsilon=1e-3, rho=5.0, delta=0.1, size=3)
    assert constants.good(2, 2e-3, 0.1, 5.0)
    assert constants.good(2, 2e-3, 0.1)
    assert not constants.good(2, 2e-3, 0.09)
    assert not constants.good(2, 2e-3, 0.1, 4.9)
    assert not constants.good(2, 1e-3, 0.1)
    assert not constants.good(1, 2e-3, 0.1)
    assert not replace(constants, delta=math.nan).good(2, 2e-3, 0.1)


def test_an_unknown_lipschitz_constant_meets_no_bound() -> None:
    unknown = SaddleConstants(kappa=2, epsilon=1e-3, rho=math.nan, delta=0.1, size=3)
    assert unknown.stable(2, 2e-3)
    assert not unknown.stable(2, 2e-3, 1e300)
    assert not unknown.good(2, 2e-3, 0.1, 1e300)


def test_constants_of_a_point_take_the_worse_end_of_what_is_known() -> None:
    """Zeros that are not sure may be none: κ is n less those that are."""
    point = refine(lambda x: x[0] ** 2 + 3 * x[1] ** 2 - x[2] ** 2 + 1.5, [0.0, 0.0, 0.0])
    counts = [CountInterval(*ends, confidence=1.0) for ends in ((0, 1, 1), (0, 1, 2), (1, 1, 2))]
    undecided = replace(point, inertia=Inertia(*counts, 1e-12, 1e-13))
    constants = undecided.saddle_constants(best_loss=1.25)
    assert constants == SaddleConstants(
        kappa=3, epsilon=point.gradient_norm, rho=point.certificate.lipschitz, delta=0.25, size=3
    )
    sure = [CountInterval(1, 1, 1, 1.0)] * 3
    known = replace(point, inertia=Inertia(*sure, 1e-12, 1e-13)).saddle_constants()
    assert known is not None
    assert known.kappa == 2
    assert math.isnan(known.delta)


# What the trace says of the way.


@pytest.mark.parametrize("method", ["newton", "sfn"])
def test_the_index_along_the_search_is_that_of_the_points_passed(method: str) -> None:
    """Double wells, H = diag(3x² − 1)."""
    start = [0.1, 0.9, -1.2]
    passed = [torch.tensor(start, dtype=torch.float64)]
    point = refine(
        lambda x: ((x**2 - 1) ** 2).sum() / 4,
        start,
        method=method,
        observer=lambda state: passed.append(state.parameters.clone()),
    )
    assert point.status == "converged"
    # A step knows the Hessian that it was computed from, so the start has none.
    indices = [int((3 * x**2 < 1).sum()) for x in passed[:-1]]
    assert indices[0] == 1
    assert point.trace.column("index").tolist() == [-1, *indices]
    assert (0 in indices) == (method == "sfn")  # it leaves the saddle
