"""How much memory may still be taken."""

from __future__ import annotations

import psutil
import torch

from hessscope.errors import MemoryLimitError
from hessscope.limits import free_memory

SAFE_PART = 0.8


def memory_room(limit: int | None, device: torch.device) -> int:
    """Bytes that may be taken beyond what is taken already.

    Args:
        limit: most that this process may hold on the device, all in all (``memory``); None for
            four fifths of what is free now.
        device: the main memory for "cpu", else the device's own.
    """
    free, taken = _free_and_taken(device)
    return int(SAFE_PART * free) if limit is None else max(0, limit - taken)


def memory_limit(limit: int | None, device: torch.device) -> int:
    """Most bytes that this process may hold, all in all: the limit itself where there is one."""
    free, taken = _free_and_taken(device)
    return taken + int(SAFE_PART * free) if limit is None else limit


def share_of_memory(parts: int, device: torch.device) -> int:
    """Limit of one process where some of them, each as large as this one, are to fit at once."""
    free, taken = _free_and_taken(device)
    return taken + int(SAFE_PART * free) // parts


def room_in_words(limit: int | None, device: torch.device) -> str:
    """What ``memory_room`` gives, and why it is no more."""
    room = memory_in_words(memory_room(limit, device))
    if limit is None:
        return f"{room} of what is free may be used"
    taken = memory_in_words(_free_and_taken(device)[1])
    return f"{room} are left of `memory={memory_in_words(limit)}` ({taken} are taken already)"


def require_memory(
    needed: float, limit: int | None, device: torch.device, words: str, remedy: str
) -> None:
    """Refuse work that would not fit.

    Args:
        needed: bytes.
        limit: as for ``memory_room``.
        device: likewise.
        words: what needs them, such as "ten eigenvectors need".
        remedy: what to do.

    Raises:
        MemoryLimitError: says what it would need, what there is, and what to do.
    """
    if needed > memory_room(limit, device):
        raise MemoryLimitError(
            f"{words} {memory_in_words(needed)}, and {room_in_words(limit, device)}: {remedy}"
        )


def _free_and_taken(device: torch.device) -> tuple[int, int]:
    if device.type == "cuda":
        taken = int(torch.cuda.memory_allocated(device))
        # Freed blocks that torch keeps for later look taken to the driver, and are free.
        kept = int(torch.cuda.memory_reserved(device)) - taken
        return int(torch.cuda.mem_get_info(device)[0]) + kept, taken
    return free_memory(), int(psutil.Process().memory_info().rss)


def memory_in_words(amount: float) -> str:
    """Bytes as a user gives them: "3.2 GB", "410 MB"."""
    for unit, size in (("GB", 1e9), ("MB", 1e6)):
        if amount >= size:
            return f"{amount / size:.3g} {unit}"
    return f"{amount / 1e3:.3g} kB"
