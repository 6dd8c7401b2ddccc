"""Lanczos by its three-term recurrence alone: two vectors a run instead of a basis.

Rounding makes the vectors lose their orthogonality as soon as a Ritz pair has converged, and
converged ones come again as ghost copies. The tridiagonal matrix is then close to that of an exact
run on a larger matrix, whose eigenvalues lie in tiny clusters around the operator's (Greenbaum
1989): the weights of the copies add up to what the one node should have.
"""

from __future__ import annotations

import numpy as np
import torch

from hessscope.errors import NonFiniteError
from hessscope.linalg.lanczos import LanczosRun, MatMat, not_finite
from hessscope.progress import Progress, silent


def lanczos_recurrence(
    matmat: MatMat, starts: torch.Tensor, steps: int, progress: Progress = silent
) -> list[LanczosRun]:
    """Run ``steps`` steps from every column of ``starts`` without any basis.

    Cost: a product with the operator for each step and run. Memory: 3 vectors a run.

    Args:
        matmat: the symmetric operator, (n, m) to (n, m).
        starts: shape (n, p), need not be normalised; not zero.
        steps: may exceed n, since copies come before everything is found.
        progress: told of each step.

    Raises:
        NonFiniteError: a product is NaN or infinite.
    """
    runs = starts.shape[1]
    current = starts / torch.linalg.vector_norm(starts, dim=0)
    before = torch.zeros_like(current)
    length = current.new_zeros(runs)
    alphas, betas = np.zeros((runs, steps)), np.zeros((runs, steps))
    lengths, scale = np.full(runs, steps), np.zeros(runs)
    ended = np.zeros(runs, dtype=bool)
    eps = float(torch.finfo(starts.dtype).eps)
    progress("Lanczos", 0, steps)
    for step in range(steps):
        w = matmat(current) - length * before
        diagonal = torch.sum(w * current, dim=0)
        w -= diagonal * current
        length = torch.linalg.vector_norm(w, dim=0)
        alpha, beta = torch.stack([diagonal, length]).cpu().numpy()
        if not (np.isfinite(alpha).all() and np.isfinite(beta).all()):
            raise NonFiniteError(not_finite(step))
        going = ~ended
        alphas[going, step], betas[going, step] = alpha[going], beta[going]
        scale = np.maximum(scale, np.abs(alpha) + beta)
        ending = going & (beta <= np.sqrt(len(starts)) * eps * scale)
        lengths[ending] = step + 1
        ended |= ending
        progress("Lanczos", step + 1, steps)
        if ended.all():
            break
        alive = torch.from_numpy(~ended).to(w.device)
        before, current = current, torch.where(alive, w / length, torch.zeros_like(w))
    return [
        LanczosRun(alphas[j, :k], betas[j, :k], bool(ended[j]), float("nan"))
        for j, k in enumerate(lengths.tolist())
    ]
