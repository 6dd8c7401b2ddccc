"""Rules by which eigenvalues count as zero, those of earlier papers among them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

import numpy as np

from hessscope.errors import OptionError, UnknownNameError
from hessscope.spectra.density import SpectralDensity
from hessscope.spectra.exact import Spectrum, check_tolerance
from hessscope.spectra.inertia import Inertia

Result: TypeAlias = Spectrum | SpectralDensity


class ZeroRule(Protocol):
    """Decides what counts as zero. The counts themselves are ``result.inertia``'s."""

    @property
    def name(self) -> str:
        """What ``--zero-rule`` calls it."""
        ...

    @property
    def source(self) -> str:
        """Where τ comes from, in words."""
        ...

    def inertia(self, result: Result) -> Inertia:
        """Counts of a result by this rule."""
        ...


@dataclass(frozen=True)
class NoiseFloorRule:
    """τ = 2δ, twice the measured noise floor: zero is what cannot be told from zero."""

    name = "noise-floor"
    source = "2δ"

    def inertia(self, result: Result) -> Inertia:
        """Counts at τ = 2δ."""
        return result.inertia()


@dataclass(frozen=True)
class AbsoluteRule:
    """A given τ, in the units of the Hessian.

    Attributes:
        tolerance: τ.
    """

    tolerance: float
    name = "absolute"
    source = "given"

    def __post_init__(self) -> None:
        """Refuse what is no tolerance."""
        check_tolerance(self.tolerance)

    def inertia(self, result: Result) -> Inertia:
        """Counts at the given τ; below 2δ with a warning."""
        return result.inertia(self.tolerance)


@dataclass(frozen=True)
class RelativeRule:
    """τ relative to the largest eigenvalue: τ = factor · max|λ|.

    Attributes:
        factor: default n·eps of the data type, by which NumPy's and MATLAB's ``rank`` decide.
    """

    factor: float | None = None
    name = "relative"

    def __post_init__(self) -> None:
        """Refuse what is no factor."""
        if self.factor is not None:
            check_tolerance(self.factor)

    @property
    def source(self) -> str:
        """Where τ comes from, in words."""
        return f"{'n·eps' if self.factor is None else f'{self.factor:g}'} · max|λ|"

    def inertia(self, result: Result) -> Inertia:
        """Counts at factor · max|λ|; below 2δ with a warning."""
        factor = self.factor
        if factor is None:
            factor = result.size * float(np.finfo(np.dtype(result.dtype)).eps)
        return result.inertia(factor * max(abs(result.lambda_min), abs(result.lambda_max)))


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
        return {
            "positive": self.positive,
            "negative": self.negative,
            "just_zero": self.just_zero,
            "one_sided_zero": self.one_sided_zero,
            "undecided": self.undecided,
        }


@dataclass(frozen=True)
class Sankar2017Rule:
    """The counts of arXiv:1706.02052, beside ours by another rule.

    The published code stores the Hessian in float32 and computes its eigenvalues in float64 with a
    solver for general matrices. The balancing of that solver isolates rows and columns that are
    exactly zero, whose eigenvalues come out as 0.0; all others get the sign that rounding leaves
    them, since there is no tolerance.

    Attributes:
        ours: by which the result's own counts are made.
    """

    ours: ZeroRule = field(default_factory=NoiseFloorRule)
    name = "sankar2017"

    @property
    def source(self) -> str:
        """Where the τ of our counts comes from, in words."""
        return self.ours.source

    def inertia(self, result: Result) -> Inertia:
        """Our counts."""
        return self.ours.inertia(result)

    def published(self, result: Result) -> PublishedCounts:
        """Their counts.

        Args:
            result: from ``ExactBackend(rounded=True)``.

        Raises:
            OptionError: the result has no eigenvalues of the matrix rounded to float32.
        """
        if not isinstance(result, Spectrum) or result.rounded is None:
            raise OptionError(
                "the rule sankar2017 counts eigenvalues of the matrix stored in float32: take the "
                "exact backend (in Python ExactBackend(rounded=True))"
            )
        values = result.rounded.eigenvalues
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


ZERO_RULES = (NoiseFloorRule.name, AbsoluteRule.name, RelativeRule.name, Sankar2017Rule.name)


def find_zero_rule(name: str | None = None, tolerance: float | None = None) -> ZeroRule:
    """Take a rule by its name and the number that belongs to it.

    Args:
        name: "noise-floor", "absolute", "relative" or "sankar2017"; default "absolute" where
            there is a tolerance, else "noise-floor".
        tolerance: for "absolute" τ itself; for "relative" the factor of max|λ|, by default n·eps;
            for "sankar2017" τ of the counts beside, by default 2δ; none for "noise-floor".

    Raises:
        UnknownNameError: there is no such rule.
        OptionError: the tolerance is missing, has no meaning for the rule, or is no number ≥ 0.
    """
    if name is None:
        return NoiseFloorRule() if tolerance is None else AbsoluteRule(tolerance)
    if name == NoiseFloorRule.name:
        if tolerance is not None:
            raise OptionError(
                f"the zero rule noise-floor sets τ itself, and tolerance {tolerance:g} was given: "
                "leave one of them out, or take the rule absolute"
            )
        return NoiseFloorRule()
    if name == AbsoluteRule.name:
        if tolerance is None:
            raise OptionError("the zero rule absolute needs τ: give --tolerance, such as 1e-8")
        return AbsoluteRule(tolerance)
    if name == RelativeRule.name:
        return RelativeRule(tolerance)
    if name == Sankar2017Rule.name:
        return Sankar2017Rule(find_zero_rule(None, tolerance))
    raise UnknownNameError("zero rule", name, ZERO_RULES)
