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


class Recordable(Protocol):
    """A result or a report: what gives a record of itself."""

    def to_record(self) -> Record:
        """Its numbers, and what they rest on."""
        ...


RecordLike = str | os.PathLike[str] | Record | Recordable
"""A record, its file, or a result or report that is in memory."""

RecordSource = pd.DataFrame | RecordLike | Iterable[RecordLike] | Mapping[str, Any]
"""One of these, a folder with records, several of these, ``{label: one of these}``, or their table
by ``load_records``."""

COUNTS = ("index", "degeneracy", "positive")
_ENDS = {"": "estimate", "_lower": "lower", "_upper": "upper"}
_PUBLISHED = {"negative": "negative", "zero": "just_zero", "positive": "positive"}
_TRAINING = ("optimizer", "initialization", "trial", "epoch", "seed")
# Columns that are not of the name of an attribute, and where that is.
_WHERE = {
    "certificate": "certificate.level",
    "certificate_reason": "certificate.reason",
    "certificate_radius": "certificate.radius",
    "test_accuracy": "training.test_accuracy",
    "confidence": "index.confidence",
    **{f"{name}{end}": f"{name}.{key}" for name in COUNTS for end, key in _ENDS.items()},
    **{f"sankar2017_{name}": f"sankar2017.{key}" for name, key in _PUBLISHED.items()},
}
_TEXTS = (
    *("status", "method", "origin", "certificate", "certificate_reason", "classification"),
    *("backend", "dtype", "device", "checkpoint", "checkpoint_sha256", "architecture"),
    *("data", "split", "data_fingerprint", "loss_function"),
)
_WHOLE = (
    *("parameters", "examples", "iterations", "hvps"),
    *(f"{name}{end}" for name in COUNTS for end in _ENDS),
    *(f"sankar2017_{name}" for name in _PUBLISHED),
)

COLUMNS = (
    *("label", "name", "kind", "status", "method", "origin"),
    *("loss", "accuracy", "test_accuracy", "error"),
    *("gradient_norm", "gradient_norm_start", "gradient_floor"),
    *("certificate", "certificate_reason", "certificate_radius", "certified", "parameters"),
    *(f"{name}{end}" for name in COUNTS for end in _ENDS),
    *(f"sankar2017_{name}" for name in _PUBLISHED),
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
    rows: list[dict[str, Any]] = []
    others: list[dict[str, Any]] = []
    skipped: list[tuple[str, str]] = []
    for label, item in _items(source):
        try:
            record = item if isinstance(item, Record) else load_record(item, arrays=())
        except RecordError as error:
            skipped.append((str(item), str(error)))
            continue
        (rows if _of_one_point(record) else others).append(record_row(record, label))
    if skipped:
        names = "; ".join(reason for _, reason in skipped)
        if not rows and not others:
            raise RecordError(f"no record can be read: {names}")
        count = len(skipped) + len(rows) + len(others)
        # Not a part of the message that may be cut: each file is named.
        warnings.warn(
            f"{len(skipped)} of {count} files were skipped: {names}",
            HessscopeWarning,
            stacklevel=2,
        )
    if not rows and not others:
        raise RecordError("there is no record (.h5 file) among what was given")
    if rows:
        skipped += [(str(o["path"]), f"kind '{o['kind']}' is of no single point") for o in others]
    table = pd.DataFrame(rows or others, columns=list(COLUMNS))
    table = table.astype(dict.fromkeys(_WHOLE, "Int64"))
    paths = table["path"]
    if table["name"].duplicated().any() and paths.notna().all() and paths.nunique() > 1:
        # Files of one name in several folders: the part of the path that tells them apart.
        common = os.path.commonpath([Path(path).parent for path in paths])
        table["name"] = [
            Path(path).relative_to(common).with_suffix("").as_posix() for path in paths
        ]
    table.attrs["skipped"] = skipped
    return table


def _of_one_point(record: Record) -> bool:
    """Whether it holds counts, a critical point, or the result of a backend that counts nothing."""
    said = record.attributes
    counted = "index" in said or record.kind == "critical point"
    return counted or "backend" in said.get("configuration", {})


def as_points(source: RecordSource) -> pd.DataFrame:
    """Give a table as it is, and read records into one."""
    return source if isinstance(source, pd.DataFrame) else load_records(source)


def as_record(source: RecordSource) -> Record:
    """The one record that is meant, with its arrays.

    Raises:
        RecordError: the file is no record.
        OptionError: there are several records, or there is no record of such an object.
    """
    items = [item for _, item in _items(source)]
    if len(items) != 1:
        raise OptionError(f"this layout or figure is of one record, and there are {len(items)}")
    return items[0] if isinstance(items[0], Record) else load_record(items[0])


def records_of(source: RecordSource) -> list[Record]:
    """Read every record with its arrays; files that cannot be read are left out with a warning."""
    found = []
    for _, item in _items(source):
        try:
            found.append(item if isinstance(item, Record) else load_record(item))
        except RecordError as error:
            warnings.warn(f"skipped: {error}", HessscopeWarning, stacklevel=2)
    return found


def record_row(record: Record, label: str | None = None) -> dict[str, Any]:
    """What a record says, as one row of ``load_records``."""
    known = dict(flat(record.attributes))
    row = {name: _cell(name, known.get(_WHERE.get(name, name))) for name in COLUMNS}
    for name in _TRAINING:
        places = (f"training.{name}", name, f"options.{name}", f"problem.{name}")
        row[name] = next((known[place] for place in places if place in known), None)
    n, index = row["parameters"], row["index"]
    if n and index is not None:
        row["alpha"] = index / n if np.isnan(row["alpha"]) else row["alpha"]
        for end in ("lower", "upper"):
            bound = row[f"index_{end}"]
            row[f"alpha_{end}"] = np.nan if bound is None else bound / n
    row["certified"] = row["certificate"] in CERTIFIED
    row["error"] = 1.0 - row["accuracy"]
    path = record.path
    row |= {"label": label, "kind": record.kind, "path": None if path is None else str(path)}
    row["name"] = path.stem if path is not None else row["checkpoint"] or record.kind
    return row


def flat(attributes: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every attribute with its value; groups with dots."""
    for name, value in attributes.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _cell(column: str, value: Any) -> Any:
    """A value of the type of its column; what is of another type is missing."""
    if column in _TEXTS:
        return value if isinstance(value, str) else None
    number = isinstance(value, (int, float)) and bool(np.isfinite(value))
    if column in _WHOLE:
        return int(value) if number else None
    return float(value) if isinstance(value, (int, float)) else np.nan


def _items(source: Any, label: str | None = None) -> Iterator[tuple[str | None, Path | Record]]:
    if isinstance(source, Record):
        yield label, source
    elif hasattr(source, "to_record"):
        yield label, source.to_record()
    elif isinstance(source, pd.DataFrame):
        if source["path"].isna().any():
            raise OptionError("rows of the table have no file: give the records themselves")
        yield from ((label, Path(path)) for path in source["path"])
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
            f"{type(source).__name__} is no record: give a result, a report, a Record or its file, "
            "a folder, or several of these"
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
