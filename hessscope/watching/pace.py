"""When there is time for a measurement, and that it leaves no trace in the training."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from time import perf_counter

import numpy as np
import torch


class Pace:
    """Keeps what is measured to a share of the time since training began.

    Args:
        share: largest part of the time that measurements may take.
    """

    def __init__(self, share: float) -> None:
        self._share = share
        self._began: float | None = None
        #: Seconds that the last, the longest and all measurements took; number of the last step.
        self.last, self.longest, self.spent, self.steps = 0.0, 0.0, 0.0, 0

    def begin(self) -> None:
        """Training resumes from here; only the first call counts."""
        if self._began is None:
            self._began = perf_counter()

    @property
    def elapsed(self) -> float:
        """Seconds since training began, measurements included."""
        return 0.0 if self._began is None else perf_counter() - self._began

    @property
    def used(self) -> float:
        """Part of the time that measurements have taken so far."""
        return self.spent / elapsed if (elapsed := self.elapsed) else 0.0

    def allows(self) -> bool:
        """Whether one more, as long as the longest, keeps to the share; the first always may."""
        return self.spent + self.longest <= self._share * (self.elapsed + self.longest)

    @contextmanager
    def measuring(self, device: torch.device) -> Iterator[None]:
        """Count what is done within it as spent."""
        self.begin()
        _wait_for(device)
        start = perf_counter()
        try:
            yield
        finally:
            _wait_for(device)
            self.last = perf_counter() - start
            self.longest = max(self.longest, self.last)
            self.spent += self.last


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@contextmanager
def undisturbed(device: torch.device) -> Iterator[None]:
    """Put random streams back at the end, and leave modes of autograd and autocast outside."""
    states, of_numpy, of_python = torch.get_rng_state(), np.random.get_state(), random.getstate()  # noqa: NPY002
    on_devices = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None
    with ExitStack() as stack:
        stack.callback(random.setstate, of_python)
        stack.callback(np.random.set_state, of_numpy)
        stack.callback(torch.set_rng_state, states)
        if on_devices is not None:
            stack.callback(torch.cuda.set_rng_state_all, on_devices)
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(torch.autocast(device.type, enabled=False))
        yield
