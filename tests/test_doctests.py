"""The examples in docstrings run and print what they show."""

import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
EXAMPLES = sorted(
    path.relative_to(base).with_suffix("").as_posix().replace("/", ".").removesuffix(".__init__")
    for base, package in ((ROOT, "hessscope"), (ROOT / "cli", "hessscope_cli"))
    for path in (base / package).rglob("*.py")
    if ">>> " in path.read_text()
)


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_in_docstrings(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    module = importlib.import_module(name)
    monkeypatch.chdir(tmp_path)
    found = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    assert found.attempted
    assert not found.failed
