"""Do intervals of Lanczos counts hold the truth as often as they say, and how wide are they?

    PYTHONPATH=tests python -m studies.count_coverage RESULTS.csv    # writes the docs' table
    PYTHONPATH=tests python -m studies.count_coverage NEW.csv --before OLD.csv

Every draw has an operator whose eigenvalues are known (``known_spectra``), options and a seed of
its own. Draws that RESULTS.csv holds already are not made again. With another version of hessscope
on the path the same draws go to OLD.csv; the table then compares widths draw by draw.
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.stats
import torch

from hessscope import LanczosBackend, SpectralDensity
from hessscope.errors import PrecisionWarning
from studies.known_spectra import FAMILIES, NETWORKS, Known, known
from studies.pages import put

DTYPES = ("float64", "float32")
TOLERANCES = ("2δ", "10δ", "1e-6‖H‖", "1e-3‖H‖")
DRAWS = 52


@dataclass(frozen=True)
class Outcome:
    """One count of one draw, or its trace.

    Attributes:
        family: of the operator.
        dtype: of the computation.
        seed: which draw.
        tolerance: in words; empty for the trace.
        count: "index", "degeneracy", "positive" or "trace".
        covered: the interval holds the truth.
        width: of the interval, relative to n, or to Σ|λ|.
        far: the tolerance is at least 100 δ.
        rigorous: all that is claimed without a probability is true.
    """

    family: str
    dtype: str
    seed: int
    tolerance: str
    count: str
    covered: bool
    width: float
    far: bool
    rigorous: bool


def draw(family: str, dtype: str, seed: int) -> Iterator[Outcome]:
    """One operator, one result, all tolerances."""
    rng = np.random.default_rng([seed, DTYPES.index(dtype), *family.encode()])
    n = int(rng.choice([120, 200, 300, 1000], p=[0.4, 0.35, 0.2, 0.05]))
    if family.startswith("dense"):
        n = int(rng.choice([120, 160]))
    steps, probes = int(rng.choice([40, 100])), int(rng.choice([1, 2, 4]))
    problem = known(family, n, rng, getattr(torch, dtype))
    backend = LanczosBackend(steps=steps, probes=probes, seed=int(rng.integers(2**31)))
    density = backend.solve(problem.operator)
    values, delta = problem.eigenvalues, density.noise_floor.total
    norm = float(np.abs(values).max())
    tolerances = (2 * delta, 10 * delta, 1e-6 * norm, 1e-3 * norm)
    for name, tau in zip(TOLERANCES, tolerances, strict=True):
        inertia = density.inertia(tau)
        rigorous, far = bounds_hold(density, problem, tau), tau >= 100 * delta
        for count, interval, truth in (
            ("index", inertia.negative, np.sum(values < -tau)),
            ("degeneracy", inertia.zero, np.sum(np.abs(values) <= tau)),
            ("positive", inertia.positive, np.sum(values > tau)),
        ):
            covered = bool(interval.lower <= truth <= interval.upper)
            width = (interval.upper - interval.lower) / len(values)
            yield Outcome(family, dtype, seed, name, count, covered, width, far, rigorous)
    trace = density.trace_estimate()
    covered = trace.lower <= values.sum() <= trace.upper
    width = (trace.upper - trace.lower) / float(np.abs(values).sum())
    yield Outcome(family, dtype, seed, "", "trace", covered, width, True, True)


def bounds_hold(density: SpectralDensity, problem: Known, tolerance: float) -> bool:
    """Whether what is claimed without a probability is true: bounds, locked pairs, extremes."""
    values = problem.eigenvalues
    below, above = density.rigorous_bounds(tolerance)
    coupling = float(np.linalg.norm(density.locked.residuals)) + density.noise_floor.total
    near = [(value, coupling) for value in density.locked.values]
    near += [
        (density.lambda_min, density.lambda_min_residual),
        (density.lambda_max, density.lambda_max_residual),
    ]
    return (
        below <= int(np.sum(values < -tolerance))
        and above <= int(np.sum(values > tolerance))
        and all(np.abs(values - value).min() <= reach for value, reach in near)
    )


def run(draws: Iterable[int], results: Path, families: Iterable[str] = FAMILIES) -> pd.DataFrame:
    """All families in both data types; a row for each count. Draws in the file are not repeated."""
    warnings.simplefilter("ignore", PrecisionWarning)
    began, names = time.monotonic(), [field.name for field in fields(Outcome)]
    done: set[tuple[str, str, int]] = set()
    if results.exists():
        there = pd.read_csv(results)
        # A draw that was cut off lacks its last row.
        there = there[there.groupby(["family", "dtype", "seed"]).family.transform("size") == 13]
        there.to_csv(results, index=False)
        done = set(zip(there.family, there.dtype, there.seed, strict=True))
    else:
        results.write_text(",".join(names) + "\n", encoding="utf-8")
    for seed in draws:
        for family in families:
            for dtype in DTYPES:
                if (family, dtype, seed) in done:
                    continue
                rows = [asdict(outcome) for outcome in draw(family, dtype, seed)]
                with results.open("a", encoding="utf-8", newline="") as file:
                    csv.DictWriter(file, names).writerows(rows)
        print(f"{time.monotonic() - began:6.0f} s  draw {seed}", file=sys.stderr)
    return pd.read_csv(results, keep_default_na=False)


def rejected(counts: pd.DataFrame) -> list[tuple[str, str, str]]:
    """Cells of family, data type and tolerance in which 93 % is too much to be believed.

    By a binomial test at the 1 % level, Bonferroni's correction for all cells included.
    """
    cells = counts.groupby(["family", "dtype", "tolerance"]).covered.agg(["sum", "size"])
    level = 0.01 / len(cells)
    return [
        cell
        for cell, (hits, number) in cells.iterrows()
        if scipy.stats.binomtest(int(hits), int(number), 0.93, alternative="less").pvalue < level
    ]


def table(outcomes: pd.DataFrame, before: pd.DataFrame | None = None) -> str:
    """Coverage and width by family, data type and tolerance, and what holds in all, as Markdown."""
    counts, traces = outcomes[outcomes["count"] != "trace"], outcomes[outcomes["count"] == "trace"]
    lines = ["| family | type | " + " | ".join(TOLERANCES) + " | trace |"]
    lines.append("|" + "---|" * (3 + len(TOLERANCES)))
    for (family, dtype), part in counts.groupby(["family", "dtype"], sort=False):
        cells = [part[part.tolerance == name] for name in TOLERANCES]
        trace = traces[(traces.family == family) & (traces.dtype == dtype)]
        body = " | ".join(_cell(cell) for cell in cells)
        lines.append(f"| {family} | {dtype} | {body} | {trace.covered.mean():.0%} |")
    cells = [counts[counts.tolerance == name] for name in TOLERANCES]
    body = " | ".join(_cell(cell) for cell in cells)
    lines.append(f"| **all** | | {body} | {traces.covered.mean():.1%} |")
    number = len(traces)
    lines += [
        "",
        f"{number:,} draws, {len(counts):,} counts from {counts.family.nunique()} families: "
        f"{counts.covered.mean():.2%} of the intervals hold the truth. Cells in which a binomial "
        f"test rejects 93 % (1 %, Bonferroni): {len(rejected(counts))} of "
        f"{counts.groupby(['family', 'dtype', 'tolerance']).ngroups}. "
        f"Statements without a probability that were false: {int((~counts.rigorous).sum())}.",
    ]
    if before is not None:
        keys = ["family", "dtype", "seed", "tolerance", "count"]
        both = counts.merge(before, on=keys, suffixes=("", "_before"))
        # The squares of tiny numbers underflowed there, so that everything looked sure.
        far = both[both.far & both.far_before & (both.family != "tiny")]
        near = both[both.tolerance == "2δ"]
        lines += [
            "",
            f"With the version before {near.covered_before.mean():.1%} of the intervals held at 2δ "
            f"in {len(both) // 12:,} of the same draws. At τ ≥ 100 δ the mean width is "
            f"{far.width.mean():.2%} of n, and was {far.width_before.mean():.2%} in the same "
            f"{len(far):,} counts (all families but *tiny*, which that version got wrong).",
        ]
    return "\n".join(lines) + "\n"


def _cell(part: pd.DataFrame) -> str:
    return f"{part.covered.mean():.1%}, {part.width.median():.1%}"


def main() -> None:
    """Run all draws and put the table into the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path, help="CSV file with a row for each count")
    parser.add_argument("--before", type=Path, help="the same of another version")
    parser.add_argument("--draws", type=int, default=DRAWS, help="of each family and data type")
    parser.add_argument("--networks", action="store_true", help="networks only; no page is written")
    options = parser.parse_args()
    families = tuple(NETWORKS) if options.networks else FAMILIES
    outcomes = run(range(options.draws), options.results, families)
    before = None if options.before is None else pd.read_csv(options.before, keep_default_na=False)
    text = table(outcomes, before)
    print(text)
    for cell in rejected(outcomes[outcomes["count"] != "trace"]):
        print("rejected:", *cell)
    if options.draws == DRAWS and not options.networks:
        put("count-coverage.md", "coverage", text)


if __name__ == "__main__":
    main()
