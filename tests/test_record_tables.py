"""Many records as one table, and the tables that are made of it."""

from __future__ import annotations

import ast
import contextlib
import json
import re
import shutil
import subprocess
import unicodedata
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import hessscope
from hessscope.errors import HessscopeWarning, OptionError, RecordError, UnknownNameError
from hessscope.records import Record, load_record, write_record
from hessscope.registry import LAYOUTS
from hessscope.reports import ReportTable, format_table, load_records, report, report_table
from hessscope.reports.layouts import sankar2017
from hessscope.reports.tables import distinct_points, methods_table, spread_points
from hessscope.reports.texts import plus_minus
from study_records import ZEROS, critical_point, trained, write_study

PUBLISHED = {
    name: LAYOUTS[name]
    for name, point in LAYOUTS.points.items()
    if point.module == sankar2017.__name__
}
HOSTILE = "<script>alert('x')</script>_|`*&%$#{}~^\\.pt"


# --- reading -------------------------------------------------------------------------------


def test_every_record_is_a_row_failed_searches_too(tmp_path: Path) -> None:
    table = load_records(write_study(tmp_path / "study"))
    assert len(table) == 24
    assert (table["status"] == "gradient_flat").sum() == 4
    assert list(table["name"]) == sorted(table["name"])
    first = load_record(tmp_path / "study" / "job_001.h5")
    row = table[table["name"] == "job_001"].iloc[0]
    for column, key in (("index", "index"), ("degeneracy", "degeneracy"), ("positive", "positive")):
        assert row[column] == first.attributes[key]["estimate"]
        assert row[f"{column}_lower"] == first.attributes[key]["lower"]
        assert row[f"{column}_upper"] == first.attributes[key]["upper"]
    assert row["alpha_upper"] == pytest.approx(first.attributes["index"]["upper"] / 60)
    assert row["error"] == pytest.approx(1 - first.attributes["accuracy"])
    assert row["certified"]
    assert not table[table["status"] != "converged"]["certified"].any()


def test_arrays_are_read_only_where_they_are_needed(tmp_path: Path) -> None:
    write_record(critical_point(3, 0.1), tmp_path / "a.h5")
    record = load_record(tmp_path / "a.h5", arrays=("eigenvalues", "nothing"))
    assert set(record.arrays) == {"eigenvalues"}
    assert len(load_record(tmp_path / "a.h5").arrays) == 7


def test_labels_folders_files_and_records_mix(tmp_path: Path) -> None:
    study = write_study(tmp_path / "study", 2)
    table = load_records([{"here": study}, study / "job_000.h5", critical_point(1, 0.2)])
    assert list(table["label"].fillna("")) == ["here", "here", "", ""]
    assert table["path"].isna().sum() == 1


def test_files_of_one_name_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        write_record(critical_point(3, 0.1), tmp_path / folder / "point.h5")
    assert list(load_records(tmp_path)["name"]) == ["a/point", "b/point"]


def test_missing_keys_are_missing_values(tmp_path: Path) -> None:
    write_record(Record("spectrum", {}, {"loss": 0.5, "index": "no mapping"}), tmp_path / "a.h5")
    row = load_records(tmp_path).iloc[0]
    assert row["loss"] == 0.5
    assert pd.isna(row["index"])
    assert pd.isna(row["alpha"])
    assert pd.isna(row["accuracy"])
    assert not row["certified"]


def test_damaged_files_are_named_and_the_others_kept(tmp_path: Path) -> None:
    study = write_study(tmp_path / "study", 3)
    content = (study / "job_001.h5").read_bytes()
    (study / "job_001.h5").write_bytes(content[: len(content) // 2])
    (study / "text.h5").write_text("not HDF5")
    with pytest.warns(
        HessscopeWarning, match=r"2 of 4 files were skipped: .*job_001.*text"
    ) as said:
        table = load_records(study)
    assert len(said) == 1
    assert list(table["name"]) == ["job_000", "job_002"]
    assert [Path(path).name for path, _ in table.attrs["skipped"]] == ["job_001.h5", "text.h5"]
    assert "text.h5" in format_table(report_table(table, "records"), "table")
    assert json.loads(report(table, "json"))["skipped"][1]["path"].endswith("text.h5")


@pytest.mark.parametrize("seed", range(30))
def test_no_damage_ends_in_anything_but_a_record_error(seed: int, tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    write_record(critical_point(3, 0.1), path)
    content = bytearray(path.read_bytes())
    rng = np.random.default_rng(seed)
    for place in rng.integers(0, len(content), 40):
        content[place] ^= int(rng.integers(1, 256))
    path.write_bytes(content)
    with contextlib.suppress(RecordError):
        load_record(path)


def test_nothing_to_read_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"no record .*missing"):
        load_records(tmp_path / "missing")
    with pytest.raises(RecordError, match="folder"):
        load_records(tmp_path)
    with pytest.raises(RecordError, match="no record"):
        load_records([])
    with pytest.raises(OptionError, match="int"):
        load_records(3)  # type: ignore[arg-type]
    (tmp_path / "a.h5").write_text("x")
    with pytest.raises(RecordError, match=r"no record can be read: .*a\.h5"):
        load_records(tmp_path)


# --- points --------------------------------------------------------------------------------


def test_distinct_points_are_those_that_differ_in_loss_or_spectrum(tmp_path: Path) -> None:
    same = [critical_point(5, 0.3 + 1e-9 * k, seed=1) for k in range(3)]
    other_spectrum, other_loss = critical_point(5, 0.3, seed=2), critical_point(5, 0.4, seed=1)
    for k, record in enumerate([*same, other_spectrum, other_loss]):
        write_record(record, tmp_path / f"{k}.h5")
    distinct = distinct_points(load_records(tmp_path))
    assert sorted(distinct["found"]) == [1, 1, 3]
    # Without files there are no eigenvalues to compare: the counts have to agree.
    assert list(distinct_points(load_records([*same, other_spectrum]))["found"]) == [4]


def test_certified_points_are_not_lost_among_uncertified_ones() -> None:
    """The search of lowest loss, which stands for its set, may be the one without certificate."""
    records = [
        critical_point(5, 0.3, level="residual-only"),
        *(critical_point(5, 0.3 + 1e-9 * k) for k in (1, 2)),
    ]
    distinct = distinct_points(load_records(records))
    assert sorted(zip(distinct["certified"], distinct["found"], strict=True)) == [
        (False, 1),
        (True, 2),
    ]


def test_points_on_one_orbit_of_a_continuous_symmetry_are_one(tmp_path: Path) -> None:
    """Along it the eigenvalues vary, and the loss and the signs do not."""
    orbit = {"level": "kantorovich-quotient"}
    for k, index in enumerate((5, 5, 5, 6)):
        write_record(critical_point(index, 0.3, seed=k, **orbit), tmp_path / f"{k}.h5")
    write_record(critical_point(5, 0.4, **orbit), tmp_path / "higher.h5")
    distinct = distinct_points(load_records(tmp_path))
    assert sorted(distinct["found"]) == [1, 1, 3]


def test_points_of_low_middle_and_high_loss() -> None:
    table = load_records([critical_point(1, loss) for loss in (0.5, 0.1, 0.9, 0.3, 0.2)])
    assert list(spread_points(table)["loss"]) == [0.1, 0.3, 0.9]
    assert list(spread_points(table.iloc[:2])["loss"]) == [0.1, 0.5]
    assert len(spread_points(table, 9)) == 5


# --- methods -------------------------------------------------------------------------------


def test_mean_and_deviation_over_trials() -> None:
    negatives, accuracies = [225, 231, 240], [0.960, 0.965, 0.962]
    pairs = zip(negatives, accuracies, strict=True)
    records = [trained("momentum", n, 2600, a) for n, a in pairs]
    table = methods_table([*records, trained("adam", 300, 2500, 0.95)])
    momentum, adam = table.iloc[0], table.iloc[1]
    assert (momentum["optimizer"], momentum["trials"], adam["trials"]) == ("momentum", 3, 1)
    assert momentum["negative_mean"] == 232.0
    assert momentum["negative_std"] == pytest.approx(np.sqrt((49 + 1 + 64) / 2))
    assert momentum["accuracy_mean"] == pytest.approx(sum(accuracies) / 3)
    assert (momentum["negative_lower"], momentum["negative_upper"]) == (232.0, 235.0)
    assert (momentum["zero_mean"], momentum["zero_std"]) == (2600.0, 0.0)
    assert momentum["classification"] == "3 × not a critical point"
    assert np.isnan(adam["negative_std"])
    total = momentum["negative_mean"] + momentum["zero_mean"] + momentum["positive_mean"]
    assert total == pytest.approx(19_885)


def test_methods_are_told_apart_by_labels_where_there_are_some() -> None:
    groups = {"first": [trained("adam", 1, 2, 0.9)], "second": [trained("adam", 3, 4, 0.9)]}
    assert list(methods_table(groups)["label"]) == ["first", "second"]
    assert list(methods_table(groups, "optimizer")["trials"]) == [2]
    with pytest.raises(UnknownNameError, match="grouping 'optimiser'"):
        methods_table(groups, "optimiser")


def test_trials_that_are_one_checkpoint_twice_are_pointed_out() -> None:
    same = [trained("adam", 5, 2, 0.9, checkpoint_sha256="ab") for _ in range(2)]
    notes = report_table(same, "methods").notes
    assert any("1 record is of a checkpoint" in note for note in notes)


@pytest.mark.parametrize(
    ("mean", "deviation", "text"),
    [
        (15877, 17.4, "15,877 ± 17"),
        (96.35, 0.02, "96.350 ± 0.020"),
        (1625, float("nan"), "1,625"),
        (1625, 0, "1,625 ± 0"),
        (3.2e-9, 4e-10, "(3.20 ± 0.40)×10⁻⁹"),
        (float("nan"), 1.0, "–"),
        (0.0, 0.0, "0 ± 0"),
        # The deviation that pandas gives of 0.97 three times, in per cent.
        (97.0, 1.4e-14, "97 ± 0"),
    ],
)
def test_a_mean_is_shown_to_the_digits_of_its_deviation(
    mean: float, deviation: float, text: str
) -> None:
    assert plus_minus(mean, deviation) == text


# --- the 2017 paper ------------------------------------------------------------------------


def test_notes_say_what_trials_of_one_row_differ_in() -> None:
    """Classical and Nesterov momentum, or two epochs, are one row of a table: the notes tell."""
    pooled = [
        trained(name, 225, 2600, 0.97, epoch=epoch)
        for name, epoch in (("momentum", 100), ("nesterov", 20))
    ]
    for table in (report_table(pooled, "table1"), report_table({"x": pooled}, "methods")):
        notes = " ".join(table.notes)
        assert "optimizer momentum, nesterov" in notes
        assert "initialization xavier_normal" in notes
        assert "network mlp:784-25-10:relu" in notes
        assert "epoch 100, 20" in notes
    by_optimizer = report_table(pooled, "methods", by="optimizer")
    assert list(by_optimizer.numbers["trials"]) == [1, 1]
    assert "optimizer" not in " ".join(by_optimizer.notes)


def test_notes_stay_short_for_many_values() -> None:
    records = [trained(f"method{k}", 5, 9, 0.9, epoch=5 * k) for k in range(9)]
    notes = " ".join(report_table(records, "records").notes)
    assert "epoch 0 to 40" in notes
    assert "optimizer method0, method1, method2 and 6 others" in notes


def test_trials_of_the_papers_table_are_those_that_have_the_value() -> None:
    records = [trained("adam", 300 + k, 2500, 0.95, gradient_norm=0.1) for k in range(3)]
    records[0].attributes.pop("accuracy")
    numbers = report_table(records, "table1").numbers.query("source == 'ours'")
    trials = dict(zip(numbers["quantity"], numbers["trials"], strict=True))
    assert trials == {"positive": 3, "negative": 3, "accuracy": 2}


@pytest.mark.parametrize("name", ["table3", "table5", "table7", "table8", "table9"])
def test_remarks_on_a_data_set_stand_by_its_rows(name: str) -> None:
    published = PUBLISHED[name]
    row = next(iter(published.rows))[1]
    label = {published.by: row} if published.by != "architecture" else {}
    for data, there in (("mnist", False), ("cifar10", True)):
        record = trained("adam", 225, 2600, 0.97, architecture=row, training=label, data=data)
        table = report_table(record, name)
        assert ("CIFAR-10" in set(table.shown["data", ""])) == there
        assert any("CIFAR-10" in note for note in table.notes) == there


def test_table_1_has_ours_the_rule_and_the_paper_side_by_side() -> None:
    rule = {"positive": 17_500, "negative": 760, "just_zero": 1625}
    records = [trained("nesterov", n, 2600, 0.97, sankar2017=rule) for n in (225, 231)]
    table = report_table(records, "table1")
    momentum = table.shown.iloc[0]
    assert momentum["optimizer", ""] == "Momentum"
    assert momentum["trials", ""] == "2"
    assert momentum["negative (index)", "ours"] == "228.0 ± 4.2 [228, 231]"
    assert momentum["negative (index)", "sankar2017 rule"] == "760 ± 0"
    assert momentum["negative (index)", "paper"] == "2,383 ± 16"
    assert momentum["positive", "paper"] == "15,877 ± 17"
    assert momentum["accuracy %", "paper"] == "96.35 ± 0.02"
    adam = table.shown.iloc[1]
    assert adam["negative (index)", "ours"] == "–"
    assert adam["negative (index)", "paper"] == "2,274 ± 80"
    notes = " ".join(table.notes)
    for said in ("τ = 7.40×10⁻¹⁵", "60,000", "softmax_mse", "arXiv:1706.02052", "8 trials"):
        assert said in notes
    ours = table.numbers.query("quantity == 'negative' and source == 'ours'").iloc[0]
    assert (ours["mean"], ours["lower"], ours["upper"], ours["trials"]) == (228, 228, 231, 2)


@pytest.mark.parametrize("name", list(PUBLISHED))
def test_every_table_of_the_paper_can_be_made(name: str) -> None:
    published = PUBLISHED[name]
    (data, row), values = next(iter(published.rows.items()))
    label = {published.by: row} if published.by != "architecture" else {}
    record = trained("momentum", 225, 2600, 0.97, architecture=row, training=label)
    table = report_table(record, name)
    assert (table.shown[published.by, ""] == row).any()
    assert len(values) == len(published.quantities)
    papers = table.numbers[table.numbers["source"] == "paper"]
    assert len(papers) == sum(
        value is not None
        for (other, _), numbers in published.rows.items()
        for value in numbers
        if other == "MNIST" or data != "MNIST"
    )


def test_a_table_of_accuracies_says_nothing_of_counts() -> None:
    wide = trained("momentum", 225, 2600, 0.97, architecture="mlp:784-500-10:relu")
    notes = " ".join(report_table(wide, "table9").notes)
    assert "τ" not in notes
    assert "tolerance" not in notes
    assert "60,000" in notes


def test_the_papers_counts_add_up_as_its_remarks_say() -> None:
    """Independent of the module's own words: signs and exact zeros make up all eigenvalues."""
    tables = PUBLISHED
    n = 784 * 25 + 25 + 25 * 10 + 10
    key = ("MNIST", "Momentum")
    positive, negative = (value[0] for value in tables["table1"].rows[key][:2])  # type: ignore[index]
    assert positive + negative + 1625 == n
    noisy = tables["table5"].rows["MNIST", "Noisy SGD"]
    assert sum(value[0] for value in noisy[:3]) == n - 1  # type: ignore[index]
    assert 65 * 25 == 1625


def test_the_accuracy_beside_the_papers_is_that_of_the_test_data_where_known() -> None:
    tested = trained("adam", 5, 2, 0.99, training={"optimizer": "adam", "test_accuracy": 0.96})
    table = report_table(tested, "table1")
    assert table.shown.iloc[1]["accuracy %", "ours"] == "96"
    assert not any("data of the Hessian" in note for note in table.notes)
    assert load_records(tested)["accuracy"][0] == 0.99
    untold = report_table(trained("adam", 5, 2, 0.99), "table1")
    assert untold.shown.iloc[1]["accuracy %", "ours"] == "99"
    assert any("data of the Hessian" in note for note in untold.notes)


def test_rows_are_matched_by_label_and_by_spelling() -> None:
    assert sankar2017.table1.row_name("noisy-sgd") == "Noisy SGD"
    assert sankar2017.table7.row_name("he_normal") == "He"
    assert sankar2017.table8.row_name("mlp:784-25-25-10:relu") == "784-25-25-10"
    assert sankar2017.table8.row_name("784 x 25 x 10") == "784-25-10"
    assert sankar2017.table1.row_name("rmsprop") == "rmsprop"
    record = trained("", 225, 2600, 0.97, training={})
    shown = report_table({"adagrad": record}, "table1").shown
    assert shown.iloc[2]["negative (index)", "ours"] == "225 [225, 228]"
    with pytest.raises(OptionError, match="do not state their optimizer"):
        report_table(record, "table1")


def test_other_data_has_rows_of_its_own() -> None:
    shown = report_table(trained("adam", 5, 2, 0.9, data="digits"), "table1").shown
    assert list(shown["data", ""]) == ["MNIST", "MNIST", "MNIST", "digits"]
    assert shown.iloc[3]["negative (index)", "paper"] == "–"
    assert "sankar2017 rule" not in shown.columns.get_level_values(1)


# --- text ----------------------------------------------------------------------------------


def tables() -> list[ReportTable]:
    points = [critical_point(k, 0.1 * k, width=k % 2, seed=k) for k in range(1, 4)]
    return [
        report_table(points, "records"),
        report_table(points, "outcomes"),
        report_table(points, "methods"),
        report_table(points[0]),
        report_table(trained("adam", 300, 2500, 0.95), "table3"),
    ]


@pytest.mark.parametrize("kind", ["table", "csv", "latex", "markdown"])
def test_every_format_holds_every_row(kind: str) -> None:
    for table in tables():
        text = format_table(table, kind)
        assert text.endswith("\n")
        assert text.count("\n") > len(table.shown)


def test_csv_is_read_back_number_for_number() -> None:
    table = report_table([critical_point(k, 0.1 * k, width=1, seed=k) for k in (2, 3)], "records")
    read = pd.read_csv(StringIO(format_table(table, "csv")))
    assert list(read["index"]) == [2, 3]
    assert list(read["index_upper"]) == [3, 4]
    assert list(read["tolerance"]) == [1e-12, 1e-12]
    assert list(read["lambda_max"]) == list(table.numbers["lambda_max"])


def test_markdown_has_as_many_cells_in_every_row() -> None:
    for table in tables():
        lines = [x for x in format_table(table, "markdown").splitlines() if x.startswith("|")]
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines}) == 1


def latex_is_balanced(text: str) -> bool:
    plain = re.sub(r"\\[{}\\%$&#_]", "", text)
    opened = re.findall(r"\\begin\{(\w+)\}", text)
    closed = re.findall(r"\\end\{(\w+)\}", text)
    return (
        plain.count("{") == plain.count("}")
        and plain.count("$") % 2 == 0
        and sorted(opened) == sorted(closed)
    )


def test_latex_is_balanced_and_has_the_rules_of_booktabs() -> None:
    for table in tables():
        text = format_table(table, "latex")
        assert latex_is_balanced(text)
        for rule in ("toprule", "midrule", "bottomrule"):
            assert text.count(f"\\{rule}") == 1
        body = text[text.index("\\midrule") : text.index("\\bottomrule")]
        columns = len(table.shown.columns)
        for line in body.splitlines()[1:]:
            assert len(re.findall(r"(?<!\\)&", line)) == columns - 1


def signs_in_messages() -> str:
    """All characters beyond ASCII that a text of the package can have, docstrings left out."""
    found: set[str] = set()
    for path in Path(hessscope.__file__).parent.rglob("*.py"):
        tree = ast.parse(path.read_text("utf-8"))
        alone = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.update(() if id(node) in alone else node.value)
    # Combining accents are no signs of their own.
    return "".join(sorted(c for c in found if not c.isascii() and not unicodedata.combining(c)))


def latex_of(text: str) -> str:
    return format_table(ReportTable(text, pd.DataFrame(), pd.DataFrame({"a": ["1"]})), "latex")


def test_latex_knows_every_sign_that_the_package_writes() -> None:
    signs = signs_in_messages()
    assert set("βη½⁺→₂∞") <= set(signs)
    for sign in signs:
        text = latex_of(f"x{sign}y")
        assert text.isascii()
        assert f"U+{ord(sign):04X}" not in text, sign


def test_latex_writes_foreign_letters_by_accent_or_code() -> None:
    assert "caption{caf\\'{e} Stra\\v{s}e" in latex_of("café Straše")
    assert "U+65E5" in latex_of("日")


def test_latex_has_a_minus_before_numbers_and_hyphens_in_words() -> None:
    shown = pd.DataFrame({"value": ["-0.0259", "98.33%", "-"], "of": ["a-b", "-x", "1"]})
    text = format_table(ReportTable("t", shown, shown), "latex")
    assert "$-$0.0259 & a-b" in text
    assert "98.33\\% & -x" in text
    assert "- & 1" in text


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex here")
def test_latex_compiles(tmp_path: Path) -> None:
    signs = " ".join(signs_in_messages())
    hostile = critical_point(1, 0.2, method=HOSTILE, origin=f"é 日 α ≤ 10⁻¹⁵ – ∇L {signs}")
    made = [*tables(), report_table([hostile, critical_point(2, 0.3)], "records")]
    body = "\n".join(format_table(table, "latex") for table in made)
    (tmp_path / "t.tex").write_text(
        "\\documentclass{article}\\usepackage{booktabs}\\begin{document}\n"
        + body
        + "\n\\end{document}\n",
        "utf-8",
    )
    run = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "t.tex"],
        cwd=tmp_path,
        capture_output=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout.decode("latin-1")[-1500:]


def test_hostile_names_stay_text() -> None:
    points = [critical_point(1, 0.2, method=HOSTILE), critical_point(2, 0.3)]
    table = report_table(points, "records")
    markdown = format_table(table, "markdown")
    assert "<script" not in markdown
    assert "&lt;script" in markdown
    assert latex_is_balanced(format_table(table, "latex"))


def test_layouts_are_chosen_by_what_the_records_are(tmp_path: Path) -> None:
    point, spectrum = critical_point(3, 0.1), trained("adam", 5, 2, 0.9)
    assert report_table(point).title == "critical point: degenerate saddle"
    assert report_table([point, point]).title == "How the searches ended"
    assert report_table([spectrum, spectrum]).title == "2 records"
    with pytest.raises(UnknownNameError, match="layout 'table4'"):
        report_table(point, "table4")
    with pytest.raises(OptionError, match="of one record, and there are 2"):
        report_table([point, point], "summary")
    with pytest.raises(OptionError, match="layout records does not take `by`"):
        report_table(point, "records", by="method")
    with pytest.raises(OptionError, match="no tolerance sweep"):
        report_table(point, "sweep")
    assert set(LAYOUTS) >= {"table1", "table9", "methods"}


def test_summary_counts_are_those_of_the_eigenvalues() -> None:
    point = critical_point(7, 0.25)
    numbers = report_table(point).numbers.set_index("quantity")
    values = point.arrays["eigenvalues"]
    assert numbers.loc["index", "estimate"] == (values < -1e-12).sum() == 7
    assert numbers.loc["degeneracy", "estimate"] == (np.abs(values) <= 1e-12).sum() == ZEROS
    assert numbers.loc["trace", "estimate"] == pytest.approx(values.sum())
    notes = " ".join(report_table(point).notes)
    assert "conditional on the estimated Lipschitz constant" in notes


def test_outcomes_count_every_search_once(tmp_path: Path) -> None:
    points = load_records(write_study(tmp_path / "study"))
    numbers = report_table(points, "outcomes").numbers
    assert numbers["searches"].sum() == 24
    assert numbers["certified"].sum() == points["certified"].sum()
    assert (numbers["trajectory"] + numbers["uniform"] == numbers["searches"]).all()
    answer = json.loads(report(points, "json"))
    assert answer["rank_correlation"]["all"][0]["points"] == points["certified"].sum()


def test_spectra_beside_searches_are_not_counted_as_searches() -> None:
    spectra = [trained("adam", 5, 2, 0.9), trained("sgd", 6, 1, 0.8)]
    failed = critical_point(3, 0.1, status="iteration limit", level="none", origin=None)
    mixed = [*spectra, failed]
    assert report_table(mixed).title == "3 records"
    asked = report_table(mixed, "outcomes")
    assert asked.numbers["ended"].tolist() == ["iteration limit"]
    assert asked.numbers["searches"].sum() == asked.numbers["no origin"].sum() == 1
    said = "\n".join(asked.notes)
    assert "0 certified of 1 searches\n" in said
    assert "distinct" not in said
    assert "α and loss" not in said
    assert "left out: 2 of 3 records, of no search" in said
    with pytest.raises(OptionError, match="none of the 2 records has a status: take the layout re"):
        report_table(spectra, "outcomes")
    certified = report_table([*spectra, critical_point(2, 0.2)], "outcomes")
    assert "1 certified of 1 searches; 1 of them are distinct" in certified.notes[0]


def test_report_writes_by_suffix_and_never_over_a_file(tmp_path: Path) -> None:
    point = critical_point(3, 0.1)
    text = report(point, out=tmp_path / "a.tex")
    assert "\\toprule" in (tmp_path / "a.tex").read_text("utf-8") == text
    assert report(point, out=tmp_path / "a.csv").startswith("quantity,estimate")
    assert report(point, out=tmp_path / "a.html").startswith("<!DOCTYPE html>")
    with pytest.raises(OptionError, match="exists"):
        report(point, out=tmp_path / "a.tex")
    with pytest.raises(UnknownNameError, match="format 'pdf'"):
        report(point, "pdf")
    with pytest.raises(
        OptionError, match=r"'\.docx' of a\.docx .* \.txt, \.csv, \.tex, \.md, \.html"
    ):
        report(point, out=tmp_path / "a.docx")
    assert not (tmp_path / "a.docx").exists()
    assert report(point, "csv", out=tmp_path / "a.docx").startswith("quantity,estimate")
    table = report(point)
    assert report(point, out=tmp_path / "a.TXT") == report(point, out=tmp_path / "a") == table
    with pytest.raises(OptionError, match="HTML page has all tables"):
        report(point, "html", layout="records")


def test_sweeps_are_read_by_decades_and_kept_in_full() -> None:
    taus = [2.4e-14, *(10.0 ** (k / 4) for k in range(-54, -39))]
    columns = {"tolerance": taus}
    for name in ("index", "degeneracy", "positive"):
        for end in ("", "_lower", "_upper"):
            columns[f"{name}{end}"] = list(range(len(taus)))
    record = Record("spectrum", {}, {"tolerance_sweep": columns, "tolerance": 2.4e-14})
    table = report_table(record, "sweep")
    assert list(table.shown["tolerance τ"]) == ["2.40×10⁻¹⁴", "10⁻¹³", "10⁻¹²", "10⁻¹¹", "10⁻¹⁰"]
    assert list(table.numbers["tolerance"]) == taus


def test_a_layout_of_ones_own_takes_the_options_that_it_names() -> None:
    def losses(source: object, by: str = "origin") -> ReportTable:
        numbers = load_records(source).groupby(by)["loss"].mean().reset_index()
        return ReportTable("Losses", numbers, numbers.map(str))

    points = [critical_point(k, 0.25 * k) for k in (1, 3)]
    assert report(points, "csv", layout=losses) == "origin,loss\ntrajectory,0.5\n"
    assert report(points, "csv", layout=losses, by="method") == "method,loss\nnewton,0.5\n"
    with pytest.raises(OptionError, match="layout losses does not take `tolerance`"):
        report_table(points, losses, tolerance=1e-9)
