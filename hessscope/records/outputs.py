"""Output files: checked before anything is computed, written whole or not at all."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, BinaryIO

from hessscope.errors import HessscopeWarning, OptionError, OutputExistsError, RecordError


def prepare_output(path: str | Path, overwrite: bool = False) -> Path:
    """Make sure, before any work, that ``path`` can be written.

    Raises:
        OutputExistsError: it exists and ``overwrite`` was not asked for.
        RecordError: its folder is missing or cannot be written.
    """
    path = Path(path)
    if path.is_dir():
        raise RecordError(f"cannot write {path}: it is a folder; name a file in it")
    if path.exists() and not overwrite:
        raise OutputExistsError(f"{path} exists; give `overwrite=True`, or another name")
    folder = path.parent
    if not folder.is_dir():
        raise RecordError(f"cannot write {path}: there is no folder {folder}; make it first")
    try:
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(b"x")
            probe.flush()
    except OSError as error:
        raise RecordError(f"cannot write in {folder}: {error.strerror or error}") from error
    return path


def check_distinct(outputs: Iterable[str | Path | None], inputs: Iterable[tuple[Any, str]]) -> None:
    """No output may replace an input, `overwrite` or not, nor another output.

    Args:
        outputs: files to be written; None for nowhere.
        inputs: what is read, with what to call it; what is no path is passed over.

    Raises:
        OptionError: an output would.
    """
    taken = {Path(p).resolve(): role for p, role in inputs if isinstance(p, (str, Path))}
    for output in (Path(path) for path in outputs if path is not None):
        if role := taken.get(output.resolve()):
            raise OptionError(f"{output} is {role}: write to another file")
        taken[output.resolve()] = "another output"


def numbered_path(folder: Path, stem: str, suffix: str) -> Path:
    """Give the first free name of ``stem.suffix``, ``stem-2.suffix``, ``stem-3.suffix``, …"""
    path, number = folder / f"{stem}{suffix}", 1
    while path.exists():
        number += 1
        path = folder / f"{stem}-{number}{suffix}"
    return path


def write_atomically(
    path: Path, content: bytes | Callable[[BinaryIO], object], overwrite: bool = False
) -> None:
    """Write a file so that a crash at any moment leaves the old one, the new one, or none.

    Args:
        path: where to.
        content: the bytes, or a function that writes them.
        overwrite: a file that is there may be replaced.

    Raises:
        OutputExistsError: the file exists (also if it came up since the work began).
        RecordError: the disk is full, or the folder cannot be written; nothing is left behind.
    """
    temporary: Path | None = None
    try:
        with tempfile.NamedTemporaryFile(
            dir=path.parent, prefix=f".{path.name}.", delete=False
        ) as stream:
            temporary = Path(stream.name)
            if isinstance(content, bytes):
                stream.write(content)
            else:
                content(stream)  # type: ignore[arg-type]
            stream.flush()
            os.fsync(stream.fileno())
        # Temporary files are private; a result gets the permissions any new file would have.
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)
        if overwrite:
            temporary.replace(path)
        else:
            _move_to_free_name(temporary, path)
    except FileExistsError as error:
        raise OutputExistsError(f"{path} exists; give `overwrite=True`, or another name") from error
    except OSError as error:
        raise RecordError(
            f"cannot write {path}: {error.strerror or error}; nothing was written. Free space or "
            "name another place with `out`"
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def write_or_number(write: Callable[[Path, bool], object], path: Path, overwrite: bool) -> Path:
    """Write to ``path``, or to a numbered name where it has come into being in the meantime.

    What took long to compute is not thrown away since its name is taken; a warning says where it
    is.

    Args:
        write: called with a path and whether a file that is there may be replaced.
        path: where to.
        overwrite: a file that is there may be replaced.

    Returns:
        Where it was written.
    """
    try:
        write(path, overwrite)
        return path
    except OutputExistsError:
        free = numbered_path(path.parent, path.stem, path.suffix)
        write(free, False)
    warnings.warn(
        f"{path} was created while this ran: the result is saved as {free} instead",
        HessscopeWarning,
        stacklevel=2,
    )
    return free


def _move_to_free_name(temporary: Path, path: Path) -> None:
    """Rename without replacing. A hard link is atomic; some file systems have none."""
    try:
        os.link(temporary, path)
    except OSError as error:
        if isinstance(error, FileExistsError) or path.exists():
            raise FileExistsError(str(path)) from None
        temporary.replace(path)
