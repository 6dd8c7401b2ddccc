"""Eigenvectors at the ends of a spectrum: from the matrix where it is small, else by products."""

from __future__ import annotations

import re
import warnings
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import scipy.sparse.linalg
import torch

from hessscope.backends.exact import ExactBackend, symmetrise_
from hessscope.errors import HessscopeWarning, OptionError, SolverError
from hessscope.linalg.lanczos import gaussian
from hessscope.operators import (
    CurvatureOperator,
    as_operator,
    require_memory,
    scipy_operator,
)
from hessscope.progress import Progress, silent
from hessscope.spectra import Eigenpairs, from_the_end

# All eigenvectors of such a matrix take a second, and none can be missed.
_DENSE = 1500
WHICH: dict[str, Literal["LM", "SA", "LA"]] = {"largest": "LM", "lowest": "SA", "highest": "LA"}


@dataclass(frozen=True)
class EigenvectorBackend:
    """Compute k eigenpairs at an end of the spectrum.

    Up to n = 1,500, or where k is a quarter of n, from the assembled matrix. Beyond that by
    implicitly restarted Lanczos (ARPACK, Lehoucq, Sorensen & Yang 1998) from a Gaussian vector;
    cost: some tens of products for isolated eigenvalues, and many more inside a cluster. That no
    eigenvalue was passed over is then all but certain, and not proven: of a multiple one a Krylov
    space holds a single vector, and only rounding brings in the others.

    Attributes:
        count: k; all where there are fewer.
        which: "largest" in magnitude, "lowest" or "highest".
        seed: of the start vector.
        max_products: when to give up; what has converged by then is returned, with a warning.
        memory: bytes that the process may hold; default four fifths of what is free.
    """

    count: int = 10
    which: str = "largest"
    seed: int = 0
    max_products: int = 20_000
    memory: int | None = None

    def __post_init__(self) -> None:
        """Refuse options that mean nothing."""
        if self.count < 1:
            raise OptionError(f"{self.count} eigenvectors were asked for: give at least 1")
        if self.which not in WHICH:
            raise OptionError(f"which is '{self.which}'; it is one of {', '.join(WHICH)}")

    @classmethod
    def parse(cls, text: str | int, **options: Any) -> EigenvectorBackend:
        """Take "5" (of largest magnitude), "lowest:5", "highest:5" or "largest:5".

        Raises:
            OptionError: it is none of these.
        """
        match = re.fullmatch(rf"(?:({'|'.join(WHICH)}):)?(\d+)", str(text).strip())
        if match is None or int(match[2]) < 1:
            raise OptionError(
                f"eigenvectors '{text}' cannot be read: write a number (of largest magnitude), "
                "lowest:5 or highest:5"
            )
        return cls(int(match[2]), match[1] or "largest", **options)

    def solve(self, operator: Any, progress: Progress = silent) -> Eigenpairs:
        """Compute the eigenpairs of a symmetric operator.

        Args:
            operator: as for ``ExactBackend``.
            progress: called with the products.

        Raises:
            MemoryLimitError: the vectors would not fit; nothing was computed.
            SolverError: not a single pair converged.
        """
        op = as_operator(operator)
        before, n = op.hvps, op.shape[0]
        dense = n <= _DENSE or 4 * self.count >= n
        if dense:
            ExactBackend(True, self.memory).check_memory(n, op.dtype, op.device)
            matrix = op.to_dense(progress)
            symmetrise_(matrix)
            values, vectors = (part.cpu().numpy() for part in torch.linalg.eigh(matrix))
        else:
            values, vectors = self._by_products(op, progress)
        # From the end inwards, with their signs settled.
        order = from_the_end(values, self.which)[: self.count]
        values, vectors = values[order], vectors[:, order]
        largest = np.abs(vectors).argmax(0)
        signs = np.sign(vectors[largest, np.arange(len(order))])
        vectors = np.ascontiguousarray(vectors * signs)
        columns = torch.from_numpy(vectors).to(op.device)
        products = op.apply(columns).cpu().numpy()
        residuals = np.linalg.norm((products - vectors * values).astype(np.float64), axis=0)
        return Eigenpairs(
            values=values.astype(np.float64),
            vectors=vectors,
            residuals=residuals,
            which=self.which,
            requested=self.count,
            dtype=str(op.dtype).removeprefix("torch."),
            hvps=op.hvps - before,
            options={"method": "dense" if dense else "arpack", **asdict(self)},
        )

    def _by_products(
        self, op: CurvatureOperator, progress: Progress
    ) -> tuple[np.ndarray, np.ndarray]:
        n, k = op.shape[0], self.count
        width = min(n, max(3 * k, 40))
        require_memory(
            n * (width + 2 * k) * (torch.finfo(op.dtype).bits // 8),
            self.memory,
            torch.device("cpu"),
            f"{k} eigenvectors of n = {n:,} need",
            "ask for fewer",
        )
        start = gaussian(n, 1, self.seed, dtype=op.dtype, device=torch.device("cpu"))[:, 0]
        eps = float(torch.finfo(op.dtype).eps)
        shift = 0.0
        if self.which != "largest":
            # ARPACK's tolerance is relative to each eigenvalue, those near zero never meet it.
            # Away from the end looked at, ‖A‖ is what all of them are large against.
            norm = scipy.sparse.linalg.eigsh(
                _watched(op, progress), 1, v0=start.numpy(), tol=0.01, return_eigenvectors=False
            )
            shift = float(np.abs(norm[0])) * (1.0 if self.which == "highest" else -1.0)
        try:
            values, vectors = scipy.sparse.linalg.eigsh(
                _watched(op, progress, shift),
                k,
                which=WHICH[self.which],
                v0=start.numpy(),
                ncv=width,
                tol=1e3 * eps,
                maxiter=max(1, self.max_products // (width - k)),
            )
        except scipy.sparse.linalg.ArpackNoConvergence as failure:
            values, vectors = failure.eigenvalues, failure.eigenvectors
            if not len(values):
                raise SolverError(
                    f"none of {k} eigenvectors converged in {self.max_products:,} products: the "
                    "eigenvalues there are too close to each other, as those around zero are. Ask "
                    "for the other end of the spectrum"
                ) from failure
            warnings.warn(
                f"{len(values)} of {k} eigenvectors converged in {self.max_products:,} products; "
                "the others lie too close to each other",
                HessscopeWarning,
                stacklevel=4,
            )
        return values - shift, vectors


def _watched(
    op: CurvatureOperator, progress: Progress, shift: float = 0.0
) -> scipy.sparse.linalg.LinearOperator:
    """A + shift·I for SciPy; tells of each product."""
    plain, before = scipy_operator(op), op.hvps
    progress("eigenvectors", 0, 0)

    def matvec(vector: np.ndarray) -> np.ndarray:
        product = plain.matvec(vector) + plain.dtype.type(shift) * vector.reshape(-1)
        progress("eigenvectors", op.hvps - before, 0)
        return product

    return scipy.sparse.linalg.LinearOperator(op.shape, matvec=matvec, dtype=plain.dtype)
