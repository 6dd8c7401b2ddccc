"""Lanczos runs from Gaussian probes, orthogonal to converged pairs, and the density from them."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

import numpy as np
import torch

from hessscope.backends.measured_noise import solver_noise, warn_of_disagreement
from hessscope.errors import MemoryLimitError, PrecisionWarning
from hessscope.linalg.krylov import RitzPairs, converged_pairs
from hessscope.linalg.lanczos import (
    Lanczos,
    LanczosIteration,
    LanczosRecurrence,
    LanczosRun,
    State,
    gaussian,
)
from hessscope.operators import (
    CurvatureOperator,
    memory_in_words,
    memory_room,
    room_in_words,
)
from hessscope.progress import Progress, silent
from hessscope.records import Store
from hessscope.spectra import LockedPairs, NoiseFloor, SpectralDensity


@dataclass(frozen=True)
class Bases:
    """How the bases of the runs are held.

    Attributes:
        together: probes whose bases are held at once; 0 where none is (no reorthogonalisation).
        store: where they are held.
    """

    together: int
    store: torch.device


def plan_bases(
    op: CurvatureOperator,
    steps: int,
    probes: int,
    memory: int | None = None,
    together: int | None = None,
    *,
    needed: bool = False,
) -> Bases:
    """How many probes' bases are held at once, and where: beside the products or, where a device
    is too small for one, in the main memory.

    Args:
        op: the operator.
        steps: of the longest run.
        probes: that are run.
        memory: bytes that the process may hold.
        together: no more than these; default as many as fit.
        needed: refuse where not even one fits; else there are no bases then, with a warning.

    Raises:
        MemoryLimitError: says what one needs, what there is, and what to do.
    """
    n, number = op.shape[0], torch.finfo(op.dtype).bits // 8
    # Converged vectors are kept beside the basis from which they come.
    each = 2 * n * min(steps, n) * number
    limit, device = memory, op.device
    # Products need room, too: for some vectors at the least, and better for their graphs.
    available = int(0.7 * max(0, memory_room(limit, device) - 8 * n * number))
    if each > available and device.type != "cpu":
        # The limit is one of the device, so here it is what is free that counts.
        limit, device = None, torch.device("cpu")
        available = int(0.7 * memory_room(limit, device))
    if each > available:
        words = (
            f"the Lanczos basis of a probe needs {memory_in_words(each)} for {steps} steps, "
            f"beside the products, and {room_in_words(limit, device)}"
        )
        if not needed:
            warnings.warn(
                f"{words}: the runs are not reorthogonalised, so that intervals are wider and "
                "not rigorous",
                PrecisionWarning,
                stacklevel=3,
            )
            return Bases(0, op.device)
        fewer = int(available / (2 * n * number))
        fits = f"`steps={fewer}` would fit; " if fewer else ""
        raise MemoryLimitError(
            f"{words}: {fits}`dtype=float32` halves it; `reorthogonalize=none`, which excludes "
            "`target_width`, needs none"
        )
    most = min(probes, max(1, available * 2 // each - 1))
    return Bases(min(together or most, most), device)


@dataclass(frozen=True)
class Sample:
    """Outcome of some probes.

    Attributes:
        runs: one for each probe.
        squared_norms: ‖v‖² of each Gaussian start vector, shape (probes,).
        found: pairs that have converged, of the last group of probes.
        products: Hessian-vector products that all steps took, those before a resumption included.
    """

    runs: tuple[LanczosRun, ...]
    squared_norms: np.ndarray
    found: RitzPairs
    products: int = 0

    @property
    def nodes(self) -> np.ndarray:
        """Ritz values of all runs, ascending."""
        rules = [run.quadrature().nodes for run in self.runs]
        return np.sort(np.concatenate([np.zeros(0), *rules]))


def draw(
    op: CurvatureOperator,
    known: RitzPairs,
    numbers: range,
    steps: int,
    seed: int,
    bases: Bases,
    progress: Progress = silent,
    saved: Store | None = None,
    *,
    locking: bool = True,
) -> Sample:
    """Run Lanczos from some probes of the stream, projected off the known pairs.

    The known pairs must not depend on these probes: then a projected one is a Gaussian vector in
    their complement, and the counts that follow have their stated confidence.

    Args:
        op: the operator.
        known: pairs that the probes are projected off.
        numbers: which vectors of the seed's streams to take.
        steps: of each run.
        seed: root of the streams.
        bases: how they are held.
        progress: called with the steps of all probes together.
        saved: where states are left, and resumed from.
        locking: find the pairs that have converged; for many long runs that takes a while.
    """
    saved = saved or Store()
    n = op.shape[0]
    found = none = RitzPairs.none(torch.zeros(n, 0, dtype=op.dtype, device=bases.store))
    runs: list[LanczosRun] = []
    norms: list[np.ndarray] = []
    products = 0
    if len(known.vectors) == n:  # nothing is left
        return Sample((), np.zeros(0), found)
    for first in numbers[:: bases.together or len(numbers)]:
        count = min(bases.together or len(numbers), numbers.stop - first)
        # The numbers of the probes and the steps tell all groups of a job apart.
        name = f"lanczos-{first}-{count}-{steps}"
        state = saved.load(name)
        if state is not None and _FINISHED in state:
            group = _restored(state, none.vectors)
        else:
            starts = gaussian(n, count, seed, dtype=op.dtype, device=op.device, first=first)
            if len(known.vectors):
                off = known.vectors.to(starts.device)
                starts -= off.T @ (off @ starts)
            squared = (torch.linalg.vector_norm(starts, dim=0) ** 2).cpu().numpy()
            iteration: Lanczos | LanczosRecurrence
            if bases.together:
                norm = float(np.abs(known.values).max(initial=0.0))
                iteration = Lanczos(starts, against=known.vectors, norm=norm, store=bases.store)
            else:
                iteration = LanczosRecurrence(starts)
            if state is not None:
                iteration.restore(state)
            offer = partial(_offer, saved, name, iteration, steps)
            if iteration.done == 0:  # Ctrl-C waits for the first step, too
                offer()
            part = _part(progress, first - numbers.start, count, len(numbers))
            iteration.advance(op.apply, steps, part, offer)
            pairs = none
            # Of several groups only the last one's pairs are of use.
            if locking and isinstance(iteration, Lanczos) and first + count == numbers.stop:
                pairs = converged_pairs(iteration)
            group = Sample(tuple(iteration.runs()), squared, pairs, iteration.done * count)
            saved.keep(name, partial(_outcome, group))
        runs += group.runs
        norms.append(group.squared_norms)
        products += group.products
        found = group.found
    return Sample(tuple(runs), np.concatenate(norms).astype(np.float64), found, products)


# What tells the outcome of a group from the state of one under way.
_FINISHED = "finished_runs"


def _outcome(group: Sample) -> State:
    """A finished group as arrays."""
    return {
        _FINISHED: np.array(len(group.runs)),
        "squared_norms": group.squared_norms,
        "products": np.array(group.products),
        "values": group.found.values,
        "residuals": group.found.residuals,
        "vectors": group.found.vectors.cpu().numpy(),
        **{
            f"run_{number}_{name}": np.asarray(value)
            for number, run in enumerate(group.runs)
            for name, value in vars(run).items()
        },
    }


def _restored(state: State, like: torch.Tensor) -> Sample:
    """The group of which ``_outcome`` made these arrays, its vectors where others are."""
    runs = []
    for number in range(int(state[_FINISHED])):
        parts: dict[str, Any] = {}
        for name in (field.name for field in fields(LanczosRun)):
            value = state[f"run_{number}_{name}"]
            parts[name] = value if value.ndim else value.item()
        runs.append(LanczosRun(**parts))
    vectors = torch.from_numpy(state["vectors"]).to(like)
    found = RitzPairs(state["values"], state["residuals"], vectors)
    return Sample(tuple(runs), state["squared_norms"], found, int(state["products"]))


def _offer(saved: Store, name: str, iteration: LanczosIteration, steps: int) -> None:
    """Offer the state; after the last one no Ctrl-C is to wait for another step."""
    last = iteration.done >= min(steps, iteration.dimension) or bool(iteration.ended.all())
    saved.offer(name, iteration.state, last=last)


def _part(progress: Progress, first: int, count: int, probes: int) -> Progress:
    """Report the steps of some of the probes as part of all."""

    def report(stage: str, done: int, total: int) -> None:
        progress(stage, first * total + count * done, probes * total)

    return report


def density_of(
    op: CurvatureOperator,
    first: Sample,
    known: RitzPairs,
    sample: Sample,
    noise: float,
    confidence: float,
) -> SpectralDensity:
    """Put a result together; of its options only the loss of orthogonality.

    Args:
        op: the operator.
        first: the run from which the known pairs come.
        known: pairs that the sample was projected off.
        sample: the probes.
        noise: of the operator's products.
        confidence: level of the sampling intervals.
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
        confidence=confidence,
        options={"orthogonality": orthogonality},
    )
