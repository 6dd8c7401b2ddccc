"""One-sided derivatives: does the loss have a gradient at a point, and is it zero?"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from hessscope.objective import Objective

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
