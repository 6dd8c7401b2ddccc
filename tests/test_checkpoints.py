"""Opening checkpoints of every format: what is found, what is refused, real files."""

from __future__ import annotations

import datetime
import json
import pathlib
import warnings
from argparse import Namespace
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from hessscope.errors import (
    ArchitectureError,
    AssumptionWarning,
    CheckpointError,
    NonFiniteError,
    OptionError,
    UnknownNameError,
)
from hessscope.loaders import load_data
from hessscope.loaders.checkpoints import (
    Checkpoint,
    CheckpointFile,
    load_checkpoint,
)


def read_checkpoint(path: Path, model: object = None, activation: str | None = None) -> Checkpoint:
    return CheckpointFile.open(path).resolve(model, activation)


MODELS = Path(__file__).parent / "models"


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3))


class Convolutional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3)
        self.bn = nn.BatchNorm2d(2)
        self.fc = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(torch.tanh(self.bn(self.conv(x))).flatten(1))


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Linear(4, 4, bias=False)
        self.decoder = nn.Linear(4, 4, bias=False)
        self.decoder.weight = self.encoder.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.decoder(torch.tanh(self.encoder(x)))


def save(path: Path, content: object, **options: object) -> Path:
    torch.save(content, path, **options)
    return path


def same_outputs(checkpoint: Checkpoint, model: nn.Module, x: torch.Tensor) -> None:
    torch.testing.assert_close(checkpoint.model(x), model.eval()(x), rtol=0, atol=0)


# --- what is found ---------------------------------------------------------------------------


def test_bare_state_dict_is_inferred(tmp_path: Path) -> None:
    model = network()
    path = save(tmp_path / "model.pt", model.state_dict())
    found = load_checkpoint(path, activation="tanh")
    same_outputs(found, model, torch.randn(4, 6))
    assert (found.format, found.architecture) == ("state_dict (zip)", "mlp:6-5-3:tanh")
    assert found.architecture_source == "inferred from the shapes"
    assert found.activation_source == "given"
    assert found.activation_candidates == ()
    assert found.parameters == 53
    assert found.layers[0] == ("0.weight", (5, 6), "float32")
    assert found.layers[0].parameters == 30
    assert len(found.sha256) == 64
    assert not found.model.training


def test_unknown_activation_is_assumed_and_said(tmp_path: Path) -> None:
    path = save(tmp_path / "model.pt", network().state_dict())
    with pytest.warns(AssumptionWarning, match="state it with `activation`"):
        found = load_checkpoint(path)
    assert (found.architecture, found.activation_source) == ("mlp:6-5-3:relu", "assumed")
    assert {"relu", "tanh", "sigmoid"} <= set(found.activation_candidates)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_checkpoint(path).activation_source == "assumed"


def test_activation_can_be_exchanged(tmp_path: Path) -> None:
    model = network()
    path = save(tmp_path / "model.pt", {"model." + k: v for k, v in model.state_dict().items()})
    found = read_checkpoint(path).with_activation("tanh", "compared")
    same_outputs(found, model, torch.randn(4, 6))
    assert (found.architecture, found.activation_source) == ("mlp:6-5-3:tanh", "compared")
    with pytest.raises(UnknownNameError):
        found.with_activation("tanhh")


def test_one_layer_has_no_activation_in_doubt(tmp_path: Path) -> None:
    path = save(tmp_path / "model.pt", nn.Linear(4, 2).state_dict())
    found = load_checkpoint(path)
    assert (found.architecture, found.activation_source) == ("mlp:4-2", None)
    assert found.activation_candidates == ()
    with pytest.raises(ArchitectureError, match="fixed"):
        found.with_activation("tanh")


@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: {"state_dict": s, "epoch": 3},
        lambda s: {"epoch": 3, "model": s, "optimizer": {"state": {}, "param_groups": []}},
        lambda s: {"net": s, "acc": 91.5, "epoch": 3},
        lambda s: {"model_state_dict": s, "loss": torch.tensor(0.25), "epoch": 3},
        lambda s: {"weights": s, "epoch": 3},
        lambda s: {"ema": s, "epoch": 3},
        lambda s: {"params": s, "epoch": torch.tensor(3)},
        lambda s: {"network": s, "epoch": 3},
        lambda s: {"checkpoint": {"model": s}, "epoch": 3},
        lambda s: {"something": s, "epoch": 3},
        lambda s: {**s, "epoch": 3},
        lambda s: {"model": s, "ema": {k: v + 1 for k, v in s.items()}, "epoch": 3},
        lambda s: {"ema_model": {k: v + 1 for k, v in s.items()}, "my_own": s, "epoch": 3},
        lambda s: {"state_dict": {"module." + k: v for k, v in s.items()}, "epoch": 3},
        lambda s: {"model": {"_orig_mod.module." + k: v for k, v in s.items()}, "epoch": 3},
        lambda s: {"model": {"module.model._orig_mod." + k: v for k, v in s.items()}, "epoch": 3},
        lambda s: {"model": {"n_averaged": torch.tensor(5), **s}, "epoch": 3},
        lambda s: {"model": {k: v.numpy() for k, v in s.items()}, "epoch": 3},
        lambda s: {"model": {k: nn.Parameter(v) for k, v in s.items()}, "epoch": 3},
    ],
)
def test_weights_are_found_where_programs_put_them(
    tmp_path: Path, wrap: Callable[[dict[str, torch.Tensor]], object]
) -> None:
    model = network()
    path = save(tmp_path / "model.pt", wrap(dict(model.state_dict())))
    found = load_checkpoint(path, activation="tanh")
    same_outputs(found, model, torch.randn(4, 6))
    assert found.metadata["epoch"] == 3
    assert [layer.name for layer in found.layers] == ["0.weight", "0.bias", "2.weight", "2.bias"]


def test_notes_state_what_was_chosen(tmp_path: Path) -> None:
    weights = {"module." + k: v for k, v in network().state_dict().items()}
    path = save(tmp_path / "model.pt", {"model": weights, "model_ema": weights})
    notes = "; ".join(read_checkpoint(path).notes)
    assert "under 'model'" in notes
    assert "'model_ema'" in notes
    assert "prefix 'module.'" in notes


def test_legacy_serialisation(tmp_path: Path) -> None:
    model = network()
    content = {"state_dict": model.state_dict(), "best_prec1": np.float64(91.25)}
    path = save(tmp_path / "model.th", content, _use_new_zipfile_serialization=False)
    found = load_checkpoint(path, activation="tanh")
    same_outputs(found, model, torch.randn(4, 6))
    assert found.format == "state_dict (legacy pickle)"
    assert found.metadata["best_prec1"] == 91.25


def test_lightning(tmp_path: Path) -> None:
    model = network()
    content = {
        "epoch": 9, "global_step": 100, "pytorch-lightning_version": "2.2.0",
        "state_dict": OrderedDict(("model." + k, v) for k, v in model.state_dict().items()),
        "loops": {"fit_loop": {"state_dict": {}}}, "callbacks": {}, "lr_schedulers": [],
        "optimizer_states": [{"state": {0: {"exp_avg": torch.ones(3)}}, "param_groups": []}],
        "hyper_parameters": {"lr": 0.1, "width": 5, "name": "x"},
    }  # fmt: skip
    found = load_checkpoint(save(tmp_path / "last.ckpt", content), activation="tanh")
    same_outputs(found, model, torch.randn(4, 6))
    assert found.format == "Lightning"
    assert found.metadata["hyper_parameters.lr"] == 0.1
    assert found.metadata["pytorch-lightning_version"] == "2.2.0"
    beside = [key for key in found.metadata if "loops" in key or "optim" in key]
    assert beside == ["optimizer_states.0"]


def test_safetensors(tmp_path: Path) -> None:
    model = network()
    path = tmp_path / "model.bin"  # the content decides, not the name
    save_file(model.state_dict(), path, metadata={"epoch": "7"})
    found = load_checkpoint(path, activation="tanh")
    same_outputs(found, model, torch.randn(4, 6))
    assert found.format == "safetensors"
    assert found.metadata == {"epoch": "7"}


def test_hessscopes_own_files_know_their_architecture(tmp_path: Path) -> None:
    model = network()
    content = {"state_dict": model.state_dict(), "hessscope": {"architecture": "mlp:6-5-3:tanh"}}
    found = load_checkpoint(save(tmp_path / "model.pt", content))
    same_outputs(found, model, torch.randn(4, 6))
    assert found.architecture_source == "in the file"
    assert found.activation_source is None


def test_harmless_types_need_no_trust(tmp_path: Path) -> None:
    content = {
        "model": network().state_dict(),
        "acc": np.float64(97.5), "correct": np.int64(12), "flag": np.bool_(True),
        "history": np.arange(6.0).reshape(2, 3), "half": np.float16(0.5),
        "args": Namespace(lr=0.1, out=pathlib.PurePosixPath("a/b"), note=None),
        "when": datetime.datetime(2024, 5, 6, 7, 8), "path": Path("runs/1"),
        "counts": defaultdict(list, a=[1]), "recent": deque([1, 2]), "tags": {"x", "y"},
        "frozen": frozenset({1}), "big": 2**70, "kind": np.dtype("float32"),
        "random": np.random.RandomState(0).get_state(legacy=False)["state"],
        "names": np.array(["a", "b"]), "type": np.float32, "order": np.array([1, 2], dtype=">i4"),
    }  # fmt: skip
    before = set(torch.serialization.get_safe_globals())
    meta = read_checkpoint(save(tmp_path / "model.pt", content)).metadata
    assert set(torch.serialization.get_safe_globals()) == before
    assert (meta["acc"], meta["correct"], meta["flag"], meta["half"]) == (97.5, 12, True, 0.5)
    assert (meta["args.lr"], meta["args.out"], meta["args.note"]) == (0.1, "a/b", None)
    assert meta["when"] == "2024-05-06 07:08:00"
    assert meta["path"] == "runs/1"


@pytest.mark.parametrize("module", [b"numpy.core.multiarray", b"numpy._core.multiarray"])
def test_numpy_names_of_both_generations_are_known(tmp_path: Path, module: bytes) -> None:
    path = tmp_path / "model.pt"
    content = {"model": network().state_dict(), "acc": np.float64(1.5), "curve": np.ones(3)}
    save(path, content, _use_new_zipfile_serialization=False)
    pickled = path.read_bytes()
    for name in (b"numpy.core.multiarray", b"numpy._core.multiarray"):
        pickled = pickled.replace(b"c" + name + b"\n", b"c" + module + b"\n")
    path.write_bytes(pickled)
    assert read_checkpoint(path).metadata["acc"] == 1.5


# --- architecture ----------------------------------------------------------------------------


def test_model_may_be_a_module_a_factory_or_a_spec(tmp_path: Path) -> None:
    model = Convolutional()
    model.bn.running_mean.fill_(0.5)
    path = save(tmp_path / "model.pt", {"state_dict": model.state_dict()})
    x = torch.randn(3, 1, 4, 4)
    mine = Convolutional()
    before = {k: v.clone() for k, v in mine.state_dict().items()}
    for given in (mine, Convolutional, lambda: Convolutional()):
        found = load_checkpoint(path, model=given)
        same_outputs(found, model, x)
        assert found.architecture_source == "given"
        assert found.activation_source is None
    assert all(torch.equal(v, before[k]) for k, v in mine.state_dict().items())
    assert mine.training
    assert [b.name for b in found.buffers] == [
        "bn.running_mean", "bn.running_var", "bn.num_batches_tracked",
    ]  # fmt: skip


def test_mlp_spec(tmp_path: Path) -> None:
    model = network()
    path = save(tmp_path / "model.pt", model.state_dict())
    found = load_checkpoint(path, model="mlp:6-5-3:tanh")
    same_outputs(found, model, torch.randn(2, 6))
    assert (found.architecture_source, found.activation_source) == ("given", "given")
    with pytest.raises(ArchitectureError, match="6-5-3"):
        load_checkpoint(path, model="mlp:6-4-3:tanh")
    with pytest.raises(OptionError, match="twice"):
        load_checkpoint(path, model="mlp:6-5-3:tanh", activation="relu")
    with pytest.raises(OptionError, match="in its code"):
        load_checkpoint(path, model=network, activation="relu")


@pytest.mark.parametrize("prefix", ["module.", "model.", "_orig_mod.", "net.body.", "a.module."])
def test_prefixes_go_only_where_that_helps(tmp_path: Path, prefix: str) -> None:
    model = network()
    path = save(tmp_path / "model.pt", {prefix + k: v for k, v in model.state_dict().items()})
    same_outputs(load_checkpoint(path, model=network), model, torch.randn(2, 6))


def test_prefix_that_the_model_has_too_stays(tmp_path: Path) -> None:
    model = nn.ModuleDict({"model": network()})
    model.forward = lambda x: model["model"](x)  # type: ignore[method-assign]
    path = save(tmp_path / "model.pt", model.state_dict())
    found = load_checkpoint(path, model=model)
    assert found.layers[0].name == "model.0.weight"
    assert found.notes == ()


def test_branch_that_fits_is_taken_and_stated(tmp_path: Path) -> None:
    model = network()
    weights = {"model." + k: v for k, v in model.state_dict().items()}
    weights |= {"criterion.weight": torch.ones(3), "inner._orig_mod.x": torch.ones(1)}
    found = load_checkpoint(save(tmp_path / "model.pt", weights), model=network)
    same_outputs(found, model, torch.randn(2, 6))
    assert any("2 other entries ignored" in note for note in found.notes)


def test_mismatch_names_what_is_in_the_file(tmp_path: Path) -> None:
    """A branch that happens to leave few names does not stand for the file."""
    stored = nn.ModuleDict({"conv": nn.Linear(3, 4), "norm": nn.BatchNorm1d(4)})
    torch.save(stored.state_dict(), tmp_path / "other.pt")
    wanted = nn.ModuleDict({"encoder": nn.Linear(3, 4), "head": nn.Linear(4, 2)})
    with pytest.raises(
        ArchitectureError, match=r"unexpected in the file: conv\.weight, conv\.bias"
    ):
        load_checkpoint(tmp_path / "other.pt", wanted)


def test_integer_weights_are_refused(tmp_path: Path) -> None:
    state = {"weight": torch.ones(2, 3, dtype=torch.int8), "bias": torch.zeros(2)}
    torch.save(state, tmp_path / "quantised.pt")
    for model in (None, nn.Linear(3, 2)):
        with pytest.raises(ArchitectureError, match="weight is int8 in the file; weights must be"):
            load_checkpoint(tmp_path / "quantised.pt", model, activation=None)


def test_a_perceptron_that_was_asked_for_and_is_none(tmp_path: Path) -> None:
    torch.save(nn.Sequential(nn.Conv2d(1, 2, 3)).state_dict(), tmp_path / "conv.pt")
    with pytest.raises(ArchitectureError, match=r"the weights do not fit mlp:5-6-3:tanh: "):
        load_checkpoint(tmp_path / "conv.pt", "mlp:5-6-3:tanh")


def test_tensors_of_an_unknown_architecture(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    torch.save({"state_dict": model.state_dict(), "epoch": 3}, tmp_path / "conv.pt")
    found = CheckpointFile.open(tmp_path / "conv.pt").tensors()
    assert [layer.name for layer in found.layers] == [name for name, _ in model.named_parameters()]
    assert {b.name for b in found.buffers} == {name for name, _ in model.named_buffers()}
    assert found.parameters == sum(p.numel() for p in model.parameters())
    assert found.metadata["epoch"] == 3


def test_mismatch_lists_everything(tmp_path: Path) -> None:
    weights = dict(network().state_dict())
    weights["extra.weight"] = weights.pop("2.bias")
    weights["0.weight"] = torch.zeros(5, 7)
    path = save(tmp_path / "model.pt", weights)
    with pytest.raises(ArchitectureError) as caught:
        load_checkpoint(path, model=network)
    message = str(caught.value)
    assert "missing in the file: 2.bias" in message
    assert "unexpected in the file: extra.weight" in message
    assert "0.weight is (5, 7) in the file and (5, 6) in the model" in message
    assert "\n" not in message


def test_num_batches_tracked_may_be_missing(tmp_path: Path) -> None:
    weights = {k: v for k, v in Convolutional().state_dict().items() if "num_batches" not in k}
    found = load_checkpoint(save(tmp_path / "model.pt", weights), model=Convolutional)
    assert any("num_batches_tracked" in note for note in found.notes)


def test_tied_weights_stay_tied(tmp_path: Path) -> None:
    model = Tied().double()
    path = save(tmp_path / "model.pt", model.state_dict())
    found = load_checkpoint(path, model=Tied)
    assert found.parameters == 16
    assert found.model.decoder.weight is found.model.encoder.weight
    assert found.layers[0].dtype == "float64"
    weights = {"encoder.weight": torch.ones(4, 4), "decoder.weight": torch.zeros(4, 4)}
    with pytest.raises(ArchitectureError, match=r"shares encoder\.weight and decoder\.weight"):
        load_checkpoint(save(tmp_path / "torn.pt", weights), model=Tied)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_weights_keep_their_data_type(tmp_path: Path, dtype: torch.dtype) -> None:
    model = network().to(dtype)
    path = save(tmp_path / "model.pt", model.state_dict())
    for given in (None, network):
        found = read_checkpoint(path, model=given)
        assert {p.dtype for p in found.model.parameters()} == {dtype}
        assert torch.equal(next(found.model.parameters()), model[0].weight)


def test_other_networks_name_the_remedy(tmp_path: Path) -> None:
    path = save(tmp_path / "model.pt", Convolutional().state_dict())
    with pytest.raises(ArchitectureError, match=r"`model=file\.py:factory") as caught:
        load_checkpoint(path)
    assert "conv.weight (2, 1, 3, 3)" in str(caught.value)


# --- what is refused -------------------------------------------------------------------------


def truncated(path: Path, size: int, **options: object) -> Path:
    save(path, {"w": torch.ones(200, 200)}, **options)
    path.write_bytes(path.read_bytes()[:size])
    return path


def safetensors_cut(path: Path) -> Path:
    save_file({"w": torch.ones(50, 50)}, path)
    path.write_bytes(path.read_bytes()[:-100])
    return path


BAD_FILES: list[tuple[str, Callable[[Path], object], str]] = [
    ("empty", lambda p: p.write_bytes(b""), "empty"),
    ("folder", lambda p: p.mkdir(), "is a folder"),
    ("text", lambda p: p.write_text("hello there\n"), "text file.*hello there"),
    ("html", lambda p: p.write_text("\n<!DOCTYPE html><html>"), "web page"),
    ("lfs", lambda p: p.write_text("version https://git-lfs.github.com/spec/v1\n"), "git lfs pull"),
    ("random", lambda p: p.write_bytes(bytes(range(1, 256)) * 9), "no known checkpoint format"),
    ("zip", lambda p: truncated(p, 9000), "truncated or damaged zip"),
    ("legacy", lambda p: truncated(p, 9000, _use_new_zipfile_serialization=False), "damaged"),
    ("stub", lambda p: truncated(p, 60, _use_new_zipfile_serialization=False), "damaged"),
    ("safetensors", safetensors_cut, "damaged safetensors"),
    ("npz", lambda p: np.savez(p.open("wb"), x=np.ones(3)), r"NumPy \.npz"),
    ("npy", lambda p: np.save(p.open("wb"), np.ones(3)), "NumPy array"),
    ("gzip", lambda p: p.write_bytes(b"\x1f\x8b\x08rest"), "gzip"),
    ("tensor", lambda p: save(p, torch.ones(3, 4)), r"one tensor of shape \(3, 4\)"),
    ("list", lambda p: save(p, [torch.ones(3), torch.ones(2)]), r"a list of 2 \(Tensor\)"),
    ("number", lambda p: save(p, 3), "type int"),
    ("nothing", lambda p: save(p, {}), "nothing in it"),
    ("no weights", lambda p: save(p, {"epoch": 3, "lr": 0.1}), "'epoch', 'lr'"),
    (
        "optimiser",
        lambda p: save(p, torch.optim.Adam(network().parameters()).state_dict()),
        "state of an optimiser",
    ),
    ("integers", lambda p: save(p, {"w": torch.ones(3, 4, dtype=torch.int64)}), "int64"),
    (
        "complex",
        lambda p: save(p, {"w": torch.ones(3, 4, dtype=torch.complex64)}),
        "complex tensors.*: w",
    ),
    ("sparse", lambda p: save(p, {"w": torch.eye(3).to_sparse()}), "sparse tensors.*: w"),
]


@pytest.mark.filterwarnings("ignore:.*sparse.*")
@pytest.mark.parametrize(("name", "make", "message"), BAD_FILES, ids=[b[0] for b in BAD_FILES])
def test_bad_files_get_one_clear_line(
    tmp_path: Path, name: str, make: Callable[[Path], object], message: str
) -> None:
    path = tmp_path / "model.pt"
    make(path)
    with pytest.raises(CheckpointError, match=message) as caught:
        load_checkpoint(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_missing_file_suggests_its_neighbour(tmp_path: Path) -> None:
    (tmp_path / "model_best.pt").write_bytes(b"x")
    with pytest.raises(CheckpointError, match=r"Did you mean '.*model_best\.pt'"):
        load_checkpoint(tmp_path / "model_bst.pt")
    with pytest.raises(CheckpointError, match="no such file"):
        load_checkpoint(tmp_path / "absent" / "x.pt")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_named(tmp_path: Path, value: float) -> None:
    weights = dict(network().state_dict())
    weights["2.weight"] = torch.full((3, 5), value)
    path = save(tmp_path / "model.pt", weights)
    for given in (None, network):
        with pytest.raises(NonFiniteError, match=r"2\.weight") as caught:
            load_checkpoint(path, model=given)
        assert "0.weight" not in str(caught.value)


def test_errors_leave_the_file_alone(tmp_path: Path) -> None:
    path = save(tmp_path / "model.pt", Convolutional().state_dict())
    before = path.read_bytes()
    with pytest.raises(ArchitectureError):
        load_checkpoint(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["model.pt"]


# --- real files ------------------------------------------------------------------------------

NORMALISED = ((0.1307,), (0.3081,))
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CIFAR = ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))
REAL = [
    ("mnist_mlp_784_16_10_sigmoid.pth", None, "sigmoid", None, 93.57),
    ("mnist_mlp_2_20.pth", None, "relu", None, 88.39),
    ("plain_mnist_mlp.pt", None, "relu", None, 96.65),
    ("lightning_mnist_mlp.ckpt", None, "relu", None, 96.81),
    ("mnist_cnn_bn.pt", "mnist_cnn_bn.py:MnistCnnBn", None, NORMALISED, 99.15),
    ("mnist_cnn_bn.safetensors", "mnist_cnn_bn.py:MnistCnnBn", None, NORMALISED, 99.17),
    ("mnist_cnn_numpy_scalar.pth", "mnist_cnn_blocks.py:MnistCnnBlocks", None, None, 97.38),
    ("mnist_cnn_torchscript.pt", None, None, None, 99.11),
    ("mnist_cnn_whole_module.pth", "mnist_cnn_whole.py:CNN", None, None, 98.91),
    ("cifar10_resnet20.th", "cifar10_resnet20.py:ResNet20", None, IMAGENET, 99.84),
    (
        "cifar10_resnet20_dataparallel.pkl", "cifar10_resnet20.py:ResNet20Downsample", None,
        CIFAR, 99.83,
    ),
]  # fmt: skip
SLOW = {"mnist_cnn_numpy_scalar.pth", "cifar10_resnet20.th", "cifar10_resnet20_dataparallel.pkl"}


@pytest.mark.parametrize(
    ("name", "model", "activation", "normalisation", "accuracy"),
    [pytest.param(*r, id=r[0], marks=pytest.mark.slow if r[0] in SLOW else ()) for r in REAL],
)
def test_real_checkpoints_have_their_accuracy(
    checkpoint_folder: Path,
    data_folder: Path,
    name: str,
    model: str | None,
    activation: str | None,
    normalisation: tuple[tuple[float, ...], tuple[float, ...]] | None,
    accuracy: float,
) -> None:
    found = load_checkpoint(
        checkpoint_folder / name,
        model=f"{MODELS / model}" if model else None,
        activation=activation,
        trust="whole_module" in name or "torchscript" in name,
    )
    if name.startswith("mnist"):
        data = load_data("mnist", split="test", root=data_folder)
    elif name.startswith("cifar10"):
        data = load_data("cifar10", split="train", root=data_folder)
    else:
        data = load_data("mnist", split="test", root=data_folder)
    assert len(data) == 10_000
    correct = 0
    with torch.no_grad():
        for images, labels in zip(data.inputs.split(500), data.targets.split(500), strict=True):
            if normalisation is not None:
                mean, std = (torch.tensor(v).view(1, -1, 1, 1) for v in normalisation)
                images = (images - mean) / std
            correct += int((found.model(images).argmax(1) == labels).sum())
    assert abs(correct / 100 - accuracy) <= 0.05


def test_real_whole_module_is_refused_with_the_way_out(checkpoint_folder: Path) -> None:
    path = checkpoint_folder / "mnist_cnn_whole_module.pth"
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path)
    message = str(caught.value)
    for words in ("__main__.CNN (a whole pickled module)", "model.state_dict()", "`trust=True`",
                  "`model=file.py:CNN"):  # fmt: skip
        assert words in message
    with pytest.raises(ArchitectureError, match=r"__main__\.CNN.*`model=file\.py:CNN"):
        load_checkpoint(path, trust=True)


def test_real_metadata(checkpoint_folder: Path) -> None:
    scalar = checkpoint_folder / "mnist_cnn_numpy_scalar.pth"
    found = read_checkpoint(scalar, model=f"{MODELS}/mnist_cnn_blocks.py:MnistCnnBlocks")
    assert set(found.metadata) == {"acc", "epoch"}
    assert found.metadata["acc"] == pytest.approx(97.38, abs=0.5)
    assert json.dumps(dict(found.metadata))


class Refusing(nn.Module):
    """A network whose own code fails when weights come in."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("a mistake in the network's own code")


def test_mistakes_of_a_network_are_not_damage_of_its_file(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 2).state_dict(), tmp_path / "model.pt")
    with pytest.raises(RuntimeError, match="own code"):
        load_checkpoint(tmp_path / "model.pt", model=Refusing)
