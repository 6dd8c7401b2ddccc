"""Lanczos tridiagonalisation of several start vectors in lock-step.

All runs advance together: a step is one product with a matrix of as many columns as there are
runs, and the bases are worked on with batched matrix products. Each is kept orthonormal by
classical Gram–Schmidt done twice against all earlier vectors ("twice is enough", Giraud, Langou,
Rozložník & van den Eshof 2005), which makes the Ritz values those of a genuine orthogonal
projection, without ghost copies.
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
        asymmetry: a lower bound of ‖A − Aᵀ‖₂/2, from the products alone: for a symmetric operator
            qᵢᵀA qⱼ is zero for i < j − 1, and βⱼ₋₁ for i = j − 1.
    """

    alphas: np.ndarray
    betas: np.ndarray
    complete: bool
    orthogonality: float
    asymmetry: float = 0.0

    def quadrature(self) -> Quadrature:
        """Gauss rule of the start vector's spectral measure."""
        return gauss(self.alphas, self.betas, self.complete)


def lanczos(
    matmat: MatMat,
    starts: torch.Tensor,
    steps: int,
    *,
    store: torch.device | None = None,
    progress: Progress = silent,
) -> list[LanczosRun]:
    """Run ``steps`` Lanczos steps from every column of ``starts``.

    Cost: ``steps`` products with the operator for each column; reorthogonalisation
    4·n·steps² flops a column. Memory: n·steps numbers a column.

    Args:
        matmat: the symmetric operator, (n, m) to (n, m).
        starts: shape (n, p), need not be normalised; not zero.
        steps: at most n.
        store: where the bases are kept and worked on; default where the start vectors are. The
            main memory holds what is too much for a device.
        progress: told of each step.

    Returns:
        One run for each column. A run that reaches an invariant subspace (residual below
        √n·eps·‖T‖) ends early and is ``complete``.

    Raises:
        NonFiniteError: a product is NaN or infinite.
    """
    n, runs = starts.shape
    steps = min(steps, n)
    eps = float(torch.finfo(starts.dtype).eps)
    away = starts.device
    starts = starts.to(store or away)
    norms = torch.linalg.vector_norm(starts, dim=0)
    if not bool((norms > 0).all()):
        raise ValueError("a start vector of Lanczos is zero")
    # Written to, so that the memory is taken now and not when half of the work is done.
    basis = starts.new_empty((runs, steps, n)).zero_()
    current = (starts / norms).T.contiguous()
    alphas, betas = np.zeros((runs, steps)), np.zeros((runs, steps))
    lengths, ended = np.full(runs, steps), np.zeros(runs, dtype=bool)
    scale, asymmetry = np.zeros(runs), np.zeros(runs)
    length = norms
    progress("Lanczos", 0, steps)
    for step in range(steps):
        basis[:, step] = current
        w = matmat(current.T.to(away)).T.to(basis.device).contiguous()[:, :, None]
        q = basis[:, : step + 1]
        # Coefficients against the newest vector; their sum over both passes is alpha.
        first = q @ w
        before = first[:, :-1, 0].clone()
        if step:
            before[:, -1] -= length  # the last β
        w -= q.mT @ first
        second = q @ w
        w -= q.mT @ second
        length = torch.linalg.vector_norm(w[:, :, 0], dim=1)
        skew = torch.linalg.vector_norm(before, dim=1) / 2
        # The step's only transfer, so that a device is waited for once.
        together = torch.stack([first[:, -1, 0] + second[:, -1, 0], length, skew])
        alpha, beta, skewness = together.cpu().numpy()
        asymmetry = np.where(ended, asymmetry, np.maximum(asymmetry, skewness))
        if not (np.isfinite(alpha).all() and np.isfinite(beta).all()):
            raise NonFiniteError(
                f"product {step + 1} of the Lanczos iteration is not finite: the loss has no "
                "finite second derivative here (inspect the weights and the data for extremes)"
            )
        alphas[~ended, step], betas[~ended, step] = alpha[~ended], beta[~ended]
        scale = np.maximum(scale, np.abs(alpha) + beta)
        new = ~ended & ((beta <= np.sqrt(n) * eps * scale) | (step + 1 == n))
        lengths[new] = step + 1
        ended |= new
        progress("Lanczos", step + 1, steps)
        if ended.all():
            progress("Lanczos", steps, steps)
            break
        # Runs that have ended go on as zero vectors, so that the others stay in lock-step.
        going = torch.from_numpy(~ended).to(w.device)[:, None]
        current = torch.where(going, w[:, :, 0] / length[:, None], torch.zeros_like(w[:, :, 0]))
    results = []
    for run in range(runs):
        k = int(lengths[run])
        q = basis[run, :k]
        loss = float((q @ q.T - torch.eye(k, dtype=q.dtype, device=q.device)).abs().max())
        ends, skew = bool(ended[run]), float(asymmetry[run])
        results.append(LanczosRun(alphas[run, :k], betas[run, :k], ends, loss, skew))
    return results
