"""Local processes as an ``Executor``, in which a process that dies loses only its own call."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from hessscope.errors import NoWorkerError, WorkerError

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
