"""Lanczos and its quadrature, against theorems and prescribed spectra."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg.cython_lapack
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hessscope.errors import NonFiniteError
from hessscope.linalg import lapack
from hessscope.linalg.krylov import RitzPairs
from hessscope.linalg.lanczos import gaussian, lanczos
from hessscope.linalg.lapack import eigenvalues_in_place
from hessscope.linalg.quadrature import mass_bracket

CPU = torch.device("cpu")


def rotated(eigenvalues: np.ndarray, seed: int = 0) -> torch.Tensor:
    """A dense symmetric matrix with the given eigenvalues."""
    basis = np.linalg.qr(np.random.default_rng(seed).standard_normal((len(eigenvalues),) * 2))[0]
    return torch.from_numpy(basis * eigenvalues @ basis.T)


@pytest.mark.parametrize("steps", [1, 2, 5, 20])
def test_quadrature_is_exact_to_degree_2k_minus_1(steps: int) -> None:
    values = np.linspace(-1.0, 1.5, 60)
    matrix = rotated(values)
    starts = gaussian(60, 3, seed=4, dtype=torch.float64, device=CPU)
    starts /= torch.linalg.vector_norm(starts, dim=0)
    for j, run in enumerate(lanczos(lambda v: matrix @ v, starts, steps)):
        rule, v, power = run.quadrature(), starts[:, j], starts[:, j]
        moments = [float(rule.weights @ rule.nodes**degree) for degree in range(2 * steps + 1)]
        for moment in moments[:-1]:
            assert moment == pytest.approx(float(v @ power), rel=1e-11, abs=1e-12)
            power = matrix @ power
        # One degree more is where the Gauss rule fails: the test can tell.
        assert abs(moments[-1] - float(v @ power)) > 1e-13 or steps == 20


@pytest.mark.parametrize("x", [-1.1, -0.6, 0.3, 1.2])
def test_mass_brackets_are_the_weights_of_the_gauss_radau_rule(x: float) -> None:
    """The rule is built as in Golub & Meurant 2010, section 6.2, and is exact to degree 2k."""
    matrix, steps = rotated(np.linspace(-1.0, 1.5, 60)), 6
    starts = gaussian(60, 1, seed=1, dtype=torch.float64, device=CPU)
    (run,) = lanczos(lambda v: matrix @ v, starts, steps)
    extended = np.diag(np.append(run.alphas, x))
    extended += np.diag(run.betas, 1) + np.diag(run.betas, -1)
    inner = extended[:-1, :-1] - x * np.eye(steps)
    extended[-1, -1] += run.betas[-1] ** 2 * np.linalg.inv(inner)[-1, -1]
    nodes, vectors = np.linalg.eigh(extended)
    weights = vectors[0] ** 2
    v = starts[:, 0] / torch.linalg.vector_norm(starts)
    for degree in range(2 * steps + 1):
        exact = float(v @ torch.linalg.matrix_power(matrix, degree) @ v)
        assert np.sum(weights * nodes**degree) == pytest.approx(exact, rel=1e-11, abs=1e-12)
    here = int(np.argmin(np.abs(nodes - x)))
    assert nodes[here] == pytest.approx(x, abs=1e-13)
    below, through = np.sum(weights[:here]), np.sum(weights[: here + 1])
    bracket = mass_bracket(run.quadrature(), run.alphas, run.betas, x)
    assert bracket == pytest.approx((below, through), abs=1e-12)


def test_basis_stays_orthonormal_and_ritz_residuals_are_true() -> None:
    # Converged outliers are where Lanczos without reorthogonalisation grows ghosts.
    values = np.concatenate([np.linspace(0, 1e-3, 190), [5.0, 7.0, 11.0], np.full(7, -2.0)])
    matrix = rotated(values)
    starts = gaussian(200, 2, seed=0, dtype=torch.float64, device=CPU)
    for run in lanczos(lambda v: matrix @ v, starts, 60):
        assert run.orthogonality < 1e-14
        rule = run.quadrature()
        for node, residual in zip(rule.nodes, rule.residuals, strict=True):
            assert np.min(np.abs(values - node)) <= residual + 1e-13
        assert np.sum(np.abs(rule.nodes - 11.0) < 1e-9) == 1


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), steps=st.integers(1, 25), x=st.floats(-2, 2))
def test_cumulative_bracket_never_misses(seed: int, steps: int, x: float) -> None:
    rng = np.random.default_rng(seed)
    values = np.sort(rng.standard_normal(40))
    v = rng.standard_normal(40)
    v /= np.linalg.norm(v)
    (run,) = lanczos(
        lambda w: torch.from_numpy(values)[:, None] * w, torch.from_numpy(v)[:, None], steps
    )
    rule = run.quadrature()
    lower, upper = rule.cumulative_bracket(x)
    truth = float(np.sum(v[values <= x] ** 2))
    assert lower - 1e-12 <= truth <= upper + 1e-12
    # With a node prescribed at x the bracket is no wider, and still holds the truth.
    tight = mass_bracket(rule, run.alphas, run.betas, x)
    assert tight.lower - 1e-12 <= truth <= tight.upper + 1e-12
    assert tight.upper - tight.lower <= upper - lower + 1e-12


@pytest.mark.parametrize("scale", [1.0, 1e-200, 1e200])
def test_runs_go_through_invariant_subspaces(scale: float) -> None:
    """After three steps only rounding is left; made orthogonal, it finds all other copies."""
    values = np.repeat([-1.0, 0.0, 2.0], [3, 30, 7]) * scale
    starts = gaussian(40, 2, seed=3, dtype=torch.float64, device=CPU)
    for j, run in enumerate(lanczos(lambda v: torch.from_numpy(values)[:, None] * v, starts, 40)):
        assert run.orthogonality < 1e-14
        rule = run.quadrature()
        v = starts[:, j].numpy() ** 2
        for x, mass in ((-0.5, v[:3].sum() / v.sum()), (1.0, v[:33].sum() / v.sum())):
            bracket = mass_bracket(rule, run.alphas, run.betas, x * scale)
            assert bracket == pytest.approx((mass, mass), abs=1e-13)
        for value, copies in ((-1.0, 3), (2.0, 7)):
            assert np.sum(np.abs(rule.nodes / scale - value) < 1e-13) == copies


def test_a_run_ends_where_nothing_at_all_is_left() -> None:
    starts = gaussian(30, 1, seed=0, dtype=torch.float64, device=CPU)
    (run,) = lanczos(lambda v: 0.0 * v, starts, 30)
    assert len(run.alphas) == 1
    assert mass_bracket(run.quadrature(), run.alphas, run.betas, 1e-300) == (1.0, 1.0)
    assert mass_bracket(run.quadrature(), run.alphas, run.betas, -1e-300) == (0.0, 0.0)


def test_pairs_found_on_another_device_are_taken_along() -> None:
    # A device without numbers stands for a GPU.
    first = RitzPairs(np.array([2.0]), np.array([0.1]), torch.zeros(1, 5, device="meta"))
    more = RitzPairs(np.array([1.0]), np.array([0.2]), torch.zeros(1, 5))
    both = first.with_more(more)
    assert (both.vectors.device.type, both.vectors.shape) == ("meta", (2, 5))
    assert both.residuals.tolist() == [0.2, 0.1]


def test_probes_do_not_depend_on_how_many_are_drawn() -> None:
    together = gaussian(50, 4, seed=9, dtype=torch.float64, device=CPU)
    alone = gaussian(50, 1, seed=9, dtype=torch.float64, device=CPU, first=2)
    assert torch.equal(together[:, 2:3], alone)
    assert not torch.equal(together[:, 0], together[:, 1])


def test_runs_in_lock_step_equal_runs_alone() -> None:
    matrix = rotated(np.linspace(-1, 1, 30))
    starts = gaussian(30, 3, seed=0, dtype=torch.float64, device=CPU)
    together = lanczos(lambda v: matrix @ v, starts, 12)
    for j in range(3):
        (alone,) = lanczos(lambda v: matrix @ v, starts[:, j : j + 1], 12)
        np.testing.assert_allclose(together[j].alphas, alone.alphas, atol=1e-13)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("n", [0, 1, 2, 300])
def test_lapack_in_place_gives_the_prescribed_spectrum(dtype: type, n: int) -> None:
    values = np.linspace(-2.0, 3.0, n)
    matrix = rotated(values).numpy().astype(dtype)
    matrix = np.ascontiguousarray((matrix + matrix.T) / 2)
    found = eigenvalues_in_place(matrix)
    np.testing.assert_allclose(found, values, atol=100 * np.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_both_ways_to_reduce_a_large_matrix_give_its_spectrum(
    dtype: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reflection of a diagonal matrix, which is known to a few roundings."""
    values = np.concatenate([np.zeros(300), np.linspace(-2.0, 3.0, 1800)])
    normal = np.random.default_rng(0).standard_normal(len(values))
    normal /= np.linalg.norm(normal)
    product = values * normal
    matrix = np.diag(values) - 2 * np.outer(normal, product) - 2 * np.outer(product, normal)
    matrix = (matrix + 4 * (normal @ product) * np.outer(normal, normal)).astype(dtype)
    allowed = 8 * np.finfo(dtype).eps * np.linalg.norm(values)  # the solver's noise floor
    for two_stages in (lapack._in_two_stages, lambda name: None):
        monkeypatch.setattr(lapack, "_in_two_stages", two_stages)
        found = eigenvalues_in_place(matrix.copy())
        np.testing.assert_allclose(found, np.sort(values), atol=allowed, rtol=0)


def test_lapack_lets_other_threads_run() -> None:
    ticks: list[float] = []
    matrix = rotated(np.linspace(-1, 1, 1200)).numpy().copy()
    eigenvalues_in_place(matrix, waiting=lambda: ticks.append(0.0))
    assert ticks


def test_ctrl_c_gets_through_while_lapack_works() -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        eigenvalues_in_place(rotated(np.linspace(-1, 1, 1200)).numpy().copy(), waiting=interrupt)


def test_nan_in_a_product_is_refused() -> None:
    starts = gaussian(10, 1, seed=0, dtype=torch.float64, device=CPU)
    with pytest.raises(NonFiniteError, match="not finite"):
        lanczos(lambda v: v * float("nan"), starts, 3)


@pytest.mark.parametrize("name", ["dsyevd", "ssyevd"])
def test_routines_that_scipy_does_not_document_are_there(name: str) -> None:
    """Else no exact spectrum is computed, or only in one stage and half as fast."""
    assert name in scipy.linalg.cython_lapack.__pyx_capi__
    assert lapack._in_two_stages(name) is not None
