"""Null spaces and kinks at a point: are the zero directions flat, does the loss have a gradient?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.linalg
import torch

from hessscope.errors import OptionError
from hessscope.objective import Objective
from hessscope.spectra import Result

#: θ of shape (n,) to tangent vectors of symmetries at θ, shape (n, m), one a column.
Symmetries = Callable[[torch.Tensor], torch.Tensor]

# Factors of θ, around which the random points lie.
SHRINKS = (1.0, 1.0, 1.0, 0.1, 0.0)
# Points close to each of them, over which rounding averages out.
COPIES = 32
# Standard errors of the mean that are left to rounding, and the bias of sums of products.
_ERRORS, _BIAS = 5.0, 1.0
# Singular values of the tangent vectors below this part of the largest count as dependent.
_DEPENDENT = 1e-8


@dataclass(frozen=True)
class NullSpace:
    """Where the loss stands still, whatever θ.

    Attributes:
        idle: parameters without any influence, shape (n,).
        tangents: of verified symmetries at θ, orthonormal and zero for idle parameters, shape
            (n, k).
        error: up to what part of ‖∇L‖ it is verified that ∇L has no component along a tangent.
        note: what was left out, in words.
    """

    idle: torch.Tensor
    tangents: torch.Tensor
    error: float = 0.0
    note: str = ""

    @property
    def size(self) -> int:
        """Number of its dimensions."""
        return int(self.idle.sum()) + self.tangents.shape[1]

    def basis(self) -> torch.Tensor:
        """Orthonormal columns, shape (n, ``size``)."""
        alone = torch.zeros(len(self.idle), int(self.idle.sum())).to(self.tangents)
        alone[self.idle, torch.arange(alone.shape[1])] = 1.0
        return torch.cat([self.tangents, alone], dim=1)

    def beside(self, spectrum: Result) -> tuple[np.ndarray, np.ndarray]:
        """Eigenvalues of H in the complement of the null space, and their vectors in its columns.

        Args:
            spectrum: of H, with eigenvectors.
        """
        values, vectors = spectrum.eigenvalues, spectrum.eigenvectors
        if values is None or vectors is None:
            raise ValueError("the spectrum has no eigenvectors")
        n, m = len(values), self.size
        if not m:
            return values, vectors
        if m == n:
            return np.empty(0), np.empty((n, 0))
        basis = self.basis().cpu().double().numpy()
        complete = np.linalg.qr(basis, mode="complete")[0][:, m:]
        turned = complete.T @ vectors
        values, inner = scipy.linalg.eigh((turned * values) @ turned.T)
        return values, complete @ inner


def verified_null_space(
    objective: Objective,
    theta: torch.Tensor,
    symmetries: Symmetries | None,
    copies: int = COPIES,
    seed: int = 0,
) -> NullSpace:
    """Tangents T(θ) of exact symmetries; those that fail the test are left out.

    A field T of directions belongs to a symmetry if and only if ∇L(θ')·T(θ') = 0 at every θ', not
    only where the gradient is small; that is tested at random points around θ, and nearer to the
    origin, where saturated outputs are not. Differentiated it says H T = −(DT)ᵀ∇L, so at a critical
    point T lies in the null space of H. Parameters that have no influence at all (their gradient is
    exactly zero at θ and at all these points) are found here.

    However little a symmetry is broken, critical points may be far away along its orbit. So it is
    tested below the rounding of one product: over points close to each other the product ∇L·T is
    the same, and its rounding is not. Their mean must be zero within five standard errors and
    eps·|T|·|∇L|.

    Args:
        objective: L.
        theta: θ.
        symmetries: T; None for no symmetry.
        copies: points close to each other; fewer will do where theory says that it is a symmetry.
        seed: of the random points.

    Cost: a gradient and T(θ') at five times as many points, 160 by default.

    Raises:
        OptionError: the symmetries give no such vectors.
    """
    tangents = theta.new_zeros((len(theta), 0)) if symmetries is None else symmetries(theta)
    if tangents.ndim != 2 or len(tangents) != len(theta):
        raise OptionError(
            f"symmetries gave shape {tuple(tangents.shape)}; expected ({len(theta)}, m), a tangent "
            "vector a column"
        )
    tangents = tangents.to(theta)
    count = tangents.shape[1]
    eps = torch.finfo(theta.dtype).eps
    exact = torch.ones(count, dtype=torch.bool, device=theta.device)
    errors = torch.zeros(count, dtype=theta.dtype, device=theta.device)
    idle = objective.gradient(theta) == 0
    stream = torch.Generator().manual_seed(seed)

    def noise() -> torch.Tensor:
        return torch.randn(len(theta), generator=stream, dtype=theta.dtype).to(theta.device)

    for shrink in SHRINKS:
        centre = shrink * theta + 0.1 * (1.0 + shrink * theta.abs()) * noise()
        products, roundings, sizes = [], [], []
        for _ in range(copies if count else 1):
            near = centre * (1.0 + 1e4 * eps * noise())
            gradient = objective.gradient(near)
            idle &= gradient == 0
            if symmetries is None:
                continue
            there = symmetries(near).to(theta)
            there = there / torch.linalg.vector_norm(there, dim=0).clamp(min=eps)
            products.append(there.T @ gradient)
            roundings.append(there.T.abs() @ gradient.abs())
            sizes.append(torch.linalg.vector_norm(gradient))
        if products:
            values, size = torch.stack(products), torch.stack(sizes).mean()
            error = values.std(0) / len(values) ** 0.5
            within = _ERRORS * error + _BIAS * eps * torch.stack(roundings).mean(0)
            rounding = values.abs().amax(0) <= eps ** (2 / 3) * size
            exact &= (values.mean(0).abs() <= within) & rounding
            errors = torch.maximum(errors, torch.where(size > 0, within / size, 0.0))
    note = ""
    if not bool(exact.all()):
        note = f"{int((~exact).sum())} of {count} supposed symmetries change the loss"
    kept = tangents[:, exact].clone()
    kept[idle] = 0.0
    error = float(errors[exact].max()) if bool(exact.any()) else 0.0
    return NullSpace(idle, _span(kept), error, note)


def _span(vectors: torch.Tensor) -> torch.Tensor:
    """An orthonormal basis of what the columns span."""
    if not vectors.shape[1]:
        return vectors
    left, sizes, _ = torch.linalg.svd(vectors, full_matrices=False)
    return left[:, sizes > max(_DEPENDENT * float(sizes[0]), 1e-300)]


RANDOM = 4
MOST = 8
# Roundings of the loss, over the length of a difference, that its values may be off.
_NOISE = 64.0


@dataclass(frozen=True)
class OneSidedSlope:
    """The derivative of the loss from a point into one direction.

    Attributes:
        slope: of the gradients ahead, extrapolated to the point.
        error: of the extrapolation.
        mismatch: what the loss changes by beyond what its gradients say, over the way.
    """

    slope: float
    error: float
    mismatch: float


def broken_gradient(
    objective: Objective,
    theta: torch.Tensor,
    directions: torch.Tensor,
    reach: float,
    floor: float,
    seed: int = 0,
) -> str:
    """Look whether L has a gradient at θ, and it is zero, from all sides; say why not in words.

    A convex kink, a concave one, a jump and a derivative that torch does not know all show in a
    one-sided derivative other than zero. Looked at are both sides of each of up to 8 given
    directions, such as the normals of kinks, and of 4 random ones; with a single kink, or kinks
    whose normals are independent, that finds every change of the gradient.

    Args:
        objective: L.
        theta: θ, where the gradient is at its rounding floor.
        directions: unit vectors in rows, shape (k, n).
        reach: distance within which kinks count as met.
        floor: what rounding may leave of the gradient.
        seed: of the random directions.

    Returns:
        Words; empty where all these derivatives are zero.

    Cost: five gradients for each of up to 24 directions.
    """
    stream = torch.Generator().manual_seed(seed)
    random = torch.randn(RANDOM, len(theta), generator=stream, dtype=theta.dtype).to(theta.device)
    random /= torch.linalg.vector_norm(random, dim=1, keepdim=True)
    value = objective.value(theta)
    found = [
        one_sided_slope(objective, theta, sign * v, reach, value)
        for v in (*directions[:MOST], *random)
        for sign in (1.0, -1.0)
    ]
    off = max(found, key=lambda side: side.mismatch)
    if not off.mismatch <= 0.0:
        return "the loss jumps, or changes otherwise than its gradient says"
    down = min(found, key=lambda side: side.slope + side.error)
    if not down.slope + down.error >= -floor:
        return f"in one direction the loss falls with slope {-down.slope:.2g}"
    up = max(found, key=lambda side: side.slope - side.error)
    if not up.slope - up.error <= floor:
        return f"in one direction the loss rises with slope {up.slope:.2g}"
    return ""


def one_sided_slope(
    objective: Objective, theta: torch.Tensor, v: torch.Tensor, reach: float, value: float
) -> OneSidedSlope:
    """The derivative of L from θ into a direction, by gradients ahead and by values.

    Args:
        objective: L.
        theta: θ.
        v: unit vector.
        reach: the gradients are taken beyond it.
        value: L(θ).
    """
    eps = torch.finfo(theta.dtype).eps
    scale = 1.0 + float(torch.linalg.vector_norm(theta))

    def ahead(t: float) -> tuple[float, float]:
        loss, gradient = objective.value_and_gradient(theta + t * v)
        return loss, float(gradient @ v)

    t = max(eps**0.5 * scale, 16.0 * reach)
    (_, far), (_, middle), (_, near) = (ahead(t * part) for part in (1.0, 0.5, 0.25))
    first, second = 2.0 * middle - far, 2.0 * near - middle
    error = 2.0 * abs(first - second) + 8.0 * eps * max(abs(far), abs(near))
    # The values see jumps, and derivatives that torch does not know (Simpson's rule).
    t = max(eps ** (1 / 3) * scale, t)
    (loss, end), (half, centre) = ahead(t), ahead(0.5 * t)
    expected = (second + 4.0 * centre + end) / 6.0
    spread = abs(end - 2.0 * centre + second)
    noise = _NOISE * eps * max(abs(loss), abs(value), abs(half)) / t
    mismatch = abs((loss - value) / t - expected) - noise - spread - 1e-3 * abs(expected) - error
    return OneSidedSlope(second, error, mismatch)
