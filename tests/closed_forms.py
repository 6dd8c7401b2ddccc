"""Networks whose critical points, inertia included, are known in closed form."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from hessscope import EmpiricalRisk


@dataclass(frozen=True)
class LinearAutoencoderPoint:
    """x → ABx at the critical point A = U_I C, B = C⁻¹ U_Iᵀ (zeros beyond r columns).

    Baldi & Hornik (1989) for the points; the inertia follows from the second variation: each pair
    (i in I, j not in I) with λ_j > λ_i gives one descent direction, and each of the p − r unused
    hidden units can pick up any of the d − r unused eigenvectors. The orbit of C and the flat
    directions of unused units make r(2p − r) zeros.
    """

    eigenvalues: tuple[float, ...]
    hidden: int
    chosen: tuple[int, ...]
    seed: int = 0

    @property
    def index(self) -> int:
        """Number of negative eigenvalues of the Hessian."""
        d, r = len(self.eigenvalues), len(self.chosen)
        others = [j for j in range(d) if j not in self.chosen]
        pairs = sum(self.eigenvalues[j] > self.eigenvalues[i] for i in self.chosen for j in others)
        return pairs + (self.hidden - r) * (d - r)

    @property
    def nullity(self) -> int:
        """Number of zero eigenvalues of the Hessian."""
        r = len(self.chosen)
        return r * (2 * self.hidden - r)

    @property
    def loss(self) -> float:
        """Mean squared error over examples and outputs."""
        left = sum(self.eigenvalues) - sum(self.eigenvalues[i] for i in self.chosen)
        return left / len(self.eigenvalues)

    def risk(self) -> EmpiricalRisk:
        """The autoencoder at this point, in float64."""
        d, p, r = len(self.eigenvalues), self.hidden, len(self.chosen)
        stream = torch.Generator().manual_seed(self.seed)

        def normal(*shape: int) -> torch.Tensor:
            return torch.randn(*shape, generator=stream, dtype=torch.float64)

        u = torch.linalg.qr(normal(d, d))[0]
        # d examples whose second moment Σ xxᵀ / d has exactly these eigenvalues.
        scale = torch.tensor([d * x for x in self.eigenvalues], dtype=torch.float64).sqrt()
        inputs = (torch.linalg.qr(normal(d, d))[0] * scale) @ u.T
        basis = torch.zeros(d, p, dtype=torch.float64)
        basis[:, :r] = u[:, list(self.chosen)]
        mixing = torch.eye(p, dtype=torch.float64) + 0.3 * normal(p, p)
        model = nn.Sequential(
            nn.Linear(d, p, bias=False, dtype=torch.float64),
            nn.Linear(p, d, bias=False, dtype=torch.float64),
        )
        with torch.no_grad():
            model[0].weight.copy_(torch.linalg.inv(mixing) @ basis.T)
            model[1].weight.copy_(basis @ mixing)
        return EmpiricalRisk(model, (inputs, inputs), "mse", device="cpu")
