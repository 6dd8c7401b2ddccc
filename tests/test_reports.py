"""Figures and tables of results."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from pathlib import Path
from xml.etree import ElementTree

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.integrate import trapezoid

from hessscope.backends import LanczosBackend
from hessscope.errors import OptionError, OutputExistsError, PrecisionWarning, RecordError
from hessscope.objective import FunctionObjective
from hessscope.records import Record, load_record, write_record
from hessscope.reports.figures import (
    check_figure_path,
    draw,
    plot_paths,
    plot_spectrum,
    plot_tolerance_sweep,
    save_figure,
)
from hessscope.reports.tables import inertia_table, layer_table, spectrum_summary
from hessscope.spectra import (
    CountInterval,
    Inertia,
    LockedPairs,
    NoiseFloor,
    SpectralDensity,
    Spectrum,
)


def exact(values: object, delta: float = 1e-14) -> Spectrum:
    return Spectrum(np.sort(np.asarray(values, dtype=float)), NoiseFloor(delta, 0.0), "float64")


def trained() -> Spectrum:
    """The shape of a trained network's spectrum: zeros, a bulk over decades, outliers."""
    rng = np.random.default_rng(0)
    zeros = 1e-16 * rng.standard_normal(200)
    negative = np.append(-(10 ** rng.uniform(-12, -3, 40)), -0.04)
    outliers = [1.7, 1.2, 0.9, 0.5]
    positive = 10 ** rng.uniform(-12, -2, 700)
    return exact(np.concatenate([zeros, negative, positive, outliers]))


def density(values: np.ndarray, probes: int, steps: int) -> SpectralDensity:
    """Quadrature of a matrix with these eigenvalues in a random basis."""
    n = len(values)
    q, _ = np.linalg.qr(np.random.default_rng(1).standard_normal((n, n)))
    matrix = torch.from_numpy(q * values @ q.T)
    return LanczosBackend(steps=steps, probes=probes, deflation=0).solve(matrix)


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def semicircle() -> SpectralDensity:
    return density(2 * np.cos(np.linspace(0.01, np.pi - 0.01, 300)), probes=3, steps=30)


def bars(ax: Axes) -> np.ndarray:
    """Centre, width, height of each bar."""
    return np.array(
        [
            (p.get_x() + p.get_width() / 2, p.get_width(), p.get_height())
            for p in ax.patches
            if p.get_gid() is None
        ]
    )


def artist(ax: Axes, gid: str):
    found = [a for a in ax.get_children() if a.get_gid() == gid]
    assert len(found) == 1, f"{len(found)} artists '{gid}'"
    return found[0]


def facts(ax: Axes) -> str:
    return artist(ax, "facts").get_text()


# --- exact spectra -------------------------------------------------------------------------


def test_histogram_integrates_to_one_on_log_axis_with_line_at_zero() -> None:
    spectrum = trained()
    ax = plot_spectrum(spectrum)
    _, widths, heights = bars(ax).T
    assert np.sum(widths * heights) == pytest.approx(1.0, abs=1e-12)
    assert ax.get_yscale() == "log"
    assert ax.get_xscale() == "linear"
    line = artist(ax, "zero")
    assert list(line.get_xdata()) == [0.0, 0.0]
    assert line.get_visible()
    assert ax.get_xlim()[0] < 0 < ax.get_xlim()[1]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("Hessian eigenvalue λ", "Density p(λ)")


def test_each_bar_holds_the_eigenvalues_beneath_it() -> None:
    spectrum = trained()
    for centre, width, height in bars(plot_spectrum(spectrum)):
        inside = np.abs(spectrum.eigenvalues - centre) < width / 2 * (1 + 1e-9)
        assert height * width * spectrum.size == pytest.approx(inside.sum(), abs=1e-6)


def test_zeros_with_rounded_signs_share_one_bar_centred_at_zero() -> None:
    spectrum = exact([-1.0, 1.0, *(1e-16 * np.random.default_rng(0).standard_normal(98))])
    centres, widths, heights = bars(plot_spectrum(spectrum)).T
    at_zero = np.abs(centres) < widths / 4
    assert at_zero.sum() == 1
    assert (heights * widths)[at_zero] == pytest.approx(0.98)


def test_single_outliers_are_visible() -> None:
    ax = plot_spectrum(trained())
    bottom, top = np.log10(ax.get_ylim())
    heights = bars(ax)[:, 2]
    share = (np.log10(heights) - bottom) / (top - bottom)
    assert share.min() > 0.04
    assert share.max() <= 1


def test_facts_on_the_figure() -> None:
    spectrum = trained()
    inertia = spectrum.inertia(1e-3)
    text = facts(plot_spectrum(spectrum, tolerance=1e-3))
    for part in (
        "n = 945",
        "float64",
        "τ = 0.001, δ = 10⁻¹⁴",
        f"index {inertia.negative} (α = {inertia.index_fraction:.3g})",
        f"degeneracy {inertia.zero}",
    ):
        assert part in text
    assert "τ = 2δ = 2×10⁻¹⁴" in facts(plot_spectrum(spectrum))


def test_facts_and_everything_else_fit_into_a_column() -> None:
    long = exact(np.append(trained().eigenvalues, np.zeros(20_000)), delta=1.234e-9)
    for source in (long, density(np.linspace(-1, 1, 200), 2, 20)):
        figure = draw("spectrum", source)
        assert figure.get_size_inches()[0] == pytest.approx(8 / 2.54)
        figure.draw_without_rendering()
        box, frame = figure.get_tightbbox(), figure.bbox_inches
        assert box.x0 >= -0.01
        assert box.x1 <= frame.x1 + 0.01
        assert box.y1 <= frame.y1 + 0.01
        sizes = [t.get_fontsize() for ax in figure.axes for t in (*ax.texts, *ax.get_xticklabels())]
        assert min(sizes) >= 7


def test_tolerance_band_is_drawn_where_it_can_be_seen() -> None:
    band = artist(plot_spectrum(trained(), tolerance=0.1), "±τ")
    assert band.get_extents().width > 0
    assert not [a for a in plot_spectrum(trained()).get_children() if a.get_gid() == "±τ"]


def test_tolerance_below_noise_warns_once() -> None:
    with pytest.warns(PrecisionWarning, match="below twice the noise floor") as caught:
        plot_spectrum(trained(), tolerance=1e-15)
    assert len([w for w in caught if w.category is PrecisionWarning]) == 1


def test_sweep_shows_the_counts_of_inertia() -> None:
    spectrum = trained()
    ax = plot_tolerance_sweep(spectrum)
    lines = {line.get_label(): line for line in ax.get_lines()}
    for label, part in (("index", "negative"), ("degeneracy", "zero"), ("positive", "positive")):
        taus, counts = lines[label].get_data()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PrecisionWarning)
            expected = [getattr(spectrum.inertia(t), part).estimate for t in taus]
        assert list(counts) == expected
    assert artist(ax, "tolerance").get_xdata()[0] == spectrum.inertia().tolerance
    assert ax.get_xscale() == "log"
    assert ax.get_ylim()[0] == 0  # an index of 0 is on the axes


def test_sigma_is_refused_for_a_histogram_and_leaves_no_figure_open() -> None:
    with pytest.raises(OptionError, match="sigma smooths"):
        plot_spectrum(trained(), sigma=0.1)
    assert plt.get_fignums() == []


# --- Lanczos -------------------------------------------------------------------------------


def test_density_panel_is_the_smoothed_density(semicircle: SpectralDensity) -> None:
    ax = plot_spectrum(semicircle, sigma=0.1)
    grid, drawn = artist(ax, "density").get_data()
    np.testing.assert_array_equal(drawn, semicircle.density(grid, 0.1))
    assert trapezoid(drawn, grid) == pytest.approx(1.0, abs=1e-3)
    assert ax.get_yscale() == "log"
    assert list(artist(ax, "zero").get_xdata()) == [0.0, 0.0]
    assert "σ = 0.1" in facts(ax)


def test_default_sigma_shows_no_ripples() -> None:
    # The arcsine density, 1/(π√(4 − x²)), is flat to 16 % in |x| < 1.
    result = density(2 * np.cos(np.linspace(0.01, np.pi - 0.01, 300)), probes=1, steps=30)

    def depth(ax: Axes) -> float:
        grid, drawn = artist(ax, "density").get_data()
        inner = drawn[np.abs(grid) < 1]
        return float(inner.max() / inner.min())

    assert depth(plot_spectrum(result)) < 5
    assert depth(plot_spectrum(result, sigma=0.04)) > 50


def test_interval_over_probes(semicircle: SpectralDensity) -> None:
    ax = plot_spectrum(semicircle)
    grid, drawn = artist(ax, "density").get_data()
    corners = artist(ax, "interval").get_paths()[0].vertices
    middle = len(grid) // 2
    column = corners[np.isclose(corners[:, 0], grid[middle], rtol=0, atol=1e-12), 1]
    assert column.min() < drawn[middle] < column.max()
    assert "intervals 95 %, 3 probes" in facts(ax)


def test_one_probe_says_that_it_has_no_interval() -> None:
    ax = plot_spectrum(density(np.linspace(-1, 1, 100), 1, 20))
    assert not [a for a in ax.get_children() if a.get_gid() == "interval"]
    assert "1 probe: no sampling interval" in facts(ax)


def test_rug_has_converged_ritz_values_by_sign() -> None:
    values = np.concatenate([[-3.0], np.linspace(-0.1, 0.1, 200), [4.0, 5.0]])
    ax = plot_spectrum(density(values, 2, 25))
    rug = {line.get_label(): line.get_xdata() for line in ax.get_lines()}
    assert rug["_rug negative"].min() == pytest.approx(-3.0, abs=1e-9)
    outliers = rug["_rug positive"][rug["_rug positive"] > 1]
    np.testing.assert_allclose(outliers, [4.0, 5.0], atol=1e-9)


@pytest.mark.parametrize("sigma", [0.0, -1.0, 1e-4, float("nan"), float("inf")])
def test_unusable_sigma(semicircle: SpectralDensity, sigma: float) -> None:
    with pytest.raises(OptionError, match="sigma"):
        plot_spectrum(semicircle, sigma=sigma)


# --- what is accepted ----------------------------------------------------------------------


def test_record_draws_what_it_holds(tmp_path: Path, semicircle: SpectralDensity) -> None:
    for source in (trained(), semicircle):
        write_record(source.to_record({"tolerance": 1e-2}), tmp_path / "r.h5", overwrite=True)
        ax = plot_spectrum(load_record(tmp_path / "r.h5"))
        assert facts(ax) == facts(plot_spectrum(source, tolerance=1e-2))
        np.testing.assert_array_equal(bars(ax), bars(plot_spectrum(source, tolerance=1e-2)))


def test_other_things_are_refused() -> None:
    with pytest.raises(OptionError, match="kind 'survey' holds no spectrum"):
        plot_spectrum(Record("survey", {}, {}))
    with pytest.raises(OptionError, match="float64 is no record"):
        plot_spectrum(np.zeros(3))  # type: ignore[arg-type]


def test_own_axes_get_the_density_only() -> None:
    figure, axes = plt.subplots(1, 2)
    size = axes[0].xaxis.label.get_size()
    assert plot_spectrum(trained(), ax=axes[0], title="mine") is axes[0]
    assert axes[0].get_title(loc="left") == "mine"
    assert axes[0].xaxis.label.get_size() == size
    assert len(figure.axes) == 2
    assert not axes[1].has_data()


def test_no_title_by_default_and_figure_is_at_hand() -> None:
    ax = plot_spectrum(trained())
    assert ax.get_title(loc="left") == ax.get_title() == ""
    assert len(ax.figure.axes) == 2
    assert plt.get_fignums() == [ax.figure.number]


def test_spectrum_figure_leaves_pyplot_alone() -> None:
    assert isinstance(draw("spectrum", trained()), Figure)
    assert plt.get_fignums() == []


@pytest.mark.parametrize(
    "values",
    [
        [0.0],
        [3.0],
        [-3.0],
        [0.0] * 5,
        [2.0] * 5,
        [1e-17, -1e-17, 3e-17],
        [1.0, 2.0, 3.0],
        [-2.0, -1.0],
        [-1.0, 0.0, 1.0],
        [1e-100, 1e-99],
        [-1e6, 1e6],
    ],
)
@pytest.mark.parametrize("delta", [0.0, 1e-14])
def test_degenerate_spectra_can_be_drawn(values: list[float], delta: float) -> None:
    as_density = SpectralDensity(
        len(values),
        np.zeros((0, 0)),
        np.zeros((0, 0)),
        np.zeros(0),
        NoiseFloor(delta, 0.0),
        "float64",
        LockedPairs(np.sort(values), np.zeros(len(values))),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for source in (exact(values, delta), as_density):
            figure = draw("spectrum", source)
            figure.draw_without_rendering()
            ax = figure.axes[0]
            assert ax.get_xlim()[0] < 0 < ax.get_xlim()[1]
            assert np.isfinite(ax.get_ylim()).all()
            if isinstance(source, Spectrum):
                assert np.prod(bars(ax)[:, 1:], axis=1).sum() == pytest.approx(1.0)


# --- style and files -----------------------------------------------------------------------


def test_settings_of_the_user_are_untouched(tmp_path: Path) -> None:
    before = dict(mpl.rcParams)
    save_figure(plot_spectrum(trained()), tmp_path / "a.pdf")
    plot_tolerance_sweep(trained())
    assert dict(mpl.rcParams) == before


def test_import_leaves_settings_untouched_and_display_is_not_needed(tmp_path: Path) -> None:
    code = (
        "import matplotlib\n"
        "def settings():\n"
        "    return {k: v for k, v in matplotlib.rcParams.items() if k != 'backend'}\n"
        "before = settings()\n"
        "import hessscope.reports as r, numpy as np\n"
        "assert settings() == before\n"
        "from hessscope.spectra import Spectrum, NoiseFloor\n"
        "s = Spectrum(np.arange(3.0), NoiseFloor(1e-15, 0.0), 'float64')\n"
        f"r.save_figure(r.plot_spectrum(s), {str(tmp_path / 'a.png')!r})\n"
    )
    environment = {**os.environ, "MPLBACKEND": "TkAgg"}
    environment.pop("DISPLAY", None)
    environment.pop("WAYLAND_DISPLAY", None)
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
    assert (tmp_path / "a.png").stat().st_size > 0


@pytest.mark.parametrize("suffix", ["png", "pdf", "svg", "PNG"])
def test_saved_files_are_valid_and_reproducible(tmp_path: Path, suffix: str) -> None:
    first = save_figure(plot_spectrum(trained()), tmp_path / f"a.{suffix}")
    second = save_figure(draw("spectrum", trained()), str(tmp_path / f"b.{suffix}"))
    content = first.read_bytes()
    assert content == second.read_bytes()
    if suffix.lower() == "png":
        pixels = plt.imread(first, format="png")
        assert pixels.shape[1] == pytest.approx(8 / 2.54 * 300, abs=1)
        assert pixels[..., :3].std() > 0.05
    elif suffix == "pdf":
        assert content.startswith(b"%PDF-")
        assert content.rstrip().endswith(b"%%EOF")
        assert b"/FontFile2" in content  # TrueType, embedded
        assert b"/Type3" not in content
        assert b"CreationDate" not in content
    else:
        root = ElementTree.fromstring(content)
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        assert b"<dc:date>" not in content


def test_a_file_is_not_overwritten_unasked(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"mine")
    figure = draw("spectrum", trained())
    with pytest.raises(OutputExistsError, match="exists"):
        save_figure(figure, path)
    assert path.read_bytes() == b"mine"
    assert save_figure(figure, path, overwrite=True) == path
    assert path.read_bytes().startswith(b"\x89PNG")
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["a.jpg", "a", "a.h5"])
def test_unknown_suffix_names_the_known(tmp_path: Path, name: str) -> None:
    for attempt in (
        lambda: check_figure_path(tmp_path / name),
        lambda: save_figure(Figure(), tmp_path / name),
    ):
        with pytest.raises(OptionError, match=r"\.png, \.pdf, \.svg"):
            attempt()
    assert list(tmp_path.iterdir()) == []


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="there is no folder"):
        save_figure(Figure(), tmp_path / "none" / "a.png")


def test_axes_in_a_subfigure_save_the_whole_figure(tmp_path: Path) -> None:
    figure = Figure(figsize=(4, 2))
    ax = figure.subfigures(1, 2)[0].subplots()
    assert save_figure(ax, tmp_path / "a.png").exists()


# --- tables --------------------------------------------------------------------------------


def test_inertia_table() -> None:
    inertia = Inertia(
        CountInterval(1, 2, 3, 0.95),
        CountInterval(2, 3, 4, 0.95),
        CountInterval(4, 5, 6, 0.95),
        1e-6,
        1e-9,
    )
    table = inertia_table(inertia)
    assert list(table.index) == ["negative", "zero", "positive"]
    assert list(table.columns) == ["lower", "estimate", "upper", "fraction", "confidence"]
    assert table["estimate"].tolist() == [2, 3, 5]
    assert table.loc["negative", "fraction"] == inertia.index_fraction
    assert table["fraction"].sum() == pytest.approx(1.0)
    assert table.attrs == {"tolerance": 1e-6, "noise_floor": 1e-9}


def test_spectrum_summary_brackets_the_truth(semicircle: SpectralDensity) -> None:
    values = np.array([-1.0, 0.0, 0.5, 2.0])
    table = spectrum_summary(exact(values))
    assert table["estimate"].to_dict() == {
        "lambda_min": -1.0,
        "lambda_max": 2.0,
        "trace": 1.5,
        "index": 1.0,
        "degeneracy": 1.0,
        "positive": 2.0,
        "alpha": 0.25,
    }
    assert (table["lower"] <= table["estimate"]).all()
    assert (table["estimate"] <= table["upper"]).all()
    assert table.attrs["parameters"] == 4
    assert table.attrs["tolerance"] == 2e-14

    table = spectrum_summary(semicircle.to_record(), tolerance=0.5)
    largest = 2 * np.cos(0.01)
    for row, truth in (("lambda_min", -largest), ("lambda_max", largest), ("trace", 0.0)):
        assert table.loc[row, "lower"] <= truth <= table.loc[row, "upper"]
    assert table.loc["trace", "confidence"] == 0.95
    # An eigenvalue lies within the residual, which has the rounding in it, and a Ritz value is no
    # less than the smallest eigenvalue but for rounding.
    low, residual = semicircle.lambda_min, semicircle.lambda_min_residual
    assert table.loc["lambda_min", "lower"] == low - residual
    assert table.loc["lambda_min", "upper"] == low + semicircle.noise_floor.total


def test_layer_table() -> None:
    table = layer_table(
        [("0.weight", (16, 784), "float32"), ("0.bias", [16], "float32"), ("scale", (), "float64")]
    )
    assert table["parameters"].tolist() == [12544, 16, 1]
    assert table.loc["0.weight", "shape"] == (16, 784)
    assert table["dtype"].tolist() == ["float32", "float32", "float64"]
    assert table.attrs["parameters"] == 12561
    assert len(layer_table([])) == 0


def test_paths_are_drawn_until_they_leave_the_picture() -> None:
    """Of a point far outside only the way there is shown."""
    objective = FunctionObjective(lambda x: x[0] ** 2 - x[1] ** 2, [0.0, 0.0])
    inside = np.array([[1.0, 0.1], [0.5, 0.2], [0.25, 0.4]])
    leaving = np.array([[1.0, -0.1], [0.5, -1.0], [0.2, -2.0], [0.1, -50.0]])
    ax = plot_paths(objective, {"newton": inside, "descent": leaving}, width=1.2)
    drawn = {line.get_label(): line.get_xydata() for line in ax.lines}
    np.testing.assert_array_equal(drawn["newton"], inside)
    np.testing.assert_array_equal(drawn["descent"], leaving[:3])
    assert ax.get_xlim() == ax.get_ylim() == (-1.2, 1.2)
    assert len(ax.collections) == 1  # level lines
    flat = plot_paths(FunctionObjective(lambda x: 0 * x.sum(), [0.0, 0.0]), {"newton": inside})
    assert not flat.collections
    with pytest.raises(OptionError, match="two variables"):
        plot_paths(FunctionObjective(lambda x: x.sum(), [0.0] * 3), {})
    with pytest.raises(OptionError, match="two variables"):
        plot_paths(objective, {"newton": np.zeros((4, 3))})
