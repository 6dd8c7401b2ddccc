"""Specifications of networks, and inference of a multi-layer perceptron from shapes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from hessscope.errors import ArchitectureError, OptionError, UnknownNameError
from hessscope.loaders.checkpoints.model_sources import resolve_model
from hessscope.loaders.checkpoints.perceptrons import (
    ACTIVATIONS,
    MultiLayerPerceptron,
    infer_perceptron,
    make_activation,
    make_perceptron,
    parse_perceptron,
)


def state(*entries: tuple[str, tuple[int, ...]]) -> dict[str, torch.Tensor]:
    return {name: torch.randn(shape) for name, shape in entries}


def weights_of(layers: tuple) -> list[str]:
    return [layer.weight_key for layer in layers]


def test_spec_gives_layers_and_activation() -> None:
    model = make_perceptron("mlp:6-5-4-3:tanh")
    assert [tuple(p.shape) for p in model.parameters()] == [
        (5, 6),
        (5,),
        (4, 5),
        (4,),
        (3, 4),
        (3,),
    ]
    assert model.spec == "mlp:6-5-4-3:tanh"
    x = torch.randn(7, 2, 3)
    linears = [layer for layer in model.modules() if isinstance(layer, nn.Linear)]
    expected = linears[2](torch.tanh(linears[1](torch.tanh(linears[0](x.flatten(1))))))
    torch.testing.assert_close(model(x), expected)


def test_spec_without_activation_is_relu() -> None:
    assert make_perceptron("mlp:784-10-784").spec == "mlp:784-10-784:relu"
    assert make_perceptron("mlp:8-3").spec == "mlp:8-3"
    assert parse_perceptron("mlp:784-10-784").activation is None


@pytest.mark.parametrize("spec", ["mlp:", "mlp:784", "mlp:784-x-10", "mlp:784-0-10", "mlp:3-2:"])
def test_bad_specs_are_refused_with_an_example(spec: str) -> None:
    with pytest.raises(OptionError, match="mlp:784-25-10:relu"):
        parse_perceptron(spec)


def test_unknown_activation_suggests_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'sigmoid'"):
        make_perceptron("mlp:4-3-2:sigmoyd")


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_activations_map_shapes_to_themselves(name: str) -> None:
    x = torch.randn(3, 4)
    assert make_activation(name)(x).shape == x.shape
    assert make_activation(name.upper())(x).shape == x.shape


@pytest.mark.parametrize(
    "entries",
    [
        [("0.weight", (5, 6)), ("0.bias", (5,)), ("2.weight", (3, 5)), ("2.bias", (3,))],
        [("fc1.weight", (5, 6)), ("fc1.bias", (5,)), ("out.weight", (3, 5)), ("out.bias", (3,))],
        [("layers.0.weight", (5, 6)), ("layers.1.weight", (5, 5)), ("head.weight", (3, 5))],
        [("train.weight", (5, 6)), ("train.bias", (5,)), ("forward.weight", (3, 5))],
        [("W1", (5, 6)), ("b1", (5,)), ("W2", (3, 5)), ("b2", (3,))],
        [("weights.0", (5, 6)), ("weights.1", (3, 5))],
        [("a.kernel", (5, 6)), ("a.bias", (5,)), ("b.kernel", (3, 5)), ("b.bias", (3,))],
        [("weight", (3, 6)), ("bias", (3,))],
        [("enc.w", (2, 6)), ("enc.b", (2,)), ("dec.w", (6, 2)), ("dec.b", (6,))],
    ],
)
def test_any_names_are_understood(entries: list[tuple[str, tuple[int, ...]]]) -> None:
    found = state(*entries)
    layers = infer_perceptron(found)
    assert weights_of(layers) == [name for name, shape in entries if len(shape) == 2]
    assert sum(la.bias_key is not None for la in layers) == sum(len(s) == 1 for _, s in entries)
    model = MultiLayerPerceptron(layers)
    assert sum(p.numel() for p in model.parameters()) == sum(v.numel() for v in found.values())
    x = torch.randn(2, entries[0][1][1])
    assert model(x).shape == (2, layers[-1].outputs)


def test_names_of_the_file_are_kept() -> None:
    layers = infer_perceptron(
        state(("net.stack.0.weight", (5, 6)), ("net.stack.0.bias", (5,)),
              ("net.stack.2.weight", (3, 5)), ("net.stack.2.bias", (3,)))
    )  # fmt: skip
    names = [name for name, _ in MultiLayerPerceptron(layers).named_parameters()]
    assert names == [
        "net.stack.0.weight", "net.stack.0.bias", "net.stack.2.weight", "net.stack.2.bias",
    ]  # fmt: skip


def test_sorted_names_are_put_into_their_numbers_order() -> None:
    # As a format that sorts its keys gives them: 10 before 2; all sizes would chain.
    entries = [(f"layers.{n}.weight", (5, 5)) for n in (0, 10, 2, 4)]
    layers = infer_perceptron(state(*entries), ordered=False)
    assert [layer.name for layer in layers] == ["layers.0", "layers.2", "layers.4", "layers.10"]


def test_names_without_numbers_chain_in_the_only_possible_order() -> None:
    entries = [("hidden.weight", (4, 5)), ("input.weight", (5, 6)), ("output.weight", (3, 4))]
    layers = infer_perceptron(state(*entries), ordered=False)
    assert [layer.name for layer in layers] == ["input", "hidden", "output"]


def test_ambiguous_order_is_not_guessed() -> None:
    entries = [("alpha.weight", (5, 5)), ("beta.weight", (5, 5))]
    with pytest.raises(ArchitectureError, match="do not chain in one way"):
        infer_perceptron(state(*entries), ordered=False)


@pytest.mark.parametrize(
    ("entries", "named"),
    [
        ([("conv.weight", (4, 1, 3, 3)), ("fc.weight", (3, 5))], "conv.weight"),
        ([("fc.weight", (3, 5)), ("norm.weight", (3,)), ("norm.bias", (3,))], "norm.weight"),
        ([("a.weight", (5, 6)), ("b.weight", (3, 4))], "do not chain"),
        ([("a.weight", (6, 5)), ("a.bias", (5,))], "a.bias"),
    ],
)
def test_other_networks_are_refused_with_the_remedy(
    entries: list[tuple[str, tuple[int, ...]]], named: str
) -> None:
    with pytest.raises(ArchitectureError, match=named) as caught:
        infer_perceptron(state(*entries))
    assert "`model=file.py:factory" in str(caught.value)
    assert entries[0][0] in str(caught.value)
    assert "\n" not in str(caught.value)


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


MODEL_FILE = """
from torch import nn
import beside

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(beside.WIDTH, 2)
    def forward(self, x):
        return self.fc(x)

ready = Net()
def broken():
    return nn.Linear("three", 2)
def needs(width):
    return nn.Linear(width, 2)
def number():
    return 3
constant = 3
"""


@pytest.fixture
def model_file(tmp_path: Path) -> Path:
    write(tmp_path / "beside.py", "WIDTH = 4\n")
    return write(tmp_path / "my model.py", MODEL_FILE)


@pytest.mark.parametrize("name", ["Net", "ready"])
def test_factories_come_from_files(model_file: Path, name: str) -> None:
    source = resolve_model(f"{model_file}:{name}")
    assert source.make()(torch.zeros(1, 4)).shape == (1, 2)
    assert source.label == f"my model.py:{name}"
    assert not list(model_file.parent.glob("*.pyc"))


def test_factories_come_from_packages() -> None:
    assert isinstance(resolve_model("torch.nn:Identity").make(), nn.Identity)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("broken", r"line 14.*TypeError"),
        ("needs", r"without arguments"),
        ("number", r"gave int; it must give"),
    ],
)
def test_failing_factories_are_named_with_their_line(
    model_file: Path, name: str, message: str
) -> None:
    with pytest.raises(ArchitectureError, match=message) as caught:
        resolve_model(f"{model_file}:{name}").make()
    assert "my model.py" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_wrong_specs_say_what_is_wrong(model_file: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="Known: Net"):
        resolve_model(f"{model_file}:Nets")
    with pytest.raises(ArchitectureError, match="not a model"):
        resolve_model(f"{model_file}:constant")
    with pytest.raises(OptionError, match=r"file\.py:factory"):
        resolve_model(str(model_file))
    with pytest.raises(OptionError, match="does not exist"):
        resolve_model(f"{tmp_path}/absent.py:Net")
    bad = write(tmp_path / "bad.py", "def f(:\n    pass\n")
    with pytest.raises(ArchitectureError, match=r"bad\.py, line 1: SyntaxError"):
        resolve_model(f"{bad}:f")
    failing = write(tmp_path / "failing.py", "\n\nraise RuntimeError('no luck')\n")
    with pytest.raises(ArchitectureError, match=r"failing\.py, line 3: RuntimeError: no luck"):
        resolve_model(f"{failing}:f")
    with pytest.raises(OptionError, match="not int"):
        resolve_model(3)  # type: ignore[arg-type]


def test_a_given_module_is_copied() -> None:
    mine = nn.Linear(2, 2)
    made = resolve_model(mine).make()
    assert made is not mine
    torch.testing.assert_close(made.weight, mine.weight)
