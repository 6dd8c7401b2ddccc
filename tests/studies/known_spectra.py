"""Symmetric operators whose eigenvalues are known beyond their own rounding, by families.

Diagonal operators have their entries as eigenvalues. Those of dense matrices and of networks are
computed from the entries, as the data type holds them, in extended precision.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.linalg import eigvalsh_tridiagonal
from torch import nn

from hessscope import EmpiricalRisk, HessianOperator

Stream = np.random.Generator
Values = Callable[[int, Stream, float], np.ndarray]
_LONG = np.longdouble


@dataclass(frozen=True)
class Known:
    """An operator and the truth about it.

    Attributes:
        operator: what a backend solves.
        eigenvalues: ascending, shape (n,).
    """

    operator: Any
    eigenvalues: np.ndarray


class Diagonal:
    """A diagonal matrix as an operator."""

    device = torch.device("cpu")

    def __init__(self, values: np.ndarray, dtype: torch.dtype = torch.float64) -> None:
        self.shape, self.dtype = (len(values), len(values)), dtype
        self.hvps = 0
        self._values = torch.from_numpy(values).to(dtype)[:, None]

    def apply(self, vectors: torch.Tensor) -> torch.Tensor:
        self.hvps += vectors.shape[1]
        return self._values * vectors

    def recomputed(self) -> None:
        return None


def exact_eigenvalues(matrix: np.ndarray) -> np.ndarray:
    """Eigenvalues of a symmetric matrix to some 1e-18 of its norm, ascending.

    One step of refinement in extended precision: the computed eigenvectors, made orthonormal, turn
    the matrix into one that is diagonal but for 1e-15 of its norm, which moves separated
    eigenvalues by the square of that. Those near zero are solved once more among themselves.
    """
    matrix = matrix.astype(_LONG)
    norm = np.abs(matrix).max()
    matrix = (matrix + matrix.T) / (2 * norm)
    values, vectors = np.linalg.eigh(matrix.astype(np.float64))
    basis = vectors.astype(_LONG)
    basis = basis @ (3 * np.eye(len(basis), dtype=_LONG) - basis.T @ basis) / 2
    turned = basis.T @ matrix @ basis
    small = np.abs(values) < 1e-7 * np.abs(values).max()
    inner = turned[np.ix_(small, small)]
    found = np.concatenate([np.linalg.eigvalsh(inner.astype(np.float64)), np.diag(turned)[~small]])
    return np.sort((found * norm).astype(np.float64))


# Spectra of diagonal operators: of n numbers, from a stream, for a data type with this eps.


def semicircle(n: int, rng: Stream, eps: float) -> np.ndarray:
    """Wigner's law on [−1, 1], shifted."""
    return 2 * rng.beta(1.5, 1.5, n) - 1 + rng.uniform(-0.5, 0.9)


def marchenko_pastur(n: int, rng: Stream, eps: float) -> np.ndarray:
    """Sample covariance with fewer samples than dimensions, and ten outliers."""
    rank = n // 2
    # Eigenvalues of a Wishart matrix by its bidiagonal form (Dumitriu & Edelman 2002).
    diagonal = np.sqrt(rng.chisquare(n - np.arange(rank)))
    below = np.sqrt(rng.chisquare(rank - 1 - np.arange(rank - 1)))
    values = eigvalsh_tridiagonal(diagonal**2 + np.append(0.0, below**2), diagonal[:-1] * below)
    return np.concatenate([np.zeros(n - rank - 10), values / n, rng.uniform(5, 50, 10)])


def decades(n: int, rng: Stream, eps: float) -> np.ndarray:
    """A bulk massed at zero over ten decades, both signs."""
    signs = np.where(rng.random(n) < 0.1, -1.0, 1.0)
    return signs * 10 ** rng.uniform(-10, 0, n) * np.where(signs < 0, 0.02, 1.0)


def degenerate(n: int, rng: Stream, eps: float) -> np.ndarray:
    """Exact zeros, two exactly degenerate eigenvalues, and a continuous rest with a gap."""
    zeros, twice = n // 2, n // 20
    rest = n - zeros - 2 * twice
    return np.concatenate(
        [np.zeros(zeros), np.full(twice, 1.0), np.full(twice, -0.5), rng.uniform(0.2, 2, rest)]
    )


def clustered(n: int, rng: Stream, eps: float) -> np.ndarray:
    """Outliers in tight clusters on both sides of a narrow bulk."""
    sizes = rng.integers(2, 8, 6)
    centres = np.array([-2.0, -1.0, 3.0, 5.0, 9.0, 20.0])
    outliers = np.concatenate(
        [c + 1e-7 * rng.standard_normal(k) for c, k in zip(centres, sizes, strict=True)]
    )
    return np.concatenate([outliers, 0.05 * rng.standard_normal(n - len(outliers))])


def _padded(n: int, *parts: np.ndarray) -> np.ndarray:
    """The parts, and zeros."""
    values = np.concatenate(parts)
    return np.concatenate([values, np.zeros(n - len(values))])


def above_rounding(n: int, rng: Stream, eps: float) -> np.ndarray:
    """30 eigenvalues over three decades, a few in the four decades above eps, zeros."""
    few = eps * 10 ** rng.uniform(0, 4, rng.integers(3, 40))
    return _padded(n, 10 ** rng.uniform(-3, 0, 30), few)


def geometric(n: int, rng: Stream, eps: float) -> np.ndarray:
    """Geometric decay to eps, then zeros."""
    return _padded(n, np.geomspace(1, eps, rng.choice([60, min(150, n)])))


def power(n: int, rng: Stream, eps: float) -> np.ndarray:
    """i⁻ᵖ, p from 2 to 6."""
    return np.arange(1.0, n + 1) ** -rng.uniform(2, 6)


def near_tolerance(n: int, rng: Stream, eps: float) -> np.ndarray:
    """Half of all eigenvalues within ±100 δ, both signs."""
    return np.concatenate(
        [10 ** rng.uniform(-2, 0, n - n // 2), 800 * eps * rng.uniform(-1, 1, n // 2)]
    )


def on_tolerance(n: int, rng: Stream, eps: float) -> np.ndarray:
    """A third at 2δ, as near as it can be told beforehand, a third zeros."""
    top = np.concatenate([[1.0], 10 ** rng.uniform(-3, -1, n // 3)])
    signs = rng.choice([-1.0, 1.0], n // 3)
    edge = 16 * eps * np.linalg.norm(top) * signs * (1 + 0.1 * rng.standard_normal(n // 3))
    return _padded(n, top, edge)


def low_rank(n: int, rng: Stream, eps: float) -> np.ndarray:
    """3 to 20 eigenvalues of either sign, the rest exactly zero."""
    rank = rng.integers(3, 21)
    return _padded(n, rng.choice([-1.0, 1.0], rank) * 10 ** rng.uniform(-2, 0, rank))


def low_rank_and_noise(n: int, rng: Stream, eps: float) -> np.ndarray:
    """The same, on a bulk of a few eps."""
    return low_rank(n, rng, eps) + rng.uniform(1, 30) * eps * rng.standard_normal(n)


def nearly_identity(n: int, rng: Stream, eps: float) -> np.ndarray:
    """1, up to some rounding errors, and a handful of zeros and negative ones."""
    values = 1 + 10 ** rng.uniform(0, 3) * eps * rng.standard_normal(n)
    values[: rng.integers(0, 6)] = 0.0
    values[-rng.integers(1, 6) :] *= -1e-6
    return values


def huge_outlier(n: int, rng: Stream, eps: float) -> np.ndarray:
    """One outlier 1e9 (in float32 1e5) times larger than a semicircle."""
    values = 2 * rng.beta(1.5, 1.5, n) - 1.4
    values[0] = 1e9 if eps < 1e-10 else 1e5
    return values


def staircase(n: int, rng: Stream, eps: float) -> np.ndarray:
    """Exactly degenerate eigenvalues in every second decade down to eps, one negative tread."""
    treads = 10.0 ** -np.arange(0, -np.log10(eps), 2)
    treads[rng.integers(len(treads))] *= -1
    return rng.choice(treads, n)


def both_signs(n: int, rng: Stream, eps: float) -> np.ndarray:
    """Every decade from eps/10 to 1, both signs."""
    return rng.choice([-1.0, 1.0], n) * 10 ** rng.uniform(np.log10(eps / 10), 0, n)


def single_negative(n: int, rng: Stream, eps: float) -> np.ndarray:
    """One eigenvalue at about −6δ among zeros, below twenty positive ones."""
    top = 10 ** rng.uniform(-1, 0, 20)
    return _padded(n, top, [-rng.uniform(20, 80) * eps * np.linalg.norm(top)])


def below_half_precision(n: int, rng: Stream, eps: float) -> np.ndarray:
    """Half of them at eps^¾, where pairs are locked without being sharp; zeros."""
    middle = eps**0.75 * rng.uniform(0.2, 2, n // 2) * rng.choice([-1.0, 1.0], n // 2)
    return _padded(n, 10 ** rng.uniform(-2, 0, 15), middle)


def tiny(n: int, rng: Stream, eps: float) -> np.ndarray:
    """Two signs over twelve decades, with squares that underflow."""
    return both_signs(n, rng, max(eps, 1e-12)) * (1e-200 if eps < 1e-10 else 1e-28)


def paired(n: int, rng: Stream, eps: float) -> np.ndarray:
    """±pairs as of a bilinear form, decaying to eps, so that odd moments vanish."""
    half = np.geomspace(1, eps, n // 3)
    return _padded(n, half, -half)


# Dense matrices.


def rotated(values: np.ndarray, rng: Stream) -> np.ndarray:
    """With these eigenvalues, but for rounding, and random eigenvectors."""
    basis = np.linalg.qr(rng.standard_normal((len(values),) * 2))[0]
    return basis * values @ basis.T


def gram(n: int, rng: Stream, eps: float) -> np.ndarray:
    """Kernel matrix of Gaussians: decays faster than any power, to rounding."""
    points = rng.uniform(0, 1, n)
    return np.exp(-((points[:, None] - points) ** 2) / (2 * rng.uniform(0.02, 0.3) ** 2))


def hilbert(n: int, rng: Stream, eps: float) -> np.ndarray:
    """Cauchy matrix with rows scaled by two signs: indefinite, graded."""
    nodes = np.sort(rng.uniform(0.5, n, n))
    signs = np.where(rng.random(n) < 0.5, 1.0, 1e-3)
    return signs[:, None] * signs / (nodes[:, None] + nodes) - np.diag(
        signs * (rng.random(n) < 0.1)
    )


def saddle_point(n: int, rng: Stream, eps: float) -> np.ndarray:
    """A constrained problem [[A, Bᵀ], [B, 0]] with dependent constraints: zeros, both signs."""
    m = n // 3
    a = np.diag(10 ** rng.uniform(-8, 0, n - m))
    b = rng.standard_normal((m, m // 2)) @ rng.standard_normal((m // 2, n - m)) / n
    return np.block([[a, b.T], [b, np.zeros((m, m))]])


# Networks.


def network(activation: str, rng: Stream, dtype: torch.dtype) -> Known:
    """A small perceptron with dead inputs, trained for a while, and its Hessian."""
    d, h, c, examples = 24, 5, 6, 80
    torch.manual_seed(int(rng.integers(2**31)))
    act = {"tanh": nn.Tanh(), "relu": nn.ReLU(), "softplus": nn.Softplus()}[activation]
    model = nn.Sequential(nn.Linear(d, h), act, nn.Linear(h, c)).to(dtype)
    inputs = torch.rand(examples, d, dtype=dtype) * (torch.rand(d) < 0.7).to(dtype)
    targets = torch.randint(0, c, (examples,))
    optimiser = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(int(rng.integers(30, 300))):
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(inputs), targets).backward()
        optimiser.step()
    risk = EmpiricalRisk(
        model, (inputs, targets), dtype=str(dtype).removeprefix("torch."), device="cpu"
    )
    weights = [p.detach().numpy().astype(_LONG) for p in model.parameters()]
    matrix = long_hessian(activation, *weights, inputs.numpy().astype(_LONG), targets.numpy())
    return Known(HessianOperator(risk), exact_eigenvalues(matrix))


def long_hessian(
    activation: str,
    first: np.ndarray,
    first_bias: np.ndarray,
    second: np.ndarray,
    second_bias: np.ndarray,
    inputs: np.ndarray,
    targets: np.ndarray,
) -> np.ndarray:
    """Hessian of the mean cross-entropy of a perceptron with one hidden layer, written out."""
    a = inputs @ first.T + first_bias
    if activation == "tanh":
        value = np.tanh(a)
        slope = 1 / np.cosh(a) ** 2
        bend = -2 * value * slope
    elif activation == "relu":
        value, slope, bend = np.maximum(a, 0), (a > 0).astype(_LONG), np.zeros_like(a)
    else:
        value, slope = np.log1p(np.exp(-np.abs(a))) + np.maximum(a, 0), 1 / (1 + np.exp(-a))
        bend = slope * (1 - slope)
    logits = value @ second.T + second_bias
    odds = np.exp(logits - logits.max(1, keepdims=True))
    p = odds / odds.sum(1, keepdims=True)
    (b, d), (c, h) = inputs.shape, second.shape
    residual = (p - np.eye(c, dtype=_LONG)[targets]) / b
    sizes = np.cumsum([0, h * d, h, c * h, c])
    jacobian = np.zeros((b, c, sizes[-1]), dtype=_LONG)
    back = second[None] * slope[:, None]  # (b, c, h)
    jacobian[..., : sizes[1]] = (back[..., None] * inputs[:, None, None]).reshape(b, c, h * d)
    jacobian[..., sizes[1] : sizes[2]] = back
    for k in range(c):
        jacobian[:, k, sizes[2] + k * h : sizes[2] + (k + 1) * h] = value
        jacobian[:, k, sizes[3] + k] = 1
    weighted = (p[..., None] * (jacobian - np.einsum("bc,bcn->bn", p, jacobian)[:, None])) / b
    matrix = jacobian.reshape(b * c, -1).T @ weighted.reshape(b * c, -1)
    longer = np.concatenate([inputs, np.ones((b, 1), dtype=_LONG)], axis=1)
    for j in range(h):
        at = np.append(np.arange(j * d, (j + 1) * d), sizes[1] + j)
        curve = (residual @ second[:, j]) * bend[:, j]
        matrix[np.ix_(at, at)] += longer.T @ (curve[:, None] * longer)
        out = sizes[2] + j + h * np.arange(c)
        mixed = longer.T @ (slope[:, j, None] * residual)
        matrix[np.ix_(at, out)] += mixed
        matrix[np.ix_(out, at)] += mixed.T
    return matrix


DIAGONAL: dict[str, Values] = {
    "semicircle": semicircle,
    "Marchenko–Pastur, outliers": marchenko_pastur,
    "ten decades": decades,
    "exact degeneracies": degenerate,
    "clustered outliers": clustered,
    "few above eps": above_rounding,
    "geometric": geometric,
    "power law": power,
    "half within 100 δ": near_tolerance,
    "a third at 2δ": on_tolerance,
    "low rank": low_rank,
    "low rank, noise": low_rank_and_noise,
    "nearly the identity": nearly_identity,
    "huge outlier": huge_outlier,
    "staircase": staircase,
    "every decade, both signs": both_signs,
    "one negative at 6δ": single_negative,
    "bulk at eps^¾": below_half_precision,
    "tiny": tiny,
    "pairs ±λ": paired,
}
DENSE: dict[str, Values] = {
    "dense: Gaussian kernel": gram,
    "dense: Cauchy, indefinite": hilbert,
    "dense: saddle-point matrix": saddle_point,
    "dense: few above eps": lambda n, rng, eps: rotated(above_rounding(n, rng, eps), rng),
    "dense: half within 100 δ": lambda n, rng, eps: rotated(near_tolerance(n, rng, eps), rng),
    "dense: exact degeneracies": lambda n, rng, eps: rotated(degenerate(n, rng, eps), rng),
}
NETWORKS = {f"network: {name}": name for name in ("tanh", "relu", "softplus")}
FAMILIES = (*DIAGONAL, *DENSE, *NETWORKS)


def known(family: str, n: int, rng: Stream, dtype: torch.dtype) -> Known:
    """An operator of a family; the size of networks is their own."""
    eps = float(torch.finfo(dtype).eps)
    if family in DIAGONAL:
        operator = Diagonal(DIAGONAL[family](n, rng, eps), dtype)
        return Known(operator, np.sort(operator._values[:, 0].double().numpy()))
    if family in DENSE:
        matrix = torch.from_numpy(DENSE[family](n, rng, eps)).to(dtype)
        matrix = (matrix + matrix.T) / 2
        return Known(matrix, exact_eigenvalues(matrix.numpy()))
    return network(NETWORKS[family], rng, dtype)
