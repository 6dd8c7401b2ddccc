"""From Lanczos runs to a spectral density."""

from __future__ import annotations

import numpy as np

from hessscope.backends.measured_noise import solver_noise, warn_of_disagreement
from hessscope.backends.sampling import Sample
from hessscope.linalg.ritz import RitzPairs
from hessscope.operators import CurvatureOperator
from hessscope.spectra import LockedPairs, NoiseFloor, SpectralDensity


def density_of(
    op: CurvatureOperator,
    first: Sample,
    known: RitzPairs,
    sample: Sample,
    noise: float,
    confidence: float,
) -> SpectralDensity:
    """Put a result together; of its options only the loss of orthogonality.

    Args:
        op: the operator.
        first: the run from which the known pairs come.
        known: pairs that the sample was projected off.
        sample: the probes.
        noise: of the operator's products.
        confidence: level of the sampling intervals.
    """
    runs = [*first.runs, *sample.runs]
    rules = [run.quadrature() for run in runs]
    values = np.concatenate([known.values, *(rule.nodes for rule in rules)])
    norm = float(np.abs(values).max())
    asymmetry = max(run.asymmetry for run in runs)
    if asymmetry > noise:
        noise = asymmetry
        warn_of_disagreement(noise, norm, op.dtype)
    rigorous = not any(np.isnan(run.orthogonality) for run in runs)
    orthogonality = max(run.orthogonality for run in runs)
    # A basis that is orthonormal to ω projects A with a relative error of ω.
    rounding = max(solver_noise(rule.nodes, op.dtype) for rule in rules)
    if rigorous:
        rounding += orthogonality * norm
    # The nodes of a run that fills what is left are all eigenvalues there.
    locked, left, norms = (known.values, known.residuals), sample.runs, sample.squared_norms
    whole = [run for run in left if len(run.alphas) == op.shape[0] - len(known.values)]
    if rigorous and whole:
        nodes = whole[0].quadrature().nodes
        values = np.concatenate([known.values, nodes])
        order = np.argsort(values, kind="stable")
        residuals = np.concatenate([known.residuals, np.zeros(len(nodes))])
        locked, left, norms = (values[order], residuals[order]), (), np.zeros(0)
    longest = max((len(run.alphas) for run in left), default=0)
    alphas = np.full((len(left), longest), np.nan)
    betas = np.full((len(left), longest), np.nan)
    for j, run in enumerate(left):
        alphas[j, : len(run.alphas)], betas[j, : len(run.betas)] = run.alphas, run.betas
    return SpectralDensity(
        size=op.shape[0],
        alphas=alphas,
        betas=betas,
        squared_norms=norms,
        noise_floor=NoiseFloor(solver=rounding, operator=noise),
        dtype=str(op.dtype).removeprefix("torch."),
        locked=LockedPairs(*locked),
        first_run=first.nodes,
        rigorous=rigorous,
        confidence=confidence,
        options={"orthogonality": orthogonality},
    )
