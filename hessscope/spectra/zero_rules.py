"""Rules by which eigenvalues count as zero, those of earlier papers among them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar

import numpy as np

from hessscope.errors import OptionError
from hessscope.registry import ZERO_RULES
from hessscope.spectra.exact import check_tolerance
from hessscope.spectra.inertia import Inertia
from hessscope.spectra.result import Result


class ZeroRule:
    """Decides which τ separates zero from the rest; subclasses are frozen dataclasses.

    Attributes:
        name: under which it is registered.
        source: where τ comes from, in words.
        rounded: it needs ``Spectrum.rounded``, so the exact backend.
    """

    name: ClassVar[str]
    source: str
    rounded: ClassVar[bool] = False

    @classmethod
    def of(cls, tolerance: float | None = None) -> ZeroRule:
        """Make the rule with the number that the user gave; None where there is none."""
        return cls() if tolerance is None else cls(tolerance)  # type: ignore[call-arg]

    def tau(self, result: Result) -> float | None:
        """τ for a result; None for its default, 2δ."""
        raise NotImplementedError

    def inertia(self, result: Result) -> Inertia:
        """Counts of a result at τ; where τ is below 2δ, with a warning."""
        return result.inertia(self.tau(result))

    def published(self, result: Result) -> PublishedCounts | None:
        """Counts that a paper made in another way, to be shown beside; None for others."""
        return None


@dataclass(frozen=True)
class NoiseFloorRule(ZeroRule):
    """τ = 2δ, twice the measured noise floor: zero is what cannot be told from zero."""

    name: ClassVar[str] = "noise_floor"
    source = "2δ"

    @classmethod
    def of(cls, tolerance: float | None = None) -> NoiseFloorRule:
        """Make the rule; it takes no number."""
        if tolerance is not None:
            raise OptionError(
                f"`zero_rule=noise_floor` sets τ itself, and `tolerance={tolerance:g}` was given: "
                "leave one of them out, or take `zero_rule=absolute`"
            )
        return cls()

    def tau(self, result: Result) -> None:
        """2δ of the result."""


@dataclass(frozen=True)
class AbsoluteRule(ZeroRule):
    """A given τ, in the units of the Hessian.

    Attributes:
        tolerance: τ.
    """

    tolerance: float
    name: ClassVar[str] = "absolute"
    source = "given"

    def __post_init__(self) -> None:
        """Refuse what is no tolerance."""
        check_tolerance(self.tolerance)

    @classmethod
    def of(cls, tolerance: float | None = None) -> AbsoluteRule:
        """Make the rule; it needs its number."""
        if tolerance is None:
            raise OptionError("`zero_rule=absolute` needs τ: give `tolerance`, such as 1e-8")
        return cls(tolerance)

    def tau(self, result: Result) -> float:
        """The given τ."""
        return self.tolerance


@dataclass(frozen=True)
class RelativeRule(ZeroRule):
    """τ relative to the largest eigenvalue: τ = factor · max|λ|.

    Attributes:
        factor: default n·eps of the data type, by which NumPy's and MATLAB's ``rank`` decide.
    """

    factor: float | None = None
    name: ClassVar[str] = "relative"

    def __post_init__(self) -> None:
        """Refuse what is no factor."""
        if self.factor is not None:
            check_tolerance(self.factor)

    @property
    def source(self) -> str:  # type: ignore[override]
        """Where τ comes from, in words."""
        return f"{'n·eps' if self.factor is None else f'{self.factor:g}'} · max|λ|"

    def tau(self, result: Result) -> float:
        """Factor · max|λ|."""
        factor = self.factor
        if factor is None:
            factor = result.size * float(np.finfo(np.dtype(result.dtype)).eps)
        return factor * result.norm


@dataclass(frozen=True)
class PublishedCounts:
    """What the code published with Sankar & Balasubramanian (2017) counts.

    Attributes:
        positive: #(λ > 0).
        negative: #(λ < 0).
        just_zero: #(λ = 0), eigenvalues that came out as 0.0 exactly. With ``positive`` and
            ``negative`` these add up to n, as the paper's tables 1, 3 and 5 do.
        one_sided_zero: the code's second number of zeros, #(λ = 0) + #(λ_min/2 < λ < 0).
        undecided: how many of the positive and negative ones are so near to 0 that the rounding
            of the eigenvalue solver alone decided their sign: another solver gives others.
    """

    positive: int
    negative: int
    just_zero: int
    one_sided_zero: int
    undecided: int

    def as_dict(self) -> dict[str, int]:
        """The form it has in JSON and in records."""
        return asdict(self)


@dataclass(frozen=True)
class Sankar2017Rule(ZeroRule):
    """The counts of arXiv:1706.02052, beside ours by another rule.

    The published code stores the Hessian in float32 and computes its eigenvalues in float64 with a
    solver for general matrices. The balancing of that solver isolates rows and columns that are
    exactly zero, whose eigenvalues come out as 0.0; all others get the sign that rounding leaves
    them, since there is no tolerance.

    Attributes:
        ours: by which the result's own counts are made.
    """

    ours: ZeroRule = field(default_factory=NoiseFloorRule)
    name: ClassVar[str] = "sankar2017"
    rounded: ClassVar[bool] = True

    @classmethod
    def of(cls, tolerance: float | None = None) -> Sankar2017Rule:
        """Make the rule; the number is τ of our own counts."""
        return cls(find_zero_rule(None, tolerance))

    @property
    def source(self) -> str:  # type: ignore[override]
        """Where the τ of our counts comes from, in words."""
        return self.ours.source

    def tau(self, result: Result) -> float | None:
        """The τ of our counts."""
        return self.ours.tau(result)

    def published(self, result: Result) -> PublishedCounts:
        """Their counts.

        Args:
            result: from ``ExactBackend(rounded=True)``.

        Raises:
            OptionError: the result has no eigenvalues of the matrix rounded to float32.
        """
        if result.rounded is None or (values := result.rounded.eigenvalues) is None:
            raise OptionError(
                "`zero_rule=sankar2017` counts eigenvalues of the matrix stored in float32: take "
                "`backend=exact`, or ExactBackend(rounded=True)"
            )
        zero = int(np.sum(values == 0))
        negative = int(np.sum(values < 0))
        near = int(np.sum((values < 0) & (values > values[0] / 2)))
        within = int(np.sum(np.abs(values) <= result.rounded.noise_floor.solver))
        return PublishedCounts(
            positive=len(values) - zero - negative,
            negative=negative,
            just_zero=zero,
            one_sided_zero=zero + near,
            undecided=within - zero,
        )


def find_zero_rule(rule: Any = None, tolerance: float | None = None) -> ZeroRule:
    """Take a rule by its name, its class or as it is, and the number that belongs to it.

    Args:
        rule: a registered name, a class or a rule; default ``absolute`` where there is a
            tolerance, else ``noise_floor``.
        tolerance: for ``absolute`` τ itself; for ``relative`` the factor of max|λ|, by default
            n·eps; for ``sankar2017`` τ of the counts beside, by default 2δ; none for
            ``noise_floor``, and for a rule that was made already.

    Raises:
        UnknownNameError: there is no such rule.
        OptionError: the tolerance is missing, has no meaning for the rule, or is no number ≥ 0.
    """
    if rule is None:
        return NoiseFloorRule() if tolerance is None else AbsoluteRule(tolerance)
    found = ZERO_RULES.find(rule)
    if isinstance(found, type):
        made: ZeroRule = found.of(tolerance)  # type: ignore[attr-defined]
        return made
    if tolerance is not None:
        raise OptionError(
            f"`zero_rule={found}` has its τ already, and `tolerance={tolerance:g}` was given: "
            "leave one of them out"
        )
    return found
