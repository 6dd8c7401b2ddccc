"""Which backend computes a spectrum, and why."""

from __future__ import annotations

from typing import Any

from hessscope.backends import Backend, ExactBackend, choose_backend
from hessscope.backends.backend import zero_rule_of
from hessscope.operators import ObjectiveOperator
from hessscope.options.spectrum import AUTO, SpectrumOptions
from hessscope.pipeline.repeats import RepeatedPlan
from hessscope.pipeline.spectrum_checks import check_matrix
from hessscope.registry import BACKENDS


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
        choice = choose_backend(operator, ExactBackend.from_options(options))
        wanted, reason = choice.name, choice.reason
    found: Any = BACKENDS.find(wanted)
    if rule.rounded:
        check_matrix(found)
    backend: Backend = found if isinstance(found, Backend) else found.from_options(options)
    return backend.planned(operator, {} if repeated is None else repeated.configuration), reason
