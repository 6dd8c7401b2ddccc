"""How the intervals of the index narrow with products, on the spectrum of a real network.

    PYTHONPATH=tests python -m studies.width_by_products RECORD.h5

RECORD.h5 is an exact spectrum (``hessscope spectrum ce.pt --data mnist --backend exact``). Gaussian
probes do not care for the basis, so the diagonal operator with its eigenvalues stands for the
network's Hessian. Draws docs/images/width_by_products.png and prints the numbers.
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn

from hessscope import LanczosBackend, load_record
from hessscope.reports.figures.style import COLUMN_WIDTH, save_figure, styled
from studies.known_spectra import Diagonal

STEPS = (50, 100, 200, 400, 800)
SEEDS = (0, 1, 2)
TOLERANCES = (1e-3, 1e-4, 1e-5)
FIGURE = Path(__file__).resolve().parents[2] / "docs" / "images" / "width_by_products.png"


def measure(values: np.ndarray) -> pd.DataFrame:
    """A row for each number of steps, seed and tolerance; one probe beside the first run."""
    rows = []
    for steps in STEPS:
        for seed in SEEDS:
            density = LanczosBackend(steps=steps, probes=1, seed=seed).solve(Diagonal(values))
            for tolerance in TOLERANCES:
                index = density.inertia(tolerance).negative
                truth = int(np.sum(values < -tolerance))
                rows.append(
                    {
                        "products": density.hvps,
                        "tolerance": tolerance,
                        "truth": truth,
                        "lower": index.lower,
                        "upper": index.upper,
                        "width": (index.upper - index.lower) / truth,
                    }
                )
            print(f"{steps} steps, seed {seed}", file=sys.stderr)
    return pd.DataFrame(rows)


def draw(rows: pd.DataFrame) -> plt.Figure:
    """Median width over the seeds, relative to the true index, against products."""
    with styled():
        figure, ax = plt.subplots(figsize=(COLUMN_WIDTH, 0.72 * COLUMN_WIDTH))
        ax.set_prop_cycle(color=seaborn.color_palette("colorblind")[:3])
        for (tolerance, part), marker in zip(rows.groupby("tolerance"), "os^", strict=True):
            median = part.groupby("products").width.median()
            label = f"τ = 1e{round(np.log10(tolerance))} (index {part.truth.iloc[0]})"
            ax.plot(
                median.index,
                median.to_numpy(),
                marker=marker,
                markersize=4,
                label=label,
                clip_on=False,
            )
        ax.set_xscale("log")
        ax.set_yscale("symlog", linthresh=0.01)
        ax.set_ylim(0, 200)
        ax.set_xlabel("Hessian-vector products")
        ax.set_ylabel("Width of the 95 % interval / index")
        ax.legend()
    return figure


def main() -> None:
    """Measure, print, draw."""
    rows = measure(np.sort(load_record(sys.argv[1]).arrays["eigenvalues"]))
    print(rows.groupby(["tolerance", "products"]).agg(list).to_string())
    save_figure(draw(rows), FIGURE, overwrite=True)


if __name__ == "__main__":
    main()
