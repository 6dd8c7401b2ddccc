"""SHA-256 of data: the same for the same content, type, shape and treatment, on any machine."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable

import torch

from hessscope.loaders.nesting import Nested, named_leaves

#: Raise it when preprocessing code changes what comes out for the same description.
_SCHEME = "hessscope data 1"


def fingerprint(parts: Iterable[tuple[str, Nested]], text: Iterable[str] = ()) -> str:
    """Return the hexadecimal SHA-256 of named (nested) tensors and of some text.

    Every tensor counts with its name, type, shape and bytes (little-endian), every text with
    its length, so that nothing can pass over from one to the next.
    """
    digest = hashlib.sha256(_SCHEME.encode())
    for line in text:
        _update(digest, line.encode())
    for name, value in parts:
        for leaf, tensor in named_leaves(value, name):
            _update(digest, f"{leaf} {tensor.dtype} {tuple(tensor.shape)}".encode())
            for block in _blocks(tensor):
                digest.update(block)
    return digest.hexdigest()


def _update(digest: hashlib._Hash, text: bytes) -> None:
    digest.update(len(text).to_bytes(8, "little"))
    digest.update(text)


def _blocks(tensor: torch.Tensor) -> Iterable[memoryview]:
    """Bytes of the tensor in row order, some MB at a time, so that a view is never copied whole."""
    rows = tensor if tensor.ndim else tensor[None]
    size = max(1, rows[:1].numel() * rows.element_size())
    step = max(1, (1 << 24) // size)
    for start in range(0, rows.shape[0], step):
        block = rows[start : start + step].contiguous()
        if block.numel() == 0:
            continue
        raw = block.view(-1).view(torch.uint8).numpy()
        if sys.byteorder == "big" and block.element_size() > 1:
            raw = raw.reshape(-1, block.element_size())[:, ::-1].copy()
        yield raw.data
