"""The folder of a survey: its configuration, and one record for each search that has ended."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hessscope import records
from hessscope.errors import RecordError
from hessscope.records import Store
from hessscope.surveys.starts import ORIGINS

CONFIGURATION = "study.json"
_FORMAT = "hessscope study"


class Study(Store):
    """A folder with ``study.json``, and ``ORIGIN_NUMBER.h5`` for every finished search."""

    folder: Path

    def open(self, configuration: Mapping[str, Any]) -> None:
        """Begin the study, or make sure that it is the one in the folder.

        Args:
            configuration: plain values: everything that decides the results, but for the numbers
                of searches.

        Raises:
            OptionError: the folder holds a study with another configuration.
            RecordError: the folder cannot be made, written or read.
        """
        wanted = json.loads(json.dumps(configuration))
        if (stored := self.configuration) is not None:
            records.check_same(f"the study in {self.folder}", stored, wanted)
            return
        about = {"format": _FORMAT, **records.provenance()}
        content = {**about, "configuration": wanted, "sha256": _digest(wanted)}
        self.put(CONFIGURATION, json.dumps(content, indent=1, ensure_ascii=False).encode())

    @property
    def configuration(self) -> dict[str, Any] | None:
        """The configuration of the study in the folder; None where there is none.

        Raises:
            RecordError: the file cannot be read.
        """
        path = self.folder / CONFIGURATION
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
                f"{path} is not the configuration of a study ({error}): give another `out`, or "
                "`overwrite=True`"
            ) from error

    def outcomes(self) -> dict[str, Mapping[str, Any]]:
        """Attributes of every search that has ended, by name; what cannot be read is left out."""
        found = {}
        for path in self._records():
            try:
                found[path.stem] = records.load_record(path, arrays=()).attributes
            except RecordError:  # done again, and then written over
                continue
        return found

    def clear(self) -> None:
        """Remove the files of a study, and nothing else."""
        for path in (*self._records(), self.folder / CONFIGURATION):
            path.unlink(missing_ok=True)

    def _records(self) -> list[Path]:
        return [p for origin in ORIGINS for p in sorted(self.folder.glob(f"{origin}_*.h5"))]


def _digest(configuration: Mapping[str, Any]) -> str:
    """SHA-256 of plain values."""
    return hashlib.sha256(json.dumps(configuration, sort_keys=True).encode()).hexdigest()
