"""HTML pages and the command ``hessscope report``."""

from __future__ import annotations

import base64
import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import matplotlib as mpl

mpl.use("Agg")

import numpy as np
import pytest

import hessscope as hs
from cli_runs import Run, in_folder, listing
from hessscope.records import Record, load_record, write_record
from hessscope.reports import html_page, load_records
from study_records import critical_point, trained, write_study

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, BROWSERS)), None)
HOSTILE = "<script>document.title='owned'</script>\"'><img src=x onerror=alert(1)>$\\frac{$.pt"


class Elements(HTMLParser):
    """Every element with its attributes, and the text outside of style."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.unbalanced: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.unbalanced.append(tag)

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.text += data


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_study(tmp_path_factory.mktemp("study"))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    yield from in_folder(tmp_path, monkeypatch)


@pytest.fixture(scope="module")
def pages(study: Path) -> dict[str, str]:
    hostile = critical_point(
        4, 0.2, checkpoint=HOSTILE, classification=HOSTILE, notes=[HOSTILE], origin=HOSTILE
    )
    return {
        "study": html_page(study),
        "point": html_page(study / "job_001.h5"),
        "records": html_page([trained("adam", 5, 9, 0.9), trained("adagrad", 7, 9, 0.9)]),
        "poor": html_page(Record("spectrum", {}, {})),
        "unknown": html_page(Record("something new", {"a": np.arange(3.0)}, {"b": {"c": 1}})),
        "hostile": html_page(hostile, title=HOSTILE),
        "hostile study": html_page([hostile, critical_point(5, 0.3)]),
    }


def test_pages_are_well_formed_and_need_nothing_else(pages: dict[str, str]) -> None:
    for name, page in pages.items():
        found = Elements(page)
        assert not found.unbalanced, name
        assert not found.open, name
        tags = {tag for tag, _ in found.elements}
        assert not tags & {"script", "link", "iframe", "object", "embed", "base", "form"}, name
        for tag, attributes in found.elements:
            assert not [key for key in attributes if key.startswith("on")], (name, tag)
            for key in ("src", "href", "srcset", "action"):
                assert (attributes.get(key) or "data:").startswith("data:"), (name, tag)
        style = page[page.index("<style>") : page.index("</style>")]
        assert "url(" not in style
        assert "@import" not in style
        assert "http://" not in page, name
        assert "https://" not in page, name


def test_hostile_names_are_text(pages: dict[str, str]) -> None:
    for name in ("hostile", "hostile study"):
        assert HOSTILE in Elements(pages[name]).text
        assert "<script" not in pages[name]
        assert "<img src=x" not in pages[name]


def test_figures_are_whole_images_with_words_for_them(pages: dict[str, str]) -> None:
    images = [a for tag, a in Elements(pages["study"]).elements if tag == "img"]
    assert len(images) == 3  # ε–α against loss and against error, and the distributions
    for image in images:
        content = base64.b64decode(str(image["src"]).split(",")[1])
        assert ElementTree.fromstring(content).tag.endswith("svg")
        assert len(str(image["alt"])) > 30


def test_a_study_page_counts_every_search(study: Path, pages: dict[str, str]) -> None:
    points = load_records(study)
    text = Elements(pages["study"]).text
    assert f"{(points['status'] == 'converged').sum()} of 24 searches converged" in text
    assert "Spearman ρ" in text
    for part in ("How the searches ended", "Eigenvalue distributions", "All records", "Provenance"):
        assert part in text
    for name in points["name"]:
        assert name in text


def test_a_study_page_counts_a_point_once_and_its_searches_all() -> None:
    """Six places, two of them found three times: the correlation is that of six points."""
    points = [critical_point(k, 0.1 * k + 0.1, seed=k) for k in range(6)]
    records = [*points, *points[:2], *points[:2], critical_point(9, 0.2, level="residual-only")]
    text = " ".join(Elements(html_page(records)).text.split())
    assert "11 of 11 searches converged; 10 ended with a certificate" in text
    assert "6 points) between α and the loss over distinct certified points" in text
    assert "6 distinct up to symmetries" in text


def test_a_page_counts_spectra_beside_searches_apart() -> None:
    points = [critical_point(k, 0.1 * k + 0.1, seed=k) for k in range(3)]
    page = html_page([trained("adam", 5, 9, 0.9), trained("sgd", 7, 9, 0.9), *points])
    text = " ".join(Elements(page).text.split())
    assert "3 of 3 searches converged; 3 ended with a certificate" in text
    assert "hessscope: records 5 records" in text
    assert "left out: 2 of 5 records, of no search" in text


def test_a_record_page_has_every_count_with_interval_and_tolerance(
    study: Path, pages: dict[str, str]
) -> None:
    record = load_record(study / "job_001.h5")
    text = " ".join(Elements(pages["point"]).text.split())
    index = record.attributes["index"]
    assert f"{index['estimate']:,}" in text
    assert "τ = 10⁻¹²" in text
    assert "noise floor δ = 5.00×10⁻¹³" in text
    assert "ended converged" in text
    assert "conditional on the estimated Lipschitz constant" in text
    assert "provenance" in text.lower()


def test_skipped_files_are_named_on_the_page(study: Path, tmp_path: Path) -> None:
    shutil.copytree(study, tmp_path / "s")
    (tmp_path / "s" / "broken.h5").write_bytes(b"\x89HDF")
    with pytest.warns(hs.HessscopeWarning, match="broken"):
        page = html_page(tmp_path / "s")
    assert "1 files are left out" in page
    assert "broken.h5" in page


def test_the_page_prints_on_a4(pages: dict[str, str]) -> None:
    assert "@page { size: A4" in pages["study"]
    assert "@media print" in pages["study"]


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
def test_a_browser_opens_the_page_without_a_word(pages: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text(pages["hostile study"], "utf-8")
    # What root may do in a container is nobody's sandbox.
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
    base = [str(CHROMIUM), "--headless", *sandbox, "--disable-gpu", "--enable-logging=stderr"]
    shown = subprocess.run(
        [*base, "--dump-dom", str(path)], capture_output=True, timeout=120, check=True
    )
    assert b"CONSOLE" not in shown.stderr
    dom = shown.stdout.decode("utf-8")
    assert "<title>owned" not in dom
    assert "All records" in dom
    subprocess.run(
        [*base, f"--print-to-pdf={tmp_path / 'page.pdf'}", "--no-pdf-header-footer", str(path)],
        capture_output=True,
        timeout=120,
        check=True,
    )
    assert (tmp_path / "page.pdf").read_bytes().startswith(b"%PDF")


# --- the command ---------------------------------------------------------------------------


def test_one_command_makes_the_plot_and_the_page(study: Path, folder: Path, run: Run) -> None:
    got = run("report", study, "--plot", "ea.png", "--out", "study.html", "--uncertified")
    assert got.code == 0, got.err
    assert got.out == ""
    assert got.err.splitlines() == ["report: study.html", "figure: ea.png"]
    assert (folder / "ea.png").read_bytes().startswith(b"\x89PNG")
    assert (folder / "study.html").read_text("utf-8").startswith("<!DOCTYPE html>")


@pytest.mark.parametrize("kind", ["table", "csv", "latex", "markdown", "html"])
def test_formats_go_to_standard_output(kind: str, study: Path, run: Run) -> None:
    got = run("report", study, "--format", kind)
    assert got.code == 0
    assert got.err == ""
    assert "gradient_flat" in got.out or "gradient\\_flat" in got.out


def test_json_has_rows_and_the_correlation(study: Path, run: Run) -> None:
    answer = run("report", study, "--layout", "records", "--json").json
    assert len(answer["rows"]) == 24
    assert answer["rows"][0]["index_lower"] <= answer["rows"][0]["index"]
    spearman = answer["rank_correlation"]["distinct"][0]
    assert spearman["lower"] < spearman["value"] < spearman["upper"]


def test_labels_make_a_table_of_the_paper(folder: Path, run: Run) -> None:
    for name in ("momentum", "adam"):
        (folder / name).mkdir()
        for trial in range(2):
            record = trained("", 225 + trial, 2600, 0.97, training={})
            write_record(record, folder / name / f"{trial}.h5")
    got = run("report", "momentum=momentum", "adam=adam", "--layout", "table1", "--format", "csv")
    assert "MNIST,Momentum,negative,ours,225.5," in got.out
    assert "MNIST,Momentum,negative,paper,2383.0,16.0" in got.out


def test_a_real_spectrum_from_command_to_page(folder: Path, run: Run) -> None:
    run("spectrum", "model.pt", "--data", "data.npz", "--activation", "tanh", "--out", "s.h5")
    assert run("report", "s.h5", "--out", "s.html").code == 0
    text = " ".join(Elements((folder / "s.html").read_text("utf-8")).text.split())
    for said in ("Tolerance sweep", "checkpoint_sha256", "data_fingerprint", "version_torch"):
        assert said in text
    out = run("report", "s.h5").out
    report = hs.spectrum("model.pt", "data.npz", activation="tanh")
    assert report.inertia is not None
    assert re.search(rf"index, λ < −τ +{report.inertia.negative.estimate} ", out)
    assert run("report", "s.h5", "--layout", "sweep").code == 0
    got = run("report", "s.h5", "--plot", "s.svg", "--quiet", "--format", "markdown")
    assert (got.code, got.err) == (0, "")


def test_errors_come_before_any_file_is_written(study: Path, folder: Path, run: Run) -> None:
    (folder / "there.html").write_text("mine")
    before = listing(folder)
    cases = {
        ("missing",): 1,
        (study, "--format", "pdf"): 2,
        (study, "--layout", "table4"): 2,
        (study, "--layout", "summary"): 2,
        (study, "--layout", "records", "--by", "method"): 2,
        (study, "--figure", "trace", "--plot", "a.png"): 2,
        (study, "--figure", "pie", "--plot", "a.png"): 2,
        (study, "--plot", "a.jpg"): 2,
        (study, "--semicircle"): 2,
        (study, "--json", "--format", "csv"): 2,
        (study, "--out", "there.html"): 2,
        (study, "--out", "a.docx"): 2,
        (study, "--out", "no/folder.html"): 1,
        (study, "--plot", "a.png", "--closed-form", "missing.csv"): 1,
        (study, "--layout", "records", "--out", "a.html"): 2,
        (): 2,
    }
    for arguments, code in cases.items():
        got = run("report", *arguments)
        assert got.code == code, (arguments, got.err)
        if arguments:
            assert got.error
        assert listing(folder) == before, arguments


def test_no_input_is_replaced(folder: Path, run: Run) -> None:
    write_record(Record("spectrum", {}, {}), folder / "r.h5")
    (folder / "known.csv").write_text("loss,alpha\n0,0\n")
    before = listing(folder)
    got = run("report", "one=r.h5", "--format", "csv", "--out", "r.h5", "--overwrite")
    assert (got.code, "r.h5 is one of the records" in got.error) == (2, True)
    known = ("--closed-form", "known.csv", "--plot", "x.png")
    got = run("report", "r.h5", *known, "--out", "known.csv", "--overwrite")
    assert (got.code, "known.csv is the known points" in got.error) == (2, True)
    assert listing(folder) == before


def test_damaged_files_are_said_on_standard_error(study: Path, folder: Path, run: Run) -> None:
    shutil.copytree(study, folder / "s")
    (folder / "s" / "broken.h5").write_bytes(b"")
    got = run("report", "s", "--format", "csv")
    assert got.code == 0
    assert got.err.startswith("warning: 1 of 25 files were skipped: s/broken.h5")


def test_from_training_to_the_papers_table(folder: Path, run: Run) -> None:
    """What trained the network is in its checkpoint, in the record, and in the row's name."""
    train = ("train", "--arch", "mlp:6-4-3:tanh", "--data", "data.npz", "--optimizer", "nesterov")
    got = run(*train, "--init", "he_normal", "--epochs", 2, "--out", "runs", "--quiet")
    assert got.code == 0, got.err
    checkpoints = sorted((folder / "runs").rglob("epoch_*.pt"))
    options = ("--zero-rule", "sankar2017", "--explain", "--out", "t.h5", "--quiet")
    assert run("spectrum", checkpoints[-1], *options).code == 0
    record = load_record(folder / "t.h5")
    assert record.attributes["training"]["optimizer"] == "nesterov"
    table = run("report", "t.h5", "--layout", "table7", "--format", "csv").out
    zero = record.attributes["degeneracy"]["estimate"]
    assert f",He,zero,ours,{float(zero)}," in table
    just_zero = record.attributes["sankar2017"]["just_zero"]
    assert f",He,zero,sankar2017 rule,{float(just_zero)}," in table
    assert (
        ",Momentum,negative,sankar2017 rule,"
        in run("report", "t.h5", "--layout", "table1", "--format", "csv").out
    )
    causes = run("report", "t.h5", "--layout", "causes", "--json").json["rows"]
    assert causes[-1]["cause"] == "unexplained"
    page = run("report", "t.h5", "--format", "html").out
    assert "Causes of zeros" in page
    # Logs of the training beside it are set aside, and named.
    got = run("report", "runs", "t.h5", "--layout", "records", "--json").json
    assert len(got["rows"]) == 1
    assert "kind 'training'" in got["skipped"][0]["reason"]


def test_series_have_a_table_a_figure_and_a_page(folder: Path, run: Run) -> None:
    (folder / "b.pt").write_bytes((folder / "model.pt").read_bytes())
    options = ("--data", "data.npz", "--activation", "tanh", "--out", "series.h5", "--quiet")
    got = run("spectrum", "model.pt", "b.pt", *options)
    assert got.code == 0, got.err
    rows = run("report", "series.h5", "--json").json["rows"]
    assert len(rows) == 2
    assert rows[0]["index"] == rows[1]["index"]
    assert run("report", "series.h5", "--plot", "s.png", "--out", "s.html").code == 0
    assert "Spectra by checkpoint" in (folder / "s.html").read_text("utf-8")


def test_a_search_as_it_is_recorded_can_be_reported(folder: Path, run: Run) -> None:
    """½(x² − y² + z²) + 1 has one critical point, of index 1."""
    import torch

    from hessscope.objective import FunctionObjective
    from hessscope.refinement import refine

    def saddle(theta: torch.Tensor) -> torch.Tensor:
        return 0.5 * (theta[0] ** 2 - theta[1] ** 2 + theta[2] ** 2) + 1.0

    start = torch.tensor([0.3, 0.2, 0.1], dtype=torch.float64)
    point = refine(FunctionObjective(saddle, start))
    assert point.status == "converged"
    write_record(point.to_record({"loss": point.loss, "parameters": 3}), folder / "p.h5")
    answer = run("report", "p.h5", "--json").json
    rows = {row["quantity"]: row for row in answer["rows"]}
    assert rows["index"]["estimate"] == 1
    assert rows["degeneracy"]["estimate"] == 0
    assert rows["loss"]["estimate"] == pytest.approx(1.0)
    table = load_records(folder / "p.h5").iloc[0]
    assert table["alpha"] == pytest.approx(1 / 3)
    assert table["tolerance"] > 0
    assert (
        run("report", "p.h5", "--out", "p.html", "--plot", "t.png", "--figure", "trace").code == 0
    )


def test_commands_that_draw_nothing_do_not_wait_for_matplotlib() -> None:
    slow = "matplotlib", "pandas", "sklearn", "jinja2"
    code = f"import sys, hessscope_cli.app; print([m for m in {slow} if m in sys.modules])"
    got = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert got.stdout.strip() == "[]"
