"""Eigenvectors at the ends of a spectrum: known matrices, residuals, networks, records."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import hessscope as hs
from cli_runs import Run
from hessscope import EigenvectorBackend
from hessscope.errors import HessscopeWarning, OptionError, SolverError

N = 1520  # more than are solved from the matrix


def known(values: np.ndarray, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A symmetric matrix with these eigenvalues, and its eigenvectors."""
    n = len(values)
    q = np.linalg.qr(np.random.default_rng(seed).normal(size=(n, n)))[0]
    return (q * values) @ q.T, q


@pytest.fixture(scope="module")
def matrix() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Outliers on both sides of a bulk that piles up at zero."""
    bulk = np.concatenate([-np.geomspace(1e-12, 0.1, 300), np.geomspace(1e-12, 0.3, N - 308)])
    values = np.concatenate([[-0.9, -0.5, -0.5 + 1e-6], bulk, [0.6, 0.8, 0.8 + 1e-7, 1.7, 3.1]])
    a, q = known(values)
    return (a + a.T) / 2, values, q


@pytest.mark.parametrize("which", ["largest", "lowest", "highest"])
@pytest.mark.parametrize("count", [1, 5, 25, N // 4])
def test_known_pairs(
    which: str, count: int, matrix: tuple[np.ndarray, np.ndarray, np.ndarray]
) -> None:
    a, values, q = matrix
    pairs = EigenvectorBackend(count, which).solve(a)
    assert pairs.options["method"] == ("dense" if count == N // 4 else "arpack")
    order = np.argsort(
        {"largest": -np.abs(values), "lowest": values, "highest": -values}[which], kind="stable"
    )[:count]
    np.testing.assert_allclose(pairs.values, values[order], atol=1e-13)
    assert pairs.vectors.shape == (N, count)
    np.testing.assert_allclose(pairs.vectors.T @ pairs.vectors, np.eye(count), atol=1e-11)
    assert pairs.residuals.max() < 1e-12
    np.testing.assert_allclose(
        pairs.residuals,
        np.linalg.norm(a @ pairs.vectors - pairs.vectors * pairs.values, axis=0),
        atol=1e-14,
    )
    # A vector is known as far as its gap allows: |sin| ≤ residual / gap (Davis & Kahan).
    gaps = [np.sort(np.abs(values - values[j]))[1] for j in order[:5]]
    isolated = [j for j, gap in enumerate(gaps) if gap > 1e-2]
    assert isolated
    for j in isolated:
        assert abs(q[:, order[j]] @ pairs.vectors[:, j]) > 1 - 1e-10
    assert (pairs.vectors[np.abs(pairs.vectors).argmax(0), np.arange(count)] > 0).all()
    assert pairs.farthest_from(values) < 1e-12


def test_products_are_counted_and_few(matrix: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    from hessscope.operators import MatrixOperator

    operator = MatrixOperator(matrix[0])
    pairs = EigenvectorBackend(3, "highest").solve(operator)
    assert pairs.hvps == operator.hvps
    assert 3 < pairs.hvps < 300
    again = EigenvectorBackend(3, "highest").solve(operator)
    assert np.array_equal(again.vectors, pairs.vectors)


def test_single_precision_says_so_in_its_residuals(
    matrix: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    a, values, _ = matrix
    pairs = EigenvectorBackend(2, "highest").solve(a.astype(np.float32))
    assert pairs.dtype == "float32"
    assert pairs.residuals.max() < 1e-4
    np.testing.assert_allclose(pairs.values, values[[-1, -2]], atol=1e-5)


def test_what_does_not_converge_is_said() -> None:
    a, _ = known(np.concatenate([np.zeros(N // 2), np.geomspace(1e-14, 1, N // 2)]))
    with pytest.raises(SolverError, match="none of 4"):
        EigenvectorBackend(4, "lowest", max_products=300).solve(a)
    values = np.concatenate([np.linspace(0, 1, N - 1), [3.0]])
    a, _ = known(values)
    with pytest.warns(HessscopeWarning, match="1 of 3"):
        pairs = EigenvectorBackend(3, "highest", max_products=150).solve(a)
    assert (len(pairs), pairs.requested) == (1, 3)
    assert pairs.values[0] == pytest.approx(3.0, abs=1e-12)


def test_a_value_passed_over_is_noticed() -> None:
    pairs = EigenvectorBackend(2, "highest").solve(np.diag([1.0, 2.0, 3.0]))
    assert pairs.farthest_from(np.array([1.0, 2.0, 3.0])) < 1e-15
    assert pairs.farthest_from(np.array([1.0, 3.0, 3.0])) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("text", "count", "which"),
    [
        ("7", 7, "largest"),
        (3, 3, "largest"),
        ("lowest:2", 2, "lowest"),
        ("highest:9", 9, "highest"),
    ],
)
def test_texts(text: str | int, count: int, which: str) -> None:
    backend = EigenvectorBackend.parse(text, seed=4)
    assert (backend.count, backend.which, backend.seed) == (count, which, 4)


@pytest.mark.parametrize("text", ["0", "-3", "lowest", "smallest:3", "3:lowest", "1.5", ""])
def test_texts_that_mean_nothing(text: str) -> None:
    with pytest.raises(OptionError, match="lowest:5"):
        EigenvectorBackend.parse(text)


@pytest.fixture
def run(run: Run, work: Path) -> Run:
    return run


COMMAND = ("spectrum", "model.pt", "--data", "data.npz", "--activation", "tanh")


@pytest.mark.parametrize("backend", ["exact", "lanczos"])
def test_command_and_record(run: Run, backend: str) -> None:
    outcome = run(
        *COMMAND, "--eigenvectors", "lowest:4", "--backend", backend, "--json", "--out", "r.h5"
    )
    said = outcome.json
    assert said["eigenvector_which"] == "lowest"
    assert said["eigenvector_values"][0] == pytest.approx(said["lambda_min"], abs=1e-12)
    record = hs.load_record("r.h5")
    pairs = hs.Eigenpairs.from_record(record)
    assert pairs.vectors.shape == (43, 4)
    assert pairs.values.tolist() == said["eigenvector_values"]
    assert record["eigenvector_residuals"].max() < 1e-13
    from cli_runs import arrays, network

    data = arrays()
    risk = hs.EmpiricalRisk(network(), (data["inputs"], data["targets"]), device="cpu")
    dense = hs.HessianOperator(risk).to_dense().numpy()
    difference = dense @ pairs.vectors - pairs.vectors * pairs.values
    assert np.abs(difference).max() < 1e-13
    if backend == "exact":
        # Four vectors are not the n that a Spectrum may have.
        assert hs.Spectrum.from_record(record).eigenvectors is None
    table = run(*COMMAND, "--eigenvectors", "2", "--out", "s.h5").out
    assert "‖Av − λv‖" in table
    assert "eigenvector_values" not in run(*COMMAND, "--json", "--out", "t.h5").json


def test_failure_leaves_the_spectrum(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise SolverError("none of 4 converged")

    monkeypatch.setattr(EigenvectorBackend, "solve", fail)
    outcome = run(*COMMAND, "--eigenvectors", "4", "--json", "--out", "r.h5")
    assert outcome.code == 0
    assert "no eigenvectors: none of 4" in outcome.json["warnings"][-1]
    assert hs.load_record("r.h5")["eigenvalues"].shape == (43,)


def test_wrong_text_is_refused_at_once(run: Run) -> None:
    outcome = run(*COMMAND, "--eigenvectors", "smallest:3")
    assert outcome.code == 2
    assert "lowest:5" in outcome.error


def test_eigenvectors_of_a_network_by_products(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(60, 25), torch.nn.ReLU(), torch.nn.Linear(25, 4))
    risk = hs.EmpiricalRisk(model, (torch.randn(80, 60), torch.randint(0, 4, (80,))), device="cpu")
    hessian = hs.HessianOperator(risk)
    assert hessian.shape[0] > 1500
    pairs = EigenvectorBackend(6).solve(hessian)
    dense = hessian.to_dense().numpy()
    values = np.linalg.eigvalsh(dense)
    assert pairs.options["method"] == "arpack"
    assert pairs.farthest_from(values) < 1e-13
    difference = dense @ pairs.vectors - pairs.vectors * pairs.values
    assert np.abs(difference).max() < 1e-12
