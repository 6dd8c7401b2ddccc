"""Lanczos by its three-term recurrence alone: two vectors a run instead of a basis.

Rounding makes the vectors lose their orthogonality as soon as a Ritz pair has converged, and
converged ones come again as ghost copies. The tridiagonal matrix is then close to that of an exact
run on a larger matrix, whose eigenvalues lie in tiny clusters around the operator's (Greenbaum
1989): the weights of the copies add up to what the one node should have.
"""

from __future__ import annotations

import math
import sys

import numpy as np
import torch

from hessscope.linalg.lanczos import LanczosIteration, MatMat, State, row_lengths


class LanczosRecurrence(LanczosIteration):
    """Runs without bases. Memory: 3 vectors a run.

    Args:
        starts: shape (n, p), need not be normalised; not zero.
    """

    def __init__(self, starts: torch.Tensor) -> None:
        # Copies come before everything is found, so that more steps than dimensions have a use.
        super().__init__(starts, sys.maxsize)
        # One that is nothing but rounding would not be orthogonal to the last vectors. Residuals of
        # Krylov spaces that are invariant were seen up to 3 √n·eps·‖T‖.
        self.negligible = 64.0 * math.sqrt(len(starts))
        self.before = torch.zeros_like(self.current)
        self.last = torch.zeros_like(self.length)

    def _take_memory(self, steps: int) -> None:
        """Nothing grows."""

    def _step(self, matmat: MatMat) -> tuple[torch.Tensor, np.ndarray, np.ndarray, np.ndarray]:
        w = matmat(self.current.T).T - self.last[:, None] * self.before
        diagonal = torch.sum(w * self.current, dim=1)
        w -= diagonal[:, None] * self.current
        self.before, self.last = self.current, row_lengths(w)
        self.length = self.last
        alpha, beta = torch.stack([diagonal, self.last]).cpu().numpy()
        return w, alpha, beta, np.zeros_like(alpha)

    def _orthogonality(self, run: int, steps: int) -> float:
        return math.nan

    def state(self) -> State:
        """Everything that the next step needs."""
        return {
            **super().state(),
            "before": self.before.cpu().numpy(),
            "last": self.last.cpu().numpy(),
        }

    def restore(self, state: State) -> None:
        """Go back to a state."""
        super().restore(state)
        self.before = torch.from_numpy(state["before"]).to(self.current)
        self.last = torch.from_numpy(state["last"]).to(self.current)
