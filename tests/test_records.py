"""Records: readable elsewhere, whole or not there, never replaced by accident."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

from hessscope import Record, load_record, write_record
from hessscope.errors import OutputExistsError, RecordError
from hessscope.records import numbered_path, prepare_output

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
    with pytest.raises(OutputExistsError, match="--overwrite"):
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


def test_what_is_no_record_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="no record"):
        load_record(tmp_path / "absent.h5")
    (tmp_path / "text.h5").write_text("hello")
    with pytest.raises(RecordError, match="cannot be read as HDF5"):
        load_record(tmp_path / "text.h5")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = 1
    with pytest.raises(RecordError, match="not a hessscope record"):
        load_record(tmp_path / "other.h5")
    write_record(RECORD, tmp_path / "new.h5")
    with h5py.File(tmp_path / "new.h5", "a") as file:
        file.attrs["schema_version"] = 99
    with pytest.raises(RecordError, match="schema version 99"):
        load_record(tmp_path / "new.h5")
    whole = (tmp_path / "new.h5").read_bytes()
    (tmp_path / "half.h5").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(RecordError, match="cannot be read"):
        load_record(tmp_path / "half.h5")


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
