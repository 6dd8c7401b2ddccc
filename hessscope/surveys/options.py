"""How a survey chooses its starts and searches from them: frozen options."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

from hessscope.errors import OptionError
from hessscope.refinement import SearchOptions, Strategy


@dataclass(frozen=True)
class SurveyOptions:
    """Configuration of a survey; the defaults are those of Dauphin et al. (2014), appendix C.

    Attributes:
        trajectory: searches that start at a random point of a random trajectory, with noise.
        uniform: searches that start at uniformly sampled weights.
        amplitudes: of the noise, one of which each search draws; every parameter is moved by a
            uniform number within ± the amplitude.
        low: lower end of the uniform weights. The paper's "unit cube" is taken as [−1, 1].
        high: upper end.
        seed: of all random numbers; each search has a stream of its own, spawned from it.
        refinement: how to search; its seed is replaced by one for each search.

    Raises:
        OptionError: a value that cannot be used.
    """

    trajectory: int = 100
    uniform: int = 100
    amplitudes: tuple[float, ...] = (1e-1, 1e-2, 1e-3, 1e-4)
    low: float = -1.0
    high: float = 1.0
    seed: int = 0
    refinement: SearchOptions = field(default_factory=SearchOptions)

    def __post_init__(self) -> None:
        """Refuse what cannot work, before anything is computed."""
        for name in ("trajectory", "uniform", "seed"):
            value = getattr(self, name)
            if value < 0:
                raise OptionError(f"{name} is {value}: give a whole number of at least 0")
        if not self.amplitudes or not all(0 <= a < math.inf for a in self.amplitudes):
            raise OptionError(
                f"amplitudes are {self.amplitudes}: give at least one, none negative, such as 0.01"
            )
        if not -math.inf < self.low < self.high < math.inf:
            raise OptionError(
                f"the uniform weights lie between {self.low} and {self.high}: give a range such "
                "as -1,1"
            )

    def as_dict(self) -> dict[str, Any]:
        """What decides the result of a search, so all but the numbers of searches."""
        plain = asdict(self)
        for name in ("trajectory", "uniform"):
            del plain[name]
        refinement = Strategy.of(self.refinement).stored()
        refinement.pop("seed", None)  # one for each search
        return {**plain, "amplitudes": list(self.amplitudes), "refinement": refinement}
