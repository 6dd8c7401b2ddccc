"""Results: spectra and densities, and the counts that follow from them."""

from hessscope.spectra.classification import Criticality, classify
from hessscope.spectra.degeneracy import Cause, DegeneracyAttribution, attribute_degeneracy
from hessscope.spectra.density import LockedPairs, SpectralDensity
from hessscope.spectra.estimates import Estimate, student_interval
from hessscope.spectra.exact import Spectrum
from hessscope.spectra.inertia import CountInterval, Inertia
from hessscope.spectra.noise import NoiseFloor

__all__ = [
    "Cause",
    "CountInterval",
    "Criticality",
    "DegeneracyAttribution",
    "Estimate",
    "Inertia",
    "LockedPairs",
    "NoiseFloor",
    "SpectralDensity",
    "Spectrum",
    "attribute_degeneracy",
    "classify",
    "student_interval",
]
