"""Records: readable elsewhere, whole or not there, never replaced by accident."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from hessscope import Record, load_record, write_record
from hessscope.errors import OutputExistsError, RecordError
from hessscope.records import check_attributes, numbered_path, prepare_output, seals

RECORD = Record(
    "spectrum",
    {"eigenvalues": np.array([-1.0, 0.0, 2.0]), "sweep/tolerance": np.array([1e-9])},
    {
        "loss": 0.25,
        "parameters": 3,
        "notes": ["a", "β"],
        "nothing": None,
        "empty": [],
        "index": {"lower": 1, "estimate": 1, "deeper": {"name": "x"}},
    },
)


def test_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    write_record(RECORD, path)
    again = load_record(path)
    assert again.kind == "spectrum"
    np.testing.assert_array_equal(again["eigenvalues"], [-1.0, 0.0, 2.0])
    np.testing.assert_array_equal(again["sweep/tolerance"], [1e-9])
    assert again["loss"] == 0.25
    assert again["notes"] == ("a", "β")
    assert again["index"] == {"lower": 1, "estimate": 1, "deeper": {"name": "x"}}
    assert "nothing" not in again.attributes


def test_readable_without_hessscope(tmp_path: Path) -> None:
    write_record(RECORD, tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5") as file:
        assert list(file["eigenvalues"]) == [-1.0, 0.0, 2.0]
        assert file.attrs["schema_version"] == 1
        assert file.attrs["loss"] == 0.25
        assert file["index"].attrs["lower"] == 1


def test_an_existing_file_is_refused_and_untouched(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    path.write_bytes(b"mine")
    with pytest.raises(OutputExistsError, match="`overwrite=True`"):
        write_record(RECORD, path)
    with pytest.raises(OutputExistsError):
        prepare_output(path)
    assert path.read_bytes() == b"mine"
    assert list(tmp_path.iterdir()) == [path]
    write_record(RECORD, path, overwrite=True)
    assert load_record(path)["parameters"] == 3


def test_a_full_disk_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.h5"
    write_record(RECORD, path)
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RecordError, match="No space left"):
        write_record(RECORD, path, overwrite=True)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_missing_and_read_only_folders(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="no folder"):
        prepare_output(tmp_path / "absent" / "a.h5")
    with pytest.raises(RecordError, match="is a folder"):
        prepare_output(tmp_path)
    # Not even root writes in here.
    with pytest.raises(RecordError, match="cannot write"):
        prepare_output(Path("/proc/a.h5"))


def test_default_names_are_numbered(tmp_path: Path) -> None:
    assert numbered_path(tmp_path, "model.spectrum", ".h5").name == "model.spectrum.h5"
    (tmp_path / "model.spectrum.h5").touch()
    assert numbered_path(tmp_path, "model.spectrum", ".h5").name == "model.spectrum-2.h5"
    (tmp_path / "model.spectrum-2.h5").touch()
    assert numbered_path(tmp_path, "model.spectrum", ".h5").name == "model.spectrum-3.h5"


def test_what_is_no_record_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RecordError, match="no record"):
        load_record(tmp_path / "absent.h5")
    (tmp_path / "text.h5").write_text("hello")
    with pytest.raises(RecordError, match="cannot be read as HDF5"):
        load_record(tmp_path / "text.h5")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = 1
    with pytest.raises(RecordError, match="not a hessscope record"):
        load_record(tmp_path / "other.h5")
    with monkeypatch.context() as patch:
        patch.setattr("hessscope.records.record.SCHEMA_VERSION", 99)
        write_record(RECORD, tmp_path / "new.h5")
    with pytest.raises(RecordError, match="schema version 99"):
        load_record(tmp_path / "new.h5")
    whole = (tmp_path / "new.h5").read_bytes()
    (tmp_path / "half.h5").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(RecordError, match="is damaged"):
        load_record(tmp_path / "half.h5")
    (tmp_path / "unsealed.h5").write_bytes(whole[seals.SIZE :])
    with pytest.raises(RecordError, match="schema version 99"):
        load_record(tmp_path / "unsealed.h5")


def test_a_record_without_a_checksum_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    write_record(RECORD, path)
    path.write_bytes(path.read_bytes()[seals.SIZE :])
    with pytest.raises(RecordError, match="has no checksum"):
        load_record(path)


def test_every_damaged_byte_is_seen(tmp_path: Path) -> None:
    """Flips, lost ends and lost middles: 300 mutants, of which none opens with other content."""
    path, mutant = tmp_path / "a.h5", tmp_path / "mutant.h5"
    write_record(RECORD, path)
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    used = [i for i, byte in enumerate(whole) if byte or i >= seals.SIZE]
    for kind in rng.integers(3, size=300):
        content, at = bytearray(whole), int(rng.choice(used))
        if kind == 0:
            content[at] ^= 1 << int(rng.integers(8))
        elif kind == 1:
            del content[at:]
        else:
            del content[at : at + int(rng.integers(1, 50))]
        mutant.write_bytes(content)
        with pytest.raises(RecordError):
            load_record(mutant)


def test_nothing_outside_of_the_file_is_read(tmp_path: Path) -> None:
    """A record made on purpose, checksum and all: external storage, links and empty promises."""
    secret = tmp_path / "secret.bin"
    secret.write_bytes(np.arange(4.0).tobytes())
    write_record(Record("other", {}, {"hidden": 5}), tmp_path / "other.h5")

    def external(file: h5py.File) -> None:
        file.create_dataset("x", (4,), "f8", external=[(str(secret), 0, 32)])

    def empty(file: h5py.File) -> None:
        file.create_dataset("x", (10**12,), "f8")

    def virtual(file: h5py.File) -> None:
        layout = h5py.VirtualLayout((4,), "f8")
        layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "x", (4,))
        file.create_virtual_dataset("x", layout)

    def link(file: h5py.File) -> None:
        file["inner"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "/")

    for make in (external, empty, virtual):
        with pytest.raises(RecordError, match="the numbers of x are not in the file"):
            load_record(crafted(tmp_path / f"{make.__name__}.h5", make))
    assert load_record(crafted(tmp_path / "link.h5", link)).attributes == {}


def crafted(path: Path, make: Callable[[h5py.File], None]) -> Path:
    with h5py.File(path, "w", userblock_size=seals.SIZE) as file:
        file.attrs.update({"format": "hessscope record", "schema_version": 1, "kind": "spectrum"})
        make(file)
    with path.open("r+b") as stream:
        seals.seal(stream)
    return path


@pytest.mark.parametrize(
    ("value", "named"),
    [
        (12345678901234567890123, "seed = 12345678901234567890123"),
        (os.fsdecode(b"mod\xe8le.pt"), "seed = 'mod"),
        (["fine", "a\udcffb"], "seed = "),
        ("a\0b", "seed = 'a"),
        ({"deeper": 10**39}, "deeper = 1000"),
    ],
    ids=["number", "name of a file", "name of a parameter", "NUL", "nested"],
)
def test_what_hdf5_cannot_hold_is_found_beforehand(
    tmp_path: Path, value: object, named: str
) -> None:
    with pytest.raises(RecordError, match=named):
        check_attributes({"loss": 1.0, "seed": value})
    with pytest.raises(RecordError, match="a record cannot hold"):
        write_record(Record("spectrum", {}, {"seed": value}), tmp_path / "a.h5")
    assert not list(tmp_path.iterdir())
    check_attributes(RECORD.attributes)


WRITER = """
import sys, numpy as np
from pathlib import Path
from hessscope import Record, write_record
print("ready", flush=True)
value = 0
while True:
    value += 1
    record = Record("spectrum", {"eigenvalues": np.full(300_000, float(value))}, {"value": value})
    write_record(record, Path(sys.argv[1]), overwrite=True)
"""


def test_a_killed_writer_never_leaves_half_a_record(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    delays = np.random.default_rng(0).uniform(0.0, 0.15, size=3)
    for delay in delays:
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            process.stdout.readline()
            while not path.exists():
                time.sleep(0.01)
            time.sleep(delay)
            process.kill()
        record = load_record(path)
        assert np.all(record["eigenvalues"] == record["value"])


def test_names_of_many_tensors(tmp_path: Path) -> None:
    """HDF5's old format has room for some 4,000 of them, and large networks have more."""
    names = tuple(f"layer.{i}.weight" for i in range(20_000))
    path = tmp_path / "r.h5"
    write_record(Record("spectrum", {}, {"parameter_names": list(names)}), path)
    assert load_record(path).attributes["parameter_names"] == names
