"""Losses that are means over labels or other units, and losses of a model and a batch."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F

from hessscope import EmpiricalRisk, HessianOperator
from hessscope.backends.pyhessian import PyHessianBackend
from hessscope.errors import ObjectiveError, OptionError, SolverError
from hessscope.objective import get_loss
from hessscope.objective.targets import settled
from hessscope.operators import EmpiricalFisherOperator, FisherOperator, GaussNewtonOperator

WEIGHTS = torch.tensor([1.0, 2.0, 4.0, 0.5, 3.0])
Reference = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


class Tagger(nn.Module):
    """Five classes for each of seven positions."""

    def __init__(self, last: bool = True) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.last, self.hidden, self.head = last, nn.Linear(2, 4), nn.Linear(4, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        outputs = self.head(torch.tanh(self.hidden(x)))
        return outputs if self.last else outputs.movedim(-1, 1)


def padded(ignored: int = -100) -> tuple[torch.Tensor, torch.Tensor]:
    """Twelve sequences; the third has no label at all, others one to seven."""
    stream = torch.Generator().manual_seed(4)
    x = torch.randn(12, 7, 2, generator=stream)
    y = torch.randint(0, 5, (12, 7), generator=stream)
    y[torch.arange(7) >= torch.tensor([7, 1, 0, 3, 5, 2, 7, 6, 4, 1, 2, 3])[:, None]] = ignored
    return x, y


def dense(model: nn.Module, x: torch.Tensor, y: torch.Tensor, loss: Reference) -> torch.Tensor:
    """Hessian of a loss of the outputs over the whole set, by plain torch in float64."""
    double = Tagger(getattr(model, "last", True)).double()
    double.load_state_dict({k: v.double() for k, v in model.state_dict().items()})
    shapes = {name: p.shape for name, p in double.named_parameters()}

    def value(theta: torch.Tensor) -> torch.Tensor:
        parts = theta.split([shape.numel() for shape in shapes.values()])
        state = {k: p.view(s) for (k, s), p in zip(shapes.items(), parts, strict=True)}
        return loss(functional_call(double, state, (x.double(),)), y)

    theta = torch.cat([p.detach().flatten() for p in double.parameters()])
    return torch.func.hessian(value)(theta)


def same(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12 * float(expected.abs().max()))


@pytest.mark.parametrize("size", [1, 2, 5, 12])
def test_every_label_weighs_the_same_whatever_the_batches(size: int) -> None:
    (x, y), model = padded(), Tagger()
    risk = EmpiricalRisk(model, (x, y), batch_size=size)
    expected = dense(model, x, y, lambda o, t: F.cross_entropy(o.movedim(-1, 1), t))
    same(HessianOperator(risk).to_dense(), expected)
    assert risk.facts()["loss_mean_over"] == "labels"
    assert risk.units == int((y != -100).sum())
    assert risk.loss_in_words() == "cross_entropy, mean over 41 labels"
    right = (model(x).argmax(-1) == y)[y != -100].double().mean()
    assert risk.evaluate().accuracy == pytest.approx(float(right), rel=1e-12)


@pytest.mark.parametrize("axis", ["1", "last"])
def test_more_padding_changes_nothing(axis: str) -> None:
    (x, y), model = padded(), Tagger(axis == "last")
    wide = F.pad(x, (0, 0, 0, 3), value=9.0), F.pad(y, (0, 3), value=-100)
    one, other = (
        HessianOperator(EmpiricalRisk(model, data, f"cross_entropy@{axis}", batch_size=5))
        for data in ((x, y), wide)
    )
    same(one.to_dense(), other.to_dense())


@pytest.mark.parametrize(
    "loss",
    [
        nn.CrossEntropyLoss(ignore_index=2),
        nn.CrossEntropyLoss(WEIGHTS),
        nn.CrossEntropyLoss(WEIGHTS, ignore_index=1, label_smoothing=0.2),
        nn.CrossEntropyLoss(label_smoothing=0.1),
        partial(F.cross_entropy, ignore_index=2, label_smoothing=0.3),
        F.cross_entropy,
    ],
)
def test_losses_of_torch_mean_over_the_data_set_what_they_mean_over_a_batch(loss: Any) -> None:
    ignored = getattr(loss, "ignore_index", -100)
    if isinstance(loss, partial):
        ignored = loss.keywords["ignore_index"]
    (x, y), model = padded(ignored), Tagger(last=False)

    def reference(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        given = loss
        if isinstance(loss, nn.Module) and loss.weight is not None:
            given = nn.CrossEntropyLoss(
                loss.weight.double(),
                ignore_index=loss.ignore_index,
                label_smoothing=loss.label_smoothing,
            )
        return given(outputs, labels)

    if isinstance(loss, nn.Module) and ignored == -100:  # these ones have labels everywhere
        y = y.where(y != -100, 0)
    risk = EmpiricalRisk(model, (x, y), loss, batch_size=5)
    same(HessianOperator(risk).to_dense(), dense(model, x, y, reference))


@pytest.mark.parametrize("loss", ["cross_entropy", nn.CrossEntropyLoss()])
def test_parts_of_the_targets_settle_the_loss_in_any_order(loss: Any) -> None:
    """Of data that are streamed the targets come in parts; one may have every label or none."""
    outputs = torch.randn(4, 5, 7)
    full = torch.randint(0, 5, (6, 7))
    some = full.where(torch.arange(7) < 3, -100)
    for parts in ((some, full), (full, some), (full, 0 * full - 100)):
        given = get_loss(loss)
        for part in parts:
            given = settled(given, outputs, part)
        assert given.units == "labels"


def test_labels_that_are_few_are_found_and_none_are_refused() -> None:
    x, model = padded()[0], Tagger()
    rare = torch.full((400, 7), -100)
    rare[7, 3] = 2  # in none of the examples that are compared
    many = x[torch.arange(400) % 12]
    risk = EmpiricalRisk(model, (many, rare))
    expected = F.cross_entropy(model(many)[7, 3], torch.tensor(2))
    assert risk.value() == pytest.approx(float(expected.detach()), rel=1e-6)
    for loss, labels in (
        ("cross_entropy", 0 * rare - 100),
        (nn.CrossEntropyLoss(torch.tensor([1.0, 1, 0, 1, 1])), 0 * rare + 2),
    ):
        outputs = Tagger(last=isinstance(loss, str))
        with pytest.raises(ObjectiveError, match="400 examples are left out"):
            EmpiricalRisk(outputs, (many, labels), loss)


def test_next_token_predicts_each_token_from_those_before() -> None:
    torch.manual_seed(5)
    model = nn.Sequential(nn.Embedding(6, 3), nn.Linear(3, 6))
    tokens = torch.randint(0, 6, (10, 8))
    labels = tokens.clone()
    labels[3:, 5:] = -100
    risk = EmpiricalRisk(model, (tokens, labels), "next_token", batch_size=4)
    logits = model(tokens)[:, :-1]
    expected = F.cross_entropy(logits.reshape(-1, 6), labels[:, 1:].reshape(-1))
    assert risk.value() == pytest.approx(float(expected.detach()), rel=1e-6)
    assert risk.units == int((labels[:, 1:] != -100).sum())
    right = (logits.argmax(-1) == labels[:, 1:])[labels[:, 1:] != -100].double().mean()
    assert risk.evaluate().accuracy == pytest.approx(float(right))
    with pytest.raises(OptionError, match="no other axis"):
        EmpiricalRisk(model, (tokens, labels), "next_token@1")
    with pytest.raises(ObjectiveError, match=r"takes tokens \(N, T\)"):
        EmpiricalRisk(model, (tokens[:, :1], labels[:, :1]), "next_token")


def test_fisher_and_gauss_newton_leave_the_same_labels_out() -> None:
    (x, y), model = padded(), Tagger()
    risk = EmpiricalRisk(model, (x, y), batch_size=5)
    fisher, gauss_newton = FisherOperator(risk).to_dense(), GaussNewtonOperator(risk).to_dense()
    same(fisher, gauss_newton)  # equal for a softmax of logits
    layout, theta = risk.layout, risk.parameters

    def logits(at: torch.Tensor) -> torch.Tensor:
        return functional_call(risk.model, layout.unflatten(at), (x.double(),))[y != -100]

    jacobian = torch.func.jacrev(logits)(theta)
    p = torch.softmax(logits(theta), -1)
    inner = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
    same(fisher, torch.einsum("lci,lcd,ldj->ij", jacobian, inner, jacobian) / len(p))

    def of_example(at: torch.Tensor, i: int) -> torch.Tensor:
        outputs = functional_call(risk.model, layout.unflatten(at), (x[i : i + 1].double(),))
        return F.cross_entropy(outputs[0], y[i], reduction="sum") * len(x) / risk.units

    gradients = torch.stack([torch.func.grad(of_example)(theta, i) for i in range(len(x))])
    same(EmpiricalFisherOperator(risk).to_dense(), gradients.T @ gradients / len(x))


def of_outputs(outputs: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    total = F.cross_entropy(outputs.movedim(-1, 1), labels, reduction="sum")
    count = (labels != -100).sum()
    return total / count.clamp(min=1), count


def of_model(model: nn.Module, batch: Any) -> tuple[torch.Tensor, torch.Tensor]:
    assert isinstance(model, Tagger)  # its methods and attributes are there
    assert model.last
    return of_outputs(model(batch[0]), batch[1])


def of_model_by_name(model: nn.Module, batch: dict[str, torch.Tensor]) -> Any:
    return of_outputs(model(batch["x"]), batch["labels"])


@pytest.mark.parametrize("loss", [of_outputs, of_model, of_model_by_name])
def test_losses_that_give_their_number_of_units(loss: Any) -> None:
    (x, y), model = padded(), Tagger()
    inputs = {"x": x} if loss is of_model_by_name else x
    risk = EmpiricalRisk(model, (inputs, y), loss, batch_size=5)
    expected = dense(model, x, y, lambda o, t: F.cross_entropy(o.movedim(-1, 1), t))
    same(HessianOperator(risk).to_dense(), expected)
    assert risk.loss_in_words() == f"{loss.__name__}, mean over 41 own units"
    part = risk.on(slice(3, 9))
    assert part.units == int((y[3:9] != -100).sum())


def test_a_loss_of_model_and_batch_may_be_a_plain_mean() -> None:
    torch.manual_seed(6)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    data = torch.randn(20, 3), torch.randn(20, 2)

    def residual(model: nn.Module, batch: Any) -> torch.Tensor:
        return F.mse_loss(model(batch[0]), batch[1])

    by_model, by_name = (EmpiricalRisk(model, data, loss) for loss in (residual, "mse"))
    same(HessianOperator(by_model).to_dense(), HessianOperator(by_name).to_dense())
    assert by_model.facts()["loss_mean_over"] == "examples"
    with pytest.raises(ObjectiveError, match="of model and batch does not show"):
        GaussNewtonOperator(by_model).check()
    labels = torch.arange(20) % 2
    labels[4] = -100

    def batch_mean(model: nn.Module, batch: Any) -> torch.Tensor:
        return F.cross_entropy(model(batch[0]), batch[1])

    with pytest.raises(ObjectiveError, match=r"not a mean over examples.*\(mean, units\)"):
        EmpiricalRisk(model, (data[0], labels), batch_mean)


@pytest.mark.parametrize(
    ("units", "message"),
    [
        (lambda o, y: o, "second entry is of shape"),
        (lambda o, y: -1.0, "second entry is"),
        (lambda o, y: 3, "must add up"),
    ],
)
def test_units_that_mean_nothing_are_refused(units: Any, message: str) -> None:
    (x, y), model = padded(), Tagger()

    def loss(outputs: torch.Tensor, labels: torch.Tensor) -> Any:
        return of_outputs(outputs, labels)[0], units(outputs, labels)

    with pytest.raises(ObjectiveError, match=message):
        EmpiricalRisk(model, (x, y), loss)


class TwoOutputs(Tagger):
    """Logits and hidden states, as recurrent networks and many transformers give."""

    def forward(self, x: torch.Tensor) -> Any:
        hidden = torch.tanh(self.hidden(x))
        return self.head(hidden), hidden


def test_of_a_tuple_the_loss_takes_the_first_output() -> None:
    x, y = padded()
    one, other = (HessianOperator(EmpiricalRisk(m, (x, y))) for m in (TwoOutputs(), Tagger()))
    same(one.to_dense(), other.to_dense())


def test_pyhessian_is_given_the_same_mean() -> None:
    (x, y), model = padded(), Tagger()
    risk = EmpiricalRisk(model, (x, y), batch_size=5)
    largest = torch.linalg.eigvalsh(HessianOperator(risk).to_dense())[-1]
    found = PyHessianBackend(top=1, change=1e-7).solve(HessianOperator(risk)).largest[0]
    assert found == pytest.approx(float(largest), rel=1e-4)
    by_model = EmpiricalRisk(model, (x, y), of_model)
    with pytest.raises(SolverError, match="model and batch"):
        PyHessianBackend().solve(HessianOperator(by_model))
