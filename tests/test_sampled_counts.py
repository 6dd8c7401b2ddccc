"""Counts of Lanczos results: their distribution, their coverage, and what is never sampled."""

from __future__ import annotations

import sys
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
import torch

from hessscope import LanczosBackend
from hessscope.errors import MemoryLimitError, OptionError, PrecisionWarning
from hessscope.linalg.krylov import converged_pairs
from hessscope.linalg.lanczos import Lanczos, gaussian
from hessscope.operators import MatrixOperator
from hessscope.spectra import AbsoluteRule, LockedPairs
from hessscope.spectra.estimates import count_interval
from studies.count_coverage import rejected, run
from studies.known_spectra import FAMILIES, Diagonal, known

CPU = torch.device("cpu")


@pytest.mark.parametrize(("size", "truth", "probes"), [(50, 0, 1), (50, 7, 1), (400, 390, 3)])
def test_count_intervals_hold_as_often_as_they_say(size: int, truth: int, probes: int) -> None:
    rng = np.random.default_rng(0)
    hits, draws = 0, 2000
    for _ in range(draws):
        inside = rng.chisquare(probes * truth) if truth else 0.0
        share = inside / (inside + rng.chisquare(probes * (size - truth)))
        least, most = count_interval(share, share, size, probes, 0.05)
        hits += least <= truth <= most
    assert hits / draws >= 0.95 - 3 * np.sqrt(0.95 * 0.05 / draws)


def test_count_interval_is_the_quantiles_inverted() -> None:
    least, most = count_interval(0.2, 0.25, 100, 4, 0.1)

    def beta(count: int) -> scipy.stats.rv_frozen:
        return scipy.stats.beta(4 * count / 2, 4 * (100 - count) / 2)

    assert beta(most).cdf(0.25) >= 0.05 > beta(most + 1).cdf(0.25)
    assert beta(least).sf(0.2) >= 0.05 > beta(least - 1).sf(0.2)
    assert count_interval(0.0, 0.0, 100, 1, 0.05) == (0, 0)
    assert count_interval(1.0, 1.0, 100, 1, 0.05) == (100, 100)
    assert count_interval(0.0, 1.0, 100, 1, 0.05) == (0, 100)


@pytest.mark.slow
def test_coverage_over_families_of_spectra(tmp_path: Path) -> None:
    outcomes = run(range(3), tmp_path / "results.csv")
    counts, traces = outcomes[outcomes["count"] != "trace"], outcomes[outcomes["count"] == "trace"]
    # All counts of a draw depend on each other, so the error is that of the draws.
    error = np.sqrt(0.95 * 0.05 / len(traces))
    assert len(traces) == 3 * 2 * len(FAMILIES)
    assert counts.covered.mean() >= 0.95 - 3 * error
    assert traces.covered.mean() >= 0.95
    assert outcomes.rigorous.all()
    assert not rejected(counts)
    assert counts[counts.tolerance.isin(["2δ", "10δ"])].width.median() <= 0.1


def test_intervals_do_not_collapse_where_eigenvalues_lie_above_rounding() -> None:
    """30 eigenvalues, 20 more from eps to 1e4 eps, zeros: a run that has seen all but those."""
    hits = draws = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PrecisionWarning)
        for dtype in (torch.float64, torch.float32):
            for seed in range(15):
                truth = known("few above eps", 150, np.random.default_rng(seed), dtype)
                density = LanczosBackend(probes=2, seed=seed).solve(truth.operator)
                inertia = density.inertia()
                above = np.sum(truth.eigenvalues > inertia.tolerance)
                hits += inertia.positive.lower <= above <= inertia.positive.upper
                draws += 1
                assert inertia.positive.upper - inertia.positive.lower <= 15
    assert hits / draws >= 0.95 - 3 * np.sqrt(0.95 * 0.05 / draws)


def test_what_is_claimed_without_a_basis_is_true() -> None:
    """One outlier of 1e6 above a bulk of 1e-6: residuals of the recurrence say nothing there."""
    values = np.append(1e-6 * np.random.default_rng(1).standard_normal(300), 1e6)
    for seed in range(10):
        density = LanczosBackend(steps=60, probes=2, seed=seed, reorthogonalize="none").solve(
            Diagonal(values)
        )
        for value, reach in (
            (density.lambda_min, density.lambda_min_residual),
            (density.lambda_max, density.lambda_max_residual),
        ):
            assert np.abs(values - value).min() <= reach
        assert density.rigorous_bounds() == (0, 0)
        # √eps·‖A‖ = 0.015: nothing is known of signs, and that one eigenvalue is large.
        assert density.inertia(1.0).positive.lower <= 1 <= density.inertia(1.0).positive.upper


def test_locked_pairs_are_eigenpairs_and_copies_are_joined() -> None:
    # Two runs find the same simple eigenvalues; of a double one each finds one direction.
    values = np.concatenate([np.linspace(-0.1, 0.1, 300), [5.0, 7.0, 7.0, -3.0]])
    operator = Diagonal(values)
    iteration = Lanczos(gaussian(304, 2, 1, dtype=torch.float64, device=CPU))
    iteration.advance(operator.apply, 40)
    pairs = converged_pairs(iteration)
    unit = pairs.vectors @ pairs.vectors.T
    np.testing.assert_allclose(unit, np.eye(len(unit)), atol=1e-12)
    residual = operator.apply(pairs.vectors.T) - pairs.vectors.T * torch.from_numpy(pairs.values)
    np.testing.assert_allclose(
        torch.linalg.vector_norm(residual, dim=0), pairs.residuals, atol=1e-13
    )
    outside = pairs.values[np.abs(pairs.values) > 1]
    np.testing.assert_allclose(outside, [-3, 5, 7, 7], atol=1e-7)


def test_probes_are_drawn_off_the_locked_pairs() -> None:
    values = np.concatenate([np.linspace(-0.1, 0.1, 300), [5.0, 7.0, -3.0]])
    density = LanczosBackend(steps=30, probes=3).solve(Diagonal(values))
    far = density.locked.values[np.abs(density.locked.values) > 1]
    np.testing.assert_allclose(far, [-3, 5, 7], atol=1e-7)
    assert np.nanmax(np.abs(density.nodes)) < 0.11
    inertia = density.inertia(1.0)
    assert (inertia.negative.lower, inertia.negative.upper) == (1, 1)
    assert (inertia.positive.lower, inertia.positive.upper) == (2, 2)


def test_bounds_that_no_sampling_enters_are_those_of_interlacing() -> None:
    """Nothing is locked: each probe's own Ritz values beyond ±τ are counted (Cauchy)."""
    values = np.concatenate([np.linspace(-0.1, 0.1, 300), [5.0, 7.0, -3.0]])
    density = LanczosBackend(steps=30, probes=3, deflation=0).solve(Diagonal(values))
    assert len(density.locked) == len(density.first_run) == 0
    assert density.rigorous_bounds(1.0) == (1, 2)
    assert density.rigorous_bounds(6.0) == (0, 1)
    inertia = density.inertia(1.0)
    assert inertia.positive.lower >= 2
    assert inertia.negative.lower >= 1
    # Two of 303 dimensions are too few for the probes alone to be sure that there are any.
    assert count_interval(2 / 303, 2 / 303, 303, 3, 0.05)[0] < 2


def test_shift_by_the_coupling_bounds_what_it_does() -> None:
    # A locked vector that is a little off: the counts of both parts taken apart, at x ± shift,
    # must enclose that of the whole (Haynsworth).
    rng = np.random.default_rng(5)
    basis = np.linalg.qr(rng.standard_normal((40, 40)))[0]
    values = np.concatenate([rng.standard_normal(38) * 0.3, [4.0, -5.0]])
    matrix = basis * values @ basis.T
    off = np.linalg.qr(basis[:, -2:] + 1e-2 * rng.standard_normal((40, 2)))[0]
    inner, rotation = np.linalg.eigh(off.T @ matrix @ off)
    off = off @ rotation
    residuals = np.linalg.norm(matrix @ off - off * inner, axis=0)
    pairs = LockedPairs(inner, residuals)
    rest = np.eye(40) - off @ off.T
    remaining = np.sort(np.linalg.eigvalsh(rest @ matrix @ rest))
    remaining = np.delete(remaining, np.argsort(np.abs(remaining))[:2])  # those of the projector
    for x in rng.uniform(-1, 1, 400):
        shift = pairs.shift(x)
        assert shift < np.linalg.norm(residuals)
        whole = np.sum(values < x)
        assert pairs.below(x - shift) + np.sum(remaining < x - shift) <= whole
        assert pairs.below(x + shift) + np.sum(remaining < x + shift) >= whole


def test_without_reorthogonalisation_ghosts_are_not_counted() -> None:
    # Enough steps that converged outliers come again and again.
    values = np.concatenate([np.linspace(-0.01, 0.01, 500), [1.0, 2.0, 3.0, -1.0]])
    operator = Diagonal(values)
    none = LanczosBackend(steps=150, probes=4, reorthogonalize="none").solve(operator)
    copies = np.sum(np.abs(none.nodes[0] - 3.0) < 1e-6)
    assert copies > 1
    inertia = none.inertia(0.1)
    assert inertia.negative.lower <= 1 <= inertia.negative.upper
    assert inertia.positive.lower <= 3 <= inertia.positive.upper
    assert none.rigorous_bounds(0.1) == (0, 0)
    assert not none.rigorous
    full = LanczosBackend(steps=150, probes=4).solve(operator).inertia(0.1)
    assert full.positive.upper - full.positive.lower < inertia.positive.upper


@pytest.mark.parametrize(("side", "least", "most"), [(1, 68, 132), (-1, 0, 0)])
def test_without_reorthogonalisation_what_lies_near_the_cut_is_open(
    side: int, least: int, most: int
) -> None:
    """Nodes are good to √eps‖A‖ = 1.5e-8 only; 100 eigenvalues of 500 are at −1.

    Four probes know 100 to a standard error of 500·√(0.2·0.8/1001) = 6.3, and an end of an interval
    is at most five of them away: two of its own, and three by which the mean may be off.
    """
    values = np.concatenate([np.linspace(-0.01, 0.01, 400), np.full(100, -1.0)])
    backend = LanczosBackend(steps=60, probes=4, reorthogonalize="none", seed=1)
    density = backend.solve(Diagonal(values))
    near, far = density.inertia(1.0 - side * 1e-9), density.inertia(1.0 - side * 1e-7)
    # 1e-7 away the counts are known up to sampling, 1e-9 away not at all.
    assert least <= far.negative.lower <= far.negative.upper <= most
    assert near.negative.lower == 0
    assert near.negative.upper >= 100
    full = LanczosBackend(steps=60, probes=4, seed=1).solve(Diagonal(values))
    sure = full.inertia(1.0 - side * 1e-9).negative
    assert least <= sure.lower <= sure.upper <= most


def narrowing(
    start: LanczosBackend, width: float, budget: int, rule: AbsoluteRule
) -> LanczosBackend:
    return replace(start, target_width=width, budget=budget, rule=rule)


def test_narrowing_reaches_its_width_and_says_so() -> None:
    rng = np.random.default_rng(0)
    values = np.concatenate(
        [10 ** rng.uniform(-10, 0, 600), -(10 ** rng.uniform(-10, -2, 200)), np.zeros(200)]
    )
    truth = int(np.sum(values < -1e-4))
    start = LanczosBackend(steps=20, probes=2, seed=3)
    density = narrowing(start, 0.1, 4000, AbsoluteRule(1e-4)).solve(Diagonal(values))
    inertia = density.inertia(1e-4)
    assert inertia.negative.lower <= truth <= inertia.negative.upper
    assert inertia.negative.upper - inertia.negative.lower <= 0.1 * inertia.negative.estimate
    assert "at most 0.1" in density.options["ended"]
    assert density.hvps <= 4000 + 16
    again = narrowing(start, 0.1, 4000, AbsoluteRule(1e-4)).solve(Diagonal(values))
    np.testing.assert_array_equal(again.alphas, density.alphas)


def test_narrowing_ends_with_its_budget_and_says_so() -> None:
    values = np.linspace(-1.0, 1.0, 400)
    start = LanczosBackend(steps=10, probes=2)
    density = narrowing(start, 0.01, 200, AbsoluteRule(1e-3)).solve(Diagonal(values))
    assert "budget of 200 products" in density.options["ended"]
    assert density.hvps <= 200
    assert density.error_share < 1.0


def test_narrowing_keeps_what_it_has_when_the_memory_shrinks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    values = torch.diag(torch.linspace(-1.0, 1.0, 400, dtype=torch.float64))
    start, rule = LanczosBackend(steps=10, probes=2), AbsoluteRule(1e-3)
    one_round = narrowing(start, 0.01, 30, rule).solve(values)
    operator = MatrixOperator(values)
    monkeypatch.setattr(
        "hessscope.backends.lanczos.memory_room", lambda *_: 10**9 if operator.hvps < 30 else 0
    )
    density = narrowing(start, 0.01, 200, rule).solve(operator)
    assert density.options["ended"] == "the memory left is too small for another round"
    assert density.options["looks"] == 1
    assert density.hvps == one_round.hvps == 30
    np.testing.assert_array_equal(density.alphas, one_round.alphas)


@pytest.mark.parametrize("together", [None, 0])
def test_narrowing_without_room_for_a_basis_is_refused(
    monkeypatch: pytest.MonkeyPatch, together: int | None
) -> None:
    monkeypatch.setattr("hessscope.backends.lanczos.memory_room", lambda *_: 0)
    backend = LanczosBackend(target_width=0.1, budget=2000, together=together)
    with pytest.raises(MemoryLimitError, match="Lanczos basis"):
        backend.solve(Diagonal(np.ones(400)))


def test_looks_share_the_error() -> None:
    """Look r may use 1/(r(r + 1)) of it, which adds up to 1: half of 5 % is 97.5 % confidence."""
    values = np.linspace(-1.0, 1.0, 400)
    start = LanczosBackend(steps=10, probes=2)
    one = narrowing(start, 0.01, 30, AbsoluteRule(1e-3)).solve(Diagonal(values))
    assert (one.options["looks"], one.error_share, one.confidence) == (1, 0.5, 0.95)
    alone = replace(one, error_share=1.0)
    stricter = replace(alone, confidence=0.975)
    for name in ("negative", "zero", "positive"):
        shared, plain, strict = (
            getattr(density.inertia(1e-3), name) for density in (one, alone, stricter)
        )
        assert (shared.lower, shared.upper) == (strict.lower, strict.upper)
        assert plain.upper - plain.lower < shared.upper - shared.lower
    two = narrowing(start, 0.01, 70, AbsoluteRule(1e-3)).solve(Diagonal(values))
    assert (two.options["looks"], two.error_share) == (2, 1 / 6)


@pytest.mark.parametrize(("steps", "probes"), [(1, 2), (5, 2), (20, 1)])
def test_narrowing_ends_though_eigenvalues_lie_on_the_tolerance(steps: int, probes: int) -> None:
    """No work makes an interval narrow where three eigenvalues are at τ."""
    values = np.concatenate([[0.1] * 3, np.linspace(-1, 1, 17)])
    start = LanczosBackend(steps=steps, probes=probes)
    density = narrowing(start, 0.1, 600, AbsoluteRule(0.1)).solve(np.diag(values))
    zero = density.inertia(0.1).zero
    assert zero.lower <= np.sum(np.abs(values) <= 0.1) <= zero.upper
    assert density.hvps <= 600
    assert ("every eigenvalue is known" in density.options["ended"]) == (density.rest == 0)


@pytest.mark.parametrize("budget", ["5 apples", "0", "0min", "-3"])
def test_budgets_that_allow_nothing_are_refused(budget: str) -> None:
    with pytest.raises(OptionError, match="budget"):
        LanczosBackend(target_width=0.1, budget=budget)


def test_budgets_are_products_or_time() -> None:
    for budget, products, seconds in (
        (5000, 5000, np.inf), ("5000", 5000, np.inf), ("1.5h", sys.maxsize, 5400),
        ("20min", sys.maxsize, 1200), (None, 10_000, np.inf),
    ):  # fmt: skip
        backend = LanczosBackend(target_width=0.1, budget=budget)
        assert backend.limits == (products, seconds)
    for width in (0.0, float("inf")):
        with pytest.raises(OptionError, match="target_width"):
            LanczosBackend(target_width=width)
    with pytest.raises(OptionError, match="at least 200"):
        LanczosBackend(target_width=0.1, budget=5)
    with pytest.raises(OptionError, match="target_width"):
        LanczosBackend(budget=500)


def test_narrowing_keeps_its_confidence_though_it_stops_when_it_looks_good() -> None:
    hits, draws = 0, 60
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PrecisionWarning)
        for seed in range(draws):
            values = 2 * np.random.default_rng(seed).beta(1.5, 1.5, 300) - 0.7
            start = LanczosBackend(steps=10, probes=1, seed=seed)
            backend = narrowing(start, 0.4, 300, AbsoluteRule(0.05))
            negative = backend.solve(Diagonal(values)).inertia(0.05).negative
            hits += negative.lower <= np.sum(values < -0.05) <= negative.upper
    assert hits / draws >= 0.95 - 3 * np.sqrt(0.95 * 0.05 / draws)
