"""Why eigenvalues are zero: the degeneracy by its causes."""

from hessscope.spectra.degeneracy.attribution import attribute_degeneracy
from hessscope.spectra.degeneracy.results import Cause, DegeneracyAttribution

__all__ = ["Cause", "DegeneracyAttribution", "attribute_degeneracy"]
