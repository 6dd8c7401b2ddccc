"""The page on records names every key of real records, and no other."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py
import pytest

import hessscope as hs
from cli_runs import write_problem
from hessscope_cli.main import execute

PAGE = Path(__file__).parents[1] / "docs" / "records.md"
PROBLEM = ("--data", "data.npz", "--activation", "tanh", "--device", "cpu", "-q")
SPECTRUM = ("spectrum", "model.pt", *PROBLEM, "--seed", "1")
LANCZOS = (*SPECTRUM, "--backend", "lanczos", "--steps", "8", "--probes", "2")
CODE = """
import torch

def net():
    return torch.nn.Sequential(torch.nn.Linear(6, 4), torch.nn.Tanh(), torch.nn.Linear(4, 3))

def loss(outputs, targets):
    return torch.nn.functional.cross_entropy(outputs, targets, reduction="none")
"""
NAMED = ("--model", "net.py:net", "--loss", "net.py:loss", "--data", "data.npz", "-q")
COMMANDS = (
    (*SPECTRUM, "--explain", "--bulk", "--by-layer", "--eigenvectors", "2"),
    (*SPECTRUM, "--zero-rule", "sankar2017", "--params", "*.weight"),
    ("spectrum", "model.pt", *NAMED, "--backend", "exact"),
    (*LANCZOS, "--target-width", "0.5", "--budget", "100", "--tolerance", "1e-3"),
    (*SPECTRUM, "--products", "finite-difference"),
    (*LANCZOS, "--bulk", "--by-layer", "--eigenvectors", "2", "--explain"),
    (*LANCZOS, "--reorthogonalize", "none"),
    (*SPECTRUM, "--backend", "pyhessian"),
    ("refine", "model.pt", *PROBLEM, "--l2", "0.1", "--method", "newton", "--best-loss", "0"),
    ("refine", "model.pt", *PROBLEM, "--l2", "0.1", "--method", "sfn", "--backend", "lanczos"),
    ("refine", "model.pt", *NAMED, "--l2", "0.1", "--max-iterations", "1"),
    ("train", "--arch", "mlp:6-4-3:tanh", "--data", "data.npz", "--epochs", "2", "-q"),
    ("train", "--arch", "mlp:6-4-3:tanh", "--data", "data.npz", "--epochs", "1", "-q",
     "--optimizer", "sfn", "--trials", "2", "--out", "sfn"),
    ("train", "--start", "model.pt", *PROBLEM, "--epochs", "1", "--out", "more", "--subset", "30"),
    ("train", "--preset", "dauphin2014", "--data", "digits", "--resize", "8", "--subset", "60",
     "--arch", "mlp:64-3-10:tanh", "--epochs", "1", "--log-curvature", "--out", "digits", "-q"),
    ("spectrum", "run/epoch_2.pt", "-q", "--device", "cpu"),
    (*LANCZOS, "--steps", "60"),
    ("spectrum", "run/epoch_0.pt", "run/epoch_2.pt", "absent.pt", "-q", "--device", "cpu"),
    ("section", "model.pt", "run/epoch_0.pt", *PROBLEM, "--resolution", "3"),
    ("section", "model.pt", *PROBLEM, "--resolution", "3"),
    ("survey", "model.pt", *PROBLEM, "--l2", "0.1", "--method", "sfn", "--trajectory", "1",
     "--uniform", "1", "--workers", "1"),
)  # fmt: skip


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """By kind: the names of all attributes and arrays."""
    folder, here = tmp_path_factory.mktemp("records"), Path.cwd()
    os.chdir(folder)
    try:
        write_problem(folder)
        (folder / "net.py").write_text(CODE)
        for command in COMMANDS:
            assert execute(list(command)) in (0, 1, 3), command
        hs.refine_checkpoint(
            "model.pt", "data.npz", activation="tanh", l2=0.1, out="stopped.h5",
            observer=lambda state: state.iterations == 2,
        )  # fmt: skip
    finally:
        os.chdir(here)
    kinds: dict[str, set[str]] = {}
    for path in folder.rglob("*.h5"):
        record = hs.load_record(path)
        with h5py.File(path) as file:
            names = kinds.setdefault(record.kind, {"format", "schema_version", "kind"})
            assert set(file.attrs) >= {"format", "schema_version", "kind"}
        names.update(flat(record.attributes))
        names.update(name.replace("/", ".") for name in record.arrays)
    return kinds


def flat(facts: Mapping[str, Any], above: str = "") -> Iterator[str]:
    for name, value in facts.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{above}{name}.")
        else:
            yield above + name


_SPAN = re.compile(r"`([^`]+)`")


@pytest.fixture(scope="module")
def documented() -> dict[str, set[str]]:
    """The keys below each heading of the schema."""
    text = PAGE.read_text("utf-8").partition("\n## Schema\n")[2].partition("\n## ")[0]
    found = {}
    for part in text.split("\n### ")[1:]:
        title, _, body = part.partition("\n")
        rows = [line.split("|")[1:-1] for line in body.splitlines() if line.startswith("| `")]
        assert all(len(cells) == 4 for cells in rows), rows
        found[title] = {key for cells in rows for key in keys_in(cells[0])}
    for title in found:
        if title in AS_A_POINT:
            found[title] = found[AS_A_POINT[title]]
    return found


# A kind whose keys are some of those of another one.
RARE = {
    "error_message",  # of a search that failed
    "traceback",
    "state.fallback",  # of natural damping that got no further
    "bulk.outliers.agreed",  # where two rules agree
}
AS_A_POINT = {"`refinement state`": "`critical point`"}


def keys_in(cell: str) -> list[str]:
    """``a, b: .c, .d`` stands for a.c, a.d, b.c and b.d."""
    spans = _SPAN.findall(cell)
    ends = [span for span in spans if span.startswith(".")] or [""]
    return [name + end for name in spans if not name.startswith(".") for end in ends]


def test_every_key_of_a_record_is_documented(
    found: dict[str, set[str]], documented: dict[str, set[str]]
) -> None:
    kinds = {kind: title for title in documented for kind in _SPAN.findall(title)}
    assert found.keys() == kinds.keys()
    missing = []
    for kind, names in found.items():
        for name in names:
            inner, known = name, documented["Every kind"] | documented[kinds[kind]]
            # What stands in a group has the names of the record that it would be.
            if match := re.match(r"(layers\.[^.]+|results\.\d+|spectrum)\.", name):
                inner, known = name[match.end() :], known | documented[kinds["spectrum"]]
            above = [inner[: dot.end()] + "*" for dot in re.finditer(r"\.", inner)]
            if not known & {inner, *above}:
                missing.append(f"{kind}: {name}")
    assert not missing, "\n".join(sorted(missing))


def test_every_documented_key_is_in_a_record(
    found: dict[str, set[str]], documented: dict[str, set[str]]
) -> None:
    absent = []
    for title, keys in documented.items():
        if title in AS_A_POINT:
            continue
        names = {name for kind in _SPAN.findall(title) or found for name in found[kind]}
        names |= {re.sub(r"^layers\.[^.]+\.", "", name) for name in names}
        for key in keys:
            group = key[:-1] if key.endswith("*") else None
            if key not in names | RARE and not (group and any(n.startswith(group) for n in names)):
                absent.append(f"{title}: {key}")
    assert not absent, "\n".join(sorted(absent))
