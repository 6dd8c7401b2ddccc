"""Files of ``torch.save``: state dicts, Lightning checkpoints and whole modules."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import nn

from hessscope.errors import CheckpointError
from hessscope.loaders import pickles
from hessscope.loaders.checkpoints.finding import find_weights
from hessscope.loaders.checkpoints.formats import Format, Stored
from hessscope.loaders.checkpoints.model_sources import ModelSource
from hessscope.loaders.checkpoints.raw_files import RawFile
from hessscope.loaders.checkpoints.state_dicts import State
from hessscope.torch_internals import saved

LIGHTNING = "Lightning"


class LegacyFormat(Format):
    """A pickle, as ``torch.save`` wrote it before torch 1.6."""

    kind: ClassVar[str] = "state_dict (legacy pickle)"
    old: ClassVar[bool] = True

    def recognises(self, file: RawFile) -> bool:
        """It begins as pickles of today's protocols do, or is a pickle to its end."""
        return not file.is_zip and (
            file.content[:1] == b"\x80" or pickles.PickleScan(file.stream()).complete
        )

    def read(self, file: RawFile) -> Stored:
        """Read it with inert stand-ins for harmless classes."""
        return self._stored(pickles.load_safely(file.stream()))

    def run(self, file: RawFile, source: ModelSource | None) -> Stored:
        """Unpickle it, whatever it does."""
        own = () if source is None else (source.find_class, source.label)
        content = pickles.load_trusted(file.stream(), *own)
        return self._stored(content, pickles.PickleScan(file.stream()).globals)

    def _stored(self, content: Any, names: tuple[str, ...] = ()) -> Stored:
        lightning = isinstance(content, Mapping) and "pytorch-lightning_version" in content
        return Stored(LIGHTNING if lightning else self.kind, content, globals=names)

    def write(self, file: RawFile, weights: State, model: nn.Module, key: str | None) -> bytes:
        """Load it, exchange the tensors, and save it, where all in it is torch's own or plain."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                content = torch.load(file.stream(), map_location="cpu", weights_only=True)
        except Exception as error:
            raise CheckpointError("it holds more than tensors and plain values") from error
        state = find_weights(content, key).state
        for name, value in weights.items():
            state[name].data = value
        return saved(content, old=self.old)


class ZipFormat(LegacyFormat):
    """A zip archive of ``torch.save``."""

    kind = "state_dict (zip)"
    old = False

    def recognises(self, file: RawFile) -> bool:
        """It holds a pickle called ``data.pkl``."""
        return "data.pkl" in file.inner_entries
