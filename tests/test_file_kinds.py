"""What opens is the whole network or nothing: checksums, parts, shards, ties, sizes, hangs."""

from __future__ import annotations

import cProfile
import gzip
import itertools
import json
import os
import pickle
import pstats
import time
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from safetensors.torch import save_file, save_model
from torch import nn

from cli_runs import Run
from hessscope.errors import (
    ArchitectureError,
    CheckpointError,
    DataError,
    HessscopeError,
    UntrustedCheckpointError,
)
from hessscope.loaders import CheckpointFile, load_checkpoint, load_data, write_checkpoint
from hessscope.loaders.data.named.downloads import read_bytes
from hessscope.objective import Dataset
from hessscope.parameters import ParameterLayout
from hessscope.pipeline import find_checkpoints, inspect_checkpoint
from studies import mutants


def network(*sizes: int) -> nn.Sequential:
    generator = torch.Generator().manual_seed(sum(sizes))
    layers: list[nn.Module] = []
    for a, b in itertools.pairwise(sizes):
        layers += [nn.Linear(a, b), nn.Tanh()]
    model = nn.Sequential(*layers[:-1])
    for parameter in model.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator)
    return model


class Halves(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = network(4, 3, 2), network(2, 3, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.decoder(self.encoder(x))


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(6, 3)
        self.head = nn.Linear(3, 6, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.embed(x))


def same(found: nn.Module, model: nn.Module) -> bool:
    pairs = zip(found.parameters(), model.parameters(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


# --- checksums -------------------------------------------------------------------------------


def flipped(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 16]) + content[at + 1 :]


def test_a_flipped_bit_in_a_zip_entry_is_named(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    weight = torch.arange(100.0).reshape(10, 10)
    torch.save({"0.weight": weight}, path)
    content = path.read_bytes()
    at = content.index(weight.numpy().tobytes()) + 123
    path.write_bytes(flipped(content, at))
    with pytest.raises(CheckpointError, match="its entry 'model/data/0' is not what was written"):
        load_checkpoint(path, activation="relu")
    data = path.rename(tmp_path / "data.pt")
    with pytest.raises(DataError, match="entry 'model/data/0'"):
        load_data(data)
    np.savez(tmp_path / "data.npz", inputs=np.ones((9, 3)), targets=np.zeros(9, int))
    content = (tmp_path / "data.npz").read_bytes()
    (tmp_path / "data.npz").write_bytes(flipped(content, content.index(np.ones(9).tobytes()) + 50))
    with pytest.raises(DataError, match=r"entry 'inputs\.npy'"):
        load_data(tmp_path / "data.npz")


def test_two_entries_of_one_name_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.save({"0.weight": torch.ones(2, 2)}, path)
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(path, "a") as archive:
        archive.writestr("model/data/0", torch.zeros(2, 2).numpy().tobytes())
    with pytest.raises(CheckpointError, match="two entries called 'model/data/0'"):
        load_checkpoint(path, activation="relu")


def test_files_that_carry_no_checksums_say_so(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(network(3, 2).state_dict(), path)
    finally:
        torch.serialization.set_crc32_options(True)
    assert any("no checksums" in note for note in load_checkpoint(path).notes)


def test_a_legacy_file_ends_with_its_numbers(tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    torch.save(network(4, 3).state_dict(), path, _use_new_zipfile_serialization=False)
    content = path.read_bytes()
    path.write_bytes(content[:-6] + bytes(4) + content[-6:])
    with pytest.raises(CheckpointError, match="after its last number"):
        load_checkpoint(path)


def test_gzip_is_compared_with_its_checksum_and_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "train-images-idx3-ubyte.gz"
    content = gzip.compress(bytes(range(256)) * 50, compresslevel=0)
    path.write_bytes(content)
    assert read_bytes(path) == bytes(range(256)) * 50
    path.write_bytes(flipped(content, 500))
    with pytest.raises(DataError, match="damaged"):
        read_bytes(path)
    path.write_bytes(gzip.compress(bytes(30_000_000)))
    less_memory(monkeypatch, 5_000_000)
    with pytest.raises(DataError, match="memory are free"):
        read_bytes(path)


# --- one network, whole ----------------------------------------------------------------------


def test_layers_in_dictionaries_are_joined(tmp_path: Path) -> None:
    model = network(4, 5, 3)
    path = tmp_path / "model.pt"
    layers = {"layer1": dict(model[0].named_parameters()), "layer2": dict(model[2].state_dict())}
    for content in (layers, {"params": layers, "epoch": 3}):
        torch.save(content, path)
        found = load_checkpoint(path, activation="tanh")
        assert found.architecture == "mlp:4-5-3:tanh"
        assert same(found.model, model)


def test_parts_are_joined_or_chosen(tmp_path: Path) -> None:
    model = Halves()
    path = tmp_path / "model.pt"
    parts = {"encoder": model.encoder.state_dict(), "decoder": model.decoder.state_dict()}
    for content in (parts, {"model": parts, "optimizer": {"state": {}, "param_groups": []}}):
        torch.save(content, path)
        assert same(load_checkpoint(path, model=Halves).model, model)
        with pytest.raises(ArchitectureError, match=r"under encoder, decoder.*`key=encoder"):
            load_checkpoint(path, activation="tanh")
    torch.save(parts, path)
    found = load_checkpoint(path, activation="tanh", key="decoder")
    assert same(found.model, model.decoder)
    assert same(load_checkpoint(path, model=network(4, 3, 2)).model, model.encoder)
    with pytest.raises(CheckpointError, match=r"no 'middle' in it.*'encoder', 'decoder'"):
        load_checkpoint(path, activation="tanh", key="middle")


def test_what_stands_beside_a_model_may_be_part_of_the_network(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    model, head = network(4, 3), network(3, 2)
    torch.save({"model": model.state_dict(), "head": head.state_dict()}, path)
    with pytest.raises(ArchitectureError, match="under model, head"):
        load_checkpoint(path, activation="tanh")
    found = load_checkpoint(path, model=network(4, 3))
    assert same(found.model, model)
    assert any("2 other entries ignored" in note for note in found.notes)
    harmless = {
        "criterion": {"weight": torch.ones(3)}, "best": network(4, 3).state_dict(),
        "stats": {"mean": np.ones(4), "confusion": np.ones((3, 3))},
        "losses": [torch.tensor(0.5)], "optim_state": {"exp_avg": {"0.weight": torch.ones(3, 4)}},
    }  # fmt: skip
    torch.save({"model": model.state_dict(), **harmless}, path)
    found = load_checkpoint(path)
    assert same(found.model, model)
    assert any("'best'" in note for note in found.notes)


@pytest.mark.parametrize("flat", [False, True])
def test_of_two_networks_that_fit_one_is_named(tmp_path: Path, flat: bool) -> None:
    one, two = network(4, 3, 4), network(4, 3, 4)
    two[0].weight.data += 1
    path = tmp_path / "gan.pt"
    content: Any = {"generator": one.state_dict(), "discriminator": two.state_dict()}
    if flat:
        content = {f"{k}.{n}": v for k, state in content.items() for n, v in state.items()}
    torch.save(content, path)
    with pytest.raises(ArchitectureError, match=r"several networks that fit.*`key="):
        load_checkpoint(path, model=network(4, 3, 4))
    for key, model in (("generator", one), ("discriminator", two)):
        assert same(load_checkpoint(path, model=network(4, 3, 4), key=key).model, model)
        assert same(load_checkpoint(path, activation="tanh", key=key).model, model)


def test_generator_and_discriminator_of_one_layer_are_no_network(tmp_path: Path) -> None:
    path = tmp_path / "gan.pt"
    torch.save({"generator": nn.Linear(2, 3).state_dict(),
                "discriminator": nn.Linear(3, 1).state_dict()}, path)  # fmt: skip
    with pytest.raises(ArchitectureError, match="`key=generator"):
        load_checkpoint(path, activation="relu")


def test_a_chosen_network_is_written_back_where_it_was(tmp_path: Path) -> None:
    path, out = tmp_path / "gan.pt", tmp_path / "new.pt"
    one, two = network(4, 3), network(4, 3)
    torch.save({"generator": one.state_dict(), "discriminator": two.state_dict()}, path)
    found = load_checkpoint(path, key="discriminator")
    theta = ParameterLayout.of(found.model).flatten(dict(found.model.named_parameters())) * 2
    assert write_checkpoint(found, theta.detach(), out) == ()
    assert same(load_checkpoint(out, key="generator").model, one)
    new = torch.load(out)["discriminator"]["0.weight"]
    assert torch.equal(new, two[0].weight.detach() * 2)


def test_a_list_of_state_dicts_says_so(tmp_path: Path) -> None:
    path = tmp_path / "ensemble.pt"
    one, two = network(4, 3), network(4, 3)
    states = [one.state_dict(), two.state_dict()]
    torch.save({"state_dict": states, "epoch": 3}, path)
    with pytest.raises(CheckpointError, match=r"a list of 2.*`key=state_dict\.0"):
        load_checkpoint(path)
    assert same(load_checkpoint(path, key="state_dict.1").model, two)
    torch.save(states, path)
    with pytest.raises(CheckpointError, match="`key=0"):
        load_checkpoint(path)
    assert same(load_checkpoint(path, key="0").model, one)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_packed_weights_are_not_dropped(tmp_path: Path) -> None:
    path = tmp_path / "quantised.pt"
    model = torch.ao.quantization.quantize_dynamic(network(4, 5, 3), dtype=torch.qint8)
    torch.save(model.state_dict(), path)
    with pytest.raises(CheckpointError, match="quantised"):
        load_checkpoint(path)


def test_float8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    state = {k: v.to(torch.float8_e4m3fn) for k, v in network(4, 3).state_dict().items()}
    save_file(state, path)
    with pytest.raises(CheckpointError, match=r"8-bit floating-point.*0\.bias"):
        load_checkpoint(path)
    with pytest.raises(CheckpointError, match="8-bit floating-point"):
        CheckpointFile.open(path).tensors()


def test_tied_weights_stored_once(tmp_path: Path) -> None:
    model = Tied()
    words = torch.arange(6)
    once = {"embed.weight": model.embed.weight.detach()}
    torch.save(once, tmp_path / "once.pt")
    save_file(once, tmp_path / "once.safetensors")
    save_model(model, str(tmp_path / "alias.safetensors"))
    for name in ("once.pt", "once.safetensors", "alias.safetensors"):
        found = load_checkpoint(tmp_path / name, model=Tied)
        assert torch.equal(found.model(words), model(words))
        assert found.parameters == 18
        theta = ParameterLayout.of(found.model).flatten(dict(found.model.named_parameters()))
        out = tmp_path / f"new_{name}"
        assert write_checkpoint(found, theta.detach() + 1, out) == ()
        again = load_checkpoint(out, model=Tied)
        assert torch.equal(again.model.embed.weight, model.embed.weight + 1)
    # The file's metadata alone says that the two are one.
    state = CheckpointFile.open(tmp_path / "alias.safetensors").tensors()
    assert state.parameters == 18


def test_masks_and_statistics_are_no_parameters(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    ones = torch.ones(5, 5)
    masks = {"attn.mask": ones.tril(), "attn.far": torch.full((5, 5), -torch.inf).triu(1),
             "attn.bool": ones.tril().bool()[None, None], "ids": torch.arange(5)}  # fmt: skip
    weights = {"attn.qkv.weight": torch.randn(15, 5), "norm.weight": torch.ones(5),
               "out.weight": torch.zeros(5, 5)}  # fmt: skip
    torch.save({**weights, **masks}, path)
    seen = inspect_checkpoint(path)
    assert {buffer["name"] for buffer in seen.as_dict()["buffers"]} == set(masks)
    found = seen.checkpoint
    assert {layer.name for layer in found.layers} == set(weights)
    assert {layer.name for layer in found.buffers} == set(masks)
    assert found.parameters == 105


# --- several files ---------------------------------------------------------------------------


@pytest.fixture
def sharded(tmp_path: Path) -> tuple[Path, nn.Module]:
    model = network(4, 5, 3)
    folder = tmp_path / "hub"
    folder.mkdir()
    parts = ({"0.weight": model[0].weight, "0.bias": model[0].bias},
             {"2.weight": model[2].weight, "2.bias": model[2].bias})  # fmt: skip
    places = {}
    for i, part in enumerate(parts):
        name = f"model-0000{i + 1}-of-00002.safetensors"
        save_file({k: v.detach() for k, v in part.items()}, folder / name)
        places |= dict.fromkeys(part, name)
    index = {"metadata": {"total_size": 1}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "config.json").write_text("{}")
    return folder, model


def test_shards_are_read_together(sharded: tuple[Path, nn.Module]) -> None:
    folder, model = sharded
    index = folder / "model.safetensors.index.json"
    for path in (index, folder):
        found = load_checkpoint(path, model=network(4, 5, 3))
        assert same(found.model, model)
        assert found.format == "safetensors (2 shards)"
    with pytest.raises(CheckpointError, match=r"part 2 of 2.*give its index .*index\.json"):
        load_checkpoint(folder / "model-00002-of-00002.safetensors")
    before = found.sha256
    theta = ParameterLayout.of(found.model).flatten(dict(found.model.named_parameters())).detach()
    (note,) = write_checkpoint(found, theta, folder / "refined.pt")
    assert "plain state dict" in note
    shard = folder / "model-00001-of-00002.safetensors"
    save_file({"0.weight": model[0].weight.detach() * 2, "0.bias": model[0].bias.detach()}, shard)
    assert load_checkpoint(index, activation="tanh").sha256 != before
    with pytest.raises(CheckpointError, match="has changed"):
        write_checkpoint(found, theta, folder / "again.pt")
    save_file({"0.bias": model[0].bias.detach()}, shard)
    with pytest.raises(CheckpointError, match=r"does not hold 0\.weight"):
        load_checkpoint(index, activation="tanh")
    shard.unlink()
    with pytest.raises(CheckpointError, match="is not there"):
        load_checkpoint(index, activation="tanh")


@pytest.mark.parametrize(
    "content",
    ["[]", "{}", '{"weight_map": []}', '{"weight_map": {"a": "../model.safetensors"}}',
     '{"weight_map": {"a": "/etc/passwd"}}', '{"weight_map": {"a": 3}}', "no json", ""],
)  # fmt: skip
def test_an_index_that_is_none_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "model.safetensors.index.json"
    path.write_text(content)
    with pytest.raises(CheckpointError):
        load_checkpoint(path)


def test_a_hub_folder_is_one_checkpoint(sharded: tuple[Path, nn.Module]) -> None:
    folder, _ = sharded
    assert find_checkpoints([folder]) == (folder,)


# --- names in a file are no paths of code ----------------------------------------------------


@pytest.mark.parametrize("field", ["loss", "data", "architecture"])
@pytest.mark.parametrize(
    "spec", ["mlp:evil.py:f", "mlp:evil.py", "evil.py:f", "evil:f", "evil.sub:f"]
)
def test_names_in_a_file_run_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, field: str, spec: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("evil.py", "mlp:evil.py"):
        Path(name).write_text("open('marker', 'w').close()\ndef f(*a): return 0\n")
    Path("evil").mkdir()
    Path("evil/__init__.py").write_text("open('marker', 'w').close()\n")
    np.savez("data.npz", inputs=np.ones((4, 4), np.float32), targets=np.zeros(4, int))
    setting = {"architecture": "mlp:4-3:relu", "data": str(tmp_path / "data.npz"), field: spec}
    torch.save({"state_dict": network(4, 3).state_dict(), "hessscope": setting}, "model.pt")
    import hessscope as hs

    with pytest.raises(HessscopeError):
        hs.spectrum("model.pt", device="cpu")
    hs.spectrum_series(["model.pt"], device="cpu")
    assert not Path("marker").exists()


# --- hangs and memory ------------------------------------------------------------------------


def less_memory(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    monkeypatch.setattr("hessscope.loaders.integrity.free_memory", lambda: free)


def exploding_key() -> bytes:
    """A pickle of a dictionary whose key is a tuple with 2^60 leaves."""
    code = b"\x80\x02}K\x01\x85q\x00"
    for i in range(60):
        code += b"0h" + bytes([i]) + b"h" + bytes([i]) + b"\x86q" + bytes([i + 1])
    return code + b"K\x01s."


@pytest.mark.parametrize("kind", ["alone", "legacy", "zip", "list", "set"])
def test_keys_that_hash_for_ever_are_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "model.pt"
    code = exploding_key()
    if kind == "set":  # frozenset((key,))
        code = code[:2] + b"cbuiltins\nfrozenset\n" + code[3:-4] + b"\x85\x85R."
    if kind == "list":  # the tuple stands in a list of which a set is made
        code = code[:2] + b"cbuiltins\nset\n]" + code[3:-4] + b"a\x85R."
    if kind in ("zip", "list", "set"):
        torch.save({}, path)
        with zipfile.ZipFile(path) as archive:
            entries = {n: archive.read(n) for n in archive.namelist()}
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in entries.items():
                archive.writestr(name, code if name.endswith("data.pkl") else content)
    else:
        torch.save({}, path, _use_new_zipfile_serialization=False)
        content = path.read_bytes()
        head = content[: content.index(pickle.dumps(OrderedDict(), 2)[:2], 60)]
        path.write_bytes(code if kind == "alone" else legacy_head() + code + content[len(head) :])
    begin = time.perf_counter()
    with pytest.raises(CheckpointError, match=r"crafted|not one written"):
        load_checkpoint(path)
    with pytest.raises(DataError):
        load_data(path)
    assert time.perf_counter() - begin < 10


def legacy_head() -> bytes:
    from hessscope.loaders.pickles import LEGACY_MAGIC

    system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {}}
    return b"".join(pickle.dumps(part, 2) for part in (LEGACY_MAGIC, 1001, system))


@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_work_grows_as_the_number_of_names(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"model.{suffix}"
    calls = []
    for count in (400, 3_200):
        state = {f"layer{i}.weight": torch.zeros(1, 1) for i in range(count)}
        torch.save(state, path) if suffix == "pt" else save_file(state, path)
        with cProfile.Profile() as profile:
            assert CheckpointFile.open(path).tensors().parameters == count
            if count > 1_000:
                with pytest.raises(ArchitectureError, match="no perceptron is inferred"):
                    load_checkpoint(path, activation="relu")
            with pytest.raises(ArchitectureError, match="missing in the file"):
                load_checkpoint(path, model=network(4, 3))
        calls.append(pstats.Stats(profile).total_calls)
    assert calls[1] < 16 * calls[0]  # 8 by the number, 64 by its square


def test_devices_and_pipes_are_refused(tmp_path: Path) -> None:
    pipe, zero = tmp_path / "model.pt", tmp_path / "zero.npz"
    os.mkfifo(pipe)
    zero.symlink_to("/dev/zero")
    for path in (pipe, zero):
        with pytest.raises(CheckpointError, match="ordinary file"):
            load_checkpoint(path)
        with pytest.raises(DataError, match="ordinary file"):
            load_data(path)
    with pytest.raises(HessscopeError, match="ordinary file"):
        inspect_checkpoint(pipe)


def test_sizes_are_known_before_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = tmp_path / "model.pt"
    torch.save({"0.weight": torch.ones(2, 2)}, bomb)
    with zipfile.ZipFile(bomb) as archive:
        entries = {n: archive.read(n) for n in archive.namelist()}
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, bytes(40_000_000) if name.endswith("/0") else content)
    np.savez_compressed(tmp_path / "data.npz", inputs=np.zeros((9, 500_000)))
    with h5py.File(tmp_path / "data.h5", "w") as file:
        file.create_dataset("inputs", shape=(10_000, 10**9), dtype="f8", chunks=(1, 10**6))
    sparse = tmp_path / "model.safetensors"
    with sparse.open("wb") as stream:
        stream.truncate(40_000_000)
    less_memory(monkeypatch, 10_000_000)
    for path in (bomb, sparse):
        with pytest.raises(CheckpointError, match="memory are free"):
            load_checkpoint(path)
    for name in ("data.npz", "data.h5"):
        with pytest.raises(DataError, match="memory are free"):
            load_data(tmp_path / name, targets="inputs")


def test_repeated_numbers_have_to_fit_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.save({"0.weight": torch.ones(1).expand(2**25, 2**25)}, path)
    with pytest.raises(CheckpointError, match="memory are free"):
        load_checkpoint(path)
    with pytest.raises(CheckpointError, match="memory are free"):
        CheckpointFile.open(path).tensors()
    torch.save({"inputs": torch.ones(1).expand(2**25, 2**25)}, path)
    with pytest.raises(DataError, match="memory are free"):
        load_data(path, targets="inputs")


def test_names_that_are_too_long_are_no_surprise() -> None:
    with pytest.raises(CheckpointError, match="too long"):
        load_checkpoint("x" * 5_000 + ".pt")
    with pytest.raises(DataError, match="too long"):
        load_data("x" * 5_000)


def test_headers_of_npy_entries_fit_their_size(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    for shape in ("(3, 3)", "(2, 900000000000)", "(-1, 4)", "(2, 1)"):
        header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
        entry = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode()
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("inputs.npy", entry + bytes(64))
        with pytest.raises(DataError, match="damaged"):
            load_data(path, targets="inputs")


# --- HDF5 ------------------------------------------------------------------------------------


def external_link(file: Any, folder: Path) -> None:
    file["targets"] = h5py.ExternalLink(str(folder / "other.h5"), "/secret")


def raw_storage(file: Any, folder: Path) -> None:
    (folder / "raw").write_bytes(bytes(range(16)))
    file.create_dataset("targets", (2,), "i8", external=[(str(folder / "raw"), 0, 16)])


def virtual(file: Any, folder: Path) -> None:
    layout = h5py.VirtualLayout((2,), "i8")
    layout[:] = h5py.VirtualSource(str(folder / "missing.h5"), "x", (2,))
    file.create_virtual_dataset("targets", layout)


def below_a_group(file: Any, folder: Path) -> None:
    file.create_group("deep").create_group("er")["link"] = h5py.ExternalLink("other.h5", "/secret")
    file["targets"] = [0, 1]


@pytest.mark.parametrize("make", [external_link, raw_storage, virtual, below_a_group])
def test_hdf5_data_stay_in_their_file(tmp_path: Path, make: Callable[[Any, Path], None]) -> None:
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["secret"] = [3, 4]
    path = tmp_path / "data.h5"
    with h5py.File(path, "w") as file:
        file["inputs"] = np.ones((2, 3))
        make(file, tmp_path)
    with pytest.raises(DataError, match="copy the numbers into one file"):
        load_data(path)


def test_hdf5_links_within_a_file_are_followed(tmp_path: Path) -> None:
    path = tmp_path / "data.h5"
    with h5py.File(path, "w") as file:
        file["images"] = np.ones((2, 3))
        file["numbers"] = [1, 2]
        file["inputs"] = h5py.SoftLink("/images")
        file["loop"] = file["/"]
        file["targets"] = file["numbers"]
        del file["images"], file["numbers"]
        file["images"] = np.ones((2, 3))
    data = load_data(path)
    assert isinstance(data, Dataset)
    assert data.targets.tolist() == [1, 2]


def test_a_damaged_zip_is_called_so_by_the_command(tmp_path: Path, run: Run) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(b"PK\x03\x04" + bytes(200))
    done = run("inspect", path)
    assert done.code == 1
    assert "damaged zip file" in done.err


def test_untrusted_programs_say_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "script.pt"
    torch.jit.script(network(3, 2)).save(str(path))
    with pytest.raises(UntrustedCheckpointError, match=r"`model=file\.py:factory.*`trust=True`"):
        load_checkpoint(path)


@pytest.mark.slow
@pytest.mark.parametrize("form", mutants.FORMATS, ids=lambda form: form.name)
def test_damaged_files_open_the_same_or_are_refused(form: mutants.Format) -> None:
    rows = mutants.guarded(form, range(10_000, 10_060))
    allowed = {"same", "refused"} | (set() if form.checked else {"other values"})
    assert [row for row in rows if row["outcome"] not in allowed] == []
    assert sum(row["outcome"] == "refused" for row in rows) >= 6
