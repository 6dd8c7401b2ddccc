"""One measurement while a network trains."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from hessscope.spectra import CountInterval, Estimate, Inertia


@dataclass(frozen=True)
class End:
    """An end of a spectrum.

    Attributes:
        estimate: the largest (or smallest) Rayleigh quotient found. It bounds the eigenvalue from
            within to δ; the other end of the interval holds with its confidence.
        residual: ‖Hu − λu‖ of the vector found, and δ: an eigenvalue lies within this distance.
    """

    estimate: Estimate
    residual: float

    def as_dict(self, name: str) -> dict[str, float]:
        """Numbers by name, as tables and logs have them."""
        value, lower, upper = self.estimate.value, self.estimate.lower, self.estimate.upper
        ends = {f"{name}_lower": lower, f"{name}_upper": upper}
        return {name: value, **ends, f"{name}_residual": self.residual}


def _index(inertia: Inertia | None) -> dict[str, float | None]:
    """The index in a row of a table; no estimate where the interval leaves it without support."""
    if inertia is None:
        names = ("index", "index_lower", "index_upper", "tolerance", "noise_floor")
        return dict.fromkeys(names)
    index = inertia.negative
    return {
        "index": index.estimate if inertia.usable(index) else None,
        "index_lower": index.lower,
        "index_upper": index.upper,
        "tolerance": inertia.tolerance,
        "noise_floor": inertia.noise_floor,
    }


_UNKNOWN = End(Estimate(math.nan, math.nan, math.nan, math.nan), math.nan)


@dataclass(frozen=True)
class Reading:
    """What ``hs.Watch`` measured after a step; NaN and None stand for what there is not.

    Attributes:
        step: number of the step.
        elapsed: seconds of training so far.
        loss: L over the data, in evaluation mode.
        gradient_norm: ‖g‖ of that loss.
        gradient_curvature: gᵀHg/gᵀg, within δ.
        highest: λ_max of the Hessian.
        lowest: λ_min of the Hessian.
        inertia: counts of eigenvalues below −τ, within ±τ and above τ. They come from one probe, so
            that intervals are wide; their lower ends are certain: Ritz values that are more than δ
            beyond ±τ.
        learning_rate: η; the largest one where groups have several.
        threshold: at which the optimiser becomes unstable; None where that is not known.
        rule: where the threshold comes from, or why there is none.
        preconditioned: λ_max of the preconditioned Hessian, where the threshold is one of that.
        products: Hessian-vector products that it took.
        seconds: that it took.
        share: part of the time that all readings so far took together.
        note: why it was not measured.
    """

    step: int
    elapsed: float
    loss: float = math.nan
    gradient_norm: float = math.nan
    gradient_curvature: float = math.nan
    highest: End = _UNKNOWN
    lowest: End = _UNKNOWN
    inertia: Inertia | None = None
    learning_rate: float | None = None
    threshold: float | None = None
    rule: str = ""
    preconditioned: End | None = None
    products: int = 0
    seconds: float = math.nan
    share: float = math.nan
    note: str = ""

    @property
    def lambda_max(self) -> float:
        """Largest eigenvalue found; its interval: ``highest``."""
        return self.highest.estimate.value

    @property
    def lambda_min(self) -> float:
        """Smallest eigenvalue found; its interval: ``lowest``."""
        return self.lowest.estimate.value

    @property
    def index(self) -> CountInterval | None:
        """Number of eigenvalues below −τ."""
        return self.inertia.negative if self.inertia else None

    @property
    def stability(self) -> float:
        """λ_max of the threshold's matrix, in units of the threshold: 1 is the edge."""
        if not self.threshold:
            return math.nan
        return (self.preconditioned or self.highest).estimate.value / self.threshold

    def as_dict(self) -> dict[str, Any]:
        """A row of a table: names with plain values, always the same ones."""
        return {
            "step": self.step,
            "elapsed": self.elapsed,
            "loss": self.loss,
            "gradient_norm": self.gradient_norm,
            "gradient_curvature": self.gradient_curvature,
            **self.highest.as_dict("lambda_max"),
            **self.lowest.as_dict("lambda_min"),
            **_index(self.inertia),
            "confidence": self.highest.estimate.confidence,
            "learning_rate": self.learning_rate,
            "threshold": self.threshold,
            **(self.preconditioned or _UNKNOWN).as_dict("preconditioned_lambda_max"),
            "stability": self.stability,
            "products": self.products,
            "seconds": self.seconds,
            "share": self.share,
            "rule": self.rule,
            "note": self.note,
        }

    def numbers(self, prefix: str = "hessscope/") -> dict[str, float]:
        """The finite numbers, under names with a prefix, as loggers take them."""
        row = {k: v for k, v in self.as_dict().items() if isinstance(v, (int, float))}
        del row["step"]
        return {f"{prefix}{k}": v for k, v in row.items() if math.isfinite(v)}

    def __str__(self) -> str:
        """In a line."""
        if self.note:
            return f"step {self.step:,}: {self.note}"
        parts = [f"step {self.step:,}: loss {self.loss:.6g}", f"‖g‖ {self.gradient_norm:.3g}"]
        parts.append(f"λ max {self.highest.estimate}")
        if self.preconditioned:
            parts.append(f"preconditioned {self.preconditioned.estimate}")
        if self.threshold is not None:
            parts.append(f"threshold {self.threshold:.4g}")
        parts.append(f"λ min {self.lowest.estimate}")
        if self.inertia:
            shown = self.inertia.summary()
            parts.append(f"index {shown['index']} at τ = {shown['tolerance']}")
        return ", ".join(parts)
