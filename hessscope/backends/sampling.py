"""Lanczos runs from Gaussian probes in the complement of what is known already."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from hessscope.linalg.lanczos import Lanczos, LanczosIteration, LanczosRun
from hessscope.linalg.probes import gaussian
from hessscope.linalg.recurrence import LanczosRecurrence
from hessscope.linalg.ritz import RitzPairs, converged_pairs
from hessscope.operators import CurvatureOperator
from hessscope.progress import Progress, silent
from hessscope.records import Savepoint, Unsaved


@dataclass(frozen=True)
class Bases:
    """How the bases of the runs are held.

    Attributes:
        together: probes whose bases are held at once; 0 where none is (no reorthogonalisation).
        store: where they are held.
    """

    together: int
    store: torch.device


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
    saved: Savepoint | None = None,
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
        progress: told of the steps of all probes together.
        saved: where states are left, and gone on from.
        locking: find the pairs that have converged; for many long runs that takes a while.
    """
    saved = saved or Unsaved()
    n = op.shape[0]
    found = RitzPairs.none(torch.zeros(n, 0, dtype=op.dtype, device=bases.store))
    runs: list[LanczosRun] = []
    norms: list[np.ndarray] = []
    products = 0
    if len(known.vectors) == n:  # nothing is left
        return Sample((), np.zeros(0), found)
    for first in numbers[:: bases.together or len(numbers)]:
        count = min(bases.together or len(numbers), numbers.stop - first)
        starts = gaussian(n, count, seed, dtype=op.dtype, device=op.device, first=first)
        if len(known.vectors):
            off = known.vectors.to(starts.device)
            starts -= off.T @ (off @ starts)
        norms.append((torch.linalg.vector_norm(starts, dim=0) ** 2).cpu().numpy())
        part = _part(progress, first - numbers.start, count, len(numbers))
        iteration: Lanczos | LanczosRecurrence
        if bases.together:
            norm = float(np.abs(known.values).max(initial=0.0))
            iteration = Lanczos(starts, against=known.vectors, norm=norm, store=bases.store)
        else:
            iteration = LanczosRecurrence(starts)
        # The numbers of the probes and the steps tell all groups of a job apart.
        name = f"lanczos-{first}-{count}-{steps}"
        if (state := saved.load(name)) is not None:
            iteration.restore(state)
        offer = partial(_offer, saved, name, iteration, steps)
        if iteration.done == 0:  # Ctrl-C waits for the first step, too
            offer()
        iteration.advance(op.apply, steps, part, offer)
        runs += iteration.runs()
        products += iteration.done * count
        if locking and isinstance(iteration, Lanczos):
            found = converged_pairs(iteration)
    return Sample(tuple(runs), np.concatenate(norms).astype(np.float64), found, products)


def _offer(saved: Savepoint, name: str, iteration: LanczosIteration, steps: int) -> None:
    """Offer the state; after the last one no Ctrl-C is to wait for another step."""
    last = iteration.done >= min(steps, iteration.dimension) or bool(iteration.ended.all())
    saved.offer(name, iteration.state, last=last)


def _part(progress: Progress, first: int, count: int, probes: int) -> Progress:
    """Report the steps of some of the probes as part of all."""

    def report(stage: str, done: int, total: int) -> None:
        progress(stage, first * total + count * done, probes * total)

    return report
