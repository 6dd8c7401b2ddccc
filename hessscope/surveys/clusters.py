"""Dask clusters as an ``Executor``."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager

from hessscope.errors import NoWorkerError, OptionError


@contextmanager
def connect_dask(address: str, timeout: float = 30.0) -> Iterator[tuple[Executor, int]]:
    """Connect to a scheduler; give its executor and the number of calls that it runs at once.

    A search whose worker dies is run again by the scheduler on another one, up to its
    ``allowed-failures``. Workers need the same version of hessscope, and the data under the same
    path. Workers with one thread each compute fastest.

    Args:
        address: such as ``tcp://10.0.0.1:8786``.
        timeout: seconds to wait for the scheduler and for its first worker.

    Raises:
        OptionError: Dask is not installed.
        NoWorkerError: no scheduler answers, or it has no workers.
    """
    try:
        import distributed
    except ImportError as error:
        raise OptionError(
            f"the scheduler {address} needs Dask: pip install 'hessscope[dask]'"
        ) from error
    try:
        client = distributed.Client(address, timeout=timeout, set_as_default=False)
    except (OSError, ValueError, TimeoutError) as error:
        raise NoWorkerError(
            f"no Dask scheduler answers at {address} within {timeout:g} s ({error}); start one "
            "with dask scheduler, or leave out `scheduler`"
        ) from error
    try:
        try:
            client.wait_for_workers(1, timeout=timeout)
        except TimeoutError as error:
            raise NoWorkerError(
                f"the Dask scheduler at {address} has no workers; start some with dask worker "
                f"{address}"
            ) from error
        threads = sum(client.nthreads().values())
        yield client.get_executor(pure=False), max(1, threads)
    finally:
        client.close()
