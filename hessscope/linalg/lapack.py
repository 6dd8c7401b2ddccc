"""LAPACK's symmetric eigenvalue solver, in place and interruptible.

SciPy's own wrapper holds Python's lock for the whole computation, minutes for a large matrix, in
which neither a progress report nor Ctrl-C gets through. So the routine is called here through
ctypes, which lets go of the lock, in a thread of its own.

Large matrices are reduced in two stages where the LAPACK of SciPy has them (3.7 and later):
to a band, by matrix products, and from there to tridiagonal form. In one stage half of the work
multiplies the matrix with single vectors, and waits for the memory.
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
# Below, the second stage costs more than the first one saves.
_TWO_STAGES_FROM = 2000
_Routine = Callable[..., None]
# Eleven pointers, and the lengths of the two strings, which Fortran passes last; what SciPy exports
# is a C function without these, and does not look at them.
_ARGUMENTS = [ctypes.c_char_p] * 2 + [ctypes.c_void_p] * 9 + [ctypes.c_size_t] * 2


def eigenvalues_in_place(
    matrix: np.ndarray, waiting: Callable[[], None] = lambda: None
) -> np.ndarray:
    """All eigenvalues of a symmetric matrix, ascending; its contents are lost.

    Cost: 4/3·n³ flops; 66n numbers of memory beside the matrix (two stages: some 110n), for any n.

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
    name = _ROUTINES[matrix.dtype]
    two_stages = _in_two_stages(name) if n >= _TWO_STAGES_FROM else None
    solver = two_stages or _routine(name)
    # 2n + 1 numbers would do in one stage, but then it works column by column, many times slower.
    size = (2 + _BLOCK) * n + 1 if two_stages is None else _workspace(two_stages, matrix)
    work = np.empty(size, dtype=matrix.dtype)
    outcome: list[int] = []  # stays empty where the call never came to its end

    thread = threading.Thread(
        target=lambda: outcome.append(_call(solver, matrix, values, work, size)), daemon=True
    )
    thread.start()
    while thread.is_alive():
        thread.join(_WAIT_SECONDS)
        waiting()
    if outcome != [0]:
        raise SolverError(f"LAPACK's eigenvalue solver failed (info = {outcome})")
    return values


def _call(
    solver: _Routine, matrix: np.ndarray, values: np.ndarray, work: np.ndarray, size: int
) -> int:
    """Run a routine with ``size`` numbers of memory (−1: ask how many); give LAPACK's info."""
    n, one, info = ctypes.c_int(len(matrix)), ctypes.c_int(1), ctypes.c_int(-1)
    integers = np.empty(1, dtype=np.int32)
    # N: values only. Which triangle is which depends on the order, and both are there.
    solver(
        b"N",
        b"L",
        ctypes.byref(n),
        matrix.ctypes.data,
        ctypes.byref(n),
        values.ctypes.data,
        work.ctypes.data,
        ctypes.byref(ctypes.c_int(size)),
        integers.ctypes.data,
        ctypes.byref(one),
        ctypes.byref(info),
        1,
        1,
    )
    return info.value


def _workspace(solver: _Routine, matrix: np.ndarray) -> int:
    """How many numbers of memory the routine asks for, some hundred for each row."""
    answer = np.zeros(1, dtype=matrix.dtype)
    _call(solver, matrix, np.empty(0, matrix.dtype), answer, -1)
    return int(np.nextafter(answer[0], np.inf))  # in float32 it may have been rounded down


def _in_two_stages(name: str) -> _Routine | None:
    """The routine that reduces in two stages, where SciPy's LAPACK has it and lets it be found.

    It is not among the routines that SciPy exports, but in the library that these come from.
    """
    library = ctypes.CDLL(cython_lapack.__file__)
    for symbol in (f"scipy_{name}_2stage_", f"{name}_2stage_"):
        if hasattr(library, symbol):
            return ctypes.CFUNCTYPE(None, *_ARGUMENTS)((symbol, library))
    return None


def _routine(name: str) -> _Routine:
    """What ``scipy.linalg.cython_lapack`` exports under this name."""
    exported: Any = cython_lapack.__pyx_capi__
    capsule = exported[name]
    api = ctypes.pythonapi
    api.PyCapsule_GetName.restype = ctypes.c_char_p
    api.PyCapsule_GetName.argtypes = [ctypes.py_object]
    api.PyCapsule_GetPointer.restype = ctypes.c_void_p
    api.PyCapsule_GetPointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
    address = api.PyCapsule_GetPointer(capsule, api.PyCapsule_GetName(capsule))
    return ctypes.CFUNCTYPE(None, *_ARGUMENTS)(address)
