"""The empirical risk: mean loss of a model over a finite, ordered, fingerprinted data set."""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch.func import functional_call

from hessscope.errors import ObjectiveError, OptionError, UnknownNameError
from hessscope.objective import batches, checks
from hessscope.objective.checks import evaluation_copy, loss_copy
from hessscope.objective.data import TARGETS_ARE_INPUTS, Dataset, as_dataset
from hessscope.objective.kernels import SecondOrderKernels, note_saved
from hessscope.objective.losses import Loss, LossFunction, get_loss
from hessscope.objective.means import check_mean, spread
from hessscope.objective.nesting import map_leaves
from hessscope.objective.rows import AT_ONCE, Rows
from hessscope.objective.shifts import check_shift, warn_of_padding
from hessscope.objective.targets import settled
from hessscope.objective.terms import BatchTerm, Objective, Point
from hessscope.parameters import ParameterLayout
from hessscope.torch_internals import is_written_to

#: Examples by which it is told whether targets are the inputs.
_FIRST = 1024
DTYPES = {"float64": torch.float64, "float32": torch.float32}


def resolve_dtype(dtype: torch.dtype | str) -> torch.dtype:
    """Take ``"float64"`` or ``torch.float64`` (or 32); other types are refused with OptionError."""
    for name, known in DTYPES.items():
        if dtype in (name, known):
            return known
    raise UnknownNameError("dtype", str(dtype).removeprefix("torch."), DTYPES)


def resolve_device(device: torch.device | str) -> torch.device:
    """Take ``"auto"`` (CUDA if there is one), ``"cpu"``, ``"cuda"`` or a torch device."""
    if isinstance(device, str) and device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise UnknownNameError("device", str(device), ("auto", "cpu", "cuda")) from error
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise ObjectiveError("device 'cuda' was asked for, but torch sees no CUDA device: use cpu")
    return chosen


@dataclass(frozen=True)
class Evaluation:
    """Loss and accuracy at one point."""

    loss: float
    accuracy: float | None


class EmpiricalRisk(Objective):
    """L(θ) = (1/N) Σᵢ ℓ(model(xᵢ; θ), yᵢ) + l2/2·‖θ‖², over a fixed data set.

    Every example weighs the same, whatever the batches; where labels are left out (−100, or the
    ``ignore_index`` of a loss of torch) or have class weights, every label of the data set weighs
    the same, or by its class. The model is copied and put into evaluation mode; the user's own is
    never touched. The data stays on the device.
    Inputs that are a tuple are the model's positional arguments; a dict goes by its names where
    ``forward`` has parameters of these names, and is else passed whole. Of outputs that have
    ``logits`` these are taken, of a tuple the first entry, unless the loss is one's own, which gets
    other outputs than ``logits`` as they are.

    When it is made, all targets are looked through for what the loss cannot mean, and a few
    examples from all over the set (the first, the last, those with extreme targets) are compared
    alone, at once, in reverse order and in two batches: the loss is a mean over examples only if
    the result is the same.

    Args:
        model: any ``torch.nn.Module``; all its parameters with ``requires_grad`` make up θ.
        data: a ``Dataset`` or whatever ``load_data`` takes, such as ``(inputs, targets)``.
        loss: a name from ``LOSSES``, with the axis of the classes where shapes leave it open
            ("cross_entropy@1", "cross_entropy@last"); or ``function(outputs, targets)`` that
            returns the mean over the batch, one value for each example, or a pair of a mean and
            the number of units that it is over; or ``function(model, batch)`` that returns the
            same. A batch is (inputs, targets); where inputs are a dict, these and "labels" in one.
            The buffers of a loss that is a module are cast like the model's.
        l2: coefficient of the penalty l2/2·‖θ‖²; adds l2 to every eigenvalue.
        dtype: float64 (default) or float32; or bfloat16: θ, loss and sums stay in float32, and the
            model's matrix products and convolutions are made in bfloat16 (``torch.autocast``).
        device: "auto", "cpu" or "cuda".
        batch_size: examples at a time; default by the size of the graph of one example.

    Cost: at most 22 passes forward over at most 7 examples each, and 1 gradient of two; 31 over 19
    for a loss of one's own, and a pass over all examples where it gives its units.

    Raises:
        ObjectiveError: model, data and loss do not fit together.
        NonFiniteError: NaN or infinity among the weights.
        NonDeterministicError: the outputs for an example depend on the others in its batch.
    """

    random_remedy = checks.DETERMINISTIC_MODEL

    def __init__(
        self,
        model: torch.nn.Module,
        data: Dataset | Any,
        loss: str | Loss | LossFunction = "cross_entropy",
        *,
        l2: float = 0.0,
        dtype: torch.dtype | str = torch.float64,
        device: torch.device | str = "auto",
        batch_size: int | None = None,
    ) -> None:
        narrow = dtype in ("bfloat16", torch.bfloat16)
        self.dtype = torch.float32 if narrow else resolve_dtype(dtype)
        self._narrow, self.device = False, resolve_device(device)
        for name, given, least in (("l2", l2, 0), ("batch_size", batch_size, 1)):
            if given is not None and not given >= least:
                raise OptionError(f"{name} is {given}: give a number of at least {least}")
        self.l2 = float(l2)
        self.loss = loss_copy(get_loss(loss), self.dtype, self.device)
        self.data = as_dataset(data)
        self._by_name, self._writes_inputs, self._differentiates = False, False, False
        self.notes: tuple[str, ...] = ()
        self.model = evaluation_copy(model, self.dtype, self.device)
        self._padding = checks.padding_rows(model)
        self._kernels = SecondOrderKernels.of(self.model)
        self.layout = ParameterLayout.of(self.model)
        self._fixed = {
            name: tensor.detach()
            for name, tensor in [*self.model.named_parameters(), *self.model.named_buffers()]
            if name not in self.layout.names
        }
        # To look for shared parameters takes as long as the pass of a small network itself.
        every = [id(p) for _, p in self.model.named_parameters(remove_duplicate=False)]
        self._tied = len(set(every)) < len(every)
        self._point = self.layout.flatten(dict(self.model.named_parameters())).detach().clone()
        checks.finite_weights(self.layout, self._point)
        inputs, self.targets = batches.convert(
            (self.data.inputs, self.data.targets), self.dtype, self.device
        )
        if self.loss.of_model:
            named = isinstance(inputs, dict)
            inputs = {**inputs, "labels": self.targets} if named else (inputs, self.targets)
        by_name = isinstance(inputs, dict) and not self.loss.of_model
        self._by_name = by_name and _takes_by_name(self.model, inputs)
        self.units = float(len(self))
        first = batches.pick(self.targets, slice(1))
        with torch.no_grad(), self.kernels():
            self.inputs, layout_change = batches.fit_layout(
                self._predict, lambda outputs: self.loss(outputs, first), inputs
            )
        if layout_change:
            self.notes += (f"inputs {layout_change} for the model",)
        self._widen()
        with torch.no_grad(), self.kernels():
            batches.check_largest(self._predict, self.inputs)
            outputs = self._predict(batches.pick(self.inputs, slice(1)))
            for part in self._target_parts():
                self.loss = settled(self.loss, outputs, part)
            self._count_labels()
            if TARGETS_ARE_INPUTS not in self.data.preprocessing:
                check_shift(self.loss, *batches.pick((self.inputs, self.targets), slice(_FIRST)))
            nearby = partial(self._predict, at=self._nearby())
            if check_mean(self.loss, self._predict, nearby, self.inputs, self.targets):
                self.loss = replace(self.loss, units="own units")
            some = torch.tensor(spread(self.targets, len(self)))
            few = batches.pick(self.inputs, some)
            checks.warn_of_outputs(self.loss, self._predict(few))
            warn_of_padding(self._predict, few)
        with self.kernels(), torch.enable_grad():
            theta = self.parameters.requires_grad_(True)
            checks.own_parameters_only(lambda: self.term(0, min(2, len(self)))(theta), theta)
        self.batch_size = min(batch_size or self._default_batch_size(), len(self))
        if self.loss.units == "own units":
            self.units = self._count_units()
        self._narrow = narrow  # from here on: what was checked is the function

    @property
    def arithmetic(self) -> torch.dtype:
        """Type of the operations with the fewest digits."""
        return torch.bfloat16 if self._narrow else self.dtype

    def _widen(self) -> None:
        """Have the model compute in the type asked for, where its code casts to a narrower one."""
        with torch.no_grad(), self.kernels():
            narrow = checks.narrowed_to(self._predict, self.inputs, self.dtype)
        if narrow is None:
            return
        usual, self._kernels = self._kernels, replace(self._kernels, widened=self.dtype)
        try:
            with torch.no_grad(), self.kernels():
                self._predict(batches.pick(self.inputs, slice(1)))
        except Exception:  # then check() warns of it
            self._kernels = usual
        else:
            own, wide = (str(t).removeprefix("torch.") for t in (narrow, self.dtype))
            self.notes += (f"the model's casts to {own} are made to {wide}",)

    def __len__(self) -> int:
        """Number of examples N."""
        return len(self.data)

    def facts(self) -> dict[str, Any]:
        """Data, loss and data type, as JSON objects and records state them."""
        return {
            "data": self.data.name,
            "split": self.data.split,
            "preprocessing": list(self.data.preprocessing),
            "data_fingerprint": self.data.fingerprint,
            "examples": len(self),
            "loss_function": self.loss.name,
            "loss_mean_over": self.loss.units,
            "loss_units": self.units,
            "l2": self.l2,
            "dtype": str(self.arithmetic).removeprefix("torch."),
            "device": str(self.device),
        }

    def loss_in_words(self) -> str:
        """Name of the loss, and what it is the mean of where that is not the examples."""
        over = (
            ""
            if self.loss.units == "examples"
            else f", mean over {self.units:,g} {self.loss.units}"
        )
        return self.loss.name + over

    @property
    def network(self) -> EmpiricalRisk:
        """Itself: what the protocol of objectives tells of a network and its data."""
        return self

    @property
    def classes(self) -> int | None:
        """Number of classes that the outputs choose between; None for a regression."""
        term = self.term(0, min(2, len(self)))
        with torch.no_grad(), self.kernels():
            return checks.classes(self.loss, term.predict(self._point), term.targets)

    def kernels(self) -> AbstractContextManager[None]:
        """Torch settings under which the risk is differentiated."""
        return self._kernels.chosen()

    def terms(self, batch_size: int | None = None) -> Sequence[BatchTerm]:
        """Functions of θ, one for each batch; their sum is L(θ) without the penalty."""
        size = min(batch_size or self.batch_size, len(self))
        return [
            self.term(start, min(start + size, len(self))) for start in range(0, len(self), size)
        ]

    def batches(self) -> list[tuple[Any, Any]]:
        """Inputs and targets of each batch, views of the data on the device."""
        rows = [slice(i, i + self.batch_size) for i in range(0, len(self), self.batch_size)]
        return [batches.pick((self.inputs, self.targets), r) for r in rows]

    def model_at(self, at: Point) -> torch.nn.Module:
        """A copy of the model with the parameters θ, shape (n,), put in."""
        model = copy.deepcopy(self.model)
        with torch.no_grad():
            state = self.layout.put(self.point(at), self._fixed)
            for name, parameter in model.named_parameters():
                parameter.copy_(state[name])
                parameter.requires_grad_(name in self.layout.names)
        return model

    def follow(self, model: torch.nn.Module) -> None:
        """Go to where the model that this one was copied from stands now, buffers included.

        Args:
            model: in training or not; it is only read. Nothing is checked again.
        """
        pairs = [[*one.parameters(), *one.buffers()] for one in (self.model, model)]
        with torch.no_grad():
            for own, now in zip(*pairs, strict=True):
                own.copy_(now)
        self._point = self.layout.flatten(dict(self.model.named_parameters())).detach().clone()

    def restricted(
        self, which: str | Iterable[str] | torch.Tensor, at: Point | None = None
    ) -> EmpiricalRisk:
        """The same risk as a function of some entries of θ; the others keep their values.

        Its Hessian is a diagonal block of the whole one, and derivatives are taken with respect
        to these entries only. The penalty is theirs, so that values differ by a constant.

        Args:
            which: patterns of parameter names, as in a shell, several separated by commas; or the
                numbers of the entries in θ, ascending, an int64 tensor of shape (k,).
            at: the point θ of all parameters at which the others stay, and where the result
                stands; default where the model stands.

        Raises:
            OptionError: a pattern matches no parameter, or the numbers are none of entries.
        """
        other = copy.copy(self)
        other._fixed = self.layout.put(self.point(at), self._fixed)
        if isinstance(which, torch.Tensor):
            other.layout = self.layout.at(which.to(self.device))
        else:
            other.layout = self.layout.matching(which)
        other._point = other.layout.flatten(other._fixed).clone()
        return other

    def on(self, which: torch.Tensor | slice) -> EmpiricalRisk:
        """The mean over some of the examples, with the same model; nothing is checked again.

        Args:
            which: numbers of the examples, or a slice of them.
        """
        other = copy.copy(self)
        other.inputs, other.targets = batches.pick((self.inputs, self.targets), which)
        other.data = Dataset(
            other.inputs, other.targets, self.data.name, self.data.split, (), fingerprint=""
        )
        other.batch_size = min(self.batch_size, len(other))
        other.units = other._count_units()
        return other

    def on_few(self, dtype: torch.dtype, at: torch.Tensor) -> EmpiricalRisk:
        """The mean over a few examples from all over the set, for checks that must not take long.

        Args:
            dtype: of the computation.
            at: θ, where the result stands.

        Raises:
            ObjectiveError: the model cannot be evaluated in this data type.
        """
        few = self.on(torch.tensor(spread(self.targets, len(self))))
        if dtype != self.dtype:
            model = self.model_at(at)
            few = EmpiricalRisk(
                model, few.data, self.loss, l2=self.l2, dtype=dtype, device=self.device
            )
            few._fixed = few.layout.put(few.parameters, few._fixed)
            few.layout = self.layout
        few._point = self.point(at).to(few.dtype)
        return few

    def evaluate(self, at: Point | None = None) -> Evaluation:
        """Loss, and accuracy where the targets are class numbers (or bits for ``bce``)."""
        theta = self.point(at)
        values, right, counted = [], 0, 0
        with torch.no_grad(), self.kernels():
            for term in self.terms():
                outputs = term.predict(theta)
                values.append(term.of_outputs(outputs))
                hits = checks.correct(self.loss, outputs, term.targets)
                if hits is not None:
                    right, counted = right + int(hits.sum()), counted + hits.numel()
        accuracy = right / counted if counted else None
        return Evaluation(self._with_penalty(values, theta), accuracy)

    def check(self, at: Point | None = None) -> torch.Tensor:
        """Refuse what has no Hessian to speak of, and warn of lower precision within the model.

        Cost: 2 gradients, and 1 pass forward over one example.
        """
        gradient = super().check(at)
        if self._padding:
            zeros = {name: torch.zeros_like(tensor) for name, tensor in self._fixed.items()}
            checks.warn_of_padding(self._padding, self.layout.put(gradient, zeros))
        if not self._narrow:  # which was asked for
            with torch.no_grad(), self.kernels():
                checks.full_precision(self._predict, self.inputs, self.dtype)
        return gradient

    def _outputs(self, theta: torch.Tensor, inputs: Any) -> Any:
        state = self.layout.put(theta, self._fixed)

        def model(*arguments: Any, **named: Any) -> Any:
            return functional_call(self.model, state, arguments, named, tie_weights=self._tied)

        def computed() -> Any:
            if not self.loss.of_model:
                return self.outputs_of(model, inputs)
            scored = _Scored(self.model, self.outputs_of)
            within = {f"model.{name}": value for name, value in state.items()}
            return functional_call(scored, within, (inputs,), tie_weights=self._tied)

        def outputs() -> Any:
            if not self._narrow:
                return computed()
            with torch.autocast(self.device.type, torch.bfloat16, cache_enabled=False):
                return map_leaves(lambda t: t.float() if t.is_floating_point() else t, computed())

        if not self._differentiates or torch.is_grad_enabled():
            return outputs()
        with torch.enable_grad():
            return map_leaves(torch.detach, outputs())

    def outputs_of(self, model: Callable[..., Any], inputs: Any) -> Any:
        """What ``model`` gives for some of ``inputs``, such as one in training mode does.

        Args:
            model: takes what the own model takes.
            inputs: examples as they stand in ``inputs``, already in the model's layout.
        """
        if self._writes_inputs:
            inputs = map_leaves(torch.clone, inputs)
        if self.loss.of_model:
            return self.loss.function(model, inputs)
        if self._by_name:
            outputs = model(**inputs)
        else:
            outputs = model(*(inputs if isinstance(inputs, tuple) else (inputs,)))
        return self.taken(outputs)

    def taken(self, outputs: Any) -> Any:
        """What the loss takes of the model's outputs."""
        if isinstance(outputs, dict) and "logits" in outputs:
            return outputs["logits"]
        outputs = getattr(outputs, "logits", outputs)
        first = isinstance(outputs, tuple) and outputs and self.loss.targets != "any"
        return outputs[0] if first else outputs

    def _nearby(self) -> torch.Tensor:
        """The weights moved by 1 %, zeros among them by 0.01."""
        stream = torch.Generator().manual_seed(0)
        noise = torch.randn(len(self._point), generator=stream, dtype=self.dtype).to(self.device)
        return self._point + 0.01 * (1 + self._point.abs()) * noise

    def _predict(self, inputs: Any, at: torch.Tensor | None = None) -> Any:
        theta = self._point if at is None else at
        own = map_leaves(torch.clone, inputs)
        try:
            outputs = self._outputs(theta, own)
        except RuntimeError as error:
            if self._differentiates or "require" not in str(error):
                raise
            # A model that takes derivatives itself, of what it is given, needs a graph for that.
            self._differentiates, own = True, map_leaves(torch.clone, inputs)
            try:
                outputs = self._outputs(theta, own)
            except Exception:
                self._differentiates = False
                raise error from None
        # A model that works in place on what it is given gets copies from now on.
        self._writes_inputs |= any(is_written_to(leaf) for leaf in batches.leaves(own))
        return outputs

    def term(self, start: int, stop: int) -> BatchTerm:
        """The part of L(θ), without the penalty, that the examples start to stop make."""
        examples = slice(start, stop)
        inputs, targets = (
            # What is stored elsewhere is read at each evaluation.
            partial(batches.pick, whole, examples)
            if any(isinstance(leaf, Rows) for leaf in batches.leaves(whole))
            else partial(lambda part: part, batches.pick(whole, examples))
            for whole in (self.inputs, self.targets)
        )
        return BatchTerm(
            predict=lambda theta: self._outputs(theta, inputs()),
            loss=self.loss,
            read_targets=targets,
            count=stop - start,
            total=len(self),
            units=self.units,
        )

    def _target_parts(self) -> Iterable[Any]:
        """The targets, in parts where they are not in memory."""
        return self.targets.split() if isinstance(self.targets, Rows) else (self.targets,)

    def _count_labels(self) -> None:
        """Count them where they are the units, and refuse a data set in which none counts."""
        self.units = self._count_units() if self.loss.units == "labels" else self.units
        if not self.units:
            raise ObjectiveError(
                f"all labels of the {len(self):,} examples are left out, or have the weight 0: "
                f"'{self.loss.name}' is the mean over those that count"
            )

    def _count_units(self) -> float:
        """Σ over the data set of what the loss is the mean of."""
        if self.loss.units == "labels":
            parts = self.targets.split(AT_ONCE)
            return sum(float(self.loss.label_weights(part).sum()) for part in parts)
        if self.loss.units == "examples":
            return float(len(self))
        with torch.no_grad(), self.kernels():
            terms = self.terms()
            return sum(
                float(self.loss.with_units(t.predict(self._point), t.targets)[1]) for t in terms
            )

    def _default_batch_size(self) -> int:
        """As many examples as keep the graph of one gradient near 256 MB."""
        saved = 0

        def note(tensor: torch.Tensor) -> None:
            nonlocal saved
            saved += tensor.numel() * tensor.element_size()

        two = min(2, len(self))
        theta = self.parameters.requires_grad_(True)
        parameter_bytes = theta.numel() * theta.element_size()

        def differentiate() -> None:
            torch.autograd.grad(self.term(0, two)(theta), theta, create_graph=True)

        try:
            with self.kernels(), torch.enable_grad():
                note_saved(differentiate, note)
        except Exception as error:  # which exception an unsupported operation gives is torch's own
            raise checks.not_differentiable(error) from error
        per_example = max((saved - 4 * parameter_bytes) / two, 64.0)
        return max(1, int(256e6 / per_example))

    def not_finite(self, theta: torch.Tensor, value: float, gradient: torch.Tensor) -> str:
        """Say in which examples the loss is not finite, or that its gradient is not."""
        if math.isfinite(value):
            return (
                "the gradient of the loss is not finite at the checkpoint's weights, though the "
                "loss is: some operation has an infinite derivative there"
            )
        start, where = 0, ""
        with torch.no_grad(), self.kernels():
            for term in self.terms():
                if not math.isfinite(float(term(theta))):
                    where = (
                        f": first in examples {start} to {start + term.count - 1}; inspect the "
                        "weights' scale, the normalisation (`normalize`) and the loss (`loss`)"
                    )
                    break
                start += term.count
        return f"the loss is {value} at the checkpoint's weights{where}"


class _Scored(torch.nn.Module):
    """The loss of a model and a batch as a module, so that it meets the model with other weights.

    Args:
        model: its attributes and methods are those of the user's.
        loss: of a model and a batch.
    """

    def __init__(self, model: torch.nn.Module, loss: Callable[[torch.nn.Module, Any], Any]) -> None:
        super().__init__()
        self.model, self._loss = model, loss

    def forward(self, batch: Any) -> Any:
        """The loss of a batch."""
        return self._loss(self.model, batch)


def _takes_by_name(model: torch.nn.Module, inputs: dict[str, Any]) -> bool:
    """Whether ``forward`` has parameters with the names of the inputs, as in transformers."""
    try:
        named = inspect.signature(model.forward).parameters
    except (TypeError, ValueError):
        return False
    missing = [name for name in inputs if name not in named]
    if missing and len(missing) < len(inputs):
        raise ObjectiveError(
            f"the model's forward takes {', '.join(n for n in inputs if n in named)} of the "
            f"inputs, but not {', '.join(missing)}: leave these out of the data"
        )
    # Wrappers such as those of peft give all on.
    passes_on = any(p.kind is p.VAR_KEYWORD for p in named.values()) and "input_ids" in inputs
    return not missing or passes_on
