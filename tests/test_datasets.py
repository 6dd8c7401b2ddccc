"""Named sets, files, user code and objects, as ``load_data`` gives them; and bad ones."""

import gzip
import os
import pickle
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.torch import save_file

from hessscope.errors import (
    DataError,
    NonDeterministicError,
    NonFiniteError,
    OptionError,
    UnknownNameError,
)
from hessscope.loaders.data import load_data
from hessscope.loaders.data.named import NamedSet
from hessscope.loaders.data.named.cifar10 import parse_cifar10
from hessscope.loaders.data.named.mnist import parse_idx, read_idx
from hessscope.objective import Dataset

HERE = Path(__file__).parent
SAMPLE = HERE / "data"


def full_data() -> Path | None:
    """The published sets, where a developer has them."""
    candidates = [os.environ.get("HESSSCOPE_DATA"), HERE.parents[1] / "shared" / "data"]
    for folder in filter(None, candidates):
        images = Path(folder) / "mnist" / "train-images-idx3-ubyte.gz"
        if images.is_file() and images.stat().st_size > 10**6:
            return Path(folder)
    return None


FULL = full_data()
needs_full = pytest.mark.skipif(FULL is None, reason="needs HESSSCOPE_DATA with all of MNIST")
needs_cifar = pytest.mark.skipif(
    FULL is None or not (FULL / "cifar10").is_dir(), reason="needs HESSSCOPE_DATA with CIFAR-10"
)


@pytest.fixture(autouse=True)
def _no_variable(monkeypatch, tmp_path):
    monkeypatch.delenv("HESSSCOPE_DATA", raising=False)
    monkeypatch.chdir(tmp_path)


def idx(array: np.ndarray) -> bytes:
    """The bytes of an IDX file."""
    code = {"u1": 0x08, "i1": 0x09, "i2": 0x0B, "i4": 0x0C, "f4": 0x0D, "f8": 0x0E}
    header = bytes([0, 0, code[array.dtype.str[1:]], array.ndim])
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return header + sizes + array.astype(array.dtype.newbyteorder(">")).tobytes()


def write_mnist(folder: Path, count: int = 20, prefix: str = "train", zipped: bool = True) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(1)
    pack = gzip.compress if zipped else bytes
    end = ".gz" if zipped else ""
    images = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
    labels = np.arange(count, dtype=np.uint8) % 10
    (folder / f"{prefix}-images-idx3-ubyte{end}").write_bytes(pack(idx(images)))
    (folder / f"{prefix}-labels-idx1-ubyte{end}").write_bytes(pack(idx(labels)))


# --- file formats -------------------------------------------------------------------------------


@given(
    hnp.arrays(
        st.sampled_from(["u1", "i1", "i2", "i4", "f4", "f8"]),
        hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=5),
    )
)
def test_idx_round_trip(array):
    back = parse_idx(idx(array), "file")
    assert back.dtype == array.dtype
    np.testing.assert_array_equal(back, array)


@given(st.integers(0, 10**6))
def test_idx_of_any_other_length_is_refused(length):
    content = idx(np.zeros((3, 4), np.uint8))
    if length != len(content):
        changed = (content * (length // len(content) + 1))[:length]
        with pytest.raises(DataError, match=r"cut short|longer|not an IDX"):
            parse_idx(changed, "file")


def test_idx_header_of_absurd_size_allocates_nothing():
    content = b"\0\0\x0e\x04" + b"\xff" * 16 + b"values"
    with pytest.raises(DataError, match="cut short"):
        parse_idx(content, "file")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"hello, this is text", "not an IDX file"),
        (gzip.compress(idx(np.zeros((9, 9), np.uint8)), mtime=0)[:-9], "damaged or cut short"),
        (b"\x1f\x8b" + b"nonsense" * 4, "damaged or cut short"),
        (gzip.compress(b"short", mtime=0), "not an IDX file"),
        (b"\0\0\x08\x03\0\0", "within its header"),
    ],
)
def test_damaged_idx_files(tmp_path, content, message):
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_idx(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [(bytes(3072), "cut short"), (b"", "cut short"), (b"\x0b" + bytes(3072), "label 11")],
)
def test_damaged_cifar_files(content, message):
    with pytest.raises(DataError, match=message):
        parse_cifar10(content, "data_batch_1.bin")


# --- named sets ---------------------------------------------------------------------------------


def test_mnist_sample():
    data = load_data("mnist", root=SAMPLE)
    assert len(data) == 800
    assert data.inputs.shape == (800, 1, 28, 28)
    assert data.inputs.dtype == torch.float32
    assert data.targets.dtype == torch.int64
    assert data.targets[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert (data.name, data.split, data.preprocessing) == ("mnist", "train", ("pixels / 255",))
    assert data.notes == ("800 of the 60,000 training images are there",)
    assert load_data("mnist", "test", root=SAMPLE).targets[:5].tolist() == [7, 2, 1, 0, 4]
    assert "mnist" in repr(data)
    assert "800" in repr(data)


def test_all_is_train_then_test():
    train, test, both = (load_data("mnist", s, root=SAMPLE) for s in ("train", "test", "all"))
    assert torch.equal(both.inputs, torch.cat([train.inputs, test.inputs]))
    assert len({train.fingerprint, test.fingerprint, both.fingerprint}) == 3


@pytest.mark.parametrize("place", ["mnist", "MNIST/raw", ".", "somewhere/MNIST/raw"])
@pytest.mark.parametrize("zipped", [True, False])
def test_layouts(tmp_path, monkeypatch, place, zipped):
    write_mnist(tmp_path / place, zipped=zipped)
    root = tmp_path / "somewhere" if place.startswith("somewhere") else tmp_path
    assert len(load_data("mnist", root=root)) == 20
    monkeypatch.setenv("HESSSCOPE_DATA", str(root))
    assert len(load_data("MNIST")) == 20


def test_names_with_a_dot(tmp_path):
    write_mnist(tmp_path, zipped=False)
    for path in list(tmp_path.iterdir()):
        path.rename(path.with_name(path.name.replace("-idx", ".idx")))
    assert len(load_data("mnist", root=tmp_path)) == 20


def test_fashion_mnist_is_not_taken_for_mnist(tmp_path):
    write_mnist(tmp_path / "FashionMNIST" / "raw")
    assert load_data("fashion-mnist", root=tmp_path).name == "fashion_mnist"
    with pytest.raises(DataError, match="mnist: the train split is not in"):
        load_data("mnist", root=tmp_path)
    with pytest.raises(DataError, match="the train split is not in"):
        load_data("mnist", root=tmp_path / "FashionMNIST" / "raw")


def test_a_missing_split_says_what_was_looked_for(tmp_path, monkeypatch):
    write_mnist(tmp_path / "mnist")
    with pytest.raises(DataError, match=r"t10k-images-idx3-ubyte.*`root`"):
        load_data("mnist", "test", root=tmp_path)
    monkeypatch.setenv("HESSSCOPE_DATA", str(tmp_path))
    with pytest.raises(DataError, match="t10k-labels-idx1-ubyte"):
        load_data("mnist", "test")
    both = load_data("mnist", "all")
    assert "no test examples are there" in both.notes


class Squares(NamedSet):
    name = "squares"
    splits = ("all",)

    def read(self, root, split):
        return np.arange(10.0)[:, None] ** 2, np.arange(10) % 2, ("made up",)


def test_an_object_stands_for_its_name_and_an_undivided_set_is_divided():
    train, test = (load_data(Squares(), split) for split in ("train", "test"))
    assert sorted([*train.inputs[:, 0], *test.inputs[:, 0]]) == [i**2 for i in range(10)]
    assert (len(train), train.targets.sum()) == (8, 4)
    assert "no official split" in train.notes[1]
    assert load_data(Squares, "all").notes == ("made up",)


def test_half_a_split(tmp_path):
    write_mnist(tmp_path)
    (tmp_path / "train-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(DataError, match="train-labels-idx1-ubyte is not"):
        load_data("mnist", root=tmp_path)


def test_files_that_do_not_belong_together(tmp_path):
    write_mnist(tmp_path)
    (tmp_path / "train-labels-idx1-ubyte.gz").write_bytes(idx(np.zeros(7, np.uint8)))
    with pytest.raises(DataError, match="does not belong to"):
        load_data("mnist", root=tmp_path)


def test_empty_image_file(tmp_path):
    write_mnist(tmp_path, count=0)
    with pytest.raises(DataError, match="no examples"):
        load_data("mnist", root=tmp_path)


def test_folders_that_are_not_there(tmp_path, monkeypatch):
    with pytest.raises(DataError, match="does not exist"):
        load_data("mnist", root=tmp_path / "nowhere")
    monkeypatch.setenv("HESSSCOPE_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match="HESSSCOPE_DATA"):
        load_data("mnist")


def test_cifar_batches(tmp_path):
    records = np.random.default_rng(0).integers(0, 256, (30, 3073), dtype=np.uint8)
    records[:, 0] %= 10
    (tmp_path / "data_batch_2.bin").write_bytes(records[:10].tobytes())
    (tmp_path / "data_batch_1.bin.gz").write_bytes(gzip.compress(records[10:].tobytes()))
    data = load_data("cifar10", root=tmp_path)
    assert data.inputs.shape == (30, 3, 32, 32)
    assert data.notes == (
        "30 of the 50,000 training images are there (data_batch_1, data_batch_2 only)",
    )
    expected = torch.from_numpy(records[10, 1:].reshape(3, 32, 32)).float() / 255
    assert torch.equal(data.inputs[0], expected)
    assert data.targets.tolist() == [*records[10:, 0], *records[:10, 0]]
    with pytest.raises(DataError, match=r"test_batch\.bin"):
        load_data("cifar10", "test", root=tmp_path)
    (tmp_path / "py" / "cifar-10-batches-py").mkdir(parents=True)
    with pytest.raises(DataError, match="Python version"):
        load_data("cifar10", root=tmp_path / "py")


def test_digits():
    train, test, both = (load_data("digits", split) for split in ("train", "test", "all"))
    assert (len(train), len(test), len(both)) == (1437, 360, 1797)
    assert train.inputs.shape == (1437, 1, 8, 8)
    assert both.inputs.max() == 1
    assert both.preprocessing == ("pixels / 16",)
    assert "no official split" in train.notes[0]
    counts = torch.bincount(both.targets)
    shares = torch.bincount(train.targets) / counts
    assert (shares - 1437 / 1797).abs().max() < 0.01
    values = {x.numpy().tobytes() for x in train.inputs}
    assert len(values & {x.numpy().tobytes() for x in test.inputs}) == 0
    centred = load_data("digits", "test", normalize="center")
    assert torch.allclose(centred.inputs, test.inputs - both.inputs.mean(0), atol=1e-6)


@needs_full
def test_all_of_mnist():
    data = load_data("mnist", root=FULL)
    assert len(data) == 60_000
    assert data.notes == ()
    assert round(float(data.inputs.mean()), 4) == 0.1307
    assert int((data.inputs.amax(0) == 0).sum()) == 67
    both = load_data("mnist", "all", root=FULL, normalize="center")
    assert len(both) == 70_000
    assert int((both.inputs.abs().amax(0) == 0).sum()) == 65
    assert both.preprocessing[-1] == "minus the per-pixel mean of all 70,000 examples"


@needs_full
def test_mnist_labels_betray_mnist(tmp_path):
    (tmp_path / "fashion-mnist").symlink_to(FULL / "mnist")
    with pytest.raises(DataError, match="is MNIST's"):
        load_data("fashion-mnist", root=tmp_path)


@needs_cifar
def test_first_batch_of_cifar10():
    data = load_data("cifar10", root=FULL)
    assert data.inputs.shape == (10_000, 3, 32, 32)
    assert data.notes == ("10,000 of the 50,000 training images are there (data_batch_1 only)",)


# --- options ------------------------------------------------------------------------------------


def test_subset_is_stratified_seeded_and_stated():
    whole = load_data("mnist", root=SAMPLE)
    part = load_data("mnist", root=SAMPLE, subset=100, seed=3)
    assert len(part) == 100
    assert part.preprocessing[0] == "subset of 100 of 800 (stratified by class, seed 3)"
    shares = torch.bincount(whole.targets) / 8
    assert (torch.bincount(part.targets) - shares).abs().max() < 1
    again = load_data("mnist", root=SAMPLE, subset=100, seed=3)
    assert again.fingerprint == part.fingerprint
    assert load_data("mnist", root=SAMPLE, subset=100, seed=4).fingerprint != part.fingerprint
    assert load_data("mnist", root=SAMPLE, subset=800).fingerprint == whole.fingerprint
    with pytest.raises(DataError, match="only 800 examples"):
        load_data("mnist", root=SAMPLE, subset=801)
    for bad in (0, -1, 1.5, True):
        with pytest.raises(OptionError, match="`subset="):
            load_data("mnist", root=SAMPLE, subset=bad)
    with pytest.raises(OptionError, match="seed"):
        load_data("mnist", root=SAMPLE, subset=10, seed=-1)


def test_options_are_stated_in_order():
    data = load_data(
        "mnist", root=SAMPLE, subset=50, resize=10, normalize="0.1307/0.3081", targets="inputs"
    )
    assert data.inputs.shape == (50, 1, 10, 10)
    assert data.targets is data.inputs
    assert data.preprocessing == (
        "subset of 50 of 800 (stratified by class, seed 0)",
        "pixels / 255",
        "resized to 10x10 (bilinear, anti-aliased)",
        "mean 0.1307, std 0.3081",
        "targets are the inputs",
    )


def test_fingerprints_tell_preprocessing_apart():
    options = [
        {},
        {"normalize": "none"},
        {"normalize": "center"},
        {"normalize": "standardize"},
        {"normalize": "0.1307/0.3081"},
        {"normalize": "0.13070001/0.3081"},
        {"resize": 10},
        {"targets": "inputs"},
        {"split": "test"},
    ]
    prints = [load_data("mnist", root=SAMPLE, **option).fingerprint for option in options]
    assert len(set(prints)) == len(prints)


def test_center_is_the_same_for_each_split():
    both = load_data("mnist", "all", root=SAMPLE, normalize="center")
    train = load_data("mnist", root=SAMPLE, normalize="center")
    assert train.preprocessing[-1] == "minus the per-pixel mean of all 1,000 examples"
    assert torch.allclose(both.inputs[:800], train.inputs, atol=1e-6)
    assert both.inputs.mean(0).abs().max() < 1e-5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name_or_path": "mnits"}, "Did you mean 'mnist'"),
        ({"name_or_path": "mnist", "split": "tset"}, "Did you mean 'test'"),
        ({"name_or_path": "mnist", "targets": "input"}, "Did you mean 'inputs'"),
        ({"name_or_path": "mnist", "normalize": "centre"}, "Did you mean 'center'"),
    ],
)
def test_unknown_names_get_a_suggestion(arguments, message):
    with pytest.raises(UnknownNameError, match=message):
        load_data(**arguments, root=SAMPLE)


# --- files of arrays ----------------------------------------------------------------------------

X = np.random.default_rng(0).normal(size=(12, 3))
Y = np.arange(12) % 4


def save(path: Path, arrays: dict) -> Path:
    if path.suffix == ".npz":
        np.savez(path, **arrays)
    elif path.suffix == ".pt":
        torch.save({key: torch.from_numpy(value) for key, value in arrays.items()}, path)
    elif path.suffix == ".safetensors":
        save_file({key: torch.from_numpy(value) for key, value in arrays.items()}, path)
    else:
        with h5py.File(path, "w") as file:
            for key, value in arrays.items():
                file[key] = value
    return path


@pytest.mark.parametrize("suffix", [".npz", ".pt", ".safetensors", ".h5"])
@pytest.mark.parametrize(
    ("x", "y"), [("inputs", "targets"), ("x", "y"), ("X", "Y"), ("images", "labels")]
)
def test_files_of_arrays(tmp_path, suffix, x, y):
    path = save(tmp_path / f"some{suffix}", {x: X, y: Y})
    data = load_data(path)
    assert torch.equal(data.inputs, torch.from_numpy(X))
    assert data.targets.tolist() == Y.tolist()
    assert (data.name, data.split) == (f"some{suffix}", "all")
    assert data.preprocessing == ("floats as they are",)
    assert data.notes == (() if x == "inputs" else (f"inputs are '{x}', targets are '{y}'",))
    assert data.fingerprint == load_data((X, Y)).fingerprint
    with pytest.raises(DataError, match="no test split"):
        load_data(path, "test")


@pytest.mark.parametrize("suffix", [".npz", ".pt", ".safetensors", ".h5"])
@pytest.mark.parametrize("names", ["inputs_{} targets_{}", "x_{} y_{}", "{}_images {}_labels"])
def test_files_with_splits(tmp_path, suffix, names):
    x, y = names.split()
    arrays = {
        x.format("train"): X[:8], y.format("train"): Y[:8],
        x.format("test"): X[8:], y.format("test"): Y[8:],
    }  # fmt: skip
    path = str(save(tmp_path / f"some{suffix}", arrays))
    for split, part in (("train", slice(0, 8)), ("test", slice(8, 12)), ("all", slice(0, 12))):
        data = load_data(path, split)
        assert data.split == split
        assert torch.equal(data.inputs, torch.from_numpy(X[part]))
        assert data.targets.tolist() == Y[part].tolist()
    centred = load_data(path, "test", normalize="center")
    np.testing.assert_allclose(centred.inputs, X[8:] - X.mean(0), atol=1e-12)


def test_hdf5_groups_are_nested_inputs_and_splits(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["inputs/left"], file["inputs/right"], file["targets"] = X, X[:, 0], Y
    data = load_data(tmp_path / "a.h5")
    assert set(data.inputs) == {"left", "right"}
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["train/inputs"], file["train/targets"] = X, Y
    assert load_data(tmp_path / "b.h5").split == "train"
    with pytest.raises(DataError, match="has no test split"):
        load_data(tmp_path / "b.h5", "test")


def test_a_pair_in_a_pt_file_and_inputs_alone(tmp_path):
    torch.save((torch.from_numpy(X), torch.from_numpy(Y)), tmp_path / "pair.pt")
    assert len(load_data(tmp_path / "pair.pt")) == 12
    torch.save(torch.from_numpy(X), tmp_path / "alone.pt")
    assert load_data(tmp_path / "alone.pt", targets="inputs").targets.shape == (12, 3)
    with pytest.raises(DataError, match="no targets"):
        load_data(tmp_path / "alone.pt")


def test_integer_images_of_a_file_are_scaled_and_a_column_of_labels_is_a_vector(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 3), dtype=np.uint8)
    path = save(tmp_path / "cifar.npz", {"x": images, "y": Y[:, None].astype(np.uint8)})
    data = load_data(path)
    assert data.inputs.shape == (12, 3, 8, 8)
    assert "pixels / 255" in data.preprocessing
    assert data.targets.dtype == torch.int64
    assert data.targets.tolist() == Y.tolist()
    assert any("column" in note for note in data.notes)
    binary = load_data((X, (Y[:, None] > 1).astype(np.int64)))
    assert binary.targets.shape == (12, 1)  # may be meant for binary cross-entropy


def test_unusual_number_types(tmp_path):
    wide = load_data((np.arange(12, dtype=np.uint16)[:, None], Y.astype(">i4")))
    assert wide.inputs.dtype == torch.int32
    assert wide.targets.tolist() == Y.tolist()
    flipped = load_data((X[::-1].astype(">f8"), Y[::-1]))
    assert torch.equal(flipped.inputs, torch.from_numpy(X).flip(0))


class Hostile:
    def __reduce__(self):
        return os.mkdir, (str(Path.cwd() / "ran"),)


def test_a_pickled_data_set_is_refused_and_does_not_run(tmp_path):
    torch.save(torch.utils.data.TensorDataset(torch.from_numpy(X), torch.from_numpy(Y)), "set.pt")
    torch.save({"inputs": Hostile(), "targets": Hostile()}, "hostile.pt")
    Path("legacy.pt").write_bytes(pickle.dumps(Hostile()))
    for name in ("set.pt", "hostile.pt", "legacy.pt"):
        with pytest.raises(DataError, match=r"(?s)could run code.*file\.py:factory"):
            load_data(name)
    np.savez("objects.npz", inputs=np.array([Hostile()], dtype=object), targets=Y)
    with pytest.raises(DataError, match="could run code"):
        load_data("objects.npz")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("suffix", [".npz", ".pt", ".safetensors", ".h5"])
@pytest.mark.parametrize("damage", ["empty", "text", "cut"])
def test_damaged_files(tmp_path, suffix, damage):
    path = save(tmp_path / f"some{suffix}", {"inputs": X, "targets": Y})
    whole = path.read_bytes()
    path.write_bytes({"empty": b"", "text": b"no data here\n", "cut": whole[:-200]}[damage])
    with pytest.raises(DataError) as caught:
        load_data(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arrays", "error", "message"),
    [
        ({"inputs": X}, DataError, "no targets"),
        ({"targets": Y}, DataError, r"no array 'inputs'; it has: targets \(12,\)"),
        ({"x": X, "images": X, "y": Y}, DataError, "which are the inputs, x or images"),
        ({"inputs": X, "targets": Y[:5]}, DataError, "12 inputs but 5 targets"),
        ({"inputs": X[:0], "targets": Y[:0]}, DataError, "no examples"),
        ({"inputs": X[:, :0], "targets": Y}, DataError, "no values"),
        ({"inputs": X.astype(str), "targets": Y}, DataError, "numbers are needed"),
        ({"inputs": X + 1j, "targets": Y}, DataError, "complex"),
        ({"inputs": np.float64(1), "targets": Y}, DataError, "single number"),
        ({"inputs": np.where(X[7, 1] == X, np.nan, X), "targets": Y}, NonFiniteError,
         r"inputs has 1 of 36 .*1 NaN, 0 infinite.* example 7, position \(1,\)"),
        ({"inputs": X, "targets": np.where(Y == 3, np.inf, Y)}, NonFiniteError,
         "targets has 3 of 12 .*0 NaN, 3 infinite.* example 3"),
    ],
)  # fmt: skip
def test_bad_arrays(tmp_path, arrays, error, message):
    with pytest.raises(error, match=message):
        load_data(save(tmp_path / "some.npz", arrays))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing.npz", "no data file"),
        ("missing.csv", "no such file"),
        ("folder/missing", "no such file"),
        (".", "is a folder"),
        ("models.py", r"models\.py:factory"),
    ],
)
def test_files_that_are_not_there(name, message):
    with pytest.raises((DataError, OptionError), match=message):
        load_data(name)


def test_files_of_other_kinds_and_needless_folders(tmp_path):
    (tmp_path / "some.csv").write_text("1,2\n")
    with pytest.raises(DataError, match="data files are"):
        load_data("some.csv")
    with pytest.raises(OptionError, match="named set"):
        load_data("some.npz", root=tmp_path)


def test_large_finite_numbers_are_finite():
    x = torch.full((4, 2), 1e308, dtype=torch.float64)
    assert len(load_data((x, torch.zeros(4)))) == 4


# --- objects and user code ----------------------------------------------------------------------


def test_in_memory_data():
    data = load_data((X, Y))
    assert (data.name, data.split, len(data)) == ("in memory", "all", 12)
    assert load_data(data) is data
    part = load_data(data, subset=4)
    assert part.preprocessing == (
        "floats as they are",
        "subset of 4 of 12 (stratified by class, seed 0)",
    )
    made = Dataset.from_tensors({"a": X, "b": (X, X)}, X, preprocessing=("mine",))
    assert load_data(made) is made
    assert len(made) == 12
    with pytest.raises(DataError, match="12 inputs but 3 targets"):
        Dataset.from_tensors(X, Y[:3])
    with pytest.raises(DataError, match="different numbers of examples"):
        load_data(((X, X[:3]), Y))
    with pytest.raises(DataError, match="expected inputs and targets"):
        load_data(3)
    with pytest.raises(DataError, match="tuple of 3"):
        load_data((X, Y, X))


def test_nested_inputs_and_targets_are_subset_together():
    data = load_data(({"a": X, "b": [X[:, 0], Y]}, (X, Y)), subset=5)
    assert data.inputs["a"].shape == (5, 3)
    assert torch.equal(data.inputs["b"][0], data.inputs["a"][:, 0])
    assert torch.equal(data.targets[0], data.inputs["a"])
    assert "uniform" in data.preprocessing[0]


def test_torch_data_sets_are_fetched_item_by_item():
    class Items(torch.utils.data.Dataset):
        def __init__(self):
            self.fetched = 0

        def __len__(self):
            return 1500

        def __getitem__(self, i):
            self.fetched += 1
            return {"left": np.float32([i, 1]), "right": i}, i % 3

    seen = []
    items = Items()
    data = load_data(items, progress=lambda *args: seen.append(args))
    assert len(data) == 1500
    assert torch.equal(data.inputs["left"][:, 0], torch.arange(1500.0))
    assert data.targets.tolist() == [i % 3 for i in range(1500)]
    assert seen[0][:2] == ("data", 0)
    assert seen[-1] == ("data", len(seen) - 1, len(seen) - 1)
    assert items.fetched <= 1500 + 3 * 64  # the first, the middle and the last batch twice


def test_random_augmentation_is_refused():
    class Noisy(torch.utils.data.Dataset):
        def __len__(self):
            return 50

        def __getitem__(self, i):
            return torch.randn(3), 0

    with pytest.raises(NonDeterministicError, match="without random ones"):
        load_data(Noisy())


def test_nan_in_items_is_reported_as_nan():
    x = torch.full((5, 2), float("nan"))
    with pytest.raises(NonFiniteError, match="10 NaN"):
        load_data(torch.utils.data.TensorDataset(x, torch.zeros(5)))


class Broken(torch.utils.data.Dataset):
    def __init__(self, item, length=4):
        self.item, self.length = item, length

    def __len__(self):
        return self.length

    def __getitem__(self, i):
        return self.item(i)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (Broken(lambda i: (torch.zeros(i), 0)), "one tensor"),
        (Broken(lambda i: ("a", 0)), "numbers are needed"),
        (Broken(lambda i: (object(), 0)), "one tensor"),
        (Broken(lambda i: torch.zeros(3)), r"must be a pair \(inputs, targets\)"),
        (Broken(lambda i: 1 / 0), "examples from 0 on cannot be fetched .*ZeroDivisionError"),
        (Broken(lambda i: (0, 0), length=0), "no examples"),
    ],
)
def test_bad_torch_data_sets(source, message):
    with pytest.raises(DataError, match=message):
        load_data(source)


def test_data_sets_without_length():
    class Stream(torch.utils.data.IterableDataset):
        def __iter__(self):
            return iter(())

    with pytest.raises(DataError, match="map-style"):
        load_data(Stream())


FACTORIES = """
import torch
from torch.utils.data import TensorDataset
from hessscope.loaders.data import load_data
from hessscope.objective import Dataset
from hessscope.errors import DataError

x, y = torch.arange(24.0).reshape(12, 2), torch.arange(12) % 3

def pair(): return x, y
def mapping(): return {"inputs": x, "targets": y}
def items(): return TensorDataset(x, y)
def own(): return Dataset.from_tensors(x, y, name="mine", split="train")
def sibling():
    from beside import offset
    return x + offset, y
def by_split(split="train"): return (x[:8], y[:8]) if split == "train" else (x[8:], y[8:])
def broken(): return x.nothing
def refuses(): raise DataError("my own words")
def number(): return 3
constant = (x, y)
"""


@pytest.fixture
def code(tmp_path):
    (tmp_path / "factories.py").write_text(FACTORIES)
    (tmp_path / "beside.py").write_text("offset = 1.0\n")
    return tmp_path / "factories.py"


@pytest.mark.parametrize("name", ["pair", "mapping", "items", "own", "constant", "sibling"])
def test_factories(code, name):
    data = load_data(f"factories.py:{name}")
    assert len(data) == 12
    assert data.inputs.shape == (12, 2)
    assert data.name == ("mine" if name == "own" else f"factories.py:{name}")
    assert len(load_data(f"{code}:{name}", subset=6)) == 6
    with pytest.raises(DataError, match="test"):
        load_data(f"factories.py:{name}", "test")


def test_factories_may_take_the_split(code):
    train, test = (load_data("factories.py:by_split", split) for split in ("train", "test"))
    assert (len(train), train.split, len(test), test.split) == (8, "train", 4, "test")


def test_factories_of_installed_modules(code):
    assert len(load_data("factories:pair")) == 12


@pytest.mark.parametrize(
    ("spec", "error", "message"),
    [
        ("factories.py:pari", UnknownNameError, "Did you mean 'pair'"),
        ("factories.py:broken", DataError, r"factories\.py, line \d+: AttributeError"),
        ("factories.py:refuses", DataError, "^my own words$"),
        ("factories.py:number", DataError, "is int"),
        ("factories.py:", OptionError, "write file.py:name"),
        ("missing.py:pair", OptionError, "does not exist"),
        ("no_such_module:pair", OptionError, "no module named"),
        ("syntax.py:pair", OptionError, r"syntax\.py, line 1: SyntaxError"),
        ("fails.py:pair", OptionError, r"fails\.py, line 2: ZeroDivisionError"),
        ("leaves.py:pair", OptionError, r"leaves\.py, line 2: SystemExit"),
    ],
)
def test_bad_factories(code, spec, error, message):
    Path("syntax.py").write_text("def (\n")
    Path("fails.py").write_text("x = 1\n1 / 0\n")
    Path("leaves.py").write_text("import sys\nsys.exit(0)\n")
    with pytest.raises(error, match=message):
        load_data(spec)
