"""Where the state of a spectrum is left while it is computed, found again by the same job."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import torch

import hessscope
from hessscope.operators import ObjectiveOperator
from hessscope.pipeline.problems import Opened
from hessscope.pipeline.repeats import RepeatedPlan
from hessscope.pipeline.spectrum_requests import SpectrumRequest
from hessscope.records import SavepointFolder

_PLAN = "plan"


def savepoint(request: SpectrumRequest, opened: Opened) -> SavepointFolder | None:
    """The folder of this job, beside its record; None where none is to be made.

    It is named by everything that decides the result, so that only the same job finds it: the
    contents of checkpoint and data, loss, the code of network and loss, matrix, backends and
    versions.
    """
    if request.out is None or not request.save_every:
        return None
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
        "target": None if request.target is None else dataclasses.asdict(request.target),
        "zero rule": str(request.zero_rule),
        "plan": str(request.plan),
        "versions": [hessscope.__version__, torch.__version__],
    }
    digest = hashlib.sha256(json.dumps(job, sort_keys=True, default=str).encode()).hexdigest()
    name = f"{Path(request.problem.checkpoint).stem}.{digest[:10]}.partial"
    return SavepointFolder(request.out.parent / name, request.save_every)


def noted_plan(saved: SavepointFolder | None) -> RepeatedPlan | None:
    """What an earlier try of the same job decided by measuring; None where there was none."""
    noted = None if saved is None else saved.noted(_PLAN)
    if saved is None or noted is None:
        return None
    return RepeatedPlan.from_attributes(saved.folder, noted)


def note_plan(
    saved: SavepointFolder | None,
    operator: ObjectiveOperator,
    backend: str,
    together: int | None,
) -> None:
    """Store what was decided by measuring, so that a resumed run gives the same bits."""
    if saved is None:
        return

    def facts() -> dict[str, Any]:
        return {
            "backend": backend,
            "plan": operator.plan.as_dict(),
            "options": {"together": together},
            "torch_threads": torch.get_num_threads(),
            "parameters": operator.shape[0],
        }

    saved.note(_PLAN, facts)
