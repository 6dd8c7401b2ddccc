"""What a container, SLURM or ``ulimit`` leaves of a machine counts as what there is of it."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import torch

import hessscope as hs
from hessscope.errors import MemoryLimitError
from hessscope.limits import available_cores, free_memory
from hessscope.pipeline.problems import out_of_memory
from hessscope.pipeline.repeats import threads

MB = 10**6


@contextmanager
def soft_limit(kind: int, value: int) -> Iterator[None]:
    before, hard = resource.getrlimit(kind)
    resource.setrlimit(kind, (value, hard))
    try:
        yield
    finally:
        resource.setrlimit(kind, (before, hard))


def machine(root: Path, groups: str, files: dict[str, str]) -> Path:
    """A folder that looks like a machine's, with its cgroups."""
    for name, text in {"proc/self/cgroup": groups, **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


V2 = "0::/slurm/job_7/step_0\n"
V1 = "4:memory:/docker/abc\n1:cpu,cpuacct:/docker/abc\n0::/\n"


@pytest.mark.parametrize(
    ("groups", "files", "expected"),
    [
        # The job's own limit is tighter than the step's; cached files do not count.
        (
            V2,
            {
                "sys/fs/cgroup/slurm/job_7/step_0/memory.max": "max\n",
                "sys/fs/cgroup/slurm/job_7/memory.max": f"{500 * MB}\n",
                "sys/fs/cgroup/slurm/job_7/memory.current": f"{300 * MB}\n",
                "sys/fs/cgroup/slurm/job_7/memory.stat": f"anon 5\ninactive_file {40 * MB}\n",
                "sys/fs/cgroup/slurm/memory.max": f"{900 * MB}\n",
                "sys/fs/cgroup/slurm/memory.current": f"{310 * MB}\n",
            },
            240 * MB,
        ),
        # In a container the host's path is not there, only the top.
        (
            V1,
            {
                "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{400 * MB}\n",
                "sys/fs/cgroup/memory/memory.usage_in_bytes": f"{100 * MB}\n",
                "sys/fs/cgroup/memory/memory.stat": f"total_inactive_file {30 * MB}\n",
            },
            330 * MB,
        ),
        # More is taken than allowed: nothing is left, and no number below zero.
        (
            "0::/\n",
            {
                "sys/fs/cgroup/memory.max": f"{100 * MB}\n",
                "sys/fs/cgroup/memory.current": f"{200 * MB}\n",
            },
            0,
        ),
    ],
    ids=["v2", "v1 in a container", "exceeded"],
)
def test_memory_of_cgroups(
    tmp_path: Path, groups: str, files: dict[str, str], expected: int
) -> None:
    assert free_memory(machine(tmp_path, groups, files)) == expected


def test_without_limits_the_machine_decides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unlimited = {
        "sys/fs/cgroup/memory.max": "max\n",
        "sys/fs/cgroup/memory.current": "5\n",
        "sys/fs/cgroup/cpu.max": "max 100000\n",
        "sys/fs/cgroup/cpu/docker/abc/cpu.cfs_quota_us": "-1\n",
        "sys/fs/cgroup/cpu/docker/abc/cpu.cfs_period_us": "100000\n",
    }
    system = psutil.virtual_memory()
    monkeypatch.setattr(psutil, "virtual_memory", lambda: system)
    root = machine(tmp_path, V1, unlimited)
    assert free_memory(root) == system.available
    assert available_cores(root) == len(os.sched_getaffinity(0))
    assert free_memory(tmp_path / "nothing there") == system.available


@pytest.mark.parametrize(
    ("groups", "files", "cores"),
    [
        (V2, {"sys/fs/cgroup/slurm/job_7/cpu.max": "100000 100000\n"}, 1),
        (V2, {"sys/fs/cgroup/slurm/cpu.max": "50000 100000\n"}, 1),
        (V2, {"sys/fs/cgroup/cpu.max": "250000 100000\n"}, 3),
        (
            V1,
            {
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "200000\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            2,
        ),
    ],
)
def test_cores_by_quota(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    groups: str,
    files: dict[str, str],
    cores: int,
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)))
    assert available_cores(machine(tmp_path, groups, files)) == cores


@pytest.mark.parametrize(
    ("kind", "used"), [(resource.RLIMIT_AS, "vms"), (resource.RLIMIT_DATA, "data")]
)
def test_ulimit_counts_as_memory(kind: int, used: str) -> None:
    """The matrix of 6,000 rows takes 288 MB; 200 MB are left, and 80 % of them may be used."""
    taken = getattr(psutil.Process().memory_info(), used)
    with soft_limit(kind, taken + 200 * MB):
        assert 100 * MB < free_memory() <= 201 * MB
        with pytest.raises(MemoryLimitError, match=r"needs 288 MB, and 1\d\d MB of what is free"):
            hs.ExactBackend().check_memory(6000, torch.float64, torch.device("cpu"))


def test_memory_that_gives_out_is_recognised() -> None:
    taken = psutil.Process().memory_info().vms
    with (
        soft_limit(resource.RLIMIT_AS, taken + 200 * MB),
        pytest.raises(RuntimeError, match="allocate memory") as caught,
    ):
        torch.zeros(10**9)
    assert out_of_memory(caught.value)
    assert not out_of_memory(RuntimeError("shapes do not match"))


def test_no_more_threads_than_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hessscope.pipeline.repeats.available_cores", lambda: 1)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with threads(None):
            assert torch.get_num_threads() == 1
        with threads(2):  # what an earlier run had: the same bits
            assert torch.get_num_threads() == 2
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
