"""How a critical point is searched for: frozen options, checked when they are made."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from hessscope.errors import OptionError, UnknownNameError
from hessscope.refinement.directions import Direction
from hessscope.refinement.globalisation import (
    GLOBALISATIONS,
    DampingSearch,
    FixedStep,
    Globalisation,
    NaturalDamping,
)
from hessscope.refinement.merits import MERITS, Merit
from hessscope.refinement.methods import METHODS, Method


@dataclass(frozen=True)
class RefinementOptions:
    """Configuration of a search; what is None is the method's own default.

    Attributes:
        method: a name from ``METHODS``.
        globalisation: "natural", "trust_region", "backtracking", "damping_search" or "fixed".
        merit: "gradient" (½‖∇L‖², for points of any index) or "loss".
        max_iterations: steps at most.
        gradient_tolerance: ‖g‖ that counts as zero, where it is above the rounding floor; default
            that floor itself.
        dampings: list of "damping_search".
        fraction: part of the direction's step that "fixed" takes.
        krylov_steps: dimension of the Krylov space of "krylov_sfn", or MINRES steps of
            "newton_mr", at most.
        inner_steps: steps by the same curvature before it is computed anew; more than one only
            where the method's steps are damped.
        tolerance: τ of the counts at the end and of H⁺; default 2δ, for the counts of a critical
            point with what K and the distance to it add.
        backend: "auto", "exact" or "lanczos", for the spectrum at the end.
        steps: Lanczos steps of the spectrum at the end.
        probes: Lanczos probes of the spectrum at the end.
        seed: of the probes.
        memory: bytes that the process may hold; default four fifths of what is free.
        smooth: your word that L is twice differentiable where kinks cannot be looked for, as in
            functions of your own; certificates name it as an assumption.

    Raises:
        OptionError: a value or a combination that cannot work.
    """

    method: str = "newton"
    globalisation: str | None = None
    merit: str | None = None
    max_iterations: int | None = None
    gradient_tolerance: float | None = None
    dampings: tuple[float, ...] = DampingSearch().dampings
    fraction: float = 1.0
    krylov_steps: int | None = None
    inner_steps: int | None = None
    tolerance: float | None = None
    backend: str = "auto"
    steps: int = 300
    probes: int = 4
    seed: int = 0
    memory: int | None = None
    smooth: bool = False

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
        for what, count, least in (
            ("max_iterations", self.max_iterations, 0),
            ("krylov_steps", self.krylov_steps, 2),
            ("inner_steps", self.inner_steps, 1),
        ):
            if count is not None and count < least:
                raise OptionError(f"{what} is {count}; give {least} or more")
        if self.gradient_tolerance is not None and not self.gradient_tolerance >= 0:
            raise OptionError(f"gradient_tolerance is {self.gradient_tolerance}; give 0 or more")
        if not 0 < self.fraction < float("inf"):
            raise OptionError(f"fraction is {self.fraction}; give a positive number")
        if not self.dampings or not all(0 <= d < float("inf") for d in self.dampings):
            raise OptionError(f"dampings are {self.dampings}; give at least one, none negative")
        if self.chosen_globalisation.needs_damping and not self.direction.damped:
            raise OptionError(
                f"{self.globalisation} needs a method whose steps get shorter with more damping, "
                f"and those of {self.method} do not: take backtracking or damping_search"
            )
        # Without damping there is a single step, made for the gradient at the point.
        if self.inner_limit > 1 and not self.direction.damped:
            raise OptionError(
                f"inner_steps is {self.inner_limit}, but {self.method} has one step at each point, "
                "and would repeat it: leave it out, or take krylov_sfn"
            )
        natural = isinstance(self.chosen_globalisation, NaturalDamping)
        if natural and self.chosen_merit.name == "loss":
            raise OptionError(
                "natural judges steps by their own error, and does not go down in the loss: take "
                "trust_region or damping_search, or merit gradient"
            )

    @property
    def direction(self) -> Direction:
        """The direction, made for these options."""
        method = self.chosen
        return method.direction(
            self.krylov_steps or method.krylov_steps, self.merit or method.merit
        )

    @property
    def chosen(self) -> Method:
        """The method."""
        return METHODS[self.method]

    @property
    def iteration_limit(self) -> int:
        """Steps at most, the default filled in."""
        return self.chosen.max_iterations if self.max_iterations is None else self.max_iterations

    @property
    def inner_limit(self) -> int:
        """Steps by the same curvature, the default filled in."""
        return self.inner_steps or self.chosen.inner_steps

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
        if name == "fixed":
            return FixedStep(self.fraction)
        return GLOBALISATIONS[name]

    def as_dict(self) -> dict[str, Any]:
        """The form it has in records, defaults filled in."""
        return {
            **asdict(self),
            "globalisation": self.globalisation or self.chosen.globalisation,
            "merit": self.merit or self.chosen.merit,
            "max_iterations": self.iteration_limit,
            "krylov_steps": self.krylov_steps or self.chosen.krylov_steps or None,
            "inner_steps": self.inner_limit,
            "dampings": list(self.dampings),
        }
