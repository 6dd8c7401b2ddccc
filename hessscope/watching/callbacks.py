"""Callbacks of trainers, made when they are asked for: transformers and Lightning are optional."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from hessscope.errors import OptionError
from hessscope.loaders.extras import extra

if TYPE_CHECKING:
    from hessscope.watching.watch import Watch


def trainer_callback(watch: Watch, trainer: Any) -> Any:
    """Of ``transformers.Trainer``: measures after steps of the optimiser."""
    package = extra("transformers", "hf", "a callback of its Trainer")

    class WatchCallback(package.TrainerCallback):  # type: ignore[name-defined]
        def on_step_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
            reading = watch.step(state.global_step, others.get("optimizer"))
            if reading is not None:
                trainer.log(reading.numbers())

    return WatchCallback()


def lightning_callback(watch: Watch) -> Any:
    """Of Lightning: measures after steps of the optimiser."""
    # Both names are of the same package; a trainer of one takes no callback of the other.
    older = find_spec("lightning") is None and find_spec("pytorch_lightning") is not None
    package = extra(
        "pytorch_lightning" if older else "lightning.pytorch", "lightning", "a callback"
    )

    class WatchCallback(package.Callback):  # type: ignore[name-defined]
        def on_train_batch_end(self, trainer: Any, pl_module: Any, *others: Any) -> None:
            optimizers, step = trainer.optimizers, trainer.global_step
            if watch.optimizer is None and len(optimizers) != 1:
                raise OptionError(
                    f"the module has {len(optimizers)} optimizers: say by `optimizer` of hs.Watch "
                    "which one trains the watched model"
                )
            reading = watch.step(step, watch.optimizer or optimizers[0])
            if reading is not None:
                pl_module.log_dict(reading.numbers(), logger=False)
                for logger in trainer.loggers:
                    logger.log_metrics(reading.numbers(), step=step)

    return WatchCallback()
