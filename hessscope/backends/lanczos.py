"""Stochastic Lanczos quadrature: the spectrum through random probes."""

from __future__ import annotations

import warnings
from dataclasses import asdict, dataclass, replace
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch

from hessscope.backends.noise import operator_noise, solver_noise, warn_of_disagreement
from hessscope.backends.sampling import Bases, Sample, draw
from hessscope.errors import MemoryLimitError, OptionError, PrecisionWarning, UnknownNameError
from hessscope.linalg.ritz import RitzPairs
from hessscope.operators import (
    CurvatureOperator,
    as_operator,
    memory_in_words,
    memory_room,
    room_in_words,
)
from hessscope.progress import Progress, silent
from hessscope.records import Store
from hessscope.spectra import LockedPairs, NoiseFloor, SpectralDensity

REORTHOGONALIZE = ("auto", "full", "none")
_LEAST = {"steps": 1, "probes": 1, "seed": 0, "deflation": 0, "memory": 0, "together": 0}


@dataclass(frozen=True)
class LanczosBackend:
    """Lanczos runs from Gaussian vectors: first one whose converged pairs count one each, then
    probes of what is left.

    Cost: steps·(probes + 1) Hessian-vector products, 20 more for the noise floor, and
    4·n·steps² flops a run; memory: n·steps·probes numbers.

    Attributes:
        steps: Lanczos steps of each run, at most n.
        probes: random start vectors that are sampled.
        seed: root of the probes' random streams.
        confidence: level of the sampling intervals.
        deflation: steps of the first run; default ``steps``, 0 for no such run.
        reorthogonalize: "full", "none" (three vectors a probe in place of a basis; intervals are
            wider and not rigorous), or "auto": full where a basis fits in the memory.
        memory: bytes that the process may hold; default four fifths of what is free. Where the
            bases of all probes do not fit at once, they are run in groups, with the same result.
        together: probes in a group; default as many as fit, 0 for no bases.
    """

    steps: int = 100
    probes: int = 4
    seed: int = 0
    confidence: float = 0.95
    deflation: int | None = None
    reorthogonalize: str = "auto"
    memory: int | None = None
    together: int | None = None

    def __post_init__(self) -> None:
        """Refuse options that mean nothing."""
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if value is None and name in ("deflation", "memory", "together"):
                continue
            if not isinstance(value, Integral) or value < least:
                raise OptionError(f"{name} {value!r}: give a whole number of at least {least}")
        if self.reorthogonalize not in REORTHOGONALIZE:
            raise UnknownNameError("way to reorthogonalize", self.reorthogonalize, REORTHOGONALIZE)
        if not isinstance(self.confidence, Real) or not 0 < self.confidence < 1:
            raise OptionError(f"confidence {self.confidence!r} must lie between 0 and 1")

    def solve(
        self, operator: Any, progress: Progress = silent, saved: Store | None = None
    ) -> SpectralDensity:
        """Estimate the spectral density of a symmetric operator.

        Args:
            operator: as for ``ExactBackend``.
            progress: told of each step.
            saved: where the state is left from time to time, and gone on from.

        Raises:
            MemoryLimitError: the basis would not fit; nothing was computed.
            NonFiniteError: a product is NaN or infinite.
        """
        op = as_operator(operator)
        bases = self.plan_bases(op.shape[0], op.dtype, op.device)
        deflation = self.first_steps if bases.together else 0
        total = deflation + self.steps * self.probes
        first = self.first_run(op, bases, part_of(progress, 0, total), saved)
        part = part_of(progress, deflation, total)
        numbers = range(1, self.probes + 1)
        sample = draw(
            op, first.found, numbers, self.steps, self.seed, bases, part, saved, locking=False
        )
        noise, products = operator_noise(op)
        result = density_of(op, self, bases, first, first.found, sample, noise)
        return replace(result, hvps=first.products + sample.products + products)

    @property
    def first_steps(self) -> int:
        """Steps of the first run."""
        return self.steps if self.deflation is None else self.deflation

    def first_run(
        self, op: CurvatureOperator, bases: Bases, progress: Progress, saved: Store | None
    ) -> Sample:
        """The run whose converged pairs count one each; without bases there is none."""
        nothing = RitzPairs.none(torch.zeros(op.shape[0], 0, dtype=op.dtype, device=bases.store))
        if not (bases.together and self.first_steps):
            return Sample((), np.zeros(0), nothing)
        return draw(op, nothing, range(1), self.first_steps, self.seed, bases, progress, saved)

    def plan_bases(self, n: int, dtype: torch.dtype, device: torch.device) -> Bases:
        """How many probes' bases are held at once, and where: beside the products or, where a
        device is too small for one, in the main memory.

        Raises:
            MemoryLimitError: not even one fits, though reorthogonalisation was asked for; says
                what it needs, what there is, and what to do.
        """
        if self.reorthogonalize == "none" or self.together == 0:
            return Bases(0, device)
        number = torch.finfo(dtype).bits // 8
        steps = max(self.steps, self.deflation or 0)
        # Converged vectors are kept beside the basis from which they come.
        each = 2 * n * min(steps, n) * number
        limit = self.memory
        # Products need room, too: for some vectors at the least, and better for their graphs.
        available = int(0.7 * max(0, memory_room(limit, device) - 8 * n * number))
        if each > available and device.type != "cpu":
            # --memory speaks of the device, so here it is what is free that counts.
            limit, device = None, torch.device("cpu")
            available = int(0.7 * memory_room(limit, device))
        if each > available:
            words = (
                f"the Lanczos basis of a probe needs {memory_in_words(each)} for {steps} steps, "
                f"beside the products, and {room_in_words(limit, device)}"
            )
            if self.reorthogonalize == "auto":
                warnings.warn(
                    f"{words}: the runs are not reorthogonalised, so that intervals are wider and "
                    "not rigorous",
                    PrecisionWarning,
                    stacklevel=3,
                )
                return Bases(0, device)
            fewer = int(available / (2 * n * number))
            fits = f"--steps {fewer} would fit; " if fewer else ""
            raise MemoryLimitError(
                f"{words}: {fits}--dtype float32 halves it; --reorthogonalize none, "
                "which goes without --target-width, needs none"
            )
        most = min(self.probes, max(1, available * 2 // each - 1))
        return Bases(min(self.together or most, most), device)


def density_of(
    op: CurvatureOperator,
    backend: LanczosBackend,
    bases: Bases,
    first: Sample,
    known: RitzPairs,
    sample: Sample,
    noise: float,
) -> SpectralDensity:
    """Put a result together.

    Args:
        op: the operator.
        backend: the configuration.
        bases: how they were held.
        first: the run from which the known pairs come.
        known: pairs that the sample was projected off.
        sample: the probes.
        noise: of the operator's products.
    """
    runs = [*first.runs, *sample.runs]
    rules = [run.quadrature() for run in runs]
    values = np.concatenate([known.values, *(rule.nodes for rule in rules)])
    norm = float(np.abs(values).max())
    asymmetry = max(run.asymmetry for run in runs)
    if asymmetry > noise:
        noise = asymmetry
        warn_of_disagreement(noise, norm, op.dtype)
    rigorous = not any(np.isnan(run.orthogonality) for run in runs)
    orthogonality = max(run.orthogonality for run in runs)
    # A basis that is orthonormal to ω projects A with a relative error of ω.
    rounding = max(solver_noise(rule.nodes, op.dtype) for rule in rules)
    if rigorous:
        rounding += orthogonality * norm
    # The nodes of a run that fills what is left are all eigenvalues there.
    locked, left, norms = (known.values, known.residuals), sample.runs, sample.squared_norms
    whole = [run for run in left if len(run.alphas) == op.shape[0] - len(known.values)]
    if rigorous and whole:
        nodes = whole[0].quadrature().nodes
        values = np.concatenate([known.values, nodes])
        order = np.argsort(values, kind="stable")
        residuals = np.concatenate([known.residuals, np.zeros(len(nodes))])
        locked, left, norms = (values[order], residuals[order]), (), np.zeros(0)
    longest = max((len(run.alphas) for run in left), default=0)
    alphas = np.full((len(left), longest), np.nan)
    betas = np.full((len(left), longest), np.nan)
    for j, run in enumerate(left):
        alphas[j, : len(run.alphas)], betas[j, : len(run.betas)] = run.alphas, run.betas
    return SpectralDensity(
        size=op.shape[0],
        alphas=alphas,
        betas=betas,
        squared_norms=norms,
        noise_floor=NoiseFloor(solver=rounding, operator=noise),
        dtype=str(op.dtype).removeprefix("torch."),
        locked=LockedPairs(*locked),
        first_run=first.nodes,
        rigorous=rigorous,
        confidence=backend.confidence,
        options={
            "backend": "lanczos",
            **asdict(backend),
            "together": bases.together,
            "basis_device": str(bases.store),
            "orthogonality": orthogonality,
        },
    )


def part_of(progress: Progress, before: int, everything: int) -> Progress:
    """Report a stage as part of all steps."""

    def report(stage: str, done: int, total: int) -> None:
        progress(stage, before + done, everything)

    return report
