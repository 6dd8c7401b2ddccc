"""Protocol of checkpoint formats."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar

from torch import nn

from hessscope.errors import CheckpointError
from hessscope.loaders.checkpoints.checkpoint import StoredSetting
from hessscope.loaders.checkpoints.model_sources import ModelSource
from hessscope.loaders.checkpoints.raw_files import RawFile, foreign
from hessscope.loaders.checkpoints.state_dicts import State
from hessscope.registry import FORMATS


@dataclass(frozen=True)
class Stored:
    """What a format finds in a file.

    Attributes:
        kind: what results call the format.
        content: a module, or mappings with tensors in them at any depth.
        architecture: what is known about it.
        metadata: what is said beside the weights, but not in ``content``.
        ordered: the tensors are in the order in which they were written.
        buffers: names of tensors that are not trained.
        globals: dotted names that a pickle imports.
        network: makes the network with these weights, where a configuration beside them tells
            which it is; takes the weights, and whether code in the file may run.
        setting: what that configuration says of the loss.
    """

    kind: str
    content: Any
    architecture: str | None = None
    metadata: Mapping[str, object] = field(default_factory=dict)
    ordered: bool = True
    buffers: frozenset[str] = frozenset()
    globals: tuple[str, ...] = ()
    network: Callable[[State, bool], nn.Module] | None = None
    setting: StoredSetting | None = None


class Format(ABC):
    """A format of checkpoint files, registered in ``hessscope.registry.FORMATS``.

    Files come to it whole, with the checksums of zip archives compared. Errors that it does not
    foresee become a ``CheckpointError`` that calls the file damaged.
    """

    #: Whether it holds a program, which is run in place of reading the weights where it may be.
    program: ClassVar[bool] = False

    @abstractmethod
    def recognises(self, file: RawFile) -> bool:
        """Whether the file is of this format, by its content."""

    @abstractmethod
    def read(self, file: RawFile) -> Stored:
        """Read it without running anything that it carries.

        Raises:
            UntrustedCheckpointError: that is not possible.
            CheckpointError: it is damaged, or holds no weights.
        """

    def run(self, file: RawFile, source: ModelSource | None) -> Stored:
        """Read it, and run its code; called only for files that the user trusts.

        Args:
            file: the file.
            source: of the architecture, if the user gave one, with the classes beside it.
        """
        return self.read(file)

    def write(self, file: RawFile, weights: State, model: nn.Module, key: str | None) -> bytes:
        """The content of a file like this one with other weights.

        Args:
            file: as it was read.
            weights: new tensors by their names in the file.
            model: the network that was read from it.
            key: where in the file the network is.

        Raises:
            CheckpointError: files of this kind are not written; the message gives the reason.
        """
        raise CheckpointError("files of its format are not written")


@contextmanager
def loading(kind: str) -> Iterator[None]:
    """Turn what torch raises when it loads a program into a ``CheckpointError``."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except Exception as error:
        reason = next((line for line in str(error).splitlines() if line.strip()), "")
        raise CheckpointError(
            f"it is a {kind} archive that cannot be loaded: {reason[:200]}"
        ) from error


def recognise(file: RawFile) -> Format:
    """The format of a file, by its content.

    Raises:
        CheckpointError: it is of none; the message names what it is.
    """
    for kind in FORMATS.values():
        made: Format = kind()
        if made.recognises(file):
            return made
    raise foreign(file)
