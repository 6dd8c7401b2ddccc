"""How a spectrum is computed: exactly, by Lanczos, or by PyHessian as a cross-check."""

from hessscope.backends.choice import BackendChoice, choose_backend
from hessscope.backends.eigenvectors import EigenvectorBackend
from hessscope.backends.exact import ExactBackend
from hessscope.backends.lanczos import LanczosBackend
from hessscope.backends.narrowing import NarrowingBackend, Target
from hessscope.backends.pyhessian import PyHessianBackend, PyHessianResult

__all__ = [
    "BackendChoice",
    "EigenvectorBackend",
    "ExactBackend",
    "LanczosBackend",
    "NarrowingBackend",
    "PyHessianBackend",
    "PyHessianResult",
    "Target",
    "choose_backend",
]
