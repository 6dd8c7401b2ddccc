"""Is every computed eigenvalue within δ of the true one, and how much too large is δ?

    PYTHONPATH=tests python -m studies.noise_floor ROWS.csv      # resumes where ROWS.csv ends

540 random small networks, each in float64 and in float32, against the references of
``taylor_networks``. Writes the table of the docs' page; with ``--draws`` it only prints it.
"""

from __future__ import annotations

import warnings
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd

import hessscope as hs
from hessscope.errors import HessscopeWarning, NonFiniteError
from studies.pages import study
from taylor_networks import (
    ACTIVATIONS,
    KINDS,
    Problem,
    random_network,
    true_eigenvalues,
    true_hessian,
)

DRAWS = 12
DTYPES = ("float64", "float32")


def solve(problem: Problem, dtype: str, batch_size: int) -> hs.Spectrum:
    """The exact spectrum, planned as for any network."""
    risk = hs.EmpiricalRisk(
        problem.model,
        (problem.x, problem.y),
        problem.loss,
        dtype=dtype,
        device="cpu",
        batch_size=batch_size,
    )
    return hs.ExactBackend().solve(hs.HessianOperator(risk))


def compare(kind: str, activation: str, draw: int, dtype: str) -> dict[str, object]:
    """One network: the largest error over δ, and counts whose intervals do not hold the truth."""
    kinds = {one.__name__: one for one in ACTIVATIONS}
    problem = random_network(kind, kinds[activation], draw, dtype)
    truth = true_eigenvalues(true_hessian(problem.model, problem.x, problem.y, problem.loss))
    row: dict[str, object] = {"kind": kind, "activation": activation, "draw": draw, "dtype": dtype}
    try:
        spectrum = solve(problem, dtype, (2, 100)[draw % 2])
    except NonFiniteError:
        return {**row, "ratio": None, "false_counts": 0}
    error = float(np.abs(spectrum.eigenvalues - truth).max())
    inertia = spectrum.inertia()
    tau = inertia.tolerance
    counts = (
        (inertia.negative, np.sum(truth < -tau)),
        (inertia.zero, np.sum(np.abs(truth) <= tau)),
        (inertia.positive, np.sum(truth > tau)),
    )
    false = sum(not found.lower <= true <= found.upper for found, true in counts)
    return {**row, "ratio": error / spectrum.noise_floor.total, "false_counts": false}


def run(draws: int, kept: Path | None = None) -> pd.DataFrame:
    """All networks; rows that ``kept`` has are not computed again."""
    warnings.simplefilter("ignore", HessscopeWarning)
    keys = ["kind", "activation", "draw", "dtype"]
    rows = pd.read_csv(kept).to_dict("records") if kept and kept.exists() else []
    done = {tuple(row[key] for key in keys) for row in rows}
    names = [one.__name__ for one in ACTIVATIONS]
    for place in product(KINDS, names, range(draws), DTYPES):
        if place in done:
            continue
        rows.append(compare(*place))
        if kept:
            pd.DataFrame(rows).to_csv(kept, index=False)
    return pd.DataFrame(rows)


def table(rows: pd.DataFrame) -> str:
    """By kind and data type, as Markdown."""
    lines = [
        "| networks | data type | number | error > δ | median error/δ | largest error/δ "
        "| false counts |",
        "|---|---|---|---|---|---|---|",
    ]
    refused = int(rows.ratio.isna().sum())
    rows = rows.dropna(subset="ratio")
    groups = [*rows.groupby(["kind", "dtype"], sort=False), (("all", "both"), rows)]
    for (kind, dtype), part in groups:
        lines.append(
            f"| {kind} | {dtype} | {len(part):,} | {int((part.ratio > 1).sum())} | "
            f"{part.ratio.median():.2g} | {part.ratio.max():.2g} | {part.false_counts.sum():.0f} |"
        )
    if refused:
        lines += ["", f"{refused} more were refused, since a second derivative overflows."]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    study(str(__doc__), run, table, DRAWS, "backends-and-numbers.md", "noise floor")
