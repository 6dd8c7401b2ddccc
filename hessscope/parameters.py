"""Names and shapes of a model's parameters, and the flat vector that they make."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
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
        shapes: their shapes, in the same order.
    """

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]

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
        return ParameterLayout(tuple(n for n, _ in chosen), tuple(s for _, s in chosen))

    def by_module(self) -> dict[str, tuple[str, ...]]:
        """Names of the parameters of each module, by the module's name ("" for the model itself).

        What a reparametrisation of a weight is made of belongs to the module with the weight.
        """
        modules: dict[str, list[str]] = {}
        for name in self.names:
            owner, reparametrised, _ = name.partition(".parametrizations.")
            module = owner if reparametrised else name.rpartition(".")[0]
            modules.setdefault(module, []).append(name)
        return {module: tuple(names) for module, names in modules.items()}

    def flatten(self, tensors: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Join named tensors into one vector of shape (n,)."""
        return torch.cat([tensors[name].reshape(-1) for name in self.names])

    def unflatten(self, vector: torch.Tensor) -> dict[str, torch.Tensor]:
        """Cut a vector of shape (n,) into named tensors; differentiable, no copies."""
        parts = vector.split(self.counts)
        return {
            name: part.view(shape)
            for name, part, shape in zip(self.names, parts, self.shapes, strict=True)
        }
