"""Records of results as HDF5: arrays as datasets, everything else as attributes."""

from __future__ import annotations

import hashlib
import io
import platform
import typing
from collections.abc import Collection, Iterable, Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass, replace
from datetime import datetime, timezone
from html import escape
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeVar

import h5py
import numpy as np

from hessscope.errors import RecordError
from hessscope.records import seals
from hessscope.records.outputs import write_atomically, write_or_number

_MOST = 8


def few(texts: Iterable[str]) -> str:
    """The first texts, separated by commas, and how many more there are."""
    every = list(texts)
    more = [f"… ({len(every) - _MOST} more)"] if len(every) > _MOST else []
    return ", ".join([*every[:_MOST], *more])


class Summarised:
    """A result that is shown by its ``summary``, whatever arrays it holds."""

    def summary(self) -> Mapping[str, str]:
        """The facts that tell what it is, by their names."""
        raise NotImplementedError

    def __repr__(self) -> str:
        facts = self.summary()
        width = max(map(len, facts), default=0)
        lines = (f"  {name:<{width}}  {value}" for name, value in facts.items())
        return "\n".join((type(self).__name__, *lines))

    def _repr_html_(self) -> str:
        rows = "".join(
            f'<tr><th style="text-align: left">{escape(name)}</th>'
            f'<td style="text-align: left">{escape(value)}</td></tr>'
            for name, value in self.summary().items()
        )
        return f"<table><caption>{escape(type(self).__name__)}</caption>{rows}</table>"


SCHEMA_VERSION = 1
_FORMAT = "hessscope record"

Attributes = Mapping[str, Any]
W = TypeVar("W", bound=Any)


@dataclass(frozen=True, repr=False)
class Record(Summarised):
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

    def summary(self) -> dict[str, str]:
        """Kind, names of the arrays with their shapes, and names of the attributes."""
        shapes = (f"{name} {' x '.join(map(str, a.shape))}" for name, a in self.arrays.items())
        facts = {"kind": self.kind, "arrays": few(shapes), "attributes": few(self.attributes)}
        return facts if self.path is None else {**facts, "file": str(self.path)}

    def __getitem__(self, name: str) -> Any:
        """Look up an array, or else an attribute, by name."""
        return self.arrays[name] if name in self.arrays else self.attributes[name]


def write_record(record: Record, path: Path, overwrite: bool = False) -> None:
    """Write a record; a crash at any moment leaves either the old file or the new one.

    Raises:
        OutputExistsError: the file exists and ``overwrite`` was not given.
        RecordError: the disk is full, the folder cannot be written, or HDF5 cannot hold an
            attribute.
    """
    write_atomically(path, _encoded(record), overwrite)


def write_report(report: W, out: str | Path | None, overwrite: bool) -> W:
    """Write the record of a report; give the report with the record's path.

    Args:
        report: a dataclass with a field ``record`` and a method ``to_record``.
        out: where to, or a numbered name as for ``write_or_number``; None for nowhere.
        overwrite: a file that is there may be replaced.

    Raises:
        RecordError: the disk is full or the folder cannot be written.
    """

    def write(path: Path, overwrite: bool) -> None:
        nonlocal report
        report = replace(report, record=path)
        write_record(report.to_record(), path, overwrite)

    if out is not None:
        write_or_number(write, Path(out), overwrite)
    return report


def check_attributes(attributes: Attributes) -> None:
    """Make sure, before any work, that a record can hold what is known already.

    Raises:
        RecordError: HDF5 cannot hold an attribute, such as a text that is not UTF-8.
    """
    _encoded(Record("check", {}, attributes))


def _encoded(record: Record) -> bytes:
    # In memory first: HDF5 does not fail cleanly on a full disk, a plain file does.
    buffer = io.BytesIO()
    # The format of HDF5 1.8: older ones hold at most 64 kB of attributes, some 4,000 names.
    with h5py.File(buffer, "w", libver=("v108", "latest"), userblock_size=seals.SIZE) as file:
        file.attrs["format"] = _FORMAT
        file.attrs["schema_version"] = SCHEMA_VERSION
        file.attrs["kind"] = record.kind
        _write_attributes(file, record.attributes)
        for name, array in record.arrays.items():
            file.create_dataset(name, data=array)
    seals.seal(buffer)
    return buffer.getvalue()


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
        with path.open("rb") as stream:
            sealed = seals.is_sealed(stream)
            if sealed and not seals.is_whole(stream):
                raise RecordError(
                    f"{path} is damaged: its content does not match its checksum. Take a copy, or "
                    "compute it again"
                )
            with h5py.File(stream, "r") as file:
                return _read(file, path, sealed, arrays)
    except RecordError:
        raise
    except Exception as error:  # whatever a damaged file makes of itself
        raise RecordError(f"{path} cannot be read as HDF5 ({error})") from error


def _read(file: h5py.File, path: Path, sealed: bool, arrays: Collection[str] | None) -> Record:
    if file.attrs.get("format") != _FORMAT or not {"schema_version", "kind"} <= set(file.attrs):
        raise RecordError(f"{path} is an HDF5 file, but not a hessscope record")
    schema = int(file.attrs["schema_version"])
    if schema > SCHEMA_VERSION:
        raise RecordError(
            f"{path} has schema version {schema}, this hessscope reads up to {SCHEMA_VERSION}: "
            "upgrade hessscope"
        )
    if not sealed:
        raise RecordError(
            f"{path} has no checksum: a version before the first release wrote it, or it is "
            "damaged. Compute it again"
        )
    found: dict[str, np.ndarray] = {}
    attributes = {name: _plain(value) for name, value in file.attrs.items()}
    size = path.stat().st_size

    # Links are not followed, so that nothing outside of the file is read.
    def visit(name: str, node: h5py.Dataset | h5py.Group) -> None:
        if isinstance(node, h5py.Dataset):
            if arrays is not None and name not in arrays:
                return
            if node.external or node.is_virtual or node.nbytes > size:
                raise RecordError(f"{path}: the numbers of {name} are not in the file")
            found[name] = node[()]
        elif len(node.attrs):
            inner = attributes
            for part in name.split("/"):
                inner = inner.setdefault(part, {})
            inner.update({key: _plain(value) for key, value in node.attrs.items()})

    file.visititems(visit)
    kind = str(attributes["kind"])
    for name in ("format", "schema_version", "kind"):
        del attributes[name]
    return Record(kind, found, attributes, path)


def _write_attributes(group: h5py.Group, attributes: Attributes) -> None:
    for name, value in attributes.items():
        if value is None:
            continue
        try:
            if isinstance(value, Mapping):
                _write_attributes(group.require_group(name), value)
            elif isinstance(value, (list, tuple)) and all(isinstance(v, str) for v in value):
                texts = h5py.string_dtype()
                group.attrs.create(name, list(value), dtype=texts, shape=(len(value),))
            else:
                group.attrs[name] = value
        except RecordError:
            raise
        except Exception as error:  # which one h5py raises depends on the value
            shown = f"{value!r:.100}"
            raise RecordError(
                f"a record cannot hold {name} = {shown} ({error}): whole numbers go up to 2⁶⁴ − 1, "
                "and names of files and parameters are UTF-8 without NUL"
            ) from error


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return tuple(v.decode() if isinstance(v, bytes) else v for v in value.tolist())
    if isinstance(value, np.generic):
        return value.item()
    return value


T = TypeVar("T")


def to_parts(source: Any) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Split a dataclass into its arrays and its other fields.

    A field that is a dataclass itself gives arrays ``field_name`` and a group ``field_parts``.
    """
    arrays: dict[str, np.ndarray] = {}
    attributes: dict[str, Any] = {}
    for f in fields(source):
        value = getattr(source, f.name)
        if isinstance(value, np.ndarray):
            arrays[f.name] = value
        elif is_dataclass(value):
            inner, parts = to_parts(value)
            arrays |= {f"{f.name}_{name}": array for name, array in inner.items()}
            attributes[f"{f.name}_parts"] = parts
        elif f.init:
            attributes[f.name] = value
    return arrays, attributes


def from_parts(kind: type[T], arrays: Mapping[str, np.ndarray], attributes: Mapping[str, Any]) -> T:
    """Make a dataclass of what ``to_parts`` gave; what is missing takes its default."""
    hints = typing.get_type_hints(kind)
    given: dict[str, Any] = {}
    for f in fields(kind):  # type: ignore[arg-type]
        prefix, parts = f"{f.name}_", attributes.get(f"{f.name}_parts")
        kinds = (hints[f.name], *typing.get_args(hints[f.name]))
        nested = next((k for k in kinds if is_dataclass(k)), None)
        if f.name in arrays:
            given[f.name] = arrays[f.name]
        elif isinstance(nested, type):
            inner = {n.removeprefix(prefix): a for n, a in arrays.items() if n.startswith(prefix)}
            if inner or parts:
                given[f.name] = from_parts(nested, inner, parts or {})
        elif f.init and attributes.get(f.name) is not None:
            given[f.name] = attributes[f.name]
    needed = (f.name for f in fields(kind) if f.init and f.default is f.default_factory is MISSING)  # type: ignore[arg-type]
    missing = [name for name in needed if name not in given]
    if missing:
        raise RecordError(f"the record has no {', '.join(missing)}, which a {kind.__name__} needs")
    return kind(**given)


PACKAGES = ("hessscope", "torch", "numpy", "scipy", "h5py")


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, as hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(1 << 22):
            digest.update(chunk)
    return digest.hexdigest()


def provenance() -> dict[str, str]:
    """Versions, machine and time of writing."""
    facts = {
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": platform.processor() or platform.machine(),
    }
    for package in PACKAGES:
        try:
            facts[f"version_{package.lower()}"] = version(package)
        except PackageNotFoundError:
            continue
    return facts
