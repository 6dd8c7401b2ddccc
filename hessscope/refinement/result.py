"""Critical points: what a search found."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch

from hessscope.records import Record, Summarised
from hessscope.refinement.certificates import Certificate
from hessscope.refinement.points import SaddleConstants, Trace
from hessscope.refinement.states import SearchState
from hessscope.spectra import (
    CountInterval,
    Criticality,
    Inertia,
    Result,
    classify,
    result_of,
)

_REMEDIES = {
    "converged": "",
    "gradient_flat": "begin elsewhere (another start or checkpoint), or go down with sfn first",
    "diverging": "add a penalty (`l2`), or stop earlier: there is no critical point at a finite "
    "distance in this direction",
    "flat_at_tolerance": "add a penalty (`l2`), which curves flat directions, or give their "
    "symmetries; float64 resolves more than float32",
    "step_too_small": "{methods}, or another globalisation; a penalty (`l2`), without which none "
    "of them converged in our trials; where rounding is the limit, float64 or a larger tolerance",
    "max_iterations": "continue with `resume` and more iterations",
    "non_finite": "begin elsewhere, or look at the weights and the data for extremes",
    "interrupted": "continue with `resume`",
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
        state: the last state of the search, from which it can be resumed.
        configuration: options of the search, with every default filled in.
        certificate: evidence that a true critical point is near.
        criticality: the two-part test of ∇L = 0, measured at the end; None where no spectrum was
            computed.
        spectrum: at the end, by the exact or the Lanczos backend; None after an interruption or
            where nothing is finite.
        inertia: its counts.
        seconds: wall time, the final spectrum included.
    """

    state: SearchState
    configuration: Mapping[str, Any]
    certificate: Certificate
    criticality: Criticality | None
    spectrum: Result | None
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
        return str(self.configuration["method"])

    def saddle_constants(self, best_loss: float | None = None) -> SaddleConstants | None:
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
            delta=math.nan if best_loss is None else self.loss - best_loss,
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
        if self.configuration.get("tolerance") is not None:
            return "given"
        if self.inertia.tolerance == 2 * self.inertia.noise_floor:
            return "2δ"
        return "twice what the distance to the critical point may move an eigenvalue"

    def as_dict(self) -> dict[str, Any]:
        """Where the search ended, as JSON objects and records state it."""
        first, last, inertia, spectrum = self.trace[0], self.trace[-1], self.inertia, self.spectrum
        no_counts = dict.fromkeys(("index", "degeneracy", "positive"))
        return {
            "status": self.status,
            "diagnosis": self.diagnosis,
            "method": self.method,
            "globalisation": self.configuration["globalisation"],
            "merit": self.configuration["merit"],
            "iterations": self.iterations,
            "parameters": len(self.parameters),
            "loss": last.loss,
            "loss_start": first.loss,
            "gradient_norm": last.gradient_norm,
            "gradient_norm_start": first.gradient_norm,
            "gradient_floor": self.criticality and self.criticality.gradient_floor,
            "parameter_norm": last.parameter_norm,
            "certificate": self.certificate.as_dict(),
            "classification": self.classification,
            "tolerance": None if inertia is None else inertia.tolerance,
            "tolerance_source": self.tolerance_source,
            "noise_floor": None if inertia is None else inertia.noise_floor,
            **(no_counts if inertia is None else inertia.as_dict()),
            "alpha": None if inertia is None else inertia.index_fraction,
            "lambda_min": None if spectrum is None else spectrum.lambda_min,
            "lambda_max": None if spectrum is None else spectrum.lambda_max,
            "trace": None if spectrum is None else spectrum.trace,
            "backend": None if spectrum is None else spectrum.backend,
            "hvps": self.hvps,
            "hessians": last.hessians,
            "gradients": last.gradients,
            "seconds": self.seconds,
        }

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
        inner = None if self.spectrum is None else self.spectrum.to_record()
        arrays = {} if inner is None else inner.arrays
        return Record(
            "critical point",
            {
                **self.state.arrays(),
                **{f"{_SPECTRUM}/{name}": array for name, array in arrays.items()},
            },
            {
                **(attributes or {}),
                **self.as_dict(),
                "state": self.state.attributes(),
                "configuration": self.configuration,
                "criticality": {} if self.criticality is None else asdict(self.criticality),
                _SPECTRUM: {} if inner is None else {"kind": inner.kind, **inner.attributes},
            },
        )

    @classmethod
    def from_record(cls, record: Record) -> CriticalPoint:
        """Make the result that a record holds."""
        facts = record.attributes
        inner = spectrum_record(record)
        return cls(
            state=SearchState.from_record(record),
            configuration=facts["configuration"],
            certificate=Certificate.from_dict(facts["certificate"]),
            criticality=Criticality(**facts["criticality"]) if facts.get("criticality") else None,
            spectrum=None if inner is None else result_of(inner),
            inertia=_inertia(facts) if facts.get("index") else None,
            seconds=float(facts["seconds"]),
        )


_SPECTRUM = "spectrum"


def spectrum_record(point: Record) -> Record | None:
    """The record of the spectrum within that of a critical point; None where it has none."""
    attributes = point.attributes.get(_SPECTRUM)
    if not attributes:
        return None
    arrays = {
        name.removeprefix(f"{_SPECTRUM}/"): array
        for name, array in point.arrays.items()
        if name.startswith(f"{_SPECTRUM}/")
    }
    return Record(str(attributes["kind"]), arrays, attributes)


def _inertia(facts: Mapping[str, Any]) -> Inertia:
    index, degeneracy, positive = (
        CountInterval(*(facts[name][end] for end in ("lower", "estimate", "upper", "confidence")))
        for name in ("index", "degeneracy", "positive")
    )
    return Inertia(index, degeneracy, positive, facts["tolerance"], facts["noise_floor"])
