"""Another package adds one of each kind by entry points, as ``docs/extending.md`` shows."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import hessscope as hs

PAGE = Path(__file__).parent.parent / "docs" / "extending.md"
FILES = dict(re.findall(r"<!-- file: (\S+) -->\n```\w+\n(.*?)```\n", PAGE.read_text(), re.DOTALL))
COMMANDS = re.search(r"<!-- commands -->\n```sh\n(.*?)```\n", PAGE.read_text(), re.DOTALL)
GROUPS = {
    "backends": "numpy",
    "operators": "output_metric",
    "zero_rules": "share",
    "methods": "pinv_newton",
    "formats": "npz",
    "datasets": "moons",
    "layouts": "alphas",
    "partitions": "kinds",
}
# Commands run in one process: each would import torch again.
RUN = """
import shlex, subprocess, sys
from hessscope_cli.main import execute
for line in sys.stdin.read().splitlines():
    program, *arguments = shlex.split(line)
    print(f"$ {line}", flush=True)
    if program == "python":
        exec(arguments[1], {})
    elif code := execute(arguments):
        sys.exit(f"{line}: exit code {code}")
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder on the path in which the package is installed."""
    folder = tmp_path_factory.mktemp("site")
    for name, text in FILES.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    (folder / "hessscope_toys" / "__init__.py").write_text("")
    info = folder / "hessscope_toys-0.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: hessscope-toys\nVersion: 0.1\n")
    points = re.sub(r"\[project\]\n.*?\n\n", "", FILES["pyproject.toml"], flags=re.DOTALL)
    points = re.sub(r'\[project\.entry-points\."(.*?)"\]', r"[\1]", points).replace('"', "")
    (info / "entry_points.txt").write_text(points)
    return folder


@pytest.fixture(scope="module")
def ran(site: Path) -> tuple[Path, str]:
    """The folder in which the page's commands have run, and what they printed."""
    folder = site.parent / "runs"
    folder.mkdir()
    path = os.pathsep.join((str(site), *sys.path))
    assert COMMANDS is not None
    done = subprocess.run(
        [sys.executable, "-c", RUN], input=COMMANDS[1], cwd=folder, text=True,
        env={**os.environ, "PYTHONPATH": path}, capture_output=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


def test_the_page_has_one_file_and_one_line_for_each_kind() -> None:
    lines = re.findall(r'\."hessscope\.(\w+)"\]\n(\w+) = ', FILES["pyproject.toml"])
    assert dict(lines) == GROUPS
    assert len(FILES) == 1 + len(GROUPS)


def _loss(folder: Path) -> tuple[hs.EmpiricalRisk, torch.Tensor]:
    turn = np.linspace(0.0, np.pi, 100)
    upper = np.stack((np.cos(turn), np.sin(turn)), axis=1)
    points = torch.tensor(np.concatenate((upper, [1.0, 0.5] - upper)), dtype=torch.float32)
    checkpoint = hs.load_checkpoint(folder / "run" / "epoch_30.pt")
    record = hs.load_record(folder / "numpy.h5")
    assert record.attributes["examples"] == 160
    return checkpoint.model, points


def test_the_backend_counts_as_the_exact_one_does(ran: tuple[Path, str]) -> None:
    folder, _ = ran
    own, other = hs.load_record(folder / "npz.h5"), hs.load_record(folder / "numpy.h5")
    assert other.attributes["backend"] == "numpy"
    assert own.attributes["backend"] == "exact"
    difference = np.abs(own.arrays["eigenvalues"] - other.arrays["eigenvalues"]).max()
    assert difference <= own.attributes["noise_floor"] + other.attributes["noise_floor"]


def test_the_operator_is_the_mean_of_squared_derivatives(ran: tuple[Path, str]) -> None:
    folder, _ = ran
    record = hs.load_record(folder / "metric.h5")
    model, points = _loss(folder)
    model = model.double()
    # Which examples are in the training part is the record's: its trace is compared over all.
    names = dict(model.named_parameters())

    def outputs(parameters: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(model, parameters, (x[None],))[0]

    rows = torch.func.vmap(torch.func.jacrev(outputs), (None, 0))(names, points.double())
    jacobian = torch.cat([part.reshape(len(points), 2, -1) for part in rows.values()], dim=2)
    squares = (jacobian**2).sum(dim=(1, 2))
    trace = float(record.arrays["eigenvalues"].sum())
    assert record.attributes["operator"] == "output_metric"
    assert squares.sort()[0][:160].mean() <= trace <= squares.sort()[0][40:].mean()
    assert record.arrays["eigenvalues"].min() > -record.attributes["noise_floor"]


def test_the_zero_rule_decides_the_counts(ran: tuple[Path, str]) -> None:
    folder, _ = ran
    record = hs.load_record(folder / "share.h5")
    values = record.arrays["eigenvalues"]
    tau = 0.5 * np.abs(values).mean()
    assert record.attributes["zero_rule"] == "share"
    assert record.attributes["tolerance"] == pytest.approx(tau, rel=1e-12)
    assert record.attributes["degeneracy"]["estimate"] == int((np.abs(values) <= tau).sum())


def test_the_method_finds_a_critical_point(ran: tuple[Path, str]) -> None:
    folder, _ = ran
    record = hs.load_record(folder / "refine.h5")
    assert record.attributes["method"] == "pinv_newton"
    assert record.attributes["status"] == "converged"
    assert record.attributes["gradient_norm"] < 1e-10


def test_the_format_gives_the_same_network(ran: tuple[Path, str]) -> None:
    folder, _ = ran
    record = hs.load_record(folder / "npz.h5")
    assert record.attributes["checkpoint_format"] == "NumPy archive"
    assert record.attributes["loss"] == hs.load_record(folder / "numpy.h5").attributes["loss"]


def test_the_layout_has_a_row_for_each_record(ran: tuple[Path, str]) -> None:
    folder, printed = ran
    table = printed.partition("--layout alphas\n")[2]
    for name in ("numpy", "share", "npz"):
        alpha = hs.load_record(folder / f"{name}.h5").attributes["alpha"]
        assert f"{alpha:.3f}" in table


def test_what_cannot_be_imported_names_its_entry_point(site: Path, tmp_path: Path) -> None:
    info = tmp_path / "broken-0.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 0.1\n")
    (info / "entry_points.txt").write_text("[hessscope.backends]\nbroken = no_such:Thing\n")
    path = os.pathsep.join((str(tmp_path), *sys.path))
    script = "import hessscope as hs; hs.spectrum('m.pt', data='digits', backend='broken')"
    done = subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": path},
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert "no_such:Thing" in done.stderr
    assert "OptionError" in done.stderr
