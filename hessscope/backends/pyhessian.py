"""PyHessian's own eigenvalues and trace through the same objective, as a cross-check.

What of ``pyhessian`` 0.1 (its last release on PyPI) works on current torch: ``eigenvalues`` (power
iteration) and ``trace`` (Hutchinson). ``density`` does not: it calls ``torch.eig``, which torch
removed in version 1.13; hessscope's Lanczos backend is what to use for densities.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from typing import Any, ClassVar

import numpy as np
import torch

from hessscope.backends.backend import Backend
from hessscope.errors import SolverError
from hessscope.objective.batches import length
from hessscope.operators import HessianOperator
from hessscope.progress import Progress, silent
from hessscope.records import Store
from hessscope.spectra import Estimate, Result, student_interval


@dataclass(frozen=True, repr=False)
class PyHessianResult(Result):
    """What PyHessian computes.

    Attributes:
        size: number n of parameters.
        largest: the eigenvalues largest in magnitude, in that order, signed.
        trace_samples: vᵀHv of each random vector.
        dtype: data type of the computation.
        hvps: Hessian-vector products used.
        options: the backend's configuration.
    """

    kind: ClassVar[str] = "pyhessian"
    counts: ClassVar[bool] = False

    size: int
    largest: np.ndarray
    trace_samples: np.ndarray
    dtype: str
    hvps: int
    options: Mapping[str, Any] = field(default_factory=dict)
    eigenvalues: None = field(default=None, init=False)

    @property
    def span(self) -> tuple[float, ...]:
        """The eigenvalues largest in magnitude."""
        return tuple(self.largest.tolist())

    def trace_estimate(self, confidence: float = 0.95) -> Estimate:
        """Mean of the samples with Student's interval."""
        return student_interval(self.trace_samples, confidence)

    def extremes(self) -> dict[str, Any]:
        """Eigenvalues and trace, as JSON has them."""
        top = float(self.largest.max())
        return {
            "lambda_min": None,
            "lambda_max": top if top > 0 else None,
            "eigenvalues": self.largest.tolist(),
            **self.trace_estimate().as_dict("trace"),
        }

    def rows(self) -> list[tuple[str, ...]]:
        """The same for the terminal: name, value, and remarks."""
        values = ", ".join(f"{value:.6g}" for value in self.largest)
        return [("λ largest |·|", values), *super().rows()]

    def summary(self) -> dict[str, str]:
        """Size, eigenvalues and trace, and how they were computed."""
        named = {row[0]: row[1] for row in self.rows()}
        return {"parameters": f"{self.size:,}, {self.dtype}", **named, "products": f"{self.hvps:,}"}


@dataclass(frozen=True)
class PyHessianBackend(Backend):
    """Run ``pyhessian`` on the model, data and loss of an ``EmpiricalRisk``.

    Cost: up to max_iterations products for each eigenvalue, and as many for the trace.

    Attributes:
        top: how many eigenvalues of largest magnitude.
        max_iterations: of each power iteration and of the trace.
        change: relative change between iterations at which PyHessian stops.
        seed: of torch's global generator, which PyHessian draws from (restored afterwards).
    """

    top: int = 1
    max_iterations: int = 200
    change: float = 1e-7
    seed: int = 0
    name: ClassVar[str] = "pyhessian"
    counts: ClassVar[bool] = False
    operators: ClassVar[tuple[str, ...]] = ("hessian",)

    def solve(
        self, operator: Any, progress: Progress = silent, saved: Store | None = None
    ) -> PyHessianResult:
        """Compute the largest eigenvalues and the trace.

        Raises:
            SolverError: the operator is not the Hessian of an ``EmpiricalRisk``; PyHessian knows
                only models, data and losses, with inputs that are one tensor in memory.
        """
        risk = operator.objective.network if isinstance(operator, HessianOperator) else None
        if risk is None:
            raise SolverError(
                "the pyhessian backend needs the Hessian of an EmpiricalRisk (a model with data); "
                "use the exact or the lanczos backend for other operators"
            )
        if risk.loss.of_model:
            raise SolverError(
                f"PyHessian takes losses of outputs and targets, and '{risk.loss.name}' is one of "
                "model and batch; use the exact or the lanczos backend"
            )
        if not all(isinstance(part, torch.Tensor) for part in (risk.inputs, risk.targets)):
            raise SolverError(
                "PyHessian takes inputs and targets that are one tensor each, in memory, and here "
                "there are several, or they are streamed: use the exact or the lanczos backend"
            )
        from pyhessian import hessian  # it takes a moment, and few need it

        operator.check()
        passes, batches, before = 0, risk.batches(), torch.get_default_dtype()

        def loss(outputs: Any, targets: Any) -> torch.Tensor:
            nonlocal passes
            passes += 1
            # It weighs each batch by its examples.
            count = length(targets)
            mean, units = risk.loss.with_units(risk.taken(outputs), targets)
            scale = 1.0 if units is None else units / risk.units * (len(risk) / count)
            return mean.mean() * scale

        progress("PyHessian eigenvalues", 0, 1)
        # PyHessian draws from the global generator, in the default type; both are put back.
        with torch.random.fork_rng(), risk.kernels():
            torch.manual_seed(self.seed)
            torch.set_default_dtype(risk.dtype)
            try:
                theirs = hessian(
                    risk.model_at(operator.at),
                    loss,
                    dataloader=batches,
                    cuda=risk.device.type == "cuda",
                )
                values, _ = theirs.eigenvalues(self.max_iterations, self.change, self.top)
                progress("PyHessian eigenvalues", 1, 1)
                progress("PyHessian trace", 0, 1)
                samples = theirs.trace(self.max_iterations, 1e-3)
                progress("PyHessian trace", 1, 1)
            finally:
                torch.set_default_dtype(before)
        n = risk.layout.size
        # PyHessian sees only the data's part of the loss; the penalty shifts every eigenvalue.
        return PyHessianResult(
            size=n,
            largest=np.array([float(v) + risk.l2 for v in values]),
            trace_samples=np.array([float(t) + n * risk.l2 for t in samples]),
            dtype=str(risk.dtype).removeprefix("torch."),
            hvps=passes // len(batches),
            options={"backend": self.name, "version": version("PyHessian"), **asdict(self)},
        )
