"""A spectrum for each layer: the diagonal blocks of a matrix."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from hessscope.backends.backend import zero_rule_of
from hessscope.operators import ObjectiveOperator, Plan
from hessscope.options.spectrum import SpectrumOptions
from hessscope.pipeline.backend_choice import settle_backend
from hessscope.pipeline.repeats import RepeatedPlan
from hessscope.spectra import Inertia, Result

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
    result: Result
    inertia: Inertia
    plan: Plan

    def as_dict(self) -> dict[str, Any]:
        """One entry of ``layers`` in the JSON object."""
        return {
            "layer": self.name,
            "parameter_names": list(self.parameter_names),
            "parameters": self.result.size,
            "backend": self.result.backend,
            "together": self.result.options.get("together"),
            "tolerance": self.inertia.tolerance,
            "noise_floor": self.inertia.noise_floor,
            **self.inertia.as_dict(),
            "alpha": self.inertia.index_fraction,
            **self.result.extremes(),
            "hvps": self.result.hvps,
            "plan": self.plan.as_dict(),
        }

    def arrays(self) -> dict[str, np.ndarray]:
        """What a record holds of it, in a group of its own."""
        own = self.result.to_record().arrays
        return {f"layers/{self.name}/{name}": array for name, array in own.items()}


def layer_spectra(
    operator: ObjectiveOperator, options: SpectrumOptions, plans: Mapping[str, RepeatedPlan]
) -> tuple[LayerSpectrum, ...]:
    """Compute the spectrum of each module's diagonal block, one after the other.

    By Cauchy's interlacing theorem the whole matrix has at least as many negative eigenvalues as
    any of its blocks, and its extremes lie outside theirs. Nothing follows in the other direction.

    Args:
        operator: of all parameters, or of those that were chosen.
        options: of the whole; a target width is only for the whole.
        plans: what an earlier run decided for some of the layers, by their names.
    """
    options = dataclasses.replace(options, target_width=None, budget=None)
    modules: dict[str, tuple[str, ...]] = operator.objective.layout.by_module()  # type: ignore[attr-defined]
    found: list[LayerSpectrum] = []
    options.progress("layers", 0, len(modules))
    for name, parameters in modules.items():
        name = name or WHOLE_MODEL
        block = operator.restricted(parameters)
        if planned := plans.get(name):
            block = planned.planned(block)
        backend, _ = settle_backend(options, block, planned)
        result = backend.solve(block, options.progress)
        inertia = zero_rule_of(options).inertia(result)
        found.append(LayerSpectrum(name, parameters, result, inertia, block.plan))
        options.progress("layers", len(found), len(modules))
    return tuple(found)
