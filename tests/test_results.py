"""Results in the hands of a user: counts as numbers, unusable estimates, short texts."""

from __future__ import annotations

import dataclasses
import io
import itertools
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar

import matplotlib as mpl

mpl.use("Agg")

import numpy as np
import pandas as pd
import pytest
import torch

import hessscope as hs
from cli_runs import PARAMETERS, Run, arrays, network
from hessscope.errors import OptionError
from hessscope.options.spectrum import SpectrumOptions
from hessscope.pipeline import problems
from hessscope.refinement.result import BY_SUCCESS
from hessscope.registry import BACKENDS
from hessscope.reports import ReportTable, format_table
from hessscope.reports.texts import plain, plus_minus
from hessscope.spectra import (
    Estimate,
    Result,
    find_zero_rule,
    result_of,
    student_interval,
    widest_gap,
)
from hessscope_cli import terminal


def test_a_count_calculates_as_its_estimate() -> None:
    count, other = hs.CountInterval(90, 120, 300, 0.95), hs.CountInterval(1, 5, 9, 1.0)
    assert (int(count), float(count), np.arange(200)[count]) == (120, 120.0, 120)
    assert count > 100
    assert not count < 100
    assert 119.5 <= count <= 120
    assert other < count
    assert not other >= count
    assert (count + 1, 1 + count, count - 1, 500 - count, 2 * count) == (121, 121, 119, 380, 240)
    assert (count / 240, 240 / count, count + other, sum([count, other])) == (0.5, 2.0, 125, 125)
    assert not hs.CountInterval(0, 0, 3, 1.0)
    assert f"{count:>6,d}|{count}" == "   120|120 [90, 300]"
    with pytest.raises(TypeError):
        _ = count < "120"


def test_equal_counts_have_equal_hashes() -> None:
    count = hs.CountInterval(90, 120, 300, 0.95)
    assert count == hs.CountInterval(90, 120, 300, 0.95)
    assert count != hs.CountInterval(90, 120, 301, 0.95)
    assert count == 120 == count
    assert count != 121
    assert count != "120"
    assert hash(count) == hash(120) == hash(hs.CountInterval(90, 120, 300, 0.95))


@pytest.mark.parametrize("steps", [2, 43])
def test_json_and_text_mark_the_same_estimates(run: Run, work: Path, steps: int) -> None:
    arguments = ("spectrum", "model.pt", "--data", "data.npz", "--activation", "tanh",
                 "--backend", "lanczos", "--steps", steps, "--tolerance", "1e-3")  # fmt: skip
    shutil.copy("model.pt", "other.pt")
    said, text = run(*arguments, "--json").json, run(*arguments).out
    series = run(*arguments[:2], "other.pt", *arguments[2:]).out
    for name in ("index", "degeneracy"):
        count = said[name]
        wide = count["upper"] - count["lower"] > PARAMETERS / 10
        assert count["usable"] is not wide
        shown = re.search(rf"{name}\s+{count['estimate']}(\??)\s", text)
        assert shown is not None
        assert bool(shown[1]) is wide
        assert (f"{count['estimate']}? [{count['lower']}, {count['upper']}]" in series) is wide
    assert said["degeneracy"]["usable"] is (steps == 43)


def columns(table: pd.DataFrame) -> dict[str, list[object]]:
    return {str(name): list(table[name]) for name in table}


def test_tables_and_figures_take_what_says_the_same(run: Run, work: Path) -> None:
    options: dict[str, object] = {"activation": "tanh", "device": "cpu", "tolerance": 1e-9}
    report = hs.spectrum("model.pt", "data.npz", explain=True, bulk=True, out="s.h5", **options)
    record = hs.load_record("s.h5")
    expected = columns(hs.tables.inertia_table(report.inertia))
    assert expected["estimate"] == [
        int(np.sum(report.result.eigenvalues < -1e-9)),
        int(np.sum(np.abs(report.result.eigenvalues) <= 1e-9)),
        int(np.sum(report.result.eigenvalues > 1e-9)),
    ]
    for source in (report, record, "s.h5", Path("s.h5")):
        assert columns(hs.tables.inertia_table(source)) == expected
        assert hs.plot_spectrum(source).get_xlabel() == "Hessian eigenvalue λ"
        assert len(hs.figures.plot_tolerance_sweep(source).get_lines()) > 3
        assert "explained" in hs.tables.degeneracy_table(source).index
        assert hs.load_records([source])["index"].tolist() == [expected["estimate"][0]]
    assert columns(hs.tables.inertia_table(report.result, tolerance=1e-9)) == expected
    assert hs.report(report, "csv", layout="records").count("\n") == 2
    point = hs.refine_checkpoint("model.pt", "data.npz", activation="tanh", device="cpu")
    assert columns(hs.tables.inertia_table(point)) == columns(
        hs.tables.inertia_table(point.point.inertia)
    )
    section = hs.section("model.pt", data="data.npz", activation="tanh", resolution=3)
    assert hs.figures.plot_section(section).get_ylabel()
    series = hs.spectrum_series(["model.pt"], "data.npz", **options)
    assert hs.tables.series_table(series)["index"].tolist() == [expected["estimate"][0]]
    assert len(hs.figures.plot_series(series)) == 4
    # All of them are a few lines, and HTML that shows the same.
    for result in (report, report.result, record, point, point.point, section, series):
        text, html = repr(result), result._repr_html_()
        assert text.startswith(type(result).__name__)
        assert len(text) < 900
        assert 2 <= text.count("\n") <= 12
        assert html.count("<tr>") == text.count("\n")
    assert f"index          {report.inertia.negative}\n" in repr(report)
    assert '<td style="text-align: left">not a critical point' in report._repr_html_()
    for wrong in (3, report.inertia.negative):
        with pytest.raises(hs.HessscopeError, match="give a result, a report, a Record or its fi"):
            hs.tables.inertia_table(wrong)


def test_a_summary_marks_what_is_unusable_and_escapes() -> None:
    narrow, wide = hs.CountInterval(9, 10, 11, 0.95), hs.CountInterval(3129, 15836, 21337, 0.95)
    inertia = hs.Inertia(narrow, wide, hs.CountInterval(0, 5, 9, 0.95), 1e-3, 1e-9)
    assert inertia.summary()["degeneracy"] == "15,836? [3,129, 21,337]"
    assert inertia.summary()["index"] == "10 [9, 11]"
    assert "<b>" not in hs.Record("<b>", {}, {})._repr_html_()


def test_cells_are_no_formulas_and_formulas_stay_whole() -> None:
    names = ["=1+1", "@sum", "-x", "+x", "plain"]
    numbers = pd.DataFrame({"name": names, "value": [-1.5, 0.5, 1e-6, 2.0, 0.0]})
    table = ReportTable("t", numbers, numbers.astype(str).rename(columns={"value": "‖∇L‖"}))
    lines = format_table(table, "csv").splitlines()
    assert [line.split(",")[0] for line in lines[1:]] == [f"'{n}" for n in names[:-1]] + ["plain"]
    assert lines[1].endswith(",-1.5")
    assert pd.read_csv(io.StringIO("\n".join(lines)))["value"].tolist() == numbers["value"].tolist()
    assert r"$\|\nabla L\|$" in format_table(table, "latex")


def test_tables_keep_the_zeros_that_are_results() -> None:
    shown = [plain(x) for x in (0.5, 1.0, 503.4, 1.5e-3, 2e-15, 1e-6, 0.0)]
    assert shown == ["0.500", "1.00", "503", "0.00150", "2.00×10⁻¹⁵", "10⁻⁶", "0"]
    assert plus_minus(96.4, 0.0) == "96.40 ± 0"


def test_a_stalled_search_names_what_the_trials_support() -> None:
    """The order of the message is that of the success rates on the page, with a penalty."""
    page = (Path(__file__).parents[1] / "docs" / "refinement.md").read_text("utf-8")
    table = page.partition("| problem | newton |")[2].partition("\n\n")[0]
    header, _, *rows = [line.strip("|").split("|") for line in f" newton |{table}".splitlines()]
    names = [name.strip() for name in header if name.strip()]
    rates = dict.fromkeys(names, 0)
    for row in rows:
        for name, cell in zip(names, row[1:], strict=True):
            rate = int(cell.split("%")[0])
            assert rate == 0 or "L2" in row[0]  # without a penalty none of them converges
            rates[name] += rate
    best = sorted((name for name in names if rates[name]), key=lambda n: -rates[n])
    assert set(best) == set(BY_SUCCESS)
    found = [rates[name] for name in BY_SUCCESS]
    assert all(later <= 1.01 * earlier for earlier, later in itertools.pairwise(found))
    saddle = hs.FunctionObjective(lambda x: x[0] ** 2 - x[1] ** 2, [1.0, 0.1])
    point = hs.refine(saddle, method="newton")
    stalled = dataclasses.replace(
        point, state=dataclasses.replace(point.state, status=None).ended("step_too_small", "here")
    )
    words = stalled.diagnosis
    assert re.findall(r"(\w+) \(a ", words) == [n for n in BY_SUCCESS if n != "newton"]
    assert "a penalty (`l2`)" in words


def test_every_moment_has_a_label(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stages: list[str] = []

    def progress(stage: str, done: int, total: int) -> None:
        if stages[-1:] != [stage]:
            stages.append(stage)

    def first(*arguments: object, **options: object) -> object:
        assert stages == ["checkpoint and data"]  # before anything is read
        return opened(*arguments, **options)

    opened = problems._open
    monkeypatch.setattr(problems, "_open", first)
    for backend, solving in (("exact", "assembly"), ("lanczos", "Lanczos")):
        stages.clear()
        options = {"activation": "tanh", "backend": backend, "steps": 8, "probes": 2}
        hs.spectrum("model.pt", "data.npz", progress=progress, **options)
        start = stages.index(solving)
        assert stages[:start] == ["checkpoint and data", "loss", "checks and plan of the products"]
        assert stages[start + 1] == "noise floor"
        assert stages[-2:] == ["test for a critical point", "counts at other tolerances"]


def test_a_bar_without_an_end_lasts_until_the_next_stage() -> None:
    bars = terminal.make_bars()
    report = terminal.reporter(bars)

    def shown() -> list[str]:
        return [task.description for task in bars.tasks if task.visible]

    report("opening", 0, 0)
    assert shown() == ["opening"]
    report("Lanczos", 3, 180)
    assert shown() == ["Lanczos"]
    report("Lanczos", 180, 180)
    report("noise floor", 0, 0)
    assert shown() == ["Lanczos", "noise floor"]
    report("Lanczos", 180, 180)
    assert shown() == ["Lanczos"]


def test_a_model_in_memory_is_as_good_as_its_file(work: Path) -> None:
    model, data = network(), tuple(arrays().values())
    before = {name: value.clone() for name, value in model.state_dict().items()}
    report = hs.spectrum(model, data, device="cpu", out="own.h5")
    filed = hs.spectrum("model.pt", "data.npz", activation="tanh", device="cpu")
    np.testing.assert_allclose(report.result.eigenvalues, filed.result.eigenvalues, atol=1e-13)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    record = hs.load_record("own.h5")
    assert record["checkpoint"] == "in memory"
    assert record["options"]["checkpoint"] == "Sequential in memory"
    again = hs.spectrum(network(), data, device="cpu")
    assert again.opened.checkpoint.sha256 == record["checkpoint_sha256"]
    with torch.no_grad():
        model[0].bias[0] += 1e-7
    other = hs.spectrum(model, data, device="cpu")
    assert other.opened.checkpoint.sha256 != record["checkpoint_sha256"]
    assert hs.refine_checkpoint(network(), data, device="cpu").point.trace[0].loss == report.loss
    with pytest.raises(hs.HessscopeError, match=r"take hs\.spectrum"):
        hs.spectrum_series([model], data)  # type: ignore[list-item]


@pytest.mark.parametrize("given", [(network(),), (lambda x: x[0] ** 2, [1.0])])
def test_operators_say_how_they_are_made(given: tuple[object, ...]) -> None:
    with pytest.raises(hs.HessscopeError, match="HessianOperator takes an objective") as error:
        hs.HessianOperator(*given)  # type: ignore[arg-type]
    lines = re.findall(r"hs\.HessianOperator\(([\w.]+)", str(error.value))
    assert lines == ["model", "hs.FunctionObjective"]


# --- the protocol of results ---------------------------------------------------------------------


@dataclass(frozen=True, repr=False)
class Traced(Result):
    """A result of another package: a trace, and nothing else."""

    kind: ClassVar[str] = "traced"
    counts: ClassVar[bool] = False
    size: int
    samples: np.ndarray
    dtype: str = "float64"
    hvps: int = 0
    options: Mapping[str, Any] = field(default_factory=lambda: {"backend": "traced"})
    eigenvalues: None = field(default=None, init=False)

    def trace_estimate(self) -> Estimate:
        return student_interval(self.samples, 0.95)


def test_a_result_of_another_kind_has_records_and_says_what_it_lacks(tmp_path: Path) -> None:
    own = Traced(7, np.array([1.0, 3.0, 2.0]), hvps=3)
    hs.write_record(own.to_record({"loss": 0.5}), tmp_path / "x.h5")
    again = result_of(hs.load_record(tmp_path / "x.h5"))
    assert isinstance(again, Traced)
    assert (again.size, again.hvps, again.backend) == (7, 3, "traced")
    assert again.trace == own.trace == 2.0
    assert widest_gap(again) is None
    with pytest.raises(OptionError, match="neither counts nor a density"):
        again.inertia()
    with pytest.raises(OptionError, match="holds no spectrum"):
        result_of(hs.Record("section", {}, {}))


def test_spectra_and_densities_come_back_from_records_with_all_their_fields(
    tmp_path: Path,
) -> None:
    matrix = np.diag(np.r_[-2.0, 0.0, np.linspace(1.0, 3.0, 40)])
    for name, result in (
        ("exact", hs.ExactBackend(eigenvectors=True, rounded=True).solve(matrix)),
        ("lanczos", hs.LanczosBackend(steps=12, probes=2).solve(matrix)),
    ):
        path = tmp_path / f"{name}.h5"
        hs.write_record(result.to_record(), path)
        again = result_of(hs.load_record(path))
        assert type(again) is type(result)
        for one, other in (
            (result, again),
            *(((result.rounded, again.rounded),) if result.rounded else ()),
        ):
            for f in fields(one):
                expected, found = getattr(one, f.name), getattr(other, f.name)
                if isinstance(expected, np.ndarray):
                    np.testing.assert_array_equal(found, expected)
                elif f.name not in ("options", "rounded", "locked"):
                    assert found == expected, f.name
        assert str(again.inertia()) == str(result.inertia())


def test_backends_take_the_options_that_they_know() -> None:
    options = SpectrumOptions(
        "model.pt", steps=7, probes=2, seed=5, memory="1GB", target_width=0.5, tolerance=1e-3
    )
    lanczos = hs.LanczosBackend.from_options(options)
    assert (lanczos.steps, lanczos.probes, lanczos.seed, lanczos.memory) == (7, 2, 5, 10**9)
    assert (lanczos.target_width, lanczos.rule) == (0.5, hs.AbsoluteRule(1e-3))
    assert hs.ExactBackend.from_options(options) == hs.ExactBackend(memory=10**9)
    published = SpectrumOptions("model.pt", zero_rule="sankar2017")
    assert hs.ExactBackend.from_options(published).rounded
    assert BACKENDS["pyhessian"].from_options(options).seed == 5


def test_a_rule_is_taken_by_name_by_class_or_as_it_is() -> None:
    rule = hs.RelativeRule(1e-5)
    for given in ("relative", hs.RelativeRule):
        assert find_zero_rule(given, 1e-5) == rule
    assert find_zero_rule(rule) is rule
    with pytest.raises(OptionError, match="has its τ already"):
        find_zero_rule(rule, 1e-5)
