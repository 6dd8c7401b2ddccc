"""Strategy of a search: its direction, globalisation and merit, with all defaults filled in."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from hessscope.errors import OptionError
from hessscope.options.fields import plain
from hessscope.options.refine import AUTO, EXACT_UP_TO, SearchOptions
from hessscope.refinement.directions import MERITS, Direction, Merit
from hessscope.refinement.globalisation import Globalisation
from hessscope.refinement.states import SearchState
from hessscope.registry import GLOBALISATIONS, METHODS

_BY_METHOD = ("globalisation", "merit", "max_iterations", "krylov_steps", "inner_steps")
_FIXED = {"backend": AUTO, "steps": 300, "probes": 4}


@dataclass(frozen=True)
class Strategy:
    """How a search goes.

    Attributes:
        options: with every default filled in.
        direction: chooses steps.
        globalisation: chooses how far they go.
        merit: what they make smaller.
    """

    options: SearchOptions
    direction: Direction
    globalisation: Globalisation
    merit: Merit

    @classmethod
    def of(cls, options: SearchOptions, size: int = 0) -> Strategy:
        """Fill in the defaults, and check that the parts work together.

        Args:
            options: of the search.
            size: number n of parameters, by which "auto" chooses the method.

        Raises:
            OptionError: a combination that cannot work.
        """
        method = options.method
        if method in (None, AUTO):
            method = "newton" if size <= EXACT_UP_TO else "newton_mr"
        kind: type[Direction] | Direction = METHODS[method] if isinstance(method, str) else method
        defaults = {**{name: getattr(kind, name) for name in _BY_METHOD}, **_FIXED}
        missing = {n: default for n, default in defaults.items() if getattr(options, n) is None}
        options = replace(options, method=method, **missing)
        name = options.globalisation
        way: type[Globalisation] | Globalisation
        way = GLOBALISATIONS[name] if isinstance(name, str) else name
        found = cls(
            options,
            kind.of(options) if isinstance(kind, type) else kind,
            way.of(options) if isinstance(way, type) else way,
            MERITS[str(options.merit)],
        )
        found._check()
        return found

    def _check(self) -> None:
        globalisation, damped = plain(self.options.globalisation), self.direction.damped
        if self.globalisation.needs_damping and not damped:
            raise OptionError(
                f"`globalisation={globalisation}` needs a method whose steps get shorter with more "
                f"damping, and those of {self.method} do not: take backtracking or damping_search"
            )
        # Without damping there is a single step, made for the gradient at the point.
        if (self.options.inner_steps or 1) > 1 and not damped:
            raise OptionError(
                f"`inner_steps={self.options.inner_steps}`, but {self.method} has one step at each "
                "point, and would repeat it: leave it out, or take krylov_sfn"
            )
        if self.merit.name == "loss" and not self.globalisation.uses_merit:
            raise OptionError(
                f"`globalisation={globalisation}` judges steps by their own error, and does not go "
                "down in the loss: take trust_region or damping_search, or `merit=gradient`"
            )

    @property
    def method(self) -> str:
        """The method's name."""
        return str(plain(self.options.method))

    def globalisation_at(self, state: SearchState) -> Globalisation:
        """The one that was chosen, or its fallback where it got no further."""
        return (state.fallback is not None and self.globalisation.fallback) or self.globalisation

    def stored(self) -> dict[str, Any]:
        """The options as records keep them, without those that decide nothing."""
        facts = SearchOptions.part_of(self.options).stored()
        return {name: value for name, value in facts.items() if name != "memory"}
