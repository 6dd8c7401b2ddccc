"""Tables of the package ``datasets``: folders that it saved, and Parquet files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hessscope.errors import DataError
from hessscope.loaders.extras import extra

#: Files of which a folder of ``save_to_disk`` has one.
_MARKS = ("dataset_dict.json", "state.json")


def is_table(path: Path) -> bool:
    """Whether it is a folder of ``datasets.save_to_disk``, or a Parquet file."""
    return path.suffix.lower() == ".parquet" or any((path / mark).is_file() for mark in _MARKS)


def open_table(path: Path) -> Any:
    """Open a table without reading its rows; a dict of tables where it is divided.

    Raises:
        DataError: it is missing or damaged, or ``datasets`` is not installed.
    """
    datasets = extra("datasets", "hf", str(path), DataError)
    try:
        if path.is_dir():
            return datasets.load_from_disk(str(path))
        return datasets.Dataset(
            extra("pyarrow.parquet", "hf", str(path), DataError).read_table(path)
        )
    except Exception as error:  # whatever the packages raise for damaged files
        said = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise DataError(f"{path} cannot be read as a table ({said}).") from error
