"""A spectrum for each layer: the diagonal blocks of a matrix."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hessscope import backends
from hessscope.operators import ObjectiveOperator, Plan
from hessscope.pipeline.result_numbers import counts
from hessscope.progress import Progress, silent
from hessscope.spectra import Inertia, SpectralDensity, Spectrum

WHOLE_MODEL = "(model)"
"""Name of the group of parameters that belong to the model itself and to no module of it."""


@dataclass(frozen=True)
class LayerSpectrum:
    """The diagonal block of one module's parameters.

    Attributes:
        name: of the module.
        parameter_names: of its parameters, in the order of θ.
        result: the block's spectrum or density.
        inertia: its counts with their intervals.
        plan: how products with it were computed.
    """

    name: str
    parameter_names: tuple[str, ...]
    result: Spectrum | SpectralDensity
    inertia: Inertia
    plan: Plan

    def as_dict(self) -> dict[str, Any]:
        """One entry of ``layers`` in the JSON object."""
        return {
            "layer": self.name,
            "parameter_names": list(self.parameter_names),
            "parameters": self.result.size,
            "backend": str(self.result.options["backend"]),
            "together": self.result.options.get("together"),
            "tolerance": self.inertia.tolerance,
            "noise_floor": self.inertia.noise_floor,
            **counts(self.inertia),
            "alpha": self.inertia.index_fraction,
            **self.result.extremes(),
            "hvps": self.result.hvps,
            "plan": self.plan.as_dict(),
        }

    def arrays(self) -> dict[str, np.ndarray]:
        """What a record holds of it, in a group of its own."""
        own = self.result.to_record().arrays
        return {f"layers/{self.name}/{name}": array for name, array in own.items()}


@dataclass(frozen=True)
class LayerPlan:
    """What was decided by measuring for a layer's block.

    Attributes:
        backend: "exact" or "lanczos".
        products: how products are computed.
        together: probes whose bases are held at once; None for the exact backend.
    """

    backend: str
    products: Plan
    together: int | None


def layer_spectra(
    operator: ObjectiveOperator,
    backend: str,
    plans: Mapping[str, LayerPlan],
    exact: backends.ExactBackend,
    sampled: backends.LanczosBackend,
    count: Callable[[Spectrum | SpectralDensity], Inertia],
    progress: Progress = silent,
) -> tuple[LayerSpectrum, ...]:
    """Compute the spectrum of each module's diagonal block, one after the other.

    By Cauchy's interlacing theorem the whole matrix has at least as many negative eigenvalues as
    any of its blocks, and its extremes lie outside theirs. Nothing follows in the other direction.

    Args:
        operator: of all parameters, or of those that were chosen.
        backend: "exact", "lanczos", or "auto" to choose for each block.
        plans: what an earlier run decided for some of the layers, by their names.
        exact: the exact backend, where it is taken.
        sampled: the Lanczos backend, where it is taken.
        count: gives the counts of a spectrum.
        progress: told of the layers and of every stage within.
    """
    modules: dict[str, tuple[str, ...]] = operator.objective.layout.by_module()  # type: ignore[attr-defined]
    found = []
    progress("layers", 0, len(modules))
    for name, parameters in modules.items():
        name = name or WHOLE_MODEL
        block, chosen, solver = operator.restricted(parameters), backend, sampled
        if planned := plans.get(name):
            block, chosen = block.planned(planned.products), planned.backend
            solver = replace(sampled, together=planned.together)
        elif backend == "auto":
            chosen = backends.choose_backend(block, exact).name
        result = (exact if chosen == "exact" else solver).solve(block, progress=progress)
        found.append(LayerSpectrum(name, parameters, result, count(result), block.plan))
        progress("layers", len(found), len(modules))
    return tuple(found)
