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
import scipy.linalg
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
    orthogonality: float = 0.0
    asymmetry: float = 0.0

    def decomposition(self) -> tuple[np.ndarray, np.ndarray]:
        """Eigenvalues, ascending, and eigenvectors (k, k), as columns, of T."""
        return scipy.linalg.eigh_tridiagonal(self.alphas, self.betas[:-1])

    def quadrature(self) -> Quadrature:
        """Gauss rule of the start vector's spectral measure."""
        return gauss(self.alphas, self.betas, self.complete)


def not_finite(step: int) -> str:
    """What to say of a product that is NaN or infinite."""
    return (
        f"product {step + 1} of the Lanczos iteration is not finite: the loss has no finite second "
        "derivative here (inspect the weights and the data for extremes)"
    )


class Lanczos:
    """Runs from every column of ``starts``, which can go on from where they stand.

    Memory: n·steps numbers a run.

    Args:
        starts: shape (n, p), need not be normalised; not zero.
        against: orthonormal vectors as rows, shape (k, n). The runs are those of the operator
            projected on their orthogonal complement, in which the start vectors lie.
        store: where the bases are kept and worked on; default where the start vectors are. The
            main memory holds what is too much for a device.
    """

    def __init__(
        self,
        starts: torch.Tensor,
        *,
        against: torch.Tensor | None = None,
        store: torch.device | None = None,
    ) -> None:
        self._away = starts.device
        starts = starts.to(store or starts.device)
        n, runs = starts.shape
        self._against = starts.new_zeros(0, n) if against is None else against
        self.dimension = n - len(self._against)
        length = torch.linalg.vector_norm(starts, dim=0)
        if not bool((length > 0).all()):
            raise ValueError("a start vector of Lanczos is zero")
        self.basis = starts.new_empty((runs, 0, n))
        self.current = (starts / length).T.contiguous()
        self.length = length
        self.done = 0
        self.alphas, self.betas = np.zeros((runs, 0)), np.zeros((runs, 0))
        self.lengths = np.zeros(runs, dtype=np.int64)
        self.ended = np.zeros(runs, dtype=bool)
        self.scale, self.asymmetry = np.zeros(runs), np.zeros(runs)

    def advance(self, matmat: MatMat, steps: int, progress: Progress = silent) -> None:
        """Go on until so many steps are done in all.

        Cost: a product with the operator for each step and run; reorthogonalisation 4·n·steps²
        flops a run. A run that reaches an invariant subspace (residual below √n·eps·‖T‖) ends.

        Args:
            matmat: the symmetric operator, (n, m) to (n, m).
            steps: at most the dimension of the space.
            progress: told of each step.

        Raises:
            NonFiniteError: a product is NaN or infinite.
        """
        steps = min(steps, self.dimension)
        self._grow(steps)
        progress("Lanczos", self.done, steps)
        while self.done < steps and not self.ended.all():
            self._step(matmat)
            progress("Lanczos", self.done, steps)
        progress("Lanczos", steps, steps)

    def _grow(self, steps: int) -> None:
        """Take memory for so many steps."""
        runs, have, n = self.basis.shape
        if steps <= have:
            return
        # Written to, so that the memory is taken now and not when half of the work is done.
        basis = self.basis.new_empty((runs, steps, n)).zero_()
        basis[:, :have] = self.basis
        self.basis = basis
        more = np.zeros((runs, steps - have))
        self.alphas = np.concatenate([self.alphas, more], axis=1)
        self.betas = np.concatenate([self.betas, more], axis=1)

    def _step(self, matmat: MatMat) -> None:
        step = self.done
        self.basis[:, step] = self.current
        product = matmat(self.current.T.to(self._away)).T
        w = product.to(self.basis.device).contiguous()[:, :, None]
        q = self.basis[:, : step + 1]
        # Coefficients against the newest vector; their sum over both passes is alpha.
        first = q @ w
        before = first[:, :-1, 0].clone()
        if step:
            before[:, -1] -= self.length  # the last β
        w -= q.mT @ first
        self._project(w)
        second = q @ w
        w -= q.mT @ second
        self._project(w)
        self.length = torch.linalg.vector_norm(w[:, :, 0], dim=1)
        skew = torch.linalg.vector_norm(before, dim=1) / 2
        # The step's only transfer, so that a device is waited for once.
        together = torch.stack([first[:, -1, 0] + second[:, -1, 0], self.length, skew])
        alpha, beta, skewness = together.cpu().numpy()
        if not (np.isfinite(alpha).all() and np.isfinite(beta).all()):
            raise NonFiniteError(not_finite(step))
        going = ~self.ended
        self.asymmetry = np.where(going, np.maximum(self.asymmetry, skewness), self.asymmetry)
        self.alphas[going, step], self.betas[going, step] = alpha[going], beta[going]
        self.lengths[going] = step + 1
        self.scale = np.maximum(self.scale, np.abs(alpha) + beta)
        eps = float(torch.finfo(w.dtype).eps)
        rounding = np.sqrt(w.shape[1]) * eps * self.scale
        self.ended |= (beta <= rounding) | (step + 1 == self.dimension)
        # Runs that have ended go on as zero vectors, so that the others stay in lock-step.
        alive = torch.from_numpy(~self.ended).to(w.device)[:, None]
        following = w[:, :, 0] / self.length[:, None]
        self.current = torch.where(alive, following, torch.zeros_like(following))
        self.done = step + 1

    def _project(self, w: torch.Tensor) -> None:
        if len(self._against):
            w[:, :, 0] -= (w[:, :, 0] @ self._against.T) @ self._against

    def runs(self) -> list[LanczosRun]:
        """What has come out so far, one for each start vector."""
        results = []
        for run, k in enumerate(self.lengths.tolist()):
            q = self.basis[run, :k]
            unit = torch.eye(k, dtype=q.dtype, device=q.device)
            loss = float((q @ q.T - unit).abs().max()) if k else 0.0
            if len(self._against) and k:
                loss = max(loss, float((q @ self._against.T).abs().max()))
            results.append(
                LanczosRun(
                    self.alphas[run, :k].copy(),
                    self.betas[run, :k].copy(),
                    bool(self.ended[run]),
                    loss,
                    float(self.asymmetry[run]),
                )
            )
        return results

    def combine(self, run: int, coefficients: np.ndarray) -> torch.Tensor:
        """Combinations of a run's basis vectors, shape (m, n), for coefficients (k, m)."""
        q = self.basis[run, : len(coefficients)]
        return torch.from_numpy(coefficients.T).to(q) @ q


def lanczos(
    matmat: MatMat, starts: torch.Tensor, steps: int, progress: Progress = silent
) -> list[LanczosRun]:
    """Run ``steps`` Lanczos steps from every column of ``starts``; see ``Lanczos``."""
    iteration = Lanczos(starts)
    iteration.advance(matmat, steps, progress)
    return iteration.runs()
