"""Numbers of a result in the form that JSON objects have."""

from __future__ import annotations

from typing import Any

from hessscope.pipeline.notices import finite
from hessscope.spectra import Inertia, SpectralDensity, Spectrum


def counts(inertia: Inertia | None) -> dict[str, Any]:
    """Index, degeneracy and positive count with their intervals; null where nothing is counted."""
    if inertia is None:
        return {"index": None, "degeneracy": None, "positive": None}
    return inertia.as_dict()


def extremes(result: Any) -> dict[str, Any]:
    """Extreme eigenvalues and trace, with what is known of their errors."""
    if isinstance(result, Spectrum):
        return {
            "lambda_min": result.lambda_min,
            "lambda_max": result.lambda_max,
            "trace": result.trace,
        }
    estimate = result.trace_estimate()
    trace = {
        "trace": estimate.value,
        "trace_interval": {
            "lower": finite(estimate.lower),
            "upper": finite(estimate.upper),
            "confidence": estimate.confidence,
        },
    }
    if isinstance(result, SpectralDensity):
        return {
            "lambda_min": result.lambda_min,
            "lambda_min_residual": result.lambda_min_residual,
            "lambda_max": result.lambda_max,
            "lambda_max_residual": result.lambda_max_residual,
            **trace,
        }
    top = max(result.eigenvalues)
    return {
        "lambda_min": None,
        "lambda_max": top if top > 0 else None,
        "eigenvalues": list(result.eigenvalues),
        **trace,
    }
