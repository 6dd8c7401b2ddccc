"""Second-order matrices of an objective at a point, as linear operators."""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np
import scipy.sparse.linalg
import torch

from hessscope.errors import NonFiniteError, OptionError
from hessscope.objective import EmpiricalRisk, Objective, Term
from hessscope.operators.assembly import (
    Assembly,
    Work,
    accumulate,
    mirror,
    plan_assembly,
    state_of,
)
from hessscope.operators.compiled import compiled_plan, compiled_products
from hessscope.operators.dense_layers import LayerDerivatives
from hessscope.operators.dense_products import differentiate_chain, through_chain
from hessscope.operators.plan import Plan, bytes_needed, make_plan, other_batch_size, require_memory
from hessscope.operators.rounding import RandomRounding, check_products
from hessscope.operators.symmetric import BlockProduct, scipy_operator
from hessscope.progress import Progress, silent
from hessscope.records import Store
from hessscope.torch_internals import Kernel

if TYPE_CHECKING:
    from typing import Self


Numbers = TypeVar("Numbers", torch.Tensor, np.ndarray)

# Examples at a time in randomised arithmetic, which copies what it rounds.
_AT_ONCE = 1536


class ObjectiveOperator(ABC):
    """A symmetric matrix made of an objective's derivatives, as products with vectors.

    It is never formed unless asked for. Which matrix it is a subclass says by two methods: the
    products with one term's part of it, and the derivatives from which blocks between fully
    connected layers come.

    Args:
        objective: what is differentiated, such as an ``EmpiricalRisk``; or a model.
        at: θ, shape (n,); default where the model stands. Of a model: its data.
        plan: how products are computed; default by a short timing at the first product.
        memory: bytes that the process may hold; default four fifths of what is free.
        check: whether ``check`` is done before the first product.
        compile: "auto" (where ``foresee`` finds that it pays), "always" or "never".
        setting: of a model: ``loss``, ``l2``, ``dtype``, … as ``EmpiricalRisk`` takes them.
    """

    #: Under which it is registered; ``operator`` of the command line and of records.
    name: ClassVar[str]
    #: Its name in figures.
    title: ClassVar[str]
    #: What it is, in a line.
    description: ClassVar[str]
    #: Second derivatives of the model's outputs are part of it.
    whole: ClassVar[bool] = True
    #: The penalty on θ is part of it.
    penalised: ClassVar[bool] = True

    def __init__(
        self,
        objective: Objective | torch.nn.Module,
        at: Any = None,
        *,
        plan: Plan | None = None,
        memory: int | None = None,
        check: bool = True,
        compile: str = "auto",
        **setting: Any,
    ) -> None:
        model = torch.nn.Module
        if isinstance(objective, model) and at is not None:
            objective, at = EmpiricalRisk(objective, at, **setting), None
        elif isinstance(objective, model) or setting or not hasattr(objective, "parameters"):
            own = type(self).__name__
            raise OptionError(
                f"{own} takes an objective, or a model with its data, not "
                f"{', '.join((type(objective).__name__, *setting))}. For a model: "
                f"hs.{own}(model, data, loss=…). For a function of the flat parameters: "
                f"hs.{own}(hs.FunctionObjective(function, start))"
            )
        self.objective = objective
        here = objective.parameters
        theta = here if at is None else torch.as_tensor(at, dtype=here.dtype, device=here.device)
        if theta.shape != here.shape:
            raise OptionError(
                f"at has shape {tuple(theta.shape)}; expected a vector of {len(here)} parameters"
            )
        self.at = theta.detach().clone()
        self.memory = memory
        self.hvps = 0
        # Numbers that the model gives for an example, where the matrix goes through these.
        self._outputs: int | None = None
        self.compile = compile
        #: Of compiled products, with the operations that they carry out.
        self.kernels: dict[Plan, tuple[str, Kernel]] = {}
        #: Seconds of a product with one vector over the first batch, as they were planned by.
        self.pace = 0.0
        self._given_plan = plan
        self._checked = not check
        self._arithmetic: AbstractContextManager[object] = nullcontext()
        self.begin()

    def begin(self) -> None:  # noqa: B027 - most matrices need nothing
        """Make sure at the start of what the matrix needs of the objective."""

    @abstractmethod
    def prepare(self, term: Term, theta: torch.Tensor) -> BlockProduct:
        """Products with a term's part of the matrix at θ."""

    @abstractmethod
    def differentiate(self, risk: EmpiricalRisk, start: int, stop: int) -> LayerDerivatives:
        """What blocks between fully connected layers are made of, for some of the examples."""

    @abstractmethod
    def antiderivative(self, at: torch.Tensor) -> torch.Tensor:
        """A vector field, by first derivatives alone, whose derivative at θ along v is A v.

        Args:
            at: where, shape (n,).

        Returns:
            Shape (n,).
        """

    @property
    def penalty(self) -> float:
        """What the penalty on θ adds to the diagonal."""
        return self.objective.l2 if self.penalised else 0.0

    @property
    def shape(self) -> tuple[int, int]:
        """(n, n), n the number of parameters."""
        return len(self.at), len(self.at)

    @property
    def dtype(self) -> torch.dtype:
        """Type of the objective."""
        return self.at.dtype

    @property
    def arithmetic(self) -> torch.dtype:
        """Type of the objective's operations with the fewest digits."""
        return self.objective.arithmetic

    @property
    def device(self) -> torch.device:
        """Where products are computed."""
        return self.at.device

    @cached_property
    def plan(self) -> Plan:
        """How products are computed; chosen at the first use if it was not given.

        Raises:
            OptionError: the plan given computes by structure that the network does not have.
        """
        given = self._given_plan
        if given is None:
            assembly = self.assembly
            with self.objective.kernels():
                plan = make_plan(self, assembly)
                return compiled_plan(self, plan, math.inf) if self.compile == "always" else plan
        if given.way == "layers" and not self.assembly.chain:
            raise OptionError(
                "the plan computes products by layers, but this network is no chain of fully "
                "connected layers with all its parameters: take a plan by graph"
            )
        return given

    def foresee(self, products: int, vectors: int | None = None) -> None:
        """Compile the products, if so many pay for it and the operator may (``compile="auto"``).

        The plan then says so. Backends do this by themselves in ``hs.spectrum``.

        Args:
            products: that will be asked for.
            vectors: that will be asked for at once; default as many as the plan takes.

        Cost: none; where they may pay, to trace and compile products over the first batch.
        """
        if self._given_plan is None and self.compile == "auto":
            with self.objective.kernels():
                self.plan = compiled_plan(self, self.plan, products, vectors)
            self.__dict__.pop("_held", None)

    @property
    def plan_for_few(self) -> Plan:
        """For one or two products at a point, for which structure is not worth preparing.

        Batches are those of the plan, which fit; the graph is kept where it is a single one.
        """
        network, size = self.objective.network, self.plan.batch_size
        single = size is None or (network is not None and len(network) <= size)
        return Plan("graph", 1, size, held=single)

    def check_plan(self) -> None:
        """Make sure that a given plan suits this objective and fits in the memory.

        Raises:
            OptionError: it computes by structure that the network does not have.
            MemoryLimitError: it holds more than there is room for.
        """
        with self.objective.kernels():
            needed = bytes_needed(self.plan, self)
        words = f"products by the given plan ({self.plan}) take"
        remedy = "leave out the `plan`, or give more `memory`"
        require_memory(needed, self.memory, self.device, words, remedy)

    def check(self) -> None:
        """Refuse what has no second derivatives to speak of, and warn where they are hidden.

        The objective must be finite and deterministic at θ, and a product must be what a
        difference of first derivatives is. This is done by itself before the first product,
        unless it was switched off (``check=False``), and only once.

        Cost: 2 gradients; and over at most 7 examples 1 product and 2 gradients, 4 where the first
        two differ, and in float32 16 passes forward for the same risk in float64.

        Raises:
            NonFiniteError: loss or gradient is NaN or infinite.
            NonDeterministicError: two evaluations differ.
            ObjectiveError: torch has no second derivative of some operation.

        Warns:
            HessscopeWarning: a function hides its second derivative, or there is a kink at θ.
        """
        if not self._checked:
            self.objective.check(self.at)
            check_products(self)
            self._checked = True

    def _products(self) -> Iterator[BlockProduct]:
        """Products with each batch's part of the matrix, prepared one after the other."""
        plan, risk = self.plan, self.objective.network
        if plan.way == "layers" and risk is not None:
            layers, size = self.assembly.layers, plan.batch_size or len(risk)
            chunks = [(start, min(start + size, len(risk))) for start in range(0, len(risk), size)]
            derive = partial(differentiate_chain, risk, self.at, layers, self.prepare)
            parts = [derive(*chunk, whole=self.whole) for chunk in chunks]
            yield through_chain(parts, self.at, layers)
            return
        if plan.way == "compiled":
            yield from compiled_products(self, plan)
            return
        for term in self.objective.terms(plan.batch_size):
            yield self.prepare(term, self.at)

    @cached_property
    def _held(self) -> list[BlockProduct]:
        return list(self._products())

    def apply(self, vectors: torch.Tensor) -> torch.Tensor:
        """A V for a tensor V of shape (n, m); costs m products.

        Raises:
            NonFiniteError: a product is NaN or infinite.
        """
        self.check()
        rows = vectors.detach().T.to(dtype=self.dtype, device=self.device).contiguous()
        result = self.penalty * rows
        plan = self.plan
        with self.objective.kernels(), self._arithmetic:
            kept = plan.held or plan.way == "compiled"
            products = iter(self._held) if kept else self._products()
            for product in products:
                for start in range(0, len(rows), plan.vectors):
                    block = slice(start, start + plan.vectors)
                    result[block].add_(product(rows[block]))
        self.hvps += len(rows)
        # One pass over the numbers; torch.isfinite makes four, as long as a small product.
        if not math.isfinite(float(torch.linalg.vector_norm(result, ord=math.inf))):
            raise NonFiniteError(
                f"a product with the {self.name} matrix is not finite, though the loss is: some "
                "operation of the model has no finite second derivative at these weights"
            )
        return result.T

    def matmat(self, vectors: Numbers) -> Numbers:
        """A V, columns are vectors: shape (n, m); NumPy in, NumPy out."""
        if vectors.ndim != 2 or len(vectors) != self.shape[0]:
            raise OptionError(
                f"expected columns of length {self.shape[0]}, got shape {tuple(vectors.shape)}"
            )
        if isinstance(vectors, np.ndarray):
            return self.apply(torch.from_numpy(np.array(vectors))).cpu().numpy()
        return self.apply(vectors)

    def matvec(self, vector: Numbers) -> Numbers:
        """A v, shape (n,); NumPy in, NumPy out. Costs one product."""
        return self.matmat(vector.reshape(-1, 1)).reshape(-1)

    def __matmul__(self, other: torch.Tensor) -> torch.Tensor:
        """``operator @ v`` and ``operator @ V``."""
        return self.matvec(other) if other.ndim == 1 else self.matmat(other)

    @cached_property
    def assembly(self) -> Assembly:
        """How ``to_dense`` puts the matrix together."""
        self.check()
        return plan_assembly(self.objective, self.at, self._outputs)

    def to_dense(self, progress: Progress = silent, saved: Store | None = None) -> torch.Tensor:
        """The matrix, shape (n, n).

        Blocks between fully connected layers come from second derivatives with respect to their
        outputs and cost no products; every other parameter costs one product.

        Args:
            progress: called with the work done, in units of its own.
            saved: where the unfinished matrix is left from time to time, and resumed from.
        """
        saved, before = saved or Store(), self.hvps
        assembly, layers, n = self.assembly, self.assembly.layers, self.shape[0]
        others, examples = assembly.others.to(self.device), assembly.examples
        width = self.plan.vectors if len(others) else 1
        result = torch.zeros(n, n, dtype=self.dtype, device=self.device)
        structured = examples * sum(layer.features for layer in layers)
        work = Work(progress, len(others) + structured)

        def add_examples(start: int) -> None:
            stop = min(start + assembly.chunk, examples)
            accumulate(result, layers, self.derivatives(start, stop), work)

        def finish_structure() -> None:
            mirror(result, layers)
            result.diagonal().add_(self.penalty)  # products have it already

        def add_columns(start: int) -> None:
            columns = others[start : start + width]
            units = torch.zeros(n, len(columns), dtype=self.dtype, device=self.device)
            units[columns, torch.arange(len(columns), device=self.device)] = 1
            products = self.apply(units)
            if layers:
                result[:, columns] = products
            # Rows are contiguous; among the others themselves both are the same products.
            result[columns] = products.T
            work.done(len(columns))

        steps: list[Callable[[], None]] = []
        if layers:
            steps += [partial(add_examples, start) for start in range(0, examples, assembly.chunk)]
            steps.append(finish_structure)
        steps += [partial(add_columns, start) for start in range(0, len(others), width)]
        done = 0
        if (state := saved.load("assembly")) is not None:
            done = int(state["done"])
            result.copy_(torch.from_numpy(state["matrix"]))
            work.done(int(state["work"]))
        for number, step in enumerate(steps[done:], done + 1):
            step()
            last = number == len(steps)
            saved.offer("assembly", partial(state_of, result, number, work), last=last)
        # Also for columns that were there before a resumption.
        self.hvps = before + len(others)
        return result

    def derivatives(self, start: int, stop: int) -> LayerDerivatives:
        """What blocks between fully connected layers are made of, for some of the examples."""
        risk = self.objective.network
        assert risk is not None  # only networks have structure
        with risk.kernels():
            return self.differentiate(risk, start, stop)

    def to_scipy(self) -> scipy.sparse.linalg.LinearOperator:
        """The operator as SciPy's solvers take it."""
        return scipy_operator(self)

    def moved(self, at: torch.Tensor | np.ndarray, plan: Plan | None = None) -> Self:
        """The same matrix of the objective at another θ, with what was planned already.

        Plan and assembly are those of this operator (made now if they were not yet), and the
        objective is not checked again: it is the same one.

        Args:
            at: θ, shape (n,).
            plan: another plan, as for a few products only.
        """
        other = type(self)(
            self.objective, at, plan=plan or self.plan, memory=self.memory, check=False
        )
        other.assembly, other.kernels = self.assembly, self.kernels
        return other

    def recomputed(self) -> Self:
        """The same matrix in randomised arithmetic, by the graph of another batch split.

        Every product rounds otherwise, in all of its passes. It goes through the graph whatever the
        plan is, so that what was got by structure is checked without it.
        """
        self.check()
        size = None
        if (network := self.objective.network) is not None:
            examples = len(network)
            size = other_batch_size(min(self.plan.batch_size or examples, examples, _AT_ONCE))
        other = self.planned(Plan("graph", self.plan.vectors, size, held=False))
        other._arithmetic = RandomRounding(0)
        return other

    def restricted(self, which: str | Iterable[str] | torch.Tensor) -> Self:
        """The diagonal block of some entries of θ, as an operator of its own.

        It is the same matrix of the objective as a function of these entries only, so it is
        planned, assembled and multiplied without the rest.

        Args:
            which: patterns of parameter names, as in a shell (``layers.0.*``), several separated
                by commas; or the numbers of entries of θ, ascending, an int64 tensor of shape (k,).

        Raises:
            OptionError: a pattern matches no parameter, the numbers are none of entries, or the
                objective's parameters have no names.
        """
        return type(self)(
            self.objective.restricted(which, self.at),
            memory=self.memory,
            check=not self._checked,
            compile=self.compile,
        )

    def planned(
        self, plan: Plan, objective: Objective | None = None, at: torch.Tensor | None = None
    ) -> Self:
        """The same matrix by another plan, with nothing held yet.

        Args:
            plan: how products are computed.
            objective: another one of the same parameters, which is not checked.
            at: θ of that.
        """
        other = copy.copy(self)
        other._given_plan, other.hvps = plan, 0
        if objective is not None and at is not None:
            other.objective, other.at, other._checked = objective, at, True
        for made in ("plan", "_held"):
            other.__dict__.pop(made, None)
        return other
