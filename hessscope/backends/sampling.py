"""Lanczos runs from Gaussian probes, orthogonal to converged pairs."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import partial

import numpy as np
import torch

from hessscope.linalg.krylov import RitzPairs, converged_pairs
from hessscope.linalg.lanczos import (
    Lanczos,
    LanczosIteration,
    LanczosRecurrence,
    LanczosRun,
    State,
    gaussian,
)
from hessscope.operators import CurvatureOperator
from hessscope.progress import Progress, silent
from hessscope.records import Store


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


def draw(
    op: CurvatureOperator,
    known: RitzPairs | None,
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
        known: pairs that the probes are projected off; None where there are none.
        numbers: which vectors of the seed's streams to take.
        steps: of each run; 0 for no run.
        seed: root of the streams.
        bases: how they are held.
        progress: called with the steps of all probes together.
        saved: where states are left, and resumed from.
        locking: find the pairs that have converged; for many long runs that takes a while.
    """
    saved = saved or Store()
    n = op.shape[0]
    nowhere = torch.zeros(0, n, dtype=op.dtype, device=bases.store)
    none = RitzPairs(np.zeros(0), np.zeros(0), nowhere)
    known = known or none
    groups: list[Sample] = []
    if not steps or len(known.vectors) == n:  # nothing is left
        return Sample((), np.zeros(0), none)
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
            each = min(steps, iteration.dimension)
            offer = partial(_offer, saved, name, iteration, each)
            if iteration.done == 0:  # Ctrl-C waits for the first step, too
                offer()
            before, everything = (first - numbers.start) * each, len(numbers) * each
            part = part_of(progress, before, everything, count)
            iteration.advance(op.apply, steps, part, offer)
            pairs = none
            # Of several groups only the last one's pairs are of use.
            if locking and isinstance(iteration, Lanczos) and first + count == numbers.stop:
                pairs = converged_pairs(iteration)
            group = Sample(tuple(iteration.runs()), squared, pairs, iteration.done * count)
            saved.keep(name, partial(_outcome, group))
        groups.append(group)
    return Sample(
        runs=tuple(run for group in groups for run in group.runs),
        squared_norms=np.concatenate([group.squared_norms for group in groups]).astype(np.float64),
        found=groups[-1].found,
        products=sum(group.products for group in groups),
    )


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
        alphas, betas, *numbers = (state[f"run_{number}_{f.name}"] for f in fields(LanczosRun))
        runs.append(LanczosRun(alphas, betas, *map(float, numbers)))
    vectors = torch.from_numpy(state["vectors"]).to(like)
    found = RitzPairs(state["values"], state["residuals"], vectors)
    return Sample(tuple(runs), state["squared_norms"], found, int(state["products"]))


def _offer(saved: Store, name: str, iteration: LanczosIteration, steps: int) -> None:
    """Offer the state; after the last one no Ctrl-C is to wait for another step."""
    last = iteration.done >= steps or bool(iteration.ended.all())
    saved.offer(name, iteration.state, last=last)


def part_of(progress: Progress, before: int, everything: int, runs: int = 1) -> Progress:
    """Report the steps of some runs as part of all steps."""

    def report(stage: str, done: int, total: int) -> None:
        progress(stage, before + runs * done, everything)

    return report
