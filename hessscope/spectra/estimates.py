"""Sampled numbers, each with its interval."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.stats


@dataclass(frozen=True)
class Estimate:
    """A number with an interval.

    Attributes:
        value: the estimate.
        lower: lower end.
        upper: upper end.
        confidence: of the interval.
    """

    value: float
    lower: float
    upper: float
    confidence: float

    def __str__(self) -> str:
        """``23.97`` where nothing was sampled, else ``23.9 [22, 26]``."""
        if self.confidence == 1.0:
            return f"{self.value:.6g}"
        return f"{self.value:.4g} [{self.lower:.4g}, {self.upper:.4g}]"

    def as_dict(self, name: str) -> dict[str, Any]:
        """The number under its name, and its interval, as JSON has them: null for infinity."""
        lower, upper = (x if math.isfinite(x) else None for x in (self.lower, self.upper))
        interval = {"lower": lower, "upper": upper, "confidence": self.confidence}
        return {name: self.value, f"{name}_interval": interval}


def student_interval(values: np.ndarray, confidence: float) -> Estimate:
    """Mean of ``values``, one for each probe, with Student's interval."""
    mean, count = float(np.mean(values)), len(values)
    if count < 2:
        return Estimate(mean, -math.inf, math.inf, confidence)
    error = float(np.std(values, ddof=1)) / math.sqrt(count)
    half = float(scipy.stats.t.ppf(0.5 + confidence / 2, count - 1)) * error
    return Estimate(mean, mean - half, mean + half, confidence)
