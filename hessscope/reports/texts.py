"""Numbers as tables and figures show them: with their interval or deviation, no digit too many."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

MISSING = "–"
"""What stands for a number that there is not."""

SURE = "sure, rounding included"
"""Of a count that is the same at both ends of its interval, with nothing sampled."""

# Equal trials differ from their mean by this part of it at most: a deviation so small is none.
_ROUNDING = 1e-12
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def number_text(x: float, digits: int = 3, *, zeros: bool = False) -> str:
    """A number with so many digits, with powers of ten as they are printed: 7.48×10⁻¹⁵.

    With ``zeros`` those at the end stay: in a column of results 0.5 would be less than 0.500 says.
    Powers of ten, which tolerances are, stay as they are.
    """
    text = f"{x:#.{digits}g}".replace(".e", "e").removesuffix(".") if zeros and x else None
    text = text or f"{x:.{digits}g}"
    if "e" not in text:
        return text
    mantissa, power = text.split("e")
    return power_of_ten(int(power)) if float(mantissa) == 1 else f"{mantissa}×{power_of_ten(power)}"


def power_of_ten(power: int | str) -> str:
    """``10⁻¹⁵``."""
    return f"10{str(int(power)).translate(_SUPERSCRIPTS)}"


def plain(value: Any, form: str = "") -> str:
    """A number in some form (default three digits), or a dash."""
    if value is None or pd.isna(value):
        return MISSING
    return format(value, form) if form else number_text(float(value), zeros=True)


def text(value: Any) -> str:
    """A text, or a dash."""
    return MISSING if value is None or pd.isna(value) else str(value)


def count_text(estimate: Any, lower: Any = None, upper: Any = None) -> str:
    """``225``, or ``2,659 [2,640, 2,670]`` where the count is not sure."""
    if pd.isna(estimate):
        return MISSING
    if pd.isna(lower) or pd.isna(upper) or lower == upper:
        return f"{int(estimate):,}"
    return f"{int(estimate):,} [{int(lower):,}, {int(upper):,}]"


def range_text(values: pd.Series, between: str = " – ") -> str:
    """The value, or the smallest and the largest of several; empty where there is none."""
    known = values.dropna().astype(float)
    ends = dict.fromkeys((plain(known.min()), plain(known.max()))) if len(known) else ()
    return between.join(ends)


def confidence_text(confidence: float) -> str:
    """What an interval covers: rounding alone, or sampling at a level."""
    return "rounding alone" if confidence == 1 else f"{100 * confidence:.3g} %"


def plus_minus(mean: float, deviation: float) -> str:
    """``15,877 ± 17``: the deviation with two digits, the mean with as many places.

    Args:
        mean: of the trials.
        deviation: their standard deviation; NaN for a single trial, which is then left out.
    """
    if pd.isna(mean):
        return MISSING
    if deviation <= _ROUNDING * abs(mean):
        deviation = 0.0
    power = 0
    if mean != 0 and not 1e-3 <= abs(mean) < 1e7:
        power = math.floor(math.log10(abs(mean)))
        mean, deviation = mean / 10**power, deviation / 10**power
    if pd.isna(deviation) or deviation == 0:
        body = f"{mean:,.0f}" if float(mean).is_integer() else f"{mean:#,.4g}".removesuffix(".")
        body += "" if pd.isna(deviation) else " ± 0"
    else:
        places = max(0, min(6, 1 - math.floor(math.log10(deviation))))
        body = f"{mean:,.{places}f} ± {deviation:,.{places}f}"
    if not power:
        return body
    return f"({body})×{power_of_ten(power)}" if "±" in body else f"{body}×{power_of_ten(power)}"
