"""GPT-2 within a limit of memory: does a run stay below it, survive a kill, and tell the truth?

``PYTHONPATH=tests python -m studies.bounded_memory FOLDER`` runs 20 Lanczos steps of two probes on
the Hessian of GPT-2 (124 million parameters, random weights, 8 sequences of 64 tokens, float32)
under ``--memory 10GB``. The process is killed once on the way and started again; its memory
is sampled all the time. The top Ritz pair of the first run is then multiplied by plain autograd.
Called again with the same folder it resumes. What came out is in FOLDER/outcome.json.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import psutil
import torch

import hessscope as hs
from hessscope.linalg.stored_rows import StoredRows
from hessscope.records import Store, load_record, write_record

_KEPT = "first-run.rows"


class KeepingStore(Store):
    """A store that leaves the basis of the first run, for the check."""

    @contextlib.contextmanager
    def large_file(self, name: str, elsewhere: Path) -> Iterator[BinaryIO]:
        """The same, and a second name for the first file."""
        with super().large_file(name, elsewhere) as file:
            yield file
            assert self.folder is not None
            kept = self.folder.parent / _KEPT
            if not kept.exists():
                os.link(self.folder / f"{name}.rows", kept)


def network(layers: int, width: int) -> tuple[torch.nn.Module, torch.Tensor]:
    """GPT-2 with random weights, and its tokens."""
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    config = GPT2Config(n_layer=layers, n_embd=width, attn_implementation="eager", use_cache=False)
    model = GPT2LMHeadModel(config).eval()
    return model, torch.randint(0, config.vocab_size, (8, 64))


def run(folder: Path, wanted: argparse.Namespace) -> None:
    """The child: solve, leaving states after every step, and write the result."""
    began = time.monotonic()

    def say(stage: str) -> None:
        taken = time.monotonic() - began
        with (folder / "log.txt").open("a") as log:
            print(f"{taken:8.1f} s  {stage}", file=log)

    say("begins")
    torch.set_num_threads(wanted.threads)
    model, tokens = network(wanted.layers, wanted.width)
    memory = int(wanted.memory * 1e9)
    risk = hs.EmpiricalRisk(model, (tokens, tokens), "next_token", dtype="float32", device="cpu")
    say("objective")
    operator = hs.HessianOperator(risk, memory=memory)
    operator.check()
    say("checks")
    backend = hs.LanczosBackend(
        steps=wanted.steps, probes=wanted.probes, memory=memory, scratch=str(folder),
        deflation=wanted.deflation,
    )  # fmt: skip
    backend = backend.planned(operator, {"basis": "disk", "together": 1} if wanted.disk else {})
    say(backend.cost(operator))

    def progress(stage: str, done: int, total: int) -> None:
        say(f"{stage} {done}/{total}, {operator.hvps} products")

    result = backend.solve(operator, progress, KeepingStore(folder / "state", 0.0))
    say(f"plan: {operator.plan}")
    record = result.to_record({"products_here": operator.hvps})
    write_record(record, folder / "result.h5", overwrite=True)


def watched(folder: Path, kill_at: int | None) -> tuple[float, bool]:
    """Run the child; its peak resident memory in GB, and whether it was killed on the way.

    Args:
        folder: of the work.
        kill_at: SIGKILL when the log has so many lines of steps; None never.
    """
    child = subprocess.Popen([sys.executable, "-m", __spec__.name, *sys.argv[1:], "--child"])
    process, peak = psutil.Process(child.pid), 0
    log = folder / "log.txt"
    while child.poll() is None:
        with contextlib.suppress(psutil.Error):
            peak = max(peak, process.memory_info().rss)
        if kill_at is not None and log.is_file():
            steps = sum("Lanczos" in line for line in log.read_text().splitlines())
            if steps > kill_at:
                child.kill()
                child.wait()
                return peak / 1e9, True
        time.sleep(0.02)
    if child.returncode:
        raise SystemExit(f"the run ended with {child.returncode}")
    return peak / 1e9, False


def plain_residual(folder: Path, wanted: argparse.Namespace) -> dict[str, float]:
    """‖Hv − λv‖ of the first run's top Ritz pair, by torch's autograd alone."""
    state = min((folder / "state").glob("lanczos-*.npz"))
    with np.load(state) as found:
        alphas, betas = found["run_0_alphas"], found["run_0_betas"]
    t = np.diag(alphas) + np.diag(betas[:-1], 1) + np.diag(betas[:-1], -1)
    values, vectors = np.linalg.eigh(t)
    model, tokens = network(wanted.layers, wanted.width)
    parameters = list(model.parameters())
    n = sum(p.numel() for p in parameters)
    with (folder / _KEPT).open("r+b", buffering=0) as file:
        v = StoredRows(len(alphas) + 1, n, file).combine(vectors[:, -1:], 0)[0]
    cut = v.split([p.numel() for p in parameters])
    parts = [x.view_as(p) for x, p in zip(cut, parameters, strict=True)]
    product = torch.zeros(n)
    for sequence in tokens:
        logits = model(sequence[None]).logits[0, :-1]
        loss = torch.nn.functional.cross_entropy(logits, sequence[1:]) / len(tokens)
        gradient = torch.autograd.grad(loss, parameters, create_graph=True)
        along = sum((g * x).sum() for g, x in zip(gradient, parts, strict=True))
        product += torch.cat([x.reshape(-1) for x in torch.autograd.grad(along, parameters)])
    length = float(v.double().norm())
    found = float((product.double() - values[-1] * v.double()).norm()) / length
    stated = abs(betas[-1] * vectors[-1, -1])
    return {"lambda": values[-1], "length": length, "residual": found, "ritz_residual": stated}


def main() -> None:
    """Run, kill, resume, check."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--width", type=int, default=768)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--probes", type=int, default=2)
    parser.add_argument("--deflation", type=int, help="steps of the first run, 0 for none")
    parser.add_argument("--memory", type=float, default=10.0, help="in GB")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--disk", action="store_true", help="the basis on disk, whatever fits")
    parser.add_argument("--kill-at", type=int, default=25, help="after so many steps")
    parser.add_argument("--child", action="store_true")
    wanted = parser.parse_args()
    folder = wanted.folder
    folder.mkdir(parents=True, exist_ok=True)
    warnings.simplefilter("ignore", UserWarning)
    if wanted.child:
        run(folder, wanted)
        return
    path = folder / "outcome.json"
    outcome: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {"peaks_GB": []}

    def note(**more: Any) -> None:
        outcome.update(more)
        path.write_text(json.dumps(outcome, indent=1) + "\n")

    while not (folder / "result.h5").is_file():
        began = time.monotonic()
        kill_at = None if outcome.get("killed") else wanted.kill_at
        peak, killed = watched(folder, kill_at)
        outcome["peaks_GB"].append(round(peak, 2))
        note(killed=outcome.get("killed", False) or killed)
        note(seconds=[*outcome.get("seconds", []), round(time.monotonic() - began)])
    record = load_record(folder / "result.h5")
    density = hs.SpectralDensity.from_record(record)
    check = plain_residual(folder, wanted)
    note(
        setting={k: v for k, v in vars(wanted).items() if k not in ("folder", "child")},
        parameters=density.size,
        products=density.hvps,
        products_of_last_start=record.attributes["products_here"],
        basis=density.options["basis"],
        orthogonality=density.options["orthogonality"],
        delta=density.noise_floor.total,
        lambda_max=density.lambda_max,
        lambda_max_residual=density.lambda_max_residual,
        plain_autograd=check,
        within_stated=check["residual"] <= check["ritz_residual"] + density.noise_floor.total,
        within_memory=max(outcome["peaks_GB"]) <= wanted.memory,
    )
    print(path.read_text())


if __name__ == "__main__":
    main()
