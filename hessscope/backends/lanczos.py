"""Stochastic Lanczos quadrature: the spectrum through random probes."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from hessscope.backends.noise import operator_noise, solver_noise
from hessscope.errors import MemoryLimitError, OptionError
from hessscope.linalg.lanczos import lanczos
from hessscope.linalg.probes import rademacher
from hessscope.operators import as_operator, free_memory, memory_in_words
from hessscope.progress import Progress, silent
from hessscope.spectra import NoiseFloor, SpectralDensity


@dataclass(frozen=True)
class LanczosBackend:
    """Lanczos runs from random start vectors, in lock-step, fully reorthogonalised (twice).

    Cost: steps·probes Hessian-vector products and 4·n·steps²·probes flops; memory: n·steps·probes
    numbers.

    Attributes:
        steps: Lanczos steps of each probe, at most n.
        probes: random start vectors; at least 2 for a sampling interval.
        seed: root of the probes' random streams.
        confidence: level of the sampling intervals.
        memory: bytes that may be used; default what is free.
    """

    steps: int = 100
    probes: int = 4
    seed: int = 0
    confidence: float = 0.95
    memory: int | None = None

    def __post_init__(self) -> None:
        """Refuse options that mean nothing."""
        if self.steps < 1 or self.probes < 1:
            raise OptionError(
                f"steps ({self.steps}) and probes ({self.probes}) must both be at least 1"
            )
        if not 0 < self.confidence < 1:
            raise OptionError(f"confidence {self.confidence} must lie between 0 and 1")
        if self.seed < 0:
            raise OptionError(f"seed {self.seed} must not be negative")

    def solve(self, operator: Any, progress: Progress = silent) -> SpectralDensity:
        """Estimate the spectral density of a symmetric operator.

        Args:
            operator: as for ``ExactBackend``.
            progress: told of each step.

        Raises:
            MemoryLimitError: the basis would not fit; nothing was computed.
            NonFiniteError: a product is NaN or infinite.
        """
        op = as_operator(operator)
        n = op.shape[0]
        self.check_memory(n, op.dtype, op.device)
        before = op.hvps
        starts = rademacher(n, self.probes, self.seed, dtype=op.dtype, device=op.device)
        runs = lanczos(op.apply, starts, self.steps, progress=progress)
        noise, products = operator_noise(op)
        rules = [run.quadrature() for run in runs]
        longest = max(len(rule.nodes) for rule in rules)
        nodes = np.full((self.probes, longest), np.nan)
        weights = np.zeros((self.probes, longest))
        residuals = np.full((self.probes, longest), np.nan)
        for j, rule in enumerate(rules):
            k = len(rule.nodes)
            nodes[j, :k], weights[j, :k] = rule.nodes, rule.weights
            residuals[j, :k] = rule.residuals
        norm = float(np.nanmax(np.abs(nodes)))
        orthogonality = max(run.orthogonality for run in runs)
        # A basis that is orthonormal to ω projects A with a relative error of ω.
        rounding = orthogonality * norm + max(solver_noise(r.nodes, op.dtype) for r in rules)
        return SpectralDensity(
            size=n,
            nodes=nodes,
            weights=weights,
            residuals=residuals,
            complete=np.array([run.complete for run in runs]),
            noise_floor=NoiseFloor(solver=rounding, operator=noise),
            dtype=str(op.dtype).removeprefix("torch."),
            hvps=op.hvps - before + products,
            confidence=self.confidence,
            options={"backend": "lanczos", **asdict(self), "orthogonality": orthogonality},
        )

    def check_memory(self, n: int, dtype: torch.dtype, device: torch.device) -> None:
        """Refuse a basis that would not fit.

        Raises:
            MemoryLimitError: says what it would need, what there is, and what to do.
        """
        steps = min(self.steps, n)
        needed = n * steps * self.probes * torch.finfo(dtype).bits // 8
        available = int(0.8 * (self.memory or free_memory(device)))
        if needed > available:
            fits = int(available / (needed / steps))
            raise MemoryLimitError(
                f"the Lanczos basis of {self.probes} probes x {steps} steps needs "
                f"{memory_in_words(needed)} and {memory_in_words(available)} may be used: take "
                f"--steps {fits} or fewer probes, or --dtype float32"
            )
