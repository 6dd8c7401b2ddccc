"""Why eigenvalues are zero: the degeneracy by its causes."""

from hessscope.degeneracy.attribution import attribute_degeneracy as attribute_degeneracy
from hessscope.degeneracy.results import Cause as Cause
from hessscope.degeneracy.results import DegeneracyAttribution as DegeneracyAttribution
