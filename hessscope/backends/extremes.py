"""The largest and the smallest eigenvalue with their vectors, by products alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import scipy.sparse.linalg
import torch

from hessscope.errors import SolverError, UnknownNameError
from hessscope.operators import as_operator
from hessscope.progress import Progress, silent

ENDS = ("max", "min")
_DENSE = 64
_ACCURACY = 1e-8


@dataclass(frozen=True)
class Eigenpair:
    """An eigenvalue with its vector.

    Attributes:
        end: "max" (algebraically largest) or "min" (smallest).
        value: λ.
        vector: v of length 1, shape (n,).
        residual: ‖Hv − λv‖: an eigenvalue lies within this distance of λ.
    """

    end: str
    value: float
    vector: torch.Tensor
    residual: float


def extreme_eigenpairs(
    operator: Any,
    ends: Sequence[str] = ENDS,
    *,
    seed: int = 0,
    progress: Progress = silent,
) -> tuple[Eigenpair, ...]:
    """Extreme eigenpairs of a symmetric operator by ARPACK (implicitly restarted Lanczos).

    That nothing lies beyond the values found is all but certain with a random start vector, not
    proven. Cost: some tens to hundreds of products, more where the end of the spectrum is crowded;
    matrices of up to 64 rows are solved densely.

    Args:
        operator: as for ``ExactBackend.solve``.
        ends: "max", "min" or both.
        seed: of the start vector.
        progress: told of the products, without a total.

    Raises:
        UnknownNameError: an end is neither "max" nor "min".
        SolverError: ARPACK did not converge.
    """
    for end in ends:
        if end not in ENDS:
            raise UnknownNameError("end of the spectrum", end, ENDS)
    op = as_operator(operator)
    n = op.shape[0]

    def apply(columns: np.ndarray) -> np.ndarray:
        vectors = torch.as_tensor(columns.reshape(n, -1), dtype=op.dtype, device=op.device)
        product = op.apply(vectors).cpu().numpy()
        progress("extreme eigenvectors", op.hvps, 0)
        return product.reshape(columns.shape)

    if n <= _DENSE:
        values, vectors = np.linalg.eigh(apply(np.eye(n)))
    else:
        linear = scipy.sparse.linalg.LinearOperator(
            (n, n), matvec=apply, matmat=apply, dtype=np.float64
        )
        start = np.random.default_rng(seed).standard_normal(n)
        which: Literal["LA", "SA", "BE"] = "BE"
        if len(set(ends)) == 1:
            which = "LA" if ends[0] == "max" else "SA"
        try:
            values, vectors = scipy.sparse.linalg.eigsh(
                linear, k=len(set(ends)), which=which, v0=start, ncv=min(n, 40), tol=_ACCURACY
            )
        except scipy.sparse.linalg.ArpackNoConvergence as error:
            raise SolverError(
                "the extreme eigenvectors did not converge: the end of the spectrum is too "
                "crowded to tell one direction there from the next"
            ) from error
    places = {"max": int(np.argmax(values)), "min": int(np.argmin(values))}
    pairs = []
    for end in ends:
        vector = vectors[:, places[end]]
        value = float(values[places[end]])
        residual = float(np.linalg.norm(apply(vector) - value * vector))
        unit = torch.as_tensor(vector, dtype=op.dtype, device=op.device)
        pairs.append(Eigenpair(end, value, unit, residual))
    return tuple(pairs)
