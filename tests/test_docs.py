"""The documentation is true: commands documented, pages current, examples run, links alive."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from conftest import REPOSITORY

DOCS = REPOSITORY / "docs"
PAGES = [REPOSITORY / "README.md", REPOSITORY / "CHANGELOG.md", *sorted(DOCS.glob("*.md"))]
_NUMBER = re.compile(r"[-+]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?")
_INTERVAL = re.compile(rf"(?<=\d) \[{_NUMBER.pattern}, {_NUMBER.pattern}\]")
_TIME = re.compile(r"[\d.,]+ (?:s|min|h)\b")  # which nothing makes the same
_POWER = re.compile(r"(×)?10([⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+)")
_PLAIN = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")
# Numbers of an output may be this far apart on two machines: a part of them, and a factor of what
# is so small that it is made by rounding.
_APART, _ROUNDING, _FACTOR = 0.05, 1e-6, 1e3


def _script(name: str) -> ModuleType:
    """Import a script of docs/, which is no package."""
    spec = importlib.util.spec_from_file_location(f"docs_{name}", DOCS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def commands() -> ModuleType:
    return _script("generate_commands")


@pytest.fixture(scope="module")
def examples() -> ModuleType:
    return _script("make_examples")


def test_every_command_and_option_is_documented(commands: ModuleType) -> None:
    assert commands.undocumented() == []


def test_commands_page_is_current(commands: ModuleType) -> None:
    page = (DOCS / "commands.md").read_text("utf-8")
    assert page == commands.page(), "docs/commands.md is stale: run 'make docs-generated'"


def test_commands_page_names_every_option(commands: ModuleType) -> None:
    """The page comes from Typer's declarations; --help is what a user sees. They must agree."""
    import typer

    from hessscope_cli.app import app

    page = (DOCS / "commands.md").read_text("utf-8")
    sections = dict(re.findall(r"^## hessscope (\S+)\n(.*?)(?=^## |\Z)", page, re.M | re.S))
    group = typer.main.get_command(app)
    found = getattr(group, "commands")  # noqa: B009 - Typer's own class, which mypy does not know
    assert set(sections) == set(found)
    for name, command in found.items():
        for parameter in command.params:
            options = [option for option in parameter.opts if option.startswith("--")]
            for option in options:
                if option != "--help":
                    assert re.search(rf"`([^`]*/)?{option}(/[^`]*)?`", sections[name]), (
                        name,
                        option,
                    )


def _plain(text: str) -> str:
    """Numbers as Python writes them, without rules and times."""
    text = _TIME.sub("", text.replace("─", "").replace("−", "-"))
    return _POWER.sub(lambda m: ("e" if m[1] else "1e") + m[2].translate(_PLAIN), text)


def _masked(text: str) -> list[str]:
    """The words without the numbers, whose last digits differ between machines and break lines at
    another word."""
    # Whether a count is sure or has an interval may depend on the last digit, too.
    return _NUMBER.sub("#", _INTERVAL.sub("", _plain(text))).split()


def _differ(shown: str, printed: str) -> list[tuple[float, float]]:
    """Numbers that are further apart than two machines explain."""
    texts = [_plain(shown), _plain(printed)]
    if len({len(_INTERVAL.findall(text)) for text in texts}) > 1:
        texts = [_INTERVAL.sub("", text) for text in texts]
    old, new = ([float(x.replace(",", "")) for x in _NUMBER.findall(text)] for text in texts)
    return [pair for pair in zip(old, new, strict=True) if not _agree(*pair)]


def _agree(a: float, b: float) -> bool:
    small, large = sorted((abs(a), abs(b)))
    if large < _ROUNDING:
        return small == 0.0 or large / small <= _FACTOR
    return abs(a - b) <= _APART * large


@pytest.mark.parametrize(
    "page",
    [
        "README.md",
        "docs/quickstart.md",
        "docs/records.md",
        "docs/degeneracy.md",
        "docs/reports.md",
    ],
)
def test_examples_run_and_print_what_the_page_shows(
    page: str, examples: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HESSSCOPE_DATA", raising=False)  # full data sets would take minutes
    monkeypatch.setenv("MPLBACKEND", "agg")
    text = (REPOSITORY / page).read_text("utf-8")
    blocks = [b for b in examples.blocks(text) if not isinstance(b, str)]
    new = [b for b in examples.run_page(text, tmp_path) if not isinstance(b, str)]
    assert len(new) == len(blocks)
    assert any(block.kind == "python" for block in blocks)
    for shown, printed in zip(blocks, new, strict=True):
        if shown.kind in ("command", "output"):
            assert shown.body.strip(), f"{page}: {shown.source} has no output yet: make examples"
            assert _masked(printed.body) == _masked(shown.body), shown.source
            assert _differ(shown.body, printed.body) == [], shown.source


@pytest.mark.parametrize("backend", ["exact", "lanczos", "pyhessian"])
def test_every_json_key_is_documented(backend: str, tmp_path: Path) -> None:
    import torch

    import hessscope as hs

    torch.save(torch.nn.Linear(64, 10).state_dict(), tmp_path / "model.pt")
    report = hs.spectrum(tmp_path / "model.pt", "digits", subset=50, backend=backend, steps=5)
    page = (DOCS / "records.md").read_text("utf-8")
    assert [key for key in report.as_dict() if not re.search(rf"`{key}[`.]", page)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.S)
    targets = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'src="([^"]+)"', text)
    for target in targets:
        path, _, anchor = target.partition("#")
        if re.match(r"https?:", target):
            continue
        linked = page if not path else page.parent / path
        assert linked.is_file(), f"{page.name} links to {target}, which is not there"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", linked.read_text("utf-8"), re.M)
            slugs = {re.sub(r"[^\w\- ]", "", h.lower()).strip().replace(" ", "-") for h in headings}
            assert anchor in slugs, f"{page.name} links to {target}, which has no such heading"


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_no_output_shows_the_machine_it_was_made_on(page: Path) -> None:
    text = page.read_text("utf-8")
    assert not re.search(r"/(tmp|home|root|work|Users)/", text)
    assert "Traceback" not in text


def test_readme_says_first_what_it_is_for_and_why_not_pyhessian() -> None:
    opening = (REPOSITORY / "README.md").read_text("utf-8")[:900]
    assert "What kind of point did training stop at?" in opening
    assert "Why not [PyHessian]" in opening
    assert "torch.eig" in opening


def test_constraints_pin_every_requirement() -> None:
    """What pyproject.toml asks for has an exact version, and torch's holds on any index."""
    lines = (REPOSITORY / "constraints.txt").read_text("utf-8").splitlines()
    pins = dict(
        re.match(r"([\w.-]+)==([^\s;]+)", line).groups()  # type: ignore[union-attr]
        for line in lines
        if line and not line.startswith("#")
    )
    assert "+" not in pins["torch"]
    project = (REPOSITORY / "pyproject.toml").read_text("utf-8")
    quoted = re.findall(r'^\s*"([a-zA-Z][\w.-]*)(?:\[\w+\])?[^"]*",?$', project, re.M)
    asked = set(re.findall(r'"([a-zA-Z][\w-]*)(?:\[python\])?>=[^"]*"', project)) | {
        name for name in quoted if name in ("pandas-stubs", "scipy-stubs", "types-seaborn")
    }
    assert {"torch", "mkdocs-material", "ruff", "pandas-stubs"} <= asked
    asked -= {"jupyterlab", "timm"}  # for people who work with them; not installed by make
    assert {name.lower() for name in asked} <= set(pins)
