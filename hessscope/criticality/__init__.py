"""Whether the gradient is zero at a point: evidence for and against it."""

from hessscope.criticality.evidence import Evidence, measure_criticality, measure_gradient

__all__ = ["Evidence", "measure_criticality", "measure_gradient"]
