"""The folder of a survey: its configuration, and one record for each search that has ended."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hessscope import records
from hessscope.errors import OptionError, RecordError
from hessscope.records import Record
from hessscope.surveys.starts import ORIGINS

CONFIGURATION = "study.json"
_FORMAT = "hessscope study"


@dataclass(frozen=True)
class Study:
    """A folder in which every finished search has its record.

    Attributes:
        folder: with ``study.json`` and ``ORIGIN_NUMBER.h5``.
        configuration: everything that decides the results, but for the numbers of searches.
    """

    folder: Path
    configuration: Mapping[str, Any]

    @classmethod
    def open(
        cls, folder: Path, configuration: Mapping[str, Any], *, overwrite: bool = False
    ) -> Study:
        """Begin a study, or go on with the one in the folder.

        Args:
            folder: made if need be.
            configuration: plain values.
            overwrite: remove the records of another study first.

        Raises:
            OptionError: the folder holds a study with another configuration.
            RecordError: the folder cannot be made, written or read.
        """
        wanted = json.loads(json.dumps(configuration))
        if overwrite:
            cls(folder, {}).clear()
        stored = cls.stored_configuration(folder)
        if stored is None:
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise RecordError(
                    f"cannot make the folder {folder}: {error.strerror or error}; give another one"
                ) from error
            about = {"format": _FORMAT, **records.provenance()}
            content = {**about, "configuration": wanted, "sha256": _digest(wanted)}
            text = json.dumps(content, indent=1, ensure_ascii=False)
            records.write_atomically(folder / CONFIGURATION, text.encode())
            return cls(folder, wanted)
        differences = list(_differences(stored, wanted))
        if differences:
            name, theirs, mine = differences[0]
            more = f" (and {len(differences) - 1} more differences)" if differences[1:] else ""
            raise OptionError(
                f"the study in {folder} was made with {name} {theirs}, and now it is {mine}{more}: "
                "it goes on with the options that it began with; give them, another folder, or "
                "--overwrite"
            )
        return cls(folder, wanted)

    @staticmethod
    def stored_configuration(folder: Path) -> dict[str, Any] | None:
        """The configuration of the study in a folder; None where there is none.

        Raises:
            RecordError: the file cannot be read.
        """
        path = folder / CONFIGURATION
        if not path.is_file():
            return None
        try:
            content = json.loads(path.read_text("utf-8"))
            if content["format"] != _FORMAT:
                raise ValueError("another format")
            if content["sha256"] != _digest(content["configuration"]):
                raise ValueError("its content does not match its checksum")
            return dict(content["configuration"])
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise RecordError(
                f"{path} is not the configuration of a study ({error}): give another folder, or "
                "--overwrite"
            ) from error

    def path(self, name: str) -> Path:
        """Where the record of a search stands."""
        return self.folder / f"{name}.h5"

    def outcomes(self) -> dict[str, Mapping[str, Any]]:
        """Attributes of every search that has ended, by name; what cannot be read is left out."""
        found = {}
        for origin in ORIGINS:
            for path in sorted(self.folder.glob(f"{origin}_*.h5")):
                try:
                    found[path.stem] = records.load_record(path, arrays=()).attributes
                except RecordError:  # done again, and then written over
                    continue
        return found

    def write(self, name: str, record: Record) -> Path:
        """Store a search that has ended."""
        path = self.path(name)
        records.write_record(replace(record, path=path), path, overwrite=True)
        return path

    def clear(self) -> None:
        """Remove the files of a study, and nothing else."""
        for origin in ORIGINS:
            for path in self.folder.glob(f"{origin}_*.h5"):
                path.unlink()
        (self.folder / CONFIGURATION).unlink(missing_ok=True)


def _digest(configuration: Mapping[str, Any]) -> str:
    """SHA-256 of plain values."""
    return hashlib.sha256(json.dumps(configuration, sort_keys=True).encode()).hexdigest()


def _differences(
    stored: Mapping[str, Any], wanted: Mapping[str, Any], above: str = ""
) -> list[tuple[str, Any, Any]]:
    found: list[tuple[str, Any, Any]] = []
    for name in sorted({*stored, *wanted}):
        theirs, mine = stored.get(name), wanted.get(name)
        if isinstance(theirs, Mapping) and isinstance(mine, Mapping):
            found += _differences(theirs, mine, f"{above}{name}.")
        elif theirs != mine:
            found.append((above + name, _short(theirs), _short(mine)))
    return found


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}…"
