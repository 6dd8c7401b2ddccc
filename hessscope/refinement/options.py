"""How a critical point is searched for: frozen options, checked when they are made."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from hessscope.errors import OptionError, UnknownNameError
from hessscope.refinement.globalisation import (
    GLOBALISATIONS,
    DampingSearch,
    Globalisation,
)
from hessscope.refinement.merits import MERITS, Merit
from hessscope.refinement.methods import METHODS, Method


@dataclass(frozen=True)
class RefinementOptions:
    """Configuration of a search; what is None is the method's own default.

    Attributes:
        method: a name from ``METHODS``.
        globalisation: "trust_region", "backtracking", "damping_search" or "fixed".
        merit: "gradient" (½‖∇L‖², for points of any index) or "loss".
        max_iterations: steps at most.
        gradient_tolerance: ‖g‖ that counts as zero, where it is above the rounding floor; default
            that floor itself.
        dampings: list of "damping_search".
        tolerance: τ of the counts at the end and of H⁺; default 2δ.
        backend: "auto", "exact" or "lanczos", for the spectrum at the end.
        steps: Lanczos steps of the spectrum at the end.
        probes: Lanczos probes of the spectrum at the end.
        seed: of the probes.
        memory: bytes that the process may hold; default four fifths of what is free.

    Raises:
        OptionError: a value or a combination that cannot work.
    """

    method: str = "newton"
    globalisation: str | None = None
    merit: str | None = None
    max_iterations: int | None = None
    gradient_tolerance: float | None = None
    dampings: tuple[float, ...] = DampingSearch().dampings
    tolerance: float | None = None
    backend: str = "auto"
    steps: int = 300
    probes: int = 4
    seed: int = 0
    memory: int | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot work, before anything is computed."""
        for what, name, known in (
            ("method", self.method, METHODS),
            ("globalisation", self.globalisation, GLOBALISATIONS),
            ("merit", self.merit, MERITS),
            ("backend", self.backend, ("auto", "exact", "lanczos")),
        ):
            if name is not None and name not in known:
                raise UnknownNameError(what, str(name), known)
        if self.max_iterations is not None and self.max_iterations < 0:
            raise OptionError(f"max_iterations is {self.max_iterations}; give 0 or more")
        if self.gradient_tolerance is not None and not self.gradient_tolerance >= 0:
            raise OptionError(f"gradient_tolerance is {self.gradient_tolerance}; give 0 or more")
        if not self.dampings or not all(0 <= d < float("inf") for d in self.dampings):
            raise OptionError(f"dampings are {self.dampings}; give at least one, none negative")

    @property
    def chosen(self) -> Method:
        """The method."""
        return METHODS[self.method]

    @property
    def iteration_limit(self) -> int:
        """Steps at most, the default filled in."""
        return self.chosen.max_iterations if self.max_iterations is None else self.max_iterations

    @property
    def chosen_merit(self) -> Merit:
        """The merit, the default filled in."""
        return MERITS[self.merit or self.chosen.merit]

    @property
    def chosen_globalisation(self) -> Globalisation:
        """The globalisation, the default filled in."""
        name = self.globalisation or self.chosen.globalisation
        if name == "damping_search":
            return DampingSearch(self.dampings)
        return GLOBALISATIONS[name]

    def as_dict(self) -> dict[str, Any]:
        """The form it has in records, defaults filled in."""
        return {
            **asdict(self),
            "globalisation": self.globalisation or self.chosen.globalisation,
            "merit": self.merit or self.chosen.merit,
            "max_iterations": self.iteration_limit,
            "dampings": list(self.dampings),
        }
