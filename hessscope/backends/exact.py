"""Every eigenvalue: assemble, symmetrise, solve; and when that is worth its time."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar

import numpy as np
import scipy.linalg
import torch

from hessscope.backends.backend import Backend, zero_rule_of
from hessscope.backends.measured_noise import (
    arithmetic_of,
    asymmetry_norm,
    operator_noise,
    products_of,
    solver_noise,
    warn_of_disagreement,
)
from hessscope.errors import MemoryLimitError, NonFiniteError, SolverError
from hessscope.linalg.lapack import eigenvalues_in_place
from hessscope.operators import CurvatureOperator, ObjectiveOperator, as_operator, require_memory
from hessscope.options.fields import Options
from hessscope.progress import Progress, silent
from hessscope.records import Store
from hessscope.spectra import NoiseFloor, Spectrum

# LAPACK's divide and conquer asks for 2n² + 6n + 1 numbers when vectors are wanted, counted in
# 32 bits: beyond this n the count overflows.
_LARGEST_DIVIDE_AND_CONQUER = 32_700


@dataclass(frozen=True)
class ExactBackend(Backend):
    """Assemble the matrix and compute all its eigenvalues.

    Cost: what ``to_dense`` of the operator takes (a product for each parameter that is not in a
    fully connected layer), 10 products for the noise floor, and 4/3·n³ flops, n without the
    rows that are exactly zero. Memory: 8n² bytes in float64, four times as much with eigenvectors;
    on a GPU 8n² bytes more.

    Attributes:
        eigenvectors: compute them too.
        memory: bytes that the process may hold; default four fifths of what is free.
        rounded: solve the matrix once more, with its entries rounded to float32, in float64
            (``Spectrum.rounded``): what is left of the spectrum where Hessians are stored so. Takes
            another 4/3·n³ flops, and 12n² bytes in all (20n² on a GPU).
    """

    eigenvectors: bool = False
    memory: int | None = None
    rounded: bool = False
    name: ClassVar[str] = "exact"
    matrix: ClassVar[bool] = True

    @classmethod
    def from_options(cls, options: Options) -> ExactBackend:
        """Make it with the memory, and with a second spectrum where the zero rule needs one."""
        return cls(memory=getattr(options, "memory", None), rounded=zero_rule_of(options).rounded)

    def planned(self, operator: CurvatureOperator, earlier: Mapping[str, Any]) -> ExactBackend:
        """Let the operator compile its products, if the matrix takes so many that it pays."""
        if isinstance(operator, ObjectiveOperator):
            operator.foresee(len(operator.assembly.others))
        return self

    def solve(
        self, operator: Any, progress: Progress = silent, saved: Store | None = None
    ) -> Spectrum:
        """Compute the spectrum of a symmetric operator.

        Args:
            operator: a ``HessianOperator``, a SciPy ``LinearOperator`` or sparse matrix, a NumPy
                array or a torch matrix; symmetric (the asymmetry is measured and removed).
            progress: called with the assembly's columns and of the solver's start and end.
            saved: where the unfinished matrix is left from time to time, and resumed from.

        Raises:
            MemoryLimitError: the matrix would not fit; nothing was computed.
            NonFiniteError: the matrix has NaN or infinity.
            SolverError: LAPACK did not converge.
        """
        op = as_operator(operator)
        self.check_memory(op.shape[0], op.dtype, op.device)
        before = op.hvps
        matrix = op.to_dense(progress, saved)
        # In parts: torch.isfinite takes more memory than what it is given.
        if not all(bool(torch.isfinite(rows).all()) for rows in matrix.split(1024)):
            raise NonFiniteError("the matrix has NaN or infinite entries: it has no spectrum")
        asymmetry = asymmetry_norm(matrix)
        if asymmetry > 0.0:
            symmetrise_(matrix)
        noise, products = operator_noise(op, matrix)
        hvps = op.hvps - before + products
        stored = matrix.to(torch.float32, copy=True) if self.rounded else None
        rounding = 0.0 if stored is None else _distance(matrix, stored)
        values, vectors, zero_rows = self._spectrum(matrix, progress)
        if asymmetry > noise:
            noise = asymmetry
            warn_of_disagreement(noise, float(np.abs(values).max()), op.dtype)
        spectrum = Spectrum(
            eigenvalues=values.astype(np.float64),
            noise_floor=NoiseFloor(solver_noise(values, op.dtype), noise),
            dtype=arithmetic_of(op),
            eigenvectors=vectors,
            hvps=hvps,
            options={"backend": "exact", **asdict(self), "asymmetry": asymmetry, **products_of(op)},
            zero_rows=zero_rows,
        )
        if stored is None:
            return spectrum
        # Both at once would take as much again.
        del matrix
        matrix = stored.to(torch.float64)
        del stored
        values, _, zero_rows = replace(self, eigenvectors=False)._spectrum(matrix, progress)
        floor = NoiseFloor(solver_noise(values, torch.float64), noise + rounding)
        return replace(spectrum, rounded=Spectrum(values, floor, "float32", zero_rows=zero_rows))

    def memory_needed(self, n: int, dtype: torch.dtype, device: torch.device) -> int:
        """Bytes for the matrix, and for vectors, their workspace and a second matrix if wanted.

        LAPACK works in the matrix's own memory. On a GPU torch's solvers work on a copy.
        """
        copies = 1 if device.type == "cuda" else 0
        numbers = n * n * ((4 if self.eigenvectors else 1) + copies)
        needed = numbers * torch.finfo(dtype).bits // 8
        if not self.rounded:
            return needed
        # Beside the first matrix stands its rounded form, of which the second one is made.
        return max(needed + 4 * n * n, 12 * n * n, 8 * n * n * (1 + copies))

    def check_memory(self, n: int, dtype: torch.dtype, device: torch.device) -> None:
        """Refuse a matrix that would not fit.

        Raises:
            MemoryLimitError: says what it would need, what there is, and what to do.
        """
        needed = self.memory_needed(n, dtype, device)
        narrow = "`dtype=float32` halves it; " if dtype == torch.float64 else ""
        words = f"the exact spectrum of n = {n:,} parameters needs"
        remedy = f"{narrow}`backend=lanczos` needs no matrix"
        require_memory(needed, self.memory, device, words, remedy)

    def _spectrum(
        self, matrix: torch.Tensor, progress: Progress
    ) -> tuple[np.ndarray, np.ndarray | None, int]:
        """Eigenvalues, ascending, vectors, and the number of zero rows; the matrix is lost."""
        n = len(matrix)
        live = torch.cat([(rows != 0).any(1) for rows in matrix.split(1024)]).nonzero()[:, 0]
        try:
            if self.eigenvectors and matrix.device.type == "cuda":
                found, columns = torch.linalg.eigh(matrix)
                return found.cpu().numpy(), columns.cpu().numpy(), n - len(live)
            if self.eigenvectors:
                # The transpose is Fortran-ordered, so LAPACK works in the tensor's own memory.
                values, vectors = scipy.linalg.eigh(
                    matrix.numpy().T,
                    overwrite_a=True,
                    check_finite=False,
                    driver="evd" if n <= _LARGEST_DIVIDE_AND_CONQUER else "evr",
                )
                return values, vectors, n - len(live)
            matrix = principal_submatrix_(matrix, live)
            if matrix.device.type == "cuda":
                values = torch.linalg.eigvalsh(matrix).cpu().numpy()
            else:
                stage = f"eigenvalues of {len(matrix):,} rows"
                progress(stage, 0, 0)
                values = eigenvalues_in_place(matrix.numpy(), lambda: progress(stage, 0, 0))
                progress(stage, 1, 1)
        except (scipy.linalg.LinAlgError, torch.linalg.LinAlgError) as error:
            raise SolverError(f"the eigenvalue solver failed: {error}") from error
        # A zero row and column is an eigenvalue that is exactly zero.
        return np.sort(np.append(values, np.zeros(n - len(live)))), None, n - len(live)


def principal_submatrix_(matrix: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
    """Leave out all other rows and columns; in the matrix's own memory.

    Args:
        matrix: contiguous; its contents are lost.
        kept: numbers of the rows that stay, ascending.
    """
    n, m = len(matrix), len(kept)
    if m == n:
        return matrix
    memory = matrix.view(-1)
    for i, row in enumerate(kept.tolist()):
        # Row i of the small matrix ends before row i of the large one begins or within it.
        memory[i * m : (i + 1) * m] = matrix[row, kept]
    return memory[: m * m].view(m, m)


def _distance(a: torch.Tensor, b: torch.Tensor) -> float:
    """‖A − B‖_F, in parts, since a whole difference takes as much memory as a matrix."""
    parts = [(x - y).square().sum() for x, y in zip(a.split(1024), b.split(1024), strict=True)]
    return float(torch.stack(parts).sum().sqrt())


def symmetrise_(matrix: torch.Tensor, block: int = 2048) -> None:
    """Replace A by (A + Aᵀ)/2 in place, block by block."""
    n = len(matrix)
    for i in range(0, n, block):
        for j in range(i, n, block):
            upper = matrix[i : i + block, j : j + block]
            lower = matrix[j : j + block, i : i + block]
            mean = (upper + lower.T) / 2
            upper.copy_(mean)
            lower.copy_(mean.T)


REASONABLE_SECONDS = 900.0
_ALWAYS_EXACT = 1000
# Large enough that blocked algorithms reach their speed; 1,000 rows would overestimate threefold.
_SAMPLE = 2000


def choose_backend(operator: ObjectiveOperator, exact: ExactBackend) -> tuple[str, str]:
    """Choose exact where it fits in the memory and takes at most 15 minutes, else Lanczos.

    Cost: two blocks of products where products are needed, and the eigenvalues of a matrix of
    2000 rows, twice.

    Returns:
        "exact" or "lanczos", and why, in words, with the time or memory that exact would take.
    """
    n = operator.shape[0]
    if n <= _ALWAYS_EXACT:
        return "exact", f"n = {n:,} is small"
    try:
        exact.check_memory(n, operator.dtype, operator.device)
    except MemoryLimitError as error:
        return "lanczos", str(error).split(": ")[0]
    seconds = exact_seconds(operator)
    words = f"exact is estimated at {duration(seconds)} for n = {n:,}"
    return "exact" if seconds <= REASONABLE_SECONDS else "lanczos", words


def exact_seconds(operator: ObjectiveOperator) -> float:
    """Estimate the time of assembly and eigenvalues, by measuring a little of each."""
    n, assembly = operator.shape[0], operator.assembly
    sample = torch.ones(_SAMPLE, _SAMPLE, dtype=operator.dtype, device=operator.device)
    sample += torch.diag(torch.arange(_SAMPLE, dtype=operator.dtype, device=operator.device))
    multiplying = _time(lambda: sample @ sample) / (2 * _SAMPLE**3)
    seconds = multiplying * assembly.flops
    if len(assembly.others):
        vectors = operator.plan.vectors
        block = torch.ones(n, vectors, dtype=operator.dtype, device=operator.device)
        seconds += _time(lambda: operator.apply(block)) * len(assembly.others) / vectors
    solving = _time(lambda: torch.linalg.eigvalsh(sample))
    return seconds + solving * (n / _SAMPLE) ** 3


def _time(work: Callable[[], torch.Tensor]) -> float:
    """Seconds of the faster of two runs, since other programs only ever make it slower."""
    times = []
    for _ in range(2):
        start = time.perf_counter()
        float(work().sum())
        times.append(time.perf_counter() - start)
    return min(times)


def duration(seconds: float) -> str:
    """Seconds in words: "42 s", "7 min", "3.1 h"."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
