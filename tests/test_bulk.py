"""Outliers on spiked matrices, the gradient's place in closed form, the law on random matrices."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import scipy.integrate
import scipy.linalg
import scipy.stats
import torch
from torch import nn

import hessscope as hs
from cli_runs import Run, arrays, network
from hessscope.errors import OptionError
from hessscope.spectra import NoiseFloor, Semicircle, Spectrum, bulk_of, fit_semicircle
from hessscope.spectra.outliers import bulk_edge, eigenvalues_needed, searched_for
from hessscope.spectra.semicircle import chance_distance


def wigner(size: int, seed: int) -> np.ndarray:
    """Eigenvalues of a GOE matrix of radius 1, by Dumitriu & Edelman's tridiagonal matrix."""
    stream = np.random.default_rng(seed)
    diagonal = stream.normal(size=size) * math.sqrt(2.0)
    beside = np.sqrt(stream.chisquare(np.arange(size - 1, 0, -1)))
    return scipy.linalg.eigvalsh_tridiagonal(diagonal, beside) / (2.0 * math.sqrt(size))


def spectrum_of(values: np.ndarray) -> Spectrum:
    return Spectrum(np.sort(values), NoiseFloor(1e-16, 0.0), "float64", options={"backend": "x"})


def test_the_law_has_the_density_of_its_distribution() -> None:
    law = Semicircle(0.3, 2.0)
    assert scipy.integrate.quad(law.density, -1.7, 2.3)[0] == pytest.approx(1.0, rel=1e-9)
    for x in (-1.5, 0.0, 0.3, 1.9):
        mass = scipy.integrate.quad(law.density, -1.7, x)[0]
        assert float(law.cumulative(np.array(x))) == pytest.approx(mass, abs=1e-8)
    second = scipy.integrate.quad(lambda x: (x - 0.3) ** 2 * law.density(x), -1.7, 2.3)[0]
    assert second == pytest.approx(2.0**2 / 4, rel=1e-8)
    reference = scipy.stats.semicircular(loc=0.3, scale=2.0)
    grid = np.linspace(-3, 3, 31)
    np.testing.assert_allclose(law.cumulative(grid), reference.cdf(grid), atol=1e-12)


def test_distance_is_that_of_scipy() -> None:
    law = Semicircle(0.1, 1.4)
    points = np.sort(np.random.default_rng(0).normal(size=400))
    theirs = scipy.stats.kstest(points, lambda x: law.cumulative(x)).statistic
    assert law.distance(points) == pytest.approx(theirs, abs=1e-14)
    weights = np.full(400, 1 / 400)
    assert law.distance(points, weights) == pytest.approx(theirs, abs=1e-14)
    assert Semicircle(10.0, 1.0).distance(points) == 1.0


@pytest.mark.parametrize(("centre", "radius"), [(0.0, 1.0), (-3.0, 0.02), (5e-4, 700.0)])
def test_the_fit_finds_centre_and_radius_of_random_matrices(centre: float, radius: float) -> None:
    m = 1000
    for seed in range(4):
        values = centre + radius * wigner(m, seed)
        law = fit_semicircle(values)
        assert law.centre == pytest.approx(centre, abs=4 * radius / m)
        assert law.radius == pytest.approx(radius, rel=6 / m)
        assert law.distance(values) <= Semicircle(centre, radius).distance(values) + 1e-7


def test_the_fit_is_the_best_there_is() -> None:
    """No point of a fine grid around it is better, on a distribution that is no semicircle."""
    values = np.sort(np.random.default_rng(1).exponential(size=500))
    law = fit_semicircle(values)
    best = law.distance(values)
    centres = np.linspace(-1, 4, 101)
    others = [
        Semicircle(c, r).distance(values) for c in centres for r in np.geomspace(0.2, 20, 101)
    ]
    assert best <= min(others) + 1e-4


def least_distance(values: np.ndarray) -> float:
    """The smallest distance to a semicircle near that of radius 1 around 0, on ever finer grids."""
    m, centre, stretch, least = len(values), 0.0, 0.0, 1.0
    above, below = np.arange(1, m + 1) / m, np.arange(m) / m
    for width in (3 / m**0.9) / np.array([1.0, 8.0, 64.0]):
        steps = width * np.linspace(-1, 1, 31)
        best = (2.0, 0.0, 0.0)
        for c in centre + steps:
            t = np.clip((values - c) / np.exp(stretch + steps)[:, None], -1, 1)
            law = 0.5 + (t * np.sqrt(1 - t**2) + np.arcsin(t)) / np.pi
            distances = np.maximum(np.abs(law - above), np.abs(law - below)).max(1)
            i = int(distances.argmin())
            best = min(best, (float(distances[i]), float(c), float(stretch + steps[i])))
        least, centre, stretch = best
    return least


@pytest.mark.parametrize("m", [10, 40, 150, 600, 2000])
def test_chance_distance_is_what_random_matrices_have(m: int) -> None:
    """Within the 5 % that it claims, and the error of the mean of twelve draws."""
    matrices = [wigner(m, seed) for seed in range(100, 112)]
    distances = np.array([least_distance(values) for values in matrices])
    error = distances.std(ddof=1) / math.sqrt(len(distances))
    claimed = chance_distance(m)
    assert abs(distances.mean() - claimed) <= 0.05 * claimed + 3 * error
    assert 3 * error < 0.12 * claimed
    fitted = np.array([fit_semicircle(values).distance(values) for values in matrices])
    assert np.all(fitted <= 1.001 * distances)
    assert max(fitted) < 2 * claimed  # the limit of ``holds``


def test_the_law_holds_for_random_matrices_and_not_for_other_bulks() -> None:
    rng = np.random.default_rng(0)
    fit = hs.compare_with_semicircle(spectrum_of(2 + wigner(800, 3)), 1e-12)
    assert fit is not None
    assert fit.holds
    assert (fit.size, fit.resolution) == (800, 0.0)
    for values in (
        np.linspace(-1, 1, 800),  # uniform
        rng.standard_cauchy(800),
        np.linalg.eigvalsh(np.cov(rng.normal(size=(300, 900)))),  # Marchenko–Pastur
        np.concatenate([np.geomspace(1e-9, 1, 700), -np.geomspace(1e-9, 1e-2, 100)]),
    ):
        other = hs.compare_with_semicircle(spectrum_of(values), 1e-12)
        assert other is not None
        assert other.holds is False
        assert "no semicircle" in other.in_words()


def test_zeros_and_outliers_are_no_part_of_the_bulk() -> None:
    bulk = wigner(600, 1)
    values = np.concatenate([bulk, np.zeros(400), [7.0, 9.0]])
    whole = hs.compare_with_semicircle(spectrum_of(values), 1e-12)
    clean = hs.compare_with_semicircle(spectrum_of(values), 1e-12, edge=4.0)
    assert whole is not None
    assert clean is not None
    assert clean.size == 600
    assert clean.holds
    assert clean.below == pytest.approx(np.mean(bulk < 0))
    assert clean.as_dict()["share_below_zero_by_law"] == pytest.approx(0.5, abs=0.02)
    few = spectrum_of(np.concatenate([np.zeros(50), np.arange(1.0, 10.0)]))
    assert hs.compare_with_semicircle(few, 1e-12) is None
    assert hs.compare_with_semicircle(spectrum_of(np.ones(50)), 1e-12) is None


def test_a_density_says_how_well_it_knows_the_bulk() -> None:
    a = np.diag(wigner(400, 5))
    short = hs.LanczosBackend(steps=5, probes=2).solve(a)
    fit = hs.compare_with_semicircle(short, 1e-12)
    assert fit is not None
    assert fit.resolution > 0.2
    assert fit.holds is None
    assert "cannot tell" in fit.in_words()
    # Locked pairs and nodes together are the whole spectrum, whatever part of it is looked at.
    _, masses = bulk_of(short, -1.0)
    assert masses.sum() == pytest.approx(1.0)
    # What is said to be the resolution is there: the exact distance is within it.
    exact = hs.compare_with_semicircle(spectrum_of(np.diag(a)), 1e-12)
    assert exact is not None
    for steps in (20, 60, 200):
        density = hs.LanczosBackend(steps=steps, probes=6, seed=1).solve(a)
        sampled = hs.compare_with_semicircle(density, 1e-12)
        assert sampled is not None
        # Six probes of 400 numbers have a sampling error of about 1/√2400 besides.
        assert abs(sampled.distance - exact.distance) <= sampled.resolution + 3 / math.sqrt(2400)


def spiked(size: int, spikes: list[float], seed: int) -> np.ndarray:
    """A GOE matrix of radius 2 with a perturbation of low rank; eigenvalues, descending."""
    rng = np.random.default_rng(seed)
    g = rng.normal(size=(size, size))
    a = (g + g.T) / math.sqrt(2 * size)
    if spikes:
        q = np.linalg.qr(rng.normal(size=(size, len(spikes))))[0]
        a += (q * np.array(spikes)) @ q.T
    return np.linalg.eigvalsh(a)[::-1]


@pytest.mark.parametrize(
    ("spikes", "by_gap"),
    [
        ([], 0),
        ([6.0], 1),
        ([8.0, 6.0, 5.0], 3),
        (list(np.linspace(6, 8, 10)), 10),
        # The widest gap is not the last one: the two rules say different things.
        ([100.0, 10.0, 5.0], 1),
    ],
)
def test_outliers_of_spiked_matrices(spikes: list[float], by_gap: int) -> None:
    """A spike s > 1 of a GOE matrix of radius 2 gives an outlier near s + 1/s (Péché 2006)."""
    edges = []
    for seed in range(10):
        values = spiked(250, spikes, seed)
        found = hs.find_outliers(values, 20)
        assert found.by_gap == by_gap
        assert found.searched == 20
        edges.append(found.by_edge)
        if spikes:
            assert values[0] == pytest.approx(max(spikes) + 1 / max(spikes), rel=0.06)
        if found.by_edge == len(spikes):
            agrees = by_gap == len(spikes)
            assert found.agreed == (by_gap if agrees else None)
            bulk = values[values < bulk_edge(values, found)]
            assert len(bulk) == 250 - len(spikes)
    # It takes chance gaps for one in a few per cent of the cases.
    assert edges.count(len(spikes)) >= 9


def test_ratios_in_closed_form() -> None:
    found = hs.find_outliers(np.array([12.0, 8.0, 2.0, 1.6, 1.5, 1.45, 1.42, 1.4, 1.39]), 3)
    assert found.by_gap == 2
    assert found.gap_ratio == 4.0
    assert found.second_ratio == 1.5
    assert bulk_edge(np.array([12.0, 8.0, 2.0]), hs.Outliers(2, 4.0, 1.5, 1, 2)) == 5.0
    assert bulk_edge(np.array([12.0, 8.0, 2.0]), hs.Outliers(0, 1.4, 1.3, 1, 2)) == 10.0
    with pytest.raises(OptionError, match="5 positive"):
        hs.find_outliers(np.array([5.0, 4.0, 3.0, 2.0, 1.0, -1.0, 0.0]), 3)
    nothing = hs.find_outliers(np.linspace(1.2, 1.0, 20), 10)
    assert nothing.by_gap == 0
    assert bulk_edge(np.linspace(1.2, 1.0, 20), nothing) == math.inf


@pytest.mark.parametrize(("differences", "number"), [(2.02, 1), (1.98, 0)])
def test_an_outlier_is_twice_the_slope_of_the_edge_away(differences: float, number: int) -> None:
    """1 − b j^⅔ has the slope b: what counts is 2b, and within the bulk it is 0.59b at most."""
    slope = 0.05
    values = 1.0 - slope * np.arange(20) ** (2 / 3)
    assert hs.find_outliers(values, 10).by_edge == 0
    values[0] = values[1] + differences * slope
    assert hs.find_outliers(values, 10).by_edge == number


def test_how_far_outliers_are_searched() -> None:
    assert searched_for(10, 10_000) == 30
    assert searched_for(100, 10_000) == 300
    assert searched_for(None, 60) == 20
    assert searched_for(10, 2) == 1
    assert eigenvalues_needed(30) == 35


def test_alignment_in_closed_form() -> None:
    vectors = np.eye(6)[:, :4]
    gradient = np.array([3.0, 0.0, 4.0, 0.0, 0.0, 12.0])
    found = hs.gradient_alignment(gradient, vectors, (1, 2, 3, 3, 9, 0))
    assert found.numbers == (1, 2, 3)
    np.testing.assert_allclose(found.shares, [9 / 169, 9 / 169, 25 / 169])
    assert found.as_dict()["random_share"] == [1 / 6, 1 / 3, 1 / 2]


def test_alignment_of_a_quadratic_through_the_whole_way() -> None:
    """mse of a linear model is quadratic: H and g = H(θ − θ*) are known."""
    rng = np.random.default_rng(0)
    scales = np.concatenate([[6.0, 5.0, 4.0], np.linspace(1.0, 0.5, 37)])
    x = rng.normal(size=(400, 40)) * scales
    star, theta = rng.normal(size=40), rng.normal(size=40)
    model = nn.Linear(40, 1, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.from_numpy(theta)[None])
    risk = hs.EmpiricalRisk(
        model, (torch.from_numpy(x), torch.from_numpy(x @ star)[:, None]), "mse"
    )
    h = 2 * x.T @ x / 400
    with torch.no_grad():
        # Single precision is what nn.Linear keeps; what was rounded is what counts.
        here = risk.parameters.numpy()
    g = h @ (here - star)
    values, vectors = np.linalg.eigh(h)
    spectrum = hs.ExactBackend().solve(hs.HessianOperator(risk))
    from hessscope.pipeline.spectrum_details import split_bulk

    split = split_bulk(hs.HessianOperator(risk), spectrum, spectrum.inertia(), 1e-10)
    assert split is not None
    assert split.classes is None
    assert split.outliers.by_gap == 3
    assert split.alignment is not None
    for k, share in zip(split.alignment.numbers, split.alignment.shares, strict=True):
        part = vectors[:, ::-1][:, :k].T @ g
        assert share == pytest.approx(float(part @ part / (g @ g)), rel=1e-9)
    np.testing.assert_allclose(split.highest[:5], values[::-1][:5], rtol=1e-12)
    # At a critical point there is no direction to speak of.
    assert (
        split_bulk(hs.HessianOperator(risk), spectrum, spectrum.inertia(), 1e10).alignment is None
    )  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("loss", "targets", "classes"),
    [
        ("cross_entropy", torch.zeros(5, dtype=torch.int64), 3),
        ("cross_entropy", torch.full((5, 3), 1 / 3), 3),
        ("softmax_mse", torch.zeros(5, dtype=torch.int64), 3),
        ("mse", torch.zeros(5, dtype=torch.int64), 3),
        ("mse", torch.zeros(5, 3), None),
        ("bce", torch.zeros(5, 3), None),
    ],
)
def test_classes(loss: str, targets: torch.Tensor, classes: int | None) -> None:
    risk = hs.EmpiricalRisk(nn.Linear(4, 3), (torch.randn(5, 4), targets), loss, device="cpu")
    assert risk.classes == classes
    if loss == "bce":
        single = hs.EmpiricalRisk(nn.Linear(4, 1), (torch.randn(5, 4), targets[:, :1]), loss)
        assert single.classes == 2


@pytest.fixture
def run(run: Run, work: Path) -> Run:
    return run


COMMAND = ("spectrum", "model.pt", "--data", "data.npz", "--activation", "tanh")


def test_command_record_and_figure(run: Run) -> None:
    said = run(
        *COMMAND, "--bulk", "--semicircle", "--plot", "f.svg", "--json", "--out", "r.h5"
    ).json
    data = arrays()
    risk = hs.EmpiricalRisk(network(), (data["inputs"], data["targets"]), device="cpu")
    values, vectors = np.linalg.eigh(hs.HessianOperator(risk).to_dense().numpy())
    bulk = said["bulk"]
    assert bulk["classes"] == 3
    np.testing.assert_allclose(bulk["highest"], values[::-1][: len(bulk["highest"])], atol=1e-12)
    g = risk.gradient().numpy()
    for k, share in zip(bulk["alignment"]["k"], bulk["alignment"]["share"], strict=True):
        part = vectors[:, ::-1][:, :k].T @ g
        assert share == pytest.approx(float(part @ part / (g @ g)), rel=1e-9)
    assert {2, 3} <= set(bulk["alignment"]["k"])
    assert bulk["semicircle"]["eigenvalues"] <= said["parameters"]
    record = hs.load_record("r.h5")
    assert record["bulk"]["outliers"]["by_gap"] == bulk["outliers"]["by_gap"]
    assert record["bulk"]["semicircle"]["distance"] == bulk["semicircle"]["distance"]
    assert Path("f.svg").stat().st_size > 10_000
    ax = hs.figures.plot_bulk(record)
    assert f"{bulk['semicircle']['distance']:.2g}" in ax.texts[0].get_text()
    assert run(*COMMAND, "--json", "--out", "s.h5").json["bulk"] is None


def test_lanczos_computes_the_highest_itself(run: Run) -> None:
    exact = run(*COMMAND, "--bulk", "--json", "--out", "a.h5").json["bulk"]
    options = ("--backend", "lanczos", "--steps", "43")
    sampled = run(*COMMAND, "--bulk", *options, "--json", "--out", "b.h5").json["bulk"]
    assert sampled["classes"] == exact["classes"]
    k = min(len(exact["highest"]), len(sampled["highest"]))
    np.testing.assert_allclose(sampled["highest"][:k], exact["highest"][:k], atol=1e-12)
    assert sampled["alignment"]["share"][0] == pytest.approx(exact["alignment"]["share"][0])
    table = run(*COMMAND, "--bulk", "--out", "c.h5").out
    assert "outliers" in table
    assert "3 classes" in table


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--semicircle",), "--plot"),
        (("--bulk", "--backend", "pyhessian"), "--bulk"),
    ],
)
def test_what_cannot_be_done_is_said(run: Run, options: tuple[str, ...], said: str) -> None:
    outcome = run(*COMMAND, *options, "--quiet")
    assert outcome.code == 2
    assert said in outcome.error


def test_figures_bars_add_up_to_the_bulk() -> None:
    values = np.concatenate([wigner(500, 2) + 0.2, np.zeros(100), [30.0]])
    ax = hs.figures.plot_bulk(spectrum_of(values), edge=10.0)
    area = sum(bar.get_height() * bar.get_width() for bar in ax.patches)
    assert area == pytest.approx(1.0)
    (law,) = [line for line in ax.lines if line.get_gid() == "semicircle"]
    assert law.get_ydata().max() == pytest.approx(2 / math.pi, rel=1e-4)  # type: ignore[union-attr]
    (zero,) = [line for line in ax.lines if line.get_gid() == "zero"]
    assert zero.get_xdata()[0] == pytest.approx(-0.2, abs=0.02)  # type: ignore[index]
    with pytest.raises(OptionError, match="no bulk"):
        hs.figures.plot_bulk(spectrum_of(np.ones(30)))
