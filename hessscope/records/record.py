"""Records of results as HDF5: arrays as datasets, everything else as attributes."""

from __future__ import annotations

import io
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from hessscope.errors import RecordError
from hessscope.records.outputs import write_atomically

SCHEMA_VERSION = 1
_FORMAT = "hessscope record"

Attributes = Mapping[str, Any]


@dataclass(frozen=True)
class Record:
    """A result on disk.

    Attributes:
        kind: what was computed ("spectrum", "spectral density", …).
        arrays: named arrays; a name may have a slash, which is a group in the file.
        attributes: numbers, texts, lists of texts, and mappings of these (groups in the file).
        path: where it was read from.
    """

    kind: str
    arrays: Mapping[str, np.ndarray]
    attributes: Attributes
    path: Path | None = field(default=None, compare=False)

    def __getitem__(self, name: str) -> Any:
        """Look up an array, or else an attribute, by name."""
        return self.arrays[name] if name in self.arrays else self.attributes[name]


def write_record(record: Record, path: Path, overwrite: bool = False) -> None:
    """Write a record; a crash at any moment leaves either the old file or the new one.

    Raises:
        OutputExistsError: the file exists and ``overwrite`` was not given.
        RecordError: the disk is full or the folder cannot be written.
    """
    # In memory first: HDF5 does not fail cleanly on a full disk, a plain file does.
    buffer = io.BytesIO()
    # The format of HDF5 1.8: older ones hold at most 64 kB of attributes, some 4,000 names.
    with h5py.File(buffer, "w", libver=("v108", "latest")) as file:
        file.attrs["format"] = _FORMAT
        file.attrs["schema_version"] = SCHEMA_VERSION
        file.attrs["kind"] = record.kind
        _write_attributes(file, record.attributes)
        for name, array in record.arrays.items():
            file.create_dataset(name, data=array)
    write_atomically(path, buffer.getvalue(), overwrite)


def load_record(path: str | Path, arrays: Collection[str] | None = None) -> Record:
    """Read a record.

    Args:
        path: the file.
        arrays: read only the arrays of these names, as far as they are there; default all.

    Raises:
        RecordError: no such file, not a record, damaged, or one of a newer schema.
    """
    path = Path(path)
    if not path.is_file():
        raise RecordError(f"there is no record {path}")
    try:
        with h5py.File(path, "r") as file:
            if file.attrs.get("format") != _FORMAT or not {"schema_version", "kind"} <= set(
                file.attrs
            ):
                raise RecordError(f"{path} is an HDF5 file, but not a hessscope record")
            schema = int(file.attrs["schema_version"])
            if schema > SCHEMA_VERSION:
                raise RecordError(
                    f"{path} has schema version {schema}, this hessscope reads up to "
                    f"{SCHEMA_VERSION}: upgrade hessscope"
                )
            found: dict[str, np.ndarray] = {}
            file.visititems(lambda name, node: _collect(found, arrays, name, node))
            attributes = _read_attributes(file)
            kind = str(file.attrs["kind"])
    except (OSError, RuntimeError, LookupError, ValueError) as error:
        # A damaged file shows as any of these, wherever the damage is met.
        raise RecordError(f"{path} cannot be read as HDF5 ({error})") from error
    for name in ("format", "schema_version", "kind"):
        attributes.pop(name, None)
    return Record(kind, found, attributes, path)


def _collect(
    found: dict[str, np.ndarray],
    wanted: Collection[str] | None,
    name: str,
    node: h5py.Dataset | h5py.Group,
) -> None:
    if isinstance(node, h5py.Dataset) and (wanted is None or name in wanted):
        found[name] = node[()]


def _write_attributes(group: h5py.Group, attributes: Attributes) -> None:
    for name, value in attributes.items():
        if value is None:
            continue
        if isinstance(value, Mapping):
            _write_attributes(group.require_group(name), value)
        elif isinstance(value, (list, tuple)) and all(isinstance(v, str) for v in value):
            group.attrs.create(name, list(value), dtype=h5py.string_dtype(), shape=(len(value),))
        else:
            group.attrs[name] = value


def _read_attributes(group: h5py.Group) -> dict[str, Any]:
    result: dict[str, Any] = {name: _plain(value) for name, value in group.attrs.items()}
    for name, child in group.items():
        if isinstance(child, h5py.Group) and (nested := _read_attributes(child)):
            result[name] = nested
    return result


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return tuple(v.decode() if isinstance(v, bytes) else v for v in value.tolist())
    if isinstance(value, np.generic):
        return value.item()
    return value
