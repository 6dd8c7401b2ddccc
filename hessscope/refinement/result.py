"""What a search found."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch

from hessscope.records import Record, Summarised
from hessscope.refinement.certificates import Certificate
from hessscope.refinement.saddles import SaddleConstants
from hessscope.refinement.states import SearchState
from hessscope.refinement.trace import Trace
from hessscope.spectra import (
    CountInterval,
    Criticality,
    Inertia,
    SpectralDensity,
    Spectrum,
    classify,
)

_REMEDIES = {
    "converged": "",
    "gradient_flat": "begin elsewhere (another start or checkpoint), or go down with sfn first",
    "diverging": "add a penalty (--l2), or stop earlier: there is no critical point at a finite "
    "distance in this direction",
    "flat_at_tolerance": "add a penalty (l2), which curves flat directions, or give their "
    "symmetries; float64 resolves more than float32",
    "step_too_small": "{methods}, or another globalisation; a penalty (l2), without which none of "
    "them converged in our trials; where rounding is the limit, float64 or a larger tolerance",
    "max_iterations": "go on from here with more iterations (--resume)",
    "non_finite": "begin elsewhere, or look at the weights and the data for extremes",
    "interrupted": "go on with --resume",
}

BY_SUCCESS = {
    "sfn": "a minimum",
    "krylov_sfn": "a minimum, for many parameters",
    "newton": "a point of any index",
    "damped_newton": "a point of any index",
    "newton_mr": "a point of any index, for many parameters",
}
"""Methods by their success in the trials of docs/refinement.md, and where they lead."""


@dataclass(frozen=True, repr=False)
class CriticalPoint(Summarised):
    """Where a search ended: a critical point, or the best that was reached.

    Attributes:
        state: the last state of the search; it goes on from there.
        options: configuration of the search, defaults filled in.
        certificate: evidence that a true critical point is near.
        criticality: the two-part test of ∇L = 0, measured at the end; None where no spectrum was
            computed.
        spectrum: at the end, by the exact or the Lanczos backend; None after an interruption or
            where nothing is finite.
        inertia: its counts.
        seconds: wall time, the final spectrum included.
    """

    state: SearchState
    options: Mapping[str, Any]
    certificate: Certificate
    criticality: Criticality | None
    spectrum: Spectrum | SpectralDensity | None
    inertia: Inertia | None
    seconds: float

    @property
    def hvps(self) -> int:
        """Hessian-vector products, those of the final spectrum and certificate included."""
        return self.state.hvps

    @property
    def parameters(self) -> torch.Tensor:
        """θ, shape (n,)."""
        return self.state.parameters

    @property
    def status(self) -> str:
        """One of converged, gradient_flat, diverging, flat_at_tolerance, step_too_small,
        max_iterations, non_finite, interrupted.
        """
        return self.state.status or "interrupted"

    @property
    def diagnosis(self) -> str:
        """What was reached, and what to try next."""
        others = (f"{name} ({goal})" for name, goal in BY_SUCCESS.items() if name != self.method)
        remedy = _REMEDIES[self.status].format(methods=f"the methods {', '.join(others)} in turn")
        return f"{self.status}: {self.state.reached}" + (f". Try: {remedy}" if remedy else "")

    @property
    def trace(self) -> Trace:
        """All points of the search."""
        return self.state.trace

    @property
    def iterations(self) -> int:
        """Steps taken."""
        return self.state.iterations

    @property
    def loss(self) -> float:
        """L(θ)."""
        return self.trace[-1].loss

    @property
    def gradient_norm(self) -> float:
        """‖∇L(θ)‖."""
        return self.trace[-1].gradient_norm

    @property
    def gradient_norm_start(self) -> float:
        """‖∇L‖ where the search began."""
        return self.trace[0].gradient_norm

    @property
    def method(self) -> str:
        """Name of the method."""
        return str(self.options["method"])

    def saddle_constants(self, best_loss: float = math.nan) -> SaddleConstants | None:
        """Constants of the stable and good saddles of Sankar & Balasubramanian 2017.

        Args:
            best_loss: the lowest loss that is known, for δ.
        """
        if self.inertia is None:
            return None
        return SaddleConstants(
            kappa=self.inertia.size - self.inertia.zero.lower,
            epsilon=self.gradient_norm,
            rho=self.certificate.lipschitz,
            delta=self.loss - best_loss,
            size=self.inertia.size,
        )

    @property
    def classification(self) -> str:
        """Minimum, saddle, …; or why the point has no such name."""
        if self.inertia is None or self.criticality is None:
            return f"unknown ({self.status})"
        if self.status == "diverging":
            return "not a critical point (diverging)"
        return classify(self.inertia, self.criticality)

    @property
    def tolerance_source(self) -> str | None:
        """Where τ of the counts comes from, in words; None where nothing was counted."""
        if self.inertia is None:
            return None
        if self.options.get("tolerance") is not None:
            return "given"
        if self.inertia.tolerance == 2 * self.inertia.noise_floor:
            return "2δ"
        return "twice what the distance to the critical point may move an eigenvalue"

    def summary(self) -> dict[str, str]:
        """Where the search ended and why, the certificate, the counts, and what point it is."""
        last = self.trace[-1]
        return {
            "status": f"{self.status} after {self.iterations:,} steps of {self.method}",
            "loss": f"{last.loss:.6g}",
            "gradient norm": f"{last.gradient_norm:.4g}",
            "certificate": self.certificate.level,
            **({} if self.inertia is None else self.inertia.summary()),
            "point": self.classification,
        }

    def to_record(self, attributes: Mapping[str, Any] | None = None) -> Record:
        """Everything needed to make the result again, and ``attributes`` beside it."""
        arrays = dict(self.state.arrays())
        spectrum: dict[str, Any] = {}
        if self.spectrum is not None:
            inner = self.spectrum.to_record()
            arrays |= {f"spectrum/{name}": array for name, array in inner.arrays.items()}
            spectrum = {"kind": inner.kind, **inner.attributes}
        return Record(
            "critical point",
            arrays,
            {
                **(attributes or {}),
                "state": self.state.attributes(),
                "status": self.status,
                "method": self.method,
                "classification": self.classification,
                "refinement_options": {k: v for k, v in self.options.items() if v is not None},
                "certificate": self.certificate.as_dict(),
                "criticality": {} if self.criticality is None else asdict(self.criticality),
                "spectrum_attributes": spectrum,
                "inertia": {} if self.inertia is None else _inertia_attributes(self.inertia),
                "hvps": self.hvps,
                "seconds": self.seconds,
            },
        )

    @classmethod
    def from_record(cls, record: Record) -> CriticalPoint:
        """Make the result that a record holds."""
        facts = record.attributes
        spectrum: Spectrum | SpectralDensity | None = None
        if (inner := spectrum_record(record)) is not None:
            kind = Spectrum if inner.kind == "spectrum" else SpectralDensity
            spectrum = kind.from_record(inner)
        return cls(
            state=SearchState.from_record(record),
            options=facts["refinement_options"],
            certificate=Certificate(**facts["certificate"]),
            criticality=Criticality(**facts["criticality"]) if facts.get("criticality") else None,
            spectrum=spectrum,
            inertia=_inertia(facts["inertia"]) if facts.get("inertia") else None,
            seconds=float(facts["seconds"]),
        )


def spectrum_record(point: Record) -> Record | None:
    """The record of the spectrum within that of a critical point; None where it has none."""
    attributes = point.attributes.get("spectrum_attributes")
    if not attributes:
        return None
    arrays = {
        name.removeprefix("spectrum/"): array
        for name, array in point.arrays.items()
        if name.startswith("spectrum/")
    }
    return Record(str(attributes["kind"]), arrays, attributes)


def _inertia_attributes(inertia: Inertia) -> dict[str, Any]:
    counts = {name: getattr(inertia, name).as_dict() for name in ("negative", "zero", "positive")}
    return {**counts, "tolerance": inertia.tolerance, "noise_floor": inertia.noise_floor}


def _inertia(facts: Mapping[str, Any]) -> Inertia:
    negative, zero, positive = (
        CountInterval(**facts[name]) for name in ("negative", "zero", "positive")
    )
    return Inertia(negative, zero, positive, facts["tolerance"], facts["noise_floor"])
