"""Lanczos tridiagonalisation of several start vectors in lock-step.

All runs advance together: a step is one product with a matrix of as many columns as there are
runs. Each basis is kept orthonormal by classical Gram–Schmidt done twice against all earlier
vectors ("twice is enough", Giraud, Langou, Rozložník & van den Eshof 2005), which makes the
Ritz values those of a genuine orthogonal projection, without ghost copies.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from hessscope.errors import NonFiniteError
from hessscope.linalg.quadrature import Quadrature, gauss
from hessscope.progress import Progress, silent

MatMat = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class LanczosRun:
    """Result of one start vector.

    Attributes:
        alphas: diagonal of T, shape (k,).
        betas: shape (k,): off-diagonal of T (k − 1) and the norm of the last residual.
        complete: the Krylov space turned out invariant after k steps.
        orthogonality: max |QᵀQ − I| over the basis.
    """

    alphas: np.ndarray
    betas: np.ndarray
    complete: bool
    orthogonality: float

    def quadrature(self) -> Quadrature:
        """Gauss rule of the start vector's spectral measure."""
        return gauss(self.alphas, self.betas, self.complete)


def lanczos(
    matmat: MatMat,
    starts: torch.Tensor,
    steps: int,
    *,
    progress: Progress = silent,
) -> list[LanczosRun]:
    """Run ``steps`` Lanczos steps from every column of ``starts``.

    Cost: ``steps`` products with the operator for each column; reorthogonalisation
    4·n·steps² flops a column. Memory: n·steps numbers a column.

    Args:
        matmat: the symmetric operator, (n, m) to (n, m).
        starts: shape (n, p), need not be normalised; not zero.
        steps: at most n.
        progress: told of each step.

    Returns:
        One run for each column. A run that reaches an invariant subspace (residual below
        √n·eps·‖T‖) ends early and is ``complete``.

    Raises:
        NonFiniteError: a product is NaN or infinite.
    """
    n, runs = starts.shape
    steps = min(steps, n)
    eps = torch.finfo(starts.dtype).eps
    norms = torch.linalg.vector_norm(starts, dim=0)
    if not bool((norms > 0).all()):
        raise ValueError("a start vector of Lanczos is zero")
    basis = starts.new_empty((runs, steps, n))
    current = (starts / norms).T.contiguous()
    alphas = np.zeros((runs, steps))
    betas = np.zeros((runs, steps))
    lengths = np.full(runs, steps)
    active = list(range(runs))
    scale = np.zeros(runs)
    progress("Lanczos", 0, steps)
    for step in range(steps):
        for row, run in enumerate(active):
            basis[run, step] = current[row]
        product = matmat(current.T).T.contiguous()
        still, following = [], []
        for row, run in enumerate(active):
            w, q = product[row], basis[run, : step + 1]
            # Coefficients against the newest vector; their sum over both passes is alpha.
            first = q @ w
            w = w - q.T @ first
            second = q @ w
            w = w - q.T @ second
            alpha = float(first[-1] + second[-1])
            beta = float(torch.linalg.vector_norm(w))
            if not np.isfinite(alpha) or not np.isfinite(beta):
                raise NonFiniteError(
                    f"product {step + 1} of the Lanczos iteration is not finite: the loss has no "
                    "finite second derivative here (inspect the weights and the data for extremes)"
                )
            alphas[run, step], betas[run, step] = alpha, beta
            scale[run] = max(scale[run], abs(alpha) + beta)
            if beta <= np.sqrt(n) * eps * scale[run] or step + 1 == n:
                lengths[run] = step + 1
            else:
                still.append(run)
                following.append(w / beta)
        active = still
        progress("Lanczos", step + 1, steps)
        if not active:
            progress("Lanczos", steps, steps)
            break
        current = torch.stack(following)
    results = []
    for run in range(runs):
        k = int(lengths[run])
        q = basis[run, :k]
        loss = float((q @ q.T - torch.eye(k, dtype=q.dtype, device=q.device)).abs().max())
        complete = k < steps or bool(betas[run, k - 1] <= np.sqrt(n) * eps * scale[run]) or k == n
        results.append(LanczosRun(alphas[run, :k], betas[run, :k], complete, loss))
    return results
