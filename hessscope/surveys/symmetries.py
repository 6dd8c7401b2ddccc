"""Continuous symmetries of a network, for certificates of singular critical points."""

from __future__ import annotations

import numpy as np
import torch

from hessscope.objective import EmpiricalRisk
from hessscope.refinement.null_spaces import Symmetries
from hessscope.spectra.degeneracy.symmetries import find_symmetries

# More tangents than this cost more than they explain: a basis of them is dense.
_MOST = 2000


def network_symmetries(risk: EmpiricalRisk) -> Symmetries | None:
    """Tangents of the symmetries that the network's modules suggest; None where there are none.

    Args:
        risk: the loss. A penalty breaks most symmetries; certificates verify each at the loss with
            the penalty before they use it.
    """
    families, _ = find_symmetries(risk, risk.parameters)
    fields = [family.fields for family in families]
    if not fields or sum(f.count for f in fields) > _MOST:
        return None

    def tangents(theta: torch.Tensor) -> torch.Tensor:
        at = theta.detach().cpu().double().numpy()
        rows = np.vstack([f.at(at).toarray() for f in fields])
        return torch.from_numpy(rows.T.copy())

    return tangents
