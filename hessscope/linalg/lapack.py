"""LAPACK's symmetric eigenvalue solver, in place and interruptible.

SciPy's own wrapper holds Python's lock for the whole computation, minutes for a large matrix, in
which neither a progress report nor Ctrl-C gets through. So the routine that SciPy exports for
compiled code is called here through ctypes, which lets go of the lock, in a thread of its own.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.linalg import cython_lapack

from hessscope.errors import SolverError

_WAIT_SECONDS = 0.2
_BLOCK = 64
_ROUTINES = {np.dtype(np.float64): "dsyevd", np.dtype(np.float32): "ssyevd"}


def eigenvalues_in_place(
    matrix: np.ndarray, waiting: Callable[[], None] = lambda: None
) -> np.ndarray:
    """All eigenvalues of a symmetric matrix, ascending; its contents are lost.

    Cost: 4/3·n³ flops; 66n numbers of memory beside the matrix, for any n.

    Args:
        matrix: shape (n, n), contiguous, float64 or float32; one triangle is read.
        waiting: called a few times a second while the solver works.

    Raises:
        SolverError: the solver did not converge.
    """
    n = len(matrix)
    if n == 0:
        return np.empty(0, dtype=matrix.dtype)
    if not (matrix.flags.c_contiguous or matrix.flags.f_contiguous):
        raise ValueError("the matrix must be contiguous")
    values = np.empty(n, dtype=matrix.dtype)
    # 2n + 1 numbers would do, but then the reduction works column by column, many times slower.
    work = np.empty((2 + _BLOCK) * n + 1, dtype=matrix.dtype)
    integers = np.empty(1, dtype=np.int32)
    # LAPACK sets it to 0; a call that never came that far leaves it.
    status = ctypes.c_int(-1)

    def solve() -> None:
        # N: values only. Which triangle is which depends on the order, and both are there.
        _routine(_ROUTINES[matrix.dtype])(
            b"N",
            b"L",
            ctypes.byref(ctypes.c_int(n)),
            matrix.ctypes.data,
            ctypes.byref(ctypes.c_int(n)),
            values.ctypes.data,
            work.ctypes.data,
            ctypes.byref(ctypes.c_int(len(work))),
            integers.ctypes.data,
            ctypes.byref(ctypes.c_int(len(integers))),
            ctypes.byref(status),
        )

    thread = threading.Thread(target=solve, daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(_WAIT_SECONDS)
        waiting()
    if status.value != 0:
        raise SolverError(f"LAPACK's eigenvalue solver failed (info = {status.value})")
    return values


def _routine(name: str) -> Callable[..., None]:
    """The address that ``scipy.linalg.cython_lapack`` exports, as a function of eleven pointers."""
    exported: Any = cython_lapack.__pyx_capi__
    capsule = exported[name]
    api = ctypes.pythonapi
    api.PyCapsule_GetName.restype = ctypes.c_char_p
    api.PyCapsule_GetName.argtypes = [ctypes.py_object]
    api.PyCapsule_GetPointer.restype = ctypes.c_void_p
    api.PyCapsule_GetPointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
    address = api.PyCapsule_GetPointer(capsule, api.PyCapsule_GetName(capsule))
    pointers = [ctypes.c_char_p] * 2 + [ctypes.c_void_p] * 9
    return ctypes.CFUNCTYPE(None, *pointers)(address)
