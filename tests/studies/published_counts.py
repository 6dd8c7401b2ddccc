"""What data type, tolerance and rule make of the same networks: a table and a figure.

    PYTHONPATH=tests python -m studies.published_counts \
        cross-entropy=CE_FLOAT64.h5,CE_FLOAT32.h5 softmax-mse=SM_FLOAT64.h5,SM_FLOAT32.h5

Exact spectra of the same network in float64 (with ``--zero-rule sankar2017``) and in float32, for
each network. Prints the table of docs/published-counts.md, and draws its figure.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from hessscope import Record, Spectrum, load_record
from hessscope.errors import PrecisionWarning
from hessscope.reports.figures.style import (
    COLUMN_WIDTH,
    DOUBT,
    NEGATIVE,
    ZERO,
    fix_ticks,
    save_figure,
    styled,
)

FIGURE = Path(__file__).resolve().parents[2] / "docs" / "images" / "published_counts.png"


def rows(name: str, wide: Record, narrow: Record) -> list[str]:
    """Lines of the table: our counts by both types, signs alone, and the paper's rule."""
    lines = []
    for record in (wide, narrow):
        spectrum = Spectrum.from_record(record)
        inertia = spectrum.inertia()
        lines.append(
            f"| {name} | {spectrum.dtype}, τ = 2δ = {inertia.tolerance:.1e} | "
            f"{inertia.negative} | {inertia.zero} | {inertia.positive} |"
        )
        values = spectrum.eigenvalues
        lines.append(
            f"| | {spectrum.dtype}, signs alone | {np.sum(values < 0):,} | "
            f"{np.sum(values == 0):,} | {np.sum(values > 0):,} |"
        )
    rule = wide.attributes["sankar2017"]
    lines.append(
        f"| | `sankar2017` | {rule['negative']:,} | {rule['just_zero']:,} | {rule['positive']:,} |"
    )
    return lines


def draw(networks: dict[str, tuple[Record, Record]]) -> plt.Figure:
    """Index and degeneracy against the tolerance, in both types; faint where rounding decides."""
    with styled():
        figure, axes = plt.subplots(
            len(networks), figsize=(COLUMN_WIDTH, 1.25 * COLUMN_WIDTH), sharex=True
        )
        figure.set_layout_engine("constrained", h_pad=0.03, w_pad=0.02)
        for ax, (name, records) in zip(axes, networks.items(), strict=True):
            fix_ticks(ax)
            for record, dashes in zip(records, ("-", (0, (3, 1.2))), strict=True):
                spectrum = Spectrum.from_record(record)
                delta = spectrum.noise_floor.total
                taus = np.geomspace(1e-16, 1.0, 170)
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", PrecisionWarning)
                    sweep = [spectrum.inertia(float(tau)) for tau in taus]
                told = taus >= 2 * delta
                for count, color in (("negative", NEGATIVE), ("zero", ZERO)):
                    numbers = np.array([getattr(inertia, count).estimate for inertia in sweep])
                    label = f"{'index' if count == 'negative' else 'degeneracy'}, {spectrum.dtype}"
                    style = {"color": color, "linestyle": dashes}
                    ax.plot(taus[told], numbers[told], label=label, **style)
                    ax.plot(taus[~told], numbers[~told], alpha=0.4, **style)
                ax.axvline(2 * delta, color="0.2", linewidth=0.7, linestyle=dashes)
            ax.axvspan(taus[0], 2 * delta, color=DOUBT, linewidth=0, zorder=0)
            ax.set_xscale("log")
            ax.set_yscale("symlog", linthresh=1.0, linscale=0.4)
            ax.set_xlim(taus[0], taus[-1])
            ax.set_ylim(0, 2.0 * spectrum.size)
            ax.set_title(name, loc="left")
            ax.set_ylabel("Eigenvalue count")
        axes[-1].set_xlabel("Tolerance τ (vertical lines: 2δ of each type)")
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper left", ncols=2,
                      frameon=False)  # fmt: skip
    return figure


def main() -> None:
    """Print the table and draw."""
    networks = {}
    print("| network | counted | negative | zero | positive |")
    print("|---|---|---|---|---|")
    for argument in sys.argv[1:]:
        name, _, paths = argument.partition("=")
        wide, narrow = (load_record(path) for path in paths.split(","))
        networks[name.replace("-", " ")] = (wide, narrow)
        print("\n".join(rows(name.replace("-", " "), wide, narrow)))
    save_figure(draw(networks), FIGURE, overwrite=True)


if __name__ == "__main__":
    main()
