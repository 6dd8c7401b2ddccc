"""Backends against prescribed spectra, against each other, and against PyHessian."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import scipy.sparse
import scipy.sparse.linalg
import scipy.stats
import torch
from torch import nn

from hessscope import (
    EmpiricalRisk,
    ExactBackend,
    HessianOperator,
    LanczosBackend,
    Plan,
    SpectralDensity,
    Spectrum,
)
from hessscope.backends.exact import choose_backend, symmetrise_
from hessscope.backends.measured_noise import SOLVER_ERROR, asymmetry_norm
from hessscope.backends.pyhessian import PyHessianBackend
from hessscope.errors import (
    MemoryLimitError,
    NonFiniteError,
    OptionError,
    PrecisionWarning,
    SolverError,
)
from hessscope.operators import as_operator, memory_room
from hessscope.spectra import NoiseFloor
from hessscope.spectra.estimates import student_interval

PRESCRIBED = np.concatenate([[-2.0, -0.5], np.zeros(30), np.linspace(0.1, 1.0, 60), [4.0, 9.0]])


def rotated(values: np.ndarray, seed: int = 0) -> np.ndarray:
    basis = np.linalg.qr(np.random.default_rng(seed).standard_normal((len(values),) * 2))[0]
    return basis * values @ basis.T


def network(dtype: str = "float64", l2: float = 0.0, batch_size: int = 40) -> EmpiricalRisk:
    torch.manual_seed(5)
    model = nn.Sequential(nn.Linear(8, 6), nn.Tanh(), nn.Linear(6, 4))
    data = (torch.randn(100, 8), torch.randint(0, 4, (100,)))
    return EmpiricalRisk(model, data, dtype=dtype, l2=l2, device="cpu", batch_size=batch_size)


def test_every_kind_of_operator_gives_the_prescribed_spectrum() -> None:
    dense = rotated(PRESCRIBED)
    kinds = [
        dense,
        torch.from_numpy(dense),
        scipy.sparse.csr_array(dense),
        scipy.sparse.linalg.aslinearoperator(dense),
    ]
    for kind in kinds:
        spectrum = ExactBackend().solve(kind)
        np.testing.assert_allclose(spectrum.eigenvalues, np.sort(PRESCRIBED), atol=1e-13)
        density = LanczosBackend(steps=94, probes=2).solve(kind)
        assert density.lambda_max == pytest.approx(9.0, abs=1e-12)
        assert density.lambda_min == pytest.approx(-2.0, abs=1e-12)


def test_counts_of_the_prescribed_spectrum() -> None:
    inertia = ExactBackend().solve(rotated(PRESCRIBED)).inertia(1e-10)
    assert (inertia.negative.estimate, inertia.zero.estimate) == (2, 30)
    assert inertia.decided
    assert inertia.index_fraction == pytest.approx(2 / 94)


def test_eigenvectors_on_request_diagonalise() -> None:
    dense = rotated(PRESCRIBED)
    spectrum = ExactBackend(eigenvectors=True).solve(dense)
    vectors = spectrum.eigenvectors
    assert vectors is not None
    np.testing.assert_allclose(dense @ vectors, vectors * spectrum.eigenvalues, atol=1e-13)
    assert ExactBackend().solve(dense).eigenvectors is None


def test_the_users_matrix_is_not_changed() -> None:
    dense = rotated(PRESCRIBED)
    for own in (dense.copy(), torch.from_numpy(dense.copy())):
        ExactBackend().solve(own)
        np.testing.assert_array_equal(np.asarray(own), dense)


def test_zero_rows_are_split_off_and_counted() -> None:
    dense = rotated(PRESCRIBED)
    scattered = np.zeros((120, 120))
    places = np.random.default_rng(0).permutation(120)[:94]
    scattered[np.ix_(places, places)] = dense
    spectrum = ExactBackend().solve(scattered)
    expected = np.sort(np.concatenate([PRESCRIBED, np.zeros(26)]))
    np.testing.assert_allclose(spectrum.eigenvalues, expected, atol=1e-13)
    assert np.sum(spectrum.eigenvalues == 0.0) >= 26
    vectors = ExactBackend(eigenvectors=True).solve(scattered)
    np.testing.assert_allclose(vectors.eigenvalues, expected, atol=1e-13)


def test_asymmetry_is_measured_and_removed() -> None:
    skewed = torch.from_numpy(rotated(PRESCRIBED))
    reference = skewed.clone()
    skewed[3, 70] += 2e-7
    assert asymmetry_norm(skewed, block=32) == pytest.approx(1e-7, rel=1e-6)
    symmetrise_(skewed, block=32)
    assert torch.equal(skewed, skewed.T)
    assert float((skewed - reference).abs().max()) == pytest.approx(1e-7, rel=1e-6)


@pytest.mark.parametrize("triangle", ["U", "L"])
def test_asymmetry_in_all_entries_is_as_large_as_its_norm(triangle: str) -> None:
    # Each entry is off by little, and an eigenvalue by n times as much.
    n, off = 200, 1e-9
    matrix = np.full((n, n), 1 / n)
    matrix[np.tril_indices(n, -1)] += off
    with pytest.warns(PrecisionWarning, match="not symmetric"):
        spectrum = ExactBackend().solve(matrix)
    meant = np.linalg.eigvalsh(matrix, UPLO=triangle)[-1]
    assert abs(spectrum.lambda_max - meant) <= spectrum.noise_floor.total < 1.01 * n * off / 2


@pytest.mark.parametrize("block", [7, 2048])
def test_asymmetry_comes_close_to_the_norms(block: int) -> None:
    rng = np.random.default_rng(0)
    skewed = rng.standard_normal((60, 60)) * np.linspace(0, 1, 60) ** 4
    half = (skewed - skewed.T) / 2
    mirrored = np.triu(half) + np.triu(half).T
    norm = max(np.linalg.norm(half, 2), np.linalg.norm(mirrored, 2))
    mean, matrix = (skewed + skewed.T) / 2, torch.from_numpy(skewed.copy())
    assert 0.8 * norm <= asymmetry_norm(matrix, block) <= norm * (1 + 1e-12)
    symmetrise_(matrix, block)
    np.testing.assert_array_equal(matrix.numpy(), mean)
    assert asymmetry_norm(matrix, block) == 0.0


def test_intervals_are_what_the_noise_floor_says() -> None:
    spectrum = Spectrum(
        np.array([-1.0, -3.1e-8, -2.5e-8, -1e-9, 0.0, 1.5e-8, 2.9e-8, 1.0]),
        NoiseFloor(4e-9, 6e-9),
        "float64",
    )
    inertia = spectrum.inertia()
    assert inertia.noise_floor == pytest.approx(1e-8)
    assert inertia.tolerance == pytest.approx(2e-8)
    # #(λ < −3e-8), #(λ < −2e-8), #(λ < −1e-8), by hand:
    negative, zero, positive = inertia.negative, inertia.zero, inertia.positive
    assert (negative.lower, negative.estimate, negative.upper) == (2, 3, 3)
    assert (positive.lower, positive.estimate, positive.upper) == (1, 2, 3)
    assert (zero.lower, zero.estimate, zero.upper) == (2, 3, 5)


def test_a_tolerance_below_the_noise_floor_warns_and_widens() -> None:
    values = np.concatenate([[-1.0], np.linspace(-1e-12, 1e-12, 11), [1.0]])
    spectrum = Spectrum(values, NoiseFloor(2e-12, 0.0), "float64")
    with pytest.warns(PrecisionWarning, match="below twice the noise floor"):
        inertia = spectrum.inertia(0.0)
    assert inertia.negative.lower == 1
    assert inertia.negative.upper == 12
    assert inertia.zero.lower == 0
    with pytest.raises(OptionError):
        spectrum.inertia(-1.0)


@pytest.mark.parametrize("n", [200, 600])
def test_solver_error_bounds_what_the_solver_does_to_exact_zeros(n: int) -> None:
    # A Gram matrix of small integers is exact in floating point, and so is its rank.
    factor = np.random.default_rng(n).integers(-3, 4, size=(n, n // 2)).astype(float)
    spectrum = ExactBackend().solve(factor @ factor.T)
    zeros = np.abs(spectrum.eigenvalues[: n - n // 2])
    assert zeros.max() < spectrum.noise_floor.total
    # The bound is not idle either: the error is there, and within a factor of 100.
    assert zeros.max() > spectrum.noise_floor.total / (100 * SOLVER_ERROR)


def test_noise_floor_bounds_other_batch_splits() -> None:
    reference = ExactBackend().solve(HessianOperator(network(batch_size=40)))
    for size in (1, 7, 33, 100):
        other = ExactBackend().solve(
            HessianOperator(network(batch_size=size), plan=Plan("graph", 16, size, True))
        )
        shift = np.abs(other.eigenvalues - reference.eigenvalues).max()
        # Each is within its own floor of the truth.
        assert shift <= reference.noise_floor.total + other.noise_floor.total


def test_float32_spectrum_is_within_its_noise_floor_of_float64() -> None:
    double = ExactBackend().solve(HessianOperator(network()))
    single = ExactBackend().solve(HessianOperator(network("float32")))
    assert single.dtype == "float32"
    shift = np.abs(single.eigenvalues - double.eigenvalues).max()
    assert 1e-9 < shift <= single.noise_floor.total
    assert single.noise_floor.total > 1e6 * double.noise_floor.total


def test_lanczos_and_exact_agree_on_a_network() -> None:
    exact = ExactBackend().solve(HessianOperator(network()))
    density = LanczosBackend(steps=40, probes=8, seed=1).solve(HessianOperator(network()))
    for mine, theirs, residual in (
        (density.lambda_max, exact.lambda_max, density.lambda_max_residual),
        (density.lambda_min, exact.lambda_min, density.lambda_min_residual),
    ):
        assert abs(mine - theirs) <= residual + exact.noise_floor.total
    trace = density.trace_estimate()
    assert trace.lower <= exact.trace <= trace.upper
    assert density.hvps == 40 + 8 * density.steps + 20
    sure, sampled = exact.inertia(1e-3), density.inertia(1e-3)
    for truth, interval in (
        (sure.negative, sampled.negative),
        (sure.zero, sampled.zero),
        (sure.positive, sampled.positive),
    ):
        assert interval.lower <= truth.estimate <= interval.upper
    assert sampled.size == exact.size


@pytest.mark.parametrize("tolerance", [1e-6, 0.05, 0.3])
def test_lanczos_intervals_cover_the_truth(tolerance: float) -> None:
    values = np.concatenate([np.random.default_rng(3).standard_normal(380) * 0.1, [3.0] * 20])
    truth = int(np.sum(values < -tolerance))
    operator = torch.from_numpy(np.diag(np.sort(values)))
    draws = 60
    hits = 0
    for seed in range(draws):
        interval = LanczosBackend(steps=12, probes=5, seed=seed).solve(operator)
        negative = interval.inertia(tolerance).negative
        hits += negative.lower <= truth <= negative.upper
        # Ritz values below −τ are rigorous: never more than there are eigenvalues.
        assert np.max(np.sum(interval.nodes < -tolerance - 1e-12, axis=1)) <= truth
    # 95 % intervals: fewer than 88 % of 60 would be three standard errors away.
    assert hits / draws >= 0.95 - 3 * np.sqrt(0.95 * 0.05 / draws)


def test_one_probe_has_intervals() -> None:
    density = LanczosBackend(steps=10, probes=1).solve(rotated(PRESCRIBED))
    inertia = density.inertia(1e-3)
    truth = int(np.sum(PRESCRIBED < -1e-3))
    assert inertia.negative.lower <= truth <= inertia.negative.upper < density.size
    trace = density.trace_estimate()
    assert trace.lower <= np.sum(PRESCRIBED) <= trace.upper < np.inf


def test_same_seed_same_bits_and_other_seed_other_bits() -> None:
    a, b, c = (
        LanczosBackend(steps=20, probes=3, seed=seed).solve(rotated(PRESCRIBED))
        for seed in (4, 4, 5)
    )
    np.testing.assert_array_equal(a.nodes, b.nodes)
    assert np.abs(a.nodes - c.nodes).max() > 1e-6


def test_probes_in_groups_give_the_same_as_all_together(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = LanczosBackend(steps=20, probes=5, seed=4)
    together = backend.solve(rotated(PRESCRIBED))
    # Room for the bases of two probes of five.
    room = int(2.5 * 2 * 94 * 20 * 8 / 0.7) + 8 * 94 * 8
    monkeypatch.setattr("hessscope.backends.lanczos.memory_room", lambda *_: room)
    assert 1 < backend.planned(as_operator(rotated(PRESCRIBED)), {}).together < 5
    np.testing.assert_allclose(backend.solve(rotated(PRESCRIBED)).nodes, together.nodes, atol=1e-12)


@pytest.mark.parametrize("deflation", [0, 40])
def test_trace_of_a_complete_krylov_space_is_certain_to_within_rounding(deflation: int) -> None:
    """As that of all eigenvalues; also where all are locked."""
    matrix = rotated(np.linspace(-1.0, 2.0, 12))
    for result in (
        LanczosBackend(steps=50, probes=1, deflation=deflation).solve(matrix),
        ExactBackend().solve(matrix),
    ):
        trace = result.trace_estimate()
        assert trace.confidence == 1.0
        assert trace.lower < 6.0 < trace.upper
        assert trace.upper - trace.lower < 1e-11
        assert trace.upper - trace.value >= 0.99 * 12 * result.noise_floor.total


def test_students_interval() -> None:
    # Mean 3, standard deviation √2.5; the table has t₀.₉₇₅ = 2.7764 for 4 degrees of freedom.
    values = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    found = student_interval(values, 0.95)
    assert (found.value, found.confidence) == (3.0, 0.95)
    assert found.upper - found.value == pytest.approx(2.7764 * np.sqrt(2.5 / 5), rel=1e-4)
    for confidence in (0.5, 0.99):
        found = student_interval(values, confidence)
        theirs = scipy.stats.t.interval(confidence, 4, loc=3.0, scale=scipy.stats.sem(values))
        assert (found.lower, found.upper) == pytest.approx(theirs)


def test_the_trace_is_unbiased_where_eigenvalues_repeat() -> None:
    """Three steps see one copy of each of 40 eigenvalues."""
    values = np.repeat([4.0, 5.0, 7.0], [3, 30, 7])
    draws = 40
    found = [
        LanczosBackend(steps=3, seed=seed, deflation=0).solve(np.diag(values)).trace
        for seed in range(draws)
    ]
    error = np.std(found, ddof=1) / np.sqrt(draws)
    assert abs(np.mean(found) - 211.0) < 4 * error
    # A quadratic form on the sphere in 4·40 dimensions has the variance 2/(4·40 + 2)·Var λ.
    expected = 40 * np.sqrt(2 / 162 * np.var(values) / draws)
    assert error == pytest.approx(expected, rel=3 / np.sqrt(2 * draws - 2))
    # With room for all copies, rounding leads to them.
    sure = LanczosBackend(steps=40, deflation=0).solve(np.diag(values)).trace_estimate()
    assert sure.confidence == 1.0
    assert (sure.lower, sure.upper) == pytest.approx((211.0, 211.0), abs=1e-10)


@pytest.mark.parametrize("probes", [1, 4])
@pytest.mark.parametrize(
    "values",
    [
        np.full(300, 0.3),  # equal samples
        np.repeat([0.0, 1.0], [290, 10]),  # skewed ones
        np.append(np.zeros(299), 1.0),
        np.concatenate([np.linspace(-1, 1, 280), np.full(20, -3.0)]),
    ],
    ids=["equal", "ten outliers", "one outlier", "bulk and outliers"],
)
def test_the_interval_of_the_trace_holds(values: np.ndarray, probes: int) -> None:
    """By Chernoff's bound, so nearly always; and no wider than what it is derived from allows."""
    draws = 60
    traces = [
        LanczosBackend(steps=3, probes=probes, seed=seed, deflation=0)
        .solve(np.diag(values))
        .trace_estimate()
        for seed in range(draws)
    ]
    hits = sum(trace.lower <= values.sum() <= trace.upper for trace in traces)
    assert hits / draws >= 0.95
    if np.ptp(values) == 0.0:
        assert all(trace.upper - trace.lower < 1e-8 for trace in traces)


def test_density_integrates_to_one_and_has_the_mean_of_the_trace() -> None:
    density = LanczosBackend(steps=30, probes=4).solve(rotated(PRESCRIBED))
    grid = np.linspace(-6, 14, 20_001)
    heights = density.density(grid, sigma=0.3)
    step = grid[1] - grid[0]
    assert heights.sum() * step == pytest.approx(1.0, abs=1e-6)
    assert (heights * grid).sum() * step * density.size == pytest.approx(density.trace, abs=1e-6)


def test_records_give_back_the_same_result() -> None:
    spectrum = ExactBackend(eigenvectors=True).solve(rotated(PRESCRIBED))
    again = Spectrum.from_record(spectrum.to_record())
    np.testing.assert_array_equal(again.eigenvalues, spectrum.eigenvalues)
    assert again.inertia() == spectrum.inertia()
    density = LanczosBackend(steps=10).solve(rotated(PRESCRIBED))
    back = SpectralDensity.from_record(density.to_record())
    assert back.inertia(1e-3) == density.inertia(1e-3)
    assert back.trace_estimate() == density.trace_estimate()


def test_components_give_back_products_and_norms() -> None:
    """xᵀAx = Σ λⱼcⱼ² and |x|² = Σ cⱼ², whatever the signs and order of the eigenvectors."""
    matrix = rotated(PRESCRIBED)
    x = np.random.default_rng(5).normal(size=len(matrix))
    spectrum = ExactBackend(eigenvectors=True).solve(matrix)
    for vector in (x, torch.from_numpy(x), list(x)):
        components = spectrum.components(vector)
        assert components @ components == pytest.approx(x @ x, rel=1e-12)
        quadratic = (spectrum.eigenvalues * components) @ components
        assert quadratic == pytest.approx(x @ matrix @ x, rel=1e-12)
    with pytest.raises(OptionError, match="eigenvectors=True"):
        ExactBackend().solve(matrix).components(x)


def test_pyhessian_agrees() -> None:
    risk = network(l2=0.05)
    state = torch.random.get_rng_state()
    theirs = PyHessianBackend(max_iterations=500, change=1e-10).solve(HessianOperator(risk))
    exact = ExactBackend().solve(HessianOperator(risk))
    assert theirs.largest[0] == pytest.approx(exact.lambda_max, rel=1e-4)
    trace = theirs.trace_estimate(confidence=0.999)
    assert trace.lower <= exact.trace <= trace.upper
    assert theirs.hvps > 10
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.get_default_dtype() == torch.float32
    with pytest.raises(SolverError, match="needs the Hessian of an EmpiricalRisk"):
        PyHessianBackend().solve(rotated(PRESCRIBED))


def test_what_torch_keeps_of_a_gpu_for_later_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (10_000, 80_000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 60_000)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 20_000)
    gpu = torch.device("cuda")
    assert memory_room(None, gpu) == int(0.8 * (10_000 + 60_000 - 20_000))
    assert memory_room(50_000, gpu) == 50_000 - 20_000


def test_too_large_for_memory_says_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    full = SimpleNamespace(free=0)
    monkeypatch.setattr("hessscope.backends.lanczos.shutil.disk_usage", lambda _: full)
    wanted = scipy.sparse.linalg.LinearOperator((200_000, 200_000), matvec=lambda v: v)
    with pytest.raises(MemoryLimitError, match=r"needs 320 GB, .* `backend=lanczos`"):
        ExactBackend(memory=10**10).solve(wanted)
    with pytest.raises(MemoryLimitError, match=r"`steps=\d+` would fit; `dtype=float32`"):
        LanczosBackend(steps=5000, memory=10**9, reorthogonalize="full").solve(wanted)
    with pytest.warns(PrecisionWarning, match="not reorthogonalised"):
        density = LanczosBackend(steps=5000, memory=10**9).solve(wanted)
    assert not density.rigorous


def test_auto_takes_lanczos_where_exact_does_not_fit() -> None:
    hessian = HessianOperator(network())
    assert choose_backend(hessian, ExactBackend())[0] == "exact"
    torch.manual_seed(0)
    wide = EmpiricalRisk(
        nn.Sequential(nn.Linear(40, 30), nn.Tanh(), nn.Linear(30, 4)),
        (torch.randn(20, 40), torch.randint(0, 4, (20,))),
        device="cpu",
    )
    name, reason = choose_backend(HessianOperator(wide), ExactBackend(memory=10**6))
    assert name == "lanczos"
    assert "needs 14.7 MB" in reason
    name, reason = choose_backend(HessianOperator(wide), ExactBackend())
    assert name == "exact"
    assert reason.startswith("exact is estimated at ")
    assert int(reason.split()[4]) < 60
    assert reason.split()[5] == "s"


def test_what_cannot_be_solved_is_refused() -> None:
    with pytest.raises(OptionError, match="square"):
        ExactBackend().solve(np.ones((3, 4)))
    with pytest.raises(OptionError, match="not an operator"):
        ExactBackend().solve("hessian")
    with pytest.raises(NonFiniteError):
        ExactBackend().solve(np.array([[np.nan, 0.0], [0.0, 1.0]]))
    with pytest.raises(OptionError, match="complex"):
        ExactBackend().solve(np.eye(3) * 1j)
    for options in (
        {"steps": 0},
        {"steps": 2.5},
        {"probes": 0},
        {"confidence": 1.0},
        {"confidence": "much"},
        {"seed": -1},
    ):
        with pytest.raises(OptionError, match=next(iter(options))):
            LanczosBackend(**options)
    with pytest.raises(OptionError, match="tolerance a is not usable"):
        LanczosBackend(steps=2).solve(np.eye(3)).inertia("a")


def test_matrices_of_any_numbers_are_taken_and_others_refused() -> None:
    values = [-2.0, 0.0, 1.0]
    for matrix in (
        np.diag(values).astype(np.longdouble),
        np.diag(values).astype(">f8"),
        np.diag(values).astype(int),
        scipy.sparse.csr_array(np.diag(values).astype(np.longdouble)),
        torch.diag(torch.tensor(values)).to(torch.bfloat16),
    ):
        np.testing.assert_allclose(ExactBackend().solve(matrix).eigenvalues, values, atol=1e-15)
        density = LanczosBackend(steps=3).solve(matrix)
        np.testing.assert_allclose(density.locked.values, values, atol=1e-15)
    with pytest.raises(OptionError, match="matrix of numbers"):
        ExactBackend().solve(np.diag(values).astype(object))
    turned = scipy.sparse.linalg.LinearOperator((3, 3), matvec=lambda v: 1j * v, dtype=float)
    for backend in (ExactBackend(), LanczosBackend(steps=2)):
        with pytest.raises(OptionError, match="products are complex"):
            backend.solve(turned)


@pytest.mark.parametrize(
    ("scale", "dtype"), [(1e-310, np.float64), (1e-200, np.float64), (1e200, np.float64),
                         (1e-40, np.float32), (1e-30, np.float32), (1e30, np.float32)]
)  # fmt: skip
def test_counts_of_matrices_at_the_ends_of_the_range_of_numbers(scale: float, dtype: type) -> None:
    """Where numbers have all their digits the counts are as ever, below that nothing is known."""
    values = (np.linspace(-1.0, 2.0, 80) * scale).astype(dtype)
    top = np.abs(values).max()
    for backend in (ExactBackend(), LanczosBackend(steps=30, probes=2)):
        result = backend.solve(np.diag(values))
        if scale < np.finfo(dtype).tiny:
            assert result.noise_floor.total > top
        else:
            assert result.noise_floor.total < 1e3 * np.finfo(dtype).eps * top
        inertia = result.inertia()
        tau = inertia.tolerance
        assert inertia.negative.lower <= np.sum(values < -tau) <= inertia.negative.upper
        assert inertia.zero.lower <= np.sum(np.abs(values) <= tau) <= inertia.zero.upper
        trace = result.trace_estimate()
        assert trace.lower <= np.sum(values, dtype=float) <= trace.upper


@pytest.mark.parametrize("value", [0.0, 2.5])
def test_one_parameter_and_a_zero_hessian(value: float) -> None:
    spectrum = ExactBackend().solve(np.array([[value]]))
    assert spectrum.eigenvalues == pytest.approx([value])
    density = LanczosBackend(steps=50).solve(np.array([[value]]))
    assert density.lambda_max == pytest.approx(value)
    assert density.inertia().zero.estimate == (value == 0.0)
    zero = LanczosBackend(steps=5).solve(np.zeros((20, 20)))
    assert zero.inertia().zero.lower == 20


def test_matrices_in_any_memory_order_and_with_zero_rows() -> None:
    values = np.diag([1.0, -2.0, 0.0])
    for matrix in (
        np.asfortranarray(values),
        np.zeros((6, 6))[::2, ::2] + values,
        torch.from_numpy(values).T,
        torch.from_numpy(values).requires_grad_(),
    ):
        np.testing.assert_allclose(ExactBackend().solve(matrix).eigenvalues, [-2, 0, 1])


def test_complex_matrices_are_refused() -> None:
    for matrix in (np.eye(2) * 1j, torch.eye(2) * 1j):
        with pytest.raises(OptionError, match="complex"):
            ExactBackend().solve(matrix)


@pytest.mark.parametrize("backend", [ExactBackend(), LanczosBackend(steps=20, probes=2)])
def test_an_operator_that_is_not_symmetric_gets_a_warning(
    backend: ExactBackend | LanczosBackend,
) -> None:
    matrix = np.diag(np.arange(1.0, 9.0))
    matrix[0, 1] = 1e-3
    with pytest.warns(PrecisionWarning, match="not symmetric"):
        result = backend.solve(matrix)
    assert 1e-5 < result.noise_floor.operator < 1e-3


class Once(torch.autograd.Function):
    """tanh whose backward pass torch cannot differentiate; torch.autograd.grad does not say so."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x)
        return x.tanh()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        return grad * (1 - ctx.saved_tensors[0].tanh() ** 2)


class OnceDifferentiable(nn.Module):
    """A small network with it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 3), nn.Linear(3, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(Once.apply(self.first(x)))


@pytest.mark.parametrize("backend", [ExactBackend(), LanczosBackend(steps=20, probes=2)])
def test_a_wrong_second_derivative_shows_in_the_noise_floor(
    backend: ExactBackend | LanczosBackend,
) -> None:
    torch.manual_seed(0)
    data = (torch.randn(10, 4), torch.randint(0, 3, (10,)))
    operator = HessianOperator(EmpiricalRisk(OnceDifferentiable(), data), check=False)
    with pytest.warns(PrecisionWarning, match="second derivative"):
        result = backend.solve(operator)
    assert result.noise_floor.operator > 1e-4
