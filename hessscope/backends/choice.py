"""Exact or Lanczos: by what fits in memory and by the time it would take."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from hessscope.backends.exact import ExactBackend
from hessscope.errors import MemoryLimitError
from hessscope.operators import ObjectiveOperator

REASONABLE_SECONDS = 900.0
_ALWAYS_EXACT = 1000
# Large enough that blocked algorithms reach their speed; 1,000 rows would overestimate threefold.
_SAMPLE = 2000


@dataclass(frozen=True)
class BackendChoice:
    """Which backend, and why.

    Attributes:
        name: "exact" or "lanczos".
        reason: in words, with the time or memory that the exact spectrum would take.
        exact_seconds: estimated; None where it was not needed.
    """

    name: str
    reason: str
    exact_seconds: float | None


def choose_backend(operator: ObjectiveOperator, exact: ExactBackend) -> BackendChoice:
    """Choose exact where it fits in the memory and takes at most 15 minutes.

    Cost: two blocks of products where products are needed, and the eigenvalues of a matrix of
    2000 rows, twice.
    """
    n = operator.shape[0]
    if n <= _ALWAYS_EXACT:
        return BackendChoice("exact", f"n = {n:,} is small", None)
    try:
        exact.check_memory(n, operator.dtype, operator.device)
    except MemoryLimitError as error:
        return BackendChoice("lanczos", str(error).split(": ")[0], None)
    seconds = exact_seconds(operator)
    words = f"exact is estimated at {duration(seconds)} for n = {n:,}"
    return BackendChoice("exact" if seconds <= REASONABLE_SECONDS else "lanczos", words, seconds)


def exact_seconds(operator: ObjectiveOperator) -> float:
    """Estimate the time of assembly and eigenvalues, by measuring a little of each."""
    n, assembly = operator.shape[0], operator.assembly
    sample = torch.ones(_SAMPLE, _SAMPLE, dtype=operator.dtype, device=operator.device)
    sample += torch.diag(torch.arange(_SAMPLE, dtype=operator.dtype, device=operator.device))
    multiplying = _time(lambda: sample @ sample) / (2 * _SAMPLE**3)
    seconds = multiplying * assembly.flops
    if len(assembly.others):
        vectors = operator.plan.vectors
        block = torch.ones(n, vectors, dtype=operator.dtype, device=operator.device)
        seconds += _time(lambda: operator.apply(block)) * len(assembly.others) / vectors
    solving = _time(lambda: torch.linalg.eigvalsh(sample))
    return seconds + solving * (n / _SAMPLE) ** 3


def _time(work: Callable[[], torch.Tensor]) -> float:
    """Seconds of the faster of two runs, since other programs only ever make it slower."""
    times = []
    for _ in range(2):
        start = time.perf_counter()
        float(work().sum())
        times.append(time.perf_counter() - start)
    return min(times)


def duration(seconds: float) -> str:
    """Seconds in words: "42 s", "7 min", "3.1 h"."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
