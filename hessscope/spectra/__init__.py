"""Results: spectra and densities, and the counts that follow from them."""

from hessscope.spectra.bulk import BulkSplit, bulk_edge, searched_for
from hessscope.spectra.classification import Criticality, classify
from hessscope.spectra.density import SpectralDensity
from hessscope.spectra.eigenpairs import Eigenpairs, from_the_end
from hessscope.spectra.estimates import Estimate, student_interval
from hessscope.spectra.exact import Spectrum
from hessscope.spectra.gaps import WidestGap, widest_gap
from hessscope.spectra.inertia import CountInterval, Inertia
from hessscope.spectra.locked_pairs import LockedPairs
from hessscope.spectra.noise_floor import NoiseFloor
from hessscope.spectra.outliers import (
    GradientAlignment,
    Outliers,
    eigenvalues_needed,
    find_outliers,
    gradient_alignment,
)
from hessscope.spectra.precision import warn_of_precision
from hessscope.spectra.result import Result, result_of
from hessscope.spectra.semicircle import (
    Semicircle,
    SemicircleFit,
    bulk_of,
    compare_with_semicircle,
    fit_semicircle,
)
from hessscope.spectra.sweep import tolerance_sweep
from hessscope.spectra.zero_rules import (
    AbsoluteRule,
    NoiseFloorRule,
    PublishedCounts,
    RelativeRule,
    Sankar2017Rule,
    ZeroRule,
    find_zero_rule,
)

__all__ = [
    "AbsoluteRule",
    "BulkSplit",
    "CountInterval",
    "Criticality",
    "Eigenpairs",
    "Estimate",
    "GradientAlignment",
    "Inertia",
    "LockedPairs",
    "NoiseFloor",
    "NoiseFloorRule",
    "Outliers",
    "PublishedCounts",
    "RelativeRule",
    "Result",
    "Sankar2017Rule",
    "Semicircle",
    "SemicircleFit",
    "SpectralDensity",
    "Spectrum",
    "WidestGap",
    "ZeroRule",
    "bulk_edge",
    "bulk_of",
    "classify",
    "compare_with_semicircle",
    "eigenvalues_needed",
    "find_outliers",
    "find_zero_rule",
    "fit_semicircle",
    "from_the_end",
    "gradient_alignment",
    "result_of",
    "searched_for",
    "student_interval",
    "tolerance_sweep",
    "warn_of_precision",
    "widest_gap",
]
