"""Lanczos runs from Gaussian probes, orthogonal to converged pairs."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch

from hessscope.errors import RecordError
from hessscope.linalg.krylov import RitzPairs, converged_pairs
from hessscope.linalg.lanczos import (
    Lanczos,
    LanczosIteration,
    LanczosRecurrence,
    LanczosRun,
    StoredLanczos,
    gaussian,
)
from hessscope.linalg.stored_rows import State, StoredRows
from hessscope.operators import CurvatureOperator
from hessscope.progress import Progress, silent
from hessscope.records import Store


@dataclass(frozen=True)
class Bases:
    """How the bases of the runs are held.

    Attributes:
        together: probes whose bases are held at once; 0 where none is (no reorthogonalisation).
        store: where they are held.
        kind: how: "own" (in the data type of the products), "float32" or "disk" (float32 in a
            file).
        locked: converged pairs whose vectors there is room for; None for any number.
        memory: bytes of memory that they take.
        disk: bytes of a file that they take.
        scratch: folder of that file where no states are left.
    """

    together: int
    store: torch.device
    kind: str = "own"
    locked: int | None = None
    memory: int = 0
    disk: int = 0
    scratch: Path = Path()

    @property
    def dtype(self) -> torch.dtype | None:
        """Data type of the vectors; None for that of the products."""
        return None if self.kind == "own" else torch.float32


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
    nowhere = torch.zeros(0, n, dtype=bases.dtype or op.dtype, device=bases.store)
    none = RitzPairs(np.zeros(0), np.zeros(0), nowhere)
    known = known or none
    groups: list[Sample] = []
    if not steps or len(known.vectors) == n:  # nothing is left
        return Sample((), np.zeros(0), none)
    for first in numbers[:: bases.together or len(numbers)]:
        count = min(bases.together or len(numbers), numbers.stop - first)
        # The numbers of the probes, the steps and the basis tell all groups of a job apart.
        name = f"lanczos-{first}-{count}-{steps}" + (
            "" if bases.kind == "own" else f"-{bases.kind}"
        )
        state = saved.load(name)
        if state is not None and _FINISHED in state:
            groups.append(_restored(state, none.vectors))
            continue
        with contextlib.ExitStack() as files:
            begun = partial(_begun, op, known, range(first, first + count), steps, seed, bases)
            file = None
            if bases.kind == "disk":
                file = files.enter_context(saved.large_file(name, bases.scratch))
            iteration, squared = begun(file)
            if state is not None:
                try:
                    iteration.restore(state)
                except RecordError as error:
                    saved.set_aside(error, f"{name}.npz")
                    iteration, squared = begun(file)
            each = min(steps, iteration.dimension)
            offer = partial(_offer, saved, name, iteration, each)
            if iteration.done == 0:  # Ctrl-C waits for the first step, too
                offer()
            before, everything = (first - numbers.start) * each, len(numbers) * each
            part = part_of(progress, before, everything, count)
            iteration.advance(op.apply, steps, part, offer)
            pairs = none
            # Of several groups only the last one's pairs are of use.
            if (
                locking
                and not isinstance(iteration, LanczosRecurrence)
                and first + count == numbers.stop
            ):
                pairs = converged_pairs(iteration, bases.locked)
            group = Sample(tuple(iteration.runs()), squared, pairs, iteration.done * count)
            saved.keep(name, partial(_outcome, group))
            if file is not None:
                saved.flush()  # before the file goes, on which the last state rests
        groups.append(group)
    return Sample(
        runs=tuple(run for group in groups for run in group.runs),
        squared_norms=np.concatenate([group.squared_norms for group in groups]).astype(np.float64),
        found=groups[-1].found,
        products=sum(group.products for group in groups),
    )


def _begun(
    op: CurvatureOperator,
    known: RitzPairs,
    numbers: range,
    steps: int,
    seed: int,
    bases: Bases,
    file: BinaryIO | None,
) -> tuple[Lanczos | StoredLanczos | LanczosRecurrence, np.ndarray]:
    """The runs of some probes before their first step, and ‖v‖² of each, shape (probes,)."""
    n, vectors = op.shape[0], known.vectors
    device = op.device if bases.kind == "own" else bases.store
    starts = gaussian(n, len(numbers), seed, dtype=op.dtype, device=device, first=numbers.start)
    norm = float(np.abs(known.values).max(initial=0.0))
    stored: StoredLanczos | None = None
    if bases.kind != "own":
        rows = StoredRows(len(vectors) + min(steps, n - len(vectors)) + 1, n, file)
        stored = StoredLanczos(starts, rows, against=vectors, norm=norm, device=op.device)
    elif len(vectors):
        off = vectors.to(starts.device)
        starts -= off.T @ (off @ starts)
    squared = (torch.linalg.vector_norm(starts, dim=0) ** 2).cpu().numpy()
    if stored is not None:
        return stored, squared
    if bases.together:
        return Lanczos(starts, against=vectors, norm=norm, store=bases.store), squared
    return LanczosRecurrence(starts), squared


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
