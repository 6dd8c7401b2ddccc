"""Rules by which eigenvalues count as zero, against other programs' own."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
import torch
from torch import nn

import hessscope as hs
from cli_runs import PARAMETERS, Run, listing
from hessscope.errors import MemoryLimitError, OptionError, PrecisionWarning, UnknownNameError
from hessscope.spectra import (
    AbsoluteRule,
    NoiseFloor,
    NoiseFloorRule,
    RelativeRule,
    Sankar2017Rule,
    find_zero_rule,
)

BASE = ("spectrum", "model.pt", "--data", "data.npz", "--activation", "tanh")


def with_dead_inputs(dtype: str, seed: int = 0) -> hs.EmpiricalRisk:
    """A trained 30-14-5 ReLU network; four inputs are zero throughout, and two are the same."""
    stream = torch.Generator().manual_seed(seed)
    inputs = torch.rand(200, 30, generator=stream)
    inputs *= torch.rand(200, 30, generator=stream) < 0.3
    inputs[:, :4] = 0.0
    inputs[:, 5] = inputs[:, 4]
    targets = torch.randint(0, 5, (200,), generator=stream)
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(30, 14), nn.ReLU(), nn.Linear(14, 5))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(100):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs), targets).backward()
        optimizer.step()
    return hs.EmpiricalRisk(model, (inputs, targets), dtype=dtype, device="cpu")


# --- ours --------------------------------------------------------------------------------------


def test_rules_differ_in_their_tolerance_only() -> None:
    values = np.array([-4.0, -1e-3, -1e-9, 0.0, 3e-9, 2e-5, 1.0, 2.0])
    spectrum = hs.Spectrum(values, NoiseFloor(1e-10, 0.0), "float64")
    for rule, tolerance, counts in (
        (NoiseFloorRule(), 2e-10, (3, 1, 4)),
        (AbsoluteRule(1e-4), 1e-4, (2, 4, 2)),
        (RelativeRule(1e-9), 4e-9, (2, 3, 3)),
        (RelativeRule(1e-3), 4e-3, (1, 5, 2)),
        (Sankar2017Rule(), 2e-10, (3, 1, 4)),
        (Sankar2017Rule(AbsoluteRule(1e-4)), 1e-4, (2, 4, 2)),
    ):
        inertia = rule.inertia(spectrum)
        assert inertia.tolerance == pytest.approx(tolerance)
        found = (inertia.negative.estimate, inertia.zero.estimate, inertia.positive.estimate)
        assert found == counts


@pytest.mark.parametrize("rank", [1, 40, 79])
def test_relative_rule_counts_as_numpys_rank(rank: int) -> None:
    factor = np.random.default_rng(rank).standard_normal((80, rank))
    matrix = factor @ factor.T
    spectrum = hs.ExactBackend().solve(matrix)
    with warnings.catch_warnings():
        # n·eps·max|λ| is less than 2δ where the norm of the matrix is in many eigenvalues.
        warnings.simplefilter("ignore", PrecisionWarning)
        inertia = RelativeRule().inertia(spectrum)
    expected = np.linalg.matrix_rank(matrix, hermitian=True)
    assert inertia.zero.estimate == 80 - expected == 80 - rank
    largest = np.abs(spectrum.eigenvalues).max()
    assert inertia.tolerance == pytest.approx(80 * np.finfo(float).eps * largest)


def test_relative_rule_takes_eps_of_the_data_type() -> None:
    spectrum = hs.ExactBackend().solve(np.diag(np.arange(1.0, 9.0)).astype(np.float32))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PrecisionWarning)
        tolerance = RelativeRule().inertia(spectrum).tolerance
    assert tolerance == pytest.approx(8 * np.finfo(np.float32).eps * 8.0)


def test_a_rule_is_found_by_its_name() -> None:
    for name, tolerance, rule in (
        (None, None, NoiseFloorRule()),
        (None, 1e-6, AbsoluteRule(1e-6)),
        ("noise_floor", None, NoiseFloorRule()),
        ("absolute", 1e-6, AbsoluteRule(1e-6)),
        ("relative", None, RelativeRule()),
        ("relative", 1e-6, RelativeRule(1e-6)),
        ("sankar2017", None, Sankar2017Rule()),
        ("sankar2017", 1e-6, Sankar2017Rule(AbsoluteRule(1e-6))),
    ):
        assert find_zero_rule(name, tolerance) == rule


def test_rules_and_tolerances_that_do_not_go_together_are_refused() -> None:
    with pytest.raises(UnknownNameError, match=r"Did you mean 'sankar2017'\?"):
        find_zero_rule("sankar")
    with pytest.raises(OptionError, match="absolute` needs τ: give `tolerance`"):
        find_zero_rule("absolute")
    with pytest.raises(OptionError, match="leave one of them out"):
        find_zero_rule("noise_floor", 1e-6)
    for name in (None, "absolute", "relative", "sankar2017"):
        for wrong in (-1.0, float("nan"), float("inf")):
            with pytest.raises(OptionError, match="not usable"):
                find_zero_rule(name, wrong)


# --- the published code's ------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("seed", [0, 1])
def test_sankar2017_counts_as_a_general_solver_on_the_float32_matrix(dtype: str, seed: int) -> None:
    hessian = hs.HessianOperator(with_dead_inputs(dtype, seed))
    spectrum = hs.ExactBackend(rounded=True).solve(hessian)
    counts = Sankar2017Rule().published(spectrum)
    stored = hessian.to_dense().to(torch.float32).to(torch.float64).numpy()
    general = scipy.linalg.eigvals(stored)
    # Balancing isolates the exactly zero rows and nothing else.
    assert counts.just_zero == np.sum(general == 0.0) == np.sum(~stored.any(axis=1))
    assert counts.just_zero >= 4 * 14
    # Signs agree but for those that each solver's own rounding decides: the two equal inputs leave
    # a zero eigenvalue for each unit that float32 keeps, and no row that is zero.
    assert counts.undecided >= 10
    for mine, theirs in (
        (counts.negative, int(np.sum(general.real < 0))),
        (counts.positive, int(np.sum(general.real > 0))),
    ):
        assert abs(mine - theirs) <= counts.undecided
    assert counts.positive + counts.negative + counts.just_zero == spectrum.size
    # And rounding makes more of them negative than are so in float64 with a tolerance.
    ours = hs.ExactBackend().solve(hs.HessianOperator(with_dead_inputs("float64", seed))).inertia()
    assert counts.negative > ours.negative.upper
    assert counts.just_zero < ours.zero.lower


def test_sankar2017_counts_by_hand() -> None:
    values = np.array([-4.0, -2.5, -2.0, -1.0, -1e-17, 0.0, 0.0, 1e-17, 3.0])
    rounded = hs.Spectrum(values, NoiseFloor(1e-15, 1e-7), "float32", zero_rows=2)
    spectrum = hs.Spectrum(values, NoiseFloor(1e-15, 0.0), "float64", rounded=rounded)
    counts = Sankar2017Rule().published(spectrum)
    assert (counts.negative, counts.just_zero, counts.positive) == (5, 2, 2)
    # λ_min/2 is −2: of the negative ones −1 and −1e-17 lie between it and 0.
    assert counts.one_sided_zero == 4
    assert counts.undecided == 2


def test_sankar2017_without_negative_eigenvalues() -> None:
    spectrum = hs.ExactBackend(rounded=True).solve(np.diag([0.0, 1.0, 2.0]))
    counts = Sankar2017Rule().published(spectrum)
    assert counts.as_dict() == {
        "positive": 2,
        "negative": 0,
        "just_zero": 1,
        "one_sided_zero": 1,
        "undecided": 0,
    }


def test_rounded_spectrum_is_that_of_the_stored_matrix_and_within_its_floor() -> None:
    rng = np.random.default_rng(0)
    matrix = np.zeros((70, 70))
    matrix[3:, 3:] = (lambda a: a + a.T)(rng.standard_normal((67, 67)))
    original = matrix.copy()
    spectrum = hs.ExactBackend(rounded=True).solve(matrix)
    np.testing.assert_array_equal(matrix, original)
    assert spectrum.rounded is not None
    np.testing.assert_allclose(
        spectrum.rounded.eigenvalues,
        np.linalg.eigvalsh(matrix.astype(np.float32).astype(np.float64)),
        atol=1e-13,
    )
    assert spectrum.zero_rows == spectrum.rounded.zero_rows == 3
    shift = np.abs(spectrum.rounded.eigenvalues - spectrum.eigenvalues).max()
    assert 1e-9 < shift <= spectrum.rounded.noise_floor.total
    plain = hs.ExactBackend().solve(matrix)
    np.testing.assert_array_equal(plain.eigenvalues, spectrum.eigenvalues)
    assert plain.rounded is None


def test_entries_below_float32_make_zero_rows_there() -> None:
    spectrum = hs.ExactBackend(rounded=True).solve(np.diag([1.0, 1e-60]))
    assert spectrum.rounded is not None
    assert (spectrum.zero_rows, spectrum.rounded.zero_rows) == (0, 1)
    assert Sankar2017Rule().published(spectrum).just_zero == 1


def test_zero_rows_are_counted_with_eigenvectors_too() -> None:
    matrix = np.diag([0.0, 1.0, -1.0, 0.0])
    for backend in (hs.ExactBackend(), hs.ExactBackend(eigenvectors=True, rounded=True)):
        assert backend.solve(matrix).zero_rows == 2


def test_the_second_matrix_is_counted_in_the_memory() -> None:
    backend = hs.ExactBackend(rounded=True)
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    assert backend.memory_needed(1000, torch.float64, cpu) == 12_000_000
    assert backend.memory_needed(1000, torch.float32, cpu) == 12_000_000
    assert hs.ExactBackend().memory_needed(1000, torch.float64, cpu) == 8_000_000
    # There the solver works on a copy. The second matrix is in float64 always.
    assert hs.ExactBackend().memory_needed(1000, torch.float64, cuda) == 16_000_000
    assert backend.memory_needed(1000, torch.float64, cuda) == 20_000_000
    assert backend.memory_needed(1000, torch.float32, cuda) == 16_000_000
    large = scipy.sparse.linalg.LinearOperator((200_000, 200_000), matvec=lambda v: v)
    with pytest.raises(MemoryLimitError, match="needs 480 GB"):
        hs.ExactBackend(memory=10**10, rounded=True).solve(large)


def test_sankar2017_needs_the_matrix() -> None:
    matrix = np.diag([1.0, 2.0, 3.0])
    for result in (hs.LanczosBackend(steps=3).solve(matrix), hs.ExactBackend().solve(matrix)):
        with pytest.raises(OptionError, match="stored in float32: take `backend=exact`"):
            Sankar2017Rule().published(result)


# --- from the command line -----------------------------------------------------------------------


def test_sankar2017_stands_beside_our_counts(run: Run, work: Path) -> None:
    plain = run(*BASE, "--json", "--quiet").json
    outcome = run(*BASE, "--zero-rule", "sankar2017", "--json", "--out", "r.h5")
    assert outcome.code == 0
    result = outcome.json
    for key in ("index", "degeneracy", "positive", "tolerance", "noise_floor"):
        assert result[key] == plain[key]
    assert (plain["zero_rule"], plain["sankar2017"]) == ("noise_floor", None)
    assert result["zero_rule"] == "sankar2017"
    assert result["tolerance_source"] == "2δ"
    theirs = result["sankar2017"]
    assert theirs["positive"] + theirs["negative"] + theirs["just_zero"] == PARAMETERS
    assert "the zero rule sankar2017 needs the matrix" in result["backend_choice"]
    record = hs.load_record("r.h5")
    assert record["sankar2017"] == theirs
    again = hs.Spectrum.from_record(record)
    assert Sankar2017Rule().published(again).as_dict() == theirs
    assert again.zero_rows == result["zero_rows"] == 0
    shown = run(*BASE, "--zero-rule", "sankar2017").out
    assert f"{theirs['negative']:,} (λ < 0)" in shown
    assert f"{theirs['just_zero']:,} (λ = 0)" in shown
    assert f"#(λ min/2 < λ < 0): {theirs['one_sided_zero']:,}" in shown


def test_relative_and_absolute_rules(run: Run, work: Path) -> None:
    largest = run(*BASE, "--json").json["lambda_max"]
    relative = run(*BASE, "--zero-rule", "relative", "--tolerance", "1e-3", "--json").json
    assert relative["tolerance"] == pytest.approx(1e-3 * largest)
    assert relative["tolerance_source"] == "0.001 · max|λ|"
    absolute = run(*BASE, "--zero-rule", "absolute", "--tolerance", "1e-3", "--json").json
    assert absolute["tolerance"] == 1e-3
    assert run(*BASE, "--tolerance", "1e-3", "--json").json["zero_rule"] == "absolute"
    lanczos = run(*BASE, "--zero-rule", "relative", "--backend", "lanczos", "--json").json
    assert lanczos["tolerance_source"] == "n·eps · max|λ|"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--zero-rule", "sankar"), "unknown zero rule 'sankar'"),
        (("--zero-rule", "absolute"), "give --tolerance"),
        (("--zero-rule", "noise_floor", "--tolerance", "1e-6"), "leave one of them out"),
        (("--zero-rule", "sankar2017", "--backend", "lanczos"), "take --backend exact"),
    ],
)
def test_what_does_not_go_together_is_refused_before_anything_is_read(
    run: Run, work: Path, options: tuple[str, ...], message: str
) -> None:
    before = listing(work)
    outcome = run(*BASE, *options)
    assert outcome.code == 2
    assert message in outcome.error
    assert listing(work) == before


def test_the_plan_of_a_lanczos_record_has_no_matrix(run: Run, work: Path) -> None:
    run(*BASE, "--backend", "lanczos", "--out", "lanczos.h5")
    outcome = run(*BASE, "--plan", "lanczos.h5", "--zero-rule", "sankar2017", "--quiet")
    assert outcome.code == 2
    assert "the backend is lanczos" in outcome.error
