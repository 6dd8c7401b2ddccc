"""Options of ``hs.Watch``."""

from __future__ import annotations

from dataclasses import KW_ONLY, MISSING, dataclass
from pathlib import Path
from typing import Any

from hessscope.options.fields import NETWORK, OUTPUT, Options, number, option, under, whole
from hessscope.options.setting import Memory

_network = under(NETWORK)


def _share(value: Any) -> float:
    found = float(value)
    if not 0 < found <= 1:
        raise ValueError("give a part of the time, above 0 and at most 1, such as 0.05")
    return found


def _table(value: Any) -> Path:
    path = Path(value)
    if path.suffix not in (".csv", ".jsonl"):
        raise ValueError("give a name that ends in .csv or .jsonl")
    return path


@dataclass(frozen=True)
class WatchOptions(Memory, Options):
    """What ``hs.Watch`` is asked for."""

    model: Any = _network(MISSING, "The network that is trained; it is only read.")
    data: Any = _network(
        MISSING,
        "Examples whose mean loss is looked at, as hs.EmpiricalRisk takes them.",
    )
    loss: Any = _network("cross_entropy", "As for hs.EmpiricalRisk.")
    _: KW_ONLY
    optimizer: Any = _network(
        None, "The optimizer that trains it, of which the threshold is. The callbacks know it."
    )
    every: int = option(
        100, "Measure after every N steps, and after the first one.", "N", read=whole(1)
    )
    share: float = option(
        0.05,
        "Largest part of the time since the first step; what does not fit is left out.",
        "X",
        read=_share,
    )
    tolerance: float | None = option(
        None, "The index counts eigenvalues below −X. Default: 2δ of each reading.", "X",
        read=number(0),
    )  # fmt: skip
    steps: int = option(20, "Lanczos steps, a product with the Hessian each.", "N", read=whole(1))
    confidence: float = option(
        0.95, "Confidence of the intervals.", "X", read=number(0, above=True)
    )
    seed: int = option(0, "Root of the start vectors' random streams.", "N", read=whole())
    dtype: str | None = option(
        None,
        "float32 or float64. Default: float64 where weights have it, else float32.",
        "TYPE",
    )
    batch_size: int | None = option(
        None, "Examples at a time. Default: by the memory that one takes.", "N", read=whole(1)
    )
    file: str | Path | None = option(
        None, "Where each reading goes at once, too: a new .csv or .jsonl.", "FILE", OUTPUT,
        read=_table,
    )  # fmt: skip
