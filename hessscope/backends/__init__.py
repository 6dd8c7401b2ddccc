"""How a spectrum is computed: exactly, by Lanczos, or by PyHessian as a cross-check."""

from hessscope.backends.backend import Backend as Backend
from hessscope.backends.eigenvectors import EigenvectorBackend as EigenvectorBackend
from hessscope.backends.exact import ExactBackend as ExactBackend
from hessscope.backends.exact import choose_backend as choose_backend
from hessscope.backends.lanczos import LanczosBackend as LanczosBackend
