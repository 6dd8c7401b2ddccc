"""The exact Hessian of a fully connected network, beside the floor and beside products."""

from __future__ import annotations

import time
from typing import Any

import torch

import hessscope as hs
from benchmarks import measuring, problems
from hessscope.operators.plan import Plan


class Assembled:
    """An operator whose matrix has been assembled, so that a backend does not do it again."""

    def __init__(self, hessian: hs.HessianOperator, matrix: torch.Tensor) -> None:
        self._hessian, self._matrix = hessian, matrix
        self.shape, self.dtype, self.device = hessian.shape, hessian.dtype, hessian.device
        self.apply, self.recomputed = hessian.apply, hessian.recomputed

    @property
    def hvps(self) -> int:
        """Of the operator itself."""
        return self._hessian.hvps

    def to_dense(self, progress: Any = None, saved: Any = None) -> torch.Tensor:
        """The matrix, which will be overwritten."""
        return self._matrix


def assembly(
    count: int,
    root: str | None,
    columns: int,
    hidden: int = 25,
    inputs: int | None = None,
    rate_size: int = 4096,
) -> dict[str, Any]:
    """Assemble, compare with products, and compute all eigenvalues.

    Args:
        count: images.
        root: folder with MNIST; None for the images of the tests.
        columns: how many columns are computed by batched products too; scaled to all.
        hidden: units of the hidden layer.
        inputs: only so many pixels, from the middle of the image; default all.
        rate_size: rows of the matrix product that measures the machine.
    """
    x, y, words = problems.mnist(count, root)
    if inputs is not None:
        start = (x.shape[1] - inputs) // 2
        x = x[:, start : start + inputs]
    model = problems.mlp(x.shape[1], hidden)
    rates = [measuring.product_rate(torch.float64, rate_size)]
    hessian = hs.HessianOperator(hs.EmpiricalRisk(model, (x, y), device="cpu"))
    n = hessian.shape[0]
    whole = time.perf_counter()
    matrix: torch.Tensor | None = None

    def assemble() -> None:
        nonlocal matrix
        matrix = hessian.to_dense()

    wall, cpu = measuring.clock(assemble)
    assembly_peak = measuring.peak_bytes()
    paused = time.perf_counter()
    rates.append(measuring.product_rate(torch.float64, rate_size))
    assert matrix is not None

    # The default batches of the objective, 16 vectors at a time, graphs kept.
    other = hs.HessianOperator(hessian.objective, plan=Plan("graph", 16, None, True))
    other.apply(torch.randn(n, 16, dtype=torch.float64))  # makes the graphs
    at = torch.linspace(0, n - 1, columns).long()
    units = torch.zeros(n, columns, dtype=torch.float64)
    units[at, torch.arange(columns)] = 1
    difference, products = 0.0, [0.0, 0.0]
    for start in range(0, columns, 64):
        block = units[:, start : start + 64]
        clock = time.perf_counter(), time.process_time()
        result = other.apply(block)
        products[0] += time.perf_counter() - clock[0]
        products[1] += time.process_time() - clock[1]
        gap = (result - matrix[:, at[start : start + 64]]).abs().max()
        difference = max(difference, float(gap))
    largest = float(matrix.abs().max())
    del other, units
    paused = time.perf_counter() - paused

    began = time.perf_counter()
    hs.ExactBackend().solve(Assembled(hessian, matrix))
    features = x.shape[1] + 1
    flops = hidden * (hidden + 1) / 2 * count * features**2
    rate = sum(rates) / len(rates)
    return {
        "what": f"MLP {x.shape[1]}-{hidden}-10 ReLU, {words}, float64, n = {n:,}",
        "n": n,
        "full": n == 19_885 and len(x) == 60_000,
        "rates": rates,
        "floor": flops / rate,
        "assembly": wall,
        "assembly_cpu": cpu,
        "columns": columns,
        "products": products[0] / columns * n,
        "products_cpu": products[1] / columns * n,
        "difference": difference,
        "largest": largest,
        "eigenvalues": time.perf_counter() - began,
        "total": time.perf_counter() - whole - paused,
        "assembly_peak": assembly_peak,
        "peak": measuring.peak_bytes(),
        "machine": measuring.machine(),
    }
