"""The picture of the rooms is the one that the import check enforces, and nothing is in circles."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def _layers() -> list[str]:
    text = (ROOT / "pyproject.toml").read_text()
    block = re.search(r'name = "Data flows one way".*?layers = \[(.*?)\]', text, re.DOTALL)
    assert block is not None
    return [line.replace("hessscope.", "") for line in re.findall(r'"(.*?)"', block[1])]


def test_the_picture_of_the_rooms_is_the_import_check() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    picture = re.search(r"```text\n(.*?)```", page, re.DOTALL)
    assert picture is not None
    lines = picture[1].splitlines()
    shown = [re.split(r" {2,}", line)[0] for line in lines if not line.startswith(" ")]
    assert shown == _layers()


def test_every_room_is_in_the_import_check() -> None:
    rooms = {path.stem for path in (ROOT / "hessscope").iterdir() if path.suffix in ("", ".py")}
    known = {name for line in _layers() for name in line.split(" | ")} | {"hessscope_cli"}
    assert rooms - {"__init__", "__main__", "__pycache__", "py"} <= known


def test_help_and_version_import_no_torch() -> None:
    script = """
import sys
from hessscope_cli.main import execute
for command in ([], ["spectrum"], ["refine"], ["train"], ["report"]):
    execute([*command, "--help"])
execute(["--version"])
heavy = {"torch", "scipy", "numpy", "pandas", "matplotlib"} & set(sys.modules)
sys.exit(f"imported: {heavy}" if heavy else 0)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
