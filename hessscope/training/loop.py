"""Training a network: epochs of steps, evaluated at the end of each."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from hessscope.errors import NonFiniteError
from hessscope.objective import Dataset, EmpiricalRisk
from hessscope.objective.checks import move
from hessscope.objective.losses import Loss, LossFunction
from hessscope.operators.symmetric import retained
from hessscope.options.train import TrainingOptions
from hessscope.progress import Progress, ignore, silent
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
    watch: Watch = ignore,
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
    if state is None:
        first = torch.Generator().manual_seed(seed_of(options, "initialization"))
        initialize(model, options.initialization, options.init_scale, first)
    risk = EmpiricalRisk(model, data, loss, l2=l2, dtype=chosen, device=device)
    held_out = None
    if test is not None:
        held_out = EmpiricalRisk(model, test, loss, dtype=chosen, device=device)
    move(model, risk.dtype, risk.device)
    # What layers draw by themselves (dropout) has its own seed, on all devices since it goes to all
    # of them; the user's own streams are left alone.
    with torch.random.fork_rng(), risk.kernels():
        torch.manual_seed(seed_of(options, "layers"))
        run = _Run(model, risk, held_out, options)
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
    ) -> None:
        self.model, self.risk, self.test, self.options = model, risk, test, options
        self.streams = {
            name: torch.Generator().manual_seed(seed_of(options, name))
            for name in ("shuffle", "noise")
        }
        self.stepper: GradientSteps | CurvatureSteps
        if options.method.second_order:
            self.stepper = CurvatureSteps(risk, model, options)
        else:
            self.stepper = GradientSteps(risk, model, options, self.streams["noise"])
        size = options.batch_size
        self.batch_size = len(risk) if isinstance(size, str) else min(size, len(risk))
        self.per_epoch = math.ceil(len(risk) / self.batch_size)
        self.total = options.epochs * self.per_epoch
        self.log: list[Step] = []
        self.reached: TrainingState

    def until_done(self, state: TrainingState | None, watch: Watch, progress: Progress) -> str:
        """Train epoch after epoch; give the reason to stop. ``reached`` is where it stands."""
        self.began = time.perf_counter()
        if state is None:
            self.reached = self._state(History())
        else:
            self._go_back_to(state)
            self.reached = state
            self.began -= state.history.last.seconds
        progress("training", self.reached.epoch * self.per_epoch, self.total)
        try:
            if state is None:
                watch(self.reached)
            while (status := self._status()) is None:
                self._epoch(progress)
                self.reached = self._state(self.reached.history)
                watch(self.reached)
        except NonFiniteError:
            status = NON_FINITE
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

    def _epoch(self, progress: Progress) -> None:
        """Step through the data once.

        Raises:
            NonFiniteError: the loss of a batch, or its Hessian, is not finite.
        """
        self.model.train()
        self.log = list(self.reached.history.steps)
        done = self.reached.epoch * self.per_epoch
        for which in self._batches():
            step = self.stepper.step(which)
            if not math.isfinite(step.loss):
                raise NonFiniteError(f"the loss of a batch is {step.loss}")
            if self.options.logs_steps:
                self.log.append(step)
            done += 1
            progress("training", done, self.total)

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

    def _state(self, history: History) -> TrainingState:
        """The state at the end of the epoch after those in ``history``."""
        self.model.eval()
        epoch, theta = len(history.epochs), follow(self.risk, self.model)
        found = self.risk.evaluate(theta)
        if not math.isfinite(found.loss):
            when = f"after epoch {epoch}" if epoch else "before the first step"
            raise NonFiniteError(
                f"the loss is {found.loss} {when}: take smaller initial weights, or look at the "
                "data's scale (`normalize`)"
            )
        measured = {"loss": found.loss, "accuracy": found.accuracy}
        if self.test is not None:
            held_out = self.test.evaluate(follow(self.test, self.model))
            measured |= {"test_loss": held_out.loss, "test_accuracy": held_out.accuracy}
        if self.options.log_curvature:
            squares, along = along_gradient(self.risk, theta)
            measured |= {"gradient_norm": math.sqrt(squares), "gTg": squares, "gTHg": along}
        measured["seconds"] = time.perf_counter() - self.began
        known = {name: value for name, value in measured.items() if value is not None}
        new = History(
            (*history.epochs, Epoch(epoch, epoch * self.per_epoch, **known)), tuple(self.log)
        )
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
