"""What ``--normalize`` and ``--resize`` say, parsed and checked before anything is read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from hessscope.errors import OptionError, UnknownNameError

#: ``"0.1307/0.3081"``, ``"center"``, ``"standardize"``, ``"none"``, or a pair (mean, std).
NormalizeOption: TypeAlias = "str | tuple[float | Sequence[float], float | Sequence[float]] | None"
#: ``10``, ``"10"``, ``"10x12"``, ``(10, 12)``: rows and columns.
SizeOption: TypeAlias = "int | str | Sequence[int] | None"

_KINDS = ("center", "standardize", "none")
_HINT = "Or numbers, mean/std: 0.1307/0.3081, or one a channel, 0.5,0.4,0.4/0.2,0.2,0.2."


@dataclass(frozen=True)
class Normalization:
    """One of: ``default``, ``none`` (not even / 255), ``center``, ``standardize``, ``fixed``.

    ``mean`` and ``std`` are set for ``fixed``: one value, or one for each channel or feature.
    """

    kind: str
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()


def parse_normalize(option: NormalizeOption) -> Normalization:
    """Parse ``--normalize``.

    Raises:
        OptionError: not numbers, different numbers of means and deviations, a deviation that is
            not positive; UnknownNameError for an unknown word.
    """
    if option is None:
        return Normalization("default")
    if isinstance(option, str):
        text = option.strip()
        if text.lower() in _KINDS:
            return Normalization(text.lower())
        if text.lower() in ("mean/std", "std", "mean"):
            raise OptionError(
                f"normalize '{option}': write the numbers, for instance 0.1307/0.3081, "
                "or 'standardize' to take them from the data."
            )
        if "/" not in text:
            if text and (text[0].isdigit() or text[0] in "+-."):
                raise OptionError(
                    f"normalize '{option}' has a mean and no deviation: give mean/std, one number "
                    "or one for each channel, such as 0.1307/0.3081"
                )
            raise UnknownNameError("normalization", option, _KINDS, _HINT)
        parts = text.split("/")
        if len(parts) != 2:
            raise OptionError(f"normalize '{option}': one '/' is expected. {_HINT}")
        mean, std = (_numbers(part.split(","), option) for part in parts)
    else:
        pair = list(option) if isinstance(option, Sequence) else []
        if len(pair) != 2:
            raise OptionError(f"normalize {option!r}: a pair (mean, std) is expected. {_HINT}")
        mean, std = (
            _numbers(list(part) if isinstance(part, Sequence) else [part], option) for part in pair
        )
    if len(mean) != len(std):
        raise OptionError(
            f"normalize '{option}': {len(mean)} mean(s) but {len(std)} deviation(s). {_HINT}"
        )
    if min(std) <= 0:
        raise OptionError(f"normalize '{option}': deviations must be positive. {_HINT}")
    return Normalization("fixed", mean, std)


def _numbers(parts: Sequence[object], option: object) -> tuple[float, ...]:
    try:
        values = tuple(float(part) for part in parts)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise OptionError(f"normalize '{option}' is not made of numbers. {_HINT}") from None
    if not values or not all(math.isfinite(value) for value in values):
        raise OptionError(f"normalize '{option}': the numbers must be finite. {_HINT}")
    return values


def parse_size(option: SizeOption) -> tuple[int, int] | None:
    """Parse ``--resize`` into (rows, columns).

    Raises:
        OptionError: not one or two positive whole numbers.
    """
    if option is None:
        return None
    parts: list[object]
    if isinstance(option, str):
        parts = list(option.lower().replace("×", "x").replace(",", "x").split("x"))
    elif isinstance(option, Sequence):
        parts = list(option)
    else:
        parts = [option]
    sizes = []
    for part in parts:
        try:
            size = int(part)  # type: ignore[call-overload]
            good = size == float(part) and size > 0 and not isinstance(part, bool)  # type: ignore[arg-type]
        except (TypeError, ValueError):
            good = False
        if not good or size > 10_000:
            raise OptionError(
                f"resize {option!r}: write 10, or 10x12 for 10 rows and 12 columns (at most 10000)."
            )
        sizes.append(size)
    if len(sizes) not in (1, 2):
        raise OptionError(f"resize {option!r}: one or two numbers are expected.")
    return sizes[0], sizes[-1]
