"""Lanczos: with a basis, by its three-term recurrence alone, and its random start vectors.

All runs advance together: a step is one product with a matrix of as many columns as there are
runs, and the bases are worked on with batched matrix products. Each is kept orthonormal by
classical Gram–Schmidt done twice against all earlier vectors ("twice is enough", Giraud, Langou,
Rozložník & van den Eshof 2005), which makes the Ritz values those of a genuine orthogonal
projection, without ghost copies.

Rounding makes the vectors lose their orthogonality as soon as a Ritz pair has converged, and
converged ones come again as ghost copies. The tridiagonal matrix is then close to that of an exact
run on a larger matrix, whose eigenvalues lie in tiny clusters around the operator's (Greenbaum
1989): the weights of the copies add up to what the one node should have.
"""

from __future__ import annotations

import math
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.linalg
import torch

from hessscope.errors import NonFiniteError
from hessscope.linalg.quadrature import Quadrature, gauss
from hessscope.linalg.stored_rows import State, StoredRows
from hessscope.progress import Progress, silent

# Residuals this many eps·‖T‖ long are made orthogonal once more.
_CANCELLED = 64.0
# Random numbers that are drawn at once, in float64 whatever the data type.
_DRAWN = 1 << 20

MatMat = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class LanczosRun:
    """Result of one start vector.

    Attributes:
        alphas: diagonal of T, shape (k,).
        betas: shape (k,): off-diagonal of T (k − 1) and the norm of the last residual.
        orthogonality: max |QᵀQ − I| over the basis, and ‖QᵀQ − I‖_F of a stored one, with the last
            residual among its vectors; NaN where none was kept.
        asymmetry: a lower bound of ‖A − Aᵀ‖₂/2, from the products alone: for a symmetric operator
            qᵢᵀA qⱼ is zero for i < j − 1, and βⱼ₋₁ for i = j − 1.
    """

    alphas: np.ndarray
    betas: np.ndarray
    orthogonality: float = 0.0
    asymmetry: float = 0.0

    def decomposition(self) -> tuple[np.ndarray, np.ndarray]:
        """Eigenvalues, ascending, and eigenvectors (k, k), as columns, of T."""
        return scipy.linalg.eigh_tridiagonal(self.alphas, self.betas[:-1])

    def quadrature(self) -> Quadrature:
        """Gauss rule of the start vector's spectral measure."""
        return gauss(self.alphas, self.betas)


class LanczosIteration(ABC):
    """Runs in lock-step, which can be stopped after any step, stored, and gone on with.

    Args:
        starts: shape (n, p), need not be normalised; not zero.
        dimension: of the space in which the runs stay; no run has more steps.
        norm: lower bound of ‖A‖₂, by which the rounding of products is judged.

    Attributes:
        negligible: a residual that is no more than so many eps·‖T‖ long ends a run.
        grown: arrays whose second dimension are the steps.
        kept: others that the next step needs.
        eps: of the basis.
    """

    negligible: float
    grown: tuple[str, ...] = ("alphas", "betas")
    kept: tuple[str, ...] = ("lengths", "ended", "scale", "asymmetry", "length", "current")

    def __init__(self, starts: torch.Tensor, dimension: int, norm: float = 0.0) -> None:
        runs = starts.shape[1]
        self.dimension = dimension
        self.length = row_lengths(starts.T)
        if not bool((self.length > 0).all()):
            raise ValueError("a start vector of Lanczos is zero")
        self.current = (starts / self.length).T.contiguous()
        self.eps = float(torch.finfo(starts.dtype).eps)
        self.done = 0
        self.alphas, self.betas = np.zeros((runs, 0)), np.zeros((runs, 0))
        self.lengths = np.zeros(runs, dtype=np.int64)
        self.ended = np.zeros(runs, dtype=bool)
        self.scale, self.asymmetry = np.full(runs, norm), np.zeros(runs)

    def advance(
        self,
        matmat: MatMat,
        steps: int,
        progress: Progress = silent,
        after: Callable[[], None] = lambda: None,
    ) -> None:
        """Go on until so many steps are done in all.

        Cost: a product with the operator for each step and run. A run ends where its residual is
        negligible.

        Args:
            matmat: the symmetric operator, (n, m) to (n, m).
            steps: at most the dimension of the space.
            progress: called with each step.
            after: called after each step.

        Raises:
            NonFiniteError: a product is NaN or infinite.
        """
        steps = min(steps, self.dimension)
        self._take_memory(steps)
        missing = max(0, steps - self.alphas.shape[1])
        self.alphas = np.pad(self.alphas, ((0, 0), (0, missing)))
        self.betas = np.pad(self.betas, ((0, 0), (0, missing)))
        progress("Lanczos", self.done, steps)
        while self.done < steps and not self.ended.all():
            self._note(*self._step(matmat))
            progress("Lanczos", self.done, steps)
            after()
        progress("Lanczos", steps, steps)

    def _take_memory(self, steps: int) -> None:  # noqa: B027 - without bases nothing grows
        """Make room for so many steps."""

    @abstractmethod
    def _step(self, matmat: MatMat) -> tuple[torch.Tensor, np.ndarray, np.ndarray, np.ndarray]:
        """The residual, as rows; its length is ``self.length``. And α, β and the asymmetry."""

    def _note(
        self, residual: torch.Tensor, alpha: np.ndarray, beta: np.ndarray, skew: np.ndarray
    ) -> None:
        """Keep what a step gave, and see which runs have ended."""
        step = self.done
        if not (np.isfinite(alpha).all() and np.isfinite(beta).all()):
            raise NonFiniteError(
                f"product {step + 1} of the Lanczos iteration is not finite: the loss has no "
                "finite second derivative here (inspect the weights and the data for extremes)"
            )
        going = ~self.ended
        self.asymmetry = np.where(going, np.maximum(self.asymmetry, skew), self.asymmetry)
        self.alphas[going, step], self.betas[going, step] = alpha[going], beta[going]
        self.lengths[going] = step + 1
        self.scale = np.maximum(self.scale, np.abs(alpha) + beta)
        least = self.negligible * self.eps * self.scale
        self.ended |= (beta <= least) | (step + 1 == self.dimension)
        # Runs that have ended go on as zero vectors, so that the others stay in lock-step.
        residual /= self.length[:, None]
        residual[torch.from_numpy(self.ended).to(residual.device)] = 0
        self.current = residual
        self.done = step + 1

    def runs(self) -> list[LanczosRun]:
        """What has come out so far, one for each start vector."""
        return [
            LanczosRun(
                self.alphas[run, :k].copy(),
                self.betas[run, :k].copy(),
                self._orthogonality(run, k),
                float(self.asymmetry[run]),
            )
            for run, k in enumerate(self.lengths.tolist())
        ]

    def _orthogonality(self, run: int, steps: int) -> float:
        """max |QᵀQ − I| of a run; NaN where no basis is kept."""
        return math.nan

    def state(self) -> State:
        """Everything that the next step needs, as arrays."""
        values = {name: getattr(self, name) for name in self.kept}
        values |= {name: getattr(self, name)[:, : self.done] for name in self.grown}
        arrays = {name: torch.as_tensor(value).cpu().numpy() for name, value in values.items()}
        return {"done": np.array(self.done), **arrays}

    def restore(self, state: State) -> None:
        """Go back to a state; what comes then is the same bit for bit (on the CPU)."""
        self.done = int(state["done"])
        for name in (*self.grown, *self.kept):
            own, value = getattr(self, name), state[name]
            is_tensor = isinstance(own, torch.Tensor)
            setattr(self, name, torch.from_numpy(value).to(own) if is_tensor else value.copy())


class Lanczos(LanczosIteration):
    """Runs whose bases are kept orthonormal.

    A residual may be nothing but rounding: made orthogonal to the basis like any other, it is as
    good a direction, and AQ = QT + βqeᵀ holds to some eps·‖A‖ on. So a run does not end where
    eigenvalues of that size are left to be told apart, but where the residual is a thousandth of
    rounding.

    Cost: reorthogonalisation takes 4·n·steps² flops a run. Memory: n·steps numbers a run.

    Args:
        starts: shape (n, p), need not be normalised; not zero.
        against: orthonormal vectors as rows, shape (k, n). The runs are those of the operator
            projected on their orthogonal complement, in which the start vectors lie.
        norm: lower bound of ‖A‖₂: on a complement A may be small, but its products are not any
            more exact there.
        store: where the bases are kept and worked on; default where the start vectors are. The
            main memory holds what is too much for a device.
    """

    negligible = 2.0**-10
    grown = (*LanczosIteration.grown, "basis")

    def __init__(
        self,
        starts: torch.Tensor,
        *,
        against: torch.Tensor | None = None,
        norm: float = 0.0,
        store: torch.device | None = None,
    ) -> None:
        self._away = starts.device
        starts = starts.to(store or starts.device)
        n, runs = starts.shape
        self._against = starts.new_zeros(0, n) if against is None else against.to(starts.device)
        self.basis = starts.new_empty((runs, 0, n))
        super().__init__(starts, n - len(self._against), norm)

    def _take_memory(self, steps: int) -> None:
        runs, have, n = self.basis.shape
        if steps <= have:
            return
        # Written to, so that the memory is taken now and not when half of the work is done.
        basis = self.basis.new_empty((runs, steps, n)).zero_()
        basis[:, :have] = self.basis
        self.basis = basis

    def _step(self, matmat: MatMat) -> tuple[torch.Tensor, np.ndarray, np.ndarray, np.ndarray]:
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
        self.length = row_lengths(w[:, :, 0])
        skew = row_lengths(before) / 2 if step else torch.zeros_like(self.length)
        # The step's only transfer, so that a device is waited for once.
        together = torch.stack([first[:, -1, 0] + second[:, -1, 0], self.length, skew])
        alpha, beta, skewness = together.cpu().numpy()
        return w[:, :, 0], alpha, beta, skewness

    def _note(
        self, residual: torch.Tensor, alpha: np.ndarray, beta: np.ndarray, skew: np.ndarray
    ) -> None:
        super()._note(residual, alpha, beta, skew)
        if not np.any(~self.ended & (beta <= _CANCELLED * self.eps * self.scale)):
            return
        # So much has cancelled that what is left may lie in the basis.
        q, w = self.basis[:, : self.done], self.current[:, :, None]
        for _ in range(2):
            w = w - q.mT @ (q @ w)
            self._project(w)
            w /= row_lengths(w[:, :, 0]).clamp_min(torch.finfo(w.dtype).tiny)[:, None, None]
        self.current = w[:, :, 0]

    def _project(self, w: torch.Tensor) -> None:
        if len(self._against):
            w[:, :, 0] -= (w[:, :, 0] @ self._against.T) @ self._against

    def _orthogonality(self, run: int, steps: int) -> float:
        if not steps:
            return 0.0
        q = self.basis[run, :steps]
        loss = float((q @ q.T - torch.eye(steps, dtype=q.dtype, device=q.device)).abs().max())
        if len(self._against):
            loss = max(loss, float((q @ self._against.T).abs().max()))
        return loss

    def combine(self, run: int, coefficients: np.ndarray) -> torch.Tensor:
        """Combinations of a run's basis vectors, shape (m, n), for coefficients (k, m)."""
        q = self.basis[run, : len(coefficients)]
        return torch.from_numpy(coefficients.T).to(q) @ q


class StoredLanczos(LanczosIteration):
    """One run whose basis is held in float32, in memory or in a file; all sums are in float64.

    A vector is rounded before A is applied to it, so that the basis has exactly the vectors that
    were multiplied. It is kept orthonormal as that of ``Lanczos`` is, and what orthogonality is
    left is measured: η = ‖QᵀQ − I‖_F over all its vectors, those it is kept away from included.

    What that means: with AQ = QH + F, H with the coefficients of all vectors, and U the orthonormal
    factor of Q = UP, UᵀAU differs from H by at most η(‖H‖ + β) + ‖F‖ to first order, and, being
    symmetric, from the tridiagonal T by at most √2 times that in the Frobenius norm. F is what
    rounding a vector leaves: ‖F‖_F ≤ eps/2·‖T‖_F. So Ritz values are, to within
    3η‖A‖ + eps·‖T‖_F, those of an orthogonal projection of A.

    Cost: three passes over the basis a step, and one for η; 4·n·steps² flops. Memory: of the basis
    4·n·(steps + 1) bytes, or 64 MB where a file holds it.

    Args:
        starts: shape (n, 1), in main memory, need not be normalised; not zero. Its part along
            ``against`` is taken off, in place.
        rows: with room for the vectors of ``against``, those of all steps, and one more.
        against: orthonormal vectors as rows, shape (k, n), as for ``Lanczos``.
        norm: lower bound of ‖A‖₂.
        device: where A takes vectors; default the main memory.
    """

    negligible = Lanczos.negligible
    kept = ("lengths", "ended", "scale", "asymmetry", "length")

    def __init__(
        self,
        starts: torch.Tensor,
        rows: StoredRows,
        *,
        against: torch.Tensor,
        norm: float = 0.0,
        device: torch.device | None = None,
    ) -> None:
        self._away, self._dtype = device or starts.device, starts.dtype
        self.rows, self._first = rows, len(against)
        for number, row in enumerate(against):
            rows.write(number, row)
        rows.remove_from(starts[:, 0], self._first)
        super().__init__(starts, len(starts) - self._first, norm)
        self.length = _length(starts[:, 0])
        self.current = starts.T / self.length
        self.eps = float(torch.finfo(torch.float32).eps)
        self._measured: tuple[int, float] = (0, 0.0)
        self._keep_current()

    def _keep_current(self) -> None:
        self.current = self.current.float()
        self.rows.write(self._first + self.done, self.current[0])

    def _step(self, matmat: MatMat) -> tuple[torch.Tensor, np.ndarray, np.ndarray, np.ndarray]:
        w = matmat(self.current.T.to(self._away, self._dtype))[:, 0].cpu()
        first, second = self.rows.remove_from(w, self._first + self.done + 1)
        before = first[self._first : -1]
        skew = 0.0
        if self.done:
            before[-1] -= float(self.length)  # the last β
            skew = float(np.linalg.norm(before)) / 2
        self.length = _length(w)
        alpha = np.array([first[-1] + second[-1]])
        return w[None], alpha, self.length.numpy(), np.array([skew])

    def _note(
        self, residual: torch.Tensor, alpha: np.ndarray, beta: np.ndarray, skew: np.ndarray
    ) -> None:
        super()._note(residual, alpha, beta, skew)
        if np.any(~self.ended & (beta <= _CANCELLED * self.eps * self.scale)):
            # So much has cancelled that what is left may lie in the basis.
            w = self.current[0]
            self.rows.remove_from(w, self._first + self.done)
            w /= _length(w)
        self._keep_current()

    def _orthogonality(self, run: int, steps: int) -> float:
        count = self._first + steps + int(not self.ended[run])
        if self._measured[0] != count:
            loss = self.rows.gram(count) - np.eye(count)
            self._measured = (count, float(np.linalg.norm(loss)))
        return self._measured[1]

    def combine(self, run: int, coefficients: np.ndarray) -> torch.Tensor:
        """Combinations of the run's basis vectors, shape (m, n), for coefficients (k, m)."""
        return self.rows.combine(coefficients, self._first)

    def state(self) -> State:
        """Everything that the next step needs; of a basis in a file, its checksums."""
        return {**super().state(), **self.rows.state(self._first + self.done + 1)}

    def restore(self, state: State) -> None:
        """Go back to a state.

        Raises:
            RecordError: the file does not hold the basis of it.
        """
        self.rows.restore(state)
        super().restore(state)
        self.current = self.rows.read(self._first + self.done)[None]


def row_lengths(rows: torch.Tensor) -> torch.Tensor:
    """2-norm of each row, also where the squares of its entries would be zero or infinite."""
    largest = rows.abs().amax(1, keepdim=True)
    largest = torch.where(largest > 0, largest, torch.ones_like(largest))
    return largest[:, 0] * torch.linalg.vector_norm(rows / largest, dim=1)


def _length(vector: torch.Tensor) -> torch.Tensor:
    """2-norm of a vector, shape (1,), summed in float64."""
    parts = [row_lengths(part.double()[None]) for part in vector.split(_DRAWN)]
    return row_lengths(torch.cat(parts)[None])


def lanczos(
    matmat: MatMat, starts: torch.Tensor, steps: int, progress: Progress = silent
) -> list[LanczosRun]:
    """Run ``steps`` Lanczos steps from every column of ``starts``; see ``Lanczos``."""
    iteration = Lanczos(starts)
    iteration.advance(matmat, steps, progress)
    return iteration.runs()


class LanczosRecurrence(LanczosIteration):
    """Runs without bases. Memory: 3 vectors a run.

    Args:
        starts: shape (n, p), need not be normalised; not zero.
    """

    kept = (*LanczosIteration.kept, "before", "last")

    def __init__(self, starts: torch.Tensor) -> None:
        # Copies come before everything is found, so that more steps than dimensions have a use.
        super().__init__(starts, sys.maxsize)
        # One that is nothing but rounding would not be orthogonal to the last vectors. Residuals of
        # Krylov spaces that are invariant were seen up to 3 √n·eps·‖T‖.
        self.negligible = 64.0 * math.sqrt(len(starts))
        self.before = torch.zeros_like(self.current)
        self.last = torch.zeros_like(self.length)

    def _step(self, matmat: MatMat) -> tuple[torch.Tensor, np.ndarray, np.ndarray, np.ndarray]:
        w = matmat(self.current.T).T - self.last[:, None] * self.before
        diagonal = torch.sum(w * self.current, dim=1)
        w -= diagonal[:, None] * self.current
        self.before, self.last = self.current, row_lengths(w)
        self.length = self.last
        alpha, beta = torch.stack([diagonal, self.last]).cpu().numpy()
        return w, alpha, beta, np.zeros_like(alpha)


def gaussian(
    n: int, probes: int, seed: int, *, dtype: torch.dtype, device: torch.device, first: int = 0
) -> torch.Tensor:
    """Vectors of independent standard normal numbers, as columns: shape (n, probes).

    Every probe has a stream of its own, spawned from the seed by its number, so that probe 3 is
    the same vector whether it is drawn with others or alone. Their distribution does not change
    under rotations, so that vᵀEv for the projector E on m of n eigenvectors has a known one: χ²
    with m degrees of freedom, whatever the eigenvectors are.

    Args:
        n: length of a vector.
        probes: how many.
        seed: root of the streams.
        dtype: of the result.
        device: of the result.
        first: number of the first probe.
    """
    columns = torch.empty(n, probes, dtype=dtype)
    for j in range(probes):
        stream = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(first + j,)))
        for start in range(0, n, _DRAWN):
            part = stream.standard_normal(min(_DRAWN, n - start))
            columns[start : start + _DRAWN, j] = torch.from_numpy(part)
    return columns.to(device)
