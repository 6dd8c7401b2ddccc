"""The store of a spectrum's job: its plan, the states of its backend and its result."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
from pathlib import Path

import torch

import hessscope
from hessscope.operators import ObjectiveOperator
from hessscope.pipeline.problems import OpenedProblem
from hessscope.pipeline.repeats import RepeatedPlan
from hessscope.pipeline.spectrum_requests import SpectrumRequest
from hessscope.records import Record, Store
from hessscope.spectra import SpectralDensity, Spectrum

_PLAN, _RESULT = "plan", "result"


def savepoint(request: SpectrumRequest, opened: OpenedProblem) -> Store:
    """The store of this job, beside its record; one that saves nothing where none is to be made.

    It is named by everything that decides the result, so that only the same job finds it: the
    contents of checkpoint and data, loss, the code of network and loss, matrix, backends and
    versions.
    """
    if request.out is None or not request.save_every:
        return Store()
    risk = opened.risk
    job = {
        "checkpoint": opened.checkpoint.sha256,
        "architecture": opened.checkpoint.architecture,
        "data": opened.data.fingerprint,
        "loss": risk.loss.name,
        "code": dict(opened.code),
        "l2": risk.l2,
        "dtype": str(risk.dtype),
        "device": str(risk.device),
        "view": dataclasses.asdict(request.view),
        "backend": request.backend,
        "exact": dataclasses.asdict(request.exact),
        "sampled": dataclasses.asdict(request.sampled),
        "zero rule": str(request.zero_rule),
        "plan": str(request.plan),
        "versions": [hessscope.__version__, torch.__version__],
    }
    digest = hashlib.sha256(json.dumps(job, sort_keys=True, default=str).encode()).hexdigest()
    name = f"{Path(request.problem.checkpoint).stem}.{digest[:10]}.partial"
    return Store(request.out.parent / name, request.save_every)


def noted_plan(saved: Store) -> RepeatedPlan | None:
    """What an earlier try of the same job decided by measuring; None where there was none.

    States whose plan is not known are not resumed: the rest would have other bits.
    """
    if saved.folder is None or not saved.folder.is_dir():
        return None
    with contextlib.suppress(LookupError, TypeError, ValueError):
        if (noted := saved.record(_PLAN)) is not None:
            return RepeatedPlan.from_attributes(saved.folder, noted.attributes)
    if any(saved.folder.glob("*.npz")):
        saved.set_aside("how products were computed is not known")
    return None


def note_plan(
    saved: Store,
    operator: ObjectiveOperator,
    backend: str,
    together: int | None,
) -> None:
    """Store what was decided by measuring, so that a resumed run gives the same bits."""

    def plan() -> Record:
        facts = {
            "backend": backend,
            "plan": operator.plan.as_dict(),
            "configuration": {"together": together},
            "torch_threads": torch.get_num_threads(),
            "parameters": operator.shape[0],
        }
        return Record("plan", {}, facts)

    saved.note(_PLAN, plan)


def finished(saved: Store) -> Spectrum | SpectralDensity | None:
    """The spectrum that an earlier try of the same job had computed; None where there is none."""
    record = saved.record(_RESULT)
    if record is None:
        return None
    kind = Spectrum if record.kind == "spectrum" else SpectralDensity
    return kind.from_record(record)


def keep_finished(saved: Store, result: Spectrum | SpectralDensity) -> None:
    """Keep the spectrum, so that nothing after it can lose it."""
    saved.keep(_RESULT, result.to_record)
