"""Starts of searches: by the protocol of Dauphin et al. (2014), appendix C, or the user's own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from hessscope.errors import OptionError
from hessscope.options.survey import PROTOCOL, StudyOptions

ORIGINS = ("trajectory", "uniform", "user")


@dataclass(frozen=True)
class Source:
    """A point of parameter space that is read when it is needed.

    Attributes:
        name: of the checkpoint, or what it is called.
        fingerprint: distinguishes points of the same name.
        read: gives θ, shape (n,).
    """

    name: str
    fingerprint: str
    read: Callable[[], torch.Tensor]


@dataclass(frozen=True)
class Start:
    """Where one search begins, and its random numbers.

    Attributes:
        origin: one of ``ORIGINS``.
        number: among those of the same origin, from 1.
        options: of the survey.
        trajectories: sources by runs, of which one is drawn; for origin "trajectory".
        given: the source; for origin "user".
    """

    origin: str
    number: int
    options: StudyOptions
    trajectories: tuple[tuple[Source, ...], ...] = ()
    given: Source | None = None

    @property
    def name(self) -> str:
        """Of the record: ``trajectory_0001``."""
        return f"{self.origin}_{self.number:04d}"

    @property
    def stream(self) -> np.random.SeedSequence:
        """Spawned by origin and number, so that more searches do not change the others."""
        key = (ORIGINS.index(self.origin), self.number)
        return np.random.SeedSequence(self.options.seed, spawn_key=key)

    @property
    def seed(self) -> int:
        """For the probes of the search."""
        return int(self.stream.generate_state(1)[0])

    def draw(self, size: int) -> tuple[torch.Tensor, dict[str, Any]]:
        """The start itself, shape (n,) in float64, and its description.

        Args:
            size: n.

        Raises:
            OptionError: the source has another number of parameters.
        """
        about: dict[str, Any] = {"seed": self.seed, "start": {"kind": self.origin}}
        if self.origin == "user":
            assert self.given is not None
            about["start"]["source"] = self.given.name
            return _vector(self.given, size), about
        rng = np.random.default_rng(self.stream)
        if self.origin == "uniform":
            low, high = self.options.range
            about["start"] |= {"low": low, "high": high}
            return torch.from_numpy(rng.uniform(low, high, size)), about
        run = self.trajectories[rng.integers(len(self.trajectories))]
        source = run[rng.integers(len(run))]
        amplitude = float(rng.choice(self.options.amplitudes))
        about["start"] |= {"source": source.name, "amplitude": amplitude}
        noise = torch.from_numpy(rng.uniform(-amplitude, amplitude, size))
        return _vector(source, size) + noise, about


def make_starts(
    options: StudyOptions,
    trajectories: Sequence[Sequence[Source]],
    given: Sequence[Source],
) -> list[Start]:
    """All starts of a survey; the two kinds of the protocol take turns, the user's come first.

    Raises:
        OptionError: there is nothing to start from.
    """
    runs = tuple(tuple(run) for run in trajectories if len(run))
    along = options.trajectory
    if along is None:
        along = PROTOCOL if runs else 0
    if along and not runs:
        raise OptionError(
            f"`trajectory={along}`, but there is no trajectory: name the folder of a training run, "
            "or ask for 0 of them"
        )
    starts = [Start("user", k, options, given=s) for k, s in enumerate(given, start=1)]
    for k in range(1, max(along, options.uniform) + 1):
        if k <= along:
            starts.append(Start("trajectory", k, options, runs))
        if k <= options.uniform:
            starts.append(Start("uniform", k, options))
    if not starts:
        raise OptionError("a survey of no searches: ask for some, or give starts")
    return starts


def _vector(source: Source, size: int) -> torch.Tensor:
    theta = torch.as_tensor(source.read()).detach().cpu().double()
    if theta.shape != (size,):
        raise OptionError(
            f"{source.name} has {theta.numel():,} parameters; the network has {size:,}"
        )
    return theta
