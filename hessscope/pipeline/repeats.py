"""Repeating what an earlier run decided by measuring, so that it gives the same bits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from hessscope.errors import RecordError
from hessscope.operators import HessianOperator, Plan
from hessscope.records import Record, load_record


@dataclass(frozen=True)
class RepeatedPlan:
    """The measured decisions of a run, as its record has them.

    Attributes:
        source: the record.
        backend: "exact", "lanczos" or "pyhessian".
        products: how products were computed.
        together: probes whose bases were held at once; None for other backends.
        threads: number of threads, which decides the order of sums.
        parameters: length of θ.
    """

    source: Path
    backend: str
    products: Plan
    together: int | None
    threads: int
    parameters: int

    @classmethod
    def of(cls, path: str | Path) -> RepeatedPlan:
        """Read the plan from a record.

        Raises:
            RecordError: it is no record of a spectrum, or has no plan.
        """
        record = load_record(path)
        attributes = record.attributes
        if not {"plan", "backend", "torch_threads"} <= set(attributes):
            raise RecordError(
                f"{path} has no plan to repeat: give the record of a spectrum (exact or lanczos)"
            )
        options = attributes.get("options", {})
        return cls(
            Path(path),
            str(attributes["backend"]),
            _products(record),
            options.get("together"),
            int(attributes["torch_threads"]),
            int(attributes["parameters"]),
        )

    def operator(self, risk: Any, memory: int | None) -> HessianOperator:
        """The Hessian at the model's parameters, with products as planned.

        Raises:
            RecordError: the plan is one for another network.
            MemoryLimitError: it holds more than there is room for.
        """
        hessian = HessianOperator(risk, plan=self.products, memory=memory)
        if hessian.shape[0] != self.parameters:
            raise RecordError(
                f"the plan of {self.source} is one for {self.parameters:,} parameters, and this "
                f"network has {hessian.shape[0]:,}: give a record of the same model"
            )
        hessian.check_plan()
        return hessian


@contextmanager
def threads(count: int | None) -> Iterator[None]:
    """Compute with so many threads; None for as many as there are set."""
    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _products(record: Record) -> Plan:
    plan = record.attributes["plan"]
    size = plan.get("batch_size")
    return Plan(
        way=str(plan["way"]),
        vectors=int(plan["vectors"]),
        batch_size=None if size is None else int(size),
        held=bool(plan["held"]),
    )
