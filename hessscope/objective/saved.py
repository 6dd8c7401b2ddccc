"""What autograd keeps for a backward pass: tensors, and the nodes of the graph."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch

from hessscope.torch_internals import DispatchMode

Note = Callable[[torch.Tensor], None]


def note_saved(compute: Callable[[], Any], note: Note) -> None:
    """Run a computation and give ``note`` each tensor that its graph keeps.

    Transforms of ``torch.func`` within it know no hooks of saved tensors. Then the results of all
    operations are given, which are those that are kept and some more.
    """

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        note(tensor)
        return tensor

    try:
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            compute()
    except RuntimeError as error:
        if "saved tensor hooks" not in str(error):
            raise
        with _Results(note):
            compute()


def graph_nodes(value: torch.Tensor) -> Iterator[Any]:
    """Each node once of the graph from which a value came."""
    seen: set[Any] = {None}
    waiting: list[Any] = [value.grad_fn]
    while waiting:
        node = waiting.pop()
        if node not in seen:
            seen.add(node)
            waiting.extend(following for following, _ in node.next_functions)
            yield node


class _Results(DispatchMode):
    """Notes what every operation gives."""

    def __init__(self, note: Note) -> None:
        super().__init__()
        self._note = note

    def call(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        result = func(*args, **kwargs)
        for tensor in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(tensor, torch.Tensor):
                self._note(tensor)
        return result
