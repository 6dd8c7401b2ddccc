"""Resolving what a user gives as ``model``: a module, a factory, or a specification of one."""

from __future__ import annotations

import importlib
import inspect
import sys
import traceback
import types
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from hessscope.errors import ArchitectureError, OptionError, UnknownNameError
from hessscope.loaders.architectures import make_perceptron
from hessscope.loaders.pickles import ClassSupply
from hessscope.loaders.state_dicts import copy_of

#: What ``load_checkpoint`` accepts as ``model``.
ModelLike = nn.Module | Callable[[], nn.Module] | str


@dataclass(frozen=True)
class ModelSource:
    """Where a model comes from: ``target`` is a module instance or what makes one.

    ``label`` is how it is called in results and messages, ``names`` the namespace that it was
    found in, ``stem`` the name of its file without ``.py``.
    """

    target: Any
    label: str
    names: dict[str, Any]
    stem: str = ""

    def make(self) -> nn.Module:
        """Give a fresh model; raises ``ArchitectureError`` with the line that failed."""
        if isinstance(self.target, nn.Module):
            return copy_of(self.target)
        try:
            model = self.target()
        except Exception as error:
            raise ArchitectureError(
                f"{self.label} failed{_where(error, self.names.get('__file__'))}"
            ) from error
        if not isinstance(model, nn.Module):
            raise ArchitectureError(
                f"{self.label} gave a {type(model).__name__}; it must give a torch.nn.Module"
            )
        return model

    def supply(self) -> ClassSupply:
        """Give the classes that a trusted pickle may need."""
        return ClassSupply(self.names, self.label, self.stem)


def resolve_model(model: ModelLike) -> ModelSource:
    """Resolve a module, a factory, ``file.py:factory``, ``package.module:factory``, ``mlp:…``.

    Raises ``OptionError`` where a specification cannot be read, ``ArchitectureError`` where the
    user's code fails.
    """
    if isinstance(model, nn.Module):
        kind = type(model)
        return ModelSource(model, kind.__name__, _namespace(kind))
    if isinstance(model, str):
        if model.startswith("mlp:"):
            return ModelSource(lambda: make_perceptron(model), model, {})
        return _from_spec(model)
    if callable(model):
        label = getattr(model, "__name__", type(model).__name__)
        return ModelSource(model, label, _namespace(model))
    raise OptionError(
        f"model must be a torch.nn.Module, a factory or 'file.py:factory', not "
        f"{type(model).__name__}"
    )


def _namespace(target: Any) -> dict[str, Any]:
    module = sys.modules.get(getattr(target, "__module__", "") or "")
    names = dict(vars(module)) if module is not None else {}
    if isinstance(target, type):  # a class made in a function is not in its module
        names.setdefault(target.__name__, target)
    return names


def _from_spec(spec: str) -> ModelSource:
    where, colon, attribute = spec.rpartition(":")
    if not colon or not where or attribute.endswith(".py") or "/" in attribute:
        named = spec.rpartition(":")[2] if spec.endswith(".py") else ""
        raise OptionError(
            f"'{spec}' names no model; write file.py:factory, package.module:factory or "
            f"mlp:784-25-10:relu{_factories_in(spec) if named else ''}"
        )
    path = Path(where).expanduser()
    if where.endswith(".py") or path.is_file():
        names = load_file(path)
        label, stem = f"{path.name}:{attribute}", path.stem
    else:
        names, label, stem = _import(where), spec, where.rpartition(".")[2]
    target: Any = names.get(attribute.split(".")[0])
    for part in attribute.split(".")[1:]:
        target = getattr(target, part, None)
    if target is None:
        known = _public(names)
        raise UnknownNameError(f"model in {where}", attribute, known or ["(nothing)"])
    if not isinstance(target, nn.Module) and not callable(target):
        raise ArchitectureError(f"{label} is a {type(target).__name__}, not a model or a factory")
    return ModelSource(target, label, names, stem)


def _public(names: dict[str, Any]) -> list[str]:
    """Names of classes and functions that the file itself defines."""
    own = names.get("__name__")
    return [
        name
        for name, value in names.items()
        if (not name.startswith("_")
        and (callable(value) and getattr(value, "__module__", None) == own))
        or isinstance(value, nn.Module)
    ]


def _factories_in(spec: str) -> str:
    try:
        found = _public(load_file(Path(spec)))
    except (ArchitectureError, OptionError):
        return ""
    return f" (it has: {', '.join(found[:6])})" if found else ""


def load_file(path: Path) -> dict[str, Any]:
    """Run a user's Python file and give its names; nothing is written beside it.

    Modules beside the file can be imported by it. Raises ``ArchitectureError`` naming file,
    line and exception where it fails.
    """
    if not path.is_file():
        raise ArchitectureError(f"no such model file: {path}")
    name = f"hessscope_user_{path.stem}"
    module = types.ModuleType(name)
    module.__file__ = str(path)
    folder = str(path.resolve().parent)
    previous = sys.modules.get(name)
    sys.modules[name] = module  # dataclasses and pickle look classes up there
    sys.path.insert(0, folder)
    try:
        code = compile(path.read_bytes(), str(path), "exec")
        exec(code, module.__dict__)
    except (Exception, SystemExit) as error:
        if previous is None:
            del sys.modules[name]
        else:
            sys.modules[name] = previous
        raise ArchitectureError(f"{path} failed{_where(error, str(path))}") from error
    finally:
        sys.path.remove(folder)
    return module.__dict__


def _import(name: str) -> dict[str, Any]:
    try:
        return dict(vars(importlib.import_module(name)))
    except ModuleNotFoundError as error:
        hint = f" (is '{error.name}' installed?)" if error.name else ""
        raise ArchitectureError(f"cannot import {name}: {error}{hint}") from error
    except Exception as error:
        raise ArchitectureError(f"importing {name} failed{_where(error, None)}") from error


def _where(error: BaseException, file: str | None) -> str:
    """Say where in the user's file an exception was raised, and which."""
    text = f"{type(error).__name__}: {error}".splitlines()[0]
    if isinstance(error, SyntaxError) and error.lineno:
        return f" at line {error.lineno}: SyntaxError: {error.msg}"
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if file and frame.filename == file]
    if own:
        return f" at line {own[-1].lineno}: {text}"
    outside = [f for f in frames if Path(f.filename).parent != Path(__file__).parent]
    if outside:
        return f" at {Path(outside[-1].filename).name}, line {outside[-1].lineno}: {text}"
    return f": {text}"


def takes_no_arguments(target: Any) -> bool:
    """Whether ``target`` can be called without arguments."""
    try:
        inspect.signature(target).bind()
    except (TypeError, ValueError):
        return False
    return True
