"""Training a network: epochs of steps, evaluated at the end of each."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from hessscope.errors import NonFiniteError
from hessscope.objective import Dataset, EmpiricalRisk
from hessscope.objective.checks import move
from hessscope.objective.losses import Loss, LossFunction
from hessscope.operators.symmetric import retained
from hessscope.options.train import TrainingOptions
from hessscope.progress import Progress, silent
from hessscope.training.files import TrainingState, initialize
from hessscope.training.first_order import GradientSteps
from hessscope.training.history import Epoch, History, Step
from hessscope.training.second_order import CurvatureSteps

MAX_EPOCHS = "max_epochs"
SETTLED = "settled"
NO_DECREASE = "no_decrease"
NON_FINITE = "non_finite"
INTERRUPTED = "interrupted"

#: Why training stopped, in words.
STATUSES = {
    MAX_EPOCHS: "all epochs done",
    SETTLED: "the loss changed by less than the stop tolerance between two epochs",
    NO_DECREASE: "no damping lowered the loss in a whole epoch",
    NON_FINITE: "the loss became NaN or infinite",
    INTERRUPTED: "interrupted",
}

#: What random numbers are for; "network" is what the code of a network draws when it is made.
STREAMS = ("initialization", "shuffle", "noise", "layers", "network")

Watch = Callable[[TrainingState], None]


class Stepper(Protocol):
    """An optimiser at work on one model."""

    def step(self, which: torch.Tensor | slice) -> Step:
        """Take one step with the examples ``which``."""
        ...

    def state(self) -> dict[str, Any]:
        """What the next step depends on."""
        ...

    def restore(self, state: dict[str, Any]) -> None:
        """Resume from such a state."""
        ...


@dataclass(frozen=True)
class TrainingResult:
    """A training run.

    Attributes:
        model: the trained network, in evaluation mode.
        status: "max_epochs", "settled", "no_decrease", "non_finite" or "interrupted".
        state: at the end of the last epoch that was finished with a finite loss.
        options: of the run.
        risk: the loss over the training data.
        test: the loss over the held-out data, if there is any.
    """

    model: torch.nn.Module
    status: str
    state: TrainingState
    options: TrainingOptions
    risk: EmpiricalRisk
    test: EmpiricalRisk | None

    @property
    def history(self) -> History:
        """Every epoch."""
        return self.state.history


def unwatched(state: TrainingState) -> None:
    """Let epochs go by."""


def train(
    model: torch.nn.Module,
    data: Dataset | Any,
    options: TrainingOptions | None = None,
    *,
    loss: str | Loss | LossFunction = "cross_entropy",
    l2: float = 0.0,
    test: Dataset | None = None,
    dtype: str | None = None,
    device: torch.device | str = "auto",
    state: TrainingState | None = None,
    watch: Watch = unwatched,
    progress: Progress = silent,
    **settings: Any,
) -> TrainingResult:
    """Train ``model`` in place; the same seed gives the same weights, bit for bit.

    First-order methods see the model in training mode and the data in batches; second-order ones
    see it in evaluation mode, since their loss has to be a function of θ alone. The loss and
    accuracy of each epoch are those of the whole data in evaluation mode. Ctrl-C, and a loss that
    is not finite, end the training with the weights of the last epoch that was finished.

    Args:
        model: what to train; moved to ``dtype`` and ``device``, and left in evaluation mode.
        data: a ``Dataset`` or whatever ``EmpiricalRisk`` takes.
        options: how; default ``TrainingOptions()``.
        loss: a name from ``LOSSES``, or a function.
        l2: coefficient of the penalty l2/2·‖θ‖².
        test: held-out examples to evaluate at each epoch.
        dtype: "float32" or "float64"; default float32, and float64 for second-order methods.
        device: "auto", "cpu" or "cuda".
        state: where to resume; default the initialisation.
        watch: called with the state after each epoch, the initialisation (epoch 0) included.
        progress: called with every step.
        settings: single options, in place of those in ``options``: ``epochs=5``.

    Raises:
        OptionError: an option means nothing.
        ObjectiveError: model, data and loss do not fit together.
        MemoryLimitError: the optimiser needs the whole Hessian, which does not fit.
        NonFiniteError: the loss is not finite before the first step.

    Cost: a gradient a step for first-order methods (three with ``log_curvature``), and two passes
    over the data an epoch.
    """
    options = TrainingOptions.part_of(options or TrainingOptions(), **settings).resolved()
    chosen = dtype or usual_dtype(options)
    first, shuffle, noise = (
        torch.Generator().manual_seed(seed_of(options, name))
        for name in ("initialization", "shuffle", "noise")
    )
    if state is None:
        initialize(model, options.initialization, options.init_scale, first)
    risk = EmpiricalRisk(model, data, loss, l2=l2, dtype=chosen, device=device)
    held_out = None
    if test is not None:
        held_out = EmpiricalRisk(model, test, loss, dtype=chosen, device=device)
    move(model, risk.dtype, risk.device)
    with _own_random_numbers(seed_of(options, "layers")), risk.kernels():
        run = _Run(model, risk, held_out, options, {"shuffle": shuffle, "noise": noise})
        status = run.until_done(state, watch, progress)
    return TrainingResult(model.eval(), status, run.reached, options, risk, held_out)


def usual_dtype(options: TrainingOptions) -> str:
    """The data type where none is given: second-order steps need float64."""
    return "float64" if options.method.second_order else "float32"


def seed_of(options: TrainingOptions, stream: str) -> int:
    """Seed of one of ``STREAMS`` of a trial, spawned from the root seed."""
    key = (options.trial, STREAMS.index(stream))
    state = np.random.SeedSequence(options.seed, spawn_key=key).generate_state(1, np.uint64)
    return int(state[0])


class _Run:
    """The moving parts of one training."""

    def __init__(
        self,
        model: torch.nn.Module,
        risk: EmpiricalRisk,
        test: EmpiricalRisk | None,
        options: TrainingOptions,
        streams: dict[str, torch.Generator],
    ) -> None:
        self.model, self.risk, self.test, self.options = model, risk, test, options
        self.streams = streams
        self.stepper: Stepper
        if options.method.second_order:
            self.stepper = CurvatureSteps(risk, model, options)
        else:
            self.stepper = GradientSteps(risk, model, options, streams["noise"])
        size = options.batch_size
        self.batch_size = len(risk) if isinstance(size, str) else min(size, len(risk))
        self.per_epoch = math.ceil(len(risk) / self.batch_size)
        self.log: list[Step] = []
        self.reached: TrainingState

    def until_done(self, state: TrainingState | None, watch: Watch, progress: Progress) -> str:
        """Train epoch after epoch; give the reason to stop. ``reached`` is where it stands."""
        began = time.perf_counter()
        total = self.options.epochs * self.per_epoch
        if state is None:
            self.reached = self._state(History(), 0, began)
            if not math.isfinite(self.reached.history.last.loss):
                raise NonFiniteError(
                    f"the loss is {self.reached.history.last.loss} before the first step: take "
                    "smaller initial weights, or look at the data's scale (`normalize`)"
                )
        else:
            self._go_back_to(state)
            self.reached = state
            began -= state.history.last.seconds
        progress("training", self.reached.epoch * self.per_epoch, total)
        try:
            if state is None:
                watch(self.reached)
            while (status := self._status()) is None:
                self.log = list(self.reached.history.steps)
                if not self._epoch(progress, total):
                    status = NON_FINITE
                    break
                new = self._state(self.reached.history, self.reached.epoch + 1, began)
                if not math.isfinite(new.history.last.loss):
                    status = NON_FINITE
                    break
                self.reached = new
                watch(new)
        except KeyboardInterrupt:
            status = INTERRUPTED
        if status in (NON_FINITE, INTERRUPTED):
            self._go_back_to(self.reached)
        return status

    def _go_back_to(self, state: TrainingState) -> None:
        """Put model, optimiser, streams and the two risks to where a state stands."""
        state.restore(self.model, self.stepper.restore, self.streams)
        for risk in (self.risk, self.test):
            if risk is not None:
                follow(risk, self.model)

    def _epoch(self, progress: Progress, total: int) -> bool:
        """Step through the data once; whether the loss stayed finite."""
        self.model.train()
        done = self.reached.epoch * self.per_epoch
        for which in self._batches():
            try:
                step = self.stepper.step(which)
            except NonFiniteError:  # of the Hessian
                return False
            if not math.isfinite(step.loss):
                return False
            if self.options.logs_steps:
                self.log.append(step)
            done += 1
            progress("training", done, total)
        return True

    def _batches(self) -> Iterator[torch.Tensor | slice]:
        n, size = len(self.risk), self.batch_size
        if size >= n:
            # The order does not matter, and the sums come out the same without copying.
            yield slice(0, n)
        elif self.options.shuffle:
            order = torch.randperm(n, generator=self.streams["shuffle"]).to(self.risk.device)
            yield from order.split(size)
        else:
            yield from (slice(start, min(start + size, n)) for start in range(0, n, size))

    def _status(self) -> str | None:
        """The reason to stop at the end of an epoch, if there is one."""
        epochs, options = self.reached.history.epochs, self.options
        if len(epochs) > 1 and options.logs_steps:
            last = self.reached.history.steps[-self.per_epoch :]
            if all(step.length == 0.0 for step in last):
                return NO_DECREASE
        if options.stop_tolerance is not None and len(epochs) > 1:
            change = abs(epochs[-1].loss - epochs[-2].loss)
            if change < options.stop_tolerance:
                return SETTLED
        return MAX_EPOCHS if self.reached.epoch >= options.epochs else None

    def _state(self, history: History, epoch: int, began: float) -> TrainingState:
        self.model.eval()
        theta = follow(self.risk, self.model)
        found = self.risk.evaluate(theta)
        row = Epoch(epoch, epoch * self.per_epoch, found.loss, _or_nan(found.accuracy))
        if self.test is not None:
            held_out = self.test.evaluate(follow(self.test, self.model))
            row = dataclasses.replace(
                row, test_loss=held_out.loss, test_accuracy=_or_nan(held_out.accuracy)
            )
        if self.options.log_curvature and math.isfinite(found.loss):
            squares, along = along_gradient(self.risk, theta)
            norm = math.sqrt(squares)
            row = dataclasses.replace(row, gradient_norm=norm, gTg=squares, gTHg=along)
        row = dataclasses.replace(row, seconds=time.perf_counter() - began)
        new = History((*history.epochs, row), tuple(self.log))
        return TrainingState.of(epoch, self.model, self.stepper.state(), self.streams, new)


def follow(risk: EmpiricalRisk, model: torch.nn.Module) -> torch.Tensor:
    """Give the risk all but θ of a model of its architecture, and return θ of it.

    That is its buffers (running means), and its parameters that are not trained.
    """
    for own, theirs in zip(_untrained(risk.model), _untrained(model), strict=True):
        own.copy_(theirs)
    return risk.layout.flatten(dict(model.named_parameters())).detach()


def _untrained(model: torch.nn.Module) -> list[torch.Tensor]:
    return [*(p for p in model.parameters() if not p.requires_grad), *model.buffers()]


def along_gradient(risk: EmpiricalRisk, theta: torch.Tensor) -> tuple[float, float]:
    """gᵀg and gᵀHg over all examples; a gradient and a Hessian-vector product."""
    g = risk.gradient(theta)
    along = risk.l2 * float(g @ g)
    with risk.kernels():
        for term in risk.terms():
            along += float(retained(term, theta)(g[None]) @ g)
    return float(g @ g), along


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value


@contextmanager
def _own_random_numbers(seed: int) -> Iterator[None]:
    """Seed what layers draw by themselves (dropout); the user's own streams are left alone.

    Of all devices, since the seed goes to all of them.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield
