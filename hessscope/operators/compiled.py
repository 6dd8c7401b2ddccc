"""Products compiled: the operations of the graph, traced once and fused into kernels."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from hessscope.errors import HessscopeWarning, OptionError
from hessscope.objective import Term
from hessscope.operators.plan import Plan, seconds_of
from hessscope.operators.symmetric import BlockProduct
from hessscope.torch_internals import can_compile, compiled_graph, divided, traced

if TYPE_CHECKING:
    from hessscope.operators.derivatives import ObjectiveOperator

# Of small graphs compilers take so many seconds, of large ones so many times the time of tracing.
_LEAST, _TRACES = 60.0, 6
# Time that fused kernels are expected to save: what stands between matrix products.
_SAVED = 0.12


def compiled_plan(
    operator: ObjectiveOperator, plan: Plan, products: float, vectors: int | None = None
) -> Plan:
    """The plan with its products compiled, where so many products pay for compiling.

    Compiled products are taken if they are faster than those by the graph, and the same to half
    of the digits; what they differ by is in the noise floor, which is measured with them.

    Args:
        operator: whose products are planned.
        plan: by the graph.
        products: that will be asked for; infinite to compile in any case.
        vectors: that will be asked for at once; default as many as the plan takes.

    Warns:
        HessscopeWarning: torch could not compile the products.
    """
    forced = math.isinf(products)
    # Compiled products keep what they need of every batch, as plans do that hold their graphs.
    if plan.way != "graph" or not (forced or (plan.held and can_compile(operator.device))):
        return plan
    terms = operator.objective.terms(plan.batch_size)
    expected = products * operator.pace * len(terms)
    if not forced and _SAVED * expected < _LEAST:
        return plan
    wanted = replace(plan, way="compiled", vectors=min(plan.vectors, vectors or plan.vectors))
    block = torch.randn(wanted.vectors, len(operator.at), dtype=operator.dtype)
    block = block.to(operator.device)
    reference = _by_graph(operator, terms[0], plan)
    start = time.perf_counter()
    try:
        _traced(operator, terms[0], wanted)
        cost = (time.perf_counter() - start) * (len(terms) + _TRACES)
        if not forced and _SAVED * expected < cost:
            return plan
        product = compiled_product(operator, terms[0], wanted)
        gap = torch.linalg.vector_norm(product(block) - (exact := reference(block)))
        half = torch.finfo(operator.dtype).eps ** 0.5
        if not float(gap) <= half * float(torch.linalg.vector_norm(exact)):
            raise RuntimeError("compiled products differ from those by the graph")
    except Exception as error:  # compilers fail in many ways, and products by the graph remain
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        warnings.warn(
            f"products are not compiled, which costs time and nothing else: {first}",
            HessscopeWarning,
            stacklevel=2,
        )
        return plan
    faster = forced or seconds_of(product, block) < seconds_of(reference, block)
    return wanted if faster else plan


def compiled_products(operator: ObjectiveOperator, plan: Plan) -> Iterator[BlockProduct]:
    """Products with each batch's part of the matrix.

    Raises:
        OptionError: torch cannot compile them here.
    """
    for term in operator.objective.terms(plan.batch_size):
        try:
            yield compiled_product(operator, term, plan)
        except Exception as error:  # as above
            raise OptionError(
                f"the plan computes by compiled products, and torch cannot compile them here "
                f"({error}): leave out the `plan`, or take one by graph"
            ) from error


def compiled_product(operator: ObjectiveOperator, term: Term, plan: Plan) -> BlockProduct:
    """Products with a term's part; by the graph where its operations are not those of the first.

    The operations are those of ``operator.prepare`` and of the product that this gives, so the
    result is the same to rounding. Where the plan holds what it prepares, what does not depend on
    the vectors is computed now; else the kernels have all of it.
    """
    rows = operator.at.new_zeros(plan.vectors, len(operator.at))
    graph, inputs = _traced(operator, term, plan)
    signature = graph.code + str([(x.shape, x.stride(), x.dtype) for x in inputs])
    if plan not in operator.kernels:
        operator.kernels[plan] = signature, compiled_graph(graph, [*inputs, rows])
    compiled, kernel = operator.kernels[plan]
    if signature != compiled:  # such as of the last batch, which is shorter
        return _by_graph(operator, term, plan)

    def product(vectors: torch.Tensor) -> torch.Tensor:
        missing = plan.vectors - len(vectors)
        padded = F.pad(vectors, (0, 0, 0, missing)) if missing else vectors
        with torch.no_grad():
            return kernel(*inputs, padded)[: len(vectors)]

    return product


def _traced(
    operator: ObjectiveOperator, term: Term, plan: Plan
) -> tuple[torch.fx.GraphModule, list[torch.Tensor]]:
    """Operations of a term's products, and the tensors that come before the vectors."""
    rows = operator.at.new_zeros(plan.vectors, len(operator.at))
    whole = traced(lambda at, vectors: operator.prepare(term, at)(vectors), operator.at, rows)
    before, graph = divided(whole, held=plan.held)
    with torch.no_grad():
        return graph, list(before(operator.at, rows))


def _by_graph(operator: ObjectiveOperator, term: Term, plan: Plan) -> BlockProduct:
    if plan.held:
        return operator.prepare(term, operator.at)
    return lambda vectors: operator.prepare(term, operator.at)(vectors)
