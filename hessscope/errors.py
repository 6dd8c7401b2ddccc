"""Exceptions and warnings. Each message says what failed, what was expected, and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class HessscopeError(Exception):
    """Base of every error that hessscope raises on purpose; its message is for the user."""


class OptionError(HessscopeError, ValueError):
    """An option or argument has a value that cannot be used (the command line exits with 2)."""


class UnknownNameError(OptionError):
    """A name that is not among the known ones; the message suggests the nearest."""

    def __init__(self, what: str, name: str, known: Iterable[str], hint: str = "") -> None:
        names = list(known)
        lowered = {known_name.lower(): known_name for known_name in names}
        matches = difflib.get_close_matches(name.lower(), lowered, n=1, cutoff=0.5)
        near = [lowered[match] for match in matches]
        suggestion = f" Did you mean '{near[0]}'?" if near else ""
        super().__init__(
            f"unknown {what} '{name}'.{suggestion} Known: {', '.join(names)}."
            + (f" {hint}" if hint else "")
        )
        self.name = name
        self.suggestion = near[0] if near else None


class CheckpointError(HessscopeError):
    """A checkpoint file cannot be read, or holds nothing that can be used."""


class UntrustedCheckpointError(CheckpointError):
    """Opening the file would run code that it carries; needs the user's word that it is trusted."""


class ArchitectureError(CheckpointError):
    """The architecture is missing, cannot be made, or does not fit the weights in the file."""


class DataError(HessscopeError):
    """A data set cannot be found, read or used."""


class DownloadError(DataError):
    """A download failed; the part that arrived is kept, and the next try resumes from it."""


class ObjectiveError(HessscopeError):
    """Model, data and loss do not fit together."""


class NonFiniteError(ObjectiveError):
    """NaN or infinity where a finite number is needed."""


class NonDeterministicError(ObjectiveError):
    """The same parameters gave two different values, so that no Hessian is defined."""


class MemoryLimitError(HessscopeError):
    """The work would not fit in the memory that is free; nothing was started."""


class SolverError(HessscopeError):
    """A numerical method failed, or does not exist for this input."""


class WorkerError(HessscopeError):
    """A process or cluster that should compute could not be reached, or ended while it did."""


class NoWorkerError(WorkerError):
    """There is nothing to compute with: no process starts, no cluster answers."""


class RecordError(HessscopeError):
    """A record cannot be written, or is not one that this version reads."""


class OutputExistsError(RecordError, OptionError):
    """The output file is already there and was not to be overwritten."""


class HessscopeWarning(UserWarning):
    """Base of every warning that hessscope gives."""


class AssumptionWarning(HessscopeWarning):
    """Something was assumed that the user did not say."""


class PrecisionWarning(HessscopeWarning):
    """The data type or the tolerance, and not the network, decides a number."""
