"""Repeating what an earlier run decided by measuring, so that it gives the same bits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from hessscope.errors import RecordError
from hessscope.limits import available_cores
from hessscope.operators import ObjectiveOperator, Plan
from hessscope.pipeline.layers import LayerPlan
from hessscope.records import load_record


@dataclass(frozen=True)
class RepeatedPlan:
    """The measured decisions of a run, as its record has them.

    Attributes:
        source: the record.
        backend: "exact", "lanczos" or "pyhessian".
        products: how products were computed.
        together: probes whose bases were held at once; None for other backends.
        threads: number of threads, which decides the order of sums.
        parameters: length of θ, or of the part that was looked at.
        layers: the same decisions for the blocks of layers, by their names.
    """

    source: Path
    backend: str
    products: Plan
    together: int | None
    threads: int
    parameters: int
    layers: Mapping[str, LayerPlan]

    @classmethod
    def of(cls, path: str | Path) -> RepeatedPlan:
        """Read the plan from a record.

        Raises:
            RecordError: it is no record of a spectrum, or has no plan.
        """
        attributes = load_record(path).attributes
        if not {"plan", "backend", "torch_threads"} <= set(attributes):
            raise RecordError(
                f"{path} has no plan to repeat: give the record of a spectrum (exact or lanczos)"
            )
        return cls.from_attributes(Path(path), attributes)

    @classmethod
    def from_attributes(cls, source: Path, attributes: Mapping[str, Any]) -> RepeatedPlan:
        """Take the plan from a record's attributes, or from what a savepoint noted of them."""
        return cls(
            source,
            str(attributes["backend"]),
            _products(attributes["plan"]),
            attributes.get("configuration", {}).get("together"),
            int(attributes["torch_threads"]),
            int(attributes["parameters"]),
            {
                name: LayerPlan(str(x["backend"]), _products(x["plan"]), x.get("together"))
                for name, x in attributes.get("layers", {}).items()
            },
        )

    def operator(
        self, kind: type[ObjectiveOperator], risk: Any, memory: int | None
    ) -> ObjectiveOperator:
        """The matrix at the model's parameters, with products as planned.

        Raises:
            RecordError: the plan is one for another network.
            MemoryLimitError: it holds more than there is room for.
        """
        operator = kind(risk, plan=self.products, memory=memory)
        if operator.shape[0] != self.parameters:
            raise RecordError(
                f"the plan of {self.source} is one for {self.parameters:,} parameters, and this "
                f"network has {operator.shape[0]:,}: give a record of the same model"
            )
        operator.check_plan()
        return operator


@contextmanager
def threads(count: int | None) -> Iterator[None]:
    """Compute with so many threads; None for as many as are set, but no more than the cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or min(before, available_cores()))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _products(plan: Mapping[str, Any]) -> Plan:
    size = plan.get("batch_size")
    return Plan(
        way=str(plan["way"]),
        vectors=int(plan["vectors"]),
        batch_size=None if size is None else int(size),
        held=bool(plan["held"]),
    )
