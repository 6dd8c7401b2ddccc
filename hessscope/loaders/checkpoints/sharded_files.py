"""Sharded checkpoints: an index, and the files with the tensors."""

from __future__ import annotations

import torch

from hessscope.errors import CheckpointError
from hessscope.loaders.checkpoints.finding import find_weights
from hessscope.loaders.checkpoints.formats import Format, Stored, recognise
from hessscope.loaders.checkpoints.raw_files import RawFile


class ShardedFormat(Format):
    """An index in JSON, beside files of another format."""

    def recognises(self, file: RawFile) -> bool:
        """Its shards have been read with it."""
        return bool(file.shards)

    def read(self, file: RawFile) -> Stored:
        """Join what is in the shards; each must hold the tensors that the index lists."""
        state: dict[str, torch.Tensor] = {}
        for shard, names in file.shards.items():
            stored = recognise(shard).read(shard)
            found = find_weights(stored.content).state
            lacking = [name for name in names if name not in found]
            if lacking:
                raise CheckpointError(
                    f"{shard.path} does not hold {lacking[0]}, though {file.path} lists it there"
                )
            state |= found
        return Stored(f"{stored.kind} ({len(file.shards)} shards)", state, ordered=False)
