"""Sources of models that users give: modules, factories, and specifications of them."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from torch import nn

from hessscope.errors import ArchitectureError, HessscopeError, OptionError
from hessscope.loaders.checkpoints.perceptrons import make_perceptron
from hessscope.loaders.extras import extra
from hessscope.loaders.user_code import call_object, load_object
from hessscope.torch_internals import without_compiled_parts, without_wrapper

TIMM = "timm:"
#: What ``load_checkpoint`` accepts as ``model``.
ModelLike = nn.Module | Callable[[], nn.Module] | str


@dataclass(frozen=True)
class ModelSource:
    """Where a model comes from: ``target`` is a module instance or what makes one.

    ``label`` is how it is called in results and messages, ``spec`` what the user typed, if so.
    """

    target: Any
    label: str
    spec: str = ""

    def make(self) -> nn.Module:
        """Give a fresh model; raises ``ArchitectureError`` with the line that failed."""
        make = self.target
        if isinstance(make, nn.Module):
            make = partial(copy.deepcopy, without_wrapper(make))
        try:
            model = call_object(make, self.spec or self.label, "model", ArchitectureError)
        except HessscopeError as error:
            lacking = "required positional argument" in str(error)
            hint = " (a factory is called without arguments)" if lacking else ""
            raise ArchitectureError(f"{error}{hint}") from error
        if not isinstance(model, nn.Module):
            raise ArchitectureError(
                f"{self.label} gave {type(model).__name__}; it must give a torch.nn.Module"
            )
        return without_compiled_parts(model)

    def names(self) -> dict[str, Any]:
        """Give the names of the module (file) that the target was defined in."""
        owner = type(self.target) if isinstance(self.target, nn.Module) else self.target
        module = sys.modules.get(getattr(owner, "__module__", "") or "")
        names = dict(vars(module)) if module is not None else {}
        if isinstance(owner, type):  # a class made in a function is not in its module
            names.setdefault(owner.__name__, owner)
        return names

    def find_class(self, module: str, name: str) -> Any:
        """The class of a pickled script, which may be dotted, in the file of the target.

        None where it is not there, or the pickle names another module than a script or this file.
        """
        if (
            module != "__main__"
            and module.rpartition(".")[2] != Path(self.spec.rpartition(":")[0]).stem
        ):
            return None
        found: Any = SimpleNamespace(**self.names())
        for part in name.split("."):
            found = getattr(found, part, None)
        return found


def resolve_model(model: ModelLike) -> ModelSource:
    """Resolve a module, a factory, ``file.py:factory``, ``package.module:factory``, ``mlp:…``,
    ``timm:…``.

    Raises ``OptionError`` where a specification cannot be read or names nothing, and
    ``ArchitectureError``, naming file, line and exception, where the user's code fails.
    """
    if isinstance(model, nn.Module):
        return ModelSource(model, type(model).__name__)
    if not isinstance(model, str):
        if callable(model):
            return ModelSource(model, getattr(model, "__name__", type(model).__name__))
        raise OptionError(
            "model must be a torch.nn.Module, a factory or 'file.py:factory', not "
            f"{type(model).__name__}"
        )
    if model.startswith("mlp:"):
        return ModelSource(partial(make_perceptron, model), model)
    if model.startswith(TIMM):
        timm = extra("timm", "timm", f"`model={model}`")
        return ModelSource(partial(timm.create_model, model.removeprefix(TIMM)), model, model)
    source, _, name = model.rpartition(":")
    if model.endswith(".py") or ":" not in model:
        raise OptionError(
            f"'{model}' names no model; write file.py:factory, package.module:factory, timm:NAME "
            "or mlp:784-25-10:relu"
        )
    target = load_object(model, "model", ArchitectureError)
    label = f"{Path(source).name if source.endswith('.py') else source}:{name}"
    if not callable(target):
        raise ArchitectureError(f"{label} is a {type(target).__name__}, not a model or a factory")
    return ModelSource(target, label, model)
