"""Exact or Lanczos: by what fits in memory and by the time it would take."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch

from hessscope.backends.exact import ExactBackend
from hessscope.errors import MemoryLimitError
from hessscope.operators import HessianOperator

REASONABLE_SECONDS = 900.0
_ALWAYS_EXACT = 1000
_SAMPLE = 1000


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


def choose_backend(hessian: HessianOperator, exact: ExactBackend) -> BackendChoice:
    """Choose exact where it fits in the memory and takes at most 15 minutes.

    Cost: one block of products, and the eigenvalues of a 1000 x 1000 matrix.
    """
    n = hessian.shape[0]
    if n <= _ALWAYS_EXACT:
        return BackendChoice("exact", f"n = {n:,} is small", None)
    try:
        exact.check_memory(n, hessian.dtype, hessian.device)
    except MemoryLimitError as error:
        return BackendChoice("lanczos", str(error).split(";")[0], None)
    seconds = exact_seconds(hessian)
    words = f"exact is estimated at {duration(seconds)} for n = {n:,}"
    return BackendChoice("exact" if seconds <= REASONABLE_SECONDS else "lanczos", words, seconds)


def exact_seconds(hessian: HessianOperator) -> float:
    """Estimate the time of assembly and eigenvalues, by measuring a little of both."""
    n, vectors = hessian.shape[0], hessian.plan.vectors
    block = torch.ones(n, vectors, dtype=hessian.dtype, device=hessian.device)
    hessian.apply(block)  # prepares what is held
    start = time.perf_counter()
    hessian.apply(block)
    products = (time.perf_counter() - start) * n / vectors
    sample = torch.eye(_SAMPLE, dtype=hessian.dtype, device=hessian.device)
    sample += 0.01 * torch.arange(_SAMPLE, dtype=hessian.dtype, device=hessian.device).outer(
        torch.ones(_SAMPLE, dtype=hessian.dtype, device=hessian.device)
    )
    sample = sample + sample.T
    start = time.perf_counter()
    torch.linalg.eigvalsh(sample).sum().item()
    return products + (time.perf_counter() - start) * (n / _SAMPLE) ** 3


def duration(seconds: float) -> str:
    """Seconds in words: "42 s", "7 min", "3.1 h"."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
