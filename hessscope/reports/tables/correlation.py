"""Rank correlation of α with the loss over critical points, and the isotonic curve."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import scipy.stats
from sklearn.isotonic import IsotonicRegression

from hessscope.errors import OptionError
from hessscope.options.fields import one_of, plain
from hessscope.options.report import AGAINST, COEFFICIENTS
from hessscope.reports.tables.points import certified_points

INTERVALS = ("bootstrap", "fisher")
_FEWEST = {"spearman": 4, "kendall": 5}
_RESAMPLES = 2000


@dataclass(frozen=True)
class RankCorrelation:
    """A rank correlation and how sure it is.

    Attributes:
        coefficient: "spearman" (ρ) or "kendall" (τ-b).
        value: the coefficient, in [−1, 1]; NaN for fewer than 2 points, and where one of the
            variables is constant.
        lower: lower end of its interval.
        upper: upper end.
        confidence: of the interval.
        interval: "bootstrap" or "fisher"; "none" where there are fewer than 4 points.
        points: number of points.
        p_value: of no association, two-sided.
    """

    coefficient: str
    value: float
    lower: float
    upper: float
    confidence: float
    interval: str
    points: int
    p_value: float

    def __str__(self) -> str:
        """``Spearman ρ = 0.83 [0.72, 0.90] (95 %, bootstrap, 64 points)``."""
        symbol = {"spearman": "Spearman ρ", "kendall": "Kendall τ"}[self.coefficient]
        if self.points < 2:
            return f"{symbol} undefined (too few points: {self.points})"
        if math.isnan(self.value):
            return f"{symbol} undefined ({self.points} points, one variable is constant)"
        if self.interval == "none":
            return f"{symbol} = {self.value:.2f} ({self.points} points: no interval)"
        number = f"{self.value:.2f} [{self.lower:.2f}, {self.upper:.2f}]"
        how = {"bootstrap": "bootstrap", "fisher": "Fisher z"}[self.interval]
        return f"{symbol} = {number} ({100 * self.confidence:.3g} %, {how}, {self.points} points)"

    def as_dict(self) -> dict[str, Any]:
        """The form it has in JSON; what is not a number is None."""
        return {name: plain(value) for name, value in vars(self).items()}


def rank_correlation(
    x: Any,
    y: Any,
    coefficient: str = "spearman",
    *,
    interval: str = "fisher",
    confidence: float = 0.95,
    seed: int = 0,
) -> RankCorrelation:
    """Rank correlation of two variables over points, ties included.

    The interval by Fisher's z takes the variance (1 + ρ²/2)/(n − 3) for Spearman (Bonett & Wright
    2000) and 0.437/(n − 4) for Kendall (Fieller, Hartley & Pearson 1957); the other is a bootstrap
    of the points (BCa, 2,000 resamples; percentiles where BCa is degenerate), which assumes less
    but is too narrow for few points. Both take the points as independent: see ``distinct_points``.

    Args:
        x: values, shape (n,); pairs with NaN are left out.
        y: values, same shape.
        coefficient: "spearman" or "kendall".
        interval: "fisher" or "bootstrap".
        confidence: of the interval.
        seed: of the resamples.

    Raises:
        OptionError: the shapes differ, or an option has no usable value.
    """
    coefficient = one_of(COEFFICIENTS, "rank correlation")(coefficient)
    interval = one_of(INTERVALS, "interval")(interval)
    if not 0.0 < confidence < 1.0:
        raise OptionError(f"confidence is {confidence}: give a number between 0 and 1, as 0.95")
    a, b = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    if a.ndim != 1 or a.shape != b.shape:
        raise OptionError(f"expected two vectors of one length, got shapes {a.shape}, {b.shape}")
    there = ~(np.isnan(a) | np.isnan(b))
    a, b = a[there], b[there]
    n = len(a)
    if n < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        nan = math.nan
        return RankCorrelation(coefficient, nan, nan, nan, confidence, "none", n, nan)
    measure: Any = scipy.stats.spearmanr if coefficient == "spearman" else scipy.stats.kendalltau
    found = measure(a, b)
    value, p_value = float(found.statistic), float(found.pvalue)
    if abs(value) > 1.0 - 1e-12:
        value = math.copysign(1.0, value)  # all ranks agree, but for rounding
    if n < _FEWEST[coefficient]:
        return RankCorrelation(coefficient, value, -1.0, 1.0, confidence, "none", n, p_value)
    if abs(value) == 1.0:
        interval = "fisher"  # every resample agrees as well, which says nothing
    if interval == "fisher":
        lower, upper = _fisher(value, n, coefficient, confidence)
    else:
        lower, upper = _bootstrap(a, b, coefficient, confidence, seed)
    return RankCorrelation(coefficient, value, lower, upper, confidence, interval, n, p_value)


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
    against = one_of(AGAINST, "axis")(against)
    finite = np.isfinite(points[against].to_numpy(float)) & points["alpha"].notna().to_numpy()
    return points[finite]


def _fisher(value: float, n: int, coefficient: str, confidence: float) -> tuple[float, float]:
    # Where all ranks agree z is infinite: half a step before that, a step being one pair exchanged.
    step = 6.0 / (n * (n**2 - 1)) if coefficient == "spearman" else 2.0 / (n * (n - 1))
    inner = max(-1.0 + step, min(value, 1.0 - step))
    if coefficient == "spearman":
        error = math.sqrt((1.0 + inner**2 / 2.0) / (n - 3))
    else:
        error = math.sqrt(0.437 / (n - 4))
    half = float(scipy.stats.norm.ppf(0.5 + confidence / 2)) * error
    centre = math.atanh(inner)
    return min(value, math.tanh(centre - half)), max(value, math.tanh(centre + half))


def _bootstrap(
    a: np.ndarray, b: np.ndarray, coefficient: str, confidence: float, seed: int
) -> tuple[float, float]:
    def statistic(u: np.ndarray, v: np.ndarray) -> float:
        # A resample may be a single point many times; it says nothing of an association.
        if np.ptp(u) == 0 or np.ptp(v) == 0:
            return 0.0
        if coefficient == "kendall":
            return float(scipy.stats.kendalltau(u, v, method="asymptotic").statistic)
        # spearmanr is the same number and takes ten times as long, for its p-value.
        return float(np.corrcoef(scipy.stats.rankdata(u), scipy.stats.rankdata(v))[0, 1])

    how: dict[str, Any] = {"confidence_level": confidence, "n_resamples": _RESAMPLES}
    how |= {"paired": True, "vectorized": False}
    for method in ("BCa", "percentile"):
        rng = np.random.default_rng(seed)
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore", scipy.stats.DegenerateDataWarning)
            found = scipy.stats.bootstrap((a, b), statistic, method=method, random_state=rng, **how)
        lower, upper = (float(end) for end in found.confidence_interval)
        if not (math.isnan(lower) or math.isnan(upper)):
            break
    return lower, upper
