"""Linear dependence among the inputs that a unit sees.

A direction v on the incoming weights of unit u leaves its pre-activation alone on every example on
which it is active if ã·v = 0 there, and then, in the notation of ``operators.dense_layers``, all
products with S and ∂a/∂e of a later layer vanish. Where the inputs themselves depend on earlier
weights, δ[u] ∂(a·v)/∂e must vanish as well. Such v are null at every θ.
"""

from __future__ import annotations

import math

import numpy as np
import scipy.sparse
import torch

from hessscope.operators import HessianOperator
from hessscope.operators.dense_layers import Curvature
from hessscope.progress import Progress
from hessscope.spectra.degeneracy.activity import LayerActivity, curvatures

# The work of finding one null space grows like d³; more than this in all is not begun.
_MOST_FLOPS = 4e12
# Rows at a time, while many directions are left twice as many as these.
_ROWS = 2048
# In units of rounding of the rows passed so far.
_ROUNDING = 100.0


class NullSpace:
    """The null space of a matrix whose rows come one block after the other.

    Singular values up to 100 eps·‖rows‖_F count as zero. Each block only has to be looked at in
    the null space of those before, so all but the first cost little.

    Args:
        columns: number of columns d.
    """

    def __init__(self, columns: int) -> None:
        self.dimension = columns
        self.basis: torch.Tensor | None = None  # until rows come: everything
        self._squares = 0.0

    def restrict(self, rows: torch.Tensor) -> None:
        """Keep what is orthogonal to further rows, shape (b, d)."""
        start = 0
        while start < len(rows) and self.dimension:
            part = rows[start : start + max(_ROWS, 2 * self.dimension)]
            start += len(part)
            self._squares += float(part.square().sum())
            seen = part if self.basis is None else part @ self.basis
            if len(seen) > self.dimension:
                seen = torch.linalg.qr(seen, mode="r").R
            _, sizes, right = torch.linalg.svd(seen, full_matrices=True)
            limit = _ROUNDING * torch.finfo(rows.dtype).eps * math.sqrt(self._squares)
            null = right[int((sizes > limit).sum()) :].T
            self.basis = null if self.basis is None else self.basis @ null
            self.dimension = null.shape[1]


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
        flops = sum(20.0 * len(columns) ** 3 for _, columns in self._groups)
        if flops > _MOST_FLOPS:
            self.note = (
                f"dependent inputs of layer '{activity.layer.name}' were not searched: "
                f"{len(self._groups):,} units of up to "
                f"{max(len(columns) for _, columns in self._groups):,} weights take too long"
            )
            self._groups = []
        self._spaces = [NullSpace(len(columns)) for _, columns in self._groups]

    @property
    def open(self) -> bool:
        """Whether any direction is left."""
        return any(space.dimension for space in self._spaces)

    def pass_on(self, curvature: Curvature, start: int, stop: int) -> None:
        """Narrow the spaces down by what the units see in some examples."""
        layer = self.activity.layer
        jacobian = curvature.jacobians[self.number]
        for (units, columns), space in zip(self._groups, self._spaces, strict=True):
            if not space.dimension:
                continue
            unit = units[0]
            seen = self.activity.active[start:stop, unit].to(curvature.first.device)
            space.restrict(curvature.features[self.number][seen][:, columns])
            if jacobian is not None and space.dimension:
                pulled = curvature.first[:, layer.first + unit] != 0
                slopes = jacobian[:, pulled].flatten(1).T
                slopes = torch.nn.functional.pad(slopes, (0, layer.features - layer.inputs))
                space.restrict(slopes[(slopes != 0).any(1)][:, columns])

    def rows(self, size: int) -> scipy.sparse.csr_matrix:
        """Bases of the null spaces, for every unit in its own weights: shape (k, n)."""
        places = self.activity.places
        rows = [scipy.sparse.csr_matrix((0, size))]
        for (units, columns), space in zip(self._groups, self._spaces, strict=True):
            if space.basis is None:
                continue
            basis = space.basis.T.cpu().double().numpy()
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
        progress: told of the examples.

    Returns:
        For each layer orthonormal rows, shape (k, n); and notes on what was not searched.
    """
    searches = [_Search(number, activity, zero_rows) for number, activity in enumerate(activities)]
    notes = [search.note for search in searches if search.note]
    for start, stop, curvature in curvatures(hessian, "dependent inputs", progress):
        for search in searches:
            search.pass_on(curvature, start, stop)
        if not any(search.open for search in searches):
            break
    found = [(search.activity, search.rows(len(zero_rows))) for search in searches]
    return found, notes
