"""How time and memory grow: with examples, parameters, Lanczos steps and probes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

import hessscope as hs
from benchmarks import measuring, problems
from hessscope.linalg.lanczos import gaussian, lanczos
from hessscope.linalg.lapack import eigenvalues_in_place
from hessscope.operators.plan import Plan

Point = tuple[float, int]
_VECTORS = 16
# Okabe and Ito's colours, which stay apart for colour-blind readers.
_BLUE, _ORANGE = "#0072B2", "#D55E00"


def _best(work: Callable[[], Any], repeats: int = 3) -> float:
    return min(measuring.clock(work)[0] for _ in range(repeats))


def examples(count: int) -> Point:
    """A block of products through the kept graph, MLP 784-25-10, against N."""
    stream = torch.Generator().manual_seed(0)
    x = torch.rand(count, 784, generator=stream)
    y = torch.randint(0, 10, (count,), generator=stream)
    risk = hs.EmpiricalRisk(problems.mlp(), (x, y), dtype="float32", device="cpu")
    before = measuring.peak_bytes()
    hessian = hs.HessianOperator(risk, plan=Plan("graph", _VECTORS, None, True))
    block = torch.randn(hessian.shape[0], _VECTORS)
    hessian.apply(block)
    return _best(lambda: hessian.apply(block)), measuring.peak_bytes() - before


def parameters(n: int) -> Point:
    """All eigenvalues of a symmetric matrix in float64, against n."""
    matrix = np.random.default_rng(0).standard_normal((n, n))
    matrix += matrix.T
    before = measuring.peak_bytes() - matrix.nbytes
    return _best(lambda: eigenvalues_in_place(matrix), 1), measuring.peak_bytes() - before


def _lanczos(n: int, steps: int, probes: int) -> Point:
    """Lanczos of a diagonal matrix, the products of which cost next to nothing."""
    diagonal = torch.linspace(-1, 1, n, dtype=torch.float64)[:, None]
    starts = gaussian(n, probes, 0, dtype=torch.float64, device=torch.device("cpu"))
    before = measuring.peak_bytes()

    def run() -> None:
        lanczos(lambda v: diagonal * v, starts, steps)

    return _best(run, 1), measuring.peak_bytes() - before


def steps(count: int) -> Point:
    """Reorthogonalisation against steps k, n = 50,000, one probe."""
    return _lanczos(50_000, count, 1)


def probes(count: int) -> Point:
    """Reorthogonalisation against probes, n = 50,000, 50 steps."""
    return _lanczos(50_000, 50, count)


# Name: what grows, what is measured, sizes, exponents of time and memory by the plain law.
SWEEPS: dict[str, tuple[Callable[[int], Point], str, tuple[int, ...], tuple[int, int]]] = {
    "examples N": (examples, "16 products", (1250, 2500, 5000, 10000, 20000), (1, 1)),
    "parameters n": (parameters, "eigenvalues", (500, 1000, 2000, 4000), (3, 2)),
    "Lanczos steps k": (steps, "reorthogonalisation", (50, 100, 200, 400), (2, 1)),
    "probes p": (probes, "reorthogonalisation", (2, 4, 8, 16), (1, 1)),
}


def exponent(sizes: list[int], values: list[float]) -> float:
    """Slope in logarithms over the larger half, where constant costs weigh less."""
    half = len(sizes) // 2 if len(sizes) > 3 else 0
    return float(np.polyfit(np.log(sizes[half:]), np.log(np.maximum(values[half:], 1e-9)), 1)[0])


def growth() -> dict[str, Any]:
    """Measure every sweep, each point in a process of its own."""
    result: dict[str, Any] = {"sweeps": {}, "machine": measuring.machine()}
    for name, (function, work, sizes, laws) in SWEEPS.items():
        used = list(sizes)
        points = [measuring.isolated(function, size) for size in used]
        seconds, memory = [p[0] for p in points], [float(p[1]) for p in points]
        result["sweeps"][name] = {
            "work": work,
            "sizes": used,
            "seconds": seconds,
            "bytes": memory,
            "laws": list(laws),
            "fits": [exponent(used, seconds), exponent(used, memory)],
        }
    return result


def _short(size: float) -> str:
    """1250 as 1.25k."""
    return f"{size / 1000:g}k" if size >= 1000 else f"{size:g}"


def draw(result: dict[str, Any], path: Path) -> None:
    """Time above and memory below, one column for each sweep, the plain law dashed."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.ticker import FuncFormatter, LogLocator

    sweeps = result["sweeps"]
    with plt.rc_context({"font.size": 8, "axes.spines.top": False, "axes.spines.right": False}):
        figure, axes = plt.subplots(2, len(sweeps), figsize=(7.0, 3.6), layout="constrained")
        for column, (name, sweep) in enumerate(sweeps.items()):
            sizes = np.array(sweep["sizes"], dtype=float)
            letter = name.split()[-1]
            for row, (values, scale) in enumerate(((sweep["seconds"], 1.0), (sweep["bytes"], 1e6))):
                axis, law = axes[row, column], sweep["laws"][row]
                shown = np.array(values) / scale
                power = letter if law == 1 else f"{letter}^{law}"
                axis.plot(
                    sizes,
                    shown[-1] * (sizes / sizes[-1]) ** law,
                    "--",
                    color=_ORANGE,
                    label=f"law: ${power}$",
                )
                axis.plot(
                    sizes, shown, "o-", ms=4, color=_BLUE, label=f"fit: {sweep['fits'][row]:.2f}"
                )
                axis.set_xscale("log", base=2)
                axis.set_yscale("log")
                marked = sizes[:: 2 if len(sizes) > 4 else 1]
                axis.set_xticks(marked, [_short(size) for size in marked])
                axis.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=5))
                axis.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:,g}"))
                axis.minorticks_off()
                axis.legend(frameon=False, loc="lower right", handlelength=1.6)
                if row == 0:
                    axis.set_title(sweep["work"], fontsize=8)
                else:
                    axis.set_xlabel(name)
        axes[0, 0].set_ylabel("time [s]")
        axes[1, 0].set_ylabel("peak memory [MB]")
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=200)
        plt.close(figure)
