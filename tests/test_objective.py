"""The mean loss over a data set: weights of examples, refusals, warnings."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys
import warnings
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from hessscope import Dataset, EmpiricalRisk, FunctionObjective
from hessscope.errors import (
    AssumptionWarning,
    NonDeterministicError,
    NonFiniteError,
    ObjectiveError,
    OptionError,
    PrecisionWarning,
    UnknownNameError,
)
from hessscope.objective import kernels
from hessscope.refinement.points import Point
from hessscope.refinement.search import first_state

LINEAR = nn.Linear(3, 4)
X, Y = torch.randn(7, 3), torch.arange(7) % 4


def risk(model: nn.Module = LINEAR, data: Any = (X, Y), **options: Any) -> EmpiricalRisk:
    return EmpiricalRisk(model, data, device="cpu", **options)


def outputs(model: nn.Module, x: torch.Tensor = X) -> torch.Tensor:
    return model.double()(x.double()).detach()


def test_value_is_the_mean_over_examples_whatever_the_batches() -> None:
    torch.manual_seed(0)
    model = nn.Linear(3, 4)
    expected = float(F.cross_entropy(outputs(model), Y))
    for size in (1, 2, 3, 7, 100):
        assert risk(model, batch_size=size).value() == pytest.approx(expected, rel=1e-13)


def test_loss_and_gradient_come_with_one_pass_whatever_the_batches() -> None:
    passes = 0

    class Counted(nn.Linear):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            nonlocal passes
            passes += 1
            return super().forward(inputs)

    for size, batches in ((2, 4), (7, 1)):
        found = risk(Counted(3, 4), l2=0.3, batch_size=size)
        passes = 0
        value, gradient = found.value_and_gradient()
        assert passes == batches
        theta = found.parameters.requires_grad_(True)
        weight, bias = theta[:12].view(4, 3), theta[12:]
        loss = F.cross_entropy(X.double() @ weight.T + bias, Y) + 0.15 * theta @ theta
        assert value == pytest.approx(float(loss), rel=1e-13)
        torch.testing.assert_close(gradient, torch.autograd.grad(loss, theta)[0])
        passes = 0
        point = Point(found, found.parameters)
        assert point.gradient_norm > 0
        assert point.loss == pytest.approx(value, rel=1e-15)
        assert passes == batches


@pytest.mark.parametrize("loss", ["mse", "softmax_mse"])
def test_squared_errors_take_labels_as_one_hot(loss: str) -> None:
    out = outputs(LINEAR)
    out = out.softmax(1) if loss == "softmax_mse" else out
    squares = [(float(out[i, k]) - float(Y[i] == k)) ** 2 for i in range(7) for k in range(4)]
    assert risk(loss=loss).value() == pytest.approx(sum(squares) / 28, rel=1e-13)


def test_bce_and_its_accuracy() -> None:
    targets = torch.tensor([0.0, 1, 1, 0, 1, 0, 1])
    model = nn.Sequential(nn.Linear(3, 1), nn.Flatten(0))
    out = outputs(model)
    expected = -sum(
        math.log(1 / (1 + math.exp(-z if t else z)))
        for z, t in zip(out.tolist(), targets.tolist(), strict=True)
    )
    found = risk(model, (X, targets), loss="bce")
    assert found.value() == pytest.approx(expected / 7, rel=1e-12)
    right = sum((z > 0) == (t == 1) for z, t in zip(out.tolist(), targets.tolist(), strict=True))
    assert found.evaluate().accuracy == pytest.approx(right / 7)


def test_nll_of_log_probabilities_equals_cross_entropy() -> None:
    torch.manual_seed(1)
    body = nn.Linear(3, 4)
    plain = risk(body)
    logged = risk(nn.Sequential(body, nn.LogSoftmax(1)), loss="nll")
    probable = risk(nn.Sequential(body, nn.Softmax(1)), loss="nll_probabilities")
    assert logged.value() == pytest.approx(plain.value(), rel=1e-12)
    assert probable.value() == pytest.approx(plain.value(), rel=1e-12)


def test_sequence_targets_are_averaged_over_examples_and_positions() -> None:
    model = nn.Embedding(5, 5)
    tokens, targets = torch.randint(0, 5, (4, 6)), torch.randint(0, 5, (4, 6))
    logits = model.weight.double().detach()[tokens]
    expected = float(F.cross_entropy(logits.reshape(-1, 5), targets.reshape(-1)))
    assert risk(model, (tokens, targets)).value() == pytest.approx(expected, rel=1e-13)


def test_gradient_against_finite_differences() -> None:
    found = risk(nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 4)), l2=0.1, batch_size=3)
    theta, gradient, step = found.parameters, found.gradient(), 1e-6
    for k in range(0, len(theta), 7):
        unit = torch.zeros_like(theta)
        unit[k] = step
        slope = (found.value(theta + unit) - found.value(theta - unit)) / (2 * step)
        assert float(gradient[k]) == pytest.approx(slope, abs=1e-9)


def test_a_loss_of_ones_own_as_mean_or_for_each_example() -> None:
    def for_each(out: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(out, target, reduction="none")

    for batch_size in (2, 7):
        assert risk(loss=for_each, batch_size=batch_size).value() == pytest.approx(
            risk().value(), rel=1e-13
        )

    def total(out: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(out, target, reduction="sum")

    with pytest.raises(ObjectiveError, match="not a mean over examples"):
        risk(loss=total)


@pytest.mark.parametrize(
    ("shape", "change"),
    [((5, 1, 1, 3), "flattened"), ((5, 3), ""), ((5, 1, 3), "")],
)
def test_inputs_are_flattened_when_the_model_needs_it(shape: tuple[int, ...], change: str) -> None:
    model = nn.Linear(3, 4) if len(shape) != 3 else nn.Sequential(nn.Flatten(), nn.Linear(3, 4))
    found = risk(model, Dataset.from_tensors(torch.randn(shape), torch.zeros(5).long()))
    assert found.notes == ((f"inputs {change} for the model",) if change else ())


def test_wrong_input_shape_is_one_clear_error() -> None:
    with pytest.raises(ObjectiveError, match=r"does not take inputs of shape \(5,\)"):
        risk(nn.Linear(3, 4), (torch.randn(6, 5), torch.zeros(6).long()))


@pytest.mark.parametrize("bad", [4, -1])
def test_labels_out_of_range(bad: int) -> None:
    labels = Y.clone()
    labels[3] = bad
    with pytest.raises(ObjectiveError, match="4 outputs"):
        risk(data=(X, labels))


def test_targets_that_do_not_fit() -> None:
    with pytest.raises(ObjectiveError, match="do not fit outputs"):
        risk(data=(X, torch.randn(7, 5)), loss="mse")
    with pytest.raises(ObjectiveError, match=r"shape \(N, 5\).*right loss is mse"):
        risk(data=(X, torch.randn(7, 5)))


def test_nan_weights_are_named() -> None:
    model = nn.Sequential(nn.Linear(3, 4))
    with torch.no_grad():
        model[0].bias[1] = float("nan")
    with pytest.raises(NonFiniteError, match=r"0\.bias \(1 of 4\)"):
        risk(model)


def test_a_loss_that_overflows_says_where() -> None:
    model = nn.Linear(3, 4, dtype=torch.float64)
    with torch.no_grad():
        model.weight.fill_(1e200)

    def cubed(out: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return out.pow(3).sum(1)

    found = EmpiricalRisk(model, (torch.ones(7, 3), Y), cubed, device="cpu", batch_size=2)
    with pytest.raises(NonFiniteError, match="first in examples 0 to 1"):
        found.check()


class Noisy(nn.Module):
    """Applies dropout by function, so evaluation mode does not stop it."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.dropout(self.linear(x), 0.5, training=True)


def test_randomness_in_evaluation_mode_is_refused() -> None:
    with pytest.raises((NonDeterministicError, ObjectiveError)):
        risk(Noisy()).check()


def test_functions_may_round_otherwise_each_time_and_no_more() -> None:
    """As where a GPU adds in another order at each evaluation."""
    calls = itertools.count()

    def drifting(part: float) -> FunctionObjective:
        return FunctionObjective(lambda x: (x**2).sum() * (1 + part * next(calls)), [1.0, 2.0])

    drifting(4 * torch.finfo(torch.float64).eps).check()
    with pytest.raises(NonDeterministicError, match="remove what is random in the function"):
        drifting(1e-6).check()


def test_the_users_settings_of_cudnn_are_kept() -> None:
    cudnn = torch.backends.cudnn
    with cudnn.flags(enabled=True, benchmark=True, deterministic=True, allow_tf32=True):
        with risk().kernels():
            assert (cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32) == (True, True, False)
        assert (cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32) == (True, True, True)


def kernel_settings() -> tuple[bool, ...]:
    cuda = torch.backends.cuda
    return (
        torch.backends.mha.get_fastpath_enabled(),
        cuda.flash_sdp_enabled(),
        cuda.mem_efficient_sdp_enabled(),
        cuda.math_sdp_enabled(),
        cuda.matmul.allow_tf32,
        torch.backends.cudnn.allow_tf32,
    )


def test_kernels_are_given_back_whatever_happens() -> None:
    before = kernel_settings()
    second_order = (False, False, False, True, False, False)
    assert before != second_order

    def fail() -> None:
        with risk().kernels():
            assert kernel_settings() == second_order
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert kernel_settings() == before


def test_kernels_are_chosen_once_and_again_where_they_do_not_stand(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Another thread that is done with them puts them back."""
    chosen: list[Any] = []
    own = kernels.sdpa_kernel

    def noted(backend: Any) -> Any:
        chosen.append(backend)
        return own(backend)

    objective = risk()
    monkeypatch.setattr(kernels, "sdpa_kernel", noted)
    with objective.kernels():
        for _ in range(3):
            objective.value()
        assert len(chosen) == 1
        torch.backends.cuda.enable_flash_sdp(True)
        with objective.kernels():
            assert not torch.backends.cuda.flash_sdp_enabled()
        assert len(chosen) == 2


def test_checks_do_not_import_the_compiler() -> None:
    """It takes a second or two, and is not needed."""
    code = """
import sys, torch, hessscope
data = (torch.ones(4, 3), torch.tensor([0, 1, 0, 1]))
hessscope.HessianOperator(hessscope.EmpiricalRisk(torch.nn.Linear(3, 2), data)).to_dense()
sys.exit("torch._dynamo" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_kernels_of_another_model_are_chosen_within() -> None:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.RNN(3, 4, batch_first=True)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layer(x[:, None])[0][:, 0]

    cudnn = torch.backends.cudnn
    plain, recurrent = risk(), risk(Recurrent())
    for _ in range(2):
        with plain.kernels():
            assert cudnn.enabled
            with recurrent.kernels():
                assert not cudnn.enabled
            assert cudnn.enabled


@pytest.mark.parametrize(
    ("loss", "last", "better"),
    [
        ("nll", nn.Identity(), "cross_entropy"),
        ("nll", nn.Softmax(-1), "nll_probabilities"),
        ("nll", nn.LogSoftmax(-1), None),
        ("nll_probabilities", nn.Identity(), "cross_entropy"),
        ("nll_probabilities", nn.LogSoftmax(-1), "nll"),
        ("nll_probabilities", nn.Softmax(-1), None),
    ],
)
def test_losses_of_probabilities_warn_of_what_is_none(
    loss: str, last: nn.Module, better: str | None
) -> None:
    """−log p of a logit is a number, too, and even negative."""
    model = nn.Sequential(nn.Linear(3, 4), last)
    if better is None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            risk(model, loss=loss)
        return
    with pytest.warns(AssumptionWarning, match=f"The right loss is {better}$"):
        risk(model, loss=loss)


def test_accuracy_of_bce_counts_examples_where_targets_are_classes() -> None:
    model = nn.Linear(3, 4)
    accuracy = risk(model, loss="bce").evaluate().accuracy
    assert accuracy == risk(model).evaluate().accuracy
    bits = F.one_hot(Y, 4).double()
    hits = (outputs(model) > 0) == (bits > 0.5)
    found = risk(model, (X, bits), loss="bce").evaluate().accuracy
    assert found == pytest.approx(float(hits.double().mean()))


def test_dropout_is_off() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5))
    found = risk(model)
    found.check()
    assert found.value() == pytest.approx(float(F.cross_entropy(outputs(model[0]), Y)))


def test_examples_that_depend_on_their_batch_are_refused() -> None:
    model = nn.Sequential(
        nn.Linear(3, 4), nn.BatchNorm1d(4, track_running_stats=False), nn.Linear(4, 4)
    )
    with pytest.raises((NonDeterministicError, ObjectiveError)):
        risk(model).check()


@pytest.mark.parametrize(
    ("last", "loss", "better"),
    [
        (nn.Softmax(1), "cross_entropy", "nll_probabilities"),
        (nn.LogSoftmax(1), "cross_entropy", "nll"),
        (nn.Softmax(1), "softmax_mse", "mse"),
    ],
)
def test_probabilities_where_logits_belong_get_a_warning(
    last: nn.Module, loss: str, better: str
) -> None:
    with pytest.warns(AssumptionWarning, match=f"right loss is {better}\\b"):
        risk(nn.Sequential(nn.Linear(3, 4), last), loss=loss)


def test_bce_of_probabilities_gets_a_warning() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Sigmoid())
    with pytest.warns(AssumptionWarning, match="look like probabilities"):
        risk(model, (X, torch.rand(7, 4)), loss="bce")


def test_options_that_mean_nothing() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'cross_entropy'"):
        risk(loss="cross_entrpy")
    with pytest.raises(UnknownNameError, match="dtype 'float16'"):
        risk(dtype=torch.float16)
    with pytest.raises(OptionError, match="l2"):
        risk(l2=-1.0)
    if not torch.cuda.is_available():
        with pytest.raises(ObjectiveError, match="sees no CUDA device"):
            EmpiricalRisk(LINEAR, (X, Y), device="cuda")


def test_frozen_parameters_are_no_variables() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 4))
    model[0].weight.requires_grad_(False)
    assert len(risk(model).parameters) == sum(p.numel() for p in model.parameters()) - 12
    with pytest.raises(ObjectiveError, match="no trainable parameters"):
        risk(nn.Linear(3, 4).requires_grad_(False))


@pytest.mark.parametrize("loss", ["bce", "mse"])
def test_integers_are_values_where_there_is_one_output(loss: str) -> None:
    model, bits = nn.Linear(X.shape[1], 1), torch.arange(len(X)) % 2
    whole = risk(model, (X, bits), loss=loss)
    assert whole.notes == ()
    assert whole.value() == risk(model, (X, bits[:, None].double()), loss=loss).value()


def test_bce_of_class_numbers_takes_them_as_one_hot() -> None:
    out, bits = outputs(LINEAR), F.one_hot(Y, 4).double()
    found = risk(loss="bce").value()
    assert found == pytest.approx(float(F.binary_cross_entropy_with_logits(out, bits)))


def test_one_hot_labels_may_be_integers() -> None:
    one_hot = F.one_hot(Y, 4)
    assert risk(data=(X, one_hot)).value() == pytest.approx(risk().value())


def test_points_may_be_numpy() -> None:
    whole = risk()
    point = whole.parameters.numpy()
    assert whole.value(point) == whole.value()
    assert torch.equal(whole.gradient(point), whole.gradient())


def test_points_may_be_lists_and_keep_their_digits() -> None:
    """0.1 by way of single precision would be 1.5e-9 off."""
    model = nn.Linear(1, 1, bias=False)
    line = risk(model, (torch.ones(2, 1), torch.zeros(2, 1)), loss="mse")
    assert line.value([0.1]) == 0.1 * 0.1
    assert line.gradient([0.1]).tolist() == [0.2]
    function = FunctionObjective(lambda x: x[0], [0.1])
    assert function.value() == function.value([0.1]) == 0.1
    assert first_state(function, [0.7]).parameters.tolist() == [0.7]


class ByName(nn.Module):
    """Inputs by name and outputs in a dict, as transformers have them."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.head = nn.Embedding(7, 4), nn.Linear(4, 3)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> dict[str, Any]:
        mixed = (self.embedding(input_ids) * attention_mask[..., None]).mean(1)
        return {"logits": self.head(mixed)}


def test_inputs_in_a_dict_go_by_name() -> None:
    ids = torch.arange(10).reshape(5, 2) % 7
    mask, targets = torch.tensor([[1, 0], [1, 1], [0, 1], [1, 1], [1, 0]]), torch.arange(5) % 3
    model = ByName()
    data = Dataset.from_tensors({"attention_mask": mask, "input_ids": ids}, targets)
    found = risk(model, data, batch_size=2).value()
    logits = model.double()(input_ids=ids, attention_mask=mask)["logits"]
    assert found == pytest.approx(F.cross_entropy(logits, targets).item(), rel=1e-13)


class Closure(nn.Module):
    """Keeps a function that refers to itself, which a copy does not replace."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(X.shape[1], 4).double()
        self.function = lambda x: self.layer(x)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x)


def test_a_function_that_refers_to_the_original_model_is_refused() -> None:
    with pytest.raises(ObjectiveError, match="not among the model's parameters"):
        risk(Closure())


def test_lazy_layers_are_refused() -> None:
    with pytest.raises(ObjectiveError, match="lazy"):
        risk(nn.LazyLinear(4))


class Narrow(nn.Module):
    """Computes in float32 whatever it is given, by an operator that takes the type as text."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(X.shape[1], 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x).type("torch.FloatTensor").tanh().to(x.dtype)


def test_a_cast_to_lower_precision_gets_a_warning() -> None:
    with pytest.warns(PrecisionWarning, match="float32"):
        risk(Narrow()).check()
