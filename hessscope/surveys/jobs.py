"""One search, as it runs in a worker: from a start to the record of where it ended."""

from __future__ import annotations

import functools
import pickle
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from hessscope import records
from hessscope.errors import HessscopeError
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
