"""The searches for null directions, one after the other; each verified by the ledger."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import scipy.sparse

from hessscope.degeneracy import causes
from hessscope.degeneracy.activity import by_zero_rows, find_duplicates, layer_activities
from hessscope.degeneracy.fields import dependent_inputs
from hessscope.degeneracy.results import Cause, Counted, Ledger
from hessscope.degeneracy.symmetries import find_symmetries
from hessscope.degeneracy.wiring import Wiring
from hessscope.linalg.row_spaces import RowSpace, row_lengths
from hessscope.objective import EmpiricalRisk
from hessscope.operators import HessianOperator
from hessscope.progress import Progress

# Fields this much shorter than the longest of their family are zero but for rounding.
_NEGLIGIBLE = 1e-10
# Gram matrices of more directions of one cause than this take too long.
_MOST_FIELDS = 5_000
_MOST_PAIRS = 100
_MOST_PLACES = 3


@dataclass(frozen=True)
class Search:
    """What all searches share.

    Attributes:
        hessian: H.
        risk: L, whose Hessian it is.
        ledger: what has been counted so far.
        notes: what could not be searched; added to.
        progress: called with the work done.
    """

    hessian: HessianOperator
    risk: EmpiricalRisk
    ledger: Ledger
    notes: list[str]
    progress: Progress

    @property
    def theta(self) -> np.ndarray:
        """θ, where H is taken."""
        return self.hessian.at.cpu().double().numpy()

    def slope(self) -> np.ndarray:
        """Gradient of the loss without its penalty."""
        at = self.hessian.at
        return (self.risk.gradient(at) - self.risk.l2 * at).cpu().double().numpy()


def by_data(search: Search, zero: np.ndarray) -> Iterator[Cause]:
    """What the data never reach, and inputs that depend on each other where a unit sees them."""
    hessian, ledger = search.hessian, search.ledger
    activities = layer_activities(hessian, search.progress)
    yield from by_zero_rows(zero, activities, search.risk.layout.slices(), ledger)
    found, unsearched = dependent_inputs(hessian, activities, zero, search.progress)
    search.notes.extend(unsearched)
    for activity, rows in found:
        if rows.shape[0]:
            text = f"seen by the units of '{activity.layer.name}'"
            yield _cause(causes.DEPENDENT_INPUTS, text, rows.shape[0], ledger.add(rows))


def by_symmetry(search: Search) -> Iterator[Cause]:
    """Symmetries of the loss, each with its identity; those of one cause together."""
    families = find_symmetries(search.risk, search.hessian.at, search.notes)
    theta, slope = search.theta, search.slope() if families else np.zeros(0)
    names = list(dict.fromkeys(family.cause for family in families))
    for number, name in enumerate(names):
        search.progress("symmetries", number, len(names))
        parts, adjoints, texts = [], [], []
        for family in (family for family in families if family.cause == name):
            # Fields of length 1 at θ; those that are zero but for rounding are left out.
            lengths = row_lengths(family.fields.at(theta))
            kept = lengths > _NEGLIGIBLE * lengths.max(initial=0.0)
            if not kept.any():
                continue
            fields = family.fields.scaled(1 / np.where(kept, lengths, 1.0))
            parts.append(fields.at(theta)[kept])
            adjoints.append(fields.adjoint(slope)[kept])
            texts.append(f"{_rank(parts[-1]):,} {family.noun} ({family.place})")
        count = sum(part.shape[0] for part in parts)
        if count > _MOST_FIELDS:
            search.notes.append(f"{name} were not examined: {count:,} are too many")
        elif parts:
            text = ", ".join(texts) if len(texts) <= _MOST_PLACES else f"{len(texts)} places"
            rows, adjoint = (scipy.sparse.vstack(x, format="csr") for x in (parts, adjoints))
            yield _symmetric(name, text, rows, adjoint, search.ledger)
        search.progress("symmetries", number + 1, len(names))


def _rank(rows: scipy.sparse.csr_matrix) -> int:
    return RowSpace.zero(rows.shape[1]).beyond(rows).dimension


def _symmetric(
    name: str,
    text: str,
    rows: scipy.sparse.csr_matrix,
    adjoint: scipy.sparse.csr_matrix,
    ledger: Ledger,
) -> Cause:
    """Check H X = −(DX)ᵀ g, and count what is null of the fields' span."""
    count, directions, expected = rows.shape[0], _rank(rows), -adjoint
    if expected.nnz == 0 and ledger.penalty == 0.0:  # the identity is H X = 0
        return _cause(name, text, directions, ledger.add(rows))
    each = ledger.each(count)
    weights = np.eye(count) if each else ledger.weights(count)
    moved = rows.T @ weights
    response = ledger.respond(moved)
    error = response - ledger.penalty * moved - expected.T @ weights
    identity = float(np.linalg.norm(error, axis=0).max()) if each else ledger.bound(error)
    if each:
        # Where no combination is null, products with an orthonormal basis would only repeat it.
        sizes = np.linalg.svd(response, compute_uv=False)
        small = (sizes <= math.sqrt(count) * ledger.tolerance).sum()
        if small <= count - directions:
            largest = float(np.linalg.norm(response, axis=0).max())
            return _cause(name, text, directions, Counted(0, largest, each), identity)
    return _cause(name, text, directions, ledger.add(rows), identity)


def by_duplicates(search: Search) -> Iterator[Cause]:
    """Units that compute the same, as far as what follows from it is null."""
    ledger = search.ledger
    pairs = list(find_duplicates(Wiring(search.risk, search.hessian.at), search.theta))
    if len(pairs) > _MOST_PAIRS:
        search.notes.append(
            f"there are {len(pairs):,} pairs of duplicated units, of which {_MOST_PAIRS} were "
            "examined"
        )
    for place, outgoing, incoming in pairs[:_MOST_PAIRS]:
        text, count = f"2 units of '{place}'", outgoing.shape[0]
        if not ledger.each(count):
            search.notes.append(f"{text} are identical, with too many outputs to be examined")
            continue
        responses = ledger.respond(outgoing.toarray().T)
        yield _cause(causes.DUPLICATES, text, count, ledger.add(outgoing))
        if incoming is not None:
            # Combinations that are orthogonal to H d of the outgoing weights' differences, up to τ.
            _, sizes, right = np.linalg.svd((incoming @ responses).T)
            flat = (
                scipy.sparse.csr_matrix(right[int((sizes > ledger.tolerance).sum()) :]) @ incoming
            )
            if flat.shape[0]:
                yield _cause(causes.DUPLICATES, text, flat.shape[0], ledger.add(flat))


def _cause(
    name: str, text: str, directions: int, counted: Counted, identity: float | None = None
) -> Cause:
    return Cause(
        name,
        text,
        directions,
        counted.new,
        counted.residual,
        counted.residual if identity is None else identity,
        "each direction" if counted.each else "random combinations",
    )
