"""Do intervals of Lanczos counts hold the truth as often as they say, and how wide are they?

    PYTHONPATH=tests python -m studies.count_coverage            # all draws, writes the docs' table

Spectra are known: families that networks' Hessians resemble, as diagonal operators (Gaussian probes
do not care for the basis). Every draw has a spectrum, a seed and tolerances of its own.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy.linalg import eigvalsh_tridiagonal

from hessscope import LanczosBackend, SpectralDensity
from hessscope.errors import PrecisionWarning

PAGE = Path(__file__).resolve().parents[2] / "docs" / "count-coverage.md"
MARKS = ("<!-- study: coverage -->\n", "<!-- end study -->\n")
DRAWS = {200: 100, 1000: 80, 5000: 20, 20_000: 6}
STEPS, PROBES = 100, 4


class Diagonal:
    """A diagonal matrix as an operator."""

    dtype = torch.float64
    device = torch.device("cpu")

    def __init__(self, values: np.ndarray) -> None:
        self.shape = (len(values), len(values))
        self.hvps = 0
        self._values = torch.from_numpy(values)[:, None]

    def apply(self, vectors: torch.Tensor) -> torch.Tensor:
        self.hvps += vectors.shape[1]
        return self._values * vectors

    def recomputed(self) -> None:
        return None


def semicircle(n: int, rng: np.random.Generator) -> np.ndarray:
    """Wigner's law on [−1, 1], shifted."""
    return 2 * rng.beta(1.5, 1.5, n) - 1 + rng.uniform(-0.5, 0.9)


def marchenko_pastur(n: int, rng: np.random.Generator) -> np.ndarray:
    """Sample covariance with fewer samples than dimensions, and ten outliers."""
    rank = n // 2
    # Eigenvalues of a Wishart matrix by its bidiagonal form (Dumitriu & Edelman 2002).
    diagonal = np.sqrt(rng.chisquare(n - np.arange(rank)))
    below = np.sqrt(rng.chisquare(rank - 1 - np.arange(rank - 1)))
    values = eigvalsh_tridiagonal(diagonal**2 + np.append(0.0, below**2), diagonal[:-1] * below)
    return np.concatenate([np.zeros(n - rank - 10), values / n, rng.uniform(5, 50, 10)])


def decades(n: int, rng: np.random.Generator) -> np.ndarray:
    """A bulk massed at zero over ten decades, both signs."""
    signs = np.where(rng.random(n) < 0.1, -1.0, 1.0)
    return signs * 10 ** rng.uniform(-10, 0, n) * np.where(signs < 0, 0.02, 1.0)


def degenerate(n: int, rng: np.random.Generator) -> np.ndarray:
    """Exact zeros, two exactly degenerate eigenvalues, and a continuous rest with a gap."""
    zeros, twice = n // 2, n // 20
    rest = n - zeros - 2 * twice
    return np.concatenate(
        [np.zeros(zeros), np.full(twice, 1.0), np.full(twice, -0.5), rng.uniform(0.2, 2, rest)]
    )


def clustered(n: int, rng: np.random.Generator) -> np.ndarray:
    """Outliers in tight clusters on both sides of a narrow bulk."""
    sizes = rng.integers(2, 8, 6)
    centres = np.array([-2.0, -1.0, 3.0, 5.0, 9.0, 20.0])
    outliers = np.concatenate(
        [c + 1e-7 * rng.standard_normal(k) for c, k in zip(centres, sizes, strict=True)]
    )
    return np.concatenate([outliers, 0.05 * rng.standard_normal(n - len(outliers))])


FAMILIES: dict[str, tuple[Callable[[int, np.random.Generator], np.ndarray], tuple[float, ...]]] = {
    # With each family tolerances across its spectrum;.
    "semicircle": (semicircle, (1e-3, 0.05, 0.3)),
    "Marchenko–Pastur, outliers": (marchenko_pastur, (1e-6, 0.1, 3.0)),
    "ten decades": (decades, (1e-6, 1e-3, 0.1)),
    "exact degeneracies": (degenerate, (1e-6, 0.1, 0.7)),
    "clustered outliers": (clustered, (0.02, 0.5, 4.0)),
}
# Tolerances at which the spectrum has a gap on both sides of zero.
GAPS = {
    ("exact degeneracies", 1e-6),
    ("exact degeneracies", 0.1),
    ("clustered outliers", 0.5),
    ("clustered outliers", 4.0),
    ("Marchenko–Pastur, outliers", 3.0),
}


@dataclass(frozen=True)
class Outcome:
    """One count of one draw."""

    family: str
    n: int
    tolerance: float
    gap: bool
    count: str
    covered: bool
    width: float
    rigorous: bool
    products: int


def draw(family: str, n: int, seed: int, backend: LanczosBackend) -> Iterator[Outcome]:
    """One spectrum, one result, all of the family's tolerances."""
    make, tolerances = FAMILIES[family]
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(n, len(family))))
    values = np.sort(make(n, rng))
    density = backend.solve(Diagonal(values))
    for tolerance in tolerances:
        inertia = density.inertia(tolerance)
        truth = {
            "index": int(np.sum(values < -tolerance)),
            "degeneracy": int(np.sum(np.abs(values) <= tolerance)),
            "positive": int(np.sum(values > tolerance)),
        }
        intervals = {
            "index": inertia.negative,
            "degeneracy": inertia.zero,
            "positive": inertia.positive,
        }
        for name, interval in intervals.items():
            yield Outcome(
                family,
                n,
                tolerance,
                (family, tolerance) in GAPS,
                name,
                interval.lower <= truth[name] <= interval.upper,
                (interval.upper - interval.lower) / n,
                bounds_hold(density, values, tolerance),
                density.hvps,
            )


def bounds_hold(density: SpectralDensity, values: np.ndarray, tolerance: float) -> bool:
    """Whether what is claimed as rigorous is true: bounds by Ritz values, locked pairs."""
    below, above = density.rigorous_bounds(tolerance)
    coupling = float(np.linalg.norm(density.locked.residuals)) + density.noise_floor.total
    order = np.searchsorted(values, density.locked.values)
    nearest = np.minimum(
        np.abs(values[np.minimum(order, len(values) - 1)] - density.locked.values),
        np.abs(values[np.maximum(order - 1, 0)] - density.locked.values),
    )
    return (
        below <= int(np.sum(values < -tolerance))
        and above <= int(np.sum(values > tolerance))
        and bool(np.all(nearest <= coupling + 1e-12))
    )


def run(draws: dict[int, int], steps: int = STEPS, probes: int = PROBES) -> pd.DataFrame:
    """All families at all sizes; a row for each count."""
    rows, began = [], time.monotonic()
    warnings.simplefilter("ignore", PrecisionWarning)
    for n, number in draws.items():
        for family in FAMILIES:
            for seed in range(number):
                backend = LanczosBackend(steps=steps, probes=probes, seed=seed)
                rows += draw(family, n, seed, backend)
            print(f"{time.monotonic() - began:6.0f} s  n = {n:,}  {family}", file=sys.stderr)
    return pd.DataFrame(rows)


def table(outcomes: pd.DataFrame) -> str:
    """Coverage and width by family, and by size where there is a gap, as Markdown."""
    lines = [
        "| family | counts | 95 % intervals that hold the truth | median width, gap at τ "
        "| median width, no gap at τ | rigorous bounds violated |",
        "|---|---|---|---|---|---|",
    ]
    for family, part in [*outcomes.groupby("family", sort=False), ("all", outcomes)]:
        gap, none = part[part.gap].width, part[~part.gap].width
        lines.append(
            f"| {family} | {len(part):,} | {part.covered.mean():.1%} | {_percent(gap)} | "
            f"{_percent(none)} | {int((~part.rigorous).sum())} |"
        )
    lines += ["", "| n | draws | hold the truth | median width, gap at τ | no gap | products |"]
    lines += ["|---|---|---|---|---|---|"]
    for n, part in outcomes.groupby("n"):
        each = sum(3 * len(tolerances) for _, tolerances in FAMILIES.values()) / len(FAMILIES)
        lines.append(
            f"| {n:,} | {len(part) / each:,.0f} | {part.covered.mean():.1%} | "
            f"{_percent(part[part.gap].width)} | {_percent(part[~part.gap].width)} | "
            f"{part.products.median():,.0f} |"
        )
    return "\n".join(lines) + "\n"


def _percent(widths: pd.Series) -> str:
    return f"{widths.median():.2%}" if len(widths) else ""


def main() -> None:
    """Run all draws and put the table into the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, help="of each family and size; default: as documented")
    options = parser.parse_args()
    draws = dict.fromkeys(DRAWS, options.draws) if options.draws else DRAWS
    text = table(run(draws))
    print(text)
    if options.draws is None:
        page = PAGE.read_text(encoding="utf-8")
        before, rest = page.split(MARKS[0], 1)
        after = rest.split(MARKS[1], 1)[1]
        PAGE.write_text(before + MARKS[0] + "\n" + text + "\n" + MARKS[1] + after, "utf-8")


if __name__ == "__main__":
    main()
