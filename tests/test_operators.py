"""Gauss–Newton and Fisher operators against matrices built from Jacobians and gradients."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

import hessscope as hs
from hessscope import EmpiricalRisk, HessianOperator, Plan
from hessscope.errors import AssumptionWarning, ObjectiveError
from hessscope.objective.parts import Partition, module_of
from hessscope.operators import (
    EmpiricalFisherOperator,
    FisherOperator,
    GaussNewtonOperator,
    ObjectiveOperator,
)
from hessscope.registry import OPERATORS
from test_hessian import LAYERS, Mixed, Skipping, UsedElsewhere, images, make, vectors_with_gaps

Labels = Callable[[int], torch.Tensor]


def labels(n: int) -> torch.Tensor:
    return torch.randint(0, 3, (n,))


def jacobian(risk: EmpiricalRisk) -> torch.Tensor:
    """∂f/∂θ of all examples: shape (N, outputs, n), by reverse mode over single outputs."""
    theta = risk.parameters.requires_grad_(True)
    with risk.kernels():
        outputs = risk.term(0, len(risk)).outputs(theta)
        rows = [
            torch.autograd.grad(f, theta, retain_graph=True, materialize_grads=True)[0]
            for f in outputs.reshape(-1)
        ]
    return torch.stack(rows).view(len(risk), -1, len(theta)).detach()


def example_losses(risk: EmpiricalRisk, outputs: torch.Tensor) -> torch.Tensor:
    """Each example's loss on its own, by one call for each."""
    return torch.stack(
        [risk.loss(outputs[i : i + 1], risk.targets[i : i + 1]).mean() for i in range(len(risk))]
    )


def outputs_of(risk: EmpiricalRisk) -> torch.Tensor:
    with torch.no_grad(), risk.kernels():
        return risk.term(0, len(risk)).outputs(risk.parameters)


def gauss_newton(risk: EmpiricalRisk) -> torch.Tensor:
    """(1/N) Σ Jᵢᵀ ∂²ℓᵢ/∂f² Jᵢ, each second derivative by torch.func.hessian."""
    outputs, j = outputs_of(risk), jacobian(risk)
    total = torch.zeros(j.shape[2], j.shape[2], dtype=j.dtype)
    for i in range(len(risk)):
        targets = risk.targets[i : i + 1]

        def loss(
            f: torch.Tensor, y: torch.Tensor = targets, shape: torch.Size = outputs[:1].shape
        ) -> torch.Tensor:
            return risk.loss(f.view(shape), y).mean()

        second = torch.func.hessian(loss)(outputs[i].reshape(-1))
        total += j[i].T @ second @ j[i]
    return total / len(risk)


def second_moment(risk: EmpiricalRisk) -> torch.Tensor:
    """(1/N) Σ gᵢgᵢᵀ from gradients of one example after the other."""
    theta = risk.parameters
    total = torch.zeros(len(theta), len(theta), dtype=theta.dtype)
    for i in range(len(risk)):
        point = theta.clone().requires_grad_(True)
        with risk.kernels():
            value = risk.term(i, i + 1)(point) * len(risk)
            (gradient,) = torch.autograd.grad(value, point, materialize_grads=True)
        total += torch.outer(gradient, gradient)
    return total / len(risk)


def close(found: torch.Tensor, expected: torch.Tensor, factor: float = 1000) -> None:
    scale = float(expected.abs().max())
    assert scale > 1e-6
    bound = factor * torch.finfo(found.dtype).eps * scale
    assert float((found.double() - expected.double()).abs().max()) < bound


def perceptron(loss: str, targets: torch.Tensor, **options: object) -> EmpiricalRisk:
    torch.manual_seed(4)
    model = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 4), nn.Softplus())
    model.append(nn.Linear(4, 3))
    if loss == "nll":
        model.append(nn.LogSoftmax(1))
    if loss == "nll_probabilities":
        model.append(nn.Softmax(1))
    data = (vectors_with_gaps(len(targets)), targets)
    return EmpiricalRisk(model, data, loss, device="cpu", **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", LAYERS)
def test_gauss_newton_of_every_layer_kind(kind: str) -> None:
    risk = make(kind, batch_size=4)
    operator = GaussNewtonOperator(risk)
    reference = gauss_newton(risk)
    close(operator.to_dense(), reference)
    n = len(reference)
    plan = Plan("graph", 7, 4, held=True)
    by_products = GaussNewtonOperator(risk, plan=plan)
    close(by_products.matmat(torch.eye(n, dtype=risk.dtype)), reference)
    assert by_products.hvps == n
    close(by_products.matvec(torch.ones(n, dtype=risk.dtype)), reference.sum(1))


@pytest.mark.parametrize("loss", ["cross_entropy", "mse", "softmax_mse", "bce", "own"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_gauss_newton_by_every_loss_type_and_plan(loss: str, dtype: str) -> None:
    def own(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """A value for each example, not convex in the outputs."""
        return (outputs.sin() * outputs[:, :1]).sum(1) + outputs[:, 1] ** 3 * targets

    torch.manual_seed(11)
    y = torch.randint(0, 3, (11,))
    function = own if loss == "own" else loss
    risk = perceptron(function, y, dtype=dtype)  # type: ignore[arg-type]
    reference = gauss_newton(perceptron(function, y))  # type: ignore[arg-type]
    units = torch.eye(len(reference), dtype=risk.dtype)
    for plan in (
        Plan("layers", 8, 4, True),
        Plan("layers", 32, 11, False),
        Plan("graph", 1, 11, True),
        Plan("graph", 16, 3, False),
    ):
        close(GaussNewtonOperator(risk, plan=plan).matmat(units), reference)
    dense = GaussNewtonOperator(risk)
    close(dense.to_dense(), reference)
    assert dense.hvps == 0  # all by structure


@pytest.mark.parametrize("name", ["gauss_newton", "fisher", "empirical_fisher"])
@pytest.mark.parametrize(
    ("model", "inputs", "structured"),
    [(Skipping, vectors_with_gaps, True), (Mixed, images, True), (UsedElsewhere, None, False)],
)
def test_assembly_by_structure_equals_products(
    name: str,
    model: Callable[[], nn.Module],
    inputs: Callable[[int], torch.Tensor] | None,
    structured: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("hessscope.operators.assembly.CHUNK_BYTES", 30e3)
    x = (inputs or vectors_with_gaps)(40)
    risk = EmpiricalRisk(model(), (x, labels(40)), l2=0.01, device="cpu")
    operator = OPERATORS[name](risk)
    assert bool(operator.assembly.layers) == structured
    dense = operator.to_dense()
    products = OPERATORS[name](risk, plan=Plan("graph", 16, 13, False))
    close(products.matmat(torch.eye(len(dense), dtype=risk.dtype)), dense)


def test_penalty_belongs_to_gauss_newton_only() -> None:
    y = labels(9)
    plain, penalised = perceptron("cross_entropy", y), perceptron("cross_entropy", y, l2=0.25)
    for name, shift in (
        ("hessian", 0.25),
        ("gauss_newton", 0.25),
        ("fisher", 0.0),
        ("empirical_fisher", 0.0),
    ):
        for plan in (None, Plan("graph", 8, 4, True)):
            units = torch.eye(len(plain.parameters), dtype=plain.dtype)
            found = OPERATORS[name](penalised, plan=plan).matmat(units)
            found -= OPERATORS[name](plain, plan=plan).matmat(units)
            torch.testing.assert_close(found, shift * units, atol=1e-14, rtol=0)
        dense = OPERATORS[name](penalised).to_dense() - OPERATORS[name](plain).to_dense()
        torch.testing.assert_close(dense, shift * units, atol=1e-14, rtol=0)


def test_gauss_newton_is_the_hessian_of_linear_models() -> None:
    x = torch.randn(12, 6)
    for loss, y in (("mse", torch.randn(12, 3)), ("cross_entropy", labels(12))):
        risk = EmpiricalRisk(nn.Linear(6, 3), (x, y), loss, device="cpu")
        close(GaussNewtonOperator(risk).to_dense(), HessianOperator(risk).to_dense())
    # In closed form: mse of f = Wx + b has 2/(N K) Σ x̃x̃ᵀ for every output.
    risk = EmpiricalRisk(nn.Linear(6, 1), (x, torch.randn(12, 1)), "mse", device="cpu")
    extended = torch.cat([x, torch.ones(12, 1)], 1).double()
    close(GaussNewtonOperator(risk).to_dense(), 2 / 12 * extended.T @ extended)


@pytest.mark.parametrize(
    ("loss", "draw"),
    [
        ("cross_entropy", labels),
        ("cross_entropy", lambda n: torch.softmax(torch.randn(n, 3).double(), 1)),
        ("bce", lambda n: torch.rand(n, 3)),
        ("mse", lambda n: torch.randn(n, 3)),
    ],
)
def test_fisher_is_gauss_newton_where_the_theorem_says_so(loss: str, draw: Labels) -> None:
    """Exponential families in their natural parameter (Martens 2020); here from two formulas."""
    risk = perceptron(loss, draw(10))
    close(FisherOperator(risk).to_dense(), gauss_newton(risk))


@pytest.mark.parametrize("loss", ["cross_entropy", "nll", "nll_probabilities"])
def test_fisher_is_the_expectation_over_the_models_labels(loss: str) -> None:
    risk = perceptron(loss, labels(7))
    outputs, j = outputs_of(risk), jacobian(risk)
    p = {
        "cross_entropy": torch.softmax(outputs, 1),
        "nll": outputs.exp(),
        "nll_probabilities": outputs,
    }[loss]
    total = torch.zeros(j.shape[2], j.shape[2], dtype=j.dtype)
    for label in range(3):
        f = outputs.clone().requires_grad_(True)
        value = risk.loss(f, torch.full((7,), label)) * 7
        (scores,) = torch.autograd.grad(value, f)
        gradients = torch.einsum("ic,icn->in", scores, j)
        total += torch.einsum("i,in,im->nm", p[:, label], gradients, gradients) / 7
    close(FisherOperator(risk).to_dense(), total)
    for plan in (Plan("layers", 8, 3, True), Plan("graph", 4, 3, True)):
        products = FisherOperator(risk, plan=plan).matmat(torch.eye(len(total)).double())
        close(products, total)


def test_fisher_by_sampling_of_gaussian_and_bits() -> None:
    """mse is −log p of a Gaussian of variance K/2, and bce the mean over K independent bits."""
    stream = np.random.default_rng(0)
    draws, n_examples, outputs_each = 20_000, 3, 2
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 2), nn.Tanh(), nn.Linear(2, outputs_each))
    x = torch.randn(n_examples, 4)
    for loss in ("mse", "bce"):
        risk = EmpiricalRisk(model, (x, torch.zeros(n_examples, outputs_each)), loss, device="cpu")
        f, j = outputs_of(risk).numpy(), jacobian(risk).numpy()
        if loss == "mse":
            y = f + stream.normal(size=(draws, *f.shape)) * math.sqrt(outputs_each / 2)
            scores = 2 * (f - y) / outputs_each
            scale = 1.0
        else:
            p = 1 / (1 + np.exp(-f))
            scores = p - (stream.random((draws, *f.shape)) < p)
            scale = 1 / outputs_each  # of the mean over K observations
        gradients = np.einsum("dic,icn->din", scores, j)
        samples = scale * np.einsum("din,dim->dnm", gradients, gradients) / n_examples
        fisher = FisherOperator(risk).to_dense().numpy()
        error = samples.std(0, ddof=1) / math.sqrt(draws) + 1e-15
        assert np.abs((samples.mean(0) - fisher) / error).max() < 4.5
        assert np.abs(fisher).max() > 0.05


def test_fisher_of_sequences_has_the_scale_of_the_loss() -> None:
    risk = make("tied embedding")
    assert risk.targets.ndim == 2
    close(FisherOperator(risk).to_dense(), gauss_newton(risk))


@pytest.mark.parametrize("kind", ["linear", "convolution", "attention", "tied embedding", "lstm"])
def test_empirical_fisher_is_the_second_moment_of_the_gradients(kind: str) -> None:
    risk = make(kind, batch_size=4)
    reference = second_moment(risk)
    operator = EmpiricalFisherOperator(risk)
    close(operator.to_dense(), reference)
    by_graph = EmpiricalFisherOperator(risk, plan=Plan("graph", 5, 2, False))
    close(by_graph.matmat(torch.eye(len(reference), dtype=risk.dtype)), reference)
    rank = int(np.sum(np.linalg.eigvalsh(operator.to_dense().numpy()) > 1e-12))
    assert rank <= len(risk)


@pytest.mark.parametrize("loss", ["softmax_mse", "bce"])
def test_empirical_fisher_by_structure(loss: str) -> None:
    risk = perceptron(loss, labels(9))
    reference = second_moment(risk)
    close(EmpiricalFisherOperator(risk).to_dense(), reference)
    units = torch.eye(len(reference), dtype=risk.dtype)
    close(EmpiricalFisherOperator(risk, plan=Plan("layers", 8, 4, True)).matmat(units), reference)


@pytest.mark.parametrize("name", ["gauss_newton", "fisher", "empirical_fisher"])
def test_semidefinite_with_a_measured_noise_floor(name: str) -> None:
    risk = perceptron("cross_entropy", labels(50))
    exact = hs.ExactBackend().solve(OPERATORS[name](risk))
    delta = exact.noise_floor.total
    assert 0 < exact.noise_floor.operator < 1e-14
    assert exact.lambda_min > -delta
    # What is measured is there: the spectrum by other batches stays within it.
    other = OPERATORS[name](risk, plan=Plan("graph", 4, 7, True))
    again = np.linalg.eigvalsh(other.matmat(np.eye(exact.size)))
    assert np.abs(again - exact.eigenvalues).max() < delta
    inertia = exact.inertia()
    assert inertia.negative.upper == 0
    # The input that is always zero and what softmax does not see are exact null directions.
    assert inertia.zero.lower >= 5 + 5
    lanczos = hs.LanczosBackend(steps=40, probes=4).solve(OPERATORS[name](risk))
    assert lanczos.lambda_max == pytest.approx(exact.lambda_max, rel=1e-12)
    trace = lanczos.trace_estimate()
    assert trace.lower <= exact.trace <= trace.upper


def test_the_rest_of_the_hessian_is_what_gauss_newton_leaves_out() -> None:
    """H − G = (1/N) Σ (∂ℓᵢ/∂f_c) ∇²f_c, with the second derivatives of outputs by torch.func."""
    risk = perceptron("cross_entropy", labels(6))
    theta = risk.parameters
    f = outputs_of(risk).requires_grad_(True)
    (slopes,) = torch.autograd.grad(risk.loss(f, risk.targets), f)
    second = torch.func.hessian(risk.term(0, 6).predict)(theta)
    rest = torch.einsum("ic,icnm->nm", slopes, second)
    difference = HessianOperator(risk).to_dense() - GaussNewtonOperator(risk).to_dense()
    close(difference, rest)


def test_operators_elsewhere_than_where_the_model_stands() -> None:
    risk = perceptron("cross_entropy", labels(8))
    elsewhere = risk.parameters + 0.3
    moved = EmpiricalRisk(risk.model_at(elsewhere), risk.data, device="cpu")
    for operator in (GaussNewtonOperator, FisherOperator, EmpiricalFisherOperator):
        close(operator(risk, elsewhere).to_dense(), operator(moved).to_dense())


def test_recomputed_takes_other_batches_and_counts_its_own_products() -> None:
    risk = EmpiricalRisk(nn.Linear(6, 3), (torch.randn(9, 6), torch.randn(9, 3)), "mse")
    operator: ObjectiveOperator = FisherOperator(risk)
    vector = torch.ones(operator.shape[0], dtype=operator.dtype)
    first = operator.matvec(vector)
    other = operator.recomputed()
    assert isinstance(other, FisherOperator)
    assert (other.hvps, other.plan.way, operator.plan.way) == (0, "graph", "layers")
    torch.testing.assert_close(other.matvec(vector), first, rtol=1e-12, atol=1e-15)
    assert (other.hvps, operator.hvps) == (1, 1)


def test_losses_that_are_no_likelihood_are_refused() -> None:
    y = labels(5)
    with pytest.raises(ObjectiveError, match=r"softmax_mse.*gauss_newton"):
        FisherOperator(perceptron("softmax_mse", y))

    def mse(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return (outputs[:, 0] - targets) ** 4

    # Only the name is a likelihood's.
    with pytest.raises(ObjectiveError, match="not known to be one"):
        FisherOperator(perceptron(mse, y))  # type: ignore[arg-type]


def test_a_loss_linear_in_the_outputs_has_a_zero_matrix_and_a_warning() -> None:
    risk = perceptron("nll", labels(5))
    with pytest.warns(AssumptionWarning, match=r"linear.*cross_entropy"):
        operator = GaussNewtonOperator(risk)
    assert float(operator.to_dense().abs().max()) == 0.0
    # What is recommended instead is the usual matrix, that of the logits.
    logits = EmpiricalRisk(risk.model[:-1], risk.data, device="cpu")
    with pytest.warns(AssumptionWarning, match="log-probabilities already"):
        advised = EmpiricalRisk(risk.model, risk.data, "cross_entropy", device="cpu")
    close(GaussNewtonOperator(advised).to_dense(), GaussNewtonOperator(logits).to_dense())


def test_objectives_and_outputs_that_do_not_fit_are_refused() -> None:
    class Pair(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 2)

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return self.layer(x), x

    def loss(outputs: tuple[torch.Tensor, torch.Tensor], y: torch.Tensor) -> torch.Tensor:
        return (outputs[0] - outputs[1][:, :2]).square().mean(1)

    risk = EmpiricalRisk(Pair(), (torch.randn(4, 3), torch.zeros(4)), loss, device="cpu")
    with pytest.raises(ObjectiveError, match="one floating-point tensor"):
        GaussNewtonOperator(risk)
    assert HessianOperator(risk).to_dense().shape == (8, 8)

    class Quadratic:
        parameters, l2, network = torch.zeros(2, dtype=torch.float64), 0.0, None

    with pytest.raises(ObjectiveError, match="Quadratic"):
        GaussNewtonOperator(Quadratic())  # type: ignore[arg-type]


def indices(risk: EmpiricalRisk, names: tuple[str, ...]) -> torch.Tensor:
    slices = risk.layout.slices()
    return torch.cat([torch.arange(slices[n].start, slices[n].stop) for n in names])


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize(
    ("pattern", "chosen"),
    [
        ("0.*", ("0.weight", "0.bias")),
        ("*.weight", ("0.weight", "2.weight", "4.weight")),
        ("0.bias, 4.weight", ("0.bias", "4.weight")),
        (["2.*", "4.bias"], ("2.weight", "2.bias", "4.bias")),
        ("[02].bias", ("0.bias", "2.bias")),
        ("*", ("0.weight", "0.bias", "2.weight", "2.bias", "4.weight", "4.bias")),
    ],
)
def test_restricted_operators_are_diagonal_blocks(
    name: str, pattern: str | list[str], chosen: tuple[str, ...]
) -> None:
    risk = perceptron("cross_entropy", labels(20), l2=0.1)
    elsewhere = risk.parameters + 0.2
    whole = OPERATORS[name](risk, elsewhere)
    block = whole.restricted(pattern)
    assert block.objective.layout.names == chosen  # type: ignore[attr-defined]
    at = indices(risk, chosen)
    expected = whole.to_dense()[at][:, at]
    assert block.shape == expected.shape
    close(block.to_dense(), expected)
    v = torch.randn(len(at), 3, dtype=risk.dtype)
    torch.testing.assert_close(block.matmat(v), expected @ v, rtol=1e-11, atol=1e-13)
    other = block.recomputed()
    assert other is not None
    torch.testing.assert_close(other.matmat(v), expected @ v, rtol=1e-11, atol=1e-13)
    exact = hs.ExactBackend().solve(block)
    np.testing.assert_allclose(exact.eigenvalues, np.linalg.eigvalsh(expected), atol=1e-13)


@pytest.mark.parametrize("kind", ["convolution", "attention", "tied embedding", "lstm"])
def test_blocks_of_other_layers(kind: str) -> None:
    risk = make(kind)
    whole = HessianOperator(risk)
    dense = whole.to_dense()
    partition = Partition.of(risk)
    for number in range(len(partition.names)):
        at = partition.places(number)
        block = whole.restricted(at).to_dense()
        torch.testing.assert_close(block, dense[at][:, at], rtol=1e-11, atol=1e-14)


def test_blocks_of_dense_layers_cost_no_products() -> None:
    whole = HessianOperator(perceptron("cross_entropy", labels(20)))
    for pattern in ("2.*", "*.weight"):
        block = whole.restricted(pattern)
        block.to_dense()
        assert block.hvps == 0
    assert whole.hvps == 0


def test_parameters_that_the_loss_never_sees_have_a_zero_block() -> None:
    class Unused(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.unused = nn.Linear(3, 2), nn.Linear(3, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layer(x)

    risk = EmpiricalRisk(Unused(), (torch.randn(5, 3), torch.randint(0, 2, (5,))), device="cpu")
    for operator in OPERATORS.values():
        block = operator(risk).restricted("unused.*")
        assert float(block.to_dense().abs().max()) == 0.0
        assert float(block.matvec(torch.ones(8, dtype=torch.float64)).abs().max()) == 0.0
    assert float(risk.restricted("unused.*").gradient().abs().max()) == 0.0


def test_restricted_risk() -> None:
    risk = perceptron("cross_entropy", labels(9), l2=0.3)
    part = risk.restricted("2.*")
    at = indices(risk, ("2.weight", "2.bias"))
    torch.testing.assert_close(part.gradient(), risk.gradient()[at])
    torch.testing.assert_close(part.parameters, risk.parameters[at])
    left = risk.parameters.square().sum() - risk.parameters[at].square().sum()
    assert risk.value() - part.value() == pytest.approx(0.15 * float(left))
    moved = part.model_at(part.parameters + 1)
    trainable = [name for name, p in moved.named_parameters() if p.requires_grad]
    assert trainable == ["2.weight", "2.bias"]
    again = EmpiricalRisk(moved, risk.data, "cross_entropy", l2=0.3, device="cpu")
    assert again.value() == pytest.approx(part.value(part.parameters + 1), rel=1e-12)
    with pytest.raises(hs.HessscopeError, match=r"no parameter matches '3\.\*'.*4\.weight"):
        risk.restricted("0.*,3.*")


def test_modules_own_what_their_weights_are_made_of() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Sequential(nn.Linear(3, 2)))
    nn.utils.parametrizations.weight_norm(model[0])
    model.register_parameter("scale", nn.Parameter(torch.ones(1)))
    assert {name: module_of(name) for name, _ in model.named_parameters()} == {
        "scale": "(model)",
        "0.bias": "0",
        "0.parametrizations.weight.original0": "0",
        "0.parametrizations.weight.original1": "0",
        "1.0.weight": "1.0",
        "1.0.bias": "1.0",
    }


@pytest.mark.parametrize(("kind", "last"), [("convolution", "3.*"), ("attention", "head.*")])
def test_blocks_of_the_last_layer_agree(kind: str, last: str) -> None:
    """The outputs are linear in the last layer's parameters, so H, G and F have one block there."""
    risk = make(kind)
    names = [name for name in risk.layout.names if name.startswith(last[:-1])]
    assert names
    blocks = [OPERATORS[n](risk).restricted(last) for n in ("hessian", "gauss_newton", "fisher")]
    reference = blocks[0].to_dense()
    close(blocks[1].to_dense(), reference)
    close(blocks[2].to_dense(), reference)


def test_rectifiers_have_the_trace_and_the_blocks_of_gauss_newton() -> None:
    """Outputs of a ReLU perceptron are piecewise linear in each layer, so ∇²f is off-diagonal."""
    torch.manual_seed(6)
    model = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3))
    risk = EmpiricalRisk(model, (torch.randn(30, 6), labels(30)), l2=0.01, device="cpu")
    hessian, other = HessianOperator(risk), GaussNewtonOperator(risk)
    assert float((hessian.to_dense() - other.to_dense()).abs().max()) > 1e-3
    assert float(hessian.to_dense().trace()) == pytest.approx(float(other.to_dense().trace()))
    for names in ("0.*", "2.*", "4.*"):
        close(hessian.restricted(names).to_dense(), other.restricted(names).to_dense())


# --- operators of other libraries ----------------------------------------------------------------


class ByTorch:
    """What curvlinops has: a shape, torch's dtype and device, and ``@`` of tensors."""

    def __init__(self, matrix: torch.Tensor) -> None:
        self.matrix, self.shape, self.dtype = matrix, tuple(matrix.shape), matrix.dtype
        self.device = matrix.device

    def __matmul__(self, other: torch.Tensor) -> torch.Tensor:
        assert other.dtype == self.dtype
        return self.matrix @ other


class ByNumpy:
    """What SciPy calls a linear operator: a shape and ``matvec``."""

    def __init__(self, matrix: torch.Tensor) -> None:
        self.matrix, self.shape, self.dtype = matrix.numpy(), matrix.shape, np.float64

    def matvec(self, vector: np.ndarray) -> np.ndarray:
        return self.matrix @ vector


@pytest.mark.parametrize("kind", [ByTorch, ByNumpy])
def test_operators_of_other_libraries_go_into_a_backend_as_they_are(kind: type) -> None:
    stream = torch.Generator().manual_seed(0)
    matrix = torch.randn(60, 60, generator=stream, dtype=torch.float64)
    matrix += matrix.T.clone()
    expected = torch.linalg.eigvalsh(matrix).numpy()
    theirs = kind(matrix)
    np.testing.assert_allclose(hs.ExactBackend().solve(theirs).eigenvalues, expected, atol=1e-12)
    density = hs.LanczosBackend(steps=60, probes=1).solve(theirs)
    np.testing.assert_allclose(density.lambda_max, expected[-1], atol=1e-10)
    pairs = hs.EigenvectorBackend(3, "highest").solve(theirs)
    np.testing.assert_allclose(pairs.values, expected[:-4:-1], atol=1e-12)


def test_an_operator_of_float32_and_one_without_products_of_matrices() -> None:
    spectrum = hs.ExactBackend().solve(ByTorch(torch.eye(3)))
    assert spectrum.dtype == "float32"
    with pytest.raises(hs.HessscopeError, match="is not an operator"):
        hs.ExactBackend().solve(object())
