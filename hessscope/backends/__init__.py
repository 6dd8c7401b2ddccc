"""How a spectrum is computed: exactly, by Lanczos, or by PyHessian as a cross-check."""

from hessscope.backends.backend import Backend
from hessscope.backends.choice import BackendChoice, choose_backend
from hessscope.backends.eigenvectors import EigenvectorBackend
from hessscope.backends.exact import ExactBackend
from hessscope.backends.lanczos import LanczosBackend

__all__ = [
    "Backend",
    "BackendChoice",
    "EigenvectorBackend",
    "ExactBackend",
    "LanczosBackend",
    "choose_backend",
]
