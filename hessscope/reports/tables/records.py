"""Many records as one table: a row each, and nothing silently dropped."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd

from hessscope.errors import HessscopeWarning, OptionError, RecordError
from hessscope.records import Record, load_record
from hessscope.refinement.certificates import CERTIFIED

POINTS = ("spectrum", "spectral density", "critical point", "pyhessian")
"""Kinds of records that describe one point."""


class Recordable(Protocol):
    """A result or a report: what gives a record of itself."""

    def to_record(self) -> Record:
        """Its numbers, and what they rest on."""
        ...


RecordLike = str | os.PathLike[str] | Record | Recordable
"""A record, its file, or a result or report that is in memory."""

RecordSource = RecordLike | Iterable[RecordLike] | Mapping[str, Any]
"""One of these, a folder with records, several of these, or ``{label: one of these}``."""

_COUNTS = ("index", "degeneracy", "positive")
_IN_INERTIA = {"index": "negative", "degeneracy": "zero", "positive": "positive"}
# Counts by the rule of the 2017 paper, and their names in records.
_PUBLISHED = {"negative": "negative", "zero": "just_zero", "positive": "positive"}
_NUMBERS = (
    "loss",
    "accuracy",
    "gradient_norm",
    "gradient_norm_start",
    "gradient_floor",
    "alpha",
    "tolerance",
    "noise_floor",
    "lambda_min",
    "lambda_max",
    "trace",
    "seconds",
    "l2",
)
_WHOLE = ("parameters", "examples", "iterations", "hvps")
_TEXTS = (
    "status",
    "method",
    "origin",
    "classification",
    "backend",
    "dtype",
    "device",
    "checkpoint",
    "checkpoint_sha256",
    "architecture",
    "data",
    "split",
    "data_fingerprint",
    "loss_function",
)
_TRAINING = ("optimizer", "initialization", "trial", "epoch", "seed")

COLUMNS = (
    *("label", "name", "kind", "status", "method", "origin"),
    *("loss", "accuracy", "test_accuracy", "error"),
    *("gradient_norm", "gradient_norm_start", "gradient_floor"),
    *("certificate", "certificate_reason", "certificate_radius", "certified", "parameters"),
    *(f"{count}{end}" for count in _COUNTS for end in ("", "_lower", "_upper")),
    *(f"sankar2017_{count}" for count in _PUBLISHED),
    *("confidence", "alpha", "alpha_lower", "alpha_upper", "tolerance", "noise_floor"),
    *("lambda_min", "lambda_max", "trace", "classification", "iterations", "hvps", "seconds"),
    *("backend", "dtype", "device", "checkpoint", "checkpoint_sha256", "architecture"),
    *_TRAINING,
    *("data", "split", "examples", "data_fingerprint", "loss_function", "l2", "path"),
)
"""Columns of ``load_records``."""


def load_records(source: RecordSource) -> pd.DataFrame:
    """Read records into a table with one row each; what a record does not have is missing there.

    A search that failed is a row like any other, with its ``status``. A file that cannot be read
    is named in a warning and in ``attrs["skipped"]``; all others are kept. Beside records of points
    those of other kinds (logs of training, series, sections) are set aside, and named there too.

    Args:
        source: files, folders (searched with their subfolders for ``.h5``), records, reports, or
            a mapping from labels to these; labels stand in the column ``label``.

    Returns:
        Columns ``COLUMNS``, in the order of the sources and of the file names in a folder. Counts
        have their interval in ``…_lower`` and ``…_upper``; ``error`` is 1 − accuracy,
        and accuracy that on the data of the Hessian; ``test_accuracy`` is the one that ``hessscope
        train`` measured on its test data;
        ``certified`` says whether the certificate's level is one of ``CERTIFIED``;
        ``sankar2017_…`` are counts by the rule of Sankar & Balasubramanian (2017), where a record
        has them.

    Raises:
        RecordError: a path does not exist, or no record can be read.
    """
    rows, skipped = [], []
    for label, item in _items(source):
        try:
            record = item if isinstance(item, Record) else load_record(item, arrays=())
        except RecordError as error:
            skipped.append((str(item), str(error)))
            continue
        rows.append(record_row(record, label))
    if skipped:
        names = "; ".join(reason for _, reason in skipped)
        if not rows:
            raise RecordError(f"no record can be read: {names}")
        # Not a part of the message that may be cut: each file is named.
        warnings.warn(
            f"{len(skipped)} of {len(skipped) + len(rows)} files were skipped: {names}",
            HessscopeWarning,
            stacklevel=2,
        )
    if not rows:
        raise RecordError("there is no record (.h5 file) among what was given")
    points = [row for row in rows if row["kind"] in POINTS]
    if points and len(points) < len(rows):
        others = [row for row in rows if row["kind"] not in POINTS]
        skipped += [(str(o["path"]), f"kind '{o['kind']}' is of no single point") for o in others]
        rows = points
    table = _table(rows)
    table.attrs["skipped"] = skipped
    return table


def as_record(source: RecordLike) -> Record:
    """The record that is meant: of a file, or of a result or report that is in memory.

    Raises:
        RecordError: the file is no record.
        OptionError: there is no record of such an object.
    """
    if isinstance(source, Record):
        return source
    if isinstance(source, (str, os.PathLike)):
        return load_record(Path(source))
    if not hasattr(source, "to_record"):
        raise OptionError(
            f"{type(source).__name__} is no record: give a result, a report, a Record or its file"
        )
    return source.to_record()


def records_table(records: Iterable[Record]) -> pd.DataFrame:
    """The same table of records that are in memory."""
    return _table([record_row(record) for record in records])


def records_of(source: RecordSource) -> list[Record]:
    """Read every record with its arrays; files that cannot be read are left out with a warning."""
    found = []
    for _, item in _items(source):
        try:
            found.append(item if isinstance(item, Record) else load_record(item))
        except RecordError as error:
            warnings.warn(f"skipped: {error}", HessscopeWarning, stacklevel=2)
    return found


def as_points(source: pd.DataFrame | RecordSource) -> pd.DataFrame:
    """Give a table as it is, and read records into one."""
    return source if isinstance(source, pd.DataFrame) else load_records(source)


def record_row(record: Record, label: str | None = None) -> dict[str, Any]:
    """What a record says, as one row of ``load_records``."""
    a = record.attributes
    row: dict[str, Any] = {name: _number(a.get(name)) for name in _NUMBERS}
    for name in ("tolerance", "noise_floor"):
        if np.isnan(row[name]):
            row[name] = _number(_group(a, "inertia").get(name))
    row |= {name: _whole(a.get(name)) for name in _WHOLE}
    row |= {name: _text(a.get(name)) for name in _TEXTS}
    trained, asked = _group(a, "training"), _group(a, "problem")
    row["test_accuracy"] = _number(trained.get("test_accuracy"))
    row |= {name: trained.get(name, a.get(name, asked.get(name))) for name in _TRAINING}
    certificate = _group(a, "certificate")
    row["certificate"] = _text(certificate.get("level"))
    row["certificate_reason"] = _text(certificate.get("reason"))
    row["certificate_radius"] = _number(certificate.get("radius"))
    row["certified"] = row["certificate"] in CERTIFIED
    row["error"] = 1.0 - row["accuracy"]
    n = row["parameters"]
    inertia = _group(a, "inertia")
    for name in _COUNTS:
        interval = _group(a, name) or _group(inertia, _IN_INERTIA[name])
        row[name] = _whole(interval.get("estimate"))
        row[f"{name}_lower"] = _whole(interval.get("lower"))
        row[f"{name}_upper"] = _whole(interval.get("upper"))
        if name == "index":
            row["confidence"] = _number(interval.get("confidence"))
            for end in ("lower", "upper"):
                bound = row[f"index_{end}"]
                row[f"alpha_{end}"] = bound / n if n and bound is not None else np.nan
    published = _group(a, "sankar2017")
    row |= {f"sankar2017_{name}": _whole(published.get(key)) for name, key in _PUBLISHED.items()}
    if np.isnan(row["alpha"]) and n and row["index"] is not None:
        row["alpha"] = row["index"] / n
    path = record.path
    row |= {"label": label, "kind": record.kind, "path": None if path is None else str(path)}
    row["name"] = path.stem if path is not None else row["checkpoint"] or record.kind
    return row


def _table(rows: list[dict[str, Any]]) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    table = table.astype({name: "Int64" for name in COLUMNS if _is_whole(name)})
    paths = table["path"]
    if table["name"].duplicated().any() and paths.notna().all() and paths.nunique() > 1:
        # Files of one name in several folders: the part of the path that tells them apart.
        common = os.path.commonpath([Path(path).parent for path in paths])
        table["name"] = [
            Path(path).relative_to(common).with_suffix("").as_posix() for path in paths
        ]
    return table


def _items(source: Any, label: str | None = None) -> Iterator[tuple[str | None, Path | Record]]:
    if isinstance(source, Record) or hasattr(source, "to_record"):
        yield label, as_record(source)
    elif isinstance(source, Mapping):
        for name, part in source.items():
            yield from _items(part, str(name))
    elif isinstance(source, (str, os.PathLike)):
        yield from ((label, path) for path in _files(Path(source)))
    elif isinstance(source, Iterable):
        for part in source:
            yield from _items(part, label)
    else:
        raise OptionError(
            f"{type(source).__name__} is no record: give files, folders, records, reports, or a "
            "mapping from labels to these"
        )


def _files(path: Path) -> list[Path]:
    """The file itself, or all records in a folder; files that are being written have a dot."""
    if path.is_dir():
        files = sorted(p for p in path.rglob("*.h5") if not p.name.startswith("."))
        if not files:
            raise RecordError(f"there is no record (.h5 file) in the folder {path}")
        return files
    if not path.exists():
        raise RecordError(f"there is no record {path}")
    return [path]


def _group(attributes: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """A group of attributes; empty where there is none, or something else of that name."""
    group = attributes.get(name)
    return group if isinstance(group, Mapping) else {}


def _is_whole(column: str) -> bool:
    plain = column.removesuffix("_lower").removesuffix("_upper")
    return plain in (*_WHOLE, *_COUNTS) or column.startswith("sankar2017_")


def _number(value: Any) -> float:
    return float(value) if isinstance(value, (int, float)) else np.nan


def _whole(value: Any) -> int | None:
    return int(value) if isinstance(value, (int, float)) and np.isfinite(value) else None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
