"""Training: updates by hand, noise by its distribution, the same bits, stops and interruptions."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
from torch import nn

import hessscope as hs
from hessscope.errors import NonFiniteError, OptionError, UnknownNameError
from hessscope.loaders.checkpoints.perceptrons import make_perceptron
from hessscope.options.train import INITIALIZATIONS
from hessscope.refinement.points import Point
from hessscope.registry import OPTIMIZERS
from hessscope.training import (
    History,
    NoisySGD,
    Optimizer,
    PerturbedGradientDescent,
    TrainingOptions,
    TrainingResult,
    TrainingState,
    initialize,
    train,
)
from hessscope.training.loop import along_gradient, follow
from hessscope.training.second_order import best_damping, direction_of

FIRST_ORDER = [name for name, method in OPTIMIZERS.items() if not method.second_order]
SECOND_ORDER = [name for name, method in OPTIMIZERS.items() if method.second_order]


def blobs(examples: int = 50) -> hs.Dataset:
    """Three classes in six dimensions."""
    rng = np.random.default_rng(0)
    targets = np.arange(examples) % 3
    inputs = rng.normal(size=(examples, 6)) + targets[:, None]
    return hs.Dataset.from_tensors(inputs.astype(np.float32), targets)


def network() -> nn.Module:
    torch.manual_seed(3)
    return make_perceptron("mlp:6-4-3:tanh")


def flat(model: nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().reshape(-1) for p in model.parameters()])


# --- updates by hand -----------------------------------------------------------------------------


class Quadratic:
    """½(w − c)ᵀA(w − c) + const as the mean squared error of a linear model without bias."""

    def __init__(self) -> None:
        rng = np.random.default_rng(1)
        self.x = rng.normal(size=(40, 3)) * [1.0, 2.0, 0.5]
        self.y = rng.normal(size=(40, 1))
        self.start = rng.normal(size=3)
        self.hessian = 2 * self.x.T @ self.x / 40

    def gradient(self, w: np.ndarray) -> np.ndarray:
        return 2 * self.x.T @ (self.x @ w[:, None] - self.y)[:, 0] / 40

    def trained(self, optimizer: str, epochs: int = 7, **options: Any) -> np.ndarray:
        model = nn.Linear(3, 1, bias=False, dtype=torch.float64)
        with torch.no_grad():
            model.weight.copy_(torch.from_numpy(self.start)[None])
        data = hs.Dataset.from_tensors(self.x, self.y)
        train(
            model, data, optimizer=optimizer, epochs=epochs, batch_size="all", loss="mse",
            dtype="float64", device="cpu", **options,
        )  # fmt: skip
        return model.weight.detach().numpy()[0]


def by_sgd(q: Quadratic, epochs: int, lr: float, mu: float = 0.0, nesterov: bool = False) -> Any:
    w, v = q.start.copy(), np.zeros(3)
    for _ in range(epochs):
        g = q.gradient(w)
        v = mu * v + g
        w = w - lr * (g + mu * v if nesterov else v)
    return w


def by_adam(q: Quadratic, epochs: int, lr: float) -> Any:
    w, m, s = q.start.copy(), np.zeros(3), np.zeros(3)
    for t in range(1, epochs + 1):
        g = q.gradient(w)
        m, s = 0.9 * m + 0.1 * g, 0.999 * s + 0.001 * g**2
        w = w - lr * (m / (1 - 0.9**t)) / (np.sqrt(s / (1 - 0.999**t)) + 1e-8)
    return w


def by_adagrad(q: Quadratic, epochs: int, lr: float) -> Any:
    w, s = q.start.copy(), np.zeros(3)
    for _ in range(epochs):
        g = q.gradient(w)
        s = s + g**2
        w = w - lr * g / (np.sqrt(s) + 1e-10)
    return w


@pytest.mark.parametrize(
    ("optimizer", "by_hand", "options"),
    [
        ("sgd", lambda q: by_sgd(q, 7, 0.03), {"learning_rate": 0.03}),
        ("momentum", lambda q: by_sgd(q, 7, 0.03, 0.8), {"learning_rate": 0.03, "momentum": 0.8}),
        ("nesterov", lambda q: by_sgd(q, 7, 0.03, 0.9, True), {"learning_rate": 0.03}),
        ("adam", lambda q: by_adam(q, 7, 0.02), {"learning_rate": 0.02}),
        ("adagrad", lambda q: by_adagrad(q, 7, 0.1), {"learning_rate": 0.1}),
        ("noisy_sgd", lambda q: by_sgd(q, 7, 0.03), {"learning_rate": 0.03, "noise": 0.0}),
        (
            "perturbed_gd",
            lambda q: by_sgd(q, 7, 0.03),
            {"learning_rate": 0.03, "perturbation_threshold": 0.0},
        ),
    ],
)
def test_first_order_updates(
    optimizer: str, by_hand: Callable[[Quadratic], np.ndarray], options: dict[str, Any]
) -> None:
    q = Quadratic()
    expected = by_hand(q)
    assert np.linalg.norm(expected - q.start) > 0.05
    np.testing.assert_allclose(q.trained(optimizer, **options), expected, rtol=1e-12)


@pytest.mark.parametrize("optimizer", SECOND_ORDER)
def test_second_order_methods_solve_a_convex_quadratic_in_one_step(optimizer: str) -> None:
    q = Quadratic()
    solution = np.linalg.lstsq(q.x, q.y, rcond=None)[0][:, 0]
    found = q.trained(optimizer, epochs=1, damping=(0.0,))
    np.testing.assert_allclose(found, solution, rtol=1e-9)


@pytest.mark.parametrize("optimizer", ["damped_newton", "sfn"])
def test_the_damping_is_the_one_that_lowers_the_loss_most(optimizer: str) -> None:
    """−(H + d)⁻¹g, or −(|H| + d)⁻¹g, at a point with λ < 0."""
    data, model = blobs(), network().double()
    risk = hs.EmpiricalRisk(model, data)
    theta = risk.parameters
    values, vectors = np.linalg.eigh(hs.HessianOperator(risk).to_dense().numpy())
    assert values[0] < -1e-3
    coefficients = vectors.T @ risk.gradient().numpy()
    dampings = (1.0, 0.3, 0.1, 0.03)
    curvature = np.abs(values) if optimizer == "sfn" else values
    steps = [-vectors @ (coefficients / (curvature + d)) for d in dampings]
    losses = [risk.value(theta + torch.from_numpy(step)) for step in steps]
    best = int(np.argmin(losses))
    result = train(model, data, optimizer=optimizer, damping=dampings, epochs=1, device="cpu")
    np.testing.assert_allclose(flat(model), theta.numpy() + steps[best], atol=1e-9)
    (step,) = result.history.steps
    assert step.damping == dampings[best]
    assert step.length == pytest.approx(np.linalg.norm(steps[best]))
    assert step.loss == pytest.approx(risk.value())


def test_where_no_damping_of_the_list_helps_larger_ones_are_tried() -> None:
    """On 2x² − y²/2 near the ridge Newton goes to the saddle, up; only d > 1 goes down."""
    saddle = hs.FunctionObjective(lambda p: 2 * p[0] ** 2 - p[1] ** 2 / 2, [0.01, 1.0])
    start = Point(saddle, saddle.parameters)
    direction = direction_of(TrainingOptions(optimizer="damped_newton"))
    curvature = direction.curvature(start, hs.HessianOperator(saddle), 0 * start.parameters)
    steps = curvature.steps(start.gradient)
    found = best_damping(start, steps, (2e-3, 2e-4))
    assert found is not None
    point, damping = found
    assert damping == pytest.approx(2.0)
    # y ← y − (−y)/(−1 + d) and x ← x − 4x/(4 + d).
    np.testing.assert_allclose(point.parameters, [0.01 * (1 - 4 / 6), 2.0])
    nowhere = Point(saddle, torch.zeros_like(saddle.parameters))
    assert best_damping(nowhere, curvature.steps(nowhere.gradient), (1.0,)) is None


def test_krylov_method_in_the_whole_space_is_the_dense_one() -> None:
    data = blobs()
    weights = []
    for optimizer, options in (("sfn", {}), ("krylov_sfn", {"krylov_dimension": 43})):
        model = network()
        train(model, data, optimizer=optimizer, epochs=1, inner_steps=1, device="cpu", **options)
        weights.append(flat(model))
    np.testing.assert_allclose(weights[1], weights[0], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("optimizer", SECOND_ORDER)
@pytest.mark.parametrize("batch_size", ["all", 20])
def test_second_order_methods_lower_the_loss(optimizer: str, batch_size: int | str) -> None:
    result = train(network(), blobs(), optimizer=optimizer, epochs=4, batch_size=batch_size)
    losses = [epoch.loss for epoch in result.history.epochs]
    assert losses[-1] < 0.9 * losses[0]
    if batch_size == "all":
        assert losses == sorted(losses, reverse=True)
    assert len(result.history.steps) == (4 if batch_size == "all" else 12)


# --- noise ---------------------------------------------------------------------------------------


def drawn_noise(shape: str, n: int, steps: int, amplitude: float) -> np.ndarray:
    """What noisy SGD adds to a gradient of zero, shape (steps, n)."""
    parameter = nn.Parameter(torch.zeros(n, dtype=torch.float64))
    optimizer = NoisySGD([parameter], 0.5, amplitude, shape, torch.Generator().manual_seed(7))
    rows = []
    for _ in range(steps):
        before = parameter.detach().clone()
        parameter.grad = torch.zeros_like(parameter)
        optimizer.step()
        rows.append((before - parameter.detach()).numpy() / 0.5)
    return np.array(rows)


def test_noise_in_the_cube_is_uniform() -> None:
    noise = drawn_noise("cube", 1000, 20, 0.3).ravel()
    assert np.abs(noise).max() <= 0.3
    assert abs(noise.mean()) < 4 * 0.3 / math.sqrt(3 * noise.size)
    # Var(x²) = 4a⁴/45 for x uniform in ±a.
    assert abs((noise**2).mean() - 0.03) < 4 * 0.3**2 * math.sqrt(4 / 45 / noise.size)
    assert scipy.stats.kstest(noise, scipy.stats.uniform(-0.3, 0.6).cdf).pvalue > 1e-3
    following = np.corrcoef(noise[:-1], noise[1:])[0, 1]
    assert abs(following) < 4 / math.sqrt(noise.size)


def test_noise_on_the_sphere_is_uniform() -> None:
    """By Archimedes every coordinate on the sphere in three dimensions is uniform."""
    noise = drawn_noise("sphere", 3, 3000, 2.0)
    np.testing.assert_allclose(np.linalg.norm(noise, axis=1), 2.0, rtol=1e-12)
    for axis in range(3):
        assert scipy.stats.kstest(noise[:, axis], scipy.stats.uniform(-2, 4).cdf).pvalue > 1e-3


def test_perturbed_gradient_descent_jumps_uniformly_in_the_ball() -> None:
    parameter = nn.Parameter(torch.zeros(4, dtype=torch.float64))
    stream = torch.Generator().manual_seed(5)
    optimizer = PerturbedGradientDescent([parameter], 0.1, 0.3, 1e-6, 2, stream)
    jumps, lengths = [], []
    for step in range(3000):
        with torch.no_grad():
            parameter.zero_()

        def closure() -> float:
            parameter.grad = torch.zeros_like(parameter)  # flat: every point is a saddle to it
            return 0.0

        optimizer.step(closure)
        length = float(parameter.detach().norm())
        if length > 0:
            jumps.append(step)
            lengths.append(length)
    # More than two steps have to lie between: every third step.
    assert jumps == list(range(0, 3000, 3))
    assert max(lengths) <= 0.3
    # The volume within s goes as s⁴, so (s/r)⁴ is uniform.
    shares = (np.array(lengths) / 0.3) ** 4
    assert scipy.stats.kstest(shares, "uniform").pvalue > 1e-3


def test_perturbed_gradient_descent_waits_for_a_small_gradient() -> None:
    """At a saddle with gradient 0 plain gradient descent stays; this one leaves."""
    for threshold, leaves in ((1e-3, True), (0.0, True), (-1.0, False)):
        w = nn.Parameter(torch.tensor([0.0, 0.0], dtype=torch.float64))
        stream = torch.Generator().manual_seed(0)
        optimizer = PerturbedGradientDescent([w], 0.1, 1e-3, threshold, 5, stream)
        gradients = []

        def closure(w: nn.Parameter = w, gradients: list[float] = gradients) -> float:
            w.grad = torch.stack([w.detach()[0], -w.detach()[1]])
            gradients.append(float(w.grad.norm()))
            return 0.0

        for _ in range(100):
            optimizer.step(closure)
        assert (abs(float(w.detach()[1])) > 0.1) == leaves
        state = optimizer.state_dict()["param_groups"][0]
        assert state["steps"] == 100
        assert (state["jumps"] > 0) == leaves
        assert len(gradients) == 100 + state["jumps"]
        if threshold == 1e-3:  # the gradient has grown by the time it could jump again and again
            assert state["jumps"] < 15


def test_perturbation_needs_a_closure() -> None:
    parameter = nn.Parameter(torch.zeros(2))
    optimizer = PerturbedGradientDescent([parameter], 0.1, 0.1, 0.1, 1, torch.Generator())
    with pytest.raises(ValueError, match="needs a closure"):
        optimizer.step()


# --- initialisation ------------------------------------------------------------------------------


def filled(name: str, scale: float | None = None) -> nn.Sequential:
    model = nn.Sequential(nn.Linear(300, 200), nn.BatchNorm1d(200), nn.Linear(200, 100))
    initialize(model, name, scale, torch.Generator().manual_seed(0))
    return model


@pytest.mark.parametrize(
    ("name", "deviation", "half_width"),
    [
        ("xavier_uniform", math.sqrt(2 / 500), math.sqrt(6 / 500)),
        ("xavier_normal", math.sqrt(2 / 500), None),
        ("he_uniform", math.sqrt(2 / 300), math.sqrt(6 / 300)),
        ("he_normal", math.sqrt(2 / 300), None),
        ("normal", 0.05, None),
        ("uniform", 0.05 / math.sqrt(3), 0.05),
    ],
)
@pytest.mark.parametrize("scale", [None, 0.2])
def test_initial_weights_have_the_stated_distribution(
    name: str, deviation: float, half_width: float | None, scale: float | None
) -> None:
    factor = 1.0 if scale is None else (scale / 0.05 if name in ("normal", "uniform") else scale)
    weights = filled(name, scale)[0].weight.detach().double().numpy().ravel()
    expected = deviation * factor
    assert weights.std() == pytest.approx(expected, abs=4 * expected / math.sqrt(2 * weights.size))
    if half_width is None:
        assert scipy.stats.kstest(weights, scipy.stats.norm(0, expected).cdf).pvalue > 1e-3
    else:
        width = half_width * factor
        assert np.abs(weights).max() <= width * (1 + 1e-6)
        cdf = scipy.stats.uniform(-width, 2 * width).cdf
        assert scipy.stats.kstest(weights, cdf).pvalue > 1e-3


def test_orthogonal_weights() -> None:
    weight = filled("orthogonal")[0].weight.detach()
    torch.testing.assert_close(weight @ weight.T, torch.eye(200), atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", [name for name in INITIALIZATIONS if name != "default"])
def test_biases_are_zero_and_normalisation_layers_stay(name: str) -> None:
    model = filled(name)
    assert not model[0].bias.any()
    assert not model[2].bias.any()
    assert bool((model[1].weight == 1).all())


def test_default_leaves_the_weights_alone() -> None:
    torch.manual_seed(0)
    model = nn.Linear(5, 2)
    before = copy.deepcopy(model.state_dict())
    initialize(model, "default", None, torch.Generator())
    torch.testing.assert_close(model.state_dict(), before, atol=0, rtol=0)


# --- the same bits -------------------------------------------------------------------------------


def unruly() -> nn.Module:
    """Dropout draws by itself, batch normalisation keeps buffers."""
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 3)
    )


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_same_seed_same_bits_and_other_seeds_and_trials_others(optimizer: str) -> None:
    def weights(seed: int, trial: int) -> torch.Tensor:
        model = network()
        train(
            model, blobs(), optimizer=optimizer, epochs=2, batch_size=16, device="cpu",
            initialization="xavier_normal", seed=seed, trial=trial,
        )  # fmt: skip
        return flat(model)

    first = weights(0, 0)
    assert torch.equal(weights(0, 0), first)
    assert not torch.equal(weights(1, 0), first)
    assert not torch.equal(weights(0, 1), first)


def test_a_users_random_numbers_are_left_alone() -> None:
    model = unruly()
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    train(model, blobs(), epochs=1)
    assert torch.equal(torch.rand(3), expected)


def test_a_users_random_numbers_on_the_gpu_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The seed goes to the generators of all devices, also where training is on the CPU."""
    model, seen = network(), []

    def get(device: int) -> torch.Tensor:
        return torch.tensor([17 + device], dtype=torch.uint8)

    def put_back(state: torch.Tensor, device: int) -> None:
        seen.append(f"{int(state)} put back on {device}")

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_rng_state", get)
    monkeypatch.setattr(torch.cuda, "set_rng_state", put_back)
    monkeypatch.setattr(torch, "manual_seed", lambda _: seen.append("all seeded"))
    train(model, blobs(), epochs=1, device="cpu")
    assert seen == ["all seeded", "17 put back on 0"]


class OnSecondGpu(nn.Linear):
    """Says that its weights are on another device than the current one."""

    def parameters(self, recurse: bool = True) -> Any:
        return iter([SimpleNamespace(device=torch.device("cuda", 1))])


def test_a_state_holds_the_random_numbers_of_the_device_of_the_training(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    generators = {str(torch.device("cuda", i)): torch.full((2,), i) for i in range(3)}

    def put(state: torch.Tensor, device: torch.device) -> None:
        generators[str(device)] = state

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(
        torch.cuda, "get_rng_state", lambda device="cuda:0": generators[str(device)].clone()
    )
    monkeypatch.setattr(torch.cuda, "set_rng_state", put)
    model = OnSecondGpu(2, 1)
    state = TrainingState.of(0, model, {}, {}, History())
    assert state.random["cuda"].tolist() == [1, 1]
    generators["cuda:1"] = torch.full((2,), 9)
    state.restore(model, lambda _: None, {})
    assert {name: int(g[0]) for name, g in generators.items()} == {
        "cuda:0": 0, "cuda:1": 1, "cuda:2": 2,
    }  # fmt: skip
    # What is computed on the CPU draws from no other generator.
    assert "cuda" not in TrainingState.of(0, nn.Linear(2, 1), {}, {}, History()).random


class Phases(nn.Module):
    """A complex buffer, as rotary embeddings have."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(6, 4), nn.Linear(4, 3)
        self.register_buffer("phases", torch.polar(torch.ones(4), torch.arange(4.0)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rotated = self.first(x) * self.phases
        return self.last(rotated.real + rotated.imag**2)


@pytest.mark.parametrize(
    ("dtype", "kept"), [("float32", torch.complex64), ("float64", torch.complex128)]
)
def test_training_keeps_the_imaginary_part_of_buffers(dtype: str, kept: torch.dtype) -> None:
    model = Phases()
    before = model.phases.to(kept)
    result = train(model, blobs(), epochs=1, dtype=dtype, device="cpu")
    assert model.phases.dtype == kept
    assert torch.equal(model.phases, before)
    assert {p.dtype for p in model.parameters()} == {result.risk.dtype}
    data = blobs()
    with torch.no_grad():
        outputs = model(data.inputs.to(result.risk.dtype))
    expected = float(nn.functional.cross_entropy(outputs, data.targets))
    assert result.history.last.loss == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("make", [network, unruly])
def test_going_on_gives_the_bits_of_a_run_without_a_break(
    optimizer: str, make: Callable[[], nn.Module]
) -> None:
    states: list[TrainingState] = []
    options = TrainingOptions(
        optimizer=optimizer, epochs=4, batch_size=16, log_curvature=True,
        perturbation_threshold=1.0, perturbation_interval=3,
    )  # fmt: skip
    whole = make()
    result = train(whole, blobs(), options, watch=states.append, device="cpu")
    assert [state.epoch for state in states] == [0, 1, 2, 3, 4]
    again = make()
    rest = train(again, blobs(), options, state=states[2], device="cpu")
    torch.testing.assert_close(again.state_dict(), whole.state_dict(), atol=0, rtol=0)
    columns = rest.history.arrays()
    for name, column in result.history.arrays().items():
        if name != "seconds":
            np.testing.assert_array_equal(columns[name], column)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_logging_changes_no_bits(optimizer: str) -> None:
    weights = []
    for log in (False, True):
        model = network()
        train(model, blobs(), optimizer=optimizer, epochs=2, log_curvature=log, device="cpu")
        weights.append(flat(model))
    assert torch.equal(*weights)


# --- what is logged ------------------------------------------------------------------------------


def test_loss_and_accuracy_of_an_epoch_are_those_of_the_whole_data() -> None:
    data, test = blobs(50), blobs(20)
    model = unruly()
    result = train(model, data, epochs=2, batch_size=16, l2=0.01, test=test, device="cpu")
    last = result.history.last
    risk = hs.EmpiricalRisk(model, data, l2=0.01, dtype="float32")
    assert last.loss == pytest.approx(risk.value(), rel=1e-6)
    assert last.accuracy == risk.evaluate().accuracy
    held_out = hs.EmpiricalRisk(model, test, dtype="float32").evaluate()
    assert last.test_loss == pytest.approx(held_out.loss, rel=1e-6)
    assert last.test_accuracy == held_out.accuracy
    assert not model.training
    assert last.step == 8


def test_the_penalty_is_part_of_the_gradient() -> None:
    """With the loss constant in w, only l2·w is left: w shrinks by 1 − η·l2 a step."""
    model = nn.Linear(2, 1, bias=False, dtype=torch.float64)
    before = model.weight.detach().clone()
    data = hs.Dataset.from_tensors(np.zeros((4, 2)), np.ones((4, 1)))
    train(
        model, data, optimizer="sgd", learning_rate=0.1, epochs=3, batch_size="all", loss="mse",
        l2=0.5, dtype="float64",
    )  # fmt: skip
    torch.testing.assert_close(model.weight.detach(), before * (1 - 0.05) ** 3)


def test_curvature_along_the_gradient_by_finite_differences() -> None:
    data, model = blobs(), network().double()
    risk = hs.EmpiricalRisk(model, data, l2=0.03)
    theta, h = risk.parameters, 1e-5
    g = risk.gradient()
    change = risk.gradient(theta + h * g) - risk.gradient(theta - h * g)
    expected = float(change @ g) / (2 * h)
    squares, along = along_gradient(risk, theta)
    assert squares == pytest.approx(float(g @ g), rel=1e-12)
    assert along == pytest.approx(expected, rel=1e-7)
    options = TrainingOptions(optimizer="sgd", epochs=1, batch_size="all", log_curvature=True)
    result = train(model, data, options, l2=0.03, dtype="float64", device="cpu")
    epoch, step = result.history.epochs[0], result.history.steps[0]
    assert (epoch.gTg, epoch.gTHg) == (squares, along)
    assert epoch.gradient_norm == pytest.approx(math.sqrt(squares))
    assert step.loss == pytest.approx(risk.value(), rel=1e-12)
    assert (step.gTg, step.gTHg) == pytest.approx((squares, along), rel=1e-10)


@pytest.mark.parametrize("optimizer", ["sgd", "sfn"])
def test_the_log_of_a_step_is_of_its_batch(optimizer: str) -> None:
    data, model = blobs(50), network().double()
    part = hs.Dataset.from_tensors(data.inputs[:20], data.targets[:20])
    squares, along = along_gradient(risk := hs.EmpiricalRisk(model, part), risk.parameters)
    options = TrainingOptions(optimizer=optimizer, epochs=1, batch_size=20, shuffle=False)
    result = train(model, data, options, log_curvature=True, dtype="float64", device="cpu")
    assert len(result.history.steps) == 3
    step = result.history.steps[0]
    assert step.loss == pytest.approx(risk.value(), rel=1e-12)
    assert (step.gTg, step.gTHg) == pytest.approx((squares, along), rel=1e-10)


def test_curvature_of_a_loss_that_is_linear_in_the_weights_is_zero() -> None:
    def mean(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return outputs.mean()

    data = hs.Dataset.from_tensors(np.ones((4, 2)), np.ones((4, 1)))
    options = TrainingOptions(optimizer="sgd", epochs=1, log_curvature=True)
    result = train(nn.Linear(2, 1, bias=False), data, options, loss=mean)
    assert result.history.steps[0].gTHg == 0.0
    assert result.history.last.gTHg == 0.0


def test_history_survives_a_record() -> None:
    result = train(network(), blobs(), epochs=2, log_curvature=True)
    arrays = result.history.arrays()
    assert "test_loss" not in arrays
    assert arrays["epoch"].dtype == np.int64
    assert type(result.history).from_arrays(arrays).arrays().keys() == arrays.keys()
    early = type(result.history).from_arrays(arrays).up_to(1)
    assert (early.last.epoch, len(early.steps)) == (1, 1)


# --- stops ---------------------------------------------------------------------------------------


def test_all_epochs() -> None:
    result = train(network(), blobs(), epochs=3)
    assert (result.status, result.history.last.epoch) == ("max_epochs", 3)


def test_stops_at_the_first_change_below_the_tolerance() -> None:
    options = TrainingOptions(optimizer="sgd", epochs=200)
    free = [epoch.loss for epoch in train(network(), blobs(), options).history.epochs]
    changes = np.abs(np.diff(free))
    tolerance = float(np.sort(changes)[len(changes) // 3])
    expected = int(np.argmax(changes < tolerance)) + 1
    result = train(network(), blobs(), options, stop_tolerance=tolerance)
    assert result.status == "settled"
    assert result.history.last.epoch == expected < 200
    assert [epoch.loss for epoch in result.history.epochs] == free[: expected + 1]


def test_a_loss_that_is_not_finite_ends_it_with_the_last_good_weights() -> None:
    options = TrainingOptions(optimizer="sgd", learning_rate=0.1, epochs=30, batch_size="all")
    model = network()
    good = flat(model)
    states: list[TrainingState] = []
    result = train(model, blobs(), options, learning_rate=1e30, loss="mse", watch=states.append)
    assert result.status == "non_finite"
    assert all(math.isfinite(epoch.loss) for epoch in result.history.epochs)
    assert bool(torch.isfinite(flat(model)).all())
    assert states[-1] is result.state
    assert result.state.epoch == 0
    assert torch.equal(flat(model), good)


def test_a_loss_that_is_not_finite_at_the_start_is_refused() -> None:
    model = network()
    # Units are saturated; squares of the outputs leave float32 in whatever order they are added.
    data = hs.Dataset.from_tensors(np.ones((4, 6), np.float32), np.arange(4) % 3)
    with pytest.raises(NonFiniteError, match="before the first step"):
        train(model, data, loss="mse", initialization="normal", init_scale=1e30)


def test_ctrl_c_leaves_the_weights_of_the_last_epoch() -> None:
    states: list[TrainingState] = []

    def press(stage: str, done: int, total: int) -> None:
        if done == 6:  # in the midst of the second epoch
            raise KeyboardInterrupt

    model = network()
    result = train(
        model, blobs(), epochs=5, batch_size=16, watch=states.append, progress=press, device="cpu"
    )
    assert result.status == "interrupted"
    assert result.state.epoch == 1
    once = network()
    train(once, blobs(), epochs=1, batch_size=16, device="cpu")
    assert torch.equal(flat(model), flat(once))
    # From there it goes on as if nothing had happened.
    train(model, blobs(), epochs=3, batch_size=16, state=result.state, device="cpu")
    train(whole := network(), blobs(), epochs=3, batch_size=16, device="cpu")
    assert torch.equal(flat(model), flat(whole))


def test_second_order_stops_where_no_damping_helps() -> None:
    """At the minimum of a convex quadratic there is nothing to gain."""
    q = Quadratic()
    solution = np.linalg.lstsq(q.x, q.y, rcond=None)[0]
    model = nn.Linear(3, 1, bias=False, dtype=torch.float64)
    with torch.no_grad():
        model.weight.copy_(torch.from_numpy(solution.T))
    data = hs.Dataset.from_tensors(q.x, q.y)
    result = train(model, data, optimizer="sfn", epochs=50, loss="mse", device="cpu")
    assert result.status == "no_decrease"
    assert result.history.last.epoch < 50


# --- autoencoders, options -----------------------------------------------------------------------


def test_the_autoencoder_of_the_2017_paper() -> None:
    data = hs.load_data("digits", subset=200, targets="inputs")
    model = make_perceptron("mlp:64-10-64:sigmoid")
    result = train(model, data, optimizer="krylov_sfn", krylov_dimension=20, epochs=3, loss="mse")
    losses = [epoch.loss for epoch in result.history.epochs]
    assert losses[-1] < 0.8 * losses[0]
    assert math.isnan(result.history.last.accuracy)
    full = make_perceptron("mlp:784-10-784")
    assert sum(p.numel() for p in full.parameters()) == 16_474


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"learning_rate": 0.0}, "`learning_rate=0.0`: give a number above 0"),
        ({"epochs": 0}, "`epochs=0`: give a whole number of at least 1"),
        ({"batch_size": 0}, "`batch_size=0`"),
        ({"batch_size": "some"}, "`batch_size=some`: give a number of examples, or all"),
        ({"momentum": 1.0}, "`momentum=1.0`: give a number below 1"),
        ({"optimizer": "nesterov", "momentum": 0.0}, "use `optimizer=sgd`"),
        ({"stop_tolerance": -1.0}, "`stop_tolerance=-1.0`"),
        ({"damping": ()}, "`damping=()`"),
        ({"damping": (1.0, -1.0)}, "give numbers of at least 0"),
        ({"init_scale": 2.0}, "name the `initialization`"),
        ({"optimizer": "sfn", "learning_rate": 0.1}, "sfn has none"),
        ({"seed": -1}, "`seed=-1`"),
        ({"krylov_dimension": 1}, "`krylov_dimension=1`: give a whole number of at least 2"),
        ({"inner_steps": 0}, "`inner_steps=0`: give a whole number of at least 1"),
    ],
)
def test_options_that_mean_nothing_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(OptionError) as raised:
        TrainingOptions(**options).resolved()
    assert said in str(raised.value)


@pytest.mark.parametrize(
    ("options", "suggestion"),
    [
        ({"optimizer": "adan"}, "adam"),
        ({"initialization": "xavier_nromal"}, "xavier_normal"),
        ({"noise_shape": "cub"}, "cube"),
    ],
)
def test_unknown_names_get_a_suggestion(options: dict[str, Any], suggestion: str) -> None:
    with pytest.raises(UnknownNameError, match=f"Did you mean '{suggestion}'"):
        TrainingOptions(**options).resolved()


def test_names_are_understood_with_dashes() -> None:
    assert TrainingOptions(optimizer="noisy-sgd").optimizer == "noisy_sgd"
    assert TrainingOptions(initialization="he-normal").initialization == "he_normal"


def test_an_optimizer_of_ones_own_is_taken_as_it_is() -> None:
    own = Optimizer("RMSprop", 1e-2, batch_size=16, kind=torch.optim.RMSprop)
    model, by_hand = network(), network()
    result = train(model, blobs(), optimizer=own, epochs=1, shuffle=False, device="cpu")
    rmsprop = torch.optim.RMSprop(by_hand.parameters(), 1e-2)
    data = blobs()
    for start in range(0, 50, 16):
        rmsprop.zero_grad()
        part = slice(start, start + 16)
        nn.functional.cross_entropy(by_hand(data.inputs[part]), data.targets[part]).backward()
        rmsprop.step()
    assert flat(model) == pytest.approx(flat(by_hand), abs=1e-6)
    assert (result.options.batch_size, result.options.learning_rate) == (16, 1e-2)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_options_survive_as_plain_values(optimizer: str) -> None:
    options = TrainingOptions(optimizer=optimizer, initialization="normal", seed=4).resolved()
    plain = options.as_dict()
    assert TrainingOptions(**plain).resolved().as_dict() == plain
    assert ("momentum" in plain) == (optimizer in ("momentum", "nesterov"))
    assert ("damping" in plain) == OPTIMIZERS[optimizer].second_order
    assert ("noise" in plain) == (optimizer == "noisy_sgd")


def test_large_networks_are_refused_the_dense_methods(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hessscope.refinement.directions.memory_room", lambda *_: 10_000)
    with pytest.raises(hs.HessscopeError, match="`optimizer=krylov_sfn`"):
        train(network(), blobs(), optimizer="sfn", epochs=1)


def test_follow_takes_over_buffers() -> None:
    model = unruly()
    risk = hs.EmpiricalRisk(model, blobs(), dtype="float32")
    with torch.no_grad():
        model[1].running_mean.fill_(0.7)
        model[0].bias.fill_(0.1)
    theta = follow(risk, model)
    assert risk.value(theta) == hs.EmpiricalRisk(model, blobs(), dtype="float32").value()


def test_follow_takes_over_frozen_parameters() -> None:
    model = unruly()
    model[0].requires_grad_(False)
    risk = hs.EmpiricalRisk(model, blobs(), dtype="float32")
    with torch.no_grad():
        model[0].weight.mul_(2.0)
    theta = follow(risk, model)
    assert risk.value(theta) == hs.EmpiricalRisk(model, blobs(), dtype="float32").value()


def assert_risks_stand_where_the_model_does(result: TrainingResult) -> None:
    """Gradients at the trained θ, by the buffers of the trained model."""
    assert result.test is not None
    for risk in (result.risk, result.test):
        at_model = hs.EmpiricalRisk(result.model, risk.data, dtype="float32", device="cpu")
        assert torch.equal(risk.gradient(at_model.parameters), at_model.gradient())


def test_going_on_with_a_run_that_is_done_leaves_risks_with_its_buffers() -> None:
    """No epoch is left, and none evaluates them."""
    done = train(unruly(), blobs(), epochs=2, batch_size=16, test=blobs(20), device="cpu")
    assert bool(done.model[1].running_mean.abs().max() > 0.05)
    again = train(
        unruly(), blobs(), epochs=2, batch_size=16, test=blobs(20), state=done.state, device="cpu"
    )
    assert again.status == "max_epochs"
    assert_risks_stand_where_the_model_does(done)
    assert_risks_stand_where_the_model_does(again)


def test_risks_do_not_keep_the_buffers_of_an_epoch_that_diverged() -> None:
    result = train(
        unruly(), blobs(), optimizer="sgd", learning_rate=1e30, loss="mse", batch_size="all",
        epochs=3, test=blobs(20), device="cpu",
    )  # fmt: skip
    assert (result.status, result.state.epoch) == ("non_finite", 0)
    for risk in (result.risk, result.test):
        assert risk is not None
        assert not bool(risk.model[1].running_mean.any())
