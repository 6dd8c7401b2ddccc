"""Stochastic Lanczos quadrature: the spectrum through random probes."""

from __future__ import annotations

import contextlib
import re
import shutil
import sys
import time
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from itertools import count as numbers_from
from numbers import Integral, Real
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from hessscope.backends.backend import Backend, zero_rule_of
from hessscope.backends.measured_noise import (
    arithmetic_of,
    operator_noise,
    products_of,
    solver_noise,
    warn_of_disagreement,
)
from hessscope.backends.sampling import Bases, Sample, draw, part_of
from hessscope.errors import MemoryLimitError, OptionError, PrecisionWarning, UnknownNameError
from hessscope.linalg.krylov import RitzPairs
from hessscope.operators import (
    CurvatureOperator,
    ObjectiveOperator,
    as_operator,
    memory_in_words,
    memory_room,
    room_in_words,
)
from hessscope.options.fields import Options
from hessscope.progress import Progress, silent
from hessscope.records import Store, scratch_folder
from hessscope.spectra import (
    Inertia,
    LockedPairs,
    NoiseFloor,
    NoiseFloorRule,
    SpectralDensity,
    ZeroRule,
)

REORTHOGONALIZE = ("auto", "full", "none")
BASES = ("auto", "own", "float32", "disk")
# Products that may be spent on a target without a budget of its own.
BUDGET = 10_000
_LEAST = {"steps": 1, "probes": 1, "seed": 0, "deflation": 0, "memory": 0, "together": 0}


@dataclass(frozen=True)
class LanczosBackend(Backend):
    """Lanczos runs from Gaussian vectors: first one whose converged pairs count one each, then
    probes of what is left.

    Cost: steps·(probes + 1) Hessian-vector products, 20 more for the noise floor, and
    4·n·steps² flops a run; memory: n·steps·probes numbers. Where that is too much, one probe at a
    time is run with its basis in float32, in memory or in a file (``StoredLanczos``); the
    orthogonality that is left is measured and goes into δ.

    With a target width rounds follow, each with fresh probes, until index and degeneracy are narrow
    enough. After a round what has converged is locked. Then steps are doubled where the brackets of
    the measures make the interval wide. Where the sampling does, probes are doubled, unless locking
    alone halves what is left to sample. Since the work ends when the intervals look good, look r
    may err with probability (1 − confidence)/(r(r + 1)) only, so that all looks together keep the
    confidence; the narrowest of them is the result. Cost: at most the budget, and the 20 products.

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
        basis: how a basis is held: "own" (in the data type of the products, in memory), "float32"
            (in memory), "disk" (float32 in a file), or "auto": the first of these that fits.
        scratch: folder of that file where no state is saved; default TMPDIR or /var/tmp.
        target_width: an interval is narrow where it is at most this part of its count wide, or 1;
            None for one round.
        budget: of ``target_width``: a number of products, or a time such as "90s", "30min", "2h",
            after which no new round begins; default 10,000 products.
        rule: what counts as zero for ``target_width``; default |λ| ≤ 2δ.
    """

    steps: int = 100
    probes: int = 4
    seed: int = 0
    confidence: float = 0.95
    deflation: int | None = None
    reorthogonalize: str = "auto"
    memory: int | None = None
    together: int | None = None
    basis: str = "auto"
    scratch: str | None = None
    target_width: float | None = None
    budget: str | int | None = None
    rule: ZeroRule = field(default_factory=NoiseFloorRule)
    name: ClassVar[str] = "lanczos"
    sampled: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Refuse options that mean nothing, or do not go together."""
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if value is None and name in ("deflation", "memory", "together"):
                continue
            if not isinstance(value, Integral) or value < least:
                raise OptionError(f"`{name}={value!r}`: give a whole number of at least {least}")
        if self.reorthogonalize not in REORTHOGONALIZE:
            raise UnknownNameError("way to reorthogonalize", self.reorthogonalize, REORTHOGONALIZE)
        if self.basis not in BASES:
            raise UnknownNameError("basis", self.basis, BASES)
        if not isinstance(self.confidence, Real) or not 0 < self.confidence < 1:
            raise OptionError(f"confidence {self.confidence!r} must lie between 0 and 1")
        if self.target_width is not None:
            self._check_target(self.target_width)
        elif self.budget is not None:
            raise OptionError(
                f"`budget={self.budget}` belongs to a target width: give `target_width=0.1`"
            )

    def _check_target(self, width: float) -> None:
        if not isinstance(width, Real) or not 0 < width < np.inf:
            raise OptionError(f"`target_width={width}`: give a part of the count, such as 0.1")
        if self.reorthogonalize == "none":
            raise OptionError(
                "`target_width` needs converged pairs, and so a basis: leave out "
                "`reorthogonalize=none`"
            )
        least, products = self.first_steps + self.steps, self.limits[0]
        if products < least:
            raise OptionError(
                f"`budget={products}` products is not enough for a first run and one probe: give "
                f"at least {least}, or fewer `steps`"
            )

    @classmethod
    def from_options(cls, options: Options) -> LanczosBackend:
        """Make it with the fields that the options have, and with their zero rule."""
        out = getattr(options, "out", None)
        scratch = None if out is None else str(Path(out).absolute().parent)
        return replace(super().from_options(options), rule=zero_rule_of(options), scratch=scratch)

    @property
    def limits(self) -> tuple[int, float]:
        """The budget, as a number of products and as seconds.

        Raises:
            OptionError: it is neither a number nor a time, or allows no work.
        """
        match = re.fullmatch(
            r"\s*(\d+(?:\.\d+)?)\s*(s|min|h)?\s*",
            str(BUDGET if self.budget is None else self.budget),
        )
        if match is None or float(match[1]) == 0:
            raise OptionError(
                f"`budget={self.budget}`: give a number of products such as 5000, or a time such "
                "as 30min"
            )
        amount, unit = float(match[1]), match[2]
        if unit is None:
            return int(amount), np.inf
        return sys.maxsize, amount * {"s": 1, "min": 60, "h": 3600}[unit]

    @property
    def first_steps(self) -> int:
        """Steps of the first run."""
        return self.steps if self.deflation is None else self.deflation

    def planned(self, operator: CurvatureOperator, earlier: Mapping[str, Any]) -> LanczosBackend:
        """Settle how the probes' bases are held, or take that from an earlier run."""
        if isinstance(operator, ObjectiveOperator):
            operator.foresee(self.first_steps + self.steps * self.probes, 1)
        together, basis = earlier.get("together"), earlier.get("basis")
        backend = replace(
            self,
            together=self.together if together is None else together,
            basis=basis or self.basis,
        )._settled
        bases = backend._bases(operator)
        return replace(backend, together=bases.together, basis=bases.kind)

    def cost(self, operator: CurvatureOperator) -> str:
        """What a run takes, and how to make it smaller."""
        bases = self._bases(operator)
        products = self.first_steps * bool(bases.together) + self.steps * self.probes
        words = f"{products:,} products, and some 20 for the noise floor"
        if self.target_width is not None:
            words = f"at least {words}"
        if bases.together:
            held = {"own": "", "float32": " in float32", "disk": " in float32"}[bases.kind]
            words += f"; a Lanczos basis{held} takes {memory_in_words(bases.memory)} of memory"
        if bases.disk:
            words += f" and {memory_in_words(bases.disk)} of the disk of {bases.scratch}"
        return (
            f"{operator.shape[0]:,} parameters: {words}. Fewer `steps` or `probes`, a `subset` of "
            "the data, or a block of the parameters (`params`) take less"
        )

    @property
    def _settled(self) -> LanczosBackend:
        """The same; with a target width there is always a basis."""
        if self.target_width is None:
            return self
        return replace(self, reorthogonalize="full", together=self.together or None)

    def solve(
        self, operator: Any, progress: Progress = silent, saved: Store | None = None
    ) -> SpectralDensity:
        """Estimate the spectral density of a symmetric operator.

        With a target width, ``options["ended"]`` of the result says why the work ended.

        Args:
            operator: as for ``ExactBackend``.
            progress: called with the steps or, with a target width, with the products spent.
            saved: where the state is left from time to time, and resumed from.

        Raises:
            MemoryLimitError: the basis would not fit; nothing was computed.
            NonFiniteError: a product is NaN or infinite.
        """
        op = as_operator(operator)
        if self.target_width is not None:
            return self._settled._narrowed(op, self.target_width, progress, saved)
        bases = self._bases(op)
        deflation = self.first_steps if bases.together else 0
        total = deflation + self.steps * self.probes
        part = part_of(progress, 0, total)
        first = draw(op, None, range(1), deflation, self.seed, bases, part, saved)
        part = part_of(progress, deflation, total)
        numbers = range(1, self.probes + 1)
        sample = draw(
            op, first.found, numbers, self.steps, self.seed, bases, part, saved, locking=False
        )
        noise, products = operator_noise(op)
        result = self._density(op, bases, first, first.found, sample, noise)
        return replace(result, hvps=first.products + sample.products + products)

    def _bases(self, op: CurvatureOperator) -> Bases:
        """How many probes' bases are held at once, and where: beside the products or, where a
        device is too small for one, in the main memory. Where not even one fits there are none,
        with a warning.

        Raises:
            MemoryLimitError: none fits, and "full" was asked for; says what one needs, what there
                is, and what to do.
        """
        if self.reorthogonalize == "none" or self.together == 0:
            return Bases(0, op.device)
        n, number = op.shape[0], torch.finfo(op.dtype).bits // 8
        steps = max(self.steps, self.deflation or 0)
        # Converged vectors are kept beside the basis from which they come.
        each = 2 * n * min(steps, n) * number
        limit, device = self.memory, op.device
        # Products need room, too: for some vectors at the least, and better for their graphs.
        available = int(0.7 * max(0, memory_room(limit, device) - 8 * n * number))
        if each > available and device.type != "cpu":
            # The limit is one of the device, so here it is what is free that counts.
            limit, device = None, torch.device("cpu")
            available = int(0.7 * memory_room(limit, device))
        if each <= available and self.basis in ("auto", "own"):
            most = min(self.probes, max(1, available * 2 // each - 1))
            return Bases(min(self.together or most, most), device, memory=each)
        if (stored := self._stored_bases(op, min(steps, n))) is not None:
            return stored
        words = (
            f"the Lanczos basis of a probe needs {memory_in_words(each)} for {steps} steps, "
            f"beside the products, and {room_in_words(limit, device)}"
        )
        if self.reorthogonalize == "full":
            fewer = int(available / (2 * n * number))
            fits = f"`steps={fewer}` would fit; " if fewer else ""
            raise MemoryLimitError(
                f"{words}; in float32 it fits neither there nor on the disk of {self._scratch}: "
                f"{fits}`dtype=float32` halves it; `reorthogonalize=none`, which excludes "
                "`target_width`, needs none"
            )
        warnings.warn(
            f"{words}: the runs are not reorthogonalised, so that intervals are wider and not "
            "rigorous",
            PrecisionWarning,
            stacklevel=2,
        )
        return Bases(0, op.device)

    @property
    def _scratch(self) -> Path:
        return scratch_folder() if self.scratch is None else Path(self.scratch)

    def _stored_bases(self, op: CurvatureOperator, steps: int) -> Bases | None:
        """One basis at a time in float32, in memory, else on disk; None where neither fits."""
        n, cpu = op.shape[0], torch.device("cpu")
        row, number = 4 * n, torch.finfo(op.dtype).bits // 8
        on_host = op.device.type == "cpu"
        room = memory_room(self.memory if on_host else None, cpu)
        # A run has some vectors beside its basis.
        room = int(0.7 * (room - (8 if on_host else 3) * n * number))
        if room <= 0:
            return None
        rows = (steps + 1) * row
        # Vectors of converged pairs are kept in memory, and again beside the basis.
        held = max(0, min(steps, (room - rows) // (2 * row)))
        if rows <= room and self.basis in ("auto", "float32"):
            return Bases(1, cpu, "float32", held, rows + 2 * held * row)
        held = max(0, min(steps, room // (2 * row)))
        needed = rows + held * row
        with contextlib.suppress(OSError):
            # A basis that was settled before may have its file already.
            free = 0.8 * shutil.disk_usage(self._scratch).free
            if self.basis == "disk" or (self.basis == "auto" and needed <= free):
                return Bases(1, cpu, "disk", held, held * row, needed, self._scratch)
        return None

    def _density(
        self,
        op: CurvatureOperator,
        bases: Bases,
        first: Sample,
        known: RitzPairs,
        sample: Sample,
        noise: float,
    ) -> SpectralDensity:
        """The result.

        Args:
            op: the operator.
            bases: how those of the sample were held.
            first: the run from which the known pairs come.
            known: pairs that the sample was projected off.
            sample: the probes.
            noise: of the operator's products.
        """
        runs = [*first.runs, *sample.runs]
        rules = [run.quadrature() for run in runs]
        nodes = np.concatenate([rule.nodes for rule in rules])
        norm = float(np.abs(np.concatenate([known.values, nodes])).max())
        asymmetry = max(run.asymmetry for run in runs)
        if asymmetry > noise:
            noise = asymmetry
            warn_of_disagreement(noise, norm, op.dtype)
        rigorous = not any(np.isnan(run.orthogonality) for run in runs)
        orthogonality = max(run.orthogonality for run in runs)
        # A basis that is orthonormal to ω projects A with a relative error of ω.
        rounding = max(solver_noise(rule.nodes, op.dtype) for rule in rules)
        if rigorous and bases.kind == "own":
            rounding += orthogonality * norm
        elif rigorous:  # see StoredLanczos
            frobenius = max(float(np.linalg.norm(rule.nodes)) for rule in rules)
            scale = max(norm, *(float(run.betas.max()) for run in runs))
            rounding += 3 * orthogonality * scale + torch.finfo(torch.float32).eps * frobenius
        # The nodes of a run that fills what is left are all eigenvalues there.
        locked, left, norms = (known.values, known.residuals), sample.runs, sample.squared_norms
        whole = [run for run in left if len(run.alphas) == op.shape[0] - len(known.values)]
        if rigorous and whole:
            rest = whole[0].quadrature().nodes
            values = np.concatenate([known.values, rest])
            order = np.argsort(values, kind="stable")
            residuals = np.concatenate([known.residuals, np.zeros(len(rest))])
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
            dtype=arithmetic_of(op),
            locked=LockedPairs(*locked),
            first_run=np.sort(nodes[: sum(len(run.alphas) for run in first.runs)]),
            rigorous=rigorous,
            confidence=self.confidence,
            options={
                "backend": self.name,
                **{name: value for name, value in asdict(self).items() if name != "scratch"},
                "rule": self.rule.name,
                "together": bases.together,
                "basis": bases.kind,
                "basis_device": str(bases.store),
                "orthogonality": orthogonality,
                **products_of(op),
            },
        )

    def _narrowed(
        self, op: CurvatureOperator, width: float, progress: Progress, saved: Store | None
    ) -> SpectralDensity:
        """Rounds until the intervals are narrow."""
        began, (budget, seconds) = time.monotonic(), self.limits
        noise, products = operator_noise(op)
        backend = replace(self, target_width=None, budget=None)  # of a round
        bases = backend._bases(op)
        part = part_of(progress, 0, budget)
        first = draw(op, None, range(1), self.first_steps, self.seed, bases, part, saved)
        known, spent, drawn = first.found, first.products, 1
        best, narrowest = None, np.inf
        for look in numbers_from(1):
            affordable = (budget - spent) // backend.steps
            backend = replace(backend, probes=min(backend.probes, affordable))
            try:
                bases = backend._bases(op)
            except MemoryLimitError:
                if best is None:
                    raise
                ended = "the memory left is too small for another round"
                break
            numbers = range(drawn, drawn + backend.probes)
            part = part_of(progress, spent, budget)
            sample = draw(op, known, numbers, backend.steps, backend.seed, bases, part, saved)
            drawn, spent, looks = numbers.stop, spent + sample.products, look
            result = backend._density(op, bases, first, known, sample, noise)
            result = replace(result, error_share=1.0 / (look * (look + 1)))
            inertia = self.rule.inertia(result)
            counts = (inertia.negative, inertia.zero)
            widest = max((c.upper - c.lower) / max(c.estimate, 1) for c in counts)
            if widest <= narrowest or not result.rest:
                best, narrowest = result, widest
                enough = all(c.upper - c.lower <= max(width * c.estimate, 1) for c in counts)
            known = known.with_more(sample.found)
            backend = backend._next(op, result, inertia, sample.found)
            if enough:
                ended = f"the intervals are at most {width:.3g} of their counts wide"
            elif not result.rest:
                ended = "every eigenvalue is known, to within the noise floor"
            elif budget - spent < backend.steps:
                ended = f"the budget of {budget:,} products is spent"
            elif time.monotonic() - began > seconds:
                ended = f"the budget of {seconds:,.0f} seconds is spent"
            else:
                continue
            break
        assert best is not None
        own = {"target_width": width, "budget": self.budget, "ended": ended, "looks": looks}
        return replace(best, hvps=spent + products, options={**best.options, **own})

    def _next(
        self, op: CurvatureOperator, result: SpectralDensity, inertia: Inertia, found: RitzPairs
    ) -> LanczosBackend:
        """Longer runs, or more of them: by what makes the interval of the index wide."""
        sampling, brackets = result.error_budget(inertia.tolerance)
        if brackets > sampling:
            longer = replace(self, steps=2 * self.steps)
            try:
                longer._bases(op)
                return longer
            except MemoryLimitError:
                pass
        left = inertia.negative.estimate - result.locked.below(-inertia.tolerance)
        if 0 < left <= 2 * int(np.sum(found.values < -inertia.tolerance)):
            return self
        return replace(self, probes=2 * self.probes)
