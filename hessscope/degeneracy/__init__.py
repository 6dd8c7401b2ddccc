"""Why eigenvalues are zero: the degeneracy by its causes."""

from hessscope.degeneracy.attribution import attribute_degeneracy
from hessscope.degeneracy.results import Cause, DegeneracyAttribution

__all__ = ["Cause", "DegeneracyAttribution", "attribute_degeneracy"]
