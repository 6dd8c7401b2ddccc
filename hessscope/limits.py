"""Memory and cores that this process may use, within limits of containers and of the shell."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import math
import os
from collections.abc import Iterator
from pathlib import Path

import psutil

_ROOT = Path("/")
_LARGE = 2e9


def free_memory(root: Path = _ROOT) -> int:
    """Bytes of main memory that this process may still take.

    The least of what the machine has, of what each cgroup above the process leaves (version 1 and
    2; containers, SLURM), and of what ``ulimit -v`` and ``ulimit -d`` leave.

    Args:
        root: folder in which ``proc`` and ``sys`` are.
    """
    left = (psutil.virtual_memory().available, *_left_of_cgroups(root), *_left_of_limits())
    return max(0, min(map(int, left)))


def resident_memory() -> int:
    """Bytes of main memory that this process holds.

    In a large process tensors in cycles of objects are freed before (1.9 GB after the checks of
    GPT-2), and what malloc keeps of freed ones for later is given back (glibc only). In a small
    one this takes longer than the work that is planned, for memory that does not matter.
    """
    process = psutil.Process()
    if process.memory_info().rss > _LARGE:
        gc.collect()
        with contextlib.suppress(AttributeError, OSError, TypeError):
            ctypes.CDLL(None).malloc_trim(0)
    return int(process.memory_info().rss)


def available_cores(root: Path = _ROOT) -> int:
    """Cores that this process may use: by its affinity, and by the CPU quotas of its cgroups.

    A quota of one and a half cores counts as two.

    Args:
        root: folder in which ``proc`` and ``sys`` are.
    """
    affine = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, min((affine or 1, *(math.ceil(quota) for quota in _quotas(root)))))


def _left_of_limits() -> Iterator[int]:
    process = psutil.Process()
    if hasattr(process, "rlimit"):  # on Linux; elsewhere such limits are not enforced
        taken = process.memory_info()
        for limit, used in ((psutil.RLIMIT_AS, taken.vms), (psutil.RLIMIT_DATA, taken.data)):
            most, _ = process.rlimit(limit)
            if most != psutil.RLIM_INFINITY:
                yield most - used


def _left_of_cgroups(root: Path) -> Iterator[int]:
    for folder in _cgroups(root, "memory"):
        for most, used, cache in (
            ("memory.max", "memory.current", "inactive_file"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ):
            limit, taken = _numbers(folder / most), _numbers(folder / used)
            if limit and taken:
                # What is only cached from files is given back when it is needed.
                stat = dict(line.split()[:2] for line in _lines(folder / "memory.stat"))
                yield int(limit[0] - taken[0] + float(stat.get(cache, 0)))


def _quotas(root: Path) -> Iterator[float]:
    """CPU quotas in cores; groups without one are left out."""
    for folder in _cgroups(root, "cpu"):
        both = _numbers(folder / "cpu.max")
        both = both or _numbers(folder / "cpu.cfs_quota_us") + _numbers(
            folder / "cpu.cfs_period_us"
        )
        if len(both) == 2 and both[0] > 0 and both[1] > 0:
            yield both[0] / both[1]


def _cgroups(root: Path, controller: str) -> Iterator[Path]:
    """Folders of the process's own cgroup and of those above it, where they are visible.

    In a container ``/proc/self/cgroup`` may name the host's path, of which only the top is there.
    """
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, path = line.split(":", 2)
        top = root / "sys/fs/cgroup"
        if controllers:  # version 1
            if controller not in controllers.split(","):
                continue
            top /= controller
        own = top / path.lstrip("/")
        for folder in (own, *own.parents):
            yield folder
            if folder == top:
                break


def _numbers(path: Path) -> list[float]:
    """The numbers in a file; none where it says "max", is missing or cannot be read."""
    words = " ".join(_lines(path)).split()
    return [float(word) for word in words] if "max" not in words else []


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except (OSError, ValueError):
        return []
