"""Families of directions that keep what a network computes, and how many are independent.

A one-parameter symmetry of the loss moves θ along a vector field X with g(θ)·X(θ) = 0 at every θ.
Differentiated once, that is

    H X + (DX)ᵀ g = 0,

so X is a null direction where g = 0, and anywhere at all where X is constant. The fields here are
affine in θ: each entry of X is a factor times one parameter, or a constant.

A direction v on the incoming weights of unit u leaves its pre-activation alone on every example on
which it is active if ã·v = 0 there, and then, in the notation of ``operators.dense_layers``, all
products with S and ∂a/∂e of a later layer vanish. Where the inputs themselves depend on earlier
weights, δ[u] ∂(a·v)/∂e must vanish as well. Such v are null at every θ.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse
import torch

from hessscope.degeneracy.activity import LayerActivity, layer_derivatives
from hessscope.operators import HessianOperator
from hessscope.operators.dense_layers import LayerDerivatives
from hessscope.progress import Progress

_MOST_ENTRIES = 20_000_000

#: A block of entries: rows, columns, sources and factors, of shapes that broadcast.
Entries = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray | float]


@dataclass(frozen=True)
class Fields:
    """Affine vector fields X_k, k < count, by their entries: X_k[column] += factor · θ[source].

    Attributes:
        size: number n of parameters.
        count: number of fields.
        rows: k of each entry.
        columns: where in X_k it stands.
        sources: which parameter it is proportional to; n for a constant.
        factors: the constant of proportionality.
    """

    size: int
    count: int
    rows: np.ndarray
    columns: np.ndarray
    sources: np.ndarray
    factors: np.ndarray

    @classmethod
    def of(cls, size: int, *blocks: Entries) -> Fields:
        """Join blocks of entries; there are as many fields as these have rows."""
        flat = [[x.ravel() for x in np.broadcast_arrays(*block)] for block in blocks]
        rows, columns, sources, factors = (np.concatenate(x) for x in zip(*flat, strict=True))
        count = int(rows.max(initial=-1)) + 1
        return cls(size, count, rows, columns, sources, factors.astype(float))

    def at(self, theta: np.ndarray) -> scipy.sparse.csr_matrix:
        """X(θ), shape (count, n)."""
        values = self.factors * np.append(theta, 1.0)[self.sources]
        shape = (self.count, self.size)
        return scipy.sparse.csr_matrix((values, (self.rows, self.columns)), shape)

    def adjoint(self, gradient: np.ndarray) -> scipy.sparse.csr_matrix:
        """(DX_k)ᵀ g for every k, shape (count, n)."""
        moving = self.sources < self.size
        values = (self.factors * gradient[self.columns])[moving]
        at = (self.rows[moving], self.sources[moving])
        return scipy.sparse.csr_matrix((values, at), (self.count, self.size))

    def scaled(self, factors: np.ndarray) -> Fields:
        """Each field times a number, shape (count,)."""
        return replace(self, factors=self.factors * factors[self.rows])


@dataclass(frozen=True)
class Family:
    """Fields that have one cause in one place of the network.

    Attributes:
        cause: a name from ``causes``.
        noun: what there is one of for each field ("units").
        place: where, by the modules' names.
        fields: the vector fields.
        slack: how far g·X may be from 0, relative to its terms, before the family is given up;
            None for rounding only.
    """

    cause: str
    noun: str
    place: str
    fields: Fields
    slack: float | None = None


def contraction_gauge(size: int, left: np.ndarray, right: np.ndarray) -> Fields | None:
    """GL(d) gauge of a sum Σ_i left_i ⊗ right_i: left → M left, right → M⁻ᵀ right.

    X_ij adds row j of ``left`` to row i, and takes row i of ``right`` from row j.

    Args:
        size: number n of parameters.
        left: places of parameters in θ, shape (heads, d, s); each head has a gauge of its own.
        right: shape (heads, d, t).

    Returns:
        heads · d² fields; None where they would have more than 2e7 entries.
    """
    heads, d, _ = left.shape
    if heads * d * d * (left.shape[2] + right.shape[2]) > _MOST_ENTRIES:
        return None
    head = np.arange(heads)[:, None, None, None]
    i, j = np.arange(d)[None, :, None, None], np.arange(d)[None, None, :, None]
    row = (head * d + i) * d + j
    added = (row, left[:, :, None], left[:, None], 1.0)
    return Fields.of(size, added, (row, right[:, None], right[:, :, None], -1.0))


# QR decompositions of what each unit sees; more work or memory than this is not begun.
_MOST_FLOPS = 4e12
_MOST_NUMBERS = 128e6
_ROWS = 4096
# Singular values up to so many roundings of the whole matrix count as zero.
_ROUNDING = 100.0
# A condition number that leaves no doubt that there is no null space.
_REGULAR = 1e9


class NullSpace:
    """The null space of a matrix whose rows come one block after the other.

    A triangular factor of all rows so far is kept, since no block alone tells: a combination that
    one block hardly shows may be plain in another.

    Args:
        columns: number of columns d.
    """

    def __init__(self, columns: int) -> None:
        self.columns = columns
        self.open = columns > 0
        self._factor: torch.Tensor | None = None

    def restrict(self, rows: torch.Tensor) -> None:
        """Take further rows, shape (b, d); costs a QR decomposition of b + d rows."""
        for part in rows.split(_ROWS):
            if not self.open:
                return
            if self._factor is not None:
                part = torch.cat([self._factor, part])
            self._factor = torch.linalg.qr(part, mode="r").R
            self.open = not self._is_regular(self._factor)

    def basis(self) -> torch.Tensor:
        """Orthonormal columns, shape (d, k): singular values up to 100 eps·‖rows‖_F."""
        if self._factor is None or not self.open:
            return torch.zeros(self.columns, 0)
        _, sizes, right = torch.linalg.svd(self._factor, full_matrices=True)
        size = torch.linalg.vector_norm(self._factor)
        limit = _ROUNDING * torch.finfo(size.dtype).eps * size
        return right[int((sizes > limit).sum()) :].T

    def _is_regular(self, factor: torch.Tensor) -> bool:
        """Whether all columns are independent for certain, and stay so with further rows."""
        if len(factor) < self.columns or not bool((factor.diagonal() != 0).all()):
            return False
        unit = torch.eye(self.columns, dtype=factor.dtype, device=factor.device)
        inverse = torch.linalg.solve_triangular(factor, unit, upper=True)
        # Not "not larger than": a product may be NaN.
        return float(torch.linalg.norm(factor) * torch.linalg.norm(inverse)) <= _REGULAR


class _Search:
    """The null spaces of one layer's units; units that see the same share one.

    Args:
        number: of the layer.
        activity: of its units.
        zero_rows: shape (n,); parameters that take no part.
    """

    def __init__(self, number: int, activity: LayerActivity, zero_rows: np.ndarray) -> None:
        self.number, self.activity, self.note = number, activity, ""
        features = ~zero_rows[activity.places]
        groups: dict[bytes, list[int]] = {}
        for unit in range(activity.layer.units):
            key = features[unit].tobytes() + activity.active[:, unit].numpy().tobytes()
            # Where inputs depend on weights, δ of the unit itself takes part.
            groups.setdefault(key if activity.first else str(unit).encode(), []).append(unit)
        self._groups = [(units, np.flatnonzero(features[units[0]])) for units in groups.values()]
        seen = activity.active.sum(0)
        squares = [float(len(columns)) ** 2 for _, columns in self._groups]
        flops = sum(
            2 * square * (float(seen[units[0]]) + len(columns))
            for square, (units, columns) in zip(squares, self._groups, strict=True)
        )
        if flops > _MOST_FLOPS or sum(squares) > _MOST_NUMBERS:
            largest = max(len(columns) for _, columns in self._groups)
            self.note = (
                f"dependent inputs of layer '{activity.layer.name}' were not searched: what "
                f"{len(self._groups):,} units see with up to {largest:,} weights takes too long"
            )
            self._groups = []
        self._spaces = [NullSpace(len(columns)) for _, columns in self._groups]

    @property
    def open(self) -> bool:
        """Whether any direction is left."""
        return any(space.open for space in self._spaces)

    def pass_on(self, derivatives: LayerDerivatives, start: int, stop: int) -> None:
        """Narrow the spaces down by what the units see in some examples."""
        layer = self.activity.layer
        jacobian = derivatives.jacobians[self.number]
        for (units, columns), space in zip(self._groups, self._spaces, strict=True):
            if not space.open:
                continue
            unit = units[0]
            seen = self.activity.active[start:stop, unit].to(derivatives.first.device)
            space.restrict(derivatives.features[self.number][seen][:, columns])
            if jacobian is not None and space.open:
                pulled = derivatives.first[:, layer.first + unit] != 0
                slopes = jacobian[:, pulled].flatten(1).T
                slopes = torch.nn.functional.pad(slopes, (0, layer.features - layer.inputs))
                space.restrict(slopes[(slopes != 0).any(1)][:, columns])

    def rows(self, size: int) -> scipy.sparse.csr_matrix:
        """Bases of the null spaces, for every unit in its own weights: shape (k, n)."""
        places = self.activity.places
        rows = [scipy.sparse.csr_matrix((0, size))]
        for (units, columns), space in zip(self._groups, self._spaces, strict=True):
            basis = space.basis().T.cpu().double().numpy()
            for unit in units:
                starts = np.arange(len(basis) + 1) * len(columns)
                at = np.tile(places[unit, columns], len(basis))
                rows.append(
                    scipy.sparse.csr_matrix((basis.ravel(), at, starts), (len(basis), size))
                )
        return scipy.sparse.vstack(rows, format="csr")


def dependent_inputs(
    hessian: HessianOperator,
    activities: list[LayerActivity],
    zero_rows: np.ndarray,
    progress: Progress,
) -> tuple[list[tuple[LayerActivity, scipy.sparse.csr_matrix]], list[str]]:
    """Find, for each unit, the directions of its weights that it sees nothing of.

    Args:
        hessian: H.
        activities: of its fully connected layers.
        zero_rows: shape (n,); parameters that are null by themselves take no part.
        progress: called with the examples.

    Returns:
        For each layer orthonormal rows, shape (k, n); and notes on what was not searched.
    """
    searches = [_Search(number, activity, zero_rows) for number, activity in enumerate(activities)]
    notes = [search.note for search in searches if search.note]
    for start, stop, derivatives in layer_derivatives(hessian, "dependent inputs", progress):
        for search in searches:
            search.pass_on(derivatives, start, stop)
        if not any(search.open for search in searches):
            break
    found = [(search.activity, search.rows(len(zero_rows))) for search in searches]
    return found, notes
