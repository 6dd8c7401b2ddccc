"""What is in a checkpoint, without any linear algebra."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch

from hessscope.errors import ArchitectureError, UntrustedCheckpointError
from hessscope.loaders import Checkpoint, CheckpointFile
from hessscope.options.fields import plain, takes
from hessscope.options.inspect import InspectOptions
from hessscope.pipeline.outputs import Report
from hessscope.pipeline.problems import (
    OpenedProblem,
    Problem,
    collected,
    open_problem,
    read_problem,
)


@dataclass(frozen=True, repr=False)
class Inspection(Report):
    """Everything that ``hessscope inspect`` reports.

    Attributes:
        checkpoint: the file's contents.
        opened: with the data, where data was given.
        loss: L(θ), or None without data.
        accuracy: share of right predictions, or None.
        gradient_norm: ‖∇L‖, or None without data.
    """

    checkpoint: Checkpoint
    opened: OpenedProblem | None
    loss: float | None
    accuracy: float | None
    gradient_norm: float | None

    def summary(self) -> dict[str, str]:
        """What is in the file, and the loss where data was given."""
        checkpoint, loss, norm = self.checkpoint, self.loss, self.gradient_norm
        return {
            "checkpoint": f"{checkpoint.path}, {checkpoint.format}",
            "architecture": f"{checkpoint.architecture}, {checkpoint.architecture_source}",
            "parameters": f"{checkpoint.parameters:,} in {len(checkpoint.layers):,} tensors",
            **({} if loss is None else {"loss": f"{loss:.6g}", "gradient norm": f"{norm:.4g}"}),
        }

    def as_dict(self) -> dict[str, Any]:
        """The JSON object of ``hessscope inspect --json``."""
        checkpoint = self.checkpoint
        return {
            "checkpoint": str(checkpoint.path),
            "sha256": checkpoint.sha256,
            "format": checkpoint.format,
            "architecture": checkpoint.architecture,
            "architecture_source": checkpoint.architecture_source,
            "activation_source": checkpoint.activation_source,
            "parameters": checkpoint.parameters,
            "layers": [layer._asdict() for layer in checkpoint.layers],
            "buffers": [buffer._asdict() for buffer in checkpoint.buffers],
            "metadata": {key: plain(value) for key, value in checkpoint.metadata.items()},
            "notes": list(self.notes),
            "examples": len(self.opened.data) if self.opened else None,
            "loss": self.loss,
            "accuracy": self.accuracy,
            "gradient_norm": self.gradient_norm,
            "warnings": list(self.warnings),
        }


@takes(InspectOptions)
def inspect_checkpoint(options: InspectOptions) -> Inspection:
    """Read a checkpoint; with data also its loss, accuracy and gradient norm.

    Raises:
        HessscopeError: of the kind that fits.
    """
    if options.data is None and options.preset is None:
        with collected() as given:
            checkpoint = _contents(Problem.of(options))
        for note in checkpoint.notes:
            options.on_note(note)
        return Inspection(
            checkpoint, None, None, None, None, notes=checkpoint.notes, warnings=tuple(given)
        )
    with collected() as given:
        opened = open_problem(options)
        evaluation = opened.risk.evaluate()
        norm = float(torch.linalg.vector_norm(opened.risk.gradient()))
        if not math.isfinite(evaluation.loss + norm):
            opened.risk.check()  # the error names the place
    return Inspection(
        opened.checkpoint,
        opened,
        evaluation.loss,
        evaluation.accuracy,
        norm,
        notes=opened.notes,
        warnings=tuple(given),
    )


def _contents(problem: Problem) -> Checkpoint:
    """The checkpoint; where its architecture is not known and none was given, its tensors."""
    problem.check()
    try:
        return read_problem(problem)
    except (ArchitectureError, UntrustedCheckpointError):
        if problem.model is not None:
            raise
    found = CheckpointFile.open(problem.checkpoint, problem.trust, problem.key).tensors()
    note = (
        "the network cannot be made from the file alone: these are the stored tensors. All else "
        "needs `model=file.py:factory`"
    )
    return replace(found, notes=(*found.notes, note))
