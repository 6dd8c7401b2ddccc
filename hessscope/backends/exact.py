"""Every eigenvalue: assemble, symmetrise, solve."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import scipy.linalg
import torch

from hessscope.backends.noise import operator_noise, solver_noise, warn_of_disagreement
from hessscope.errors import MemoryLimitError, NonFiniteError, SolverError
from hessscope.linalg.lapack import eigenvalues_in_place
from hessscope.operators import as_operator, memory_in_words, memory_room, room_in_words
from hessscope.progress import Progress, silent
from hessscope.spectra import NoiseFloor, Spectrum

# LAPACK's divide and conquer asks for 2n² + 6n + 1 numbers when vectors are wanted, counted in
# 32 bits: beyond this n the count overflows.
_LARGEST_DIVIDE_AND_CONQUER = 32_700


@dataclass(frozen=True)
class ExactBackend:
    """Assemble the matrix and compute all its eigenvalues.

    Cost: what ``to_dense`` of the operator takes (a product for each parameter that is not in a
    fully connected layer), and 4/3·n³ flops, n without the rows that are exactly zero. Memory:
    8n² bytes in float64, four times as much with eigenvectors.

    Attributes:
        eigenvectors: compute them too.
        memory: bytes that the process may hold; default four fifths of what is free.
    """

    eigenvectors: bool = False
    memory: int | None = None

    def solve(self, operator: Any, progress: Progress = silent) -> Spectrum:
        """Compute the spectrum of a symmetric operator.

        Args:
            operator: a ``HessianOperator``, a SciPy ``LinearOperator`` or sparse matrix, a NumPy
                array or a torch matrix; symmetric (the asymmetry is measured and removed).
            progress: told of the assembly's columns and of the solver's start and end.

        Raises:
            MemoryLimitError: the matrix would not fit; nothing was computed.
            NonFiniteError: the matrix has NaN or infinity.
            SolverError: LAPACK did not converge.
        """
        op = as_operator(operator)
        self.check_memory(op.shape[0], op.dtype, op.device)
        before = op.hvps
        matrix = op.to_dense(progress)
        # In parts: torch.isfinite takes more memory than what it is given.
        if not all(bool(torch.isfinite(rows).all()) for rows in matrix.split(1024)):
            raise NonFiniteError("the matrix has NaN or infinite entries: it has no spectrum")
        asymmetry = symmetrise_(matrix)
        noise, products = operator_noise(op, matrix)
        noise = max(noise, asymmetry)
        hvps = op.hvps - before + products
        dtype = str(op.dtype).removeprefix("torch.")
        n = len(matrix)
        if not self.eigenvectors:
            matrix = without_zero_rows_(matrix)
        values, vectors = self._eigenvalues(matrix, progress)
        # A zero row and column is an eigenvalue that is exactly zero.
        values = np.sort(np.append(values, np.zeros(n - len(values))))
        warn_of_disagreement(noise, float(np.abs(values).max()), op.dtype)
        return Spectrum(
            eigenvalues=values.astype(np.float64),
            noise_floor=NoiseFloor(solver_noise(values, op.dtype), noise),
            dtype=dtype,
            eigenvectors=vectors,
            hvps=hvps,
            options={"backend": "exact", **asdict(self), "asymmetry": asymmetry},
        )

    def memory_needed(self, n: int, dtype: torch.dtype) -> int:
        """Bytes for the matrix, and for the vectors and their workspace if they are wanted."""
        return n * n * torch.finfo(dtype).bits // 8 * (4 if self.eigenvectors else 1)

    def check_memory(self, n: int, dtype: torch.dtype, device: torch.device) -> None:
        """Refuse a matrix that would not fit.

        Raises:
            MemoryLimitError: says what it would need, what there is, and what to do.
        """
        needed = self.memory_needed(n, dtype)
        if needed > memory_room(self.memory, device):
            narrow = " --dtype float32 halves it;" if dtype == torch.float64 else ""
            raise MemoryLimitError(
                f"the exact spectrum of n = {n:,} parameters needs {memory_in_words(needed)}, and "
                f"{room_in_words(self.memory, device)};{narrow} --backend lanczos needs no matrix"
            )

    def _eigenvalues(
        self, matrix: torch.Tensor, progress: Progress
    ) -> tuple[np.ndarray, np.ndarray | None]:
        try:
            if matrix.device.type == "cuda":
                if not self.eigenvectors:
                    return torch.linalg.eigvalsh(matrix).cpu().numpy(), None
                found, vectors = torch.linalg.eigh(matrix)
                return found.cpu().numpy(), vectors.cpu().numpy()
            if not self.eigenvectors:
                stage = f"eigenvalues of {len(matrix):,} rows"
                progress(stage, 0, 0)
                values = eigenvalues_in_place(matrix.numpy(), lambda: progress(stage, 0, 0))
                progress(stage, 1, 1)
                return values, None
            driver: Literal["evd", "evr"] = (
                "evd" if len(matrix) <= _LARGEST_DIVIDE_AND_CONQUER else "evr"
            )
            # The transpose is Fortran-ordered, so LAPACK works in the tensor's own memory.
            return scipy.linalg.eigh(
                matrix.numpy().T, overwrite_a=True, check_finite=False, driver=driver
            )
        except (scipy.linalg.LinAlgError, torch.linalg.LinAlgError) as error:
            raise SolverError(f"the eigenvalue solver failed: {error}") from error


def without_zero_rows_(matrix: torch.Tensor) -> torch.Tensor:
    """Leave out rows and columns that are exactly zero; in the matrix's own memory.

    Args:
        matrix: symmetric, contiguous; its contents are lost.
    """
    n = len(matrix)
    live = torch.cat([(rows != 0).any(1) for rows in matrix.split(1024)]).nonzero()[:, 0]
    m = len(live)
    if m == n:
        return matrix
    memory = matrix.view(-1)
    for i, row in enumerate(live.tolist()):
        # Row i of the small matrix ends before row i of the large one begins or within it.
        memory[i * m : (i + 1) * m] = matrix[row, live]
    return memory[: m * m].view(m, m)


def symmetrise_(matrix: torch.Tensor, block: int = 2048) -> float:
    """Replace A by (A + Aᵀ)/2 in place, block by block; return the largest |A − Aᵀ|/2 found."""
    n, largest = len(matrix), 0.0
    for i in range(0, n, block):
        for j in range(i, n, block):
            upper = matrix[i : i + block, j : j + block]
            lower = matrix[j : j + block, i : i + block]
            mean = (upper + lower.T) / 2
            largest = max(largest, float((upper - mean).abs().max()))
            upper.copy_(mean)
            lower.copy_(mean.T)
    return largest
