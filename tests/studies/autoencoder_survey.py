"""Critical points of a linear autoencoder, found by a survey and known in closed form.

Usage: ``PYTHONPATH=tests python -m studies.autoencoder_survey FOLDER FIGURE``
"""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch

import hessscope as hs
from hessscope.surveys import Source
from survey_problems import autoencoder_points, linear_autoencoder

SIZE = 16


def near_points() -> list[Source]:
    """A start near each of the known points, which are of every rank."""
    rng = np.random.default_rng(0)
    found = []
    for point in autoencoder_points():
        noise = torch.from_numpy(rng.normal(0, 0.01, SIZE))
        theta = point.risk().parameters + noise
        found.append(Source(str(point.chosen), str(point.chosen), lambda theta=theta: theta))
    return found


def main(folder: Path, figure: Path) -> None:
    """Search, and draw the ends over the closed form."""
    options = hs.StudyOptions(trajectory=0, uniform=40, range=(-1.5, 1.5), workers=1)
    with ThreadPoolExecutor(1) as executor:
        result = hs.run_survey(
            linear_autoencoder,
            folder,
            options,
            starts=near_points(),
            executor=executor,
        )
    forms = [(point.loss, point.index / SIZE) for point in autoencoder_points()]
    table = hs.load_records(folder)
    off = [
        min(max(abs(loss - e), abs(alpha - a)) for e, a in forms)
        for loss, alpha in zip(table["loss"], table["alpha"], strict=True)
    ]
    distinct = hs.tables.distinct_points(table)
    print(
        f"{result.statuses}, {result.certified} certified, {len(distinct)} distinct of "
        f"{len(forms)} known, largest distance {max(off):.2g}"
    )
    axes = hs.figures.plot_epsilon_alpha(distinct, closed_form=forms, isotonic=False)
    hs.save_figure(axes.figure, figure, overwrite=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
