"""The ends of a matrix's spectrum, followed from one point of the training to the next."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from hessscope.backends.measured_noise import operator_noise, solver_noise
from hessscope.linalg.lanczos import Lanczos, gaussian
from hessscope.operators import CurvatureOperator
from hessscope.spectra import Estimate, LockedPairs, NoiseFloor, SpectralDensity
from hessscope.watching.readings import End

# Of the first point. Over 30 small random networks in float32 they gave at least 1.6 times the true
# error of the matrix, and 8 times in the median; ten gave 3.5 and 11 times.
_DRAWS = 3


@dataclass(frozen=True)
class Seen:
    """Of a spectrum, at one point.

    Attributes:
        density: as the run saw it.
        lowest: eigenvalue.
        highest: eigenvalue.
        products: that it took.
    """

    density: SpectralDensity
    lowest: End
    highest: End
    products: int


class Ends:
    """Both ends of a spectrum by one short Lanczos run at each point, with a warm second step.

    The run starts from a fresh Gaussian vector. Only so the mass that it has seen bounds what it
    has not: an eigenvalue beyond the bound would have a share of the start vector that is too small
    to be drawn. A run from the last top vector would converge sooner and say nothing of the others,
    so the last vectors come in afterwards: Rayleigh and Ritz choose the best vectors in the span of
    the run's outermost ones and those of the last point. Values and residuals come from products
    with these.

    δ is measured in randomised arithmetic, from the vector of largest |λ| on. Each point adds a
    draw to those before; δ is the largest of all, as a part of ‖H‖.

    Cost: ``steps`` products and 4 more, and 2 for δ, one of them randomised; 6 at the first point.
    Memory: ``steps`` vectors.

    Args:
        steps: of a run.
        confidence: of the outer bounds.
        seed: root of the start vectors' random streams.
    """

    def __init__(self, steps: int, confidence: float, seed: int) -> None:
        self._steps, self._confidence, self._seed = steps, confidence, seed
        self._points = 0
        self._noise = 0.0
        self._last: torch.Tensor | None = None

    def measure(self, op: CurvatureOperator) -> Seen:
        """Run, and improve both ends.

        Raises:
            NonFiniteError: a product is NaN or infinite.
        """
        n = op.shape[0]
        start = gaussian(n, 1, self._seed, dtype=op.dtype, device=op.device, first=self._points)
        iteration = Lanczos(start)
        iteration.advance(op.apply, self._steps)
        (run,) = iteration.runs()
        values, vectors = run.decomposition()
        found = iteration.combine(0, vectors[:, [0, -1]])
        outer = found if self._last is None else torch.cat([found, self._last])
        basis, _ = torch.linalg.qr(outer.T)
        images = op.apply(basis)
        inner = basis.T @ images
        rayleigh, rotation = torch.linalg.eigh((inner + inner.T) / 2)
        rotation, rayleigh = rotation[:, [0, -1]], rayleigh[[0, -1]]
        self._last = (basis @ rotation).T
        residuals = torch.linalg.vector_norm(images @ rotation - self._last.T * rayleigh, dim=0)
        norm = max(float(rayleigh.abs().max()), float(np.abs(values).max()))
        largest = self._last[rayleigh.abs().argmax()][:, None]
        draws = 1 if self._points else _DRAWS
        noise, products = operator_noise(op, draws=draws, along=largest)
        self._noise = max(self._noise, noise / norm if norm else 0.0)
        self._points += 1
        delta = NoiseFloor(
            solver_noise(values, op.dtype) + run.orthogonality * norm,
            max(self._noise * norm, run.asymmetry),
        )
        squared = (torch.linalg.vector_norm(start.double(), dim=0) ** 2).cpu().numpy()
        seen = (run.alphas[None], run.betas[None], squared)
        known = LockedPairs(np.zeros(0), np.zeros(0))
        if len(values) == n:  # the run fills the space
            seen, known = (np.zeros((0, 0)),) * 2 + (np.zeros(0),), LockedPairs(values, 0 * values)
        density = SpectralDensity(
            n, *seen, delta, str(op.dtype).removeprefix("torch."), known,
            confidence=self._confidence,
        )  # fmt: skip
        (low, high), margin = density.bounds(), density.margin
        (lowest, highest), lengths = rayleigh.tolist(), (residuals + margin).tolist()
        # The vectors of earlier points may show that a bound is one of the few that do not hold.
        below = low.lower if low.lower < lowest - margin else lowest - lengths[0]
        above = high.upper if high.upper > highest + margin else highest + lengths[1]
        bottom = Estimate(lowest, below, lowest + margin, low.confidence)
        top = Estimate(highest, highest - margin, above, high.confidence)
        products += iteration.done + basis.shape[1]
        return Seen(density, End(bottom, lengths[0]), End(top, lengths[1]), products)
