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
from hessscope.objective import EmpiricalRisk, Objective
from hessscope.operators import Plan
from hessscope.records import Record
from hessscope.refinement import CriticalPoint, SearchOptions, Strategy
from hessscope.refinement.finder import conclude
from hessscope.refinement.search import first_state, run
from hessscope.spectra import Spectrum

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
        attributes: what the record says beside the result.
    """

    make: bytes
    start: torch.Tensor
    options: SearchOptions
    plan: Plan | None
    threads: int
    attributes: Mapping[str, Any]


def search(job: Job) -> Record:
    """Search from the start, and give the record; an error is a record with status "failed".

    What is not an ``Exception`` (the process is told to end) goes through.
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
        **point_facts(point, objective),
        "torch_threads": job.threads,
        "provenance": records.provenance(),
    }
    record = point.to_record(attributes)
    return replace(record, arrays={**record.arrays, "start_parameters": job.start.numpy()})


def point_facts(point: CriticalPoint, objective: Objective) -> dict[str, Any]:
    """Numbers of a critical point under the names that tables of records look for."""
    facts: dict[str, Any] = {
        "parameters": len(point.parameters),
        "loss": point.loss,
        "gradient_norm": point.gradient_norm,
        "gradient_norm_start": point.gradient_norm_start,
        "gradient_flatness": point.certificate.flatness,
        "iterations": point.iterations,
        "parameter_norm": float(torch.linalg.vector_norm(point.parameters)),
    }
    if point.criticality is not None:
        facts["gradient_floor"] = point.criticality.gradient_floor
    if point.inertia is not None:
        inertia = point.inertia
        facts |= {
            **inertia.as_dict(),
            "alpha": inertia.index_fraction,
            "tolerance": inertia.tolerance,
            "noise_floor": inertia.noise_floor,
        }
    if point.spectrum is not None:
        facts |= {
            "backend": point.spectrum.options["backend"],
            "lambda_min": point.spectrum.lambda_min,
            "lambda_max": point.spectrum.lambda_max,
        }
        if isinstance(point.spectrum, Spectrum):
            facts["trace"] = point.spectrum.trace
    if isinstance(objective, EmpiricalRisk) and np.isfinite(point.loss):
        facts["accuracy"] = objective.evaluate(point.parameters).accuracy
        facts["weight_norm"] = _weight_norm(objective, point.parameters)
    return facts


def _weight_norm(risk: EmpiricalRisk, theta: torch.Tensor) -> float:
    """Norm of all weights but the biases; zero where the output does not depend on the input."""
    parts = [
        theta[where]
        for (_, where), shape in zip(risk.layout.slices().items(), risk.layout.shapes, strict=True)
        if len(shape) >= 2
    ]
    return float(torch.linalg.vector_norm(torch.cat(parts))) if parts else 0.0
