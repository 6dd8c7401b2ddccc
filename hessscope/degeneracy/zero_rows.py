"""Rows of the Hessian that are exactly zero, and why.

Found on the operator alone, whatever the network: a row that is not zero has, with probability 1,
a product other than zero with each of ten Gaussian vectors.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hessscope.degeneracy import causes
from hessscope.degeneracy.activity import LayerActivity
from hessscope.degeneracy.ledger import SAMPLES
from hessscope.linalg.probes import gaussian
from hessscope.operators import CurvatureOperator


def find_zero_rows(hessian: CurvatureOperator, penalty: float, seed: int) -> np.ndarray:
    """Which rows of H, less the penalty's l2 on its diagonal, are exactly zero: shape (n,).

    Cost: 10 products.
    """
    n = hessian.shape[0]
    probes = gaussian(n, SAMPLES, seed, dtype=hessian.dtype, device=hessian.device)
    # The operator adds the very same product to what the data give.
    return (hessian.apply(probes) == penalty * probes).all(1).cpu().numpy()


def name_zero_rows(
    zero: np.ndarray, activities: Sequence[LayerActivity], parameters: Sequence[tuple[str, slice]]
) -> list[tuple[str, str, int]]:
    """Sort zero rows by their causes; every row has one.

    Args:
        zero: shape (n,), as ``find_zero_rows`` gives it.
        activities: of fully connected layers.
        parameters: names of all parameters and where they stand in θ.

    Returns:
        Cause, description, and number of rows.
    """
    left = zero.copy()
    counts = dict.fromkeys(causes.ORDER, 0)
    words: dict[str, list[str]] = {cause: [] for cause in causes.ORDER}

    def take(cause: str, places: np.ndarray, text: str) -> None:
        rows = places[left[places]]
        if len(rows):
            left[rows] = False
            counts[cause] += len(rows)
            words[cause].append(text)

    several = len(activities) > 1
    for a in activities:
        dead = np.flatnonzero(~a.alive)
        if a.first:
            text = f"{_many(len(dead), 'dead input')} x {_many(a.layer.units, 'unit')}"
            take(causes.DEAD_INPUTS, a.places[:, dead].ravel(), text)
    for a in activities:
        of = f" of '{a.layer.name}'" if several and a.layer.name else ""
        idle = np.flatnonzero(~a.active.any(0).numpy())
        text = f"incoming of {_many(len(idle), 'unit')}{of}"
        take(causes.INACTIVE_UNITS, a.places[idle].ravel(), text)
        dead = np.flatnonzero(~a.alive)
        text = f"outgoing of {_many(len(dead), 'unit')} into '{a.layer.name}'"
        take(causes.INACTIVE_UNITS, a.places[:, dead].ravel(), text)
    for a in activities:
        of = f"in '{a.layer.name}'" if several and a.layer.name else "zero whenever active"
        take(causes.UNMET_PAIRS, a.places[~a.met], of)
    for name, where in parameters:
        places = np.arange(where.start, where.stop)
        take(causes.OTHER_ZERO_ROWS, places, f"{int(left[places].sum()):,} in {name}")
    return [
        (cause, ", ".join(words[cause]), counts[cause]) for cause in causes.ORDER if counts[cause]
    ]


def _many(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
