"""Eigenpairs with their residuals, and what their coupling to the rest can move."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hessscope.records import Record


def from_the_end(values: np.ndarray, which: str) -> np.ndarray:
    """Order of eigenvalues from an end inwards: "largest" in magnitude, "lowest" or "highest"."""
    key = {"largest": -np.abs(values), "lowest": values, "highest": -values}[which]
    return np.argsort(key, kind="stable")


@dataclass(frozen=True)
class Eigenpairs:
    """Eigenvalues at an end of the spectrum with their eigenvectors.

    Attributes:
        values: shape (k,), from the end inwards.
        vectors: shape (n, k), orthonormal columns; of each the component that is largest in
            magnitude is positive.
        residuals: ‖A v − λ v‖ by products of their own: an eigenvalue lies within this of λ.
        which: "largest" (in magnitude), "lowest" or "highest".
        requested: how many were asked for; fewer are there where the others did not converge.
        dtype: data type of the computation.
        hvps: products used, those for the residuals included.
        options: the backend's configuration.
    """

    values: np.ndarray
    vectors: np.ndarray
    residuals: np.ndarray
    which: str
    requested: int
    dtype: str
    hvps: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        """Number k of pairs."""
        return len(self.values)

    def farthest_from(self, eigenvalues: np.ndarray) -> float:
        """How far the values are from those of the whole spectrum, in the same order.

        More than residual and noise floor together says that an eigenvalue was passed over.

        Args:
            eigenvalues: all of them, shape (n,).
        """
        expected = eigenvalues[from_the_end(eigenvalues, self.which)][: len(self)]
        return float(np.abs(np.sort(self.values) - np.sort(expected)).max())

    def as_dict(self) -> dict[str, Any]:
        """The form it has in JSON; the vectors are in the record."""
        return {
            "eigenvector_values": self.values.tolist(),
            "eigenvector_residuals": self.residuals.tolist(),
            "eigenvector_which": self.which,
            "eigenvector_method": str(self.options["method"]),
            "eigenvector_hvps": self.hvps,
        }

    def arrays(self) -> dict[str, np.ndarray]:
        """What a record of the spectrum holds of it."""
        return {
            "eigenvectors": self.vectors,
            "eigenvector_values": self.values,
            "eigenvector_residuals": self.residuals,
        }

    @classmethod
    def from_record(cls, record: Record) -> Eigenpairs:
        """Make the pairs that the record of a spectrum holds."""
        attributes = record.attributes
        return cls(
            values=record.arrays["eigenvector_values"],
            vectors=record.arrays["eigenvectors"],
            residuals=record.arrays["eigenvector_residuals"],
            which=str(attributes["eigenvector_which"]),
            requested=len(record.arrays["eigenvector_values"]),
            dtype=str(attributes["dtype"]),
            hvps=int(attributes["eigenvector_hvps"]),
            options={"method": attributes["eigenvector_method"]},
        )


@dataclass(frozen=True)
class LockedPairs:
    """Converged Ritz pairs that were projected off before the probes were drawn.

    Attributes:
        values: Ritz values θ, ascending, shape (m,).
        residuals: ‖A y − θ y‖ of each, shape (m,).
    """

    values: np.ndarray
    residuals: np.ndarray

    def __len__(self) -> int:
        """Number m of pairs."""
        return len(self.values)

    def shift(self, x: float, slack: float = 0.0) -> float:
        """How far eigenvalues near x may be from those of the two parts taken apart.

        Between Y and its complement A has the block E, whose columns are the residuals. By
        Haynsworth's inertia additivity as many eigenvalues of A are below x as of Θ, together with
        those of B − Eᵀ(Θ − x)⁻¹E, B being A on the complement. That term is at most
        Σ rᵢ²/|θᵢ − x| large. For pairs that are as close to x as their residuals are large, Weyl's
        bound, the norm of their columns, takes its place.

        Args:
            x: the point.
            slack: how far x itself may be moved by rounding.
        """
        coupled = self.residuals > 0.0
        residuals = self.residuals[coupled]
        distances = np.abs(self.values[coupled] - x) - slack
        near = distances <= residuals
        while True:
            moved = math.hypot(*residuals[near])
            nearer = near | (distances <= 2.0 * moved)
            if np.array_equal(near, nearer):
                break
            near = nearer
        far = ~near
        return moved + float(np.sum(residuals[far] * (residuals[far] / (distances[far] - moved))))

    def below(self, x: float) -> int:
        """Number of pairs with θ < x."""
        return int(np.sum(self.values < x))
