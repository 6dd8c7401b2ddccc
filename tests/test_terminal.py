"""What reaches the terminal, and what happens where there is none."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from cli_runs import Run
from hessscope_cli import terminal

EVIL = "\x1b]0;owned\x07\x1b[31m\x9b2J\u202e.txt"


def harmless(text: str) -> bool:
    return not any(c != "\n" and (ord(c) < 32 or 127 <= ord(c) < 160) for c in text) and not (
        set(text) & set("\u202e\u2066")
    )


def test_names_from_files_send_no_commands(run: Run, work: Path) -> None:
    """Keys of tensors, metadata, names of files: in results, notes, warnings, errors and tables."""
    state = torch.load("model.pt")
    torch.save({"state_dict": state, f"note{EVIL}": f"x{EVIL}", "epoch": 3}, f"m{EVIL}.pt")
    torch.save({f"{name}{EVIL}": tensor for name, tensor in state.items()}, "keys.pt")
    seen = ""
    for arguments in (
        ("inspect", f"m{EVIL}.pt"),
        ("inspect", "keys.pt"),
        ("spectrum", f"m{EVIL}.pt", "--data", "data.npz", "--activation", "tanh", "--out", "a.h5"),
        ("spectrum", "model.pt", f"m{EVIL}.pt", "none.pt", "--data", "data.npz"),
        ("spectrum", f"{EVIL}.pt", "--data", "data.npz"),
        ("report", "a.h5"),
    ):
        outcome = run(*arguments)
        assert harmless(outcome.out + outcome.err), arguments
        seen += outcome.out + outcome.err
    assert seen.count("\ufffd]0;owned\ufffd") > 4  # they are shown, and not obeyed


def test_printable_keeps_all_else() -> None:
    text = "λ ≤ τ, Ünïcode 数 ‖∇L‖\nsecond line"
    assert terminal.printable(text) == text


@pytest.mark.parametrize(
    ("redirection", "code"), [(">&-", 0), ("> /dev/full", 1), ("<&- >&- 2>&-", 0)]
)
def test_output_that_goes_nowhere(work: Path, redirection: str, code: int) -> None:
    start = "from hessscope_cli.main import run; run()"
    command = f'"{sys.executable}" -c "{start}" --version {redirection}'
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
    assert done.returncode == code
    assert ("cannot be written" in done.stderr) == (code == 1)


@pytest.mark.parametrize("quiet", [False, True])
def test_a_terminal_hears_of_the_work_before_torch_is_loaded(work: Path, quiet: bool) -> None:
    """In a process of its own, since here torch is loaded already."""
    extra = ", '--quiet'" if quiet else ""
    script = (
        "import io, sys\n"
        "from hessscope_cli import terminal\n"
        "class Tty(io.StringIO):\n"
        "    def isatty(self):\n        return True\n"
        "    def write(self, text):\n"
        "        if 'loading' in text:\n            print('torch' in sys.modules)\n"
        "        return len(text)\n"
        "terminal.STDERR = terminal._Console(file=Tty(), force_terminal=True)\n"
        "from hessscope_cli.main import execute\n"
        f"execute(['inspect', 'model.pt'{extra}])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=work, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("False\n") is not quiet
