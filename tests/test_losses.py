"""Targets that a loss cannot mean, the axis of the classes, and means over independent examples."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cli_runs import Run
from hessscope import EmpiricalRisk, FisherOperator, GaussNewtonOperator, HessianOperator
from hessscope.errors import NonDeterministicError, ObjectiveError, OptionError

torch.manual_seed(0)
X = torch.randn(50, 8, dtype=torch.float64)
CLASSES = torch.arange(50) // 17  # sorted, as data sets on disk are
PROBABILITIES = torch.softmax(torch.randn(50, 3), 1)
BITS = (torch.randn(50, 3) > 0).float()
# Only one of many is not what it should be.
ALMOST = PROBABILITIES.clone()
ALMOST[37, 1] += 0.1
PADDED = torch.where(torch.arange(50) == 41, -100, CLASSES)


def linear(outputs: int = 3) -> nn.Module:
    torch.manual_seed(1)
    return nn.Linear(8, outputs).double()


def risk(model: nn.Module, targets: Any, loss: Any = "cross_entropy", x: Any = X) -> EmpiricalRisk:
    return EmpiricalRisk(model, (x, targets), loss, device="cpu")


def dense_hessian(loss: Callable[[Any], torch.Tensor], model: nn.Module) -> torch.Tensor:
    """Row by row, by plain torch."""
    parameters = list(model.parameters())
    first = torch.autograd.grad(loss(model), parameters, create_graph=True)
    gradient = torch.cat([g.reshape(-1) for g in first])
    rows = (
        torch.autograd.grad(g, parameters, retain_graph=True, materialize_grads=True)
        for g in gradient
    )
    return torch.stack([torch.cat([part.reshape(-1) for part in row]) for row in rows])


REFUSED: dict[str, tuple[int, Any, str, str]] = {
    "real numbers": (3, 5 * torch.randn(50, 3), "cross_entropy", "right loss is mse"),
    "real numbers at the end": (3, ALMOST, "cross_entropy", "right loss is (bce|mse)"),
    "bits": (3, BITS, "cross_entropy", "right loss is bce"),
    "bits as integers": (3, BITS.long(), "cross_entropy", "right loss is bce"),
    "one output, real numbers": (1, torch.randn(50, 1), "cross_entropy", "right loss is mse"),
    "one output, no axis": (0, torch.randn(50), "cross_entropy", "right loss is mse"),
    "one output, bits": (1, BITS[:, :1], "cross_entropy", "right loss is bce"),
    "one output, one class": (1, 0 * CLASSES, "cross_entropy", "right loss is bce"),
    "one output, softmax": (1, BITS[:, :1], "softmax_mse", "right loss is bce"),
    "class numbers as floats": (3, CLASSES.float(), "cross_entropy", "as integers.*loss is mse"),
    "class numbers as floats, nll": (3, CLASSES.float(), "nll", "as integers.*loss is mse"),
    "probabilities, nll": (3, PROBABILITIES, "nll", "loss is cross_entropy"),
    "real numbers, bce": (3, torch.randn(50, 3), "bce", "from 0 to 1.*right loss is mse"),
    "minus one and one, bce": (1, 2 * BITS[:, 0].long() - 1, "bce", "as 0 and 1"),
    "real numbers, softmax_mse": (3, torch.randn(50, 3), "softmax_mse", "right loss is mse"),
    "class numbers as floats, mse": (3, CLASSES.float(), "mse", "class numbers, which are integ"),
    "too many classes, mse": (2, CLASSES, "mse", "labels 0 to 1"),
    "too many classes, bce": (2, CLASSES, "bce", "labels 0 to 1"),
    "ignored labels, mse": (3, PADDED, "mse", "1 of 50 labels are -100.*loss=cross_entropy"),
    "all ignored": (3, 0 * CLASSES - 100, "cross_entropy", "labels of the 50 examples are left"),
    "another negative number": (3, PADDED - 1, "cross_entropy", "labels run from -101"),
    "two tensors": (3, (CLASSES, CLASSES), "cross_entropy", "targets are a tuple"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_targets_that_a_loss_cannot_mean(name: str) -> None:
    outputs, targets, loss, remedy = REFUSED[name]
    model = linear(outputs) if outputs else nn.Sequential(linear(1), nn.Flatten(0))
    with pytest.raises(ObjectiveError, match=remedy):
        risk(model, targets, loss)


@pytest.mark.parametrize(
    ("loss", "right"),
    [
        (F.cross_entropy, "mse"),
        (nn.CrossEntropyLoss(), "mse"),
        (nn.CrossEntropyLoss(reduction="none", label_smoothing=0.1), "mse"),
        (F.binary_cross_entropy_with_logits, "mse"),
        (nn.BCEWithLogitsLoss, "mse"),
        (F.nll_loss, "cross_entropy"),
    ],
)
def test_losses_of_torch_refuse_the_same_targets(loss: Any, right: str) -> None:
    inputs, targets = torch.randn(50, 8), torch.softmax(torch.randn(50, 3), 1)
    targets = targets if right == "cross_entropy" else 5 * targets - 1
    with pytest.raises(ObjectiveError, match=f"loss is {right}"):
        EmpiricalRisk(nn.Linear(8, 3), (inputs, targets), loss=loss)


def test_the_command_refuses_them_too(run: Run, work: Path) -> None:
    torch.save(nn.Linear(8, 3).state_dict(), work / "w.pt")
    np.savez(work / "real.npz", inputs=X.numpy(), targets=5 * torch.randn(50, 3).numpy())
    outcome = run("spectrum", "w.pt", "--model", "mlp:8-3", "--data", "real.npz", "--quiet")
    assert outcome.code == 1
    assert re.search("right loss is mse", outcome.error)


def test_probabilities_and_one_hot_integers_stay_allowed() -> None:
    model = linear()
    logits = model(X).detach()
    soft = PROBABILITIES.double()
    expected = -(soft * logits.log_softmax(1)).sum(1).mean()
    assert risk(model, PROBABILITIES).value() == pytest.approx(float(expected), rel=1e-13)
    half = risk(model, PROBABILITIES.half()).value()  # stored in half precision
    assert half == pytest.approx(float(expected), rel=1e-3)
    hot = risk(model, F.one_hot(CLASSES)).value()
    assert hot == pytest.approx(float(F.cross_entropy(logits, CLASSES)), rel=1e-13)


class Sequence(nn.Module):
    """Outputs (N, 9, size)."""

    def __init__(self, size: int) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.size, self.layer = size, nn.Linear(8, 9 * size)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x).view(-1, 9, self.size)


def by_hand(loss: str, axis: int) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """The losses over class numbers in plain torch, in the mean."""

    def function(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        hot = F.one_hot(labels, outputs.shape[axis]).movedim(-1, axis).to(outputs.dtype)
        if loss == "cross_entropy":
            return -(hot * outputs.log_softmax(axis)).sum(axis).mean()
        if loss == "softmax_mse":
            outputs = outputs.softmax(axis)
        if loss == "bce":
            return -(hot * F.logsigmoid(outputs) + (1 - hot) * F.logsigmoid(-outputs)).mean()
        return (outputs - hot).square().mean()

    return function


@pytest.mark.parametrize("loss", ["cross_entropy", "mse", "softmax_mse", "bce"])
def test_the_axis_of_the_classes_where_shapes_leave_it_open(loss: str) -> None:
    """Outputs (N, 9, 9) and labels (N, 9): torch's axis is 1, a transformer's the last."""
    model, labels = Sequence(9), torch.arange(450).reshape(50, 9) % 7
    with pytest.raises(ObjectiveError, match=f"either axis: give {loss}@1 .* or {loss}@last"):
        risk(model, labels, loss)
    outputs = model.double()(X).detach()
    values = {}
    for name, axis in (("1", 1), ("last", -1)):
        found = risk(model, labels, f"{loss}@{name}")
        values[name] = float(by_hand(loss, axis)(outputs, labels))
        assert found.value() == pytest.approx(values[name], rel=1e-13)
        hits = float((outputs.argmax(axis) == labels).double().mean())
        assert found.evaluate().accuracy == pytest.approx(hits)
        assert found.classes == 9
    assert abs(values["1"] - values["last"]) > 1e-4
    if loss == "cross_entropy":
        assert values["1"] == pytest.approx(float(F.cross_entropy(outputs, labels)), rel=1e-13)


@pytest.mark.parametrize("loss", ["cross_entropy", "mse", "softmax_mse", "bce"])
@pytest.mark.parametrize(("shape", "axis"), [((4, 5, 3), 1), ((5, 3, 4), -1)])
def test_the_only_possible_axis_is_taken(loss: str, shape: tuple[int, ...], axis: int) -> None:
    """Images (N, C, H, W) with labels (N, H, W), and (N, H, W, C) with the same."""
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(8, 60), nn.Unflatten(1, shape)).double()
    labels = torch.arange(750).reshape(50, 5, 3) % 4
    found = risk(model, labels, loss)
    expected = by_hand(loss, axis)(model(X).detach(), labels)
    assert found.value() == pytest.approx(float(expected), rel=1e-13)
    with pytest.raises(ObjectiveError, match=f"take {loss}"):
        risk(model, labels, f"{loss}@{'last' if axis == 1 else '1'}")


@pytest.mark.parametrize("axis", [1, -1])
def test_probabilities_choose_their_axis_by_their_sums(axis: int) -> None:
    """Torch takes axis 1 whatever they are."""
    model = Sequence(9).double()
    soft = torch.randn(50, 9, 9, dtype=torch.float64).softmax(axis)
    outputs = model(X).detach()
    expected = -(soft * outputs.log_softmax(axis)).sum(axis).mean()
    assert risk(model, soft).value() == pytest.approx(float(expected), rel=1e-13)


@pytest.mark.parametrize("axis", ["1", "last"])
def test_second_order_matrices_know_the_axis(axis: str) -> None:
    """Against dense autograd; the Fisher matrix of logits is the Gauss–Newton one."""
    torch.manual_seed(4)
    model = nn.Sequential(nn.Linear(3, 9), nn.Unflatten(1, (3, 3))).double()
    x, labels = torch.randn(6, 3, dtype=torch.float64), torch.arange(18).reshape(6, 3) % 3
    found = risk(model, labels, f"cross_entropy@{axis}", x)
    loss = by_hand("cross_entropy", 1 if axis == "1" else -1)
    dense = dense_hessian(lambda model: loss(model(x), labels), model)
    for kind in (HessianOperator, GaussNewtonOperator, FisherOperator):
        torch.testing.assert_close(kind(found).to_dense(), dense, atol=1e-14, rtol=1e-12)


def test_axes_that_do_not_exist() -> None:
    with pytest.raises(OptionError, match=r"cross_entropy@1 .*cross_entropy@last"):
        risk(linear(), CLASSES, "cross_entropy@2")


def test_values_in_another_layout_are_not_poured_into_the_outputs() -> None:
    """(N, 3, 2) has as many numbers as (N, 2, 3), and other ones."""
    model = nn.Sequential(nn.Linear(8, 6), nn.Unflatten(1, (2, 3)))
    with pytest.raises(ObjectiveError, match="do not fit"):
        risk(model, torch.randn(50, 3, 2), "mse")
    flat = torch.randn(50, 6)
    found = risk(model, flat, "mse").value()
    assert found == risk(model, flat.view(50, 2, 3), "mse").value()


# --- means over independent examples ---------------------------------------------------------

WEIGHTS = torch.tensor([1.0, 2.0, 4.0])


def weighted(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(outputs, labels, WEIGHTS.to(outputs))


def of_labelled(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(outputs, labels, ignore_index=0)


@pytest.mark.parametrize(
    ("loss", "targets", "message"),
    [
        (weighted, CLASSES, "not a mean over examples"),
        (of_labelled, CLASSES, "not a mean over examples"),
        (of_labelled, torch.where(torch.arange(50) == 23, 0, 1), "not a mean over examples"),
        (nn.CrossEntropyLoss(ignore_index=2, reduction="none"), CLASSES, "labels are 2.*reduction"),
        (nn.CrossEntropyLoss(ignore_index=2, reduction="sum"), CLASSES, "labels are 2.*reduction"),
        (nn.MSELoss(), torch.randn(50), "not a mean over examples"),  # (N, 1) against (N,)
    ],
)
@pytest.mark.filterwarnings("ignore:Using a target size")
def test_losses_that_are_no_means(loss: Any, targets: torch.Tensor, message: str) -> None:
    with pytest.raises(ObjectiveError, match=message):
        risk(linear(1 if isinstance(loss, nn.MSELoss) else 3), targets, loss)


def test_the_numbers_of_a_loss_that_is_no_mean_can_be_computed_again() -> None:
    model = linear()
    with pytest.raises(ObjectiveError) as caught:
        risk(model, CLASSES, weighted)
    found = re.search(
        r"i = (\[.*?\]).* is (\S+) at once, and (\S+) in the mean one", str(caught.value)
    )
    assert found is not None
    i = [int(number) for number in found[1].strip("[]").split(",")]
    assert (i[0], i[-1]) == (0, 49)
    outputs = model(X).detach()
    alone = [float(weighted(outputs[[k]], CLASSES[[k]])) for k in i]
    assert found[2] == f"{float(weighted(outputs[i], CLASSES[i])):.6g}"
    assert found[3] == f"{np.mean(alone):.6g}"


def test_class_weights_in_a_module_are_cast_with_the_model() -> None:
    model, loss = linear(), nn.CrossEntropyLoss(WEIGHTS, reduction="none")
    found = risk(model, CLASSES, loss)
    expected = F.cross_entropy(model(X), CLASSES, WEIGHTS.double(), reduction="none").mean()
    assert found.value() == pytest.approx(float(expected.detach()), rel=1e-13)
    assert loss.weight.dtype == torch.float32  # the user's own stays as it is
    with pytest.raises(ObjectiveError, match=r"weight\.to\(outputs\)"):
        risk(model, CLASSES, lambda o, t: F.cross_entropy(o, t, WEIGHTS))


@pytest.mark.parametrize("heavy", range(10))
def test_a_single_class_of_another_weight_is_found(heavy: int) -> None:
    """Also where the loss is zero but for rounding, as on data that are fitted."""
    labels = torch.arange(200) // 20
    weights = torch.ones(10, dtype=torch.float64)
    weights[heavy] = 3.0

    def loss(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(outputs, targets, weights)

    fitted = nn.Linear(10, 10, dtype=torch.float64)
    with torch.no_grad():
        fitted.weight.copy_(60 * torch.eye(10))
        fitted.bias.zero_()
    inputs = F.one_hot(labels).double()
    for model in (fitted, nn.Linear(10, 10).double()):
        with pytest.raises(ObjectiveError, match="not a mean over examples"):
            risk(model, labels, loss, inputs)


class TimeFirst(nn.Module):
    """Takes examples for time steps: the output for row i depends on rows 0 … i."""

    def __init__(self, batch_first: bool) -> None:
        super().__init__()
        self.memory = nn.LSTM(8, 4, batch_first=batch_first)
        self.head = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.memory(x[:, None])[0][:, 0])


class FirstRowOnly(nn.Module):
    """What a trace with a batch of one keeps of a loop over examples."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows = torch.zeros(x.shape[0], 8, dtype=x.dtype)
        for i in range(x.shape[0]):
            rows[i] = x[i]
        return self.layer(rows)


class Centred(nn.Module):
    """Subtracts the mean over the batch but for the first four examples."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x[:4], x[4:] - x[4:].mean(0)])


@pytest.mark.parametrize(
    "model",
    [
        TimeFirst(batch_first=False),
        nn.Sequential(nn.Linear(8, 3), Centred()),
        nn.Sequential(nn.Linear(8, 3), nn.Unflatten(1, (3, 1)), nn.BatchNorm1d(
            3, track_running_stats=False), nn.Flatten()),
    ],
)  # fmt: skip
def test_examples_that_depend_on_others_are_refused(model: nn.Module) -> None:
    with pytest.raises((NonDeterministicError, ObjectiveError), match="not defined without its b"):
        risk(model, CLASSES)


def test_zeros_behind_the_layer_do_not_hide_a_dependence() -> None:
    """Outputs are all zero at the initialisation of many networks."""
    model = TimeFirst(batch_first=False)
    nn.init.zeros_(model.head.weight)
    with pytest.raises(NonDeterministicError, match="in two batches in reverse order"):
        risk(model, CLASSES)


def test_recurrent_layers_with_examples_first_are_taken() -> None:
    assert risk(TimeFirst(batch_first=True), CLASSES).value() > 0


def test_a_module_traced_with_a_batch_of_one_is_refused(run: Run, work: Path) -> None:
    traced = torch.jit.trace(FirstRowOnly(), torch.randn(1, 8), check_trace=False)
    traced.save(work / "traced.pt")
    np.savez(work / "own.npz", inputs=X.numpy().astype("f4"), targets=CLASSES.numpy())
    options = ("--trust", "--dtype", "float32", "--quiet")  # the trace is bound to its type
    outcome = run("spectrum", "traced.pt", "--data", "own.npz", *options)
    assert outcome.code == 1
    assert re.search("traced with a batch of one", outcome.error)


def test_batch_normalisation_that_needs_a_batch_is_named() -> None:
    model = nn.Sequential(nn.Linear(8, 3), nn.BatchNorm1d(3, track_running_stats=False))
    with pytest.raises(ObjectiveError, match=r"two examples at once but not a single one.*running"):
        risk(model, CLASSES)


def test_models_of_a_fixed_batch_size_are_refused() -> None:
    model = nn.Sequential(nn.Linear(8, 3), nn.Unflatten(0, (1, 1)), nn.Flatten(0, 1))
    with pytest.raises(ObjectiveError, match=r"takes a single example, but not .* at once"):
        risk(model, CLASSES)


class Pair(nn.Module):
    """Gives logits, and what belongs to no loss beside them."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.layer(x), x.mean()


def test_of_tuples_the_first_output_is_taken_unless_the_loss_is_ones_own() -> None:
    model = Pair().double()
    expected = float(F.cross_entropy(model.layer(X), CLASSES).detach())
    assert risk(model, CLASSES).value() == pytest.approx(expected, rel=1e-13)
    found = risk(model, CLASSES, lambda outputs, labels: F.cross_entropy(outputs[0], labels))
    assert found.value() == pytest.approx(expected, rel=1e-13)
    nested = nn.Sequential(model, _Nested())
    with pytest.raises(ObjectiveError, match=r"gives a tuple.*loss of your own"):
        risk(nested, CLASSES)


class _Nested(nn.Module):
    def forward(self, outputs: Any) -> Any:
        return (outputs, outputs)


# --- models that differentiate themselves ----------------------------------------------------


class Physics(nn.Module):
    """u + du/dx of a network u, as networks for differential equations have it."""

    def __init__(self, way: str) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.net, self.way = nn.Sequential(nn.Linear(1, 6), nn.Tanh(), nn.Linear(6, 1)), way

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.way == "jacrev":
            slope = torch.vmap(torch.func.jacrev(self.net))(x)[:, 0]
        elif self.way == "vjp":
            u, back = torch.func.vjp(self.net, x)
            slope = back(torch.ones_like(u))[0]
        elif self.way == "func.grad":
            slope = torch.vmap(torch.func.grad(lambda z: self.net(z)[0]))(x)
        else:
            x = x.requires_grad_() if self.way == "own input" else x.clone().requires_grad_()
            slope = torch.autograd.grad(self.net(x).sum(), x, create_graph=True)[0]
        return self.net(x) + slope


@pytest.mark.parametrize("way", ["own input", "copied input", "func.grad", "vjp", "jacrev"])
def test_derivatives_inside_the_model(way: str) -> None:
    """Against dense autograd of the same formula, with the slope of tanh by hand."""
    x = torch.linspace(-1, 1, 20, dtype=torch.float64)[:, None]
    y = torch.sin(3 * x)
    model = Physics(way).double()

    def loss(model: Physics) -> torch.Tensor:
        first, _, last = model.net
        h = torch.tanh(x @ first.weight.T + first.bias)
        slope = ((1 - h**2) * first.weight[:, 0]) @ last.weight.T
        return (h @ last.weight.T + last.bias + slope - y).square().mean()

    found = risk(model, y, "mse", x)
    assert found.value() == pytest.approx(float(loss(model).detach()), rel=1e-13)
    dense = dense_hessian(loss, model)
    torch.testing.assert_close(HessianOperator(found).to_dense(), dense, atol=1e-13, rtol=1e-12)
    assert not x.requires_grad
