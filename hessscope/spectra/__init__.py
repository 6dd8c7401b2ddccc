"""Results: spectra and densities, and the counts that follow from them."""

from hessscope.spectra.classification import Criticality, classify
from hessscope.spectra.density import SpectralDensity
from hessscope.spectra.eigenpairs import Eigenpairs, from_the_end
from hessscope.spectra.estimates import Estimate, student_interval
from hessscope.spectra.exact import Spectrum
from hessscope.spectra.inertia import CountInterval, Inertia
from hessscope.spectra.noise import NoiseFloor

__all__ = [
    "CountInterval",
    "Criticality",
    "Eigenpairs",
    "Estimate",
    "Inertia",
    "NoiseFloor",
    "SpectralDensity",
    "Spectrum",
    "classify",
    "from_the_end",
    "student_interval",
]
