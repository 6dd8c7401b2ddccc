"""What becomes of commands that are killed: every way of computing, four signals, random moments.

    PYTHONPATH=tests python -m studies.kills ROWS.csv [--kills 60]

Each command runs once undisturbed. Then it is begun again and sent KILL, TERM, HUP or INT at a
random moment, up to three times in a row, and rerun as it is until it ends. Its records and
checkpoints must hold the same numbers as those of the undisturbed run, bit for bit (times apart),
and nothing unfinished may be left. Commands are slowed down, so that every stage meets a signal.
Rows are appended to ROWS.csv, one for each signal: the same command resumes. It prints a table.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

import hessscope as hs
from cli_runs import write_problem
from hessscope_cli import app, main  # imported once: every command is forked from here

DONE = (0, 3)
SIGNALS = ("KILL", "TERM", "HUP", "INT")
PROBLEM = ("--data", "data.npz", "--activation", "tanh", "--device", "cpu")
SAVED = ("--save-every", "1e-6", "-q")
LANCZOS = ("spectrum", "model.pt", *PROBLEM, *SAVED, "--backend", "lanczos", "--steps", "8")
COMMANDS: dict[str, tuple[str, ...]] = {
    "exact": ("spectrum", "model.pt", *PROBLEM, *SAVED, "--backend", "exact"),
    "lanczos": (*LANCZOS, "--probes", "3"),
    "target width": (*LANCZOS, "--tolerance", "1e-3", "--target-width", "0.05", "--budget", "150"),
    "explain": (*LANCZOS[:-4], "--backend", "exact", "--explain"),
    "refine": ("refine", "model.pt", *PROBLEM, "--l2", "0.003", "--method", "newton", "-q"),
    "refine by products": (
        "refine", "model.pt", *PROBLEM, "--l2", "0.1", "--method", "newton_mr", "-q",
    ),
    "train": (
        "train", "--arch", "mlp:6-4-3:tanh", "--data", "data.npz", "--epochs", "12",
        "--batch-size", "20", "--save-every", "3", "--trials", "2", "-q",
    ),
    "series": ("spectrum", "model.pt", "other.pt", *PROBLEM, *SAVED, "--backend", "lanczos",
               "--steps", "6", "--probes", "2", "--out", "all.series.h5"),
    "section": ("section", "model.pt", *PROBLEM, "--resolution", "7", "-q"),
    "survey": ("survey", "model.pt", *PROBLEM, "--l2", "0.1", "--method", "sfn", "--uniform", "3",
               "--trajectory", "2", "--workers", "1", "-q"),
}  # fmt: skip
TIMES = {"seconds", "provenance", "notes", "warnings"} | {
    *("record", "checkpoint", "out", "save", "study"),  # names, which may be numbered
}
DIGESTS = {"checkpoint_sha256", "backend_choice", "results_json"}


def start(folder: Path, command: str) -> int:
    """Begin a command in a process of its own; give its number."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        os.setsid()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for number in (signal.SIGTERM, signal.SIGHUP):  # ignored under nohup
            signal.signal(number, signal.SIG_DFL)
        os.chdir(folder)
        log = os.open("log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        slow_down()
        main.run(list(COMMANDS[command]))
    except SystemExit as error:
        code = int(error.code or 0)
    finally:
        os._exit(code)


def slow_down() -> None:
    """Let steps, and the moments between files, last long enough to meet a signal."""
    operator, fsync = hs.HessianOperator, os.fsync
    apply, value = operator.apply, hs.EmpiricalRisk.value

    def slow_apply(self: Any, vectors: torch.Tensor) -> torch.Tensor:
        time.sleep(0.01)
        return apply(self, vectors)

    def slow_value(self: Any, *given: Any, **more: Any) -> Any:
        time.sleep(0.01)
        return value(self, *given, **more)

    def slow_fsync(number: int) -> None:
        time.sleep(0.02)
        fsync(number)

    operator.apply, hs.EmpiricalRisk.value = slow_apply, slow_value  # type: ignore[method-assign]
    os.fsync = slow_fsync  # type: ignore[assignment]


def ended(child: int) -> int:
    """Wait for a command; its exit code, negative where a signal ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def prepared(folder: Path) -> Path:
    """A folder with the small problem, and a second checkpoint."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    here = Path.cwd()
    os.chdir(folder)
    write_problem(folder)
    os.chdir(here)
    state = torch.load(folder / "model.pt", weights_only=True)
    torch.save({name: 1.5 * value for name, value in state.items()}, folder / "other.pt")
    return folder


def results(folder: Path) -> dict[str, dict[str, Any]]:
    """The numbers of all records and checkpoints by their names; of numbered ones the first."""
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(folder.rglob("*.h5")):
        if "partial" not in str(path):
            found[str(path.relative_to(folder))] = numbers(hs.load_record(path))
    for path in sorted(folder.rglob("*.pt")):
        content = torch.load(path, weights_only=True)
        weights = content.get("state_dict", content)
        found[str(path.relative_to(folder))] = {k: v.numpy() for k, v in weights.items()}
    return found


def numbers(record: hs.Record) -> dict[str, Any]:
    arrays = {k: v for k, v in record.arrays.items() if k.rpartition("/")[2] != "seconds"}
    return {**arrays, **dict(flat(record.attributes))}


def flat(facts: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in facts.items():
        if isinstance(value, Mapping):
            if name not in TIMES:
                yield from flat(value, f"{above}{name}.")
        elif name not in TIMES | DIGESTS:
            yield above + name, value


def difference(found: dict[str, dict[str, Any]], whole: dict[str, dict[str, Any]]) -> str:
    """The first thing that differs; what an interrupted training keeps beside is no difference."""
    if missing := set(whole) - set(found):
        return f"{missing} are missing"
    for name, have in found.items():
        expected = whole.get(re.sub(r"-\d+\.", ".", name))
        if not expected:
            if not name.startswith("run/"):
                return f"{name} is too much"
            continue
        for key in {*have, *expected}:
            if key not in have or key not in expected:
                return f"{name}: {key} is in one only"
            if not same(have[key], expected[key]):
                return f"{name}: {key} is {have[key]!r}, not {expected[key]!r}"
    return ""


def same(one: Any, other: Any) -> bool:
    """Bit for bit; NaN is the same as NaN."""
    if isinstance(one, np.ndarray):
        return np.array_equal(one, other, equal_nan=one.dtype.kind == "f")
    return repr(one) == repr(other)


def kill(folder: Path, command: str, seed: int, seconds: float) -> list[dict[str, Any]]:
    """Begin, kill up to three times, end, compare; a row for each signal that was sent."""
    rng = np.random.default_rng([list(COMMANDS).index(command), seed])
    work, rows = prepared(folder / "work"), []
    for _ in range(int(rng.integers(1, 4))):
        name = str(rng.choice(SIGNALS))
        child = start(work, command)
        time.sleep(float(rng.uniform(0.02, 0.9 * seconds)))
        os.kill(child, getattr(signal, f"SIG{name}"))
        code = ended(child)
        if code in DONE:  # the signal came too late
            break
        rows.append({"command": command, "seed": seed, "signal": name, "code": code})
    codes = []
    for _ in range(3):
        codes.append(ended(start(work, command)))
        if codes[-1] in DONE:
            break
    said = difference(results(work), results(folder / "whole"))
    left = [str(p.name) for p in work.rglob("*") if p.suffix in (".partial", ".damaged")]
    if left:
        said = said or f"left behind: {left}"
    return [{**row, "rerun": codes[-1], "difference": said} for row in rows]


def study(path: Path, kills: int, commands: Collection[str] = COMMANDS) -> pd.DataFrame:
    """Run what is missing of some of the commands."""
    done = pd.read_csv(path, keep_default_na=False) if path.is_file() else pd.DataFrame()
    for command in commands:
        mine = done[done.command == command] if len(done) else done
        have, seed = len(mine), int(mine.seed.max()) if len(mine) else 0
        wanted = -(-kills // len(commands))
        if have >= wanted:
            continue
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            began = time.monotonic()
            code = ended(start(prepared(folder / "whole"), command))
            seconds = time.monotonic() - began
            assert code in DONE, (folder / "whole" / "log.txt").read_text()
            while have < wanted:
                seed += 1
                if rows := kill(folder, command, seed, seconds):
                    have += len(rows)
                    table = pd.DataFrame(rows)
                    table.to_csv(path, mode="a", header=not path.is_file(), index=False)
                    print(table.to_string(index=False, header=False), file=sys.stderr)
    return pd.read_csv(path, keep_default_na=False)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", type=Path)
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--only", nargs="+", default=list(COMMANDS), choices=COMMANDS)
    given = parser.parse_args()
    assert app.app is not None
    table = study(given.rows.resolve(), given.kills, given.only)
    table["identical"] = table.difference == ""
    print(table.groupby(["command", "signal"]).identical.agg(["sum", "count"]).to_string())
    print(json.dumps({"kills": len(table), "identical": int(table.identical.sum())}))
