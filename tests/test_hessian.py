"""Hessian products against finite differences and against torch's own second derivatives."""

from __future__ import annotations

import functools
import itertools
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from hessscope import EmpiricalRisk, HessianOperator, Plan
from hessscope.backends.measured_noise import operator_noise
from hessscope.criticality.evidence import gradient_floor
from hessscope.errors import HessscopeWarning, NonFiniteError, OptionError
from hessscope.operators.rounding import check_products


class Attention(nn.Module):
    """Self-attention over a sequence, then a mean."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.head = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mixed, _ = self.attention(x, x, x, need_weights=False)
        return self.head(mixed.mean(1))


class Recurrent(nn.Module):
    """A recurrent layer and a linear one on its last state."""

    def __init__(self, kind: type[nn.RNNBase]) -> None:
        super().__init__()
        self.cell = kind(3, 4, batch_first=True)
        self.head = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.cell(x)[0][:, -1])


class Tied(nn.Module):
    """The same matrix embeds and unembeds."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(7, 3)
        self.out = nn.Linear(3, 7, bias=False)
        self.out.weight = self.embedding.weight

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.out(torch.tanh(self.embedding(tokens)))


def batch_norm() -> nn.Module:
    """Convolution and batch norm with running statistics that are not 0 and 1."""
    model = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(18, 3)
    )
    for _ in range(5):
        model(torch.randn(16, 1, 5, 5) * 3 + 1)
    return model


def images(n: int) -> torch.Tensor:
    return torch.randn(n, 1, 5, 5)


def sequences(n: int) -> torch.Tensor:
    return torch.randn(n, 5, 3)


def labels(n: int) -> torch.Tensor:
    return torch.randint(0, 3, (n,))


LAYERS: dict[str, tuple[Callable[[], nn.Module], Callable[[int], Any], Callable[[int], Any]]] = {
    "linear": (
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(25, 4), nn.Tanh(), nn.Linear(4, 3)),
        images,
        labels,
    ),
    "convolution": (
        lambda: nn.Sequential(
            nn.Conv2d(1, 2, 3, stride=2), nn.Softplus(), nn.Flatten(), nn.Linear(8, 3)
        ),
        images,
        labels,
    ),
    "batch norm": (batch_norm, images, labels),
    "layer norm": (
        lambda: nn.Sequential(nn.Linear(3, 6), nn.LayerNorm(6), nn.GELU(), nn.Linear(6, 3)),
        lambda n: torch.randn(n, 3),
        labels,
    ),
    "attention": (Attention, lambda n: torch.randn(n, 5, 4), labels),
    "transformer": (
        lambda: nn.Sequential(
            nn.TransformerEncoderLayer(4, 2, 6, batch_first=True, activation="gelu"),
            nn.Flatten(),
            nn.Linear(12, 3),
        ),
        lambda n: torch.randn(n, 3, 4),
        labels,
    ),
    "embedding": (
        lambda: nn.Sequential(nn.Embedding(11, 3), nn.Flatten(), nn.Tanh(), nn.Linear(12, 3)),
        lambda n: torch.randint(0, 11, (n, 4)),
        labels,
    ),
    "tied embedding": (
        Tied,
        lambda n: torch.randint(0, 7, (n, 4)),
        lambda n: torch.randint(0, 7, (n, 4)),
    ),
    "lstm": (lambda: Recurrent(nn.LSTM), sequences, labels),
    "gru": (lambda: Recurrent(nn.GRU), sequences, labels),
    "rnn": (lambda: Recurrent(nn.RNN), sequences, labels),
}


def make(kind: str, examples: int = 9, **options: Any) -> EmpiricalRisk:
    torch.manual_seed(3)
    model, inputs, targets = LAYERS[kind]
    return EmpiricalRisk(model(), (inputs(examples), targets(examples)), device="cpu", **options)


def autograd_hessian(risk: EmpiricalRisk) -> torch.Tensor:
    """Row by row with plain double backward on one sum over all examples."""
    theta = risk.parameters.requires_grad_(True)
    with risk.kernels():
        (term,) = risk.terms(len(risk))
        (gradient,) = torch.autograd.grad(term(theta), theta, create_graph=True)
        rows = [
            torch.autograd.grad(g, theta, retain_graph=True, materialize_grads=True)[0]
            for g in gradient
        ]
    return torch.stack(rows)


@pytest.mark.parametrize("kind", LAYERS)
def test_dense_hessian_of_every_layer_kind(kind: str) -> None:
    risk = make(kind, batch_size=4)
    dense = HessianOperator(risk).to_dense()
    reference = autograd_hessian(risk)
    scale = float(reference.abs().max())
    assert scale > 1e-3
    assert float((dense - reference).abs().max()) < 1e-13 * scale * 100

    # Independent of all autograd second derivatives: central differences of the gradient.
    theta, step = risk.parameters, 1e-5
    stream = torch.Generator().manual_seed(1)
    for _ in range(4):
        v = torch.randn(len(theta), generator=stream, dtype=torch.float64)
        v /= torch.linalg.vector_norm(v)
        slope = (risk.gradient(theta + step * v) - risk.gradient(theta - step * v)) / (2 * step)
        # Truncation is of the order step² times the fourth derivative, rounding of eps/step.
        assert float(torch.linalg.vector_norm(dense @ v - slope)) < 1e-7 * max(scale, 1.0)


@pytest.mark.parametrize("kind", ["linear", "convolution", "attention", "tied embedding"])
def test_dense_hessian_equals_torch_func(kind: str) -> None:
    risk = make(kind)
    (term,) = risk.terms(len(risk))
    with risk.kernels():
        reference = torch.func.hessian(term)(risk.parameters)
    dense = HessianOperator(risk).to_dense()
    torch.testing.assert_close(dense, reference, rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize("held", [True, False])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_products_do_not_depend_on_the_plan(held: bool, dtype: str) -> None:
    risk = make("convolution", examples=10, dtype=dtype)
    reference = autograd_hessian(make("convolution", examples=10))
    columns = torch.randn(len(reference), 5, dtype=torch.float64)
    for vectors, batch_size in [(1, 10), (2, 3), (64, 1)]:
        hessian = HessianOperator(risk, plan=Plan("graph", vectors, batch_size, held))
        product = hessian.matmat(columns).double()
        error = float((product - reference @ columns).abs().max())
        assert error < 300 * torch.finfo(risk.dtype).eps


def test_short_last_batch_weighs_its_examples_alike() -> None:
    whole = HessianOperator(make("linear", examples=10), plan=Plan("graph", 8, 10, True))
    short = HessianOperator(make("linear", examples=10), plan=Plan("graph", 8, 4, True))
    torch.testing.assert_close(whole.to_dense(), short.to_dense(), rtol=1e-12, atol=1e-15)


def test_penalty_adds_its_coefficient_to_the_diagonal() -> None:
    plain, penalised = make("linear"), make("linear", l2=0.25)
    difference = HessianOperator(penalised).to_dense() - HessianOperator(plain).to_dense()
    torch.testing.assert_close(difference, 0.25 * torch.eye(len(difference), dtype=torch.float64))
    theta = plain.parameters
    assert penalised.value() - plain.value() == pytest.approx(0.125 * float(theta @ theta))
    torch.testing.assert_close(penalised.gradient() - plain.gradient(), 0.25 * theta)


def test_hessian_elsewhere_than_where_the_model_stands() -> None:
    risk = make("linear")
    elsewhere = risk.parameters + 0.3
    assert not torch.equal(
        HessianOperator(risk).to_dense(), HessianOperator(risk, elsewhere).to_dense()
    )
    (term,) = risk.terms(len(risk))
    torch.testing.assert_close(
        HessianOperator(risk, elsewhere).to_dense(), torch.func.hessian(term)(elsewhere)
    )


def test_the_users_model_is_left_alone() -> None:
    model = batch_norm()
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    HessianOperator(EmpiricalRisk(model, (images(6), labels(6)), device="cpu")).to_dense()
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


def test_speaks_numpy_and_scipy() -> None:
    hessian = HessianOperator(make("linear"))
    n = hessian.shape[0]
    dense = hessian.to_dense().numpy()
    v = np.random.default_rng(0).standard_normal((n, 3))
    np.testing.assert_allclose(hessian.matmat(v), dense @ v, atol=1e-13)
    np.testing.assert_allclose(hessian.matvec(v[:, 0]), dense @ v[:, 0], atol=1e-13)
    operator = hessian.to_scipy()
    np.testing.assert_allclose(operator @ v, dense @ v, atol=1e-13)
    np.testing.assert_allclose(operator.T @ v[:, 1], dense @ v[:, 1], atol=1e-13)
    vector = torch.from_numpy(v[:, 0])
    torch.testing.assert_close(hessian @ vector, torch.from_numpy(dense) @ vector)
    with pytest.raises(OptionError, match=f"length {n}"):
        hessian.matmat(np.ones((n + 1, 2)))


def test_counts_products() -> None:
    hessian = HessianOperator(make("linear"), plan=Plan("graph", 4, None, True))
    hessian.matmat(torch.randn(hessian.shape[0], 7, dtype=torch.float64))
    hessian.matvec(torch.randn(hessian.shape[0], dtype=torch.float64))
    assert hessian.hvps == 8


def test_a_linear_loss_has_zero_hessian() -> None:
    def mean_output(outputs: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
        return outputs.mean()

    risk = EmpiricalRisk(nn.Linear(3, 2), (torch.randn(5, 3), torch.zeros(5)), mean_output)
    assert float(HessianOperator(risk).to_dense().abs().max()) == 0.0


class Skipping(nn.Module):
    """Fully connected layers that feed each other across and in products."""

    def __init__(self) -> None:
        super().__init__()
        self.late = nn.Linear(9, 3)  # called last, though it stands first in θ
        self.a = nn.Linear(6, 4)
        self.b = nn.Linear(4, 3, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = torch.tanh(self.a(x))
        k = nn.functional.softplus(self.b(h))
        return self.late(torch.cat([h * h.roll(1, 1), k, k.prod(1, keepdim=True) * h[:, :2]], 1))


class Mixed(nn.Module):
    """Convolution and normalisations around fully connected layers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 2, 4), nn.BatchNorm2d(2)
        self.a, self.layer_norm, self.b = nn.Linear(8, 5), nn.LayerNorm(5), nn.Linear(5, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = torch.sigmoid(self.norm(self.conv(x))).flatten(1)
        return self.b(torch.tanh(self.layer_norm(self.a(h))))


class CalledTwice(nn.Module):
    """One layer at two places: its parameters are shared, so its structure is another."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(6, 6), nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.b(torch.tanh(self.a(torch.tanh(self.a(x)))))


class UsedElsewhere(nn.Module):
    """A weight that also enters behind the layer's back."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(6, 4), nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.b(torch.relu(self.a(x))) * self.a.weight.sum()


def vectors_with_gaps(n: int) -> torch.Tensor:
    """Sparse inputs, one of them zero in every example."""
    x = torch.randn(n, 6) * (torch.rand(n, 6) < 0.5)
    x[:, 2] = 0
    return x


@pytest.mark.parametrize(
    ("model", "inputs", "layers", "products"),
    [
        (Skipping, vectors_with_gaps, ("a", "b", "late"), 0),
        (Mixed, images, ("a", "b"), 38 + 10),
        (CalledTwice, vectors_with_gaps, ("b",), 42),
        (UsedElsewhere, vectors_with_gaps, (), 43),
        (lambda: nn.Linear(6, 3), vectors_with_gaps, ("",), 0),
    ],
)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_assembly_by_structure_equals_products(
    model: Callable[[], nn.Module],
    inputs: Callable[[int], torch.Tensor],
    layers: tuple[str, ...],
    products: int,
    dtype: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch.manual_seed(2)
    risk = EmpiricalRisk(model(), (inputs(40), labels(40)), l2=0.01, device="cpu", dtype=dtype)
    # Small chunks: several make the sum, and the last one is short.
    monkeypatch.setattr("hessscope.operators.assembly.CHUNK_BYTES", 30e3)
    hessian = HessianOperator(risk)
    assert tuple(layer.name for layer in hessian.assembly.layers) == layers
    dense = hessian.to_dense()
    assert hessian.hvps == products == len(hessian.assembly.others)
    n = len(dense)
    by_products = hessian.matmat(torch.eye(n, dtype=risk.dtype))
    scale = float(by_products.abs().max())
    bound = 200 * torch.finfo(risk.dtype).eps * scale
    assert float((dense - by_products).abs().max()) < bound
    assert float((dense - dense.T).abs().max()) < bound
    if layers and layers[0] == "a" and not products:
        # The input that is always zero: its weights' rows are zero but for the penalty.
        row = dense[risk.layout.slices()["a.weight"].start + 2].clone()
        row[risk.layout.slices()["a.weight"].start + 2] -= 0.01
        assert float(row.abs().max()) < 1e-8


@pytest.mark.parametrize("activation", [nn.ReLU, nn.Tanh, nn.Sigmoid, nn.GELU])
@pytest.mark.parametrize("loss", ["cross_entropy", "mse", "softmax_mse"])
@pytest.mark.parametrize("widths", [(5,), (4, 6), (3, 4, 5)])
def test_perceptrons_are_assembled_without_products(
    activation: type[nn.Module], loss: str, widths: tuple[int, ...]
) -> None:
    torch.manual_seed(len(widths))
    sizes = (6, *widths, 3)
    modules = [m for a, b in itertools.pairwise(sizes) for m in (nn.Linear(a, b), activation())]
    data = (vectors_with_gaps(30), labels(30))
    risk = EmpiricalRisk(nn.Sequential(*modules[:-1]), data, loss, device="cpu")
    hessian = HessianOperator(risk)
    dense = hessian.to_dense()
    assert hessian.hvps == 0
    reference = autograd_hessian(risk)
    torch.testing.assert_close(dense, reference, rtol=1e-11, atol=1e-15)
    columns = torch.randn(len(dense), 5, dtype=torch.float64)
    for plan in (Plan("layers", 2, 7, True), Plan("layers", 16, 30, False)):
        by_layers = HessianOperator(risk, plan=plan).matmat(columns)
        torch.testing.assert_close(by_layers, reference @ columns, rtol=1e-11, atol=1e-14)


class Between(nn.Module):
    """Three layers of equal widths, with functions of one's choice behind the first two."""

    def __init__(self, function: Callable[..., torch.Tensor]) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(6, 4), nn.Linear(4, 4), nn.Linear(4, 3)
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.function(self.a(x), x)
        return self.c(self.function(self.b(h), h))


BETWEEN: dict[str, tuple[bool, Callable[..., torch.Tensor]]] = {
    "elementwise": (True, lambda z, _: z * torch.sigmoid(z)),
    "another for each unit": (True, lambda z, _: torch.tanh(z * torch.arange(4) + z.sin() ** 2)),
    "linear": (True, lambda z, _: 2 * z),
    "softmax": (False, lambda z, _: torch.softmax(z, 1)),
    "a neighbour": (False, lambda z, _: torch.tanh(z) * z.roll(1, 1)),
    "normalised": (False, lambda z, _: nn.functional.layer_norm(torch.tanh(z), (4,))),
    "residual": (False, lambda z, h: torch.tanh(z) + 0.01 * h[:, :4]),
    "rearranged": (False, lambda z, _: torch.tanh(z).flip(1)),
}


@pytest.mark.parametrize("kind", BETWEEN)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_products_by_layers_only_where_elementwise_functions_stand_between(
    kind: str, dtype: str
) -> None:
    torch.manual_seed(5)
    chain, function = BETWEEN[kind]
    data = (vectors_with_gaps(40), labels(40))
    risk = EmpiricalRisk(Between(function), data, l2=0.01, device="cpu", dtype=dtype)
    hessian = HessianOperator(risk)
    assert hessian.plan.way == ("layers" if chain else "graph")
    reference = autograd_hessian(risk) + 0.01 * torch.eye(hessian.shape[0], dtype=risk.dtype)
    columns = torch.randn(hessian.shape[0], 5, dtype=risk.dtype)
    bound = 100 * torch.finfo(risk.dtype).eps
    for operator in (hessian, hessian.planned(Plan(hessian.plan.way, 2, 11, True))):
        for width in (1, 5):  # a single vector goes another way than a block
            product, expected = operator.matmat(columns[:, :width]), reference @ columns[:, :width]
            assert float((product - expected).abs().max()) < bound
    saturated = HessianOperator(risk, 1e4 * risk.parameters, check=False)
    assert saturated.plan.way == hessian.plan.way
    if not chain:
        with pytest.raises(OptionError, match="no chain of fully connected layers"):
            HessianOperator(risk, plan=Plan("layers", 2, 11, True)).matvec(columns[:, 0])


@pytest.mark.parametrize("outputs", [2, 30])
@pytest.mark.parametrize("loss", ["cross_entropy", "mse"])
def test_products_by_layers_for_few_and_many_outputs(outputs: int, loss: str) -> None:
    """Second derivatives of the loss in the outputs are kept where these are few."""
    torch.manual_seed(6)
    x, y = vectors_with_gaps(20), torch.rand(20, outputs)
    model = nn.Sequential(nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, outputs), nn.Sigmoid())
    risk = EmpiricalRisk(model, (x, y / y.sum(1, keepdim=True)), loss, device="cpu")
    hessian = HessianOperator(risk, plan=Plan("layers", 3, 7, True))
    reference = autograd_hessian(risk)
    close = functools.partial(torch.testing.assert_close, rtol=1e-11, atol=1e-14)
    close(hessian.matmat(torch.eye(len(reference), dtype=risk.dtype)), reference)
    close(hessian.matvec(reference[0]), reference @ reference[0])


def differences(risk: EmpiricalRisk, step: float = 1e-5) -> torch.Tensor:
    """Central differences of the gradient."""
    theta, n = risk.parameters, len(risk.parameters)
    units = step * torch.eye(n, dtype=theta.dtype)
    columns = [(risk.gradient(theta + u) - risk.gradient(theta - u)) / (2 * step) for u in units]
    return torch.stack(columns, 1)


class Tied(nn.Module):
    """Autoencoder x → WᵀWx, whose weight is used a second time outside its layer."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Linear(5, 3, bias=False)
        nn.init.zeros_(self.encoder.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.encoder(x) @ self.encoder.weight


class ByKeyword(nn.Module):
    """A linear layer that is given its input by name."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(5, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(input=x)


class Routed(nn.Module):
    """Two experts, each of which sees some of the examples."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(5, 3), nn.Linear(5, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        goes_left = x[:, :1] > 0
        result = x.new_zeros(len(x), 3)
        result[goes_left[:, 0]] = self.left(x[goes_left[:, 0]])
        result[~goes_left[:, 0]] = self.right(x[~goes_left[:, 0]])
        return result


class Reversed(nn.Module):
    """The first layer sees the batch from its end."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(5, 4), nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.first(x.flip(0)).tanh().flip(0))


class Phases(nn.Module):
    """A complex buffer, as rotary embeddings have."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(5, 4), nn.Linear(4, 3)
        self.register_buffer("phases", torch.polar(torch.ones(4), torch.arange(4.0)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rotated = self.first(x) * self.phases
        return self.last(rotated.real + rotated.imag**2)


class InPlace(nn.Module):
    """Changes the tensor that it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(5, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x += 1
        return self.layer(x)


def weight_normed() -> nn.Module:
    model = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3))
    nn.utils.parametrizations.weight_norm(model[0])
    return model


def weight_normed_the_old_way() -> nn.Module:
    model = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        nn.utils.weight_norm(model[0])
    return model


@pytest.mark.parametrize(
    "make_model",
    [
        Tied,
        ByKeyword,
        Routed,
        Reversed,
        Phases,
        InPlace,
        weight_normed,
        weight_normed_the_old_way,
        lambda: nn.DataParallel(nn.Linear(5, 3)),
    ],
)
def test_unusual_models_against_finite_differences(make_model: Callable[[], nn.Module]) -> None:
    torch.manual_seed(1)
    x, y = torch.randn(13, 5, dtype=torch.float64), torch.randint(0, 3, (13,))
    # The first eight take the same way: what is found on a few examples need not hold for all.
    x[:, 0] = torch.where(torch.arange(13) < 8, x[:, 0].abs(), -x[:, 0].abs())
    model, before = make_model(), x.clone()
    risk = EmpiricalRisk(model, (x, x if isinstance(model, Tied) else y), "mse")
    hessian = HessianOperator(risk)
    torch.testing.assert_close(hessian.to_dense(), differences(risk), atol=1e-7, rtol=1e-6)
    products = hessian.matmat(torch.eye(len(risk.parameters), dtype=risk.dtype))
    torch.testing.assert_close(hessian.to_dense(), products, atol=1e-13, rtol=1e-12)
    assert torch.equal(x, before)


def test_complex_buffers_keep_their_imaginary_part() -> None:
    model = Phases()
    x = torch.randn(6, 5)
    risk = EmpiricalRisk(model, (x, torch.zeros(6, dtype=torch.int64)), device="cpu")
    expected = nn.functional.cross_entropy(model(x), torch.zeros(6, dtype=torch.int64)).detach()
    assert risk.value() == pytest.approx(float(expected), rel=1e-5)


def test_a_point_where_the_loss_is_not_finite_is_refused_whatever_the_plan() -> None:
    risk = make("linear", l2=1.0)  # whose penalty overflows
    for plan in (None, Plan("graph", 4, None, True)):
        hessian = HessianOperator(risk, risk.parameters * 1e200, plan=plan)
        with pytest.raises(NonFiniteError):
            hessian.matvec(torch.ones(hessian.shape[0], dtype=torch.float64))


def test_one_example_is_checked_through_the_graph_too() -> None:
    other = HessianOperator(make("linear", examples=1)).recomputed()
    assert other is not None
    assert other.plan.way == "graph"


@pytest.mark.parametrize("kind", ["convolution", "layer norm", "attention", "rnn"])
def test_noise_bounds_the_error_of_other_layers(kind: str) -> None:
    risk = make(kind, batch_size=4, dtype="float32")
    hessian = HessianOperator(risk)
    matrix = hessian.to_dense()
    noise, products = operator_noise(hessian, matrix)
    # The same weights: float32 holds all of them.
    double = EmpiricalRisk(risk.model, risk.data, risk.loss, device="cpu")
    error = matrix.double() - HessianOperator(double).to_dense()
    assert 0.02 * noise < float(torch.linalg.matrix_norm(error, 2)) < noise
    assert products == 10


def test_noise_is_measured_at_batches_of_one_example_too() -> None:
    """Rounding has one size, whatever the batches: for products and for the gradient."""
    noise, floor = {}, {}
    for size in (1, 3):
        risk = make("convolution", examples=24, batch_size=size, dtype="float32")
        hessian = HessianOperator(risk)
        noise[size], _ = operator_noise(hessian)
        assert (hessian.plan.way, hessian.plan.batch_size) == ("graph", size)
        floor[size] = gradient_floor(risk, hessian.at, risk.gradient(hessian.at), norm=0.0)
    assert 0.1 * noise[3] < noise[1] < 10 * noise[3]
    assert 0.1 * floor[3] < floor[1] < 10 * floor[3]


def test_kinks_are_not_taken_for_a_hidden_second_derivative() -> None:
    """Over eps^⅓ a difference of gradients meets kinks of ReLU units; over eps^½ it is Hv."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 200), nn.ReLU(), nn.Linear(200, 3))
    data = (torch.randn(500, 20), torch.randint(0, 3, (500,)))
    risk = EmpiricalRisk(model, data, "cross_entropy", device="cpu")
    hessian = HessianOperator(risk)
    v = torch.randn(len(hessian.at), dtype=torch.float64)
    v /= torch.linalg.vector_norm(v)
    t = 6e-6 * (1 + float(torch.linalg.vector_norm(hessian.at)))
    difference = (risk.gradient(hessian.at + t * v) - risk.gradient(hessian.at - t * v)) / (2 * t)
    assert float((difference - hessian.matvec(v)).norm()) > float(hessian.matvec(v).norm())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_products(hessian)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_kinks_are_not_taken_for_a_hidden_second_derivative_in_float32(dtype: str) -> None:
    """The steps of a difference in float32 are so long that each meets kinks of many units."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(50, 300), nn.ReLU(), nn.Linear(300, 3))
    data = (torch.randn(1000, 50), torch.randint(0, 3, (1000,)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for seed in range(5):
            risk = EmpiricalRisk(model, data, "cross_entropy", dtype=dtype, device="cpu")
            check_products(HessianOperator(risk), seed)


class _SinglePrecision(nn.Module):
    """Has a constant that does not follow ``.to(torch.float64)``."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(4, 3)
        self.turn = [torch.eye(4, dtype=torch.float32)]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(torch.tanh(x @ self.turn[0]))


def test_a_model_of_single_precision_alone_is_checked_in_it() -> None:
    torch.manual_seed(0)
    data = (torch.randn(10, 4), torch.randint(0, 3, (10,)))
    risk = EmpiricalRisk(_SinglePrecision(), data, dtype="float32", device="cpu")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_products(HessianOperator(risk))


class _Twice(torch.autograd.Function):
    """x² with a backward pass that torch cannot differentiate: a constant, to it."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: torch.Tensor) -> torch.Tensor:
        return 2 * grads[0] * ctx.saved_tensors[0]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_hidden_second_derivative_is_found_in_both_types(dtype: str) -> None:
    torch.manual_seed(0)
    data = (torch.randn(30, 4), torch.randn(30, 3))
    risk = EmpiricalRisk(
        nn.Linear(4, 3), data, lambda a, b: _Twice.apply(a - b).mean(), dtype=dtype, device="cpu"
    )
    with pytest.warns(HessscopeWarning, match="hides its second derivative"):
        check_products(HessianOperator(risk))
