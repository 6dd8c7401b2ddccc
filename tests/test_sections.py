"""Sections of the loss: values against closed forms, geometry, records, the command."""

from __future__ import annotations

import warnings
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.text import Text
from torch import nn

import hessscope as hs
from cli_runs import INPUTS, Run, arrays, in_folder, listing, network
from hessscope.backends import EigenvectorBackend
from hessscope.errors import (
    AssumptionWarning,
    CheckpointError,
    OptionError,
    RecordError,
)
from hessscope.objective import LossSection, section_along, section_between
from hessscope.pipeline import sections
from hessscope.records import Record, load_record, write_record
from hessscope.reports.figures import plot_section
from hessscope.reports.figures.style import figure_of
from study_records import critical_point


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    yield from in_folder(tmp_path, monkeypatch)


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


def risk() -> hs.EmpiricalRisk:
    data = arrays()
    return hs.EmpiricalRisk(network(), (data["inputs"], data["targets"]), device="cpu")


def quadratic(matrix: np.ndarray) -> hs.EmpiricalRisk:
    """A loss that is exactly ½ θᵀAθ + const: a linear model without bias, targets 0."""
    n = len(matrix)
    root = np.linalg.cholesky(matrix)
    model = nn.Linear(n, 1, bias=False, dtype=torch.float64)
    inputs = torch.from_numpy(np.sqrt(n / 2) * root.T.copy())  # mean over n of (xᵀθ)² = ½ θᵀAθ
    targets = torch.zeros(n, 1, dtype=torch.float64)
    return hs.EmpiricalRisk(model, (inputs, targets), "mse", device="cpu")


# --- values --------------------------------------------------------------------------------


def test_a_line_has_the_loss_of_both_points_at_its_ends() -> None:
    objective = risk()
    a = objective.parameters
    b = a + torch.randn(len(a), generator=torch.Generator().manual_seed(0), dtype=a.dtype)
    section = section_between(objective, [a, b], resolution=11)
    assert section.values[0] == objective.value(a)
    assert section.values[-1] == objective.value(b)
    assert section.values[5] == pytest.approx(objective.value((a + b) / 2), rel=1e-14)
    assert section.evaluations == 11
    assert section.dimension == 1


def test_loss_on_sections_of_a_quadratic_is_the_closed_form() -> None:
    rng = np.random.default_rng(0)
    m = rng.standard_normal((5, 5))
    matrix = m @ m.T + np.eye(5)
    objective = quadratic(matrix)
    points = [torch.from_numpy(rng.standard_normal(5)) for _ in range(3)]
    section = section_between(objective, points, resolution=7)
    for i, j in np.ndindex(7, 7):
        x = section.coordinates[0][i] * section.directions[0]
        theta = section.origin + x + section.coordinates[1][j] * section.directions[1]
        assert section.values[i, j] == pytest.approx(0.5 * theta @ matrix @ theta, rel=1e-12)
    gram = section.directions @ section.directions.T
    assert gram == pytest.approx(np.eye(2), abs=1e-14)
    for point, (_, (s, t)) in zip(points, section.marks, strict=True):
        at = section.origin + s * section.directions[0] + t * section.directions[1]
        assert at == pytest.approx(point.numpy(), abs=1e-13)
    low, high = section.coordinates[0][[0, -1]]
    assert all(low <= s <= high for _, (s, _) in section.marks)


def test_curvature_along_an_eigenvector_is_its_eigenvalue() -> None:
    objective = risk()
    for end in ("highest", "lowest"):
        pair = EigenvectorBackend(1, end).solve(hs.HessianOperator(objective))
        vector = torch.from_numpy(pair.vectors.T)
        section = section_along(objective, vector, reach=1e-3, resolution=3)
        left, middle, right = section.values
        second = (left - 2 * middle + right) / 1e-6
        # A difference quotient: its error is h²/12·L'''' and rounding 4 eps L/h².
        assert second == pytest.approx(pair.values[0], abs=1e-5)
        assert section.slopes[0] == pytest.approx((right - left) / 2e-3, abs=1e-5)


def test_barrier_is_the_rise_above_the_straight_line() -> None:
    axis = np.linspace(-0.5, 1.5, 5)
    values = np.array([9.0, 1.0, 4.0, 2.0, 9.0])
    marks = (("A", (0.0,)), ("B", (1.0,)))
    section = LossSection((axis,), values, np.zeros(2), np.eye(2)[:1], ("t",), marks)
    assert section.barrier == pytest.approx(2.5)
    straight = LossSection((axis,), axis, np.zeros(2), np.eye(2)[:1], ("t",), marks)
    assert straight.barrier == pytest.approx(0.0)


def test_what_spans_nothing_is_refused() -> None:
    objective = risk()
    a = objective.parameters
    with pytest.raises(OptionError, match="are the same"):
        section_between(objective, [a, a])
    with pytest.raises(OptionError, match="lie on one line"):
        section_between(objective, [a, a + 1, a + 2])
    with pytest.raises(OptionError, match="two or three points"):
        section_between(objective, [a])
    with pytest.raises(OptionError, match="point B has shape"):
        section_between(objective, [a, a[:3]])
    with pytest.raises(OptionError, match="resolution is 1"):
        section_between(objective, [a, a + 1], resolution=1)
    with pytest.raises(OptionError, match="a direction is zero"):
        section_along(objective, 0 * a[None])
    with pytest.raises(OptionError, match="reach"):
        section_along(objective, a[None], reach=-1.0)
    with pytest.raises(OptionError, match="directions have shape"):
        section_along(objective, a)


# --- records and figures -------------------------------------------------------------------


def test_a_record_holds_the_section() -> None:
    objective = risk()
    section = section_along(objective, torch.eye(len(objective.parameters))[:2], resolution=5)
    again = LossSection.from_record(section.to_record({"data": "here"}))
    for name in ("values", "origin", "directions"):
        assert np.array_equal(getattr(again, name), getattr(section, name))
    assert (again.marks, again.names, again.slopes) == (
        section.marks,
        section.names,
        section.slopes,
    )
    assert again.evaluations == 25
    with pytest.raises(OptionError, match="holds no section"):
        LossSection.from_record(critical_point(1, 0.1))


def test_line_figure_has_the_quadratic_model_and_the_point() -> None:
    objective = risk()
    pair = EigenvectorBackend(1, "highest").solve(hs.HessianOperator(objective))
    vector, curvature = torch.from_numpy(pair.vectors.T), float(pair.values[0])
    section = section_along(objective, vector, names=("v",), curvatures=(curvature,), resolution=21)
    ax = plot_section(section)
    (loss,) = [line for line in ax.lines if line.get_gid() == "loss"]
    (model,) = [line for line in ax.lines if line.get_gid() == "model"]
    assert np.array_equal(loss.get_ydata(), section.values)
    near = slice(9, 12)
    assert model.get_ydata()[near] == pytest.approx(section.values[near], abs=0.02)
    assert model.get_ydata()[10] == section.values[10]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("Distance along v", "Loss L(θ)")


def test_plane_figure_has_contours_a_bar_and_every_point() -> None:
    objective = risk()
    a = objective.parameters
    stream = torch.Generator().manual_seed(0)
    points = [a, *(a + torch.randn(len(a), generator=stream, dtype=a.dtype) for _ in range(2))]
    section = section_between(objective, points, resolution=9)
    ax = plot_section(section.to_record(), title="Three networks")
    assert sum(len(line.get_xdata()) == 1 for line in ax.lines) == 3
    assert any(other.get_ylabel() == "Loss L(θ)" for other in ax.figure.axes)


def names_on(ax: Axes, section: LossSection) -> list[np.ndarray]:
    """Left, bottom, right and top of the names of the points, in pixels."""
    figure_of(ax).draw_without_rendering()
    names = [name for name, _ in section.marks]
    # An annotation's own extent has the line to its point in it.
    boxes = [Text.get_window_extent(t).extents for t in ax.texts if t.get_text() in names]
    assert len(boxes) == len(names)
    left, bottom, right, top = np.array(boxes).T
    assert left.min() > ax.bbox.x0
    assert right.max() < ax.bbox.x1
    assert bottom.min() > ax.bbox.y0
    assert top.max() < ax.bbox.y1
    return boxes


@pytest.mark.parametrize(
    "places",
    [
        ((0.0, 0.0), (1.0, 0.02)),
        ((0.40, 0.0), (0.42, 0.02), (0.44, 0.01), (0.46, 0.03)),
        ((-0.3, -0.4), (1.3, -0.4), (1.3, 1.2)),
    ],
)
def test_names_on_a_plane_do_not_cover_each_other(places: tuple[tuple[float, float], ...]) -> None:
    x, y = np.linspace(-0.3, 1.3, 9), np.linspace(-0.4, 1.2, 9)
    values = 1 + x[:, None] ** 2 + y**2
    marks = tuple((f"checkpoint_number_{k}", place) for k, place in enumerate(places))
    section = LossSection((x, y), values, np.zeros(2), np.eye(2), ("s", "t"), marks)
    boxes = names_on(plot_section(section), section)
    for k, one in enumerate(boxes):
        for other in boxes[:k]:
            apart = np.maximum(one[:2] - other[2:], other[:2] - one[2:])
            assert apart.max() > 0


@pytest.mark.parametrize("tilt", [0.02, -0.3])
def test_names_on_a_line_do_not_cover_it(tilt: float) -> None:
    axis = np.linspace(-0.2, 1.2, 401)
    values = 0.5 + 3 * (axis * (1 - axis)) ** 2 + tilt * axis
    marks = (("digits_mlp.pt", (0.0,)), ("digits_mlp_momentum", (1.0,)))
    section = LossSection((axis,), values, np.zeros(2), np.eye(2)[:1], ("t",), marks)
    ax = plot_section(section)
    boxes = names_on(ax, section)
    x, y = ax.transData.transform(np.column_stack([axis, values])).T
    for left, bottom, right, top in boxes:
        assert not ((left < x) & (x < right) & (bottom < y) & (y < top)).any()


def test_values_that_are_not_finite_are_left_out_and_said() -> None:
    axis = np.linspace(0, 1, 4)
    marks = (("A", (0.0,)), ("B", (1.0,)))
    values = np.array([1.0, np.inf, 2.0, 1.0])
    section = LossSection((axis,), values, np.zeros(2), np.eye(2)[:1], ("t",), marks)
    ax = plot_section(section)
    assert any("1 values are not finite" in t.get_text() for t in ax.texts)
    assert section.barrier is None
    empty = LossSection((axis,), np.full(4, np.nan), np.zeros(2), np.eye(2)[:1], ("t",), marks)
    with pytest.raises(OptionError, match="no value"):
        plot_section(empty)
    flat = LossSection((axis, axis), np.ones((4, 4)), np.zeros(2), np.eye(2), ("s", "t"))
    with pytest.raises(OptionError, match="no contours"):
        plot_section(flat)


# --- the command ---------------------------------------------------------------------------


def other_checkpoint(folder: Path, name: str = "other.pt", seed: int = 1) -> None:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(INPUTS, 4), nn.Tanh(), nn.Linear(4, 3))
    torch.save(model.state_dict(), folder / name)


OPTIONS = ("--data", "data.npz", "--activation", "tanh")


def test_between_two_checkpoints(folder: Path, run: Run) -> None:
    other_checkpoint(folder)
    got = run(
        *("section", "model.pt", "other.pt", *OPTIONS, "--resolution", 5, "--plot", "a.png"),
        "--json",
    )
    assert got.code == 0, got.err
    answer = got.json
    assert answer["record"] == "model.section.h5"
    assert answer["coordinates"] == [[0.0, 0.25, 0.5, 0.75, 1.0]]
    for end, name in ((0, "model.pt"), (-1, "other.pt")):
        there = run("inspect", name, *OPTIONS, "--json").json
        assert answer["values"][end] == pytest.approx(there["loss"], rel=1e-12)
    assert (folder / "a.png").stat().st_size > 5000
    record = load_record(folder / "model.section.h5")
    assert record.kind == "section"
    assert record.attributes["provenance"]["python"]
    assert list(record.arrays["values"]) == answer["values"]


def test_along_eigenvectors_at_one_checkpoint(folder: Path, run: Run) -> None:
    answer = run("section", "model.pt", *OPTIONS, "--resolution", 3, "--json").json
    spectrum = run("spectrum", "model.pt", *OPTIONS, "--json").json
    assert answer["eigenvalues"][0] == pytest.approx(spectrum["lambda_max"], rel=1e-9)
    assert answer["eigenvalues"][1] == pytest.approx(spectrum["lambda_min"], rel=1e-9)
    assert np.array(answer["values"]).shape == (3, 3)
    assert answer["values"][1][1] == pytest.approx(spectrum["loss"], rel=1e-12)
    assert answer["hvps"] > 0


def test_shown_on_the_terminal(folder: Path, run: Run) -> None:
    other_checkpoint(folder)
    got = run("section", "model.pt", "other.pt", *OPTIONS, "--out", "s.h5")
    for said in ("loss at model", "loss at other", "barrier", "51", "on the section"):
        assert said in got.out
    assert "record: s.h5" in got.err


def test_records_of_critical_points_are_points_too(folder: Path, run: Run) -> None:
    theta = np.zeros(43)
    write_record(Record("critical point", {"parameters": theta}, {}), folder / "origin.h5")
    answer = run("section", "model.pt", "origin.h5", *OPTIONS, "--json").json
    assert answer["values"][-1] == pytest.approx(np.log(3), rel=1e-12)  # all logits 0
    write_record(Record("spectrum", {}, {}), folder / "none.h5")
    got = run("section", "model.pt", "none.h5", *OPTIONS)
    assert (got.code, "holds no parameters" in got.error) == (1, True)


@pytest.mark.parametrize("function", ["section_between", "section_along", "read_problem"])
def test_every_warning_is_in_the_report(
    folder: Path, monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    there = getattr(sections, function)

    def warning(*arguments: object, **options: object) -> object:
        warnings.warn("beware", AssumptionWarning, stacklevel=2)
        return there(*arguments, **options)

    monkeypatch.setattr(sections, function, warning)
    other_checkpoint(folder)
    others = [] if function == "section_along" else ["other.pt"]
    with pytest.warns(AssumptionWarning, match="beware"):
        report = hs.section(["model.pt", *others], data="data.npz", activation="tanh", resolution=3)
    assert report.warnings == ("beware",)


def test_other_networks_and_options_without_use_are_refused(folder: Path, run: Run) -> None:
    torch.save(nn.Linear(2, 2).state_dict(), folder / "small.pt")
    got = run("section", "model.pt", "small.pt", *OPTIONS)
    assert got.code == 1
    assert "small.pt has" in got.error
    for options in (("--along", "top"), ("--margin", 0.1), ("--resolution", 1), ("--reach", 0)):
        assert run("section", "model.pt", *OPTIONS, *options).code == 2, options
    other_checkpoint(folder)
    assert run("section", "model.pt", "other.pt", *OPTIONS, "--along", "highest").code == 2
    four = ("other.pt",) * 3
    assert "at most three points, got 4" in run("section", "model.pt", *four, *OPTIONS).error
    assert not list(folder.glob("*.h5"))


@pytest.mark.parametrize(
    ("output", "words"),
    [
        (("--out", "other.pt"), "other.pt is a point of the section"),
        (("--out", "./model.pt"), "model.pt is the checkpoint"),
        (("--out", "data.npz"), "data.npz is the data"),
        (("--out", "x.png", "--plot", "x.png"), "x.png is another output"),
    ],
)
def test_no_input_is_replaced(folder: Path, run: Run, output: tuple[str, ...], words: str) -> None:
    other_checkpoint(folder)
    before = listing(folder)
    got = run("section", "model.pt", "other.pt", *OPTIONS, "--overwrite", *output)
    assert got.code == 2
    assert words in got.error
    assert listing(folder) == before


def test_buffers_that_differ_are_said(folder: Path) -> None:
    def normalised(seed: int) -> nn.Sequential:
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Linear(INPUTS, 4), nn.BatchNorm1d(4), nn.Linear(4, 3))
        model[1].running_mean.normal_()  # type: ignore[union-attr, operator]
        return model.eval()

    for seed in (0, 1):
        torch.save(normalised(seed).state_dict(), folder / f"{seed}.pt")
    with pytest.warns(AssumptionWarning, match="buffers too"):
        hs.section(["0.pt", "1.pt"], data="data.npz", model=normalised(0), resolution=3)
    with pytest.raises((CheckpointError, RecordError)):
        hs.section(["0.pt", "nothing.h5"], data="data.npz", model=normalised(0))
