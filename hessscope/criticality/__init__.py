"""Whether the gradient is zero at a point: evidence for and against it."""

from hessscope.criticality.evidence import Evidence as Evidence
from hessscope.criticality.evidence import measure_criticality as measure_criticality
from hessscope.criticality.evidence import measure_gradient as measure_gradient
