"""TorchScript and torch.export archives: run by torch when trusted, else their weights alone."""

from __future__ import annotations

import copy
import logging
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, jvp
from torch.nn.attention import SDPBackend, sdpa_kernel

import hessscope as hs
from hessscope.errors import ArchitectureError, CheckpointError, UntrustedCheckpointError
from hessscope.loaders.checkpoints import CheckpointFile, load_checkpoint

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


def written_for_float32(name: str, archive: Callable[..., None]) -> bool:
    """Traces of recurrent layers begin with zeros whose data type is written into the graph."""
    return name == "recurrent" and archive is not script


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("archive", [script, trace, export])
def test_trusted_archives_are_differentiable_networks(
    tmp_path: Path, name: str, archive: Callable[..., None]
) -> None:
    if name == "tied" and archive is export:
        pytest.skip("torch.export refuses branches that depend on the data")
    model, inputs = build(name)
    path = tmp_path / "archive.pt"
    archive(model.eval(), inputs, path)
    with pytest.raises(UntrustedCheckpointError, match=r"not run.*`model=.*`trust=True`"):
        load_checkpoint(path)
    found = load_checkpoint(path, trust=True)
    torch.testing.assert_close(found.model(inputs), model(inputs), rtol=1e-5, atol=1e-6)
    assert found.format == ("torch.export" if archive is export else "TorchScript")
    assert found.architecture_source == "in the file"
    names = {name for name, _ in model.named_parameters()}
    assert {name for name, _ in found.model.named_parameters()} == names
    assert set(found.model.state_dict()) >= set(model.state_dict())
    assert found.model(inputs[:3]).shape[0] == 3
    if written_for_float32(name, archive):
        with pytest.raises(ArchitectureError, match=r"bound to a data type.*in float64"):
            found.model.double()(inputs)
    else:
        check_derivatives(found.model, inputs)


@pytest.mark.parametrize("archive", [script, trace, export])
def test_archives_can_be_copied_and_pickled(tmp_path: Path, archive: Callable[..., None]) -> None:
    model, inputs = build("convolutional")
    path = tmp_path / "archive.pt"
    archive(model.eval(), inputs, path)
    found = load_checkpoint(path, trust=True).model
    before = {k: v.clone() for k, v in found.state_dict().items()}
    other = copy.deepcopy(found) if archive is export else pickle.loads(pickle.dumps(found))
    for value in other.parameters():
        value.data.zero_()
    assert float(other(inputs).detach().std(0).max()) == 0.0
    torch.testing.assert_close(found(inputs), model(inputs))
    assert all(torch.equal(v, before[k]) for k, v in found.state_dict().items())


@pytest.mark.parametrize("archive", [script, trace, export])
def test_a_trusted_program_has_the_spectrum_of_its_network(
    tmp_path: Path, archive: Callable[..., None]
) -> None:
    model, inputs = build("convolutional")
    path = tmp_path / "archive.pt"
    archive(model.eval(), inputs, path)
    data = (inputs, torch.tensor([0, 1, 2, 3]))
    found = load_checkpoint(path, trust=True).model
    spectra = [
        hs.ExactBackend().solve(
            hs.HessianOperator(hs.EmpiricalRisk(network, data, loss="nll", device="cpu"))
        )
        for network in (found, model)
    ]
    assert abs(spectra[0].eigenvalues - spectra[1].eigenvalues).max() < 1e-12


def test_export_of_one_batch_size_is_refused(tmp_path: Path) -> None:
    model, inputs = build("convolutional")
    path = tmp_path / "archive.pt2"
    torch.export.save(torch.export.export(model.eval(), (inputs[:3],)), path)
    with pytest.raises(ArchitectureError, match=r"batches of 3 examples only.*dynamic_shapes"):
        load_checkpoint(path, trust=True)
    found = load_checkpoint(path, model=Convolutional)
    assert torch.equal(found.model.conv.weight, model.conv.weight)


@pytest.mark.parametrize("archive", [script, trace, export])
@pytest.mark.parametrize("name", ["convolutional", "recurrent", "attention"])
def test_weights_of_an_archive_need_its_network_and_no_trust(
    tmp_path: Path, name: str, archive: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, inputs = build(name)
    path = tmp_path / "archive.pt"
    archive(model.eval(), inputs, path)

    def never(*arguments: object, **options: object) -> None:
        raise AssertionError("the program was loaded")

    monkeypatch.setattr(torch.jit, "load", never)
    monkeypatch.setattr(torch.export, "load", never)
    for trust in (False, True):
        found = load_checkpoint(path, model=NETWORKS[name][0], trust=trust)
        kept = found.model if name != "convolutional" or archive is script else None
        if kept is not None:
            torch.testing.assert_close(kept(inputs), model(inputs), rtol=0, atol=0)
        state = found.model.state_dict()
        assert all(torch.equal(state[k], v) for k, v in model.state_dict().items())
    seen = CheckpointFile.open(path).tensors()
    trained = {name: tuple(p.shape) for name, p in model.named_parameters()}
    assert {layer.name: layer.shape for layer in seen.layers} == trained
    assert {layer.name for layer in seen.buffers} >= set(model.state_dict()) - set(trained)


def test_shared_weights_of_a_script_stay_shared(tmp_path: Path) -> None:
    model, inputs = build("tied")
    path = tmp_path / "archive.pt"
    script(model.eval(), inputs, path)
    found = load_checkpoint(path, trust=True)
    assert found.parameters == sum(p.numel() for p in model.parameters())
    assert CheckpointFile.open(path).tensors().parameters == found.parameters


def test_frozen_archives_have_nothing_to_differentiate(tmp_path: Path) -> None:
    model, _ = build("convolutional")
    path = tmp_path / "frozen.pt"
    torch.jit.freeze(torch.jit.script(model.eval())).save(str(path))
    with pytest.raises(ArchitectureError, match=r"frozen into constants.*`model="):
        load_checkpoint(path, trust=True)


@pytest.mark.parametrize("trust", [False, True])
@pytest.mark.parametrize("archive", [script, export])
def test_damaged_archives_are_refused(
    tmp_path: Path, archive: Callable[..., None], trust: bool
) -> None:
    model, inputs = build("convolutional")
    path = tmp_path / "archive.pt"
    archive(model.eval(), inputs, path)
    content = path.read_bytes()
    for damaged in (content[: len(content) // 2], content.replace(b"conv", b"vnoc")):
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError) as caught:
            load_checkpoint(path, model=Convolutional, trust=trust)
        assert "\n" not in str(caught.value)


def test_recurrent_states_of_a_fixed_size_are_refused(tmp_path: Path) -> None:
    # torch's own kernels read beyond such a state, and crash.
    class Fixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = nn.LSTM(6, 5, batch_first=True)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.lstm(x, (torch.zeros(1, 2, 5), torch.zeros(1, 2, 5)))[0]

    path = tmp_path / "archive.pt"
    trace(Fixed().eval(), torch.randn(2, 3, 6), path)
    with pytest.raises(ArchitectureError, match="fixed number of examples"):
        load_checkpoint(path, trust=True)
