"""Results: spectra and densities, and the counts that follow from them."""

from hessscope.spectra.bulk import BulkSplit, bulk_edge, searched_for
from hessscope.spectra.classification import Criticality, classify
from hessscope.spectra.density import SpectralDensity
from hessscope.spectra.eigenpairs import Eigenpairs, from_the_end
from hessscope.spectra.estimates import Estimate, student_interval
from hessscope.spectra.exact import Spectrum
from hessscope.spectra.inertia import CountInterval, Inertia
from hessscope.spectra.noise import NoiseFloor
from hessscope.spectra.outliers import (
    GradientAlignment,
    Outliers,
    eigenvalues_needed,
    find_outliers,
    gradient_alignment,
)
from hessscope.spectra.semicircle import (
    Semicircle,
    SemicircleFit,
    bulk_of,
    compare_with_semicircle,
    fit_semicircle,
)

__all__ = [
    "BulkSplit",
    "CountInterval",
    "Criticality",
    "Eigenpairs",
    "Estimate",
    "GradientAlignment",
    "Inertia",
    "NoiseFloor",
    "Outliers",
    "Semicircle",
    "SemicircleFit",
    "SpectralDensity",
    "Spectrum",
    "bulk_edge",
    "bulk_of",
    "classify",
    "compare_with_semicircle",
    "eigenvalues_needed",
    "find_outliers",
    "fit_semicircle",
    "from_the_end",
    "gradient_alignment",
    "searched_for",
    "student_interval",
]
