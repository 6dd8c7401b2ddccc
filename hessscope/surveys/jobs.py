"""Searches as they run in worker processes."""

from __future__ import annotations

import functools
import multiprocessing
import os
import pickle
import signal
import threading
import traceback
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from hessscope import records
from hessscope.errors import HessscopeError, NoWorkerError, WorkerError
from hessscope.objective import Objective
from hessscope.operators import Plan
from hessscope.records import Record
from hessscope.refinement import CriticalPoint, SearchOptions, Strategy
from hessscope.refinement.finder import conclude
from hessscope.refinement.search import first_state, run

FAILED = "failed"


@dataclass(frozen=True)
class Job:
    """What a worker needs; it is sent there.

    Attributes:
        make: pickled function without arguments that gives the objective. It is called once in
            each process for all jobs that carry the same bytes.
        start: θ, shape (n,).
        options: of the search.
        plan: how Hessian-vector products are computed, the same for all searches.
        threads: of this process.
        attributes: of the record, beside the result.
    """

    make: bytes
    start: torch.Tensor
    options: SearchOptions
    plan: Plan | None
    threads: int
    attributes: Mapping[str, Any]


def search(job: Job) -> Record:
    """Search from the start, and give the record; an error is a record with status "failed".

    What is not an ``Exception`` (the process has to end) is not caught.
    """
    torch.set_num_threads(job.threads)
    try:
        with threadpool_limits(job.threads):
            objective = _problem(job.make)
            state = replace(first_state(objective, job.start), plan=job.plan)
            # The study checked the objective when it made the plan.
            state = run(objective, job.options, state, check=job.plan is None)
            point = conclude(objective, job.options, state)
            return _record(objective, point, job)
    except Exception as error:
        return failure(job, error)


def failure(job: Job, error: BaseException) -> Record:
    """The record of a search that did not end: where it began and what went wrong."""
    message = (
        str(error) if isinstance(error, HessscopeError) else f"{type(error).__name__}: {error}"
    )
    trail = "".join(traceback.format_exception(error))[-4000:]
    attributes = {
        **job.attributes,
        "status": FAILED,
        "method": Strategy.of(job.options).method,
        "error_message": message,
        "traceback": trail,
        "provenance": records.provenance(),
    }
    return Record("critical point", {"start_parameters": job.start.numpy()}, attributes)


@functools.lru_cache(maxsize=2)
def _problem(make: bytes) -> Objective:
    """The objective, made once in a process."""
    factory: Callable[[], Objective] = pickle.loads(make)
    return factory()


def _record(objective: Objective, point: CriticalPoint, job: Job) -> Record:
    attributes = {
        **job.attributes,
        **_measures(objective, point),
        "parameter_names": list(objective.network.layout.names) if objective.network else None,
        "torch_threads": job.threads,
        "provenance": records.provenance(),
    }
    record = point.to_record(attributes)
    return replace(record, arrays={**record.arrays, "start_parameters": job.start.numpy()})


def _measures(objective: Objective, point: CriticalPoint) -> dict[str, Any]:
    """Accuracy, and the norm of all weights but the biases, of a network.

    Where that norm is zero the output does not depend on the input.
    """
    network, theta = objective.network, point.parameters
    if network is None or not np.isfinite(point.loss):
        return {}
    parts = [
        theta[where]
        for where, shape in zip(
            network.layout.slices().values(), network.layout.shapes, strict=True
        )
        if len(shape) >= 2
    ]
    norm = float(torch.linalg.vector_norm(torch.cat(parts))) if parts else 0.0
    return {"accuracy": network.evaluate(theta).accuracy, "weight_norm": norm}


T = TypeVar("T")

_STARTS = 3


class LocalProcesses(Executor):
    """Spawned processes, each in a pool of its own.

    In one ``ProcessPoolExecutor`` the death of a process breaks the whole pool, and nobody knows
    whose call it was. Here only that call fails, with a ``WorkerError``, and a new process takes
    the place of the dead one.

    Processes ignore Ctrl-C, which is for the program that waits for them; ``shutdown`` ends them.
    They also end when that program dies.

    Args:
        workers: number of processes.
    """

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="search")
        self._own = threading.local()
        self._lock = threading.Lock()
        self._pids: set[int] = set()
        self._closed = False

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Call in the next process that is free."""
        return self._threads.submit(self._call, fn, args, kwargs)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the processes; with ``cancel_futures`` at once, in the middle of their calls."""
        if cancel_futures:
            self._end_all()
        self._threads.shutdown(wait=wait, cancel_futures=cancel_futures)
        self._end_all()

    def _end_all(self) -> None:
        with self._lock:
            self._closed = True
            while self._pids:  # each once only: the system may give the number to another process
                _end(self._pids.pop())

    def _call(self, fn: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any]) -> T:
        pool = getattr(self._own, "pool", None) or self._start()
        try:
            return pool.submit(fn, *args, **kwargs).result()
        except BrokenProcessPool as error:
            with self._lock:
                self._pids.discard(self._own.pid)
            self._own.pool = None
            raise WorkerError(
                f"the process {self._own.pid} ended in the middle of its work: killed, or out of "
                "memory"
            ) from error

    def _start(self) -> ProcessPoolExecutor:
        for _ in range(_STARTS):
            pool = ProcessPoolExecutor(
                1, mp_context=multiprocessing.get_context("spawn"), initializer=_begin
            )
            try:
                pid = pool.submit(os.getpid).result()
            except BrokenProcessPool:
                continue
            with self._lock:
                if self._closed:
                    _end(pid)
                else:
                    self._pids.add(pid)
            self._own.pool, self._own.pid = pool, pid
            return pool
        raise NoWorkerError(
            "no process can be started; a script that begins a survey has to do so under "
            "if __name__ == '__main__':"
        )


def _begin() -> None:
    """In a new process: leave Ctrl-C to the parent, and do not outlive it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_follow, args=(parent,), daemon=True).start()


def _follow(parent: Any) -> None:
    parent.join()
    os._exit(1)


def _end(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGTERM)
    except OSError:  # it has ended by itself
        return
