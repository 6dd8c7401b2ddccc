"""What a backend is: it computes a result from an operator's products or entries."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar

from hessscope.operators import CurvatureOperator
from hessscope.options.fields import Options
from hessscope.progress import Progress, silent
from hessscope.records import Store
from hessscope.spectra import Result, ZeroRule, find_zero_rule

B = TypeVar("B", bound="Backend")


class Backend:
    """Computes a ``Result``; subclasses are frozen dataclasses, whose fields are its options.

    Attributes:
        name: under which it is registered.
        counts: its results count eigenvalues, and have a density to draw.
        matrix: it assembles the matrix, so that every eigenvalue is known.
        sampled: its intervals can be narrowed by more work (``target_width``).
        operators: names of the matrices that it knows; empty for any symmetric operator.
    """

    name: ClassVar[str]
    counts: ClassVar[bool] = True
    matrix: ClassVar[bool] = False
    sampled: ClassVar[bool] = False
    operators: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def from_options(cls: type[B], options: Options) -> B:
        """Make it with those of its fields that the options of a command have, by their names.

        Args:
            options: such as ``SpectrumOptions``: ``steps``, ``probes``, ``seed``, ``memory``, ….
        """
        own = {field.name for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
        return cls(**{name: getattr(options, name) for name in options.described() if name in own})

    def planned(self: B, operator: CurvatureOperator, earlier: Mapping[str, Any]) -> B:
        """Settle what depends on the machine, such as how many vectors fit in its memory.

        Args:
            operator: what will be solved.
            earlier: ``options`` of a result whose bits are to be repeated; else empty.
        """
        return self

    def cost(self, operator: CurvatureOperator) -> str:
        """What the work takes, and how to make it smaller, for a large network; "" says nothing."""
        return ""

    def solve(
        self, operator: Any, progress: Progress = silent, saved: Store | None = None
    ) -> Result:
        """Compute the result.

        Args:
            operator: a ``HessianOperator``, a SciPy ``LinearOperator`` or sparse matrix, a NumPy
                array, a torch matrix, or anything else that ``as_operator`` takes.
            progress: called with each stage.
            saved: where the state is left from time to time, and resumed from.
        """
        raise NotImplementedError


def zero_rule_of(options: Options) -> ZeroRule:
    """The zero rule that options ask for by ``zero_rule`` and ``tolerance``."""
    return find_zero_rule(getattr(options, "zero_rule", None), getattr(options, "tolerance", None))
