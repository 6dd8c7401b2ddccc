"""Stochastic Lanczos quadrature: the spectrum through random probes."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from hessscope.backends.noise import operator_noise, solver_noise, warn_of_disagreement
from hessscope.errors import MemoryLimitError, OptionError
from hessscope.linalg.lanczos import lanczos
from hessscope.linalg.probes import rademacher
from hessscope.operators import as_operator, memory_in_words, memory_room, room_in_words
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
        memory: bytes that the process may hold; default four fifths of what is free. Where the
            bases of all probes do not fit at once, they are run in groups, with the same result.
        together: probes in a group; default as many as fit.
    """

    steps: int = 100
    probes: int = 4
    seed: int = 0
    confidence: float = 0.95
    memory: int | None = None
    together: int | None = None

    def __post_init__(self) -> None:
        """Refuse options that mean nothing."""
        if self.steps < 1 or self.probes < 1:
            raise OptionError(
                f"steps ({self.steps}) and probes ({self.probes}) must both be at least 1"
            )
        if self.together is not None and self.together < 1:
            raise OptionError(f"together is {self.together}; at least one probe runs at a time")
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
        together, store = self.plan_bases(n, op.dtype, op.device)
        before = op.hvps
        runs = []
        for first in range(0, self.probes, together):
            count = min(together, self.probes - first)
            starts = rademacher(n, count, self.seed, dtype=op.dtype, device=op.device, first=first)
            part = _part(progress, first, count, self.probes)
            runs += lanczos(op.apply, starts, self.steps, store=store, progress=part)
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
        noise = max(noise, *(run.asymmetry for run in runs))
        warn_of_disagreement(noise, norm, op.dtype)
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
            options={
                "backend": "lanczos",
                **asdict(self),
                "together": together,
                "basis_device": str(store),
                "orthogonality": orthogonality,
            },
        )

    def plan_bases(
        self, n: int, dtype: torch.dtype, device: torch.device
    ) -> tuple[int, torch.device]:
        """How many probes' bases are held at once, and where: beside the products or, where a
        device is too small for one, in the main memory.

        Raises:
            MemoryLimitError: not even one fits; says what it needs, what there is, and what to do.
        """
        number = torch.finfo(dtype).bits // 8
        each = n * min(self.steps, n) * number
        limit = self.memory
        # Products need room, too: for some vectors at the least, and better for their graphs.
        available = int(0.7 * max(0, memory_room(limit, device) - 8 * n * number))
        if each > available and device.type != "cpu":
            # --memory speaks of the device, so here it is what is free that counts.
            limit, device = None, torch.device("cpu")
            available = int(0.7 * memory_room(limit, device))
        if each > available:
            steps = int(available / (n * number))
            fewer = f"--steps {steps} would fit; " if steps else ""
            raise MemoryLimitError(
                f"the Lanczos basis of a probe needs {memory_in_words(each)} for {self.steps} "
                f"steps, beside the products, and {room_in_words(limit, device)}: {fewer}"
                "--dtype float32 halves it"
            )
        most = min(self.probes, available // each)
        return min(self.together or most, most), device


def _part(progress: Progress, first: int, count: int, probes: int) -> Progress:
    """Report the steps of some of the probes as part of all."""

    def report(stage: str, done: int, total: int) -> None:
        progress(stage, first * total + count * done, probes * total)

    return report
