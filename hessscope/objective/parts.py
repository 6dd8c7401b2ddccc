"""Parts of θ: a partition of its entries into named sets, by module and by repeated block."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from hessscope.errors import OptionError
from hessscope.objective.risk import EmpiricalRisk
from hessscope.registry import PARTITIONS

Part = str | tuple[int, Sequence[str]]
"""The part of all entries of a parameter, or an axis and the part of each index along it."""

OTHER = "other"
"""The part of what is assigned to none."""

WHOLE_MODEL = "(model)"
"""Name of the module of those parameters that belong to the model itself."""


@dataclass(frozen=True)
class Partition:
    """Disjoint sets of entries that together make up θ.

    Attributes:
        names: of the parts, in the order of their first entries.
        numbers: of its part, for each entry of θ, shape (n,).
    """

    names: tuple[str, ...]
    numbers: torch.Tensor

    @classmethod
    def of(
        cls,
        risk: EmpiricalRisk,
        by: str | Callable[[EmpiricalRisk], Mapping[str, Part]] = "module",
    ) -> Partition:
        """Divide the entries of θ.

        Args:
            risk: of which θ are the parameters, all or some.
            by: one of ``PARTITIONS`` ("module", "block", "role", "head"); or a function of the risk
                that gives the part of each parameter by its name: a text, or an axis and a text
                for each index along it. Parameters that it leaves out are "other".

        Raises:
            OptionError: the function names what is no parameter, or no fitting axis; or heads are
                asked for and cannot be told apart.

        Example:
            >>> model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Linear(3, 2))
            >>> risk = EmpiricalRisk(model, (torch.randn(9, 4), torch.randint(2, (9,))))
            >>> Partition.of(risk, lambda risk: {"0.weight": (0, ["a", "b", "b"])}).sizes
            {'a': 4, 'b': 8, 'other': 11}
        """
        function = PARTITIONS.find(by)
        named = dict(function(risk))
        parameters = dict(risk.model.named_parameters())
        places: dict[str, int] = {}
        numbers = {}
        for name, parameter in parameters.items():
            part = named.pop(name, OTHER)
            axis, texts = (0, (part,)) if isinstance(part, str) else part
            if bad := [text for text in map(str, texts) if not text or "/" in text]:
                raise OptionError(
                    f"parts of '{name}': {bad[0]!r} cannot be a name in a record; give a text "
                    "without /"
                )
            sizes = [1] * max(parameter.ndim, 1)
            if not isinstance(part, str):
                if not (0 <= axis < parameter.ndim and len(texts) == parameter.shape[axis]):
                    raise OptionError(
                        f"parts of '{name}', shape {tuple(parameter.shape)}: got {len(texts)} of "
                        f"them for axis {axis}; expected one for each index along the axis"
                    )
                sizes[axis] = len(texts)
            own = torch.tensor([places.setdefault(str(text), len(places)) for text in texts])
            own = own.to(torch.int32).view(sizes)
            numbers[name] = own.expand(parameter.shape) if parameter.ndim else own.view(())
        if named:
            raise OptionError(
                f"parts of '{next(iter(named))}' are given, which is no parameter; they are "
                f"{', '.join(list(parameters)[:6])}, … (hessscope inspect lists them)"
            )
        # Of a restricted risk only some entries are left, and perhaps not all parts.
        flat = risk.layout.flatten({n: x.to(risk.device) for n, x in numbers.items()})
        found, first = torch.unique(flat, return_inverse=True)
        starts = torch.full((len(found),), len(flat), device=flat.device)
        starts.scatter_reduce_(0, first, torch.arange(len(flat), device=flat.device), "amin")
        order = starts.argsort()
        names = list(places)
        return cls(
            tuple(names[int(found[k])] for k in order), order.argsort()[first].to(torch.int32)
        )

    @property
    def sizes(self) -> dict[str, int]:
        """How many entries each part has."""
        counts = torch.bincount(self.numbers, minlength=len(self.names)).tolist()
        return dict(zip(self.names, counts, strict=True))

    def places(self, number: int) -> torch.Tensor:
        """The entries of a part, ascending, an int64 tensor of shape (k,)."""
        return torch.nonzero(self.numbers == number)[:, 0]


def module_of(name: str) -> str:
    """The module that a parameter belongs to.

    What a reparametrisation of a weight is made of belongs to the module with the weight.
    """
    owner, reparametrised, _ = name.partition(".parametrizations.")
    return (owner if reparametrised else name.rpartition(".")[0]) or WHOLE_MODEL


def by_module(risk: EmpiricalRisk) -> dict[str, Part]:
    """The module of each parameter; of one that modules share the first."""
    return {name: module_of(name) for name, _ in risk.model.named_parameters()}


def by_block(risk: EmpiricalRisk) -> dict[str, Part]:
    """The repeated block that a parameter is in, or else its module.

    Blocks are the elements of ``nn.ModuleList``, ``nn.Sequential`` and ``nn.ModuleDict`` that have
    modules of their own, where at least two are of the same class: ``transformer.h.3``,
    ``encoder.layer.3``, ``layer2.1``. The outermost count; of plain containers of such elements the
    elements.
    """
    blocks = blocks_of(risk.model)

    def block_of(name: str) -> str:
        return next((block for block in blocks if name.startswith(f"{block}.")), module_of(name))

    return with_all_names(risk.model, block_of)


def with_all_names(model: torch.nn.Module, part_of: Callable[[str], Part]) -> dict[str, Part]:
    """The part of each parameter; one with several names has their parts joined by " = "."""
    names: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    found: dict[str, Part] = {}
    for first, *others in names.values():
        part = part_of(first)
        if isinstance(part, str):
            part = " = ".join(dict.fromkeys([part, *(str(part_of(name)) for name in others)]))
        found[first] = part
    return found


_CONTAINERS = (torch.nn.ModuleList, torch.nn.Sequential, torch.nn.ModuleDict)


def blocks_of(model: torch.nn.Module) -> list[str]:
    """Paths of the repeated blocks."""
    elements: dict[str, Any] = {
        f"{path}.{key}".removeprefix("."): element
        for path, container in model.named_modules()
        if isinstance(container, _CONTAINERS)
        for key, element in container.named_children()
        if any(True for child in element.children() for _ in child.parameters())
    }
    times = Counter(map(type, elements.values()))
    repeated = {path: element for path, element in elements.items() if times[type(element)] > 1}

    def inside(path: str) -> list[str]:
        return [other for other in repeated if other.startswith(f"{path}.")]

    plain = {p for p, element in repeated.items() if type(element) in _CONTAINERS and inside(p)}
    blocks = [path for path in repeated if path not in plain]
    return [b for b in blocks if not any(b.startswith(f"{other}.") for other in blocks)]
