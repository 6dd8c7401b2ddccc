"""Orthonormal bases of spaces spanned by sparse rows."""

from __future__ import annotations

import numpy as np
import scipy.linalg
import scipy.sparse
from scipy.sparse.csgraph import connected_components

# A direction counts only if at least this part of a row's length lies along it: the less that is,
# the more of the direction is rounding.
_DISTINCT = 1e-5


def row_lengths(rows: scipy.sparse.csr_matrix) -> np.ndarray:
    """Euclidean length of each row."""
    return np.sqrt(np.asarray(rows.multiply(rows).sum(axis=1)).ravel())


def orthonormal_rows(rows: scipy.sparse.csr_matrix) -> scipy.sparse.csr_matrix:
    """An orthonormal basis of the span of rows, as sparse as their supports allow.

    Rows that touch no common column stay apart; each group that hangs together is reduced by a
    singular value decomposition of its own, within the columns that it touches.

    Args:
        rows: shape (k, n), of length 1, or what is left of such rows: directions along which
            they have singular values up to 1e-5 are left out.

    Returns:
        Shape (rank, n). Cost: O(k s min(k, s)) for each group of k rows over s columns.
    """
    rows = rows[row_lengths(rows) > _DISTINCT]
    rows.sum_duplicates()
    rows.eliminate_zeros()
    if rows.shape[0] == 0:
        return rows
    pattern = rows.astype(bool).astype(np.int32)
    _, group = connected_components(pattern @ pattern.T, directed=False)
    order = np.argsort(group, kind="stable")
    bases = []
    for members in np.split(order, np.flatnonzero(np.diff(group[order])) + 1):
        block = rows[members]
        columns = np.unique(block.indices)
        dense = block[:, columns].toarray()
        if len(members) == 1:
            basis = dense / np.linalg.norm(dense)
        else:
            _, sizes, right = scipy.linalg.svd(dense, full_matrices=False, overwrite_a=True)
            basis = right[sizes > _DISTINCT]
        bases.append(_spread(basis, columns, rows.shape[1]))
    return scipy.sparse.vstack(bases, format="csr")


def rows_beyond(
    rows: scipy.sparse.csr_matrix, basis: scipy.sparse.csr_matrix
) -> scipy.sparse.csr_matrix:
    """An orthonormal basis of what orthonormal rows span beyond another orthonormal basis.

    Args:
        rows: shape (k, n).
        basis: shape (m, n).

    Returns:
        Shape (new, n), orthogonal to ``basis``; directions that lie in its span but for 1e-5 of
        their length are left out.
    """
    for _ in range(2):  # once more for what rounding leaves
        overlap = (rows @ basis.T).tocsr()
        touched = np.diff(overlap.indptr) > 0
        if not touched.any():
            break
        rest = rows[touched] - overlap[touched] @ basis
        rows = orthonormal_rows(scipy.sparse.vstack([rows[~touched], rest], format="csr"))
    return rows


def _spread(basis: np.ndarray, columns: np.ndarray, n: int) -> scipy.sparse.csr_matrix:
    """Dense rows over some columns, as sparse rows over all."""
    count, width = basis.shape
    starts = np.arange(count + 1) * width
    return scipy.sparse.csr_matrix((basis.ravel(), np.tile(columns, count), starts), (count, n))
