"""Results: spectra and densities, and the counts that follow from them."""

from hessscope.spectra.classification import Criticality, classify
from hessscope.spectra.degeneracy import Cause, DegeneracyAttribution, attribute_degeneracy
from hessscope.spectra.density import LockedPairs, SpectralDensity
from hessscope.spectra.estimates import Estimate, student_interval
from hessscope.spectra.exact import Spectrum
from hessscope.spectra.gaps import WidestGap, widest_gap
from hessscope.spectra.inertia import CountInterval, Inertia
from hessscope.spectra.noise import NoiseFloor
from hessscope.spectra.precision import warn_of_precision
from hessscope.spectra.sweep import tolerance_sweep
from hessscope.spectra.zero_rules import (
    ZERO_RULES,
    AbsoluteRule,
    NoiseFloorRule,
    PublishedCounts,
    RelativeRule,
    Sankar2017Rule,
    ZeroRule,
    find_zero_rule,
)

__all__ = [
    "ZERO_RULES",
    "AbsoluteRule",
    "Cause",
    "CountInterval",
    "Criticality",
    "DegeneracyAttribution",
    "Estimate",
    "Inertia",
    "LockedPairs",
    "NoiseFloor",
    "NoiseFloorRule",
    "PublishedCounts",
    "RelativeRule",
    "Sankar2017Rule",
    "SpectralDensity",
    "Spectrum",
    "WidestGap",
    "ZeroRule",
    "attribute_degeneracy",
    "classify",
    "find_zero_rule",
    "student_interval",
    "tolerance_sweep",
    "warn_of_precision",
    "widest_gap",
]
