"""What is in a checkpoint, without any linear algebra."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch

from hessscope.errors import ArchitectureError, UntrustedCheckpointError
from hessscope.loaders import Checkpoint, CheckpointFile
from hessscope.pipeline.notices import Tell, collected, jsonable, tell_all, untold
from hessscope.pipeline.problems import OpenedProblem, Problem, open_problem, read_problem
from hessscope.progress import Progress, silent


@dataclass(frozen=True)
class Inspection:
    """Everything that ``hessscope inspect`` says.

    Attributes:
        checkpoint: the file's contents.
        opened: with the data, where data was given.
        loss: L(θ), or None without data.
        accuracy: share of right predictions, or None.
        gradient_norm: ‖∇L‖, or None without data.
        warnings: texts of the warnings given.
    """

    checkpoint: Checkpoint
    opened: OpenedProblem | None
    loss: float | None
    accuracy: float | None
    gradient_norm: float | None
    warnings: tuple[str, ...]

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
            **{
                kind: [
                    {"name": name, "shape": list(shape), "dtype": dtype}
                    for name, shape, dtype in tensors
                ]
                for kind, tensors in (
                    ("layers", checkpoint.layers),
                    ("buffers", checkpoint.buffers),
                )
            },
            "metadata": {key: jsonable(value) for key, value in checkpoint.metadata.items()},
            "notes": list(self.opened.notes if self.opened else checkpoint.notes),
            "examples": len(self.opened.data) if self.opened else None,
            "loss": self.loss,
            "accuracy": self.accuracy,
            "gradient_norm": self.gradient_norm,
            "warnings": list(self.warnings),
        }


def inspect_checkpoint(
    problem: Problem, progress: Progress = silent, tell: Tell = untold
) -> Inspection:
    """Read a checkpoint; with data also its loss, accuracy and gradient norm.

    Args:
        problem: the checkpoint, and the data if there is any.
        progress: told of every stage.
        tell: told of every note as soon as it is known.
    """
    if (
        problem.data is None or "data" in problem.from_checkpoint
    ):  # it is looked up only if asked for
        problem.check()
        with collected() as given:
            checkpoint = _contents(problem)
        tell_all(tell, checkpoint.notes)
        return Inspection(checkpoint, None, None, None, None, tuple(given))
    with collected() as given:
        opened = open_problem(replace(problem, progress=progress))
        tell_all(tell, opened.notes)
        evaluation = opened.risk.evaluate()
        norm = float(torch.linalg.vector_norm(opened.risk.gradient()))
        if not math.isfinite(evaluation.loss + norm):
            opened.risk.check()  # says where it is not finite
    return Inspection(
        opened.checkpoint, opened, evaluation.loss, evaluation.accuracy, norm, tuple(given)
    )


def _contents(problem: Problem) -> Checkpoint:
    """The checkpoint; where its architecture is not known and none was given, its tensors."""
    try:
        return read_problem(problem)
    except (ArchitectureError, UntrustedCheckpointError):
        if problem.model is not None:
            raise
    found = CheckpointFile.open(problem.checkpoint, problem.trust, problem.key).tensors()
    note = (
        "the network cannot be made from the file alone: these are the tensors that are stored. "
        "All else needs --model file.py:factory"
    )
    return replace(found, notes=(*found.notes, note))
