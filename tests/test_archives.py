"""TorchScript and torch.export archives: same outputs, second derivatives, real parameters."""

from __future__ import annotations

import copy
import logging
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, jvp, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from hessscope.errors import ArchitectureError, CheckpointError
from hessscope.loaders.checkpoints import load_checkpoint

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::torch.jit.TracerWarning"
)


class Convolutional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 3, 3)
        self.bn = nn.BatchNorm2d(3)
        self.drop = nn.Dropout(0.5)
        self.fc = nn.Linear(27, 4)
        self.register_buffer("scale", torch.tensor([2.0]), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.tanh(self.bn(self.conv(x)))
        x = nn.functional.avg_pool2d(x, 2).view(x.size(0), -1)
        return nn.functional.log_softmax(self.drop(self.fc(x)) * self.scale, 1)


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(10, 6)
        self.norm = nn.LayerNorm(6)
        self.lstm = nn.LSTM(6, 5, batch_first=True)
        self.gru = nn.GRU(5, 4, batch_first=True)
        self.fc = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h, _ = self.lstm(self.norm(self.embed(x)))
        h, _ = self.gru(h)
        return self.fc(h[:, -1])


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(10, 8)
        self.block = nn.TransformerEncoderLayer(
            8, 2, 12, dropout=0.3, activation="gelu", batch_first=True
        )
        self.fc = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.block(self.embed(x)).mean(1))


class Tied(nn.Module):
    """Shared weights, a loop, a list and a branch that depends on the data."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(5, 5)
        self.second = nn.Linear(5, 5)
        self.second.weight = self.first.weight
        self.depth = 3

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        kept: list[torch.Tensor] = []
        for step in range(self.depth):
            x = torch.tanh(self.first(x)) + 0.1 * step
            kept.append(x)
        y = self.second(x) if bool(x.sum() > 1e9) else self.second(x) - 1
        return torch.stack(kept).mean(0) + y


IMAGES = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(1))
WORDS = torch.arange(20).reshape(4, 5) % 10
NETWORKS: dict[str, tuple[Callable[[], nn.Module], torch.Tensor]] = {
    "convolutional": (Convolutional, IMAGES),
    "recurrent": (Recurrent, WORDS),
    "attention": (Attention, WORDS),
    "tied": (Tied, IMAGES.reshape(4, -1)[:, :5]),
}


def build(name: str) -> tuple[nn.Module, torch.Tensor]:
    make, inputs = NETWORKS[name]
    model = make()
    for buffer in model.buffers():
        if buffer.is_floating_point() and buffer.ndim:
            buffer.uniform_(0.5, 1.5)
    return model, inputs


def script(model: nn.Module, inputs: torch.Tensor, path: Path) -> None:
    torch.jit.script(model).save(str(path))


def trace(model: nn.Module, inputs: torch.Tensor, path: Path) -> None:
    torch.jit.trace(model, inputs, check_trace=False).save(str(path))


@pytest.fixture(autouse=True)
def _quiet() -> None:
    logging.getLogger("torch.export.pt2_archive._package").setLevel(logging.ERROR)


def export(model: nn.Module, inputs: torch.Tensor, path: Path) -> None:
    shapes = ({0: torch.export.Dim.AUTO},)
    torch.export.save(torch.export.export(model, (inputs,), dynamic_shapes=shapes), path)


def check_derivatives(model: nn.Module, inputs: torch.Tensor) -> None:
    """Hessian products against finite differences of the gradient, forward over reverse."""
    model = copy.deepcopy(model).double()
    x = inputs.double() if inputs.is_floating_point() else inputs
    point = {name: value.detach() for name, value in model.named_parameters()}
    direction = {name: torch.randn_like(value) for name, value in point.items()}

    def loss(parameters: dict[str, torch.Tensor]) -> torch.Tensor:
        return functional_call(model, parameters, (x,)).pow(2).mean()

    def shifted(by: float) -> dict[str, torch.Tensor]:
        return grad(loss)({k: v + by * direction[k] for k, v in point.items()})

    with sdpa_kernel(SDPBackend.MATH):
        product = jvp(grad(loss), (point,), (direction,))[1]
        plus, minus = shifted(1e-5), shifted(-1e-5)
        live = {k: v.clone().requires_grad_() for k, v in point.items()}
        first = torch.autograd.grad(loss(live), tuple(live.values()), create_graph=True)
        inner = sum((g * d).sum() for g, d in zip(first, direction.values(), strict=True))
        double = torch.autograd.grad(inner, tuple(live.values()))
    size = max(v.abs().max() for v in product.values())
    for (name, value), other in zip(product.items(), double, strict=True):
        difference = (plus[name] - minus[name]) / 2e-5
        assert (difference - value).abs().max() < 1e-6 * size
        assert (other - value).abs().max() < 1e-10 * size


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("archive", [script, trace, export])
def test_archives_are_differentiable_networks(
    tmp_path: Path, name: str, archive: Callable[..., None]
) -> None:
    if name == "tied" and archive is export:
        pytest.skip("torch.export refuses branches that depend on the data")
    model, inputs = build(name)
    path = tmp_path / "archive.pt"
    archive(model.eval(), inputs, path)
    found = load_checkpoint(path)
    torch.testing.assert_close(found.model(inputs), model(inputs), rtol=1e-5, atol=1e-6)
    assert found.format == ("torch.export" if archive is export else "TorchScript")
    assert found.architecture_source == "in the file"
    assert found.activation_source is None
    assert found.batch_size is None
    names = {name for name, _ in model.named_parameters()}
    assert {name for name, _ in found.model.named_parameters()} == names
    assert set(found.model.state_dict()) >= set(model.state_dict())
    assert found.model(inputs[:3]).shape[0] == 3
    check_derivatives(found.model, inputs)


@pytest.mark.parametrize("archive", [script, trace, export])
def test_archives_can_be_vectorised_copied_and_pickled(
    tmp_path: Path, archive: Callable[..., None]
) -> None:
    model, inputs = build("convolutional")
    path = tmp_path / "archive.pt"
    archive(model.eval(), inputs, path)
    found = load_checkpoint(path).model
    weights = dict(found.named_parameters())
    each = vmap(lambda x: functional_call(found, weights, (x[None],))[0])(inputs)
    torch.testing.assert_close(each, model(inputs))
    again = pickle.loads(pickle.dumps(found))
    torch.testing.assert_close(again(inputs), model(inputs))
    before = {k: v.clone() for k, v in found.state_dict().items()}
    found(inputs)
    assert all(torch.equal(v, before[k]) for k, v in found.state_dict().items())


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("archive", [script, trace, export])
def test_archives_of_training_mode_are_evaluated(
    tmp_path: Path, archive: Callable[..., None]
) -> None:
    model, inputs = build("convolutional")
    path = tmp_path / "archive.pt"
    archive(model.train(), inputs, path)
    found = load_checkpoint(path)
    with torch.no_grad():
        kept = dict(found.model.named_buffers())  # tracing may have run the model
        for name, value in model.named_buffers():
            value.copy_(kept.get(name, value))
        torch.testing.assert_close(found.model(inputs), model.eval()(inputs))


@pytest.mark.parametrize("name", ["convolutional", "recurrent"])
def test_export_of_one_batch_size_is_freed(tmp_path: Path, name: str) -> None:
    model, inputs = build(name)
    inputs = inputs[:3]
    path = tmp_path / "archive.pt2"
    torch.export.save(torch.export.export(model.eval(), (inputs,)), path)
    found = load_checkpoint(path)
    assert found.batch_size is None
    assert any("exported for batches of 3" in note for note in found.notes)
    many = torch.cat([inputs, inputs, inputs])[:7]
    torch.testing.assert_close(found.model(many), model(many))


def test_trace_of_one_batch_size_never_reads_beyond_its_state(tmp_path: Path) -> None:
    model, _ = build("recurrent")
    path = tmp_path / "archive.pt"

    class Fixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = model.lstm

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.lstm(x, (torch.zeros(1, 2, 5), torch.zeros(1, 2, 5)))[0]

    trace(Fixed().eval(), torch.randn(2, 3, 6), path)
    found = load_checkpoint(path)
    assert found.model(torch.randn(2, 3, 6)).shape == (2, 3, 5)
    with pytest.raises(ArchitectureError, match="another number of examples"):
        found.model(torch.randn(900, 3, 6))


class Mixes(nn.Module):
    """Depends on the size of its batch in earnest."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(x) + self.fc(x.reshape(6, x.shape[0])[:, :1].T)


def test_export_bound_to_its_batch_size_says_so(tmp_path: Path) -> None:
    path = tmp_path / "archive.pt2"
    torch.export.save(torch.export.export(Mixes(), (torch.randn(4, 6),)), path)
    found = load_checkpoint(path)
    assert found.batch_size == 4
    assert any("batches of 4 only" in note for note in found.notes)


def test_decomposed_export(tmp_path: Path) -> None:
    model, inputs = build("convolutional")
    path = tmp_path / "archive.pt2"
    program = torch.export.export(model.eval(), (inputs,)).run_decompositions()
    torch.export.save(program, path)
    found = load_checkpoint(path)
    torch.testing.assert_close(found.model(inputs), model(inputs))
    check_derivatives(found.model, inputs)


@pytest.mark.parametrize("archive", [script, export])
def test_given_model_takes_the_weights_of_an_archive(
    tmp_path: Path, archive: Callable[..., None]
) -> None:
    model, inputs = build("convolutional")
    path = tmp_path / "archive.pt"
    archive(model.eval(), inputs, path)
    found = load_checkpoint(path, model=Convolutional)
    assert isinstance(found.model, Convolutional)
    assert found.architecture_source == "given"
    torch.testing.assert_close(found.model(inputs), model(inputs))


def test_frozen_archives_have_nothing_to_differentiate(tmp_path: Path) -> None:
    model, _ = build("convolutional")
    path = tmp_path / "frozen.pt"
    torch.jit.freeze(torch.jit.script(model.eval())).save(str(path))
    with pytest.raises(ArchitectureError, match=r"frozen into constants.*--model"):
        load_checkpoint(path)


@pytest.mark.parametrize("archive", [script, export])
def test_damaged_archives_are_refused(tmp_path: Path, archive: Callable[..., None]) -> None:
    model, inputs = build("convolutional")
    path = tmp_path / "archive.pt"
    archive(model.eval(), inputs, path)
    content = path.read_bytes()
    for damaged in (content[: len(content) // 2], content.replace(b"conv", b"vnoc")):
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError) as caught:
            load_checkpoint(path)
        assert "\n" not in str(caught.value)
