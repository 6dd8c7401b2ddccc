"""Distances to critical points, in more digits than the computation under test has."""

from __future__ import annotations

import mpmath as mp
import torch

from hessscope import EmpiricalRisk

_DIGITS = 50


def distance_to_critical_set(risk: EmpiricalRisk, theta: torch.Tensor, hidden: int) -> float:
    """Distance of θ to the nearest critical point of a linear autoencoder x → A B x.

    Those are A = (U_I 0) C, B = C⁻¹ (U_I 0)ᵀ with eigenvectors U of the data's second moment and
    any invertible C. Near a point of this kind a Gauss–Newton iteration in C, from the C that A
    itself gives, finds the nearest one; the distance is exact to some twenty digits.
    """
    with mp.workdps(_DIGITS):
        x = mp.matrix(risk.inputs.double().tolist())
        d, p = x.cols, hidden
        moment = x.T * x
        _, u = mp.eigsy(moment)
        values = theta.double().tolist()
        b = mp.matrix(p, d)
        a = mp.matrix(d, p)
        for i in range(p):
            for j in range(d):
                b[i, j] = mp.mpf(values[i * d + j])
                a[j, i] = mp.mpf(values[p * d + j * p + i])
        # Which eigenvectors: the diagonal of Uᵀ A B U is 1 there and 0 elsewhere.
        inner = u.T * a * b * u
        chosen = [j for j in range(d) if inner[j, j] > 0.5]
        basis = mp.matrix(d, len(chosen))
        for column, j in enumerate(chosen):
            for i in range(d):
                basis[i, column] = u[i, j]
        return float(_nearest(a, b, basis, p))


def _nearest(a: mp.matrix, b: mp.matrix, basis: mp.matrix, p: int) -> mp.mpf:
    """Minimise ‖A − U L‖² + ‖B − R Uᵀ‖² over L (r x p) and R (p x r) with L R = 1.

    For r < p that is the whole critical set, too: the C above enters only by these rows and
    columns. With U applied, it splits into the part outside the range of U, which is fixed, and
    the projection of (UᵀA, BU) onto {L R = 1}.
    """
    left, right = basis.T * a, b * basis
    outside = mp.norm(a - basis * left) ** 2 + mp.norm(b - right * basis.T) ** 2
    r = basis.cols
    if r == 0:
        return mp.sqrt(outside)
    # Lagrange: L = L₀ + M Rᵀ, R = R₀ + Lᵀ M, and L R = 1; the corrections are tiny, so each pass
    # solves the linearised constraint for M and gains as many digits as there are.
    moved_left, moved_right = left, right
    for _ in range(6):
        gap = mp.eye(r) - moved_left * moved_right
        # M (Rᵀ R) + (L Lᵀ) M = gap, by the Kronecker form.
        gram_r, gram_l = moved_right.T * moved_right, moved_left * moved_left.T
        system = mp.matrix(r * r, r * r)
        for i in range(r):
            for j in range(r):
                for k in range(r):
                    system[i * r + j, i * r + k] += gram_r[k, j]
                    system[i * r + j, k * r + j] += gram_l[i, k]
        solution = mp.lu_solve(system, mp.matrix([gap[i, j] for i in range(r) for j in range(r)]))
        m = mp.matrix(r, r)
        for i in range(r):
            for j in range(r):
                m[i, j] = solution[i * r + j]
        moved_left, moved_right = (
            moved_left + m * moved_right.T,
            moved_right + moved_left.T * m,
        )
    inside = mp.norm(moved_left - left) ** 2 + mp.norm(moved_right - right) ** 2
    return mp.sqrt(outside + inside)
