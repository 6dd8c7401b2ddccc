"""The state of a search on disk: written while it goes on, and read where it is to go on."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hessscope import records
from hessscope.errors import HessscopeWarning, OptionError, RecordError
from hessscope.records import set_aside
from hessscope.refinement import SearchState
from hessscope.registry import METHODS

#: Saving may take this part of the time.
_SHARE = 0.05
# What makes it the same search. A resumed one has to agree in all of them.
_SAME = {
    "source_sha256": "checkpoint (SHA-256)",
    "architecture": "architecture",
    "data_fingerprint": "data (fingerprint)",
    "model_code_sha256": "code of the network (SHA-256)",
    "loss_function": "loss",
    "loss_code_sha256": "code of the loss (SHA-256)",
    "l2": "l2",
    "dtype": "dtype",
}


class StateFile:
    """Saves the state of a search after a step, as often as that takes a twentieth of the time.

    Args:
        path: where to; what is there is replaced.
        attributes: to be written beside the state.
    """

    def __init__(self, path: Path, attributes: Mapping[str, Any]) -> None:
        self.path = path
        self._attributes = attributes
        self._next = 0.0
        self._failed = False

    def __call__(self, state: SearchState) -> None:
        """Save if it is time to."""
        if time.monotonic() >= self._next:
            self.save(state)

    def save(self, state: SearchState) -> None:
        """Save now; a full disk is no reason to stop a search."""
        began = time.monotonic()
        try:
            records.write_record(state.to_record(self._attributes), self.path, overwrite=True)
        except RecordError as error:
            if not self._failed:
                warnings.warn(
                    f"the state of the search is not saved: {error}", HessscopeWarning, stacklevel=2
                )
            self._failed = True
        now = time.monotonic()
        self._next = now + (now - began) / _SHARE


def claim(partial: Path | None, content: bytes) -> None:
    """Note in the state what is about to be written, which the same search may replace."""
    if partial is None or not partial.is_file():
        return
    with contextlib.suppress(RecordError):
        state = records.load_record(partial)
        facts = {**state.attributes, "checkpoint_sha256": hashlib.sha256(content).hexdigest()}
        records.write_record(dataclasses.replace(state, attributes=facts), partial, overwrite=True)


@dataclass(frozen=True)
class SavedSearch:
    """A search to go on with.

    Attributes:
        source: the file.
        state: where it stands.
        options: as ``Strategy.stored`` gives them.
        setting: checkpoint, data and loss that it belongs to.
        threads: number of threads, which decides the order of sums.
        partial: the file is only the state of a search, not its result.
    """

    source: Path
    state: SearchState
    options: Mapping[str, Any]
    setting: Mapping[str, Any]
    threads: int
    partial: bool

    @classmethod
    def of(cls, path: Path) -> SavedSearch:
        """Read a saved state, or the record of a search that ended.

        Raises:
            RecordError: it is neither.
        """
        record = records.load_record(path)
        facts = record.attributes
        if not {"state", "refinement_options", "torch_threads"} <= set(facts):
            raise RecordError(
                f"{path} is no search to go on with: give a .partial file, or the record of a "
                "refinement"
            )
        return cls(
            source=path,
            state=SearchState.from_record(record),
            options=facts["refinement_options"],
            setting=facts,
            threads=int(facts["torch_threads"]),
            partial=record.kind == "refinement state",
        )

    @classmethod
    def found(cls, path: Path | None) -> SavedSearch | None:
        """What an earlier try of the same search left; None where there is nothing to be read."""
        if path is None or not path.is_file():
            return None
        try:
            return cls.of(path)
        except (RecordError, LookupError, TypeError, ValueError) as error:
            if path.is_file():  # else another try has just come to its end
                set_aside(path, error)
            return None

    def differences(self, setting: Mapping[str, Any]) -> list[str]:
        """In what it is a search of another problem, in words; empty where it is the same."""
        return [
            f"{words} is {self.setting.get(name)} there and {setting.get(name)} here"
            for name, words in _SAME.items()
            if self.setting.get(name) != setting.get(name)
        ]

    def check(self, setting: Mapping[str, Any]) -> None:
        """Make sure that it is a search of the same problem.

        Raises:
            OptionError: it is not; with what differs.
        """
        if differences := self.differences(setting):
            raise OptionError(
                f"{self.source} is a search in another setting: {'; '.join(differences)}. Give "
                "the options that it was begun with"
            )

    def search_options(
        self, method: str | None, given: Mapping[str, Any]
    ) -> tuple[dict[str, Any], str]:
        """Options of the search that goes on, and what is to be said of them.

        What was not given stays. A search that used up its iterations, or goes on by another
        method, gets the method's own number of them on top.
        """
        options = {k: v for k, v in self.options.items() if k != "memory"}
        before = str(options["method"])
        words = f"goes on from {self.source}, after {self.state.iterations} steps by {before}"
        if method is not None and method != before:
            kept = ("tolerance", "backend", "steps", "probes", "seed", "gradient_tolerance")
            options = {"method": method, **{k: options[k] for k in kept if k in options}}
            words += f", by {method}"
        used_up = self.state.status == "max_iterations" or options["method"] != before
        if used_up:
            more = METHODS[options["method"]].max_iterations
            options["max_iterations"] = self.state.iterations + more
        return {**options, **given}, words
