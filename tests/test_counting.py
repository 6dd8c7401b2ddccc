"""What counts rest on: the noise floor, perturbed; the tolerance sweep; gaps; warnings."""

from __future__ import annotations

import dataclasses
import warnings
from itertools import pairwise
from pathlib import Path

import mpmath
import numpy as np
import pytest
import torch
from torch import nn

import hessscope as hs
from cli_runs import Run
from hessscope.errors import PrecisionWarning
from hessscope.spectra import NoiseFloor, tolerance_sweep, warn_of_precision, widest_gap


def spectrum_of(values: object, floor: float = 1e-16, dtype: str = "float64") -> hs.Spectrum:
    sizes = np.sort(np.asarray(values, dtype=np.float64))
    return hs.Spectrum(sizes, NoiseFloor(floor, 0.0), dtype)


# --- the noise floor bounds what it claims to ----------------------------------------------------

EXAMPLES, INPUTS, CLASSES = 300, 12, 4

# Initial scale of the weights: at 1 all is tame, at 6 the softmax is steep, at 30 logits are in
# the thousands, and rounding in the forward pass is a hundred times what it is otherwise.
NETWORKS = {
    "relu": (nn.ReLU, 1, 1.0),
    "steep relu": (nn.ReLU, 1, 6.0),
    "huge logits": (nn.ReLU, 1, 30.0),
    "deep tanh": (nn.Tanh, 3, 3.0),
    "deep gelu": (nn.GELU, 4, 2.0),
}


def problem(name: str) -> tuple[nn.Sequential, torch.Tensor, torch.Tensor]:
    """A network whose weights float32 holds, and data, half of whose inputs are zero."""
    activation, depth, scale = NETWORKS[name]
    torch.manual_seed(len(name))
    widths = [INPUTS, *([8] * depth)]
    layers = [layer for a, b in pairwise(widths) for layer in (nn.Linear(a, b), activation())]
    model = nn.Sequential(*layers, nn.Linear(8, CLASSES))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(scale)
    inputs = torch.randn(EXAMPLES, INPUTS).relu()
    return model, inputs, torch.randint(0, CLASSES, (EXAMPLES,))


def solve(
    name: str,
    dtype: str = "float64",
    order: torch.Tensor | None = None,
    batch_size: int = 110,
    way: str = "layers",
) -> hs.Spectrum:
    model, inputs, targets = problem(name)
    order = torch.arange(EXAMPLES) if order is None else order
    risk = hs.EmpiricalRisk(
        model, (inputs[order], targets[order]), dtype=dtype, device="cpu", batch_size=batch_size
    )
    hessian = hs.HessianOperator(risk, plan=hs.Plan("graph", 16, batch_size, held=True))
    if way == "layers":
        return hs.ExactBackend().solve(hessian)
    # Every column by products, in place of the assembly from the layers' structure.
    columns = hessian.apply(torch.eye(hessian.shape[0], dtype=hessian.dtype))
    return hs.ExactBackend().solve(columns)


@pytest.mark.parametrize("name", NETWORKS)
def test_float32_eigenvalues_are_within_the_noise_floor_of_float64(name: str) -> None:
    single, double = solve(name, "float32"), solve(name)
    shift = np.abs(single.eigenvalues - double.eigenvalues).max()
    # By Weyl's inequality, for eigenvalues in ascending order.
    assert shift <= single.noise_floor.total
    # No idle bound: the error is there. Where logits are in the thousands, few examples decide it,
    # and what rounding may do is eighty times what it did.
    assert shift > single.noise_floor.total / (100 if name == "huge logits" else 20)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", NETWORKS)
def test_order_of_summation_moves_no_eigenvalue_beyond_the_noise_floor(
    name: str, dtype: str
) -> None:
    reference = solve(name, dtype)
    moved = 0.0
    for seed in range(3):
        order = torch.randperm(EXAMPLES, generator=torch.Generator().manual_seed(seed))
        other = solve(name, dtype, order)
        moved = max(moved, np.abs(other.eigenvalues - reference.eigenvalues).max())
    assert 0.0 < moved <= reference.noise_floor.total


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", NETWORKS)
def test_batch_split_and_way_of_computing_move_no_eigenvalue_beyond_the_noise_floor(
    name: str, dtype: str
) -> None:
    reference = solve(name, dtype)
    moved = [
        np.abs(solve(name, dtype, None, size, way).eigenvalues - reference.eigenvalues).max()
        for size, way in ((31, "graph"), (45, "layers"), (300, "graph"))
    ]
    assert 0.0 < max(moved) <= reference.noise_floor.total


def test_number_of_threads_moves_no_eigenvalue_beyond_the_noise_floor() -> None:
    before = torch.get_num_threads()
    spectra = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            spectra.append(solve("relu", "float32"))
    finally:
        torch.set_num_threads(before)
    for other in spectra[1:]:
        shift = np.abs(other.eigenvalues - spectra[0].eigenvalues).max()
        assert shift <= spectra[0].noise_floor.total


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_eigenvalues_are_within_the_noise_floor_of_fifty_digits(dtype: str) -> None:
    """Softmax regression, H = 1/N Σ (diag p − ppᵀ) ⊗ x̃x̃ᵀ, in arithmetic of 50 digits."""
    examples, inputs, classes = 12, 4, 3
    torch.manual_seed(3)
    model = nn.Linear(inputs, classes)
    # An input is a multiple of another, so that besides the shift there are true zeros.
    x = torch.randn(examples, inputs)
    x[:, 1] = 2.0 * x[:, 0]
    risk = hs.EmpiricalRisk(
        model, (x, torch.arange(examples) % classes), dtype=dtype, device="cpu", batch_size=5
    )
    spectrum = hs.ExactBackend().solve(hs.HessianOperator(risk))

    with mpmath.workdps(50):
        n = classes * (inputs + 1)
        exact = mpmath.zeros(n)
        for row in x.tolist():
            extended = [mpmath.mpf(v) for v in row] + [mpmath.mpf(1)]
            logits = [
                sum((mpmath.mpf(w) * v for w, v in zip(weights, extended, strict=False)), bias)
                for weights, bias in zip(
                    model.weight.tolist(), map(mpmath.mpf, model.bias.tolist()), strict=True
                )
            ]
            total = sum(map(mpmath.exp, logits))
            p = [mpmath.exp(z) / total for z in logits]

            def place(unit: int, feature: int) -> int:
                """Weights unit by unit, then biases: the order of a linear layer's parameters."""
                bias = feature == inputs
                return classes * inputs + unit if bias else unit * inputs + feature

            for a in range(classes):
                for b in range(classes):
                    curvature = (p[a] if a == b else 0) - p[a] * p[b]
                    for j in range(inputs + 1):
                        for k in range(inputs + 1):
                            at = place(a, j), place(b, k)
                            exact[at] += curvature * extended[j] * extended[k] / examples
        truth = [float(v) for v in sorted(mpmath.eigsy(exact, eigvals_only=True))]

    shift = np.abs(spectrum.eigenvalues - np.array(truth)).max()
    assert 0.0 < shift <= spectrum.noise_floor.total
    # Shift of softmax, 5, and the dependent input, 3, one of which is both.
    inertia = spectrum.inertia()
    assert np.sum(np.abs(truth) < 1e-40) == 7
    assert (inertia.negative.upper, inertia.zero.lower, inertia.zero.upper) == (0, 7, 7)


# --- tolerance sweep -----------------------------------------------------------------------------


def test_sweep_is_logarithmic_and_holds_the_tolerance_asked_for() -> None:
    spectrum = spectrum_of(10.0 ** np.linspace(-17, 0, 500), floor=1e-15)
    sweep = tolerance_sweep(spectrum, spectrum.inertia())
    taus = np.array([row.tolerance for row in sweep])
    assert taus[0] == spectrum.inertia().tolerance == 2e-15
    np.testing.assert_allclose(np.diff(np.log10(taus[1:])), 0.25, atol=1e-9)
    assert taus[-1] < 1.0 <= taus[-1] * 10**0.26
    for row in sweep:
        assert row == spectrum.inertia(row.tolerance)
    assert all(a.zero.estimate < b.zero.estimate for a, b in pairwise(sweep))


def test_sweep_begins_at_twice_the_noise_floor_whatever_is_asked_for() -> None:
    spectrum = spectrum_of(10.0 ** np.linspace(-17, 0, 50), floor=1e-12)
    asked = spectrum.inertia(1e-5)
    sweep = tolerance_sweep(spectrum, asked)
    assert sweep[0].tolerance == 2e-12
    assert asked in sweep
    assert len([row for row in sweep if row.tolerance == pytest.approx(1e-5)]) == 1


@pytest.mark.parametrize(
    ("values", "tolerance"),
    [(np.zeros(4), None), (np.array([1.0]), 5.0), (np.array([1.0]), 0.5), (np.ones(3), 0.0)],
)
def test_sweep_of_degenerate_cases(values: np.ndarray, tolerance: float | None) -> None:
    spectrum = spectrum_of(values, floor=0.0 if not values.any() else 1e-16)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PrecisionWarning)
        inertia = spectrum.inertia(tolerance)
    sweep = tolerance_sweep(spectrum, inertia)  # a tolerance below 2δ is not complained of again
    assert inertia in sweep
    assert all(a.tolerance < b.tolerance for a, b in pairwise(sweep))


def test_sweep_of_a_density_has_its_intervals() -> None:
    matrix = np.diag(np.concatenate([-np.ones(3), np.zeros(30), np.linspace(0.5, 2, 20)]))
    density = hs.LanczosBackend(steps=53, probes=3).solve(matrix)
    sweep = tolerance_sweep(density, density.inertia(1e-3))
    assert len(sweep) > 20
    assert all(row.negative.confidence == 0.95 for row in sweep)


def test_full_sweep_on_request(run: Run, work: Path) -> None:
    base = ("spectrum", "model.pt", "--data", "data.npz", "--activation", "tanh")
    columns = run(*base, "--json").json["tolerance_sweep"]
    short, full = (
        [line for line in run(*base, *more).out.split("tolerance τ ")[-1].splitlines() if line]
        for more in ((), ("--sweep",))
    )
    rows = [line.split() for line in full[2:] if line.split()[0][0].isdigit()]
    assert len(rows) == len(columns["tolerance"]) > 30
    for row, tau, index in zip(rows, columns["tolerance"], columns["index"], strict=True):
        assert row[0] == f"{tau:.2g}"
        assert int(row[1].replace(",", "")) == index
    assert len(short) < 12


# --- the widest gap ------------------------------------------------------------------------------


def test_gap_is_found_and_named() -> None:
    values = np.concatenate([[-3.0, -1e-4], np.full(20, 1e-17), np.geomspace(1e-6, 2.0, 200)])
    gap = widest_gap(spectrum_of(values, floor=1e-14))
    assert gap is not None
    assert gap.gap.found
    assert gap.gap.lower == pytest.approx(1e-14, rel=0.01)
    assert gap.gap.upper == pytest.approx(1e-6)
    assert (gap.index, gap.degeneracy) == (2, 20)
    assert gap.gap.decades == pytest.approx(8.0, abs=0.01)
    assert gap.in_words() == (
        "gap of 8.0 decades between 1e-14 and 1e-06: the degeneracy 20 and the index 2 hold for "
        "every τ in it"
    )


def test_no_gap_is_said_in_words() -> None:
    gap = widest_gap(spectrum_of(np.geomspace(1e-16, 1.0, 1601), floor=1e-14))
    assert gap is not None
    assert not gap.gap.found
    # A hundred eigenvalues a decade, of which 201 are at most δ and 1301 at most a thousandth.
    assert gap.in_words() == (
        "no gap between 1e-14 and 0.001 (the widest has 0.01 decades): the degeneracy goes from "
        "201 to 1,301 there and is not a property of this point alone; the index 0 holds for every "
        "τ between 1e-14 and 1"
    )


def test_the_index_may_have_a_gap_where_the_degeneracy_has_none() -> None:
    positive = np.geomspace(1e-16, 1.0, 1601)
    apart = widest_gap(spectrum_of([*positive, -1e-17, -1e-7, -1e-4], floor=1e-14))
    assert apart is not None
    assert not apart.gap.found
    assert apart.in_words().endswith("; the index 2 holds for every τ between 1e-14 and 1e-07")
    assert apart.as_dict()["of_the_index"]["decades"] == pytest.approx(7.0, abs=0.01)
    both = widest_gap(spectrum_of([*positive, *-positive[:1400]], floor=1e-14))
    assert both is not None
    assert both.in_words().endswith("; nor is the index, which goes from 1,199 to 99")


def test_gaps_between_outliers_say_nothing_about_zeros() -> None:
    values = np.concatenate([np.geomspace(1e-12, 1.0, 500), [300.0]])
    gap = widest_gap(spectrum_of(values, floor=1e-14))
    assert gap is not None
    # The 2.5 decades below the outlier are wider than the two between δ and 1e-12, and not it.
    assert (gap.degeneracy, gap.gap.upper) == (0, pytest.approx(1e-12, rel=0.02))


@pytest.mark.parametrize("seed", range(20))
def test_counts_of_the_true_spectrum_are_the_same_in_the_whole_gap(seed: int) -> None:
    """Computed eigenvalues are anywhere within δ of the true ones: the claim must hold for these.

    And no wider gap exists, by trying all pairs of neighbours.
    """
    rng = np.random.default_rng(seed)
    delta = 1e-9
    sizes = np.concatenate([np.zeros(5), 10.0 ** rng.uniform(-10, 1, 25)])
    truth = np.sort(sizes * rng.choice([-1.0, 1.0], 30))
    computed = np.sort(truth + rng.uniform(-delta, delta, 30))
    gap = widest_gap(spectrum_of(computed, floor=delta))
    assert gap is not None
    for tau in np.geomspace(gap.gap.lower, gap.gap.upper, 50)[1:-1]:
        assert np.sum(truth < -tau) == gap.index
        assert np.sum(np.abs(truth) <= tau) == gap.degeneracy
    for tau in np.geomspace(gap.negative.lower, gap.negative.upper, 50)[1:-1]:
        assert np.sum(truth < -tau) == gap.negative_index
    ends = np.sort(np.abs(computed))
    limit = 1e-3 * ends[-1]
    wider = [
        np.log10((b - delta) / (a + delta))
        for a, b in pairwise([0.0, *ends])
        if a + delta < limit and b - delta > a + delta
    ]
    assert gap.gap.decades == pytest.approx(max(wider), abs=1e-9)


def test_no_gap_can_be_seen_where_there_is_nothing_or_noise() -> None:
    assert widest_gap(spectrum_of(np.zeros(5), floor=0.0)) is None
    assert widest_gap(spectrum_of(np.linspace(-1, 1, 50), floor=0.1)) is None
    known = widest_gap(spectrum_of([0.0, 1.0], floor=0.0))
    assert known is not None
    assert known.degeneracy == 1


def test_gap_is_in_json_record_and_output(run: Run, work: Path) -> None:
    base = ("spectrum", "model.pt", "--data", "data.npz", "--activation", "tanh")
    outcome = run(*base, "--json", "--out", "r.h5")
    gap = widest_gap(hs.Spectrum.from_record(hs.load_record("r.h5")))
    assert gap is not None
    assert outcome.json["widest_gap"] == gap.as_dict() == hs.load_record("r.h5")["widest_gap"]
    # Of three classes and four hidden units, a shift of the logits is a zero for each of five.
    assert (gap.gap.found, gap.degeneracy) == (True, 5)
    assert gap.in_words()[1:] in run(*base).out
    far = run(*base, "--tolerance", "0.01").out
    assert "τ = 0.01 lies outside" in far
    # Lanczos does not see all eigenvalues: no gap is claimed.
    lanczos = run(*base, "--json", "--backend", "lanczos").json
    assert lanczos["widest_gap"] is None


# --- warnings ------------------------------------------------------------------------------------


def warned(spectrum: hs.Spectrum, tolerance: float | None = None) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warn_of_precision(spectrum, spectrum.inertia(tolerance))
    assert {w.category for w in caught} <= {PrecisionWarning}
    return [str(w.message) for w in caught]


def test_no_warning_where_the_network_decides() -> None:
    gap = np.concatenate([-np.ones(50), np.zeros(100), np.geomspace(1e-6, 1.0, 500)])
    assert warned(spectrum_of(gap, floor=1e-14)) == []
    assert warned(spectrum_of(gap, floor=1e-8, dtype="float32")) == [
        "float32 decides the counts: 100 of 650 eigenvalues lie within 2δ = 2e-08 of zero without "
        "being exactly zero rows; only float64 can tell which of them are zero"
    ]
    rows = dataclasses.replace(spectrum_of(gap, floor=1e-8, dtype="float32"), zero_rows=100)
    assert warned(rows) == []
    # At a tolerance far above its noise floor float32 is as good as float64.
    assert warned(spectrum_of(gap, floor=1e-8, dtype="float32"), 1e-7) == []


def test_warning_where_rounding_decides() -> None:
    values = np.concatenate([np.linspace(-3e-8, -1e-8, 30), np.geomspace(1e-3, 1.0, 70)])
    (text,) = warned(spectrum_of(values, floor=1e-8), 2.1e-8)[:1]
    assert text.startswith("rounding decides the index: at τ = 2.1e-08 it lies between 0 and ")


def test_warning_where_the_tolerance_decides() -> None:
    values = np.geomspace(1e-10, 1.0, 101)  # ten a decade
    (text,) = warned(spectrum_of(values, floor=1e-14), 1.1e-6)
    assert text == (
        "the tolerance decides: the degeneracy is 41 at τ = 1.1e-06 and 31 at 1.1e-07, "
        "the degeneracy is 41 at τ = 1.1e-06 and 51 at 1.1e-05"
    )


def test_a_tolerance_below_the_floor_gets_one_warning_and_no_more() -> None:
    values = np.concatenate([np.linspace(-1e-13, 1e-13, 50), np.geomspace(1e-3, 1.0, 70)])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        spectrum = spectrum_of(values, floor=1e-13)
        warn_of_precision(spectrum, spectrum.inertia(1e-14))
    assert ["below twice the noise floor" in str(w.message) for w in caught] == [True]


def test_warnings_are_in_the_report(work: Path) -> None:
    options = {"activation": "tanh", "backend": "exact"}
    with pytest.warns(PrecisionWarning, match="float32 decides the counts"):
        report = hs.spectrum("model.pt", "data.npz", dtype="float32", **options)
    assert any("float32 decides" in text for text in report.as_dict()["warnings"])
    assert hs.spectrum("model.pt", "data.npz", **options).warnings == ()
