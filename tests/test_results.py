"""Results in the hands of a user: counts as numbers, unusable estimates, short texts."""

from __future__ import annotations

import io
import re
import shutil
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

import numpy as np
import pandas as pd
import pytest

import hessscope as hs
from cli_runs import PARAMETERS, Run
from hessscope.reports import ReportTable, format_table
from hessscope.reports.number_texts import plain, plus_minus


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
    expected = columns(hs.inertia_table(report.inertia))
    assert expected["estimate"] == [
        int(np.sum(report.result.eigenvalues < -1e-9)),
        int(np.sum(np.abs(report.result.eigenvalues) <= 1e-9)),
        int(np.sum(report.result.eigenvalues > 1e-9)),
    ]
    for source in (report, record, "s.h5", Path("s.h5")):
        assert columns(hs.inertia_table(source)) == expected
        assert hs.plot_spectrum(source).get_xlabel() == "Hessian eigenvalue λ"
        assert len(hs.plot_tolerance_sweep(source).get_lines()) > 3
        assert "explained" in hs.degeneracy_table(source).index
        assert hs.load_records([source])["index"].tolist() == [expected["estimate"][0]]
    assert columns(hs.inertia_table(report.result, tolerance=1e-9)) == expected
    assert hs.report(report, "csv", layout="records").count("\n") == 2
    point = hs.refine_checkpoint("model.pt", "data.npz", activation="tanh", device="cpu")
    assert columns(hs.inertia_table(point)) == columns(hs.inertia_table(point.point.inertia))
    section = hs.section("model.pt", data="data.npz", activation="tanh", resolution=3)
    assert hs.plot_section(section).get_ylabel()
    series = hs.spectrum_series(["model.pt"], "data.npz", **options)
    assert hs.series_table(series)["index"].tolist() == [expected["estimate"][0]]
    assert len(hs.plot_series(series).axes) == 4
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
            hs.inertia_table(wrong)


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
