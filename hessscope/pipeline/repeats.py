"""The backend of a spectrum: chosen, or repeated with the plan of an earlier run."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from hessscope.backends import Backend, ExactBackend, choose_backend
from hessscope.backends.backend import zero_rule_of
from hessscope.errors import RecordError
from hessscope.limits import available_cores
from hessscope.operators import FiniteDifferenceHessian, ObjectiveOperator, Plan
from hessscope.options.spectrum import AUTO, SpectrumOptions
from hessscope.pipeline.spectrum_checks import check_matrix
from hessscope.records import Record, Store, load_record
from hessscope.registry import BACKENDS

PLAN = "plan"
# What a backend settles by the memory that there is.
_SETTLED = ("together", "basis")


@dataclass(frozen=True)
class RepeatedPlan:
    """What a run decided by measuring, as its record has it.

    Attributes:
        source: the record.
        backend: name of the backend.
        products: how products were computed.
        configuration: of the backend; with ``together``, probes whose bases were held at once, and
            ``basis``, how.
        parameters: length of θ, or of the part that was looked at.
        threads: number of threads, which decides the order of sums; None for a layer.
        layers: the same for the blocks of layers, by their names.
    """

    source: Path
    backend: str
    products: Plan
    configuration: Mapping[str, Any]
    parameters: int
    threads: int | None
    layers: Mapping[str, RepeatedPlan]

    @classmethod
    def of(cls, path: Path) -> RepeatedPlan:
        """Read the plan from a record.

        Raises:
            RecordError: it is no record of a spectrum, or has no plan.
        """
        attributes = load_record(path).attributes
        if not {"plan", "backend", "torch_threads"} <= set(attributes):
            raise RecordError(
                f"{path} has no plan to repeat: give the record of a spectrum (exact or lanczos)"
            )
        return cls.from_attributes(path, attributes)

    @classmethod
    def from_attributes(cls, source: Path, found: Mapping[str, Any]) -> RepeatedPlan:
        """Take the plan from a record's attributes, or from those of a layer."""
        plan, threads = found["plan"], found.get("torch_threads")
        size = plan.get("batch_size")
        products = Plan(
            str(plan["way"]),
            int(plan["vectors"]),
            None if size is None else int(size),
            bool(plan["held"]),
        )
        return cls(
            source,
            str(found["backend"]),
            products,
            # A layer has no configuration beside.
            found.get("configuration", {name: found.get(name) for name in _SETTLED}),
            int(found["parameters"]),
            None if threads is None else int(threads),
            {
                name: cls.from_attributes(source, layer)
                for name, layer in (found.get("layers") or {}).items()
            },
        )

    def planned(self, operator: ObjectiveOperator) -> ObjectiveOperator:
        """The operator with products as planned.

        Raises:
            RecordError: the plan is one for another network.
            MemoryLimitError: it holds more than there is room for.
        """
        if operator.shape[0] != self.parameters:
            raise RecordError(
                f"the plan of {self.source} is one for {self.parameters:,} parameters, and this "
                f"network has {operator.shape[0]:,}: give a record of the same model"
            )
        differences = isinstance(operator, FiniteDifferenceHessian)
        if differences != (self.products.way == FiniteDifferenceHessian.way):
            raise RecordError(
                f"the plan of {self.source} is one for products by {self.products.way}: give "
                "`products` as they were"
            )
        planned = operator.planned(self.products)
        planned.check_plan()
        return planned


def noted_plan(saved: Store) -> RepeatedPlan | None:
    """What an earlier try of the same job decided by measuring; None where there was none.

    States whose plan is not known are not resumed: the rest would have other bits.
    """
    if saved.folder is None or not saved.folder.is_dir():
        return None
    with contextlib.suppress(LookupError, TypeError, ValueError):
        if (noted := saved.record(PLAN)) is not None:
            return RepeatedPlan.from_attributes(saved.folder, noted.attributes)
    if any(saved.folder.glob("*.npz")):
        saved.set_aside("how products were computed is not known")
    return None


def note_plan(saved: Store, operator: ObjectiveOperator, backend: Backend) -> None:
    """Store what was decided by measuring, so that a resumed run gives the same bits."""

    def plan() -> Record:
        facts = {
            "backend": backend.name,
            "plan": operator.plan.as_dict(),
            "configuration": {name: getattr(backend, name, None) for name in _SETTLED},
            "torch_threads": torch.get_num_threads(),
            "parameters": operator.shape[0],
        }
        return Record("plan", {}, facts)

    saved.note(PLAN, plan)


@contextlib.contextmanager
def threads(count: int | None) -> Iterator[None]:
    """Compute with so many threads; None for as many as are set, but no more than the cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or min(before, available_cores()))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def settle_backend(
    options: SpectrumOptions, operator: ObjectiveOperator, repeated: RepeatedPlan | None
) -> tuple[Backend, str]:
    """The backend for an operator, ready to solve, and why it was taken.

    Args:
        options: with the backend's name, class or object, or "auto".
        operator: what will be solved.
        repeated: the plan of an earlier run.
    """
    wanted: Any = options.backend
    reason = "asked for"
    rule = zero_rule_of(options)
    if wanted == AUTO and repeated is not None:
        wanted, reason = repeated.backend, f"as in {repeated.source}"
    elif wanted == AUTO and rule.rounded:
        wanted, reason = "exact", f"the zero rule {rule.name} needs the matrix"
    elif wanted == AUTO:
        wanted, reason = choose_backend(operator, ExactBackend.from_options(options))
    found: Any = BACKENDS.find(wanted)
    if rule.rounded:
        check_matrix(found)
    backend: Backend = found if isinstance(found, Backend) else found.from_options(options)
    return backend.planned(operator, {} if repeated is None else repeated.configuration), reason
