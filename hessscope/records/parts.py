"""Dataclasses as arrays and attributes of a record, and back."""

from __future__ import annotations

import typing
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, TypeVar

import numpy as np

from hessscope.errors import RecordError

T = TypeVar("T")


def to_parts(source: Any) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Split a dataclass into its arrays and its other fields.

    A field that is a dataclass itself gives arrays ``field_name`` and a group ``field_parts``.
    """
    arrays: dict[str, np.ndarray] = {}
    attributes: dict[str, Any] = {}
    for f in fields(source):
        value = getattr(source, f.name)
        if isinstance(value, np.ndarray):
            arrays[f.name] = value
        elif is_dataclass(value):
            inner, parts = to_parts(value)
            arrays |= {f"{f.name}_{name}": array for name, array in inner.items()}
            attributes[f"{f.name}_parts"] = parts
        elif f.init:
            attributes[f.name] = value
    return arrays, attributes


def from_parts(kind: type[T], arrays: Mapping[str, np.ndarray], attributes: Mapping[str, Any]) -> T:
    """Make a dataclass of what ``to_parts`` gave; what is missing takes its default."""
    hints = typing.get_type_hints(kind)
    given: dict[str, Any] = {}
    for f in fields(kind):  # type: ignore[arg-type]
        prefix, parts = f"{f.name}_", attributes.get(f"{f.name}_parts")
        kinds = (hints[f.name], *typing.get_args(hints[f.name]))
        nested = next((k for k in kinds if is_dataclass(k)), None)
        if f.name in arrays:
            given[f.name] = arrays[f.name]
        elif isinstance(nested, type):
            inner = {n.removeprefix(prefix): a for n, a in arrays.items() if n.startswith(prefix)}
            if inner or parts:
                given[f.name] = from_parts(nested, inner, parts or {})
        elif f.init and attributes.get(f.name) is not None:
            given[f.name] = attributes[f.name]
    needed = (f.name for f in fields(kind) if f.init and f.default is f.default_factory is MISSING)  # type: ignore[arg-type]
    missing = [name for name in needed if name not in given]
    if missing:
        raise RecordError(f"the record has no {', '.join(missing)}, which a {kind.__name__} needs")
    return kind(**given)
