"""Products from gradients alone: right within what they state, and refused where they cannot be."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import hessscope as hs
from cli_runs import Run
from hessscope.backends.measured_noise import operator_noise
from hessscope.errors import AssumptionWarning, HessscopeWarning, ObjectiveError, OptionError
from hessscope.operators.finite_differences import _FOLDED, _folded
from hessscope.operators.rounding import check_products
from studies import finite_differences


class OnceTanh(torch.autograd.Function):
    """tanh, with a derivative that torch cannot differentiate."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        y = torch.tanh(x)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, slope: torch.Tensor) -> torch.Tensor:
        (y,) = ctx.saved_tensors
        return slope * (1 - y * y)


class Activation(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x)


def problem(function: Any, seed: int, examples: int = 40) -> tuple[nn.Module, Any]:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(5, 6), Activation(function), nn.Linear(6, 3))
    return model, (torch.randn(examples, 5), torch.randint(3, (examples,)))


def dense(model: nn.Module, data: Any, function: Any) -> torch.Tensor:
    """The Hessian by torch.func in float64, with another activation in place of the model's."""
    parameters = {name: p.detach().double() for name, p in model.named_parameters()}
    sizes = [p.numel() for p in parameters.values()]

    def loss(theta: torch.Tensor) -> torch.Tensor:
        parts = zip(parameters.values(), theta.split(sizes), strict=True)
        w, b, v, c = (part.view(p.shape) for p, part in parts)
        outputs = function(data[0].double() @ w.T + b) @ v.T + c
        return nn.functional.cross_entropy(outputs, data[1])

    return torch.func.hessian(loss)(torch.cat([p.flatten() for p in parameters.values()]))


# --- closed forms --------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_quadratic_is_right_to_rounding(dtype: str) -> None:
    stream = torch.Generator().manual_seed(0)
    root = torch.randn(9, 6, generator=stream, dtype=torch.float64)
    matrix = root @ root.T - torch.eye(9, dtype=torch.float64)
    narrow = matrix.to(getattr(torch, dtype))
    start = torch.randn(9, generator=stream)
    objective = hs.FunctionObjective(lambda x: 0.5 * x @ narrow @ x, start, dtype=dtype)
    hessian = hs.FiniteDifferenceHessian(objective)
    spectrum = hs.ExactBackend().solve(hessian)
    truth = np.linalg.eigvalsh(matrix.numpy())
    error = np.abs(spectrum.eigenvalues - truth).max()
    assert error <= spectrum.noise_floor.total
    # The longer the step the better, as there is no bias.
    assert hessian.step > torch.finfo(narrow.dtype).eps ** (1 / 3)
    assert spectrum.noise_floor.total < torch.finfo(narrow.dtype).eps ** (2 / 3) * truth.max()


def test_the_bias_of_a_quartic_is_measured() -> None:
    """Of Σ x⁴/12 the quotient along e_i is x_i² + h²/3, so the bias is h²/3 whatever x is."""
    objective = hs.FunctionObjective(lambda x: (x**4).sum() / 12, [1.0, 2.0, -0.5])
    hessian = hs.FiniteDifferenceHessian(objective)
    found = hessian._stepped(0.3).to_dense()
    assert torch.allclose(found, torch.diag(torch.tensor([1.0, 4.0, 0.25]) + 0.03).double())
    values = hs.ExactBackend().solve(hessian)
    error = np.abs(values.eigenvalues - [0.25, 1.0, 4.0]).max()
    assert error <= values.noise_floor.total < 1e-7


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_the_step_suits_the_scale(scale: float) -> None:
    objective = hs.FunctionObjective(lambda x: torch.cos(x / scale).sum(), [0.3 * scale] * 4)
    spectrum = hs.ExactBackend().solve(hs.FiniteDifferenceHessian(objective))
    truth = -np.cos(0.3) / scale**2
    assert spectrum.noise_floor.total < 1e-5 * abs(truth)
    assert np.abs(spectrum.eigenvalues - truth).max() <= spectrum.noise_floor.total


def test_a_plan_of_exact_products_takes_no_second_derivatives() -> None:
    model, data = problem(OnceTanh.apply, 0)
    plan = hs.Plan("layers", 4, 15, held=True)
    hessian = hs.FiniteDifferenceHessian(model, data, loss="cross_entropy", plan=plan)
    with pytest.warns(AssumptionWarning):
        found = hessian.to_dense()
    assert (hessian.plan.way, hessian.plan.batch_size) == ("finite_difference", 15)
    assert torch.allclose(found, dense(model, data, torch.tanh), atol=1e-7)


def test_a_penalty_and_vectors_of_any_length() -> None:
    model, data = problem(torch.tanh, 0)
    hessian = hs.FiniteDifferenceHessian(model, data, loss="cross_entropy", l2=0.25)
    v = torch.randn(hessian.shape[0], generator=torch.Generator().manual_seed(1)).double()
    once, more = hessian @ v, hessian @ torch.stack([1e6 * v, 0 * v], dim=1)
    assert torch.allclose(more[:, 0], 1e6 * once, rtol=1e-6)
    assert not more[:, 1].any()
    truth = dense(model, data, torch.tanh) @ v + 0.25 * v
    assert torch.allclose(once, truth, atol=1e-7)


def test_folding_keeps_norms() -> None:
    """The signs are random, so the squared norm has a relative error of (2/m)^½."""
    vectors = torch.randn(20, 300_001, generator=torch.Generator().manual_seed(0))
    vectors[:10] *= torch.linspace(0, 1, vectors.shape[1])
    norms = torch.stack([_folded(v).norm() / v.norm() for v in vectors])
    assert _folded(vectors[0]).shape == (_FOLDED,)
    assert (norms - 1).abs().max() < 4 * (2 / _FOLDED) ** 0.5 / 2


# --- kernels without a second derivative ---------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("seed", range(4))
def test_products_are_within_the_floor(dtype: str, seed: int) -> None:
    model, data = problem(OnceTanh.apply, seed)
    hessian = hs.FiniteDifferenceHessian(model, data, loss="cross_entropy", dtype=dtype)
    with pytest.warns(AssumptionWarning, match="OnceTanh"):
        delta, products = operator_noise(hessian)
    assert products >= 20
    truth = dense(model, data, torch.tanh)
    stream = torch.Generator().manual_seed(seed)
    vectors = torch.randn(len(truth), 8, generator=stream, dtype=torch.float64)
    vectors /= torch.linalg.vector_norm(vectors, dim=0)
    errors = torch.linalg.vector_norm((hessian @ vectors).double() - truth @ vectors, dim=0)
    assert 0 < errors.max() <= delta
    assert delta < (1e-6 if dtype == "float64" else 1e-2) * torch.linalg.matrix_norm(truth, 2)


@pytest.mark.filterwarnings("ignore::hessscope.errors.HessscopeWarning")
@pytest.mark.parametrize("backend", [hs.ExactBackend(), hs.LanczosBackend(steps=57, probes=2)])
def test_counts_hold(backend: Any) -> None:
    model, data = problem(OnceTanh.apply, 7)
    hessian = hs.FiniteDifferenceHessian(model, data, loss="cross_entropy")
    result = backend.solve(hessian)
    inertia, truth = result.inertia(), torch.linalg.eigvalsh(dense(model, data, torch.tanh))
    index = int((truth < -inertia.tolerance).sum())
    assert inertia.negative.lower <= index <= inertia.negative.upper
    assert abs(result.lambda_max - float(truth[-1])) <= result.noise_floor.total + 1e-12
    assert result.options["products"]["step"] == hessian.step


class FlashAttention(nn.Module):
    """Attention by torch's fused kernel, which has no second derivative, or in plain operations."""

    def __init__(self, *, fused: bool) -> None:
        super().__init__()
        self.embedding, self.mixed = nn.Embedding(7, 4), nn.Linear(4, 12)
        self.head, self.fused = nn.Linear(4, 3), fused

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.embedding(tokens)
        q, k, v = (part[:, None] for part in self.mixed(x).chunk(3, dim=-1))
        if self.fused:
            mixed = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, k, v)[0]
        else:
            mixed = torch.softmax(q @ k.transpose(-1, -2) / 2.0, dim=-1) @ v
        return self.head((x + mixed[:, 0]).mean(1))


@pytest.mark.slow
def test_a_subset_of_the_study() -> None:
    rows = finite_differences.run(2)
    assert (rows.held == 3).mean() >= 0.93
    assert rows.error.max() <= 1.0
    assert rows.width.median() < 0.1


def test_the_message_names_the_way_for_a_fused_kernel() -> None:
    fused, plain = FlashAttention(fused=True), FlashAttention(fused=False)
    plain.load_state_dict(fused.state_dict())
    data = torch.randint(7, (12, 5)), torch.randint(3, (12,))
    with pytest.raises(ObjectiveError, match="`products=finite_difference` takes gradients alone"):
        hs.HessianOperator(fused, data, loss="cross_entropy").to_dense()
    hessian = hs.FiniteDifferenceHessian(fused, data, loss="cross_entropy", dtype="float32")
    spectrum = hs.ExactBackend().solve(hessian)
    truth = hs.HessianOperator(plain, data, loss="cross_entropy").to_dense()
    error = np.abs(spectrum.eigenvalues - torch.linalg.eigvalsh(truth).numpy()).max()
    assert error <= spectrum.noise_floor.total < 1e-3 * truth.abs().max()


def test_the_warning_names_the_way() -> None:
    hessian = hs.HessianOperator(*problem(OnceTanh.apply, 0), loss="cross_entropy")
    with pytest.warns(HessscopeWarning, match="`products=finite_difference` takes none"):
        check_products(hessian)


# --- kinks ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_steps_are_shortened_at_kinks(dtype: str) -> None:
    model, data = problem(torch.relu, 3)
    hessian = hs.FiniteDifferenceHessian(model, data, loss="cross_entropy", dtype=dtype)
    spectrum = hs.ExactBackend().solve(hessian)
    assert hessian.differences.kinks
    truth = torch.linalg.eigvalsh(dense(model, data, torch.relu)).numpy()
    assert np.abs(spectrum.eigenvalues - truth).max() <= spectrum.noise_floor.total
    assert spectrum.noise_floor.total < (1e-5 if dtype == "float64" else 0.1) * truth.max()


def test_a_kink_at_the_point_is_refused() -> None:
    objective = hs.FunctionObjective(lambda x: (x * x + x.abs()).sum(), [0.0, 1.0])
    with pytest.raises(ObjectiveError, match=r"kinks within .*: take `products=exact`$"):
        hs.FiniteDifferenceHessian(objective).to_dense()


@pytest.mark.filterwarnings("ignore::hessscope.errors.PrecisionWarning")
@pytest.mark.parametrize(
    ("function", "curvature"),
    [
        (lambda x: -torch.log(x).sum(), 1e12),  # long steps are beyond the pole
        (lambda x: (x * x.sqrt()).sum(), 0.75e3),  # or have no gradient
        (lambda x: (x * x).sum() + 1e-9 * torch.cos(2e6 * x).sum(), 2 - 4e3 * np.cos(2.0)),
    ],
)
def test_long_steps_that_see_something_else(function: Any, curvature: float) -> None:
    objective = hs.FunctionObjective(function, [1e-6])
    spectrum = hs.ExactBackend().solve(hs.FiniteDifferenceHessian(objective))
    assert spectrum.noise_floor.total >= abs(spectrum.lambda_max - curvature)
    assert spectrum.lambda_max == pytest.approx(curvature, rel=1e-3)


# --- bfloat16 ------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::hessscope.errors.PrecisionWarning")
def test_weights_in_bfloat16_are_cast_up(tmp_path: Path) -> None:
    model, data = problem(torch.tanh, 5)
    narrow = {name: tensor.bfloat16() for name, tensor in model.state_dict().items()}
    torch.save({k.replace("2.", "1."): v for k, v in narrow.items()}, tmp_path / "narrow.pt")
    report = hs.spectrum(
        tmp_path / "narrow.pt", data, model="mlp:5-6-3:tanh", dtype="float32", device="cpu",
        products="finite_difference", loss="cross_entropy",
    )  # fmt: skip
    model.load_state_dict(narrow)
    truth = torch.linalg.eigvalsh(dense(model, data, torch.tanh)).numpy()
    assert np.abs(report.eigenvalues - truth).max() <= report.result.noise_floor.total
    tau, index = report.inertia.tolerance, report.index
    assert index.lower <= int((truth < -tau).sum()) <= index.upper


@pytest.mark.parametrize("backend", ["exact", "lanczos"])
@pytest.mark.parametrize("function", [torch.tanh, nn.functional.gelu])
@pytest.mark.parametrize("seed", [1, 2])
def test_arithmetic_in_bfloat16_gives_extremes(backend: str, function: Any, seed: int) -> None:
    model, data = problem(function, seed)
    report = hs.spectrum(model, data, dtype="bfloat16", backend=backend, steps=40, device="cpu")
    truth, delta = torch.linalg.eigvalsh(dense(model, data, function)), report.result.noise_floor
    gaps = report.lambda_min - float(truth[0]), report.lambda_max - float(truth[-1])
    assert 1e-5 < max(map(abs, gaps)) <= delta.total  # float32 would be closer
    assert delta.total < float(truth[-1])
    assert report.index is None
    assert report.as_dict()["noise_floor"] == delta.total
    assert report.result.dtype == report.as_dict()["dtype"] == "bfloat16"
    assert report.classification.startswith("not classified")
    with pytest.raises(OptionError, match="and so no counts: take `dtype=float32`"):
        report.result.inertia()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"by_layer": True}, "leaves no counts: leave out `by_layer`"),
        ({"target_width": 0.1}, "leaves no counts: leave out `target_width`"),
        ({"backend": "pyhessian"}, "measures no noise floor"),
        ({"products": "finite_difference"}, "the same in bfloat16: take `dtype=float32`"),
    ],
)
def test_what_needs_more_digits_is_refused(data: Any, options: dict[str, Any], words: str) -> None:
    with pytest.raises(OptionError, match=words):
        hs.spectrum(problem(torch.tanh, 0)[0], data, dtype="bfloat16", **options)


def test_searches_take_no_bfloat16(data: Any) -> None:
    with pytest.raises(OptionError, match="Known: float64, float32"):
        hs.refine_checkpoint(problem(torch.tanh, 0)[0], data, dtype="bfloat16")


# --- options -------------------------------------------------------------------------------------


@pytest.fixture
def data() -> tuple[torch.Tensor, torch.Tensor]:
    return problem(torch.tanh, 0)[1]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"operator": "gauss_newton"}, "the gauss_newton matrix is another one"),
        ({"operator": "fisher"}, "the fisher matrix is another one"),
        ({"explain": True}, "`explain` looks for causes by second derivatives"),
        ({"compile": "always"}, "`compile=always` is for exact products"),
        ({"backend": "pyhessian"}, "makes products of its own"),
    ],
)
def test_what_takes_second_derivatives_is_refused(
    data: Any, options: dict[str, Any], words: str
) -> None:
    model, _ = problem(torch.tanh, 0)
    with pytest.raises(OptionError, match=words):
        hs.spectrum(model, data, products="finite-difference", **options)


def test_a_search_ends_without_a_certificate() -> None:
    objective = hs.FunctionObjective(
        lambda x: (x[0] ** 2 - 1) ** 2 + 2 * x[1] ** 2 - x[1], [1.2, 0.1]
    )
    point = hs.refine(objective, products="finite_difference")
    assert point.status == "converged"
    assert np.allclose(point.parameters, [1.0, 0.25], atol=1e-6)
    assert not point.certificate.certified
    assert "differences of gradients" in point.certificate.reason
    assert hs.refine(objective).certificate.certified


@pytest.mark.filterwarnings("ignore::hessscope.errors.HessscopeWarning")
def test_the_record_says_how(run: Run, work: Path) -> None:
    words = ("model.pt", "--data", "data.npz", "--activation", "tanh", "--device", "cpu")
    done = run("spectrum", *words, "--products", "finite-difference", "--out", "one.h5")
    assert "differences of gradients" in done.out
    assert "step " in done.out
    facts = hs.load_record("one.h5").attributes
    assert facts["products"]["way"] == "finite_difference"
    assert 0 < facts["products"]["step"] < 1e-2
    assert facts["plan"]["way"] == "finite_difference"
    again = hs.spectrum(
        "model.pt", "data.npz", activation="tanh", products="finite_difference", plan="one.h5"
    )
    assert np.array_equal(again.eigenvalues, hs.load_record("one.h5").arrays["eigenvalues"])
    refused = run("spectrum", *words, "--plan", "one.h5", "--out", "two.h5")
    assert refused.code == 1
    assert "products by finite_difference: give --products as they were" in refused.err


def test_layers_and_series(data: Any) -> None:
    model, _ = problem(torch.tanh, 0)
    report = hs.spectrum(model, data, products="finite_difference", by_layer=True)
    exact = hs.spectrum(model, data, by_layer=True)
    for found, true in zip(report.layers, exact.layers, strict=True):
        assert np.allclose(found.result.eigenvalues, true.result.eigenvalues, atol=1e-7)
        assert found.as_dict()["products"]["way"] == "finite_difference"


def test_a_section_along_eigenvectors(data: Any) -> None:
    model, _ = problem(torch.tanh, 0)
    given = {"along": "highest", "resolution": 3, "dtype": "float64", "device": "cpu"}
    found = hs.section(model, data, products="finite_difference", **given)
    exact = hs.section(model, data, **given)
    assert found.eigenpairs[0].values[0] == pytest.approx(exact.eigenpairs[0].values[0], rel=1e-7)
