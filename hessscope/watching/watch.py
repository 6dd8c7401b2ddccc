"""Curvature of a network while it trains."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from hessscope.errors import NonFiniteError, OptionError
from hessscope.objective import EmpiricalRisk
from hessscope.operators import HessianOperator, require_memory
from hessscope.options.watch import WatchOptions
from hessscope.records.outputs import prepare_output
from hessscope.torch_internals import without_wrapper
from hessscope.watching.edges import edge_of
from hessscope.watching.ends import Ends
from hessscope.watching.pace import Pace, undisturbed
from hessscope.watching.readings import Reading

if TYPE_CHECKING:
    import pandas as pd

Optimizer = torch.optim.Optimizer


class _Followed:
    """The loss at the point where a model stands, made once and moved along with it.

    Args:
        watch: what was asked for.
    """

    def __init__(self, watch: Watch) -> None:
        self._form = watch.form
        self.risk = EmpiricalRisk(
            watch.network,
            watch.data,
            watch.loss,
            dtype=watch.dtype or _own_dtype(watch.network),
            device=watch.device,
            batch_size=watch.batch_size,
        )
        self.hessian = HessianOperator(self.risk, memory=watch.memory_in_bytes)
        steps = min(watch.steps, len(self.hessian.at))
        require_memory(
            (steps + 8) * len(self.hessian.at) * self.hessian.at.element_size(),
            watch.memory_in_bytes,
            watch.device,
            f"{steps} Lanczos vectors need",
            "take fewer `steps`",
        )
        following = (watch.steps, watch.confidence, watch.seed)
        self.of_hessian, self.of_preconditioned = Ends(*following), Ends(*following)

    def fits(self, watch: Watch) -> bool:
        """Whether the model still has the same tensors, and the same of them are trained."""
        return watch.form == self._form


@dataclass(frozen=True, eq=False, repr=False)
class Watch(WatchOptions):
    """Measure a network's curvature while it trains, without changing a bit of the training.

    Call ``step()`` after each step of the optimiser, or give ``trainer_callback(trainer)`` to a
    Hugging Face ``Trainer``, ``lightning_callback()`` to Lightning's. A reading has λ_max and λ_min
    with their intervals, the index, loss and gradient, and the threshold of the optimiser's edge of
    stability with the eigenvalue that it is for (arXiv:2103.00065, arXiv:2207.14484).

    The loss is that of the network in evaluation mode, over ``data``, as everywhere in hessscope:
    without dropout, with the running statistics of batch normalisation. The network is copied; at a
    reading its parameters and buffers are copied again, and objective, checks and plan are kept.

    Cost of a reading: ``steps`` + 7 Hessian-vector products, and as many again where the threshold
    is of a preconditioned matrix, and a gradient. One of them, of the first reading three, is in
    randomised arithmetic, for δ, and takes some ten times as long. The first reading also checks
    the setting as ``EmpiricalRisk`` does. It is made whatever it costs; from then on none is made
    that would take more than ``share`` of the time since the first step, all readings together.
    Memory: a copy of the network, and ``steps`` vectors.

    Attributes:
        readings: all so far.

    Raises:
        OptionError: an option cannot be used; also by ``step``, where optimiser and model do not
            belong together.
        ObjectiveError: by the first ``step``, where model, data and loss do not fit together.
        MemoryLimitError: by the first ``step``.

    Example:
        >>> model = torch.nn.Linear(4, 3)
        >>> data = torch.randn(20, 4), torch.randint(3, (20,))
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> watch = Watch(model, data, optimizer=optimizer, every=5, share=1)
        >>> for _ in range(10):
        ...     optimizer.zero_grad()
        ...     torch.nn.functional.cross_entropy(model(data[0]), data[1]).backward()
        ...     optimizer.step()
        ...     reading = watch.step()
        >>> reading.threshold, reading.lambda_max < reading.threshold
        (20.0, True)
        >>> watch.to_dataframe().step.tolist()
        [1, 5, 10]
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.model, torch.nn.Module):
            raise OptionError(f"`model` is a {type(self.model).__name__}: give a torch module")
        if not self.confidence < 1:
            raise OptionError(f"`confidence={self.confidence}`: give a number between 0 and 1")
        if self.file is not None:
            prepare_output(self.file)

    @cached_property
    def readings(self) -> list[Reading]:
        """All readings so far."""
        return []

    @cached_property
    def _pace(self) -> Pace:
        return Pace(self.share)

    @property
    def network(self) -> torch.nn.Module:
        """The model without wrappers for parallel or compiled work."""
        return without_wrapper(self.model)

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.network.parameters()).device

    @property
    def form(self) -> list[Any]:
        """Shapes of the model's tensors, and which of them are trained."""
        tensors = (*self.network.parameters(), *self.network.buffers())
        return [(t.shape, t.dtype, t.device, t.requires_grad) for t in tensors]

    @property
    def share_used(self) -> float:
        """Part of the time since the first step that readings took."""
        return self._pace.used

    def step(self, number: int | None = None, optimizer: Optimizer | None = None) -> Reading | None:
        """Say that the optimiser took a step; measure if it is time to.

        Args:
            number: of the step; default one more than last time.
            optimizer: default the one that the watch was given.

        Returns:
            The reading, or None.
        """
        pace = self._pace
        pace.begin()
        pace.steps = pace.steps + 1 if number is None else number
        due = not self.readings or pace.steps % self.every == 0
        return self.measure(optimizer) if due and pace.allows() else None

    def measure(self, optimizer: Optimizer | None = None) -> Reading:
        """Measure now, whatever share of the time it takes; its time counts."""
        pace = self._pace
        with pace.measuring(self.device), undisturbed(self.device):
            reading = Reading(pace.steps, pace.elapsed)
            try:
                reading = self._measured(reading, optimizer or self.optimizer)
            except NonFiniteError as error:
                if not self.readings:
                    raise
                reading = replace(reading, note=str(error))
        reading = replace(reading, seconds=pace.last, share=pace.used)
        self.readings.append(reading)
        self._write(reading)
        return reading

    def _measured(self, reading: Reading, optimizer: Optimizer | None) -> Reading:
        if "_followed" in vars(self) and not self._followed.fits(self):
            del vars(self)["_followed"]
        followed = self._followed
        risk, hessian = followed.risk, followed.hessian
        risk.follow(self.network)
        if self.readings:
            hessian = hessian.moved(risk.parameters)
        trained = [p for p in self.network.parameters() if p.requires_grad]
        edge = edge_of(optimizer, trained, risk.dtype, risk.device)
        loss, gradient = risk.value_and_gradient()
        seen = followed.of_hessian.measure(hessian)
        length = float(torch.linalg.vector_norm(gradient))
        along = math.nan
        if length:
            unit = gradient / length
            along = float(unit @ hessian.matvec(unit))
        matrix = edge.matrix(hessian)
        scaled = None if matrix is None else followed.of_preconditioned.measure(matrix)
        # What a product keeps is not needed until the next reading.
        followed.hessian = hessian.moved(hessian.at)
        return replace(
            reading,
            loss=loss,
            gradient_norm=length,
            gradient_curvature=along,
            highest=seen.highest,
            lowest=seen.lowest,
            inertia=seen.density.inertia(self.tolerance),
            learning_rate=edge.learning_rate,
            threshold=edge.threshold,
            rule=edge.rule,
            preconditioned=scaled.highest if scaled else None,
            products=1 + seen.products + (scaled.products if scaled else 0),
        )

    @cached_property
    def _followed(self) -> _Followed:
        return _Followed(self)

    def _write(self, reading: Reading) -> None:
        if self.file is None:
            return
        row = {k: v if v == v else None for k, v in reading.as_dict().items()}
        with Path(self.file).open("a", encoding="utf-8", newline="") as stream:
            if str(self.file).endswith(".jsonl"):
                stream.write(json.dumps(row, allow_nan=False, ensure_ascii=False) + "\n")
                return
            table = csv.DictWriter(stream, row, lineterminator="\n")
            if stream.tell() == 0:
                table.writeheader()
            table.writerow(row)

    def to_dataframe(self) -> pd.DataFrame:
        """All readings, one a row; an interval's ends are columns of their own."""
        import pandas as pd  # which takes a while

        return pd.DataFrame([reading.as_dict() for reading in self.readings])

    def trainer_callback(self, trainer: Any) -> Any:
        """A callback for a Hugging Face ``Trainer``; readings go to ``trainer.log``.

        Args:
            trainer: which gets it by ``trainer.add_callback(watch.trainer_callback(trainer))``.

        Raises:
            OptionError: transformers is not installed.
        """
        from hessscope.watching.callbacks import trainer_callback

        return trainer_callback(self, trainer)

    def lightning_callback(self) -> Any:
        """A callback for a ``Trainer`` of Lightning; readings go to its loggers and metrics.

        Raises:
            OptionError: neither lightning nor pytorch_lightning is installed.
        """
        from hessscope.watching.callbacks import lightning_callback

        return lightning_callback(self)

    def __repr__(self) -> str:
        """What was seen last, and the share of the time that it took."""
        name = f"Watch of {type(self.network).__name__}: {len(self.readings)} readings"
        last = [f"\n{self.readings[-1]}"] if self.readings else []
        return "".join((f"{name}, {self.share_used:.1%} of the time", *last))


def _own_dtype(model: torch.nn.Module) -> torch.dtype:
    """float64 where the weights have it, else float32."""
    double = any(p.dtype == torch.float64 for p in model.parameters())
    return torch.float64 if double else torch.float32
