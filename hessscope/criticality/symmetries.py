"""Directions in which a network can change without changing its loss, as candidates.

What is here are candidates, by the theory of what the modules compute; ``null_spaces`` verifies
each on the loss itself.
"""

from __future__ import annotations

import numpy as np
import torch

from hessscope.criticality.null_spaces import Symmetries
from hessscope.degeneracy.activity import layer_activities
from hessscope.degeneracy.dependence import dependent_inputs
from hessscope.degeneracy.symmetries import find_symmetries
from hessscope.operators import HessianOperator
from hessscope.progress import silent

# More tangents than this cost more than they explain: a basis of them is dense.
MOST = 2000


def network_symmetries(hessian: HessianOperator) -> Symmetries | None:
    """Tangents of the symmetries of a network on its data; None where there are none.

    Those that the modules suggest (shifts, rescalings, gauges), and changes of weights that no
    example notices since its inputs depend linearly on each other.

    Args:
        hessian: H of an ``EmpiricalRisk``; of other objectives no symmetry is known.
    """
    risk = hessian.objective.network
    if risk is None:
        return None
    fields = [family.fields for family in find_symmetries(risk, hessian.at)]
    activities = layer_activities(hessian, silent)
    nothing = np.zeros(len(hessian.at), dtype=bool)
    fixed = [rows for _, rows in dependent_inputs(hessian, activities, nothing, silent)[0]]
    count = sum(f.count for f in fields) + sum(rows.shape[0] for rows in fixed)
    if not 0 < count <= MOST:
        return None

    def tangents(theta: torch.Tensor) -> torch.Tensor:
        at = theta.detach().cpu().double().numpy()
        rows = [*(f.at(at).toarray() for f in fields), *(part.toarray() for part in fixed)]
        return torch.from_numpy(np.vstack(rows).T.copy())

    return tangents
