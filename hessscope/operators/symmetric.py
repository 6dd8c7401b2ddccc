"""Symmetric operators, and products of a term's second-order matrices with several vectors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import scipy.sparse
import scipy.sparse.linalg
import torch

from hessscope.errors import OptionError
from hessscope.objective import BatchTerm, Term
from hessscope.progress import Progress, silent
from hessscope.records import Store


class CurvatureOperator(Protocol):
    """A symmetric linear operator on Rⁿ."""

    @property
    def shape(self) -> tuple[int, int]:
        """(n, n)."""

    @property
    def dtype(self) -> torch.dtype:
        """Type of its products."""

    @property
    def device(self) -> torch.device:
        """Where its products are computed."""

    @property
    def hvps(self) -> int:
        """Products with single vectors computed so far."""

    def apply(self, vectors: torch.Tensor) -> torch.Tensor:
        """Product with the columns of a tensor of shape (n, m)."""

    def to_dense(self, progress: Progress = silent, saved: Store | None = None) -> torch.Tensor:
        """The whole matrix, in memory of its own; may be asymmetric by rounding."""

    def recomputed(self) -> CurvatureOperator | None:
        """The same operator with its sums taken in another order; None if there is no other."""


_NUMPY = {torch.float32: np.float32, torch.float64: np.float64}


def _kind(dtype: Any, is_complex: bool) -> torch.dtype:
    """Type in which a matrix of numbers is worked on."""
    if is_complex:
        raise OptionError("expected a real symmetric matrix, got a complex one")
    return torch.float32 if dtype in (torch.float32, np.float32) else torch.float64


class MatrixOperator:
    """A matrix, or a linear operator of another library, as a ``CurvatureOperator``.

    Args:
        matrix: symmetric; NumPy array, torch tensor, SciPy sparse matrix or ``LinearOperator``, or
            anything with ``shape`` and a torch ``dtype`` that multiplies tensors, ``matrix @ X``.

    Raises:
        OptionError: it is not a square matrix of real numbers.
    """

    def __init__(self, matrix: Any) -> None:
        shape = getattr(matrix, "shape", None)
        if shape is None or len(shape) != 2 or shape[0] != shape[1] or shape[0] == 0:
            raise OptionError(f"expected a square matrix, got shape {shape} ({type(matrix)})")
        self.hvps = 0
        self.shape = (int(shape[0]), int(shape[1]))
        self._matrix: Any = matrix
        self._torch = isinstance(matrix.dtype, torch.dtype)
        if self._torch:
            self.dtype, self.device = _kind(matrix.dtype, matrix.dtype.is_complex), matrix.device
            if isinstance(matrix, torch.Tensor):
                self._matrix = matrix.detach().to(self.dtype)
        else:
            numbers = np.dtype(matrix.dtype)
            if numbers.kind not in "biufc":
                raise OptionError(
                    f"expected a matrix of numbers, got one of type {numbers}; convert it with "
                    ".astype(float)"
                )
            self.dtype, self.device = _kind(numbers, numbers.kind == "c"), torch.device("cpu")
            # torch has no extended precision.
            if numbers.itemsize > 8 and hasattr(matrix, "astype"):
                self._matrix = matrix.astype(np.float64)

    def apply(self, vectors: torch.Tensor) -> torch.Tensor:
        """Product with the columns of a tensor of shape (n, m)."""
        self.hvps += vectors.shape[1]
        if self._torch:
            product = self._matrix @ vectors.to(self._matrix.dtype)
            return product.detach().to(self.dtype)
        product = np.asarray(self._matrix @ vectors.detach().cpu().numpy())
        if np.iscomplexobj(product):
            raise OptionError(
                "expected a real symmetric operator, got one whose products are complex"
            )
        return torch.from_numpy(np.ascontiguousarray(product, dtype=_NUMPY[self.dtype]))

    def to_dense(self, progress: Progress = silent, saved: Store | None = None) -> torch.Tensor:
        """The whole matrix, copied."""
        if isinstance(self._matrix, torch.Tensor):
            return self._matrix.clone(memory_format=torch.contiguous_format)
        if isinstance(self._matrix, np.ndarray):
            return torch.from_numpy(np.array(self._matrix, _NUMPY[self.dtype], order="C"))
        return self.apply(torch.eye(self.shape[0], dtype=self.dtype, device=self.device))

    def recomputed(self) -> CurvatureOperator | None:
        """A given matrix has no other way of being computed."""
        return None


def as_operator(operator: Any) -> CurvatureOperator:
    """Take any symmetric operator: ours, SciPy's, curvlinops', a NumPy array or a torch matrix.

    Raises:
        OptionError: it is none of these, or not square.
    """
    if hasattr(operator, "apply") and hasattr(operator, "recomputed"):
        return operator
    numbers = isinstance(getattr(operator, "dtype", None), torch.dtype)
    if numbers or isinstance(operator, np.ndarray) or scipy.sparse.issparse(operator):
        return MatrixOperator(operator)
    try:
        return MatrixOperator(scipy.sparse.linalg.aslinearoperator(operator))
    except TypeError:
        raise OptionError(
            f"{type(operator).__name__} is not an operator: give a HessianOperator, a SciPy "
            "LinearOperator, or a matrix of NumPy, SciPy or torch"
        ) from None


def scipy_operator(operator: CurvatureOperator) -> scipy.sparse.linalg.LinearOperator:
    """A symmetric operator as SciPy's solvers take it: NumPy in, NumPy out."""
    dtype = _NUMPY[operator.dtype]

    def matmat(vectors: np.ndarray) -> np.ndarray:
        columns = torch.from_numpy(np.array(vectors, dtype=dtype)).to(operator.device)
        return operator.apply(columns).cpu().numpy()

    def matvec(vector: np.ndarray) -> np.ndarray:
        return matmat(vector.reshape(-1, 1)).reshape(-1)

    return scipy.sparse.linalg.LinearOperator(
        operator.shape, matvec=matvec, matmat=matmat, rmatvec=matvec, dtype=dtype
    )


BlockProduct = Callable[[torch.Tensor], torch.Tensor]
#: What is prepared for a term at θ, so that products are quick.
Prepare = Callable[[Term, torch.Tensor], BlockProduct]
#: Second-order information of a batch in the outputs f: vectors (k, *f.shape) to the same.
OutputCurvature = Callable[[BatchTerm, torch.Tensor], BlockProduct]


def pulled_back(
    function: torch.Tensor, variable: torch.Tensor, vectors: torch.Tensor
) -> torch.Tensor:
    """Jᵀu for every vector u, J the derivative of a kept graph: one pass backward.

    The vectors of a block go through the pass together (``torch.vmap``); a single one does not
    need a batching rule for every operation of the model.

    Args:
        function: with the graph that leads to ``variable``; without one J is zero.
        variable: leaf of the graph.
        vectors: shape (k, *function.shape).

    Returns:
        Shape (k, *variable.shape).
    """
    if not function.requires_grad:
        return vectors.new_zeros(len(vectors), *variable.shape)
    several = len(vectors) > 1
    (result,) = torch.autograd.grad(
        function,
        variable,
        vectors if several else vectors[0],
        retain_graph=True,
        is_grads_batched=several,
        materialize_grads=True,
    )
    return result if several else result[None]


def retained(term: Term, theta: torch.Tensor) -> BlockProduct:
    """Keep the graph of a term's gradient; a product is one pass backward through it.

    Linearising the gradient in forward mode (``torch.func.linearize``) is not faster, needs seconds
    of tracing, and was found to give wrong products for ``nn.LSTM`` on torch 2.13.

    Args:
        term: differentiable function of θ.
        theta: the point, of any shape.

    Returns:
        A function of vectors, (k, *θ.shape) to the same.
    """
    point = theta.detach().requires_grad_(True)
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(term(point), point, create_graph=True)
    return lambda vectors: pulled_back(gradient, point, vectors)


def through_outputs(
    term: BatchTerm, theta: torch.Tensor, curvature: OutputCurvature
) -> BlockProduct:
    """Products with Jᵀ C J, J the derivative of the outputs and C a matrix on them.

    The graphs of the outputs and of u ↦ Jᵀu are kept. The second is linear in u, so its transpose
    is J: a product is one pass backward through each, and none in forward mode.

    Args:
        term: with the model's outputs.
        theta: the point, shape (n,).
        curvature: C.

    Returns:
        A function of vectors, (k, n) to (k, n).
    """
    point = theta.detach().requires_grad_(True)
    with torch.enable_grad():
        outputs = term.outputs(point)
        dual = torch.zeros_like(outputs, requires_grad=True)
        (transposed,) = torch.autograd.grad(outputs, point, dual, create_graph=True)
    weigh = curvature(term, outputs.detach())

    def product(vectors: torch.Tensor) -> torch.Tensor:
        return pulled_back(outputs, point, weigh(pulled_back(transposed, dual, vectors)))

    return product


def gradient_in_outputs(term: BatchTerm, outputs: torch.Tensor) -> torch.Tensor:
    """∂ℓ/∂f of a batch, with its share of the mean."""
    point = outputs.detach().requires_grad_(True)
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(term.of_outputs(point), point)
    return gradient


def second_derivative(term: BatchTerm, outputs: torch.Tensor) -> BlockProduct:
    """∂²ℓ/∂f²: the Gauss–Newton matrix's C. Zero where the loss is linear in the outputs."""
    return retained(term.of_outputs, outputs)


def outer_products(term: BatchTerm, outputs: torch.Tensor) -> BlockProduct:
    """(1/N) uᵢuᵢᵀ for each example, uᵢ = ∂ℓᵢ/∂fᵢ: the empirical Fisher matrix's C."""
    shares = gradient_in_outputs(term, outputs)
    # The term is a mean over all N examples, so its gradient in fᵢ is uᵢ/N.
    scores = term.total * shares.reshape(term.count, -1)

    def product(vectors: torch.Tensor) -> torch.Tensor:
        along = (vectors.reshape(len(vectors), term.count, -1) * scores).sum(-1, keepdim=True)
        return (along * scores / term.total).view(vectors.shape)

    return product
