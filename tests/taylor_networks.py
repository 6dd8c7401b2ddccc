"""Hessians of small networks to 18 or 50 digits, without torch and automatic differentiation.

Every number is a second-order Taylor polynomial in the parameters (value, gradient, Hessian), which
layers and loss push forward. Activations and their first two derivatives are formulas in mpmath,
evaluated with 50 digits. The rest is arithmetic of NumPy, with long doubles or mpmath's numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import mpmath
import numpy as np
import torch
from mpmath import mpf
from torch import nn

Values = tuple[mpf, mpf, mpf]
DIGITS = 50


@dataclass
class Taylor:
    """Numbers of any shape S with gradients (*S, n) and Hessians (*S, n, n) in n parameters."""

    value: np.ndarray
    slope: np.ndarray
    curve: np.ndarray

    @classmethod
    def constant(cls, value: np.ndarray, n: int) -> Taylor:
        shape = value.shape
        return cls(value, np.zeros((*shape, n), value.dtype), np.zeros((*shape, n, n), value.dtype))

    @classmethod
    def parameters(cls, value: np.ndarray, first: int, n: int) -> Taylor:
        """Parameters number ``first`` and on."""
        made = cls.constant(value, n)
        flat = made.slope.reshape(-1, n)
        flat[np.arange(len(flat)), first + np.arange(len(flat))] += 1
        return made

    def __getitem__(self, at: Any) -> Taylor:
        return Taylor(self.value[at], self.slope[at], self.curve[at])

    def __add__(self, other: Taylor) -> Taylor:
        return Taylor(self.value + other.value, self.slope + other.slope, self.curve + other.curve)

    def __sub__(self, other: Taylor) -> Taylor:
        return Taylor(self.value - other.value, self.slope - other.slope, self.curve - other.curve)

    def __mul__(self, other: Taylor) -> Taylor:
        a, b = self.value[..., None], other.value[..., None]
        cross = self.slope[..., :, None] * other.slope[..., None, :]
        return Taylor(
            self.value * other.value,
            a * other.slope + b * self.slope,
            a[..., None] * other.curve
            + b[..., None] * self.curve
            + cross
            + np.swapaxes(cross, -1, -2),
        )

    def scaled(self, factor: Any) -> Taylor:
        return Taylor(self.value * factor, self.slope * factor, self.curve * factor)

    def sum(self, axis: int) -> Taylor:
        axis %= self.value.ndim
        return Taylor(self.value.sum(axis), self.slope.sum(axis), self.curve.sum(axis))

    def through(self, function: Callable[[mpf], Values]) -> Taylor:
        """f of every number; f gives its value and two derivatives."""
        with mpmath.workdps(DIGITS):
            found = [function(to_mpf(x)) for x in self.value.flat]
        f, first, second = (
            np.array([like(y, self.value.dtype.type) for y in part]).reshape(self.value.shape)
            for part in zip(*found, strict=True)
        )
        outer = self.slope[..., :, None] * self.slope[..., None, :]
        return Taylor(
            f,
            first[..., None] * self.slope,
            first[..., None, None] * self.curve + second[..., None, None] * outer,
        )


def to_mpf(x: Any) -> mpf:
    if isinstance(x, mpf):
        return x
    high = float(x)
    return mpf(high) + mpf(float(x - np.longdouble(high)))


def like(x: mpf, dtype: Any) -> Any:
    if dtype is np.object_:
        return x
    high = float(x)
    return np.longdouble(high) + np.longdouble(float(x - mpf(high)))


def numbers(tensor: torch.Tensor, dtype: Any) -> np.ndarray:
    """A tensor's numbers, exactly."""
    plain = tensor.detach().double().numpy()
    if dtype is not np.object_:
        return plain.astype(dtype)
    return np.array([mpf(float(x)) for x in plain.flat]).reshape(plain.shape)


# --- functions of one number: f, f', f'' ---------------------------------------------------------


def sigmoid(z: mpf) -> Values:
    s, rest = 1 / (1 + mpmath.exp(-z)), 1 / (1 + mpmath.exp(z))
    return s, s * rest, s * rest * (rest - s)


def tanh(z: mpf) -> Values:
    t, slope = mpmath.tanh(z), mpmath.sech(z) ** 2
    return t, slope, -2 * t * slope


def relu(z: mpf) -> Values:
    return (z, mpf(1), mpf(0)) if z > 0 else (mpf(0), mpf(0), mpf(0))


def gelu(z: mpf) -> Values:
    below, density = mpmath.ncdf(z), mpmath.npdf(z)
    return z * below, below + z * density, density * (2 - z * z)


def softplus(z: mpf) -> Values:
    if z > 20:  # where torch's is linear
        return z, mpf(1), mpf(0)
    s, slope, _ = sigmoid(z)
    return mpmath.log1p(mpmath.exp(z)), s, slope


def silu(z: mpf) -> Values:
    s, slope, bend = sigmoid(z)
    return z * s, s + z * slope, 2 * slope + z * bend


def elu(z: mpf) -> Values:
    e = mpmath.exp(min(z, mpf(0)))
    return (z, mpf(1), mpf(0)) if z > 0 else (mpmath.expm1(z), e, e)


def leaky_relu(z: mpf) -> Values:
    return (z, mpf(1), mpf(0)) if z > 0 else (z * mpf(0.01), mpf(0.01), mpf(0))


def mish(z: mpf) -> Values:
    soft = softplus(z) if z <= 20 else (z, *sigmoid(z)[:2])
    t, slope, bend = tanh(soft[0])
    first, second = slope * soft[1], bend * soft[1] ** 2 + slope * soft[2]
    return z * t, t + z * first, 2 * first + z * second


def logistic_loss(z: mpf) -> Values:
    """log(1 + eᶻ), of which the binary cross-entropy is made."""
    s, slope, _ = sigmoid(z)
    return mpmath.log1p(mpmath.exp(z)), s, slope


def exponential(z: mpf) -> Values:
    e = mpmath.exp(z)
    return e, e, e


def logarithm(z: mpf) -> Values:
    return mpmath.log(z), 1 / z, -1 / z**2


def inverse_root(z: mpf) -> Values:
    r = 1 / mpmath.sqrt(z)
    return r, -r / (2 * z), 3 * r / (4 * z * z)


ACTIVATIONS: dict[type[nn.Module], Callable[[mpf], Values]] = {
    nn.Tanh: tanh,
    nn.Sigmoid: sigmoid,
    nn.ReLU: relu,
    nn.GELU: gelu,
    nn.Softplus: softplus,
    nn.SiLU: silu,
    nn.ELU: elu,
    nn.LeakyReLU: leaky_relu,
    nn.Mish: mish,
}


# --- networks ------------------------------------------------------------------------------------


def true_hessian(
    model: nn.Sequential, x: torch.Tensor, y: torch.Tensor, loss: str, dtype: Any = np.longdouble
) -> np.ndarray:
    """∇²L in the order of ``model.parameters()``; x and weights are taken as they stand.

    Args:
        model: of linear layers, LayerNorm, BatchNorm1d (by its running statistics) and activations.
        x: inputs (N, d).
        y: class numbers (N,), or for mse also numbers (N, outputs).
        loss: "mse", "cross_entropy" or "bce".
        dtype: ``np.longdouble``, or ``np.object_`` for mpmath's numbers.
    """
    with mpmath.workdps(DIGITS):
        n = sum(p.numel() for p in model.parameters())
        z, first = Taylor.constant(numbers(x, dtype), n), 0
        for layer in model:
            own = []
            for p in layer.parameters():
                own.append(Taylor.parameters(numbers(p, dtype), first, n))
                first += p.numel()
            z = _through_layer(layer, z, own, n, dtype)
        return _loss(z, y, loss, dtype).curve


def _through_layer(layer: nn.Module, z: Taylor, own: list[Taylor], n: int, dtype: Any) -> Taylor:
    if isinstance(layer, nn.Linear):
        return (z[:, None, :] * own[0][None]).sum(-1) + own[1][None]
    if isinstance(layer, nn.LayerNorm):
        width = z.value.shape[1]
        centred = z - z.sum(1).scaled(_one(dtype) / width)[:, None]
        variance = (centred * centred).sum(1).scaled(_one(dtype) / width)
        spread = variance + Taylor.constant(_filled(variance.value, layer.eps, dtype), n)
        return centred * spread.through(inverse_root)[:, None] * own[0][None] + own[1][None]
    if isinstance(layer, nn.BatchNorm1d):
        assert layer.running_mean is not None
        assert layer.running_var is not None
        mean, variance = numbers(layer.running_mean, dtype), numbers(layer.running_var, dtype)
        spread = Taylor.constant(variance + _filled(variance, layer.eps, dtype), n)
        centred = z - Taylor.constant(mean, n)[None]
        return centred * spread.through(inverse_root)[None] * own[0][None] + own[1][None]
    return z.through(ACTIVATIONS[type(layer)])


def _one(dtype: Any) -> Any:
    return mpf(1) if dtype is np.object_ else dtype(1)


def _filled(shaped: np.ndarray, value: float, dtype: Any) -> np.ndarray:
    return np.full(shaped.shape, mpf(value) if dtype is np.object_ else dtype(value), dtype=dtype)


def _loss(z: Taylor, y: torch.Tensor, loss: str, dtype: Any) -> Taylor:
    examples, outputs = z.value.shape
    one = _one(dtype)
    if loss == "cross_entropy":
        rows, labels = np.arange(examples), y.numpy()
        # Against the largest, so that no digits cancel where one class has it all.
        top = np.array([max(range(outputs), key=lambda k: row[k]) for row in z.value])
        beside = z - z[rows, top][:, None]
        total = beside.through(exponential).sum(1).through(logarithm)
        return (total - beside[rows, labels]).sum(0).scaled(one / examples)
    hot = y if y.is_floating_point() else nn.functional.one_hot(y, outputs)
    target = numbers(hot, dtype)
    share = one / (examples * outputs)
    if loss == "mse":
        off = z - Taylor.constant(target, z.slope.shape[-1])
        return (off * off).sum(1).sum(0).scaled(share)
    # −log s(z) = log(1 + e⁻ᶻ) for a 1, log(1 + eᶻ) for a 0.
    sign = one - 2 * target
    turned = z * Taylor.constant(sign, z.slope.shape[-1])
    return turned.through(logistic_loss).sum(1).sum(0).scaled(share)


# --- eigenvalues ---------------------------------------------------------------------------------


def true_eigenvalues(matrix: np.ndarray) -> np.ndarray:
    """Of a symmetric matrix, ascending, to the digits of its numbers."""
    if matrix.dtype.type is np.object_:
        with mpmath.workdps(DIGITS):
            found = mpmath.eigsy(mpmath.matrix(matrix.tolist()), eigvals_only=True)
            return np.array(sorted(like(x, np.longdouble) for x in found))
    scale = np.abs(matrix).max()
    if scale == 0:
        return np.zeros(len(matrix), np.longdouble)
    scaled = matrix / scale
    vectors = np.linalg.eigh(scaled.astype(float))[1].astype(np.longdouble)
    for _ in range(2):  # to orthonormality in long doubles
        vectors = vectors @ (1.5 * np.eye(len(matrix)) - 0.5 * vectors.T @ vectors)
    return np.sort(_jacobi(vectors.T @ scaled @ vectors)) * scale


def _jacobi(a: np.ndarray) -> np.ndarray:
    """Diagonal of a matrix after rotations that leave nothing beside it."""
    a = (a + a.T) / 2
    small = 4 * np.finfo(np.longdouble).eps
    for _ in range(12):
        rotated = 0
        size = np.abs(np.diag(a)).max()
        for p in range(len(a) - 1):
            for q in (np.abs(a[p, p + 1 :]) > small * size).nonzero()[0] + p + 1:
                if a[p, q] == 0:
                    continue
                rotated += 1
                ratio = (a[q, q] - a[p, p]) / (2 * a[p, q])
                t = (1 if ratio >= 0 else -1) / (abs(ratio) + np.sqrt(1 + ratio * ratio))
                c = 1 / np.sqrt(1 + t * t)
                s = t * c
                rows = a[[p, q]]
                a[p], a[q] = c * rows[0] - s * rows[1], s * rows[0] + c * rows[1]
                columns = a[:, [p, q]]
                a[:, p] = c * columns[:, 0] - s * columns[:, 1]
                a[:, q] = s * columns[:, 0] + c * columns[:, 1]
        if not rotated:
            return np.diag(a)
    raise AssertionError("Jacobi rotations did not converge")


# --- random networks -----------------------------------------------------------------------------


@dataclass
class Problem:
    """A network with data and a loss."""

    model: nn.Sequential
    x: torch.Tensor
    y: torch.Tensor
    loss: str


KINDS = ("tame", "saturated", "raw pixels", "constant normalisation", "loss near zero")


def random_network(kind: str, activation: type[nn.Module], seed: int, dtype: str) -> Problem:
    """One of a kind: three to eight examples, one or two hidden layers, some fifty parameters."""
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(KINDS.index(kind),)))
    to = getattr(torch, dtype)
    d, width, outputs = (int(rng.integers(2, 6)) for _ in range(3))
    examples, deep = int(rng.integers(3, 9)), bool(rng.random() < 0.3)
    loss = str(rng.choice(["mse", "cross_entropy", "bce"]))
    spread = {"saturated": 10 ** rng.uniform(0.5, 1.7), "raw pixels": rng.choice([0.1, 1.0])}
    gain = float(spread.get(kind, 10 ** rng.uniform(-0.5, 0.3)))
    x = rng.standard_normal((examples, d)) * 10 ** rng.uniform(-1, 0.5)
    if kind == "raw pixels":
        top = 10 ** rng.uniform(1.5, 3)
        x = rng.integers(0, int(top) + 1, (examples, d)).astype(float)
        if rng.random() < 0.3:
            x = top + rng.standard_normal((examples, d))  # all alike
    norm: list[nn.Module] = []
    if kind == "constant normalisation":
        level = 10 ** rng.uniform(-1, 2.5)
        x = np.full((examples, d), level) + rng.choice([0.0, 1e-6]) * x
        norm = [_constant_normalisation(d, level, rng)]
    model = nn.Sequential(
        *norm,
        nn.Linear(d, width),
        activation(),
        *([nn.Linear(width, width), activation()] if deep else []),
        nn.Linear(width, outputs),
    )
    with torch.no_grad():
        for layer in model:
            if isinstance(layer, nn.Linear):
                w = rng.standard_normal(layer.weight.shape) * gain / math.sqrt(layer.in_features)
                layer.weight.copy_(torch.from_numpy(w))
                layer.bias.copy_(torch.from_numpy(gain * rng.standard_normal(len(layer.bias))))
    model = model.to(to).eval()
    inputs = torch.from_numpy(x).to(to)
    y = torch.from_numpy(rng.integers(0, outputs, examples))
    if kind == "loss near zero":
        y = _fit(model, inputs, loss, rng)
    return Problem(model, inputs, y, loss)


def _constant_normalisation(d: int, level: float, rng: np.random.Generator) -> nn.Module:
    """What it normalises is constant: its spread is its eps alone."""
    if rng.random() < 0.5:
        return nn.LayerNorm(d)
    layer = nn.BatchNorm1d(d)
    assert layer.running_mean is not None
    assert layer.running_var is not None
    layer.running_mean.fill_(level)
    layer.running_var.fill_(float(rng.choice([0.0, 1e-8])))
    return layer


def _fit(
    model: nn.Sequential, x: torch.Tensor, loss: str, rng: np.random.Generator
) -> torch.Tensor:
    """Labels that the network has right, with margins up to hundreds; or its outputs themselves."""
    with torch.no_grad():
        if loss == "mse":
            outputs = model(x)
            off = torch.from_numpy(rng.standard_normal(outputs.shape)).to(outputs.dtype)
            return outputs + 10 ** rng.uniform(-12, -3) * off
        last = model[-1]
        assert isinstance(last, nn.Linear)
        factor = 10 ** rng.uniform(1, 2.5)
        last.weight *= factor
        last.bias *= factor
        return model(x).argmax(1)
