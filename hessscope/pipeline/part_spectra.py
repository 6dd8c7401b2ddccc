"""Spectra of the parts of θ, how far apart they are, and what of the matrix is outside of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from hessscope.backends.backend import zero_rule_of
from hessscope.errors import OptionError
from hessscope.loaders import load_object
from hessscope.objective import EmpiricalRisk
from hessscope.objective.parts import Partition
from hessscope.operators import CurvatureOperator, ObjectiveOperator, Plan
from hessscope.options.spectrum import SpectrumOptions
from hessscope.pipeline.repeats import RepeatedPlan, settle_backend
from hessscope.progress import Progress, silent
from hessscope.spectra import BlockDistances, Inertia, OffBlockShare, Result


@dataclass(frozen=True)
class LayerSpectrum:
    """The diagonal block of a part of θ: of a module, a block, a role or a head.

    Attributes:
        name: of the part.
        parameter_names: of its parameters, in the order of θ.
        entries: how many entries of each belong to it.
        result: the block's spectrum or density.
        inertia: its counts with their intervals.
        plan: how products with it were computed.
    """

    name: str
    parameter_names: tuple[str, ...]
    entries: tuple[int, ...]
    result: Result
    inertia: Inertia
    plan: Plan

    def as_dict(self) -> dict[str, Any]:
        """One entry of ``layers`` in the JSON object."""
        return {
            "layer": self.name,
            "parameter_names": list(self.parameter_names),
            "entries": list(self.entries),
            "parameters": self.result.size,
            "backend": self.result.backend,
            "together": self.result.options.get("together"),
            "basis": self.result.options.get("basis"),
            "tolerance": self.inertia.tolerance,
            "noise_floor": self.inertia.noise_floor,
            **self.inertia.as_dict(),
            "alpha": self.inertia.index_fraction,
            **self.result.extremes(),
            "hvps": self.result.hvps,
            "products": self.result.options.get("products", {"way": "exact"}),
            "plan": self.plan.as_dict(),
        }

    def attributes(self) -> dict[str, Any]:
        """What a record holds of it beside arrays, from which its result can be made again."""
        own = self.result.to_record(self.as_dict())
        return {"kind": own.kind, **own.attributes}

    def arrays(self) -> dict[str, np.ndarray]:
        """What a record holds of it, in a group of its own."""
        own = self.result.to_record().arrays
        return {f"layers/{self.name}/{name}": array for name, array in own.items()}


@dataclass(frozen=True)
class PartSpectra:
    """The diagonal blocks of a partition of θ, and how they differ.

    Attributes:
        layers: the blocks.
        off_block: share of the matrix outside of them; None where no probes were asked for.
        distances: of their spectra; None where there is one block.
    """

    layers: tuple[LayerSpectrum, ...] = ()
    off_block: OffBlockShare | None = None
    distances: BlockDistances | None = None


def divided(risk: EmpiricalRisk, options: SpectrumOptions) -> Partition | None:
    """The partition that is asked for; None where none is.

    Raises:
        OptionError: it cannot be made.
    """
    by: str | Callable[..., Any] | None = options.by or ("module" if options.by_layer else None)
    if isinstance(by, str) and ":" in by:
        function = load_object(by, "by")
        if not callable(function):
            raise OptionError(f"`by={by}` is a {type(function).__name__}, not a function")
        by = function
    return None if by is None else Partition.of(risk, by)


def part_spectra(
    operator: ObjectiveOperator,
    whole: Result,
    partition: Partition,
    options: SpectrumOptions,
    plans: Mapping[str, RepeatedPlan],
) -> PartSpectra:
    """Compute the spectrum of each part's diagonal block, one after the other, and compare them.

    By Cauchy's interlacing theorem the whole matrix has at least as many negative eigenvalues as
    any of its blocks, and its extremes lie outside theirs. Nothing follows in the other direction.

    Args:
        operator: of all parameters, or of those that were chosen.
        whole: its spectrum.
        partition: of its parameters.
        options: of the whole; a target width is only for the whole.
        plans: what an earlier run decided for some of the parts, by their names.
    """
    options = dataclasses.replace(options, target_width=None, budget=None)
    layers: list[LayerSpectrum] = []
    count = len(partition.names)
    options.progress("layers", 0, count)
    for number, name in enumerate(partition.names):
        block = operator.restricted(partition.places(number))
        if planned := plans.get(name):
            block = planned.planned(block)
        backend, _ = settle_backend(options, block, planned)
        result = backend.solve(block, options.progress)
        inertia = zero_rule_of(options).inertia(result)
        own = block.objective.layout  # type: ignore[attr-defined]
        layers.append(LayerSpectrum(name, own.names, own.counts, result, inertia, block.plan))
        options.progress("layers", number + 1, count)
    results = {layer.name: layer.result for layer in layers}
    share = None
    if all(result.eigenvalues is not None for result in (whole, *results.values())):
        share = OffBlockShare.from_spectra(whole, results.values())
    elif options.block_probes:
        share = off_block_share(
            operator, partition, options.block_probes, options.seed, options.progress
        )
    return PartSpectra(tuple(layers), share, BlockDistances.of(results) if count > 1 else None)


def off_block_share(
    operator: CurvatureOperator,
    partition: Partition,
    probes: int = 10,
    seed: int = 0,
    progress: Progress = silent,
) -> OffBlockShare:
    """Estimate the share of the matrix outside of the blocks, one product a block and probe.

    Args:
        operator: the whole matrix.
        partition: of its rows.
        probes: random vectors for each block.
        seed: of these; each block and probe has a stream of its own.
        progress: called with the products.
    """
    inside, outside = np.zeros((2, len(partition.names), probes))
    for number in range(len(partition.names)):
        places = partition.places(number)
        for probe in range(probes):
            source = np.random.SeedSequence(seed, spawn_key=(2, number, probe))
            signs = np.random.default_rng(source).integers(0, 2, len(places)) * 2.0 - 1.0
            vector = torch.zeros(operator.shape[0], 1, dtype=operator.dtype, device=operator.device)
            vector[places, 0] = torch.from_numpy(signs).to(vector)
            product = operator.apply(vector)[:, 0].double()
            inside[number, probe] = float(product[places].square().sum())
            product[places] = 0.0
            outside[number, probe] = float(product.square().sum())
            progress("share outside of blocks", number * probes + probe + 1, inside.size)
    return OffBlockShare.from_masses(inside, outside)
