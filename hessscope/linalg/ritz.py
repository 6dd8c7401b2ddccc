"""Converged Ritz pairs of Lanczos runs, several runs taken together."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from hessscope.linalg.lanczos import Lanczos, row_lengths

# Vectors of which less than this part is new are copies of what another run has found.
_NEW = 1e-2


@dataclass(frozen=True)
class RitzPairs:
    """Orthonormal vectors y with A y ≈ θ y.

    Attributes:
        values: θ, ascending, shape (m,).
        residuals: ‖A y − θ y‖, shape (m,).
        vectors: as rows, shape (m, n).
    """

    values: np.ndarray
    residuals: np.ndarray
    vectors: torch.Tensor

    @classmethod
    def none(cls, like: torch.Tensor) -> RitzPairs:
        """No pair, in a space of the columns of ``like``."""
        return cls(np.zeros(0), np.zeros(0), like.new_zeros(0, len(like)))

    def with_more(self, more: RitzPairs) -> RitzPairs:
        """Together with pairs from the orthogonal complement of these, where these are kept."""
        values = np.concatenate([self.values, more.values])
        order = np.argsort(values, kind="stable")
        vectors = torch.cat([self.vectors, more.vectors.to(self.vectors.device)])
        residuals = np.concatenate([self.residuals, more.residuals])
        return RitzPairs(values[order], residuals[order], vectors[torch.from_numpy(order)])


def converged_pairs(iteration: Lanczos) -> RitzPairs:
    """Pairs that have converged; none from a product with A.

    Half of the digits are enough, since residuals enter the counts squared: those of a pair (θ, y)
    move counts near zero by r²/|θ|, which is to stay below eps·‖A‖. The vectors of all
    runs are joined, copies of one direction become one, and a Rayleigh–Ritz step in their span
    gives the pairs. A acts on a Ritz vector y = Qᵀs as θ y + β s_k q_{k+1}, which is known.

    Cost: 8·n·m² flops and 3·n·m numbers of memory for m pairs.
    """
    rows, images = [], []
    eps = float(torch.finfo(iteration.basis.dtype).eps)
    runs = iteration.runs()
    norm = max((float(np.abs(run.quadrature().nodes).max()) for run in runs), default=0.0)

    def enough(theta: np.ndarray) -> np.ndarray:
        return math.sqrt(eps * norm) * np.sqrt(np.maximum(np.abs(theta), eps * norm))

    for number, run in enumerate(runs):
        nodes, vectors = run.decomposition()
        last = run.betas[-1] * vectors[-1]
        chosen = np.flatnonzero(np.abs(last) <= enough(nodes))
        found = iteration.combine(number, vectors[:, chosen])
        rows.append(found)
        inside = torch.from_numpy(nodes[chosen]).to(found)[:, None]
        outside = torch.from_numpy(last[chosen]).to(found)[:, None]
        images.append(inside * found + outside * iteration.current[number])
    span, image = torch.cat(rows), torch.cat(images)
    if not len(span):
        return RitzPairs.none(span.T)
    lengths, mixing = torch.linalg.eigh(span @ span.T)
    new = lengths > _NEW
    combine = (mixing[:, new] / lengths[new].sqrt()).T
    span, image = combine @ span, combine @ image
    inner = span @ image.T
    values, rotation = torch.linalg.eigh((inner + inner.T) / 2)
    span, image = rotation.T @ span, rotation.T @ image
    residuals = row_lengths(image - values[:, None] * span).cpu().double().numpy()
    theta = values.cpu().double().numpy()
    good = residuals <= enough(theta)
    return RitzPairs(theta[good], residuals[good], span[torch.from_numpy(good)])
