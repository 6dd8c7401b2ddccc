"""ε–α plots, eigenvalue distributions, rank correlation."""

from __future__ import annotations

import warnings
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import scipy.stats
from matplotlib.axes import Axes
from matplotlib.path import Path as Path2D

from hessscope.backends import LanczosBackend
from hessscope.errors import OptionError, UnknownNameError
from hessscope.records import Record
from hessscope.reports import load_records, report_figure
from hessscope.reports.figures import (
    plot_eigenvalue_distributions,
    plot_epsilon_alpha,
    plot_trace,
    save_figure,
)
from hessscope.reports.figures.distributions import eigenvalue_shape
from hessscope.reports.tables import (
    distinct_points,
    epsilon_alpha_correlation,
    isotonic_curve,
    rank_correlation,
)
from hessscope.spectra import NoiseFloor, Spectrum
from study_records import SIZE, critical_point, trained, write_study


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    return load_records(write_study(tmp_path_factory.mktemp("study")))


def artists(ax: Axes, gid: str) -> list:
    return [a for a in ax.get_children() if a.get_gid() == gid]


def facts(ax: Axes) -> str:
    (label,) = artists(ax, "facts")
    return label.get_text()


def markers(ax: Axes) -> np.ndarray:
    return np.concatenate([np.asarray(a.get_offsets()) for a in artists(ax, "points")])


# --- rank correlation ----------------------------------------------------------------------


def test_coefficients_of_ties() -> None:
    """Worked by hand, for four points with one tie in each variable.

    Ranks are 1, 2½, 2½, 4 and 1, 3½, 2, 3½; from their mean of 2½ both have the sum of squares 4½,
    and the products add up to 3¾: ρ = 5/6. With two degrees of freedom Student's p is 1 − |ρ|. Of
    the six pairs four agree and each variable ties one: τ-b = 4/√(5·5).
    """
    x, y = [1, 2, 2, 3], [1, 3, 2, 3]
    spearman, kendall = rank_correlation(x, y), rank_correlation(x, y, "kendall")
    assert spearman.value == pytest.approx(5 / 6)
    assert spearman.p_value == pytest.approx(1 / 6)
    assert kendall.value == pytest.approx(4 / 5)
    assert rank_correlation(x, [-v for v in y]).value == pytest.approx(-5 / 6)


def test_p_values_count_the_orders_that_are_as_extreme() -> None:
    """Of the 24 orders of four points one has τ = 1, and three have τ = 2/3; as many below."""
    assert rank_correlation(range(4), range(4), "kendall").p_value == pytest.approx(2 / 24)
    one_swap = rank_correlation(range(4), [0, 2, 1, 3], "kendall")
    assert one_swap.value == pytest.approx(2 / 3)
    assert one_swap.p_value == pytest.approx(8 / 24)


def test_intervals_of_known_data() -> None:
    """Worked by hand, for nine points.

    Squares of the differences of ranks add up to 24: ρ = 1 − 6·24/(9·80) = 0.8, artanh ρ = ½ ln 9,
    σ² = (1 + 0.64/2)/6 = 0.22. Pairs in the wrong order are 1 + 2 + 3 among the first four and two
    more, 8 of 36: τ = 1 − 16/36 = 5/9, artanh τ = ½ ln 3.5, σ² = 0.437/5.
    """
    x, y = range(1, 10), [4, 3, 2, 1, 6, 5, 8, 7, 9]
    spearman, kendall = rank_correlation(x, y), rank_correlation(x, y, "kendall")
    assert spearman.value == pytest.approx(0.8)
    assert (spearman.lower, spearman.upper) == pytest.approx((0.17741, 0.96527), abs=1e-5)
    assert kendall.value == pytest.approx(5 / 9)
    assert (kendall.lower, kendall.upper) == pytest.approx((0.04691, 0.83542), abs=1e-5)


@pytest.mark.parametrize("coefficient", ["spearman", "kendall"])
def test_intervals_cover_as_often_as_they_say(coefficient: str) -> None:
    """Normal pairs of correlation 0.7: population ρ = 6/π·asin(r/2), τ = 2/π·asin(r)."""
    truth = 6 / np.pi * np.arcsin(0.35) if coefficient == "spearman" else 2 / np.pi * np.arcsin(0.7)
    rng = np.random.default_rng(0)
    trials, hits = 600, 0
    for _ in range(trials):
        x = rng.standard_normal(30)
        y = 0.7 * x + np.sqrt(1 - 0.49) * rng.standard_normal(30)
        found = rank_correlation(x, y, coefficient)
        hits += found.lower <= truth <= found.upper
    error = np.sqrt(0.95 * 0.05 / trials)
    assert abs(hits / trials - 0.95) < 3 * error


def test_bootstrap_agrees_with_fisher_roughly_and_repeats() -> None:
    rng = np.random.default_rng(1)
    x = rng.standard_normal(50)
    y = x + rng.standard_normal(50)
    fisher = rank_correlation(x, y)
    one, two = (rank_correlation(x, y, interval="bootstrap", seed=4) for _ in range(2))
    assert one == two
    assert one.lower == pytest.approx(fisher.lower, abs=0.12)
    assert one.upper == pytest.approx(fisher.upper, abs=0.12)


def test_few_points_and_constants_claim_nothing() -> None:
    assert np.isnan(rank_correlation([1, 2, 3], [1, 1, 1]).value)
    assert str(rank_correlation([1], [1])) == "Spearman ρ undefined (too few points: 1)"
    assert "one variable is constant" in str(rank_correlation([1, 2, 3], [1, 1, 1]))
    two = rank_correlation([1, 2], [1, 2])
    assert (two.interval, two.lower, two.upper) == ("none", -1.0, 1.0)
    for interval in ("fisher", "bootstrap"):
        perfect = rank_correlation(np.arange(6), np.arange(6), interval=interval)
        assert perfect.value == perfect.upper == 1.0
        assert perfect.lower < 0.9  # six points that agree do not prove ρ = 1
    assert rank_correlation([1, 2, np.nan, 4, 5, 6], [2, 1, 3, 4, np.nan, 6]).points == 4
    with pytest.raises(UnknownNameError):
        rank_correlation([1], [1], "pearson")
    with pytest.raises(OptionError):
        rank_correlation([1, 2], [1])
    with pytest.raises(OptionError):
        rank_correlation([1], [1], confidence=95)


# --- ε–α -----------------------------------------------------------------------------------


def test_only_certified_points_are_drawn(study: pd.DataFrame) -> None:
    ax = plot_epsilon_alpha(study)
    sure = study[study["certified"]]
    drawn = markers(ax)
    assert len(drawn) == len(sure)
    expected = sure[["loss", "alpha"]].to_numpy(float)
    key = lambda a: a[np.lexsort(a.T)]  # noqa: E731
    assert key(drawn) == pytest.approx(key(expected), abs=1e-8)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("Loss ε", "Index fraction α = index / n")
    assert f"{len(sure)} certified of 24 searches" in facts(ax)
    assert "4 not converged" in facts(ax)
    assert not artists(ax, "not converged")


def test_others_are_shown_apart_on_request(study: pd.DataFrame) -> None:
    ax = plot_epsilon_alpha(study, uncertified=True)
    failed = [line for line in ax.lines if line.get_gid() == "not converged"]
    unproven = [line for line in ax.lines if line.get_gid() == "not certified"]
    assert len(failed[0].get_xdata()) == 4
    assert len(unproven[0].get_xdata()) == len(study) - 4 - int(study["certified"].sum())
    assert len(markers(ax)) == study["certified"].sum()


def test_error_bars_are_the_intervals_of_the_counts() -> None:
    points = [critical_point(10, 0.4, width=4), critical_point(2, 0.1)]
    ax = plot_epsilon_alpha(points)
    (bars,) = artists(ax, "intervals")
    ends = sorted(tuple(path.vertices[:, 1]) for path in bars.get_paths())
    assert ends == [pytest.approx((2 / SIZE, 2 / SIZE)), pytest.approx((6 / SIZE, 14 / SIZE))]


def test_colour_tells_origins_apart_by_shape_too(study: pd.DataFrame) -> None:
    ax = plot_epsilon_alpha(study)
    (group,) = artists(ax, "points")
    looks = {
        (path.vertices.tobytes(), tuple(colour))
        for path, colour in zip(group.get_paths(), group.get_facecolor(), strict=True)
    }
    assert len(looks) == len({shape for shape, _ in looks}) == len({c for _, c in looks}) == 2
    texts = [text.get_text() for text in ax.get_legend().get_texts()]
    assert any(text.startswith("trajectory (") for text in texts)


def test_gradient_norm_has_a_logarithmic_colour_bar() -> None:
    points = [
        critical_point(k, 0.1 * k, seed=k, gradient_norm=g)
        for k, g in enumerate([0.0, 1e-15, 1e-9])
    ]
    ax = plot_epsilon_alpha(load_records(points), color="gradient_norm")
    (group,) = artists(ax, "points")
    assert group.norm.vmin == pytest.approx(5e-16)
    assert group.norm.vmax == pytest.approx(1e-9)
    assert any("‖∇L‖" in a.get_ylabel() for a in ax.figure.axes)


def outlines(ax: Axes) -> list[np.ndarray]:
    """Outline of every marker in points, in the order of drawing."""
    (group,) = artists(ax, "points")
    scales = [np.sqrt(size) for size in group.get_sizes()]
    return [
        scale * path.to_polygons(closed_only=False)[0]
        for path, scale in zip(group.get_paths(), scales, strict=True)
    ]


def area(outline: np.ndarray) -> float:
    x, y = outline.T
    return abs(float(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1)))) / 2


def test_points_at_one_place_are_one_marker_whose_area_counts_them() -> None:
    points = [
        *(critical_point(6, 0.5, seed=k, origin="uniform") for k in range(5)),
        critical_point(2, 0.1, origin="user"),
        *(critical_point(9, 0.9, origin="trajectory") for _ in range(3)),
    ]
    ax = plot_epsilon_alpha(points)
    areas = [area(outline) for outline in outlines(ax)]
    assert areas == pytest.approx([5 * areas[2], 3 * areas[2], areas[2]], rel=0.02)
    assert not artists(ax, "found")


def test_more_points_than_an_area_tells_have_their_number_beside() -> None:
    points = [critical_point(6, 0.5, seed=k) for k in range(23)]
    ax = plot_epsilon_alpha([*points, *(critical_point(2, 0.1, seed=k) for k in range(6))])
    (number,) = artists(ax, "found")
    assert (number.get_text(), number.xy) == ("23", (0.5, pytest.approx(6 / SIZE)))
    largest, other = (area(outline) for outline in outlines(ax))
    assert largest == pytest.approx(other)


def test_markers_at_one_place_do_not_hide_each_other() -> None:
    """Six kinds of start that end at one place, once each, and one more often than the others."""
    origins = ["a", "b", "c", "d", "e", "f", "f"]
    ax = plot_epsilon_alpha([critical_point(6, 0.5, origin=name) for name in origins])
    drawn = outlines(ax)
    assert len(drawn) == 6
    for k, below in enumerate(drawn):
        for above in drawn[k + 1 :]:
            assert not Path2D(above).contains_points(below, radius=-1e-6).all()


def test_distinct_points_count_once_in_the_correlation(tmp_path: Path) -> None:
    points = [critical_point(k, 0.1 * k + 0.1, seed=k) for k in range(5)]
    many = load_records([*points, *points, *points])
    assert epsilon_alpha_correlation(many).points == 15
    distinct = distinct_points(many)
    assert epsilon_alpha_correlation(distinct).points == 5
    text = facts(plot_epsilon_alpha(distinct))
    assert "15 certified of 15 searches" in text
    assert "5 distinct" in text


def test_the_stated_correlation_is_scipys(study: pd.DataFrame) -> None:
    sure = study[study["certified"]]
    expected = scipy.stats.spearmanr(sure["loss"], sure["alpha"]).statistic
    assert f"Spearman ρ = {expected:.2f} [" in facts(plot_epsilon_alpha(study))
    expected = scipy.stats.kendalltau(sure["error"], sure["alpha"]).statistic
    ax = plot_epsilon_alpha(study, against="error", correlation="kendall")
    assert f"Kendall τ = {expected:.2f} [" in facts(ax)
    assert ax.get_xlabel().startswith("Error ε")


def test_isotonic_curve_rises_and_no_rising_curve_is_nearer(study: pd.DataFrame) -> None:
    places, curve = isotonic_curve(study)
    assert (np.diff(places) > 0).all()
    assert (np.diff(curve) >= 0).all()
    sure = study[study["certified"]]
    x, y = sure["loss"].to_numpy(), sure["alpha"].to_numpy()

    def misfit(values: np.ndarray) -> float:
        return float(np.sum((np.interp(x, places, values) - y) ** 2))

    rng = np.random.default_rng(0)
    for _ in range(50):
        other = np.sort(curve + 0.02 * rng.standard_normal(len(curve)))
        assert misfit(curve) <= misfit(other)


def test_closed_form_points_are_rings_that_no_marker_covers() -> None:
    known = [(0.1, 0.05), (0.5, 0.2), (0.9, 0.3)]
    ax = plot_epsilon_alpha([critical_point(6, 0.5)], closed_form=known)
    (rings,) = artists(ax, "closed form")
    assert np.asarray(rings.get_offsets()) == pytest.approx(np.array(known))
    assert rings.get_zorder() > artists(ax, "points")[0].get_zorder()
    assert not len(rings.get_facecolor())
    table = pd.DataFrame(known, columns=["loss", "alpha"])
    plot_epsilon_alpha([critical_point(6, 0.5)], closed_form=table)
    with pytest.raises(OptionError, match="no column alpha"):
        plot_epsilon_alpha([critical_point(6, 0.5)], closed_form=table[["loss"]])


def test_closed_form_points_of_loss_0_have_a_place_on_the_axis() -> None:
    far = [critical_point(k, 10.0 ** (k - 3)) for k in range(4)]
    assert plot_epsilon_alpha(far, closed_form=[(1e-3, 0.0)]).get_xscale() == "log"
    assert plot_epsilon_alpha(far, closed_form=[(0.0, 0.0)]).get_xscale() == "linear"


def test_losses_over_decades_get_a_logarithmic_axis() -> None:
    near = [critical_point(k, 0.1 * k + 0.1) for k in range(4)]
    far = [critical_point(k, 10.0 ** (k - 3)) for k in range(4)]
    assert plot_epsilon_alpha(near).get_xscale() == "linear"
    assert plot_epsilon_alpha(far).get_xscale() == "log"


def test_a_single_point_and_minima_alone_can_be_drawn() -> None:
    ax = plot_epsilon_alpha([critical_point(0, 0.2)])
    assert ax.get_ylim()[0] < 0 < ax.get_ylim()[1]
    assert "undefined" in facts(ax)
    plot_epsilon_alpha([critical_point(0, 0.2), critical_point(0, 0.2)])


def test_nothing_to_draw_says_why(study: pd.DataFrame) -> None:
    failed = [critical_point(3, 0.1, status="diverging", level="residual-only")]
    with pytest.raises(OptionError, match="none of the 1 points is certified; `uncertified"):
        plot_epsilon_alpha(failed)
    assert not plt.get_fignums()
    plot_epsilon_alpha(failed, uncertified=True)
    with pytest.raises(OptionError, match="no points"):
        plot_epsilon_alpha(study.iloc[:0])
    with pytest.raises(OptionError, match="a value for 'error'"):
        plot_epsilon_alpha([critical_point(3, 0.1, accuracy=None)], against="error")
    with pytest.raises(UnknownNameError):
        plot_epsilon_alpha(study, against="alpha")
    with pytest.raises(UnknownNameError):
        plot_epsilon_alpha(study, color="loss")


def test_points_without_a_value_are_counted_not_dropped() -> None:
    points = [critical_point(3, 0.1), critical_point(4, float("nan"))]
    text = facts(plot_epsilon_alpha(points))
    assert "1 certified of 2 searches" in text
    assert "1 certified, without a value" in text


def test_axes_of_the_user_are_used() -> None:
    _, axes = plt.subplots(1, 2)
    drawn = plot_epsilon_alpha([critical_point(3, 0.1)], ax=axes[1], title="Digits")
    assert drawn is axes[1]
    assert drawn.get_title(loc="left") == "Digits"


@pytest.mark.parametrize("suffix", [".png", ".pdf", ".svg"])
def test_figures_are_saved_whole_without_layout_warnings(
    suffix: str, study: pd.DataFrame, tmp_path: Path
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ax = plot_epsilon_alpha(study, uncertified=True, closed_form=[(0.1, 0.1)], title="A title")
        save_figure(ax, tmp_path / f"a{suffix}")
        save_figure(plot_eigenvalue_distributions(study)[0], tmp_path / f"b{suffix}")
    assert (tmp_path / f"a{suffix}").stat().st_size > 5000


# --- eigenvalue distributions --------------------------------------------------------------


def test_low_middle_and_high_loss_share_an_axis(study: pd.DataFrame) -> None:
    axes = plot_eigenvalue_distributions(study)
    assert len(axes) == 3
    assert len({ax.get_xlim() for ax in axes}) == len({ax.get_ylim() for ax in axes}) == 1
    assert all(ax.get_yscale() == "log" for ax in axes)
    for ax in axes:
        (line,) = artists(ax, "zero")
        assert list(line.get_xdata()) == [0.0, 0.0]
    losses = study[study["certified"]]["loss"]
    for ax, loss in ((axes[0], losses.min()), (axes[2], losses.max())):
        assert f"ε = {loss:.3g}" in facts(ax)
    assert axes[-1].get_xlabel() == "Hessian eigenvalue λ"


def test_densities_integrate_to_one_and_shift_and_mode_are_stated() -> None:
    points = [critical_point(k, 0.1 * k, seed=k) for k in (2, 20)]
    for ax, point in zip(plot_eigenvalue_distributions(points), points, strict=True):
        bars = [(p.get_width(), p.get_height()) for p in ax.patches if p.get_gid() is None]
        assert sum(width * height for width, height in bars) == pytest.approx(1.0)
        assert f"mean λ = {point.arrays['eigenvalues'].mean():.3g}" in facts(ax)
        assert "mode at 0" in facts(ax)
        assert f"{10 / SIZE:.0%} within ±τ = 10⁻¹²" in facts(ax)


def test_shape_of_a_known_distribution() -> None:
    values = np.r_[np.full(30, 0.0), np.full(50, 2.0), np.full(20, -1.0)]
    spectrum = Spectrum(np.sort(values), NoiseFloor(1e-15, 0.0), "float64")
    shape = eigenvalue_shape(spectrum, spectrum.inertia())
    assert shape["mean"] == pytest.approx(0.8)
    assert shape["mode"] == pytest.approx(2.0, abs=shape["bin"] / 2)
    assert shape["at_mode"] == pytest.approx(0.5)
    assert shape["zero"] == pytest.approx(0.3)


@pytest.mark.parametrize("bulk", [300, 2])
def test_shape_of_a_density_has_its_outliers(bulk: int) -> None:
    """They are locked, or all that there is; the mean is the trace over n, as for the curve."""
    values = np.r_[np.linspace(-0.1, 0.1, bulk), 5.0, 7.0, -3.0]
    density = LanczosBackend(steps=60, probes=6, deflation=100).solve(np.diag(values))
    assert len(density.locked) >= 3
    shape = eigenvalue_shape(density, density.inertia(0.2))
    trace = density.trace_estimate()
    assert trace.lower <= 9.0 <= trace.upper
    assert shape["mean"] * len(values) == pytest.approx(trace.value, rel=1e-9)
    assert shape["at_mode"] == pytest.approx(bulk / len(values), rel=0.02)


def test_semicircle_overlay_fits_a_semicircle() -> None:
    """Eigenvalues of the Gaussian orthogonal ensemble lie under the curve drawn over them."""
    rng = np.random.default_rng(0)
    a = rng.standard_normal((400, 400))
    values = np.linalg.eigvalsh((a + a.T) / np.sqrt(8 * 400)) + 0.5
    facts_of = {
        "dtype": "float64",
        "hvps": 0,
        "noise_floor_parts": {"solver": 1e-15, "operator": 0.0},
    }
    record = Record("spectrum", {"eigenvalues": values}, {**facts_of, "loss": 0.1})
    (ax,) = plot_eigenvalue_distributions(record, semicircle=True)
    (curve,) = artists(ax, "semicircle")
    x, y = np.asarray(curve.get_xdata()), np.asarray(curve.get_ydata())
    for bar in (p for p in ax.patches if p.get_gid() is None):
        middle = bar.get_x() + bar.get_width() / 2
        expected = np.interp(middle, x, y)
        if expected > 0.3 * y.max():
            error = np.sqrt(expected / (400 * bar.get_width()))  # that of a Poisson count
            assert abs(bar.get_height() - expected) < 3 * error


def test_distributions_need_a_spectrum(study: pd.DataFrame) -> None:
    with pytest.raises(OptionError, match="holds no spectrum"):
        plot_eigenvalue_distributions(Record("section", {}, {}))
    with pytest.raises(OptionError, match="certified"):
        plot_eigenvalue_distributions(study[~study["certified"]])


def test_spectra_inside_refinement_records_are_found() -> None:
    values = np.array([-1.0, 0.0, 2.0])
    inner = {"kind": "spectrum", "dtype": "float64", "hvps": 3}
    inner["noise_floor_parts"] = {"solver": 1e-15, "operator": 0.0}  # type: ignore[assignment]
    point = Record(
        "critical point",
        {"spectrum/eigenvalues": values, "parameters": np.zeros(3)},
        {"spectrum": inner, "loss": 0.2, "tolerance": 1e-12},
    )
    (ax,) = plot_eigenvalue_distributions(point)
    assert "index 1" in facts(ax)


# --- the others ----------------------------------------------------------------------------


def test_trace_shows_loss_and_norms_on_a_logarithmic_axis() -> None:
    upper, lower = plot_trace(critical_point(3, 0.1))
    assert lower.get_yscale() == "log"
    assert [ax.get_ylabel() for ax in (upper, lower)] == ["Loss L(θ)", "Norm, damping"]
    assert lower.get_xlabel() == "Iteration"
    with pytest.raises(OptionError, match="no trace"):
        plot_trace(trained("adam", 1, 2, 0.9))


def test_figure_is_chosen_by_what_the_records_are(study: pd.DataFrame, tmp_path: Path) -> None:
    assert report_figure(study).axes[0].get_xlabel() == "Loss ε"
    point = study["path"].iloc[1]
    assert report_figure(point).axes[0].get_xlabel() == "Hessian eigenvalue λ"
    assert len(report_figure(study, "eigenvalues", semicircle=True).axes) == 3
    known = tmp_path / "known.csv"
    known.write_text("loss,alpha\n0.1,0.05\n")
    ax = report_figure(study, closed_form=known, distinct=True).axes[0]
    assert artists(ax, "closed form")
    with pytest.raises(OptionError, match="figure eigenvalues does not take `uncertified`"):
        report_figure(study, "eigenvalues", uncertified=True)
    with pytest.raises(OptionError, match="of one record, and there are 24"):
        report_figure(study, "trace")
    with pytest.raises(UnknownNameError, match="figure 'pie'"):
        report_figure(study, "pie")
