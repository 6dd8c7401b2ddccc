"""The script that computes with the lowest versions takes them from pyproject.toml."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import re
from types import ModuleType

import pytest
from packaging.requirements import Requirement

from conftest import REPOSITORY

SCRIPT = REPOSITORY / ".ci" / "lowest"
PYPROJECT = REPOSITORY / "pyproject.toml"

pytestmark = pytest.mark.skipif(not SCRIPT.exists(), reason="a source archive has no .ci")


def lowest() -> ModuleType:
    loader = importlib.machinery.SourceFileLoader("lowest", str(SCRIPT))
    spec = importlib.util.spec_from_loader("lowest", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


def stated() -> list[str]:
    """The dependencies, read without a parser of TOML, which Python 3.10 does not have."""
    (listed,) = re.findall(r"^dependencies = \[(.*?)^\]", PYPROJECT.read_text("utf-8"), re.M | re.S)
    return re.findall(r'"(.+?)"', listed)


def test_every_dependency_is_taken_at_its_lower_bound() -> None:
    requirements = [Requirement(line) for line in stated()]
    assert {"torch", "numpy", "pandas", "typer"} <= {one.name for one in requirements}
    found = [Requirement(line) for line in lowest().lowest({"dependencies": stated()})]
    assert [one.name for one in found] == [one.name for one in requirements]
    for exact, bound in zip(found, requirements, strict=True):
        (pin,), (least,) = exact.specifier, bound.specifier
        assert (pin.operator, least.operator) == ("==", ">=")
        assert pin.version == least.version


def test_torch_can_be_that_of_the_constraints() -> None:
    script = lowest()
    torch = script.pinned("torch")
    assert Requirement(torch).name == "torch"
    project = {"dependencies": ["numpy>=1.2", "torch>=2.6"]}
    assert script.lowest(project, torch) == ["numpy==1.2", torch]


@pytest.mark.parametrize("line", ["numpy", "numpy>=1.2,<3", "numpy~=1.2", "numpy[x]>=1; a"])
def test_a_dependency_without_a_plain_lower_bound_is_refused(line: str) -> None:
    with pytest.raises(SystemExit, match=r"name>=1\.2"):
        lowest().lowest({"dependencies": [line]})
