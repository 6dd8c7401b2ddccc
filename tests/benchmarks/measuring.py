"""Times, peak memory, and what machine they were taken on."""

from __future__ import annotations

import multiprocessing
import os
import platform
import resource
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch


@dataclass
class Times:
    """Repeated timings of one piece of work, per vector.

    Attributes:
        wall: seconds by the clock.
        cpu: seconds of all of the process's threads together.
    """

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def summary(self) -> dict[str, float]:
        """Median and quartiles of the clock, median of the processors."""
        low, middle, high = statistics.quantiles(self.wall, n=4, method="inclusive")
        return {
            "median": middle,
            "low": low,
            "high": high,
            "cpu": statistics.median(self.cpu),
        }


def clock(work: Callable[[], Any]) -> tuple[float, float]:
    """Seconds by the clock and of the processors that one call takes."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - wall, time.process_time() - cpu


def interleaved(
    work: dict[str, tuple[Callable[[], Any], int]], repeats: int
) -> dict[str, dict[str, float]]:
    """Time pieces of work in turn, so that a disturbance meets all of them alike.

    Args:
        work: for each name a function and the number of vectors it multiplies.
        repeats: rounds, after one to warm up; at least 2.
    """
    times = {name: Times() for name in work}
    for function, _ in work.values():
        function()
    for _ in range(repeats):
        for name, (function, vectors) in work.items():
            wall, cpu = clock(function)
            times[name].wall.append(wall / vectors)
            times[name].cpu.append(cpu / vectors)
    return {name: measured.summary() for name, measured in times.items()}


def product_rate(dtype: torch.dtype, size: int, repeats: int = 3) -> float:
    """Floating-point operations a second of a square matrix product."""
    a, b = torch.randn(size, size, dtype=dtype), torch.randn(size, size, dtype=dtype)
    torch.mm(a, b)
    seconds = statistics.median(clock(lambda: torch.mm(a, b))[0] for _ in range(repeats))
    return 2 * size**3 / seconds


def peak_bytes() -> int:
    """Largest resident memory of this process so far."""
    status = Path("/proc/self/status")
    if status.exists():
        # Unlike getrusage, this starts anew in a child process.
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    unit = 1 if platform.system() == "Darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def isolated(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function of a module in a process of its own, so that its peak memory is its own."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(function, arguments)


def machine() -> dict[str, Any]:
    """Processor, cores, versions, date and load."""
    cpu = platform.processor() or platform.machine()
    listing = Path("/proc/cpuinfo")
    if listing.exists():
        names = [x for x in listing.read_text().splitlines() if x.startswith("model name")]
        cpu = names[0].split(":")[1].strip() if names else cpu
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "load": [round(x, 2) for x in os.getloadavg()],
    }
