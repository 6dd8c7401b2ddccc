"""hs.Watch: its numbers against dense Hessians, its thresholds against runs, and no trace."""

from __future__ import annotations

import copy
import csv
import json
import math
import random
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import brentq
from torch.func import functional_call, hessian
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

import hessscope as hs
from hessscope.errors import NonFiniteError, OptionError, OutputExistsError
from hessscope.operators import MatrixOperator, plan
from hessscope.watching import pace
from hessscope.watching.edges import edge_of
from hessscope.watching.ends import Ends

X, Y = torch.randn(40, 5), torch.randint(3, (40,))


def _network(dtype: torch.dtype = torch.float64) -> torch.nn.Module:
    torch.manual_seed(1)
    layers = (
        torch.nn.Linear(5, 6),
        torch.nn.BatchNorm1d(6),
        torch.nn.Tanh(),
        torch.nn.Dropout(0.2),
        torch.nn.Linear(6, 3),
    )
    return torch.nn.Sequential(*layers).to(dtype)


def _train(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
    dtype = next(model.parameters()).dtype
    optimizer.zero_grad()
    F.cross_entropy(model(X.to(dtype)), Y).backward()
    optimizer.step()


def _dense(model: torch.nn.Module) -> tuple[float, torch.Tensor, torch.Tensor]:
    """Loss, gradient and Hessian in evaluation mode, by plain torch.func in float64."""
    twin = copy.deepcopy(model).double().eval()
    own = {k: p.detach() for k, p in twin.named_parameters()}
    sizes = [p.numel() for p in own.values()]

    def loss(theta: torch.Tensor) -> torch.Tensor:
        parts = zip(own, theta.split(sizes), strict=True)
        state = {k: part.view_as(own[k]) for k, part in parts}
        return F.cross_entropy(functional_call(twin, state, (X.double(),)), Y)

    theta = torch.cat([p.reshape(-1) for p in own.values()]).requires_grad_(True)
    (gradient,) = torch.autograd.grad(loss(theta), theta)
    at = theta.detach()
    return float(loss(at)), gradient, hessian(loss)(at)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_readings_are_those_of_the_dense_hessian(dtype: torch.dtype) -> None:
    model = _network(dtype)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3, momentum=0.5)
    watch = hs.Watch(model, (X, Y), optimizer=optimizer, tolerance=1e-3)
    missed, slack = 0, 1e-9 if dtype == torch.float64 else 1e-5
    for _ in range(6):
        _train(model, optimizer)
        reading = watch.measure()
        loss, g, dense = _dense(model)
        assert reading.inertia is not None
        noise = reading.inertia.noise_floor
        values = torch.linalg.eigvalsh(dense).numpy()
        assert reading.loss == pytest.approx(loss, rel=slack)
        assert reading.gradient_norm == pytest.approx(float(g.norm()), rel=10 * slack)
        curved = float(g @ dense @ g / (g @ g))
        assert reading.gradient_curvature == pytest.approx(curved, abs=noise + slack)
        for end, truth in ((reading.highest, values[-1]), (reading.lowest, values[0])):
            missed += not end.estimate.lower <= truth <= end.estimate.upper
            assert np.abs(values - end.estimate.value).min() <= end.residual
        assert reading.lambda_max <= values[-1] + noise
        assert reading.lambda_max == pytest.approx(values[-1], rel=1e-4)
        truth, index = int((values < -1e-3).sum()), reading.inertia.negative
        assert index.lower <= truth <= index.upper
        narrow = index.upper - index.lower <= len(values) / 10
        assert watch.to_dataframe()["index"].isna().iloc[-1] != narrow
        assert reading.threshold == pytest.approx(2 * 1.5 / 0.3)
        assert reading.stability == pytest.approx(reading.lambda_max / 10)
    assert missed <= 2  # of 12, each with 5 %: more come in 2 % of such runs


def test_few_steps_bound_the_ends_with_the_confidence_stated() -> None:
    """The lower end always holds, the upper one in 95 % of 150 start vectors, less three errors."""
    values = np.concatenate([-np.linspace(0.0, 0.3, 50), np.linspace(0.0, 1.0, 150)])
    operator = MatrixOperator(torch.diag(torch.from_numpy(values)))
    for steps in (4, 9):
        held = 0
        for seed in range(150):
            seen = Ends(steps, 0.95, seed).measure(operator)
            assert seen.highest.estimate.lower <= 1.0 + 1e-12
            assert seen.lowest.estimate.upper >= -0.3 - 1e-12
            held += seen.highest.estimate.upper >= 1.0
            assert seen.highest.estimate.upper < 3.0
        assert held >= 150 * 0.95 - 3 * math.sqrt(150 * 0.95 * 0.05)


def test_bounds_of_densities_hold_with_their_confidence() -> None:
    """With pairs that are locked, and several probes."""
    values = np.concatenate([[-1.0, -0.9], np.linspace(-0.3, 0.3, 150), [2.0, 2.01]])
    missed = np.zeros(2)
    for seed in range(100):
        backend = hs.LanczosBackend(steps=6, probes=2, deflation=10, seed=seed)
        low, high = backend.solve(np.diag(values)).bounds()
        missed += [not low.lower <= -1.0 <= low.upper, not high.lower <= 2.01 <= high.upper]
        assert low.lower > -3.0
        assert high.upper < 5.0
    assert (missed <= 5 + 3 * math.sqrt(100 * 0.05 * 0.95)).all()


def test_last_vectors_make_the_next_point_more_exact() -> None:
    """On a matrix that turns slowly; the same start vectors without them are the reference."""
    stream = np.random.default_rng(0)
    values = np.sort(stream.uniform(-1, 1, 300))
    start, _ = np.linalg.qr(stream.standard_normal((300, 300)))
    turn = stream.standard_normal((300, 300)) * 1e-4
    warm, gaps = Ends(4, 0.95, 0), []
    for point in range(8):
        basis, _ = np.linalg.qr(start + point * turn)
        operator = MatrixOperator(torch.from_numpy((basis * values) @ basis.T))
        cold = Ends(4, 0.95, 0)
        cold._points = point
        pair = [values[-1] - one.measure(operator).highest.estimate.value for one in (warm, cold)]
        gaps.append(pair)
    assert all(-1e-12 <= warm_gap <= cold_gap + 1e-12 for warm_gap, cold_gap in gaps)
    assert gaps[-1][0] < 0.7 * gaps[-1][1]


def test_run_that_fills_the_space_knows_all() -> None:
    values = torch.tensor([-2.0, -0.5, 0.0, 3.0], dtype=torch.float64)
    seen = Ends(20, 0.95, 0).measure(MatrixOperator(torch.diag(values)))
    negative = seen.density.inertia(1e-6).negative
    assert (negative.lower, negative.upper, negative.confidence) == (2, 2, 1.0)
    assert seen.highest.estimate.value == pytest.approx(3.0, abs=1e-12)
    assert seen.highest.estimate.confidence == 1.0


class _Quadratic(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = torch.nn.Parameter(torch.randn(3, dtype=torch.float64))
        self.b = torch.nn.Parameter(torch.randn(4, dtype=torch.float64))

    def loss(self, matrix: torch.Tensor) -> torch.Tensor:
        theta = torch.cat([self.a, self.b])
        return 0.5 * theta @ matrix @ theta


def _sgd(model: _Quadratic, **options: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.1, **options)


def _two(model: _Quadratic) -> torch.optim.Optimizer:
    groups = [
        {"params": [model.a], "lr": 0.1, "momentum": 0.9},
        {"params": [model.b], "lr": 0.4, "momentum": 0.3, "weight_decay": 0.2},
    ]
    return torch.optim.SGD(groups, lr=0.1)


def _adaptive(kind: Any, model: _Quadratic, groups: bool = False, **options: Any) -> Any:
    """With second moments of their own that hardly change, as if long averaged."""
    given: Any = model.parameters()
    if groups:
        own = {"betas": (0.5, 1 - 2**-53), "lr": 0.03, "weight_decay": 0.4}
        given = [{"params": [model.a]}, {"params": [model.b], **own}]
    optimizer = kind(given, lr=0.1, eps=1e-3, **options)
    model.loss(torch.eye(7, dtype=torch.float64)).backward()
    optimizer.step()
    for p in model.parameters():
        state, moment = optimizer.state[p], 10.0 ** torch.linspace(-1, 1, p.numel()).double()
        state["step"] = torch.tensor(1e18)
        for name in ("exp_avg_sq", "max_exp_avg_sq", "square_avg"):
            if name in state:
                state[name] = moment.clone()
    return optimizer


_SLOW = (0.9, 1 - 2**-53)
_OPTIMIZERS = {
    "gradient descent": _sgd,
    "decay": lambda m: _sgd(m, weight_decay=0.5),
    "heavy ball": lambda m: _sgd(m, momentum=0.9),
    "dampening": lambda m: _sgd(m, momentum=0.8, dampening=0.5),
    "nesterov": lambda m: _sgd(m, momentum=0.9, nesterov=True, weight_decay=0.1),
    "groups": _two,
    "adam": lambda m: _adaptive(torch.optim.Adam, m, betas=_SLOW),
    "adam, decay": lambda m: _adaptive(torch.optim.Adam, m, betas=_SLOW, weight_decay=0.3),
    "amsgrad": lambda m: _adaptive(torch.optim.Adam, m, betas=_SLOW, amsgrad=True),
    "adamw": lambda m: _adaptive(torch.optim.AdamW, m, betas=_SLOW, weight_decay=0.7),
    "adamw, groups": lambda m: _adaptive(torch.optim.AdamW, m, True, betas=_SLOW),
    "rmsprop": lambda m: _adaptive(torch.optim.RMSprop, m, alpha=1 - 2**-53, momentum=0.6),
}


@pytest.mark.parametrize("name", _OPTIMIZERS)
def test_optimizers_diverge_just_above_the_threshold(name: str) -> None:
    """And converge just below it, on a quadratic in seven variables whose axes are none of ours."""
    stream = torch.Generator().manual_seed(3)
    root = torch.randn(7, 7, generator=stream, dtype=torch.float64)
    shape = root @ root.T / 7 + 0.1 * torch.eye(7, dtype=torch.float64)

    def excess(scale: float) -> float:
        model = _Quadratic()
        edge = edge_of(
            _OPTIMIZERS[name](model), model.parameters(), torch.float64, torch.device("cpu")
        )
        assert edge.threshold is not None
        hessian = MatrixOperator(scale * shape)
        matrix = (edge.matrix(hessian) or hessian).to_dense()
        return float(torch.linalg.eigvalsh(matrix)[-1]) / edge.threshold - 1

    critical = brentq(excess, 1e-6, 1e6)
    for part, grows in ((0.98, False), (1.02, True)):
        torch.manual_seed(0)
        model = _Quadratic()
        optimizer, lengths = _OPTIMIZERS[name](model), []
        for _ in range(1200):
            optimizer.zero_grad()
            model.loss(part * critical * shape).backward()
            optimizer.step()
            lengths.append(math.hypot(*(float(p.detach().norm()) for p in model.parameters())))
        # What has grown makes the second moments grow, too, which ends it.
        late = max(lengths) / lengths[0] if grows else lengths[0] / max(lengths[-50:])
        assert late > 300, (name, part)


@pytest.mark.parametrize(
    ("make", "threshold", "rule"),
    [
        (lambda p: torch.optim.SGD(p, lr=0.1), 20, "2/η"),
        (lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9), 38, "2(1+β)/η"),
        (
            lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
            2 / 0.1 * 1.9 / 2.8,
            "2(1+β)/((1+2β)η)",
        ),
        (lambda p: torch.optim.Adam(p, lr=0.1), 380, "2(1+β₁)/((1−β₁)η) of λ_max(P⁻¹H)"),
    ],
)
def test_thresholds_are_the_papers(make: Any, threshold: float, rule: str) -> None:
    """arXiv:2103.00065, equation 1 and appendix B; 38/η in arXiv:2207.14484."""
    model = _Quadratic()
    optimizer = make(model.parameters())
    model.loss(torch.eye(7, dtype=torch.float64)).backward()
    optimizer.step()
    edge = edge_of(optimizer, model.parameters(), torch.float64, torch.device("cpu"))
    assert (edge.threshold, edge.rule) == (pytest.approx(threshold), rule)


def test_preconditioned_hessian_of_adam_is_the_dense_one() -> None:
    model = _network()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.1)
    watch = hs.Watch(model, (X, Y), optimizer=optimizer)
    for _ in range(7):
        _train(model, optimizer)
    reading = watch.measure()
    squares = [optimizer.state[p]["exp_avg_sq"].reshape(-1) for p in model.parameters()]
    root = (torch.cat(squares) / (1 - 0.999**7)).sqrt() + 1e-8
    p = (1 - 0.9**7) * root
    _, _, dense = _dense(model)
    matrix = dense / (p.sqrt() * p.sqrt()[:, None]) + 0.1 * 1.9 / 0.1 * torch.eye(len(p))
    top = float(torch.linalg.eigvalsh(matrix)[-1])
    assert reading.preconditioned is not None
    found = reading.preconditioned.estimate
    assert found.lower <= top <= found.upper
    assert found.value == pytest.approx(top, rel=1e-6)
    assert reading.threshold == pytest.approx(38 / 1e-2)
    assert reading.stability == pytest.approx(top / 3800, rel=1e-6)


def test_parameters_that_do_not_move_do_not_count() -> None:
    """A rate of 0, or no group at all: the threshold is of the Hessian's block of the others."""
    model = _network()
    last = [p for name, p in model.named_parameters() if name.startswith("4.")]
    optimizer = torch.optim.SGD(last, lr=0.1)
    _train(model, optimizer)
    reading = hs.Watch(model, (X, Y), optimizer=optimizer).measure()
    size = sum(p.numel() for p in last)
    block = _dense(model)[2][-size:, -size:]
    assert reading.preconditioned is not None
    top = float(torch.linalg.eigvalsh(block)[-1])
    assert reading.preconditioned.estimate.value == pytest.approx(top, rel=1e-6)


def _history(watched: bool, kind: str, where: str = "") -> list[Any]:
    """Train with everything random that there is; give all that training leaves behind."""
    for seed in (torch.manual_seed, np.random.seed, random.seed):
        seed(5)
    model = _network(torch.float32)
    make = {
        "momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
        "adam": lambda p: torch.optim.Adam(p, lr=0.01),
    }[kind]
    optimizer = make(model.parameters())
    loader = DataLoader(TensorDataset(X, Y), batch_size=8, shuffle=True)
    data = DataLoader(TensorDataset(X, Y), batch_size=9) if where == "loader" else (X, Y)
    watch = hs.Watch(model, data, optimizer=optimizer, every=3, share=1) if watched else None
    found: list[Any] = []
    for _ in range(3):
        for x, y in loader:
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            if watch is not None:
                with torch.autocast("cpu"), torch.no_grad():
                    watch.step()
            found += [loss.detach(), random.random(), np.random.random()]  # noqa: NPY002
            found += [p.grad.clone() for p in model.parameters() if p.grad is not None]
    assert watch is None or len(watch.readings) == 6
    assert model.training
    assert all(m.training for m in model.modules())
    assert all(p.requires_grad and p.is_leaf for p in model.parameters())
    flags = (torch.backends.mha.get_fastpath_enabled(), torch.backends.cuda.flash_sdp_enabled())
    found += [*model.state_dict().values(), torch.get_rng_state(), *flags]
    states = (state for state in optimizer.state.values())
    return found + [t for state in states for t in state.values() if isinstance(t, torch.Tensor)]


@pytest.mark.parametrize(
    ("kind", "where"), [("momentum", ""), ("adam", ""), ("momentum", "loader")]
)
def test_no_bit_of_the_training_changes(kind: str, where: str) -> None:
    with_it, without = _history(True, kind, where), _history(False, kind, where)
    assert len(with_it) == len(without)
    for a, b in zip(with_it, without, strict=True):
        assert torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


def test_modes_of_the_caller_do_not_change_a_reading() -> None:
    rows = []
    for context in (torch.enable_grad, torch.no_grad, torch.inference_mode):
        watch = hs.Watch(_network(torch.float32), (X, Y))
        with context(), torch.autocast("cpu"):
            rows.append(watch.measure())
    assert len({(r.loss, r.lambda_max, r.index, r.gradient_curvature) for r in rows}) == 1


class _Clock:
    """Seconds that pass only where a test lets them."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> _Clock:
    made = _Clock()
    monkeypatch.setattr(pace, "perf_counter", made)
    return made


def test_share_of_the_time_is_kept(clock: _Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step takes 1 s, a reading 3 s: 6 s of the 120 s that make 5 %, and so on."""

    def takes_three_seconds(self: Any, reading: Any, optimizer: Any) -> Any:
        clock.now += 3
        return reading

    monkeypatch.setattr(hs.Watch, "_measured", takes_three_seconds)
    watch = hs.Watch(_network(), (X, Y), every=2, share=0.05)
    for _ in range(1000):
        reading = watch.step()
        if reading is not None and len(watch.readings) > 1:
            assert watch.share_used <= 0.05
            assert reading.share == watch.share_used
        clock.now += 1
    steps = [reading.step for reading in watch.readings]
    # The k-th ends at 60k seconds at the earliest, 3 of which are its own and 3(k − 1) the others'.
    expected = [57 * k + (57 * k) % 2 for k in range(2, 18)]
    assert steps[0] == 1
    assert all(0 <= step - 57 * k <= 4 for k, step in enumerate(steps[1:], 2)), (steps, expected)
    assert len(steps) == 1000 // 57


def test_every_step_is_read_where_there_is_time(clock: _Clock) -> None:
    watch = hs.Watch(_network(), (X, Y), every=4, share=0.05)
    found = []
    for _ in range(12):
        clock.now += 1.0
        found.append(watch.step())
    assert [r.step for r in found if r is not None] == [1, 4, 8, 12]
    assert found[11] is watch.readings[-1]
    assert hs.Watch(_network(), (X, Y)).step(700).step == 700  # type: ignore[union-attr]


def test_objective_and_plan_are_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    own_init, own_graph = hs.EmpiricalRisk.__init__, plan._fastest

    def init(self: Any, *values: Any, **named: Any) -> None:
        if values[0] is model:
            made.append("risk")
        own_init(self, *values, **named)

    def fastest(*values: Any) -> int:
        made.append("plan")
        return own_graph(*values)

    model = _network()
    monkeypatch.setattr(hs.EmpiricalRisk, "__init__", init)
    monkeypatch.setattr(plan, "_fastest", fastest)
    watch = hs.Watch(model, (X, Y))
    for _ in range(4):
        watch.measure()
    assert made == ["risk", "plan"]
    assert "_held" not in vars(watch._followed.hessian)  # no graph stays between readings
    model[0].requires_grad_(False)
    assert watch.measure().lambda_max < watch.readings[0].lambda_max
    assert made == ["risk", "plan"] * 2


def test_what_has_no_threshold_says_why() -> None:
    model = _network()
    cases: list[tuple[Any, str]] = [
        (None, "no `optimizer` was given"),
        (torch.optim.RAdam(model.parameters()), "no threshold is known for RAdam"),
        (torch.optim.SGD(model.parameters(), lr=0.0), "the learning rate is 0"),
        (torch.optim.SGD(model.parameters(), lr=0.1, maximize=True), "the optimizer maximises"),
        (torch.optim.Adam(model.parameters()), "no step was taken yet"),
    ]
    watch = hs.Watch(model, (X, Y))
    for optimizer, why in cases:
        reading = watch.measure(optimizer)
        assert reading.threshold is None
        assert reading.rule.startswith(why)
        assert math.isnan(reading.stability)
        assert math.isfinite(reading.lambda_max)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"share": 0}, "`share=0`: give a part of the time"),
        ({"share": 2}, "`share=2`: give a part of the time"),
        ({"every": 0}, "`every=0`: give a whole number of at least 1"),
        ({"confidence": 1.0}, "`confidence=1.0`: give a number between 0 and 1"),
        ({"file": "run.txt"}, "give a name that ends in .csv or .jsonl"),
        ({"model": "model.pt"}, "`model` is a str: give a torch module"),
    ],
)
def test_options_that_mean_nothing_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        hs.Watch(**{"model": _network(), "data": (X, Y), **options})


def test_optimizer_of_another_model_is_refused() -> None:
    optimizer = torch.optim.SGD(_network().parameters(), lr=0.1)
    with pytest.raises(OptionError, match="trains 6 tensors, 0 of them in the watched `model`"):
        hs.Watch(_network(), (X, Y), optimizer=optimizer).measure()


def test_training_that_diverges_goes_on_with_a_note() -> None:
    model = _network()
    watch = hs.Watch(model, (X, Y))
    watch.measure()
    with torch.no_grad():
        model[0].weight.fill_(math.nan)
    reading = watch.measure()
    assert "not finite" in reading.note
    assert math.isnan(reading.lambda_max)
    assert reading.index is None
    with pytest.raises(NonFiniteError):
        hs.Watch(model, (X, Y)).measure()


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_readings_are_written_at_once(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"run{suffix}"
    watch = hs.Watch(_network(), (X, Y), file=path)
    watch.measure()
    watch.measure()
    text = path.read_text("utf-8")
    rows: list[Any] = (
        list(csv.DictReader(text.splitlines()))
        if suffix == ".csv"
        else [json.loads(line) for line in text.splitlines()]
    )
    table = watch.to_dataframe()
    assert len(rows) == len(table) == 2
    assert list(rows[0]) == list(table.columns)
    assert [float(r["lambda_max"]) for r in rows] == table.lambda_max.tolist()
    assert rows[0]["threshold"] in (None, "")
    with pytest.raises(OutputExistsError):
        hs.Watch(_network(), (X, Y), file=path)


def test_text_has_what_was_seen() -> None:
    model = _network()
    watch = hs.Watch(model, (X, Y), optimizer=torch.optim.SGD(model.parameters(), lr=0.1))
    reading = watch.measure()
    assert repr(watch).startswith("Watch of Sequential: 1 readings, ")
    assert reading.inertia is not None
    index = reading.inertia.summary()["index"]
    assert f"threshold 20, λ min {reading.lowest.estimate}, index {index} at" in repr(watch)


def _trained_by_transformers(folder: Path, watched: bool) -> tuple[Any, Any]:
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    config = transformers.BertConfig(
        vocab_size=30, hidden_size=8, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=8, max_position_embeddings=8, num_labels=3,
    )  # fmt: skip
    torch.manual_seed(0)
    model = transformers.BertForSequenceClassification(config)
    ids, labels = torch.randint(1, 30, (16, 6)), torch.randint(3, (16,))
    examples = [{"input_ids": i, "labels": y} for i, y in zip(ids, labels, strict=True)]
    arguments = transformers.TrainingArguments(
        str(folder), max_steps=6, per_device_train_batch_size=4, report_to=[], use_cpu=True,
        logging_strategy="no", save_strategy="no", disable_tqdm=True, learning_rate=1e-2,
    )  # fmt: skip
    trainer = transformers.Trainer(model, arguments, train_dataset=examples)
    if watched:
        watch = hs.Watch(model, ({"input_ids": ids}, labels), every=3, share=1)
        trainer.add_callback(watch.trainer_callback(trainer))
    trainer.train()
    return trainer, model


def test_trainer_of_transformers_logs_readings(tmp_path: Path) -> None:
    trainer, model = _trained_by_transformers(tmp_path / "a", True)
    rows = [row for row in trainer.state.log_history if "hessscope/lambda_max" in row]
    assert [row["step"] for row in rows] == [1, 3, 6]
    # Rates fall along a line from 0.01 to 0; the default optimiser is AdamW with β₁ = 0.9.
    for row in rows:
        rate = row["hessscope/learning_rate"]
        assert row["hessscope/threshold"] == pytest.approx(38 / rate) if rate else True
    assert rows[0]["hessscope/preconditioned_lambda_max"] > 0
    assert rows[0]["hessscope/lambda_max"] > 0
    _, other = _trained_by_transformers(tmp_path / "b", False)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name]), name


def _trained_by_lightning(folder: Path, watched: bool) -> tuple[Any, Any]:
    lightning = pytest.importorskip("lightning.pytorch")

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.inner = _network(torch.float32)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.inner(x)

        def training_step(self, batch: Any, number: int) -> torch.Tensor:
            return F.cross_entropy(self(batch[0]), batch[1])

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)

    lightning.seed_everything(0, verbose=False)
    module = Module()
    logger = lightning.loggers.CSVLogger(str(folder), name="")
    watch = hs.Watch(module, (X, Y), every=4, share=1)
    trainer = lightning.Trainer(
        max_epochs=2, accelerator="cpu", logger=logger, enable_progress_bar=False,
        enable_model_summary=False, enable_checkpointing=False,
        callbacks=[watch.lightning_callback()] if watched else [],
    )  # fmt: skip
    trainer.fit(module, DataLoader(TensorDataset(X, Y), batch_size=8, shuffle=True))
    return trainer, module


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_trainer_of_lightning_logs_readings(tmp_path: Path) -> None:
    trainer, module = _trained_by_lightning(tmp_path / "a", True)
    (path,) = (tmp_path / "a").rglob("metrics.csv")
    rows = list(csv.DictReader(path.read_text().splitlines()))
    assert [int(row["step"]) for row in rows] == [1, 4, 8]
    assert all(float(row["hessscope/threshold"]) == pytest.approx(38) for row in rows)
    last = float(trainer.callback_metrics["hessscope/lambda_max"])
    assert last == pytest.approx(float(rows[-1]["hessscope/lambda_max"]), rel=1e-6)
    _, other = _trained_by_lightning(tmp_path / "b", False)
    for name, tensor in module.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name]), name


def test_without_the_packages_the_message_names_them(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("transformers", "lightning.pytorch", "pytorch_lightning"):
        monkeypatch.setitem(sys.modules, name, None)
    watch = hs.Watch(_network(), (X, Y))
    with pytest.raises(OptionError, match=r"pip install 'hessscope\[hf\]'"):
        watch.trainer_callback(None)
    with pytest.raises(OptionError, match=r"pip install 'hessscope\[lightning\]'"):
        watch.lightning_callback()
