"""How α goes with the loss or the error: rank correlation and isotonic curve."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from sklearn.isotonic import IsotonicRegression

from hessscope.errors import UnknownNameError
from hessscope.reports.tables.correlation import RankCorrelation, rank_correlation
from hessscope.reports.tables.points import certified_points

AGAINST = ("loss", "error")


def epsilon_alpha_correlation(
    points: pd.DataFrame, against: str = "loss", coefficient: str = "spearman", **options: Any
) -> RankCorrelation:
    """Rank correlation between ε and α over the certified points that have both.

    Args:
        points: a table of ``load_records``.
        against: "loss" or "error".
        coefficient: "spearman" or "kendall".
        options: as for ``rank_correlation``.
    """
    drawn = certified_points(drawable_points(points, against))
    return rank_correlation(drawn[against], drawn["alpha"], coefficient, **options)


def isotonic_curve(points: pd.DataFrame, against: str = "loss") -> tuple[np.ndarray, np.ndarray]:
    """The increasing α(ε) that is nearest to the certified points, in least squares.

    Returns:
        ε, ascending, and α there; each of shape (m,), m the number of different ε.
    """
    drawn = certified_points(drawable_points(points, against))
    if drawn.empty:
        return np.array([]), np.array([])
    x = drawn[against].to_numpy(float)
    fitted = IsotonicRegression().fit(x, drawn["alpha"].to_numpy(float))
    places = np.unique(x)
    return places, fitted.predict(places)


def drawable_points(points: pd.DataFrame, against: str) -> pd.DataFrame:
    """Rows that have both an α and the loss or the error.

    Raises:
        UnknownNameError: it is neither loss nor error.
    """
    if against not in AGAINST:
        raise UnknownNameError("axis", against, AGAINST)
    finite = np.isfinite(points[against].to_numpy(float)) & points["alpha"].notna().to_numpy()
    return points[finite]
