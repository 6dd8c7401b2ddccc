"""The folder of a survey, its result, and Dask clusters that compute it."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hessscope import records
from hessscope.errors import NoWorkerError, OptionError, RecordError
from hessscope.records import Store
from hessscope.refinement.certificates import CERTIFIED
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


@dataclass(frozen=True)
class SurveyResult:
    """The searches of a survey that have ended; their records are in its folder.

    Attributes:
        folder: with one record for each search: what ``load_records`` takes.
        outcomes: attributes of these records, by name of the search ("uniform_0007").
        planned: searches that were asked for.
        computed: searches that ended in this run, and were not there before.
        interrupted: Ctrl-C ended it before all searches had.
        seconds: wall time of this run.
    """

    folder: Path
    outcomes: Mapping[str, Mapping[str, Any]]
    planned: int
    computed: int
    interrupted: bool
    seconds: float

    def __fspath__(self) -> str:
        """The folder, so that this stands for it wherever records are read from one."""
        return str(self.folder)

    @property
    def statuses(self) -> dict[str, int]:
        """How many searches ended with which status, the most frequent first."""
        return dict(Counter(str(a["status"]) for a in self.outcomes.values()).most_common())

    @property
    def certified(self) -> int:
        """Searches whose end is certified to be near a critical point."""
        levels = (a.get("certificate", {}).get("level", "") for a in self.outcomes.values())
        return sum(level in CERTIFIED for level in levels)

    @property
    def missing(self) -> int:
        """Searches that were asked for and have not ended."""
        return self.planned - len(self.outcomes)


@contextmanager
def connect_dask(address: str, timeout: float = 30.0) -> Iterator[tuple[Executor, int]]:
    """Connect to a scheduler; give its executor and the number of calls that it runs at once.

    A search whose worker dies is run again by the scheduler on another one, up to its
    ``allowed-failures``. Workers need the same version of hessscope, and the data under the same
    path. Workers with one thread each compute fastest.

    Args:
        address: such as ``tcp://10.0.0.1:8786``.
        timeout: seconds to wait for the scheduler and for its first worker.

    Raises:
        OptionError: Dask is not installed.
        NoWorkerError: no scheduler answers, or it has no workers.
    """
    try:
        import distributed
    except ImportError as error:
        raise OptionError(
            f"the scheduler {address} needs Dask: pip install 'hessscope[dask]'"
        ) from error
    try:
        client = distributed.Client(address, timeout=timeout, set_as_default=False)
    except (OSError, ValueError, TimeoutError) as error:
        raise NoWorkerError(
            f"no Dask scheduler answers at {address} within {timeout:g} s ({error}); start one "
            "with dask scheduler, or leave out `scheduler`"
        ) from error
    try:
        try:
            client.wait_for_workers(1, timeout=timeout)
        except TimeoutError as error:
            raise NoWorkerError(
                f"the Dask scheduler at {address} has no workers; start some with dask worker "
                f"{address}"
            ) from error
        threads = sum(client.nthreads().values())
        yield client.get_executor(pure=False), max(1, threads)
    finally:
        client.close()
