"""Names and shapes of a model's parameters, and the flat vector that they make."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import torch

from hessscope.errors import ObjectiveError, OptionError

_SHOWN = 12


@dataclass(frozen=True)
class ParameterLayout:
    """The order in which named tensors stand in one flat vector.

    Attributes:
        names: the parameters' names, in the order of ``model.named_parameters()``; a parameter
            that two layers share stands once.
        shapes: their shapes, in the same order; (k,) where only k entries of a parameter belong.
        entries: of each parameter that belongs in part, where in the flattened parameter these are.
    """

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    entries: Mapping[str, torch.Tensor] = field(default_factory=dict, compare=False)

    @classmethod
    def of(cls, model: torch.nn.Module) -> ParameterLayout:
        """Take the layout of a model's trainable parameters (``requires_grad``).

        Raises:
            ObjectiveError: the model has no parameter that requires a gradient.
        """
        trainable = {k: p for k, p in model.named_parameters() if p.requires_grad}
        if not trainable:
            total = sum(1 for _ in model.parameters())
            raise ObjectiveError(
                f"the model has no trainable parameters ({total} in all, none with "
                "requires_grad): call requires_grad_(True) on those that the Hessian is taken over"
            )
        return cls(tuple(trainable), tuple(tuple(p.shape) for p in trainable.values()))

    @cached_property
    def counts(self) -> tuple[int, ...]:
        """How many numbers each parameter has."""
        return tuple(math.prod(shape) for shape in self.shapes)

    @property
    def size(self) -> int:
        """Length n of the flat vector."""
        return sum(self.counts)

    def slices(self) -> dict[str, slice]:
        """Where each parameter stands in the flat vector."""
        result, start = {}, 0
        for name, count in zip(self.names, self.counts, strict=True):
            result[name] = slice(start, start + count)
            start += count
        return result

    def matching(self, patterns: str | Iterable[str]) -> ParameterLayout:
        """Those parameters whose names match one of the patterns, in the same order.

        Args:
            patterns: as in a shell (``*``, ``?``, ``[0-9]``); several in one text are separated by
                commas.

        Raises:
            OptionError: a pattern matches no parameter.
        """
        texts = [patterns] if isinstance(patterns, str) else list(patterns)
        wanted = [part.strip() for text in texts for part in text.split(",")]
        for pattern in wanted:
            if not fnmatch.filter(self.names, pattern):
                shown = ", ".join(self.names[:_SHOWN]) + (", …" if len(self.names) > _SHOWN else "")
                raise OptionError(
                    f"no parameter matches '{pattern}'. Their names: {shown} ({len(self.names)} in "
                    "all; hessscope inspect lists them)"
                )
        chosen = [
            (name, shape)
            for name, shape in zip(self.names, self.shapes, strict=True)
            if any(fnmatch.fnmatchcase(name, pattern) for pattern in wanted)
        ]
        entries = {name: self.entries[name] for name, _ in chosen if name in self.entries}
        return ParameterLayout(tuple(n for n, _ in chosen), tuple(s for _, s in chosen), entries)

    def at(self, places: torch.Tensor) -> ParameterLayout:
        """The entries of the vector at these places, in the same order.

        Args:
            places: ascending, each once, shape (k,).

        Raises:
            OptionError: they are no such numbers between 0 and n − 1.
        """
        integers = places.ndim == 1 and len(places) > 0 and places.dtype == torch.int64
        if not integers or places[0] < 0 or places[-1] >= self.size or (places.diff() <= 0).any():
            raise OptionError(
                f"entries of θ are chosen by an ascending int64 tensor of numbers from 0 to "
                f"{self.size - 1}, shape (k,), each once; got {places.dtype}, shape "
                f"{tuple(places.shape)}"
            )
        ends = torch.tensor([where.stop for where in self.slices().values()], device=places.device)
        counts = torch.searchsorted(places, ends).diff(prepend=ends.new_zeros(1)).tolist()
        shapes: dict[str, tuple[int, ...]] = {}
        entries = {}
        whole = zip(self.slices().items(), self.shapes, places.split(counts), strict=True)
        for (name, where), shape, own in whole:
            if len(own) == where.stop - where.start:
                shapes[name] = shape
                if name in self.entries:
                    entries[name] = self.entries[name]
            elif len(own):
                own = own - where.start
                shapes[name] = (len(own),)
                entries[name] = self.entries[name][own] if name in self.entries else own
        return ParameterLayout(tuple(shapes), tuple(shapes.values()), entries)

    def flatten(self, tensors: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Join the entries of named whole tensors that belong into one vector of shape (n,)."""
        flat = {name: tensors[name].reshape(-1) for name in self.names}
        return torch.cat(
            [flat[n][self.entries[n]] if n in self.entries else flat[n] for n in self.names]
        )

    def put(
        self, vector: torch.Tensor, tensors: Mapping[str, torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        """Named whole tensors with a vector of shape (n,) put in; differentiable.

        Args:
            vector: θ; parameters that belong as a whole are views of it.
            tensors: all others, and those of which only a part belongs.
        """
        own = self.unflatten(vector)
        for name, places in self.entries.items():
            whole = tensors[name]
            own[name] = whole.reshape(-1).scatter(0, places, own[name]).view(whole.shape)
        return {**tensors, **own}

    def unflatten(self, vector: torch.Tensor) -> dict[str, torch.Tensor]:
        """Cut a vector of shape (n,) into named tensors of ``shapes``; differentiable, no copies.

        Of a parameter that belongs in part it has the entries, and ``put`` the whole tensor.
        """
        parts = vector.split(self.counts)
        return {
            name: part.view(shape)
            for name, part, shape in zip(self.names, parts, self.shapes, strict=True)
        }
